"""Small models give what masked ones do, train, and come back from a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from plans import VARIANTS, assert_same_state, masked_output, plan_of, state_of
from zoo import ZOO

import keras_eds
from keras_eds.layers import PrunedFieldEmbedding, RowSizedEmbedding
from keras_eds.surgery.keras_private import all_layers

CASES = [(kind, variant) for kind in ZOO for variant in VARIANTS]
SMALL = (PrunedFieldEmbedding, RowSizedEmbedding)
_models: dict[str, tuple] = {}


def full(kind):
    """The model of a kind, built once: nothing here may change it."""
    if kind not in _models:
        _models[kind] = ZOO[kind]()
    return _models[kind]


def narrow_layers(model):
    return [t for t in all_layers(model) if isinstance(t, SMALL)]


def embedding_count(model):
    kinds = (keras.layers.Embedding, *SMALL)
    tables = [t for t in all_layers(model) if isinstance(t, kinds)]
    return sum(int(np.prod(v.shape)) for t in tables for v in t.variables)


WANTED = {
    "columns": {"embeddings", "projection", "constant"},
    "subspace": {"embeddings", "projection", "constant"},
    "dropped": {"constant"},
    "rows": {"positions", "reaching", "embeddings", "projection", "constant"},
    "prefixes": {"positions", "reaching", "embeddings"},
}


def state_of_layer(layer):
    return {v.name: np.array(ops.convert_to_numpy(v)) for v in layer.variables}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.mark.filterwarnings("ignore:`compile\\(\\)` was not called:UserWarning")
@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_small_model_is_the_masked_one_and_trains(kind, variant, folder):
    model, x, y = full(kind)
    plan = plan_of(model, variant)
    before = state_of(model)
    expected = masked_output(model, plan, x)
    small = keras_eds.apply_plan(model, plan)
    assert small is not model
    assert_same_state(before, state_of(model))

    output = ops.convert_to_numpy(small(x))
    np.testing.assert_allclose(output, expected, atol=1e-5)
    assert embedding_count(small) == plan.num_parameters()
    others = model.count_params() - sum(p.field.num_parameters for p in plan)
    assert small.count_params() == others + plan.num_parameters()
    packed = variant in ("rows", "prefixes")  # by chance as large as some table
    if keras.backend.backend() == "torch" and not packed:
        wide = {(p.field.input_dim, p.field.output_dim) for p in plan if not p.is_full}
        assert not wide & {tuple(p.shape) for p in small.parameters()}

    small.save(folder / f"{kind}-{variant}.keras")
    np.savez(folder / f"{kind}-{variant}.npz", output)

    tables = narrow_layers(small)
    if variant == "full":
        assert not tables
        return
    values = [state_of_layer(table) for table in tables]
    small.train_on_batch(x, y)
    norm = keras.layers.BatchNormalization
    normed = any(isinstance(layer, norm) for layer in all_layers(small))
    # The normalization of a batch takes away what all its examples have in common.
    still = variant == "dropped" and normed
    for table, old in zip(tables, values, strict=True):
        moved = {
            name: np.abs(value - old[name]).max() > 1e-4
            for name, value in state_of_layer(table).items()
        }
        parts = {name.split("_")[0] for name in moved}
        assert parts == WANTED[variant], table.name
        assert any(moved[name] for name in moved if name.startswith("embeddings")) or (
            variant == "dropped"
        )
        for name in ("projection", "constant"):
            assert moved.get(name, True) or still, name
        # Where rows are, and how long, is not learned.
        assert not moved.get("positions") and not moved.get("reaching")
    assert_same_state(before, state_of(model))


RELOAD = """
import json, sys, warnings
from pathlib import Path
import keras, numpy as np
import keras_eds, zoo_models
from zoo import ZOO
warnings.simplefilter("ignore")
result, data = {}, {}
for path in sorted(Path(sys.argv[1]).glob("*.keras")):
    kind = path.stem.split("-")[0]
    if kind not in data:
        data[kind] = ZOO[kind]()[1]
    try:
        model = keras.saving.load_model(path)
        output = keras.ops.convert_to_numpy(model(data[kind]))
        right = np.load(path.with_suffix(".npz"))["arr_0"]
        result[path.stem] = [float(abs(output - right).max()), model.count_params()]
    except Exception as error:
        result[path.stem] = [repr(error)[:500], 0]
print("RESULT" + json.dumps(result))
"""


def run(script, *arguments, **environment):
    """Runs Python text in a new process beside the tests."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), **environment}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True, text=True, env=env, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.split("RESULT")[1])


def test_saved_models_load_in_a_new_process(folder):
    saved = sorted(path.stem for path in folder.glob("*.keras"))
    if len(saved) < len(CASES):
        pytest.skip("needs the models that the test above saves")
    result = run(RELOAD, folder)
    assert sorted(result) == saved
    for name, (difference, count) in result.items():
        kind, variant = name.split("-")
        model = full(kind)[0]
        plan = plan_of(model, variant)
        others = model.count_params() - sum(p.field.num_parameters for p in plan)
        assert difference == pytest.approx(0, abs=1e-6), name
        assert count == others + plan.num_parameters(), name


SERVE = """
import json, sys
for name in ("keras", "keras_eds", "tf_keras"):
    sys.modules[name] = None
import numpy as np, tensorflow as tf
result = {}
for kind in sys.argv[2:]:
    served = tf.saved_model.load(f"{sys.argv[1]}/{kind}")
    given = np.load(f"{sys.argv[1]}/{kind}.npz")
    output = served.serve(tf.constant(given["x"])).numpy()
    result[kind] = float(abs(output - given["output"]).max())
assert not any(name.startswith("keras.") for name in sys.modules)
print("RESULT" + json.dumps(result))
"""


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.saved_model is TensorFlow's"
)
def test_saved_model_runs_without_keras(tmp_path):
    import tensorflow as tf

    kinds = {
        "subclassed": "subspace",
        "multi_hot": "rows",
        "sequential": "subspace",
    }
    for kind, variant in kinds.items():
        model, x, _ = full(kind)
        small = keras_eds.apply_plan(model, plan_of(model, variant))
        small.run_eagerly = False
        signature = [tf.TensorSpec((None, x.shape[1]), tf.int32)]
        module = tf.Module()
        module.model = small
        module.serve = tf.function(small.__call__, input_signature=signature)
        tf.saved_model.save(module, str(tmp_path / kind))
        np.savez(tmp_path / f"{kind}.npz", x=x, output=ops.convert_to_numpy(small(x)))
    result = run(SERVE, tmp_path, *kinds)
    assert result == {kind: pytest.approx(0, abs=1e-6) for kind in kinds}
