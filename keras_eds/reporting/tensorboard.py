"""A search in TensorBoard: sizes, scores and plans, stage by stage."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_eds.argument_checks import check_integer
from keras_eds.layers.twin_masks import TwinMasks
from keras_eds.reporting.plots import plot_points, plot_sizes, to_image
from keras_eds.reporting.popularity import popularity_figure
from keras_eds.reporting.score_point import ScorePoint, read_points, write_points
from keras_eds.reporting.steps import step_scalars
from keras_eds.reporting.tables import plan_markdown
from keras_eds.results import StageResult
from keras_eds.row_plan import RowPlan
from keras_eds.surgery import keras_private


class EDSTensorBoard(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes every stage of a search to TensorBoard, on any Keras backend.

    The run `eds` gets, at the stage's index as the step: the scalars
    `eds/score`, `eds/score_before_retraining`, `eds/parameters`, `eds/bytes`,
    `eds/budget`, `eds/size/<field>` and `eds/saliency/<field>`, the images
    `eds/sizes` and `eds/score_against_budget`, and the text `eds/plan`. Of a step,
    which tries sizes, `eds/step/<figure>` and `eds/step/<figure>/<field>`: mean size,
    bytes, quality, reward, the losses of critics and actor, the price. Every
    retraining stage adds a row to the HParams page, and every stage a run of
    its own with the logs of its epochs (`epoch_<name>`). While sizes are learned,
    these have `epoch_expected_bytes` beside `epoch_target_bytes`, a histogram
    `sizes/<field>` for every masked table, and the image `popularity`: size against
    frequency. So do trainings of models with `MaskedTwinEmbedding`.

    Searches that write to one `log_dir` write over each other: give each its own.

    Args:
        log_dir: Directory that `tensorboard --logdir` is given. Defaults to
            `"logs"`.
        max_scalar_fields: With more fields than this, no scalars are written
            for single fields, as TensorBoard becomes slow; the images and the
            text are. Defaults to 64.

    Attributes:
        stage_name: Name of the run of the current stage, which the search sets.

    Example:

    >>> callback = EDSTensorBoard("logs/movies")
    >>> callback.run_dir.replace(os.sep, "/")
    'logs/movies/eds'
    """

    def __init__(
        self, log_dir: str | os.PathLike[str] = "logs", max_scalar_fields: int = 64
    ) -> None:
        super().__init__()
        check_integer("max_scalar_fields", max_scalar_fields, 0, "0 is no such scalar.")
        self.log_dir = os.fspath(log_dir)
        self.max_scalar_fields = max_scalar_fields
        self.stage_name = ""
        self._epoch_writer: Any = None

    @property
    def run_dir(self) -> str:
        """Where the stages are written."""
        return os.path.join(self.log_dir, "eds")

    def __getstate__(self) -> dict[str, Any]:
        # Writers can be neither copied nor pickled.
        return {**self.__dict__, "_epoch_writer": None}

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Opens the run of the stage that begins to train."""
        import tensorflow as tf

        self._close_epochs()
        run = os.path.join(self.run_dir, _file_name(self.stage_name or "train"))
        self._epoch_writer = tf.summary.create_file_writer(run)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes what the epoch measured."""
        if self._epoch_writer is None:
            return
        with _at_step(self._epoch_writer, epoch):
            for name, value in (logs or {}).items():
                # Logs are floats, or tensors on some backends.
                if not tuple(getattr(value, "shape", ())):
                    _write_scalar(f"epoch_{name}", value)
            self._write_learned_sizes()
        self._epoch_writer.flush()

    def _write_learned_sizes(self) -> None:
        import tensorflow as tf

        masks = _masks_by_table(self.model)
        if not masks:
            return
        sizes = {name: layer.sizes() for name, layer in masks.items()}
        if len(masks) <= self.max_scalar_fields:
            for name, of_ids in sizes.items():
                tf.summary.histogram(f"sizes/{name}", of_ids)
        counts = {n: keras.ops.convert_to_numpy(m.counts) for n, m in masks.items()}
        _write_image("popularity", to_image(popularity_figure(sizes, counts)))

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Closes the run of the stage."""
        self._close_epochs()

    def on_stage_end(self, result: StageResult) -> None:
        """Writes what a stage of the search found.

        Args:
            result: What it found; `result.index` becomes the step.
        """
        points = self._remember(result)
        with self._run(self.run_dir, result.index):
            _write_scores(result)
            self._write_saliency(result)
            self._write_step(result)
            self._write_plan(result)
            if result.plan is not None:
                figure = plot_points(points, result.objective, result.direction)
                _write_image("eds/score_against_budget", to_image(figure))
                _write_hparams_config(result)
        if result.plan is not None:
            run = f"{result.index}-{_file_name(points[-1].label)}"
            with self._run(os.path.join(self.run_dir, run), result.index):
                _write_scores(result)
                _write_hparams(result, points[-1].label, run)

    @contextmanager
    def _run(self, directory: str, step: int) -> Iterator[None]:
        import tensorflow as tf

        writer = tf.summary.create_file_writer(directory)
        try:
            with _at_step(writer, step):
                yield
        finally:
            writer.close()

    def _remember(self, result: StageResult) -> list[ScorePoint]:
        """The points of this search so far, which outlive the process.

        A stage that runs again replaces what stood at its index and after it;
        so a new search, which begins at 0, forgets the one before.
        """
        path = os.path.join(self.run_dir, "scores.json")
        points = [p for p in read_points(path) if p.index < result.index]
        point = ScorePoint.of_result(result)
        if point is not None:
            points.append(point)
        write_points(path, points)
        return points

    def _write_saliency(self, result: StageResult) -> None:
        saliency = result.saliency or {}
        if len(saliency) <= self.max_scalar_fields:
            for name, share in saliency.items():
                _write_scalar(f"eds/saliency/{name}", share)

    def _write_step(self, result: StageResult) -> None:
        single_fields = len(result.metrics) <= 8 * self.max_scalar_fields
        for name, value in step_scalars(result, single_fields).items():
            _write_scalar(name, value)

    def _write_plan(self, result: StageResult) -> None:
        import tensorflow as tf

        plan = result.plan
        if plan is None:
            return
        _write_scalar("eds/parameters", plan.num_parameters())
        _write_scalar("eds/bytes", plan.num_bytes())
        if result.budget is not None:
            fields = [field_plan.field for field_plan in plan]
            _write_scalar("eds/budget", result.budget.limit(fields))
        if len(plan) <= self.max_scalar_fields:
            for kept in plan:
                _write_scalar(f"eds/size/{kept.name}", kept.mean_dim)
                if isinstance(kept, RowPlan):
                    tf.summary.histogram(f"eds/sizes/{kept.name}", kept.sizes)
        _write_image("eds/sizes", to_image(plot_sizes(plan)))
        tf.summary.text("eds/plan", plan_markdown(plan, result.saliency))

    def _close_epochs(self) -> None:
        if self._epoch_writer is not None:
            self._epoch_writer.close()
            self._epoch_writer = None


def _masks_by_table(model: keras.Model | None) -> dict[str, TwinMasks]:
    return {
        layer.name: inside
        for layer in ([] if model is None else keras_private.all_layers(model))
        for inside in keras_private.child_layers(layer)
        if isinstance(inside, TwinMasks)
    }


@contextmanager
def _at_step(writer: Any, step: int) -> Iterator[None]:
    import tensorflow as tf

    # On the CPU: beside another backend, TensorFlow must not take the GPU.
    with tf.device("CPU:0"), writer.as_default(step=step):
        yield


def _write_scores(result: StageResult) -> None:
    _write_scalar("eds/score", result.score)
    if result.score_before is not None:
        _write_scalar("eds/score_before_retraining", result.score_before)


def _write_scalar(name: str, value: float) -> None:
    import tensorflow as tf

    tf.summary.scalar(name, float(value))


def _write_image(name: str, pixels: np.ndarray) -> None:
    import tensorflow as tf

    tf.summary.image(name, pixels[None])


def _write_hparams_config(result: StageResult) -> None:
    from tensorboard.plugins.hparams import api

    api.hparams_config(
        hparams=[
            api.HParam(name)
            for name in ("method", "budget", "sizes", "bytes", "parameters")
        ],
        metrics=[
            api.Metric("eds/score", display_name=result.objective),
            api.Metric(
                "eds/score_before_retraining",
                display_name=f"{result.objective} before retraining",
            ),
        ],
    )


def _write_hparams(result: StageResult, budget: str, run: str) -> None:
    import tensorflow as tf
    from tensorboard.plugins.hparams import api, api_pb2, summary

    assert result.plan is not None
    values = {
        "method": result.method,
        "budget": budget,
        "sizes": "ids" if result.plan.has_row_sizes else "fields",
        "bytes": result.plan.num_bytes(),
        "parameters": result.plan.num_parameters(),
    }
    # Named after the run, so that equal plans of two budgets stay two rows.
    api.hparams(values, trial_id=run, start_time_secs=time.time() - result.seconds)
    end = summary.session_end_pb(api_pb2.STATUS_SUCCESS)
    tf.summary.experimental.write_raw_pb(end.SerializeToString())


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.%+-]+", "_", text)
