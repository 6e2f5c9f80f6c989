from __future__ import annotations

import copy
import dataclasses
import doctest
import importlib
import io
import json
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util

from keras_eds.budget import Budget
from keras_eds.callbacks import EDSTensorBoard
from keras_eds.field import Field
from keras_eds.field_plan import FieldPlan
from keras_eds.plan import DimensionPlan
from keras_eds.reporting import (
    plan_markdown,
    plan_table,
    plot_scores,
    plot_sizes,
    results_table,
    space_table,
    to_text,
)
from keras_eds.reporting.plots import to_image
from keras_eds.reporting.score_point import best_result, read_points
from keras_eds.results import StageResult

# user: 800 values of 4 bytes, movie: 400, zip: 100.
FIELDS = [Field("user", 100, 8), Field("movie", 50, 8), Field("zip", 25, 4)]
SALIENCY = {"user": 0.5, "movie": 0.3, "zip": 0.2}


def make_plan(user: int = 2, movie: int = 8, zip: int = 0) -> DimensionPlan:
    return DimensionPlan.of_sizes(FIELDS, {"user": user, "movie": movie, "zip": zip})


def make_retrain(index: int = 2, **changes) -> StageResult:
    values = {
        "method": "sseds",
        "objective": "val_auc",
        "direction": "max",
        "score": 0.79,
        "seconds": 8.0,
        "budget": Budget(0.5),
        "plan": make_plan(),
        "score_before": 0.71,
        "full_score": 0.81,
    }
    return StageResult(index, "retrain", **{**values, **changes})


def make_first(stage: str = "pretrain", index: int = 0, **changes) -> StageResult:
    return StageResult(index, stage, "sseds", "val_auc", "max", 0.81, 12.5, **changes)


def cells(text: str, row: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(row)]
    return [cell.strip() for cell in line.strip().split("  ") if cell.strip()]


# Tables


def test_plan_table_shows_every_field_and_the_total():
    text = to_text(plan_table(make_plan(), SALIENCY))
    # 2 columns of 100 rows and a (2, 8) alignment: 216 values.
    assert cells(text, "user") == [
        "user", "100", "8 -> 2", "3.2 KB -> 864 B", "27.0%", "50.0%",
    ]  # fmt: skip
    assert cells(text, "movie")[2:5] == ["8 -> 8", "1.6 KB -> 1.6 KB", "100.0%"]
    assert cells(text, "zip")[2:5] == ["4 -> 0", "400 B -> 0 B", "0.0%"]
    # 864 + 1600 of 5200 bytes.
    assert cells(text, "total") == [
        "total", "175", "5.2 KB -> 2.464 KB", "47.4%", "100.0%",
    ]  # fmt: skip
    assert "1,300 -> 616 parameters" in text


def test_plan_table_without_saliency_has_no_such_column():
    assert "saliency" not in to_text(plan_table(make_plan()))
    assert "saliency" in to_text(plan_table(make_plan(), {}))


def test_plan_table_sums_up_the_smallest_fields():
    text = to_text(plan_table(make_plan(), SALIENCY, max_rows=1))
    assert "movie" not in text and "zip" not in text
    assert cells(text, "...") == [
        "... 2 more fields", "75", "4-8 -> 0-8", "2 KB -> 1.6 KB", "80.0%", "50.0%",
    ]  # fmt: skip
    assert cells(text, "total")[1] == "175"
    assert "... 1 more field " in to_text(plan_table(make_plan(), max_rows=2))
    with pytest.raises(ValueError, match="`max_rows` must be an integer of at least 0"):
        plan_table(make_plan(), max_rows=-1)


def test_names_are_never_read_as_markup():
    field = Field("[red]a|b*[/red]", 10, 4)
    plan = DimensionPlan((FieldPlan.full(field),))
    assert "[red]a|b*[/red]" in to_text(plan_table(plan))
    assert r"\[red\]a\|b\*\[/red\]" in plan_markdown(plan)


def test_markdown_table_is_regular():
    *lines, empty, values = plan_markdown(make_plan(), SALIENCY).splitlines()
    assert {line.count("|") for line in lines} == {7}
    assert lines[0] == "| field | ids | dims | bytes | kept | saliency |"
    assert lines[2] == "| user | 100 | 8 -> 2 | 3.2 KB -> 864 B | 27.0% | 50.0% |"
    assert (empty, values) == ("", "1,300 -> 616 parameters")


def test_results_table_marks_the_best():
    small = make_plan(user=1, movie=1)
    results = [
        make_first(),
        make_retrain(1),
        make_retrain(2, budget=Budget(0.25), score=0.795, plan=small, seconds=3.25),
        make_retrain(3, budget=Budget(parameters=900), score=0.78, score_before=None),
    ]
    text = to_text(results_table(results))
    assert "val_auc (higher is better)" in text
    assert cells(text, "0 pretrain")[-2:] == ["0.8100", "12.5"]
    # (100 + 8) + (50 + 8) values.
    assert cells(text, "2 retrain") == [
        "2 retrain", "25%", "166", "664 B", "12.8%", "0.7100", "0.7950", "0.8100",
        "3.2", "best",
    ]  # fmt: skip
    assert cells(text, "3 retrain")[5] == "-"
    assert text.count("best") == 1


def test_best_result_follows_the_direction_and_skips_nan():
    low, high = make_retrain(1, score=0.4), make_retrain(2, score=0.6)
    nan = make_retrain(3, score=float("nan"))
    assert best_result([nan, low, high]) is high
    low, high = (
        make_retrain(i, score=s, direction="min") for i, s in ((1, 0.4), (2, 0.6))
    )
    assert best_result([high, low]) is low
    smaller = make_retrain(4, score=0.4, direction="min", plan=make_plan(1, 1, 0))
    assert best_result([low, smaller]) is smaller
    assert best_result([make_first()]) is None


def test_space_table_shows_fields_and_limits():
    budgets = [Budget(0.1), Budget(num_bytes=2000), Budget(parameters=1234)]
    text = to_text(space_table(FIELDS, budgets))
    assert cells(text, "user") == ["user", "100", "8", "3.2 KB"]
    assert cells(text, "total") == ["total", "175", "5.2 KB"]
    assert cells(text, "budget 10%") == ["budget 10%", "520 B"]
    assert cells(text, "budget 2 KB")[1:] == ["2 KB"]
    assert cells(text, "budget 1234 parameters")[1:] == ["1,234 values"]
    folded = to_text(space_table(FIELDS, budgets, max_rows=1))
    assert cells(folded, "...") == ["... 2 more fields", "75", "4-8", "2 KB"]


def test_text_keeps_to_the_width():
    text = to_text(plan_table(make_plan(), SALIENCY), width=60)
    assert max(map(len, text.splitlines())) <= 60


# Plots


def test_sizes_are_drawn_to_scale():
    (axes,) = plot_sizes(make_plan()).axes
    full, kept = axes.containers
    assert [bar.get_width() for bar in full] == [8, 8, 4]
    assert [bar.get_width() for bar in kept] == [2, 8, 0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["user", "movie", "zip"]
    # The model's order from the top.
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert {"8 → 2", "8", "4 → dropped"} <= {t.get_text() for t in axes.texts}
    assert axes.get_title("left") == "5.2 KB → 2.464 KB (47.4%)"


def test_many_fields_leave_the_widest():
    fields = [Field(f"f{i}", 10, 4 + i % 2) for i in range(130)]
    plan = DimensionPlan.of_sizes(fields, {f.name: 1 for f in fields})
    (axes,) = plot_sizes(plan).axes
    assert [bar.get_width() for bar in axes.containers[0]] == [5] * 60
    assert "f1" == axes.get_yticklabels()[0].get_text()
    assert any("the 60 widest of 130 fields" in t.get_text() for t in axes.texts)


@pytest.mark.parametrize("count", [0, 1, 8, 60])
def test_labels_of_sizes_do_not_overlap(count):
    fields = [Field(f"a rather long name of {i}", 10, 64) for i in range(count)]
    figure = plot_sizes(DimensionPlan.of_sizes(fields, {f.name: 3 for f in fields}))
    assert_no_overlap(figure, figure.axes[0].get_yticklabels())


def assert_no_overlap(figure, texts) -> None:
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts]
    page = figure.bbox
    for i, box in enumerate(boxes):
        assert page.x0 <= box.x0 and box.x1 <= page.x1
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_dollars_in_names_are_no_formula(tmp_path):
    plan = DimensionPlan((FieldPlan.full(Field("$x_$ \\frac", 10, 4)),))
    figure = plot_sizes(plan, tmp_path / "sizes.png")
    assert figure.axes[0].get_yticklabels()[0].get_text() == "$x_$ \\frac"
    with Image.open(tmp_path / "sizes.png") as picture:
        assert picture.format == "PNG"


def test_long_names_keep_both_ends():
    name = f"first/{'x' * 40}/last"
    plan = DimensionPlan((FieldPlan.full(Field(name, 10, 4)),))
    (label,) = plot_sizes(plan).axes[0].get_yticklabels()
    assert label.get_text() == "first/" + 9 * "x" + "…" + 10 * "x" + "/last"


def scores_figure(**changes):
    return plot_scores(
        [
            make_first(),
            make_retrain(1, **changes),
            make_retrain(
                2, score=0.77, plan=make_plan(1, 1, 0), budget=Budget(0.2), **changes
            ),
        ]
    )


def test_scores_are_drawn_against_the_share_of_bytes():
    (axes,) = scores_figure().axes
    lines = {line.get_label(): line for line in axes.lines}
    x, y = lines["retrained"].get_data()
    np.testing.assert_allclose(x, [664 / 5200, 2464 / 5200])
    np.testing.assert_allclose(y, [0.77, 0.79])
    np.testing.assert_allclose(lines["before retraining"].get_ydata(), 0.71)
    np.testing.assert_allclose(lines["full size"].get_ydata(), 0.81)
    assert axes.get_xscale() == "log"
    assert axes.get_title("left") == "val_auc (higher is better)"


def test_of_one_budget_the_best_plan_is_drawn():
    results = [make_retrain(1), make_retrain(2, score=0.8, plan=make_plan(1, 1, 0))]
    for direction, share in (("max", 664 / 5200), ("min", 2464 / 5200)):
        changed = [dataclasses.replace(r, direction=direction) for r in results]
        x = plot_scores(changed).axes[0].lines[-1].get_xdata()
        np.testing.assert_allclose(x, [share])


def test_ends_of_close_lines_do_not_overlap():
    figure = scores_figure(score_before=0.7899, full_score=0.7901)
    names = ("retrained", "before retraining", "full size 0.7901")
    ends = [t for t in figure.axes[0].texts if t.get_text() in names]
    assert len(ends) == 3
    assert_no_overlap(figure, ends)


def test_scores_that_are_unknown_are_left_out():
    (axes,) = scores_figure(score_before=None, full_score=None).axes
    assert [line.get_label() for line in axes.lines] == ["retrained"]
    nan = [make_retrain(1, score=float("nan")), make_retrain(2, score=0.5)]
    (axes,) = plot_scores(nan).axes
    np.testing.assert_allclose(axes.lines[-1].get_ydata(), [0.5])
    assert not plot_scores([]).axes[0].lines


def test_an_empty_plan_is_drawn(tmp_path):
    none = make_retrain(2, plan=make_plan(0, 0, 0), budget=Budget(0.01))
    results = [make_retrain(1), none]
    x = plot_scores(results, tmp_path / "s.png").axes[0].lines[-1].get_xdata()
    np.testing.assert_allclose(x, [1232 / 5200, 2464 / 5200])


def test_saved_picture_has_the_bars_colours(tmp_path):
    figure = plot_sizes(make_plan(8, 8, 4), tmp_path / "sizes.png")
    with Image.open(tmp_path / "sizes.png") as picture:
        saved = np.asarray(picture.convert("RGB"))
    assert (saved == [0x00, 0x72, 0xB2]).all(axis=-1).mean() > 0.2
    np.testing.assert_array_equal(saved, to_image(figure))


# TensorBoard


def read(directory: Path) -> EventAccumulator:
    events = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    return events.Reload()


def scalar(events: EventAccumulator, tag: str) -> dict[int, float]:
    found = events.Tensors(tag)
    return {e.step: tensor_util.make_ndarray(e.tensor_proto).item() for e in found}


def scalar_tags(events: EventAccumulator) -> set[str]:
    tags = events.Tags()["tensors"]
    names = [events.SummaryMetadata(t).plugin_data.plugin_name for t in tags]
    return {t for t, name in zip(tags, names, strict=True) if name == "scalars"}


def last(events: EventAccumulator, tag: str) -> np.ndarray:
    event = max(events.Tensors(tag), key=lambda event: event.step)
    return tensor_util.make_ndarray(event.tensor_proto)


def image(events: EventAccumulator, tag: str) -> Image.Image:
    width, height, png = last(events, tag)
    picture = Image.open(io.BytesIO(png))
    assert picture.size == (int(width), int(height)) and picture.format == "PNG"
    return picture


def search_results() -> list[StageResult]:
    small = make_plan(1, 1, 0)
    return [
        make_first(),
        make_first("probe", 1, saliency=SALIENCY),
        make_retrain(2),
        make_retrain(3, budget=Budget(parameters=200), plan=small, score=0.77),
    ]


@pytest.fixture
def written(tmp_path):
    callback = EDSTensorBoard(tmp_path)
    for result in search_results():
        callback.on_stage_end(result)
    return tmp_path / "eds"


def test_scalars(written):
    events = read(written)
    expected = {
        "eds/score": {0: 0.81, 1: 0.81, 2: 0.79, 3: 0.77},
        "eds/score_before_retraining": {2: 0.71, 3: 0.71},
        "eds/parameters": {2: 616, 3: 166},
        "eds/bytes": {2: 2464, 3: 664},
        "eds/budget": {2: 2600, 3: 200},
        "eds/size/user": {2: 2, 3: 1},
        "eds/size/movie": {2: 8, 3: 1},
        "eds/size/zip": {2: 0, 3: 0},
        "eds/saliency/user": {1: 0.5},
        "eds/saliency/movie": {1: 0.3},
        "eds/saliency/zip": {1: 0.2},
    }
    assert scalar_tags(events) == set(expected)
    for tag, values in expected.items():
        assert scalar(events, tag) == pytest.approx(values), tag


def test_images_are_the_plots(written):
    events = read(written)
    assert {e.step for e in events.Tensors("eds/sizes")} == {2, 3}
    sizes = np.asarray(image(events, "eds/sizes").convert("RGB"))
    np.testing.assert_array_equal(sizes, to_image(plot_sizes(make_plan(1, 1, 0))))
    scores = np.asarray(image(events, "eds/score_against_budget").convert("RGB"))
    np.testing.assert_array_equal(scores, to_image(plot_scores(search_results())))


def test_text_is_the_markdown_table(written):
    events = read(written)
    metadata_ = events.SummaryMetadata("eds/plan")
    assert metadata_.plugin_data.plugin_name == "text"
    text = last(events, "eds/plan").item()
    assert text.decode() == plan_markdown(make_plan(1, 1, 0))


def test_hparams_have_a_row_for_every_budget(written):
    runs = sorted(path.name for path in written.iterdir() if path.is_dir())
    assert runs == ["2-50%", "3-200_parameters"]
    rows = []
    for run in runs:
        events = read(written / run)
        tags = events.Tags()["tensors"]
        assert metadata.SESSION_END_INFO_TAG in tags
        content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG)
        start = metadata.parse_session_start_info_plugin_data(
            content.plugin_data.content
        )
        values = start.hparams.items()
        assert start.group_name == run
        rows.append({k: v.string_value or v.number_value for k, v in values})
        assert len(scalar(events, "eds/score")) == 1
    assert rows == [
        {
            "method": "sseds",
            "budget": budget,
            "sizes": "fields",
            "bytes": plan.num_bytes(),
            "parameters": plan.num_parameters(),
        }
        for budget, plan in [
            ("50%", make_plan()),
            ("200 parameters", make_plan(1, 1, 0)),
        ]
    ]
    experiment = read(written).SummaryMetadata(metadata.EXPERIMENT_TAG)
    found = metadata.parse_experiment_plugin_data(experiment.plugin_data.content)
    assert {h.name for h in found.hparam_infos} == set(rows[0])
    assert [m.name.tag for m in found.metric_infos] == [
        "eds/score",
        "eds/score_before_retraining",
    ]


def test_a_resumed_search_appends(tmp_path):
    first, second, third, fourth = search_results()
    for result in (first, second, third):
        EDSTensorBoard(tmp_path).on_stage_end(result)
    EDSTensorBoard(tmp_path).on_stage_end(fourth)
    events = read(tmp_path / "eds")
    assert scalar(events, "eds/bytes") == {2: 2464, 3: 664}
    scores = np.asarray(image(events, "eds/score_against_budget").convert("RGB"))
    np.testing.assert_array_equal(scores, to_image(plot_scores(search_results())))


def test_a_stage_that_runs_again_replaces_its_point(tmp_path):
    callback = EDSTensorBoard(tmp_path)
    for result in [*search_results(), make_retrain(2, score=0.5)]:
        callback.on_stage_end(result)
    path = tmp_path / "eds" / "scores.json"
    assert [(p.index, p.score) for p in read_points(str(path))] == [(2, 0.5)]
    callback.on_stage_end(make_first())
    assert json.loads(path.read_text()) == []


def test_damaged_points_do_not_stop_a_search(tmp_path):
    callback = EDSTensorBoard(tmp_path)
    callback.on_stage_end(make_retrain(2))
    path = tmp_path / "eds" / "scores.json"
    path.write_text(path.read_text()[:-5])
    callback.on_stage_end(make_retrain(3))
    assert [p.index for p in read_points(str(path))] == [3]


def test_many_fields_get_no_scalars_of_their_own(tmp_path):
    callback = EDSTensorBoard(tmp_path, max_scalar_fields=2)
    callback.on_stage_end(make_retrain(2, saliency=SALIENCY))
    events = read(tmp_path / "eds")
    assert not any(t.startswith(("eds/size/", "eds/sal")) for t in scalar_tags(events))
    assert image(events, "eds/sizes")
    with pytest.raises(
        ValueError, match="`max_scalar_fields` must be an integer of at least 0"
    ):
        EDSTensorBoard(tmp_path, max_scalar_fields=-1)


def fit(callback: keras.callbacks.Callback, epochs: int, initial_epoch: int = 0):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    return model.fit(
        x, y, epochs=epochs, initial_epoch=initial_epoch, verbose=0,
        validation_data=(x, y), callbacks=[callback],
    ).history  # fmt: skip


def test_epochs_go_to_a_run_of_the_stage(tmp_path):
    callback = EDSTensorBoard(tmp_path)
    fit(callback, 1)
    callback.stage_name = "0-pretrain"
    history = fit(callback, 2)
    later = fit(callback, 3, initial_epoch=2)
    assert read(tmp_path / "eds" / "train").Tags()["tensors"]
    events = read(tmp_path / "eds" / "0-pretrain")
    losses = dict(enumerate(map(float, history["loss"] + later["loss"])))
    assert scalar(events, "epoch_loss") == pytest.approx(losses)
    assert len(scalar(events, "epoch_val_loss")) == 3


def test_callback_can_be_copied_and_pickled_while_it_trains(tmp_path):
    callback = EDSTensorBoard(tmp_path, max_scalar_fields=3)
    callback.stage_name = "0-pretrain"
    callback.on_train_begin()
    for twin in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert vars(twin) == {**vars(callback), "_epoch_writer": None}
        twin.on_epoch_end(0, {"loss": 1.0})
        twin.on_stage_end(make_retrain(2))
    callback.on_epoch_end(0, {"loss": 2.0, "per_class": np.ones(3)})
    callback.on_train_end()
    events = read(tmp_path / "eds" / "0-pretrain")
    assert scalar(events, "epoch_loss") == {0: 2.0}
    assert "epoch_per_class" not in events.Tags()["tensors"]


# Examples in docstrings


@pytest.mark.parametrize("module", ["tables", "tensorboard"])
def test_docstring_examples_run(module):
    found = importlib.import_module(f"keras_eds.reporting.{module}")
    assert doctest.testmod(found).failed == 0
