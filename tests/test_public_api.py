from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_eds
from keras_eds import (
    callbacks,
    datasets,
    layers,
    methods,
    metrics,
    models,
    optimizers,
    pretraining,
    retrieval,
    tuners,
)

ROOMS = (
    callbacks, datasets, layers, methods, metrics, models, optimizers,
    pretraining, retrieval, tuners
)  # fmt: skip
PUBLIC = sorted(
    {
        getattr(module, name)
        for module in (keras_eds, *ROOMS)
        for name in getattr(module, "__all__", [])
        if callable(getattr(module, name))
    },
    key=lambda thing: (thing.__module__, thing.__qualname__),
)


def every_module():
    for module in pkgutil.walk_packages(keras_eds.__path__, "keras_eds."):
        # What is there for TFRS needs tf_keras as tf.keras: it has tests of its own.
        if "tfrs" not in module.name:
            importlib.import_module(module.name)
    return [m for n, m in sys.modules.items() if n.split(".")[0] == "keras_eds"]


def test_import_is_light():
    code = (
        # Keras itself imports some of these where they are installed.
        "import sys, keras\n"
        "slow = {'keras_tuner', 'pandas', 'matplotlib', 'tensorboard', 'keras_rs'}\n"
        "slow -= set(sys.modules)\n"
        "import keras_eds\n"
        "assert 'keras_tuner' in slow and 'tensorboard' in slow\n"
        "print(sorted(slow & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", [keras_eds, *ROOMS], ids=lambda m: m.__name__)
def test_public_names_resolve(module):
    assert module.__all__ == sorted(set(module.__all__)) or module is not keras_eds
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


def test_fixed_names():
    assert keras_eds.EDSSearch is tuners.EDSSearch
    for name in ("SSEDS", "Uniform", "RandomSizes"):
        assert issubclass(getattr(methods, name), methods.Method)
    given = list(inspect.signature(keras_eds.EDSSearch).parameters)
    assert given[:9] == [
        "model", "budget", "method", "objective", "filters", "seed", "directory",
        "project_name", "overwrite",
    ]  # fmt: skip


# Values and bases for authors of methods, which nobody calls on their own.
WITHOUT_EXAMPLE = {
    "Dataset", "FieldDrift", "Method", "Outcome", "PlanDrift", "Proposal",
    "SearchState", "get",
}  # fmt: skip
EXAMPLES = [thing for thing in PUBLIC if thing.__name__ not in WITHOUT_EXAMPLE]


@pytest.mark.parametrize("thing", EXAMPLES, ids=lambda t: t.__qualname__)
def test_docstrings_have_examples(thing):
    text = inspect.getdoc(thing) or ""
    assert text and text.splitlines()[0].endswith((".", ":", "?"))
    assert "Example" in text and ">>>" in text, thing


ARGUMENTS = {
    "PrunedFieldEmbedding": {
        "input_dim": 7, "kept_dim": 2, "output_dim": 4, "use_constant": True,
        "mask_zero": True, "embeddings_initializer": "ones",
        "projection_initializer": "zeros", "train_projection": False,
        "embeddings_regularizer": "l2",
        "embeddings_constraint": "non_neg", "combiner": None,
    },
    "MaskedTwinEmbedding": {
        "input_dim": 7, "output_dim": 4, "counts": None, "groups": 9,
        "hidden_units": [3, 2], "activation": "tanh", "twins": False,
        "alpha_from": "rank", "temperature": 0.5, "min_size": 0, "size_spread": 0.2,
        "size_penalty": 0.1, "embeddings_initializer": "ones",
        "embeddings_regularizer": "l2", "embeddings_constraint": "non_neg",
        "mask_zero": True, "weights": None, "combiner": "sum", "seed": 3,
    },
    "TwinMasks": {
        "input_dim": 7, "output_dim": 4, "groups": 9, "hidden_units": [3, 2],
        "activation": "tanh", "twins": False, "alpha_from": "rank",
        "temperature": 0.5, "min_size": 0, "size_spread": 0.2, "size_penalty": 0.1,
        "mask_zero": True, "seed": 3,
    },
    "RowSizedEmbedding": {
        "input_dim": 5, "output_dim": 4, "sizes": None, "blocks": [[2, 4], [1, 1]],
        "use_projection": True, "use_constant": True,
        "embeddings_initializer": "ones", "projection_initializer": "zeros",
        "train_projection": False,
        "embeddings_regularizer": "l2", "mask_zero": True, "combiner": "sum",
    },
    "AllIds": {"input_dim": 3},
    "ExactIndex": {
        "shapes": [[2, 3]], "num_items": 4, "query_dim": 3, "k": 2, "has_ids": True,
        "use_projection": True, "use_constant": True,
    },
    "LookedUpL2": {"l2": 0.5},
    "ScaledDot": {"temperature": 0.5},
    "SampledSoftmaxLoss": {"temperature": 0.5},
    "BipartiteGraph": {
        "num_users": 2, "num_items": 3, "edges": None, "layout": [4, 5]
    },
    "LazyAdagrad": {
        "learning_rate": 0.5, "initial_accumulator_value": 0.2, "epsilon": 1e-3
    },
    "LazyAdam": {
        "learning_rate": 0.5, "beta_1": 0.8, "beta_2": 0.7, "epsilon": 1e-3,
        "amsgrad": True,
    },
}  # fmt: skip
WEIGHTS = {
    "counts",
    "edges",
    "sizes",
    "weights",
}  # saved with the weights, not in the config
OF_KERAS = {"activity_regularizer", "trainable", "dtype", "autocast", "name", "self"}


def registered():
    every_module()
    objects = keras.saving.get_custom_objects()
    ours = [cls for name, cls in objects.items() if name.startswith("keras_eds>")]
    return [cls for cls in ours if not issubclass(cls, keras.Model)]


@pytest.mark.parametrize("cls", registered(), ids=lambda c: c.__name__)
def test_config_holds_every_argument(cls):
    arguments = [
        name
        for name, p in inspect.signature(cls.__init__).parameters.items()
        if name not in OF_KERAS and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    values = ARGUMENTS.get(cls.__name__, {})
    assert set(arguments) == set(values), "a new argument must be tested here"
    config = cls(**values).get_config()
    assert set(values) - WEIGHTS <= set(config)
    again = cls.from_config(config).get_config()
    assert again == config
    plain = (int, float, bool)
    for name, value in values.items():
        if isinstance(value, plain):
            assert config[name] == pytest.approx(value)
        elif value is not None and name not in WEIGHTS:
            assert config[name] is not None


@pytest.mark.parametrize("cls", sorted(methods.METHODS.values(), key=str))
def test_methods_keep_their_arguments(cls):
    method = cls()
    for name in inspect.signature(cls.__init__).parameters:
        if name == "self":
            continue
        kept = name in vars(method) or name in (method.probe or {})
        assert kept, f"{cls.__name__}.{name} is neither an attribute nor in `probe`"


def test_files_and_functions_are_short():
    import ast

    root = Path(keras_eds.__file__).parent
    paths = [*root.rglob("*.py"), *Path(tuners.__file__).parent.glob("*.py")]
    assert len(paths) > 50
    for path in paths:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = [n for n in node.body if not _is_docstring(n)]
                lines = node.end_lineno - body[0].lineno + 1 if body else 0
                assert lines <= 60, f"{path}: {node.name}"


def _is_docstring(node):
    import ast

    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
