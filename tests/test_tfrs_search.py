"""A search of a TFRS model: its copies, its scores, every method, kill and resume."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from tfrs_setup import (
    TITLES,
    USER_IDS,
    WIDTH,
    RatingsModel,
    RetrievalModel,
    compiled,
    id_tower,
    liked,
    movies,
    ratings,
    search,
    tf,
    tfrs,
)

import keras_eds
from keras_eds.bridges.tfrs.copy_model import copy_tfrs
from keras_eds.bridges.tfrs.searchable import SearchableTFRS
from keras_eds.bridges.tfrs.translate import keras_optimizer

TEN = tf.constant(TITLES[:10])


def retrieval(**options):
    return compiled(RetrievalModel(id_tower(USER_IDS), id_tower(TITLES), **options))


def batch():
    return next(iter(liked()))


def test_a_copy_gives_the_same_and_has_variables_of_its_own():
    model = retrieval()
    model.fit(liked(), epochs=1, verbose=0)
    scores = model.evaluate(liked(seed=1), return_dict=True, verbose=0)
    copied = compiled(copy_tfrs(model))
    assert copied.evaluate(liked(seed=1), return_dict=True, verbose=0) == scores
    assert not {id(v) for v in copied.variables} & {id(v) for v in model.variables}
    # What the copy learns the original does not, and its candidates are its own.
    table = model.movie_model(TEN).numpy()
    copied.fit(liked(), epochs=3, verbose=0)
    np.testing.assert_array_equal(model.movie_model(TEN), table)
    _check_top_k(copied)
    assert model.evaluate(liked(seed=1), return_dict=True, verbose=0) == scores


def _check_top_k(model):
    """The metric is one that has only now been made of the towers."""
    candidates = movies().batch(16).map(model.movie_model)
    metric = tfrs.metrics.FactorizedTopK(candidates, ks=(1, 5))
    for features in liked(seed=1):
        metric.update_state(
            model.user_model(features["user_id"]),
            model.movie_model(features["movie_title"]),
        )
    found = model.evaluate(liked(seed=1), return_dict=True, verbose=0)
    for k, one in zip((1, 5), metric.metrics, strict=True):
        accuracy = found[f"factorized_top_k/top_{k}_categorical_accuracy"]
        assert accuracy == pytest.approx(float(one.result()), abs=0.01)


def test_a_fresh_copy_is_drawn_anew():
    model = RatingsModel()
    model.compute_loss(next(iter(ratings())))
    copied = copy_tfrs(model, fresh=True)
    copied.compute_loss(next(iter(ratings())))
    for old, new in zip(
        model.trainable_variables, copied.trainable_variables, strict=True
    ):
        assert old.shape == new.shape
        zeros = not old.numpy().any()
        assert zeros or not np.allclose(old, new)


def test_averaged_adagrad_is_no_lazy_one():
    theirs = tf.keras.optimizers.Adagrad(0.1, use_ema=True)
    assert keras_optimizer(theirs).use_ema


@pytest.mark.parametrize("name", ["Adagrad", "Adam", "SGD"])
def test_keras_3_trains_it_as_tf_keras_does(name):
    """The same steps from the same values, with and without the wrapper."""
    model = RatingsModel()
    model.compute_loss(next(iter(ratings())))
    wrapped = SearchableTFRS(copy_tfrs(model))
    theirs = getattr(tf.keras.optimizers, name)(0.05)
    wrapped.compile(keras_optimizer(theirs), run_eagerly=True, jit_compile=False)
    model.compile(theirs, run_eagerly=True)
    wrapped(next(iter(ratings())))
    model.fit(ratings(), epochs=2, verbose=0, shuffle=False)
    wrapped.fit(ratings(), epochs=2, verbose=0, shuffle=False)
    ours = wrapped.tfrs_model
    x = {"user_id": tf.constant(USER_IDS[:9]), "movie_title": TEN[:9]}
    np.testing.assert_allclose(ours(x), model(x), rtol=2e-4, atol=1e-5)
    # And TFRS's metrics are the same; the loss is that of all batches.
    scores = wrapped.evaluate(ratings(seed=1), verbose=0, return_dict=True)
    expected = model.evaluate(ratings(seed=1), verbose=0, return_dict=True)
    assert scores["RMSE"] == pytest.approx(expected["RMSE"], rel=1e-4)
    means = [float(model.compute_loss(one)) for one in ratings(seed=1)]
    assert scores["loss"] == pytest.approx(np.mean(means), rel=1e-4)


def test_the_users_model_stays_as_it_is(tmp_path):
    model = compiled(RatingsModel())
    model.fit(ratings(), epochs=1, verbose=0)
    before = [v.numpy() for v in model.variables + model.optimizer.variables]
    found = search(model, tmp_path, ratings(), ratings(seed=1))
    after = [v.numpy() for v in model.variables + model.optimizer.variables]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    kinds = [type(layer).__name__ for layer in model.user_model.layers]
    assert kinds == ["StringLookup", "Embedding"]
    # A trained model is not trained again before it is cut.
    assert [r.stage for r in found.results()][0] == "probe"


def test_candidates_are_those_of_the_small_tables(tmp_path):
    """The metric of a cut model is never that of the tables which it had."""
    goal = keras_tuner.Objective(
        "val_factorized_top_k/top_5_categorical_accuracy", "max"
    )
    model = retrieval()
    options = {"objective": goal, "method": "uniform"}
    found = search(model, tmp_path, liked(), liked(seed=1), **options)
    small = found.get_best_models()[0]
    _check_top_k(small)
    scores = small.evaluate(liked(seed=1), return_dict=True, verbose=0)
    assert scores[goal.name[4:]] == pytest.approx(
        max(r.score for r in found.results() if r.stage == "retrain"), abs=1e-6
    )


METHODS = {
    "sseds": {},
    "amtl": {},
    "ciess": {},
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_searches(method, tmp_path):
    options = {"method": _method(method)}
    found = search(
        compiled(RatingsModel(), eager=True),
        tmp_path,
        ratings(256),
        ratings(128, seed=1),
        **options,
    )
    plan = found.get_best_plans()[0]
    assert plan.num_bytes() <= 0.4 * sum(f.num_bytes for f in found.fields)
    small = found.get_best_models()[0]
    assert sum(int(np.prod(v.shape)) for v in small.user_model.weights) < WIDTH * 41


def test_a_fixed_alignment_stays_as_planned(tmp_path):
    found = search(
        compiled(RatingsModel(), eager=True),
        tmp_path,
        ratings(256),
        ratings(128, seed=1),
        method=keras_eds.methods.SSEDS(alignment="fixed"),
    )
    [plan], [small] = found.get_best_plans(), found.get_best_models()
    decoders = [kept.decoder for kept in plan if 0 < kept.kept_dim < WIDTH]
    for decoder in decoders:
        shape = decoder.shape
        held = [v for v in small.non_trainable_variables if tuple(v.shape) == shape]
        assert any(np.allclose(v.numpy(), decoder, atol=1e-6) for v in held)
    assert decoders


def _method(name):
    if name == "ciess":
        return keras_eds.methods.CIESS(episodes=1, iterations=2, updates=3, top=1)
    return name


def test_losses_by_example_are_those_of_examples_alone():
    model = SearchableTFRS(RatingsModel())
    whole = next(iter(ratings()))
    losses = model.losses_by_example(None, model(whole))
    assert losses.shape == (64,)
    alone = {name: values[:1] for name, values in whole.items()}
    single = model.tfrs_model.compute_loss(alone)
    np.testing.assert_allclose(losses[0], single, rtol=1e-5)


def test_a_function_that_builds_is_searched(tmp_path):
    def build():
        return retrieval()

    found = search(build, tmp_path, liked(), liked(seed=1))
    small = found.get_best_models()[0]
    assert isinstance(small, RetrievalModel)
    _check_top_k(small)


def test_pairs_of_features_and_labels(tmp_path):
    """`compute_loss` gets a batch whole, as `tfrs.Model.fit` hands it on."""

    class Pairs(RatingsModel):
        def compute_loss(self, inputs, training=False):
            features, labels = inputs
            return self.task(labels=labels, predictions=self(features))

    def data(**options):
        return ratings(**options).map(lambda x: (x, x["user_rating"]))

    model = compiled(Pairs(), eager=True)
    found = search(model, tmp_path, data(), data(seed=1))
    assert found.get_best_models()
    found = search(model, tmp_path / "c", data(), data(seed=1), method=_method("ciess"))
    assert found.get_best_models()


def test_callbacks_of_keras_3_see_every_stage(tmp_path):
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1)
    model = compiled(RatingsModel(), eager=True)
    found = search(model, tmp_path, ratings(), ratings(seed=1), callbacks=[stop])
    assert found.get_best_models()


CHILD = """
import os, sys
sys.path.insert(0, {tests!r})
from tfrs_setup import RatingsModel, compiled, keras, ratings, search

class Die(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if self.stage_name.startswith("2-"):
            os._exit(7)

    def on_stage_end(self, result):
        pass

keras.utils.set_random_seed(0)
model = compiled(RatingsModel(), eager=True)
deadly = [Die()] if {die} else []
search(model, {folder!r}, ratings(), ratings(seed=1), callbacks=deadly)
"""


def child(folder, die):
    script = CHILD.format(tests=str(Path(__file__).parent), folder=str(folder), die=die)
    return subprocess.run([sys.executable, "-c", script], env=dict(os.environ))


def test_a_killed_search_goes_on_in_another_process(tmp_path):
    assert child(tmp_path, die=True).returncode == 7
    whole = search(
        compiled(RatingsModel(), eager=True),
        tmp_path / "whole",
        ratings(),
        ratings(seed=1),
    )
    resumed = keras_eds.EDSSearch(
        compiled(RatingsModel(), eager=True),
        0.4,
        directory=tmp_path,
        project_name="p",
        seed=1,
    )
    done = [r.stage for r in resumed.results()]
    assert done == ["pretrain", "probe"]
    again = keras_eds.EDSSearch(
        compiled(RatingsModel(), eager=True),
        0.4,
        directory=tmp_path / "whole",
        project_name="p",
        seed=1,
    )
    with pytest.raises(keras_eds.errors.ProjectError, match=r"Call search\(ds\)"):
        again.get_best_models()
    options = {"validation_data": ratings(seed=1), "epochs": 2, "verbose": 0}
    resumed.search(ratings(), **options)
    stages = [r.stage for r in resumed.results()]
    assert stages == [r.stage for r in whole.results()]
    assert len(stages) > 2
    small = resumed.get_best_models()[0]
    best = min(r.score for r in resumed.results() if r.stage == "retrain")
    means = [float(small.compute_loss(one)) for one in ratings(seed=1)]
    assert np.mean(means) == pytest.approx(best, rel=1e-5)


def test_a_hidden_tower_is_refused():
    """A copy whose candidates are those of the original would be wrong silently."""
    tower = id_tower(TITLES)
    hidden = [tower]

    class Opaque:
        def __call__(self, ids):
            return hidden[0](ids)

    model = compiled(RetrievalModel(id_tower(USER_IDS), tower, metrics=False))
    tower(TEN)
    model.task = tfrs.tasks.Retrieval(
        metrics=tfrs.metrics.FactorizedTopK(movies().batch(16).map(Opaque()))
    )
    with pytest.raises(keras_eds.errors.FieldError, match="hides its tower.*Map the"):
        keras_eds.EDSSearch(model, 0.4)
