"""Sizes tried on models that rank, also on those that read whole tables."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest

import keras_eds
from keras_eds.datasets import Interactions, Triples
from keras_eds.errors import DataError
from keras_eds.layers import RowSizedEmbedding
from keras_eds.methods import CIESS, SampledRows
from keras_eds.metrics import RankingMetrics, RankingQuality, evaluate_ranking
from keras_eds.models import NCF, NGCF, BPRLoss, LightGCN, MatrixFactorization
from keras_eds.surgery.count import count_ids
from keras_eds.surgery.fixed_masks import sizes_on
from keras_eds.surgery.quality import measure_quality
from keras_eds.surgery.sites import find_sites

OBJECTIVE = keras_tuner.Objective("val_ndcg@5", "max")
SMALL = {"td3": {"hidden_units": [8], "batch_size": 16}, "random_steps": 1}


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    users, items = random.integers(0, 30, 900), random.integers(0, 20, 900)
    kept = (users + items) % 3 == 0
    return Interactions.split(users[kept], items[kept])


def build(data, kind=LightGCN, dim=8):
    edges = {}
    if kind in (LightGCN, NGCF):
        edges = {"edges": (data.train.users, data.train.items)}
    if kind is LightGCN:
        edges["num_layers"] = 2
    model = kind(data.num_users, data.num_items, embedding_dim=dim, seed=0, **edges)
    eager = keras.backend.backend() != "jax"
    model.compile(keras.optimizers.Adam(0.05), BPRLoss(), run_eagerly=eager)
    return model


def options(data):
    return {
        "epochs": 2,
        "verbose": 0,
        "validation_data": Triples(data.validation, 64, seed=1),
        "callbacks": [RankingMetrics(data.validation, data.train, ks=[5])],
    }


def ciess(data, **changed):
    quality = RankingQuality(data.train, data.validation, ks=[5])
    given = {"episodes": 1, "iterations": 2, "compare": False, "updates": 2, "steps": 1}
    return CIESS(**{**given, "quality": quality, "agent": SMALL, **changed})


def numpy(value):
    return np.array(keras.ops.convert_to_numpy(value))


@pytest.mark.parametrize("kind", [LightGCN, MatrixFactorization, NCF, NGCF])
def test_search_ends_in_a_model_that_is_cut(tmp_path, data, kind):
    search = keras_eds.EDSSearch(
        build(data, kind), 0.6, ciess(data), OBJECTIVE, directory=tmp_path, seed=1
    )
    search.search(Triples(data.train, 64), **options(data))
    small = search.get_best_models()[0]
    assert isinstance(small, kind)
    assert any(isinstance(table, RowSizedEmbedding) for table in small.layers)
    plan = search.get_best_plans()[0]
    ids = {"user": data.num_users, "item": data.num_items}
    whole = sum(4 * 8 * ids[kept.name.split("_")[0]] for kept in plan)
    assert plan.num_bytes() <= 0.6 * whole
    means = evaluate_ranking(small, data.validation, data.train, [5]).means()
    best = max(r.score for r in search.results() if r.stage == "retrain")
    assert means["ndcg@5"] == pytest.approx(best, abs=1e-5)


def test_masks_on_whole_tables_are_cut_rows(data):
    model = build(data)
    random = np.random.default_rng(0)
    sizes = {
        site.field.name: random.integers(0, 9, site.field.input_dim)
        for site in find_sites(model)
    }
    x = {"user": np.arange(4), "item": np.arange(12).reshape(4, 3)}
    before = numpy(model(x))
    with sizes_on(find_sites(model), sizes):
        masked = numpy(model(x))
    for name, of_ids in sizes.items():
        table = getattr(model, name).embeddings
        table.assign(numpy(table) * (np.arange(8) < of_ids[:, None]))
    np.testing.assert_allclose(masked, numpy(model(x)), atol=1e-6)
    assert np.abs(masked - before).max() > 1e-3


def test_a_model_tells_the_ids_of_tables_that_it_reads_whole(data):
    graph, plain = build(data), build(data, MatrixFactorization)
    batches = Triples(data.train, 64)
    given = {"x": batches}
    ours, theirs = count_ids(graph, given), count_ids(plain, given)
    assert ours["user_embedding"].sum() == len(data.train)
    for name, counts in ours.items():
        np.testing.assert_array_equal(counts, theirs[name])
    x, y = batches[0]
    found = measure_quality(graph, {"x": x, "y": y})["user_embedding"]
    np.testing.assert_array_equal(
        found.examples, np.bincount(x["user"], minlength=data.num_users)
    )
    margins = numpy(graph(x)) @ [1.0, -1.0]
    scores = 1 / (1 + np.log1p(np.exp(-margins)))
    mine = scores[x["user"] == x["user"][0]].mean()
    assert found.score[x["user"][0]] == pytest.approx(mine, rel=1e-5)


class Untold(LightGCN):
    ids_by_table = None


def test_what_cannot_be_measured_is_refused_before_any_work(tmp_path, data):
    edges = (data.train.users, data.train.items)
    untold = Untold(data.num_users, data.num_items, edges, embedding_dim=4, seed=0)
    untold.compile("sgd", BPRLoss(), run_eagerly=True)
    wide = np.ones((data.num_users, 2))
    nan = np.full(data.num_users, np.nan)
    items = np.ones(data.num_items)
    cases = [
        (untold, None, "one example after the other"),
        (build(data), lambda _: {}, "under the name of every table"),
        (build(data), lambda _: {"user_embedding": wide}, "one for each id"),
        (
            build(data),
            lambda _: {"user_embedding": nan, "item_embedding": items},
            "finite and at least 0",
        ),
    ]
    for number, (model, quality, message) in enumerate(cases):
        search = keras_eds.EDSSearch(
            model,
            0.6,
            ciess(data, quality=quality),
            OBJECTIVE,
            directory=tmp_path,
            project_name=f"{number}",
        )
        with pytest.raises(DataError, match=message):
            search.search(Triples(data.train, 64), **options(data))
        assert not search.oracle.trials
    with pytest.raises(ValueError, match="`quality` must be a function"):
        SampledRows(quality=3)


def test_sides_are_told_by_the_names_of_tables(data):
    quality = RankingQuality(data.train, data.validation, ks=[5])(build(data))
    assert quality["my_user_factors"] is quality.users
    assert quality["Item"] is quality.items
    for name in ("embedding_1", "user_item"):
        with pytest.raises(DataError, match=f"either 'user' or 'item'.*{name}"):
            quality[name]
