"""Cut TFRS models are served where neither Keras nor this library is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from tfrs_setup import (
    TITLES,
    USER_IDS,
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

SERVE = """
import sys
for module in ("keras", "tf_keras", "keras_eds", "tensorflow_recommenders"):
    sys.modules[module] = None  # As if it were not installed.
import numpy as np
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
inputs = dict(np.load(sys.argv[2]))
inputs = {name: tf.constant(values) for name, values in inputs.items()}
outputs = served.signatures["serving_default"](**inputs)
np.savez(sys.argv[3], **{name: value.numpy() for name, value in outputs.items()})
"""


def served(path, inputs, folder):
    """What another process gives, which has only TensorFlow."""
    np.savez(folder / "inputs.npz", **inputs)
    command = [sys.executable, "-c", SERVE, str(path)]
    files = [str(folder / "inputs.npz"), str(folder / "outputs.npz")]
    subprocess.run([*command, *files], check=True, env=dict(os.environ))
    return dict(np.load(folder / "outputs.npz", allow_pickle=True))


def test_retrieval_gives_the_same_best_movies(tmp_path):
    model = compiled(RetrievalModel(id_tower(USER_IDS), id_tower(TITLES)))
    found = search(model, tmp_path, liked(), liked(seed=1), method="uniform")
    small = found.get_best_models()[0]
    index = tfrs.layers.factorized_top_k.BruteForce(small.user_model, k=10)
    index.index_from_dataset(
        movies().batch(16).map(lambda titles: (titles, small.movie_model(titles)))
    )
    users = np.array(USER_IDS * 25)
    assert len(users) == 1000
    scores, titles = index(tf.constant(users))
    tf.saved_model.save(index, str(tmp_path / "index"))
    outputs = served(tmp_path / "index", {"input_1": users}, tmp_path)
    by_kind = {value.dtype.kind: value for value in outputs.values()}
    np.testing.assert_array_equal(by_kind["O"], titles.numpy())
    np.testing.assert_allclose(by_kind["f"], scores, rtol=1e-6)


def test_ranking_gives_the_same_ratings(tmp_path):
    model = compiled(RatingsModel(), eager=True)
    found = search(model, tmp_path, ratings(), ratings(seed=1))
    small = found.get_best_models()[0]
    inputs = {
        "user_id": np.array(USER_IDS[:20]),
        "movie_title": np.array([*TITLES[:19], "not in the vocabulary"]),
    }
    expected = small({name: tf.constant(values) for name, values in inputs.items()})
    signature = tf.function(small).get_concrete_function(
        {name: tf.TensorSpec([None], tf.string, name=name) for name in inputs}
    )
    signatures = {"serving_default": signature}
    tf.saved_model.save(small, str(tmp_path / "model"), signatures=signatures)
    outputs = served(tmp_path / "model", inputs, tmp_path)
    (ratings_there,) = outputs.values()
    np.testing.assert_allclose(ratings_there, expected, rtol=1e-5)
    # The tables on disk are the small ones; dense layers have 289 values.
    saved = tf.train.list_variables(str(tmp_path / "model" / "variables" / "variables"))
    values = sum(int(np.prod(shape)) for _, shape in saved)
    kept = sum(table.num_parameters() for table in found.get_best_plans()[0])
    assert kept + 289 <= values <= kept + 289 + 20
