"""One small compiled model of every kind that users have, with data."""

from __future__ import annotations

import keras
import keras_rs
import numpy as np
import zoo_models
from keras import layers

BACKEND = keras.backend.backend()
ROWS = 24


def ids(*sizes, seed=0):
    """Columns of random ids, one for each vocabulary size."""
    random = np.random.default_rng(seed)
    columns = [random.integers(0, size, ROWS) for size in sizes]
    return np.stack(columns, axis=1).astype("int32")


def labels(seed=1):
    return np.random.default_rng(seed).integers(0, 2, (ROWS, 1)).astype("float32")


def compiled(model, x, optimizer=None, **kwargs):
    """`model`, built on `x` and compiled to run eagerly: nothing is traced."""
    model(x)
    kwargs.setdefault("run_eagerly", True)
    kwargs.setdefault("jit_compile", False)
    optimizer = optimizer or keras.optimizers.Adam(0.01)
    model.compile(optimizer, loss="binary_crossentropy", **kwargs)
    return model, x, labels()


def _head(*parts):
    joined = layers.Concatenate()(list(parts)) if len(parts) > 1 else parts[0]
    return layers.Dense(1, activation="sigmoid", name="head")(joined)


def _ints(name, length=None):
    shape = () if length is None else (length,)
    return keras.Input(shape, dtype="int32", name=name)


def functional(**kwargs):
    user, item = _ints("u"), _ints("i")
    e = layers.Embedding(12, 6, name="user")(user)
    f = layers.Embedding(9, 4, name="item", embeddings_regularizer="l2")(item)
    hidden = layers.Dense(8, activation="tanh")(layers.Concatenate()([e, f]))
    hidden = layers.BatchNormalization()(hidden)
    model = keras.Model({"u": user, "i": item}, _head(hidden))
    data = ids(12, 9)
    return compiled(model, {"u": data[:, 0], "i": data[:, 1]}, **kwargs)


def sequential():
    stack = [
        keras.Input((2,), dtype="int32"),
        layers.Embedding(12, 6, name="word"),
        layers.Flatten(),
        layers.Dense(1, activation="sigmoid"),
    ]
    return compiled(keras.Sequential(stack), ids(12, 12))


def nested():
    inner_input = _ints("inner", 2)
    e = layers.Embedding(12, 6, name="deep")(inner_input)
    inner = keras.Model(inner_input, layers.Flatten()(e), name="tower")
    stack = keras.Sequential(
        [layers.Embedding(9, 4, name="deep"), layers.Flatten()], name="stack"
    )
    left, right = _ints("left", 2), _ints("right", 2)
    model = keras.Model([left, right], _head(inner(left), stack(right)))
    return compiled(model, [ids(12, 12), ids(9, 9, seed=2)])


def subclassed():
    return compiled(zoo_models.Holder(), ids(12, 9, 8, 7))


def shared():
    table = layers.Embedding(12, 6, name="word")
    left, right = _ints("left"), _ints("right", 3)
    pooled = layers.GlobalAveragePooling1D()(table(right))
    product = layers.Multiply()([table(left), pooled])
    model = keras.Model([left, right], _head(product, table(left)))
    return compiled(model, [ids(12)[:, 0], ids(12, 12, 12, seed=3)])


def multi_hot():
    tags = _ints("tags", 4)
    e = layers.Embedding(12, 6, name="tag", mask_zero=True)(tags)
    model = keras.Model(tags, _head(layers.GlobalAveragePooling1D()(e)))
    return compiled(model, ids(12, 4, 4, 2))


def mask_zero():
    words = _ints("words", 4)
    e = layers.Embedding(12, 6, name="word", mask_zero=True)(words)
    model = keras.Model(words, _head(layers.SimpleRNN(3)(e)))
    return compiled(model, ids(12, 4, 4, 2))


def lookups():
    """Look-ups inside the model on TensorFlow, in front of it elsewhere."""
    random = np.random.default_rng(5)
    words = random.choice(["a", "b", "c", "new"], ROWS)
    numbers = random.choice([10, 20, 30, 99], ROWS).astype("int64")
    fronts = [
        layers.StringLookup(vocabulary=["a", "b", "c"]),
        layers.IntegerLookup(vocabulary=[10, 20, 30]),
        layers.Hashing(num_bins=5),
    ]
    x = [words.reshape(-1, 1).astype("str"), numbers, numbers]
    inside = BACKEND == "tensorflow"
    if inside:
        import tensorflow as tf

        kinds = [("string", (1,)), ("int64", ()), ("int64", ())]
        x = [tf.constant(part) for part in x]
    else:
        kinds = [("int32", (1,)), ("int32", ()), ("int32", ())]
        x = [np.asarray(front(part)) for front, part in zip(fronts, x, strict=True)]
    inputs = [keras.Input(shape, dtype=dtype) for dtype, shape in kinds]
    found = [f(i) for f, i in zip(fronts, inputs, strict=True)] if inside else inputs
    names = ("string", "integer", "hashed")
    tables = [layers.Embedding(5, 4, name=name) for name in names]
    first, *rest = [table(part) for table, part in zip(tables, found, strict=True)]
    model = keras.Model(inputs, _head(layers.Flatten()(first), *rest))
    return compiled(model, x)


def feature_space():
    features = keras.utils.FeatureSpace
    space = features(
        {
            "age": features.integer_categorical(output_mode="int"),
            "bucket": features.float_discretized(4, output_mode="int"),
        },
        crosses=[features.cross(("age", "bucket"), 8, output_mode="int")],
        output_mode="dict",
    )
    random = np.random.default_rng(6)
    raw = {"age": random.integers(1, 5, ROWS), "bucket": random.normal(size=ROWS)}
    import tensorflow as tf

    space.adapt(tf.data.Dataset.from_tensor_slices(raw).batch(ROWS))
    x = {key: np.asarray(value) for key, value in space(raw).items()}
    encoded = space.get_encoded_features()
    parts = [
        layers.Flatten()(layers.Embedding(9, 4, name=f"of_{name}")(tensor))
        for name, tensor in encoded.items()
    ]
    model = keras.Model(list(encoded.values()), _head(*parts))
    return compiled(model, [x[name] for name in encoded])


def _embed_reduce(combiner):
    tags = _ints("tags", 3)
    weights = keras.Input((3,), name="weights")
    weighed = keras_rs.layers.EmbedReduce(12, 6, combiner=combiner, name="weighed")
    plain = keras_rs.layers.EmbedReduce(12, 4, combiner=combiner, name="plain")
    out = _head(weighed(tags, weights), plain(tags))
    share = np.random.default_rng(7).uniform(0.1, 2.0, (ROWS, 3)).astype("float32")
    return compiled(keras.Model([tags, weights], out), [ids(12, 12, 12), share])


def custom_layer():
    tags, user = _ints("tags", 3), _ints("u")
    e = layers.Embedding(9, 4, name="user")(user)
    model = keras.Model([tags, user], _head(zoo_models.Bag(12, 6, name="bag")(tags), e))
    return compiled(model, [ids(12, 12, 12), ids(9)[:, 0]])


def own_graph():
    return compiled(zoo_models.OwnGraph(), ids(12, 9))


def custom_step():
    return compiled(zoo_models.OwnStep(), ids(12, 9))


def own_compile():
    model, x = zoo_models.OwnCompile(), ids(12, 9)
    model(x)
    model.compile(
        keras.optimizers.Adam(0.01), scale=3.0, run_eagerly=True, jit_compile=False
    )
    return model, x, labels()


ZOO = {
    **{f.__name__: f for f in (functional, sequential, nested, subclassed, shared)},
    **{f.__name__: f for f in (multi_hot, mask_zero, lookups, feature_space)},
    **{
        f"embed_reduce_{combiner}": (lambda combiner=combiner: _embed_reduce(combiner))
        for combiner in ("sum", "mean", "sqrtn")
    },
    **{f.__name__: f for f in (custom_layer, own_graph, custom_step, own_compile)},
}
