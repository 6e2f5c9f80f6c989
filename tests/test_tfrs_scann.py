"""TFRS's approximate index over the vectors of a cut model."""

from __future__ import annotations

import numpy as np
import pytest
from tfrs_setup import (
    TITLES,
    USER_IDS,
    RetrievalModel,
    compiled,
    id_tower,
    liked,
    movies,
    search,
    tf,
    tfrs,
)

pytest.importorskip("scann", reason="ScaNN has its own extra, for TensorFlow 2.20")


def test_scann_finds_what_is_found_exactly(tmp_path):
    model = compiled(RetrievalModel(id_tower(USER_IDS), id_tower(TITLES)))
    found = search(model, tmp_path, liked(), liked(seed=1), method="uniform")
    small = found.get_best_models()[0]
    vectors = movies().batch(16).map(lambda t: (t, small.movie_model(t)))
    exact = tfrs.layers.factorized_top_k.BruteForce(small.user_model, k=10)
    exact.index_from_dataset(vectors)
    # All leaves searched and every candidate scored anew: nothing may be missed.
    near = tfrs.layers.factorized_top_k.ScaNN(
        small.user_model,
        k=10,
        num_leaves=4,
        num_leaves_to_search=4,
        num_reordering_candidates=len(TITLES),
    )
    near.index_from_dataset(vectors)
    users = tf.constant(USER_IDS)
    scores, titles = (found.numpy() for found in near(users))
    wanted_scores, wanted = (found.numpy() for found in exact(users))
    np.testing.assert_allclose(scores, wanted_scores, rtol=1e-4, atol=1e-5)
    assert (np.sort(titles) == np.sort(wanted)).mean() > 0.99
