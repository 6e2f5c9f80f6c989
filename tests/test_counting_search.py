"""Searches that know nothing but how often ids come."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops
from search_setup import FIT, build, data, search, validation

from keras_eds import Budget
from keras_eds.layers import RowSizedEmbedding
from keras_eds.methods import MDE, RandomRowSizes
from keras_eds.surgery.keras_private import all_layers
from keras_eds.tuners import stage

METHODS = {
    "random_rows": "random_rows",
    "unsorted": RandomRowSizes(sorted_by_frequency=False),
    "mde": "mde",
    "mde, padded": MDE(projection=False, alpha=0.3),
    "mde, fields": MDE("field"),
}


@pytest.mark.parametrize("name", METHODS)
def test_small_models_from_counts_alone(name, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "measure", None)
    counts = name in ("random_rows", "mde", "mde, padded")
    result = search(tmp_path, build, [0.6, 0.4], method=METHODS[name])
    x, y = data()
    result.search(x, y, validation_data=validation(), **FIT)
    stages = [r.stage for r in result.results()]
    assert stages == ["probe"] * counts + ["retrain", "retrain"]
    if counts:
        measured = result.oracle.observe_ended().done("probe")[0][1].measurements
        for key, seen in measured.items():
            ids = x[key.removesuffix("_table")]
            expected = np.bincount(ids, minlength=len(seen.counts))
            np.testing.assert_array_equal(seen.counts, expected)
    models, plans = result.get_best_models(2), result.get_best_plans(2)
    for model, plan in zip(models, plans, strict=True):
        assert plan.fits(Budget(0.6))
        packed = [t for t in all_layers(model) if isinstance(t, RowSizedEmbedding)]
        assert bool(packed) == (name != "mde, fields")
        for layer in packed:
            np.testing.assert_array_equal(layer.sizes(), plan[layer.name].sizes)
            rows = ops.convert_to_numpy(layer(np.arange(layer.input_dim)))
            assert not rows[layer.sizes() == 0].any()
            assert rows[layer.sizes() > 0].any(axis=1).all()
        assert np.isfinite(model.predict(x, verbose=0)).all()
