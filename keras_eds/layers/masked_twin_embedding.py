"""An embedding that learns from how often an id occurs how long its vector is."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import constraints, ops

from keras_eds.argument_checks import check_integer
from keras_eds.backend.lookup import lookup
from keras_eds.layers import masked_twin_checks as checks
from keras_eds.layers.combining import reduce_rows
from keras_eds.layers.id_counts import check_counts, count_ids
from keras_eds.layers.lookup_layer import LookupLayer
from keras_eds.layers.twin_masks import TwinMasks

_OF_MASKS = (
    "groups",
    "hidden_units",
    "activation",
    "twins",
    "alpha_from",
    "temperature",
    "min_size",
    "size_spread",
    "size_penalty",
    "seed",
)


@keras.saving.register_keras_serializable(package="keras_eds")
class MaskedTwinEmbedding(LookupLayer):
    """Looks ids up and keeps the first values of each vector, as many as it learns.

    With `e_i` row `i` of `embeddings`, `s_i` the frequency features of id `i` and
    `alpha_i` the sigmoid of its standardised log count:

        o_i    = alpha_i * h(s_i) + (1 - alpha_i) * l(s_i)
        t_i    = softmax(o_i / temperature)
        k_i    = min_size + argmax(o_i)
        output = m_i * e_i,    m_ij = 1 if j < k_i else 0

    `h` and `l`, the twins, are MLPs of separate weights, one for frequent and one
    for rare ids. The gradient passes the arg max straight through, to `t_i`. The
    output is masked hard in training too; `training=False` only leaves the
    gradient and the penalty out. At first every id that occurs has all
    its values, so that a trained table may be given and is not destroyed.

    **The layer must know how often ids occur**: call `adapt`, call
    `update_frequencies`, or give `counts`. Counts are weights, saved with the
    others. Ids that do not occur, and padding, have `min_size` values, always.

    **Nothing makes sizes small but the loss** (as in the paper), unless
    `size_penalty` is given. In training the layer then adds to the loss
    `size_penalty * expected_size`, with the mean over **all** ids

        expected_size = mean_i( sum_k t_ik * (min_size + k) )

    Ids that occur equally often have the same features. The twins are therefore
    evaluated once for each group of such ids, not for each id: a step costs the
    same for any vocabulary and any number of ids in the batch, and the penalty
    is exact. With more different counts than `groups`, nearly equal ones share a
    group.

    A callback may change `layer.temperature` and `layer.size_penalty` during fit,
    by `.assign(value)`. Both are weights.

    Args:
        input_dim: Number of ids.
        output_dim: Width of the output, and the largest size.
        counts: How often each id occurs, shape `(input_dim,)`. Defaults to `None`:
            see above.
        groups: Number of groups, at least 2. Defaults to 128, where the features
            of a group's ids differ by less than 1/127 of their range.
        hidden_units: Widths of the hidden layers of each twin. Defaults to `(32,)`.
        activation: Activation of the hidden layers. Defaults to `"relu"`.
        twins: Whether there are two MLPs. With `False`, the paper's ablation,
            `o_i = h(s_i)`. Defaults to `True`.
        alpha_from: What is standardised for `alpha`: `"log_count"` (the default),
            `"count"` or `"rank"`. The paper does not say.
        temperature: Float above 0, at the start. Defaults to 1.
        min_size: The smallest size. Defaults to 1, as in the paper; with 0 an id
            may have no values.
        size_spread: How widely the chances of sizes are spread at first, above 0:
            `t_ik` is proportional to `exp(-((output_dim - size) / (size_spread *
            output_dim))^2 / 2)`. Defaults to 0.25. A bell curve can be moved by
            the gradient as far as one likes; one size that is all but certain
            cannot.
        size_penalty: Float of at least 0, at the start. Defaults to `None`: there
            is no penalty, no variable for it, and no cost. Give 0.0 for a penalty
            that a callback raises.
        embeddings_initializer: Initializer of the table. Defaults to `"uniform"`.
        embeddings_regularizer: Regularizer of the table. Defaults to `None`.
        embeddings_constraint: Constraint on the table. Defaults to `None`.
        mask_zero: Whether id 0 is padding: masked as in `keras.layers.Embedding`,
            with a combiner left out. Defaults to `False`.
        weights: A trained table of shape `(input_dim, output_dim)` to start from,
            or a list of that one. Defaults to `None`.
        combiner: `"mean"`, `"sum"` or `"sqrtn"`: reduces the last axis of
            inputs of rank 2 and more, as in `keras_rs.layers.EmbedReduce`.
            Defaults to `None`: no reduction.
        seed: Seed of the twins. Defaults to `None`.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Input shape: integers of any shape `(batch, ...)`.
    Output shape: the input's shape with `output_dim` appended; with a
    `combiner`, in place of the last axis.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> ids = np.array([[1, 1, 2], [1, 4, 2]])
    >>> layer = keras_eds.layers.MaskedTwinEmbedding(5, 8)
    >>> layer.adapt(ids)
    >>> layer(ids).shape
    (2, 3, 8)
    >>> layer.sizes()
    array([1, 8, 8, 1, 8])

    Reference:
        Yan et al., Learning Effective and Efficient Embedding via an
        Adaptively-Masked Twins-based Layer, CIKM 2021, arXiv:2108.11513. The
        features' scale, the groups, the first bias, the penalty and the least
        size of ids that do not occur are this library's.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        counts: Any = None,
        groups: int = 128,
        hidden_units: Any = (32,),
        activation: Any = "relu",
        twins: bool = True,
        alpha_from: str = "log_count",
        temperature: float = 1.0,
        min_size: int = 1,
        size_spread: float = 0.25,
        size_penalty: float | None = None,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        combiner: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        input_dim = check_integer("input_dim", input_dim)
        output_dim = check_integer("output_dim", output_dim)
        super().__init__(
            input_dim,
            output_dim,
            embeddings_initializer,
            embeddings_regularizer,
            mask_zero,
            combiner,
            **kwargs,
        )
        if counts is not None:
            counts = check_counts(counts, input_dim)
        if weights is not None:
            weights = checks.check_table(weights, input_dim, output_dim)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        self.masks = TwinMasks(
            input_dim,
            output_dim,
            groups,
            hidden_units,
            activation,
            twins,
            alpha_from,
            temperature,
            min_size,
            size_spread,
            size_penalty,
            mask_zero,
            seed,
            dtype="float32",
            name="masks",
        )
        if counts is not None or weights is not None:
            self.build()
        if weights is not None:
            self.embeddings.assign(weights)
        if counts is not None:
            self.update_frequencies(counts)

    @property
    def temperature(self) -> keras.Variable:
        """The temperature, a weight without an axis."""
        return self.masks.temperature

    @property
    def size_penalty(self) -> keras.Variable | None:
        """The penalty, a weight without an axis, or None."""
        return self.masks.size_penalty

    @property
    def counts(self) -> keras.Variable:
        """How often each id occurs, a weight; -1 as long as nobody knows."""
        return self.masks.counts

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
        )
        self.masks.build()

    def build_from_config(self, config: Any) -> None:
        """Makes the weights, which do not depend on the inputs."""
        self.build()

    def get_build_config(self) -> dict[str, Any]:
        """Nothing: the weights do not depend on the inputs."""
        return {"input_shape": None}

    def adapt(self, data: Any) -> None:
        """Counts the ids of the data. What was counted before is forgotten.

        Args:
            data: Ids of any shape, as an array or tensor; or an iterable of such
                batches, for instance a `tf.data.Dataset`. Of a batch that is a
                tuple, such as `(x, y)`, the first entry is taken.

        Raises:
            ValueError: If there are no ids, or some are not from 0 to `input_dim`.
        """
        self.update_frequencies(count_ids(data, self.input_dim))

    def update_frequencies(self, counts: Any) -> None:
        """Takes new counts, which gives ids new sizes. The twins stay as they are.

        Args:
            counts: How often each id occurs, shape `(input_dim,)`. Held as float32.

        Raises:
            ValueError: If they are not `input_dim` numbers of at least 0.
        """
        self.build()
        self.masks.update_frequencies(counts)

    def call(self, inputs: Any, weights: Any = None, training: Any = None) -> Any:
        self._check_counts_known()
        ids, scale = self._ids_and_scale(inputs, weights)
        mask = self.masks(ids, training=training)
        rows = lookup(self.embeddings, ids, self.compute_dtype)
        rows = rows * ops.cast(mask, self.compute_dtype)
        return rows if scale is None else reduce_rows(rows, scale)

    def _check_counts_known(self) -> None:
        if not self.masks.known:
            raise ValueError(
                f"Layer {self.name!r} (MaskedTwinEmbedding) must know how often ids "
                "occur before it is called. Received: no counts. Call its "
                "adapt(data) or update_frequencies(counts), or make it with "
                "counts=..."
            )

    def sizes(self) -> npt.NDArray[np.int64]:
        """How many values each id keeps, shape `(input_dim,)`.

        Raises:
            ValueError: If the layer does not know how often ids occur.
        """
        self._check_counts_known()
        return self.masks.sizes()

    def expected_size(self) -> float:
        """The mean over all ids of `sum_k t_ik * (min_size + k)`.

        Raises:
            ValueError: If the layer does not know how often ids occur.
        """
        self._check_counts_known()
        return self.masks.expected_size()

    @classmethod
    def from_table(cls, table: npt.ArrayLike, **kwargs: Any) -> MaskedTwinEmbedding:
        """A layer that starts from a trained table.

        Args:
            table: Floats of shape `(input_dim, output_dim)`.
            **kwargs: Other arguments of the layer.

        Raises:
            ValueError: If `table` is not made of numbers of two axes.
        """
        values = checks.check_table(table)
        return cls(values.shape[0], values.shape[1], weights=values, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        masks = self.masks.get_config()
        config.update({name: masks[name] for name in _OF_MASKS})
        config["embeddings_constraint"] = constraints.serialize(
            self.embeddings_constraint
        )
        return config
