"""Model and layer classes of the zoo; a reloading process imports this module."""

from __future__ import annotations

import keras
from keras import layers, ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "jax":
    import jax

register = keras.saving.register_keras_serializable("zoo")


@register
class Holder(keras.Model):
    """Tables in an attribute, a list and a dict."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.user = layers.Embedding(12, 6)
        self.listed = [layers.Embedding(9, 4), layers.Embedding(8, 5)]
        self.keyed = {"city": layers.Embedding(7, 3)}
        self.dropout = layers.Dropout(0.3, seed=3)
        self.hidden = layers.Dense(8, activation="tanh")
        self.norm = layers.BatchNormalization()
        self.head = layers.Dense(1, activation="sigmoid")

    def call(self, inputs, training=None):
        parts = [
            self.user(inputs[:, 0]),
            self.listed[0](inputs[:, 1]),
            self.listed[1](inputs[:, 2]),
            self.keyed["city"](inputs[:, 3]),
        ]
        hidden = self.hidden(ops.concatenate(parts, axis=-1))
        hidden = self.norm(hidden, training=training)
        return self.head(self.dropout(hidden, training=training))


@register
class Bag(keras.layers.Layer):
    """A layer of the user's own that holds a table."""

    def __init__(self, ids, width, **kwargs):
        super().__init__(**kwargs)
        self.ids, self.width = ids, width
        self.table = layers.Embedding(ids, width)

    def build(self, input_shape):
        self.table.build(input_shape)

    def call(self, inputs):
        return ops.sum(self.table(inputs), axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.width)

    def get_config(self):
        return {**super().get_config(), "ids": self.ids, "width": self.width}


@register
class OwnGraph(keras.Model):
    """A Functional model with an `__init__` of its own and unnamed layers."""

    def __init__(self, **kwargs):
        inputs = keras.Input((2,), dtype="int32")
        left = layers.Embedding(12, 6)(inputs[:, 0])
        right = layers.Embedding(9, 4)(inputs[:, 1])
        joined = layers.Concatenate()([left, right])
        outputs = layers.Dense(1, activation="sigmoid")(joined)
        super().__init__(inputs, outputs, **kwargs)

    def get_config(self):
        return {"name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


@register
class OwnStep(keras.Model):
    """A custom `train_step` that doubles the loss."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.user = layers.Embedding(12, 6)
        self.item = layers.Embedding(9, 4)
        self.head = layers.Dense(1, activation="sigmoid")

    def call(self, inputs, training=None):
        parts = [self.user(inputs[:, 0]), self.item(inputs[:, 1])]
        return self.head(ops.concatenate(parts, axis=-1))

    def train_step(self, *args):
        backend = keras.backend.backend()
        return getattr(self, f"_{backend}_step")(*args)

    def _tensorflow_step(self, data):
        x, y = data[:2]
        with tf.GradientTape() as tape:
            loss = 2.0 * self.compute_loss(y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(
            zip(gradients, self.trainable_variables, strict=True)
        )
        return {"loss": loss}

    def _torch_step(self, data):
        x, y = data[:2]
        self.zero_grad()
        loss = 2.0 * self.compute_loss(y=y, y_pred=self(x, training=True))
        loss.backward()
        weights = list(self.trainable_weights)
        gradients = [v.value.grad for v in weights]
        self.optimizer.apply(gradients, weights)
        return {"loss": loss.detach()}

    def _jax_step(self, state, data):
        trainable, fixed, slots, metrics = state
        x, y = data[:2]

        def loss_of(trainable, fixed):
            out, fixed = self.stateless_call(trainable, fixed, x, training=True)
            return 2.0 * self.compute_loss(y=y, y_pred=out), fixed

        step = jax.value_and_grad(loss_of, has_aux=True)
        (loss, fixed), gradients = step(trainable, fixed)
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        return {"loss": loss}, (trainable, fixed, slots, metrics)


@register
class OwnCompile(keras.Model):
    """A `compile` of its own, with an argument that Keras does not know."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.user = layers.Embedding(12, 6)
        self.item = layers.Embedding(9, 4)
        self.head = layers.Dense(1, activation="sigmoid")

    def compile(self, optimizer, scale, **kwargs):
        super().compile(optimizer=optimizer, loss="binary_crossentropy", **kwargs)
        self.scale = scale

    def call(self, inputs, training=None):
        parts = [self.user(inputs[:, 0]), self.item(inputs[:, 1])]
        return self.head(ops.concatenate(parts, axis=-1))

    def compute_loss(self, *args, **kwargs):
        return self.scale * super().compute_loss(*args, **kwargs)


@register
class DirectReader(keras.Model):
    """Reads its table directly, as tied output layers do."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.user = layers.Embedding(12, 6)
        self.item = layers.Embedding(9, 6)

    def call(self, inputs, training=None):
        user, item = self.user(inputs[:, 0]), self.item(inputs[:, 1])
        scores = ops.matmul(user + item, ops.transpose(self.item.embeddings))
        return ops.sigmoid(ops.sum(scores, axis=-1, keepdims=True))


@register
class DirectLossReader(DirectReader):
    """Punishes its table in its loss, past the layer."""

    def call(self, inputs, training=None):
        scores = self.user(inputs[:, 0]) * self.item(inputs[:, 1])
        return ops.sigmoid(ops.sum(scores, axis=-1, keepdims=True))

    def compute_loss(self, *args, **kwargs):
        size = ops.mean(ops.square(self.item.embeddings))
        return super().compute_loss(*args, **kwargs) + 0.1 * size
