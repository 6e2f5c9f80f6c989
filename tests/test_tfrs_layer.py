"""A Keras 3 layer in a TFRS model: trained, saved, loaded, served as its own."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tfrs_setup import TITLES, USER_IDS, WIDTH, RetrievalModel, id_tower, liked, tf

import keras_eds
from keras_eds.bridges.tfrs import TFRSLayer

SIZES = np.arange(len(TITLES) + 1) % (WIDTH + 1)
IDS = tf.constant(["Title 3", "Title 7", "never seen"])


def row_sized(**options):
    return keras_eds.layers.RowSizedEmbedding(
        len(TITLES) + 1, WIDTH, sizes=SIZES, **options
    )


def plain(**options):
    return keras.layers.Embedding(len(USER_IDS) + 1, WIDTH, **options)


def trained(epochs=2, **options):
    model = RetrievalModel(
        id_tower(USER_IDS, TFRSLayer(plain(**options))),
        id_tower(TITLES, TFRSLayer(row_sized())),
    )
    model.compile(tf.keras.optimizers.Adagrad(0.1))
    model.fit(liked(), epochs=epochs, verbose=0)
    return model


def test_gives_what_the_layer_gives():
    layer = row_sized()
    ids = np.array([[0, 5], [8, 30]])
    outputs = TFRSLayer(layer)(tf.constant(ids))
    np.testing.assert_array_equal(outputs, keras.ops.convert_to_numpy(layer(ids)))


def test_trains_as_the_embedding_of_tf_keras_does():
    """Same values, same data: the same training, number for number."""
    losses, tables = [], []
    for bridged in (False, True):
        start = np.random.default_rng(0).normal(size=(len(USER_IDS) + 1, WIDTH))
        start = start.astype("float32")
        own = tf.keras.layers.Embedding(*start.shape, weights=[start])
        ours = plain(embeddings_initializer=keras.initializers.Constant(start))
        user = id_tower(USER_IDS, TFRSLayer(ours) if bridged else own)
        model = RetrievalModel(user, id_tower(TITLES, _constant(len(TITLES) + 1)))
        model.compile(tf.keras.optimizers.Adagrad(0.1))
        losses.append(model.fit(liked(), epochs=2, verbose=0).history["loss"])
        tables.append(user.trainable_variables[0].numpy())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-5, atol=1e-7)


def _constant(input_dim):
    values = np.random.default_rng(1).normal(size=(input_dim, WIDTH))
    return tf.keras.layers.Embedding(input_dim, WIDTH, weights=[values])


def test_gradients_are_of_the_looked_up_rows_alone():
    model = trained(epochs=1)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(next(iter(liked())), training=True)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert gradients
    assert all(isinstance(gradient, tf.IndexedSlices) for gradient in gradients)


def test_the_table_is_never_read_as_a_whole():
    layer = TFRSLayer(plain())
    layer(tf.constant([1]))
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec([None], tf.int64))
    kinds = {operation.type for operation in graph.graph.get_operations()}
    assert "ResourceGather" in kinds
    assert "ReadVariableOp" not in kinds


def test_the_penalty_of_the_weights_is_counted_once():
    model = trained(embeddings_regularizer=keras.regularizers.L2(0.5))
    table = model.user_model.trainable_variables[0]
    model.compute_loss(next(iter(liked())))
    model.compute_loss(next(iter(liked())))
    expected = 0.5 * np.sum(table.numpy() ** 2)
    np.testing.assert_allclose(sum(model.losses), expected, rtol=1e-5)


def test_what_a_call_adds_to_the_loss_reaches_the_model():
    tower = id_tower(USER_IDS, TFRSLayer(plain(activity_regularizer="l2")))
    outputs = tower(tf.constant(["u1", "u2"]))
    expected = 0.01 * np.sum(outputs.numpy() ** 2)
    total = float(sum(tower.losses))
    assert total in (pytest.approx(expected), pytest.approx(expected / 2))


@pytest.mark.parametrize("name", ["tower.keras", "tower"])
def test_a_tower_is_saved_and_loaded(tmp_path, name):
    tower = trained().movie_model
    kind = {} if name.endswith("keras") else {"save_format": "tf"}
    tower.save(tmp_path / name, **kind)
    loaded = tf.keras.models.load_model(tmp_path / name)
    np.testing.assert_array_equal(loaded(IDS), tower(IDS))


@pytest.mark.parametrize("name", ["weights", "weights.h5"])
def test_weights_are_saved_and_loaded_before_the_model_is_built(tmp_path, name):
    model = trained()
    model.save_weights(tmp_path / name)
    other = RetrievalModel(
        id_tower(USER_IDS, TFRSLayer(plain())),
        id_tower(TITLES, TFRSLayer(row_sized())),
    )
    if name.endswith("h5"):
        other.compute_loss(next(iter(liked())))
        other.built = True
    other.load_weights(tmp_path / name)
    np.testing.assert_array_equal(other.movie_model(IDS), model.movie_model(IDS))


def test_a_tower_is_cloned():
    tower = trained().movie_model
    clone = tf.keras.models.clone_model(tower)
    clone(IDS)
    clone.set_weights(tower.get_weights())
    np.testing.assert_array_equal(clone(IDS), tower(IDS))
    assert not {id(v) for v in clone.variables} & {id(v) for v in tower.variables}


def test_the_mask_of_padding_reaches_a_tf_keras_layer():
    layer = plain(mask_zero=True)
    tower = tf.keras.Sequential(
        [TFRSLayer(layer), tf.keras.layers.GlobalAveragePooling1D()]
    )
    pooled = tower(tf.constant([[3, 5, 0, 0]]))
    table = keras.ops.convert_to_numpy(layer.embeddings)
    np.testing.assert_allclose(pooled[0], (table[3] + table[5]) / 2, rtol=1e-6)


def test_a_frozen_layer_stays_as_it_is():
    tower = id_tower(USER_IDS, TFRSLayer(plain(), trainable=False))
    tower(tf.constant(["u1"]))
    assert not tower.trainable_variables
    assert len(tower.non_trainable_variables) == 1
    tower.trainable = True
    assert len(tower.trainable_variables) == 1


def test_a_tf_keras_layer_is_refused():
    with pytest.raises(ValueError, match="`layer` must be a Keras 3 layer.*needs no"):
        TFRSLayer(tf.keras.layers.Embedding(3, 2))


def test_constraints_hold():
    table = keras.layers.Embedding(5, 2, embeddings_constraint="non_neg")
    model = tf.keras.Sequential([TFRSLayer(table)])
    model.compile(tf.keras.optimizers.SGD(0.5), "mse")
    model.fit(np.arange(5), -np.ones((5, 2)), epochs=2, verbose=0)
    assert np.asarray(table.embeddings).min() == 0.0


def test_a_mask_goes_only_to_layers_that_take_one():
    ids = tf.constant([[3, 5, 0, 0]])
    table, dense = plain(mask_zero=True), keras.layers.Dense(2)
    tower = tf.keras.Sequential([TFRSLayer(table), TFRSLayer(dense)])
    expected = keras.ops.convert_to_numpy(dense(table(ids)))
    np.testing.assert_allclose(tower(ids), expected, rtol=1e-6)
    pooled = tf.keras.Sequential(
        [TFRSLayer(table), TFRSLayer(keras.layers.GlobalAveragePooling1D())]
    )
    rows = keras.ops.convert_to_numpy(table.embeddings)
    np.testing.assert_allclose(pooled(ids)[0], (rows[3] + rows[5]) / 2, rtol=1e-6)


def test_layers_of_several_inputs_and_none_of_their_shapes_alone():
    one, other = (tf.keras.Input((3,)) for _ in range(2))
    bridged = TFRSLayer(keras.layers.Concatenate())([one, other])
    model = tf.keras.Model([one, other], bridged)
    outputs = model([tf.ones((2, 3)), tf.zeros((2, 3))])
    np.testing.assert_array_equal(outputs, [[1, 1, 1, 0, 0, 0]] * 2)
