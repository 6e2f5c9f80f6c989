"""Prefix masks whose length is learned from how often an id occurs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import activations, initializers, ops
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

from keras_eds.argument_checks import check_choice, check_integer, check_number
from keras_eds.backend.lookup import gather, lookup
from keras_eds.layers import masked_twin_checks as checks
from keras_eds.layers import prefix_mask
from keras_eds.layers.counts_variable import CountsVariable
from keras_eds.layers.frequency_features import (
    ALPHA_FROM,
    COLUMNS,
    NUM_FEATURES,
    frequency_groups,
)
from keras_eds.layers.id_counts import check_counts
from keras_eds.layers.twin_mlps import TwinMLPs


@keras.saving.register_keras_serializable(package="keras_eds")
class TwinMasks(keras.layers.Layer):
    """The masks of `MaskedTwinEmbedding`, for vectors that stand elsewhere.

    `masks(ids)` has the shape of `ids` with `output_dim` appended and is 1 for the
    first `sizes()[id]` values of a vector, 0 for the others.

    Args:
        input_dim: Number of ids.
        output_dim: Width of the vectors.
        groups: See `MaskedTwinEmbedding`, as all that follow.
        hidden_units: Widths of the hidden layers.
        activation: Activation of the hidden layers.
        twins: Whether there are two networks.
        alpha_from: What is standardised for `alpha`.
        temperature: Float above 0.
        min_size: The smallest size.
        size_spread: How widely sizes are spread at first.
        size_penalty: Float of at least 0, or None for no penalty.
        mask_zero: Whether id 0 is padding, which has the least size.
        seed: Seed of the networks.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> masks = TwinMasks(3, 4)
    >>> masks.update_frequencies([0, 5, 9])
    >>> masks.sizes()
    array([1, 4, 4])

    Reference:
        See `MaskedTwinEmbedding`.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        groups: int = 128,
        hidden_units: Any = (32,),
        activation: Any = "relu",
        twins: bool = True,
        alpha_from: str = "log_count",
        temperature: float = 1.0,
        min_size: int = 1,
        size_spread: float = 0.25,
        size_penalty: float | None = None,
        mask_zero: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_dim = check_integer("input_dim", input_dim)
        self.output_dim = check_integer("output_dim", output_dim)
        self.min_size = checks.check_min_size(min_size, output_dim)
        self.groups = check_integer("groups", groups, 2)
        check_choice("alpha_from", alpha_from, ALPHA_FROM)
        self.hidden_units = checks.check_hidden_units(hidden_units)
        self.activation = activations.get(activation)
        self.twins = twins
        self.alpha_from = alpha_from
        self.size_spread = check_number("size_spread", size_spread, above=0)
        self.mask_zero = mask_zero
        self.seed = seed
        # Ids are no floats.
        self.autocast = False
        self._temperature = check_number("temperature", temperature, above=0)
        self._size_penalty = size_penalty
        self.temperature = self._add_fixed("temperature", (), self._temperature)
        # What every further value of an id of each group costs, in logits; a search
        # sets it.
        self.price = self._add_fixed("price", (groups,), 0.0)
        self.size_penalty = None
        if size_penalty is not None:
            check_number("size_penalty", size_penalty, least=0)
            self.size_penalty = self._add_fixed("size_penalty", (), size_penalty)
        self._matrix = prefix_mask.prefix_matrix(output_dim, self.min_size)
        # Group 0 has the least size, whatever the twins say, and teaches them nothing.
        self._taught = np.ones((groups, 1), "float32")
        self._taught[0] = 0.0
        self._least = np.zeros(groups, "float32")
        self._least[0] = 1e30

    def _add_fixed(self, name: str, shape: tuple[int, ...], value: float) -> Any:
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializers.Constant(value),
            dtype="float32",
            trainable=False,
        )

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.counts = CountsVariable(self.input_dim)
        self.group_of_id = self.add_weight(
            name="group_of_id",
            shape=(self.input_dim,),
            initializer="zeros",
            dtype="int32",
            trainable=False,
        )
        self.group_features = self._add_fixed("features", (self.groups, COLUMNS), 0.0)
        self.group_share = self._add_fixed("group_share", (self.groups,), 0.0)
        self.mlps = TwinMLPs(
            self.hidden_units,
            self._first_logits(),
            self.activation,
            self.twins,
            self.seed,
            dtype="float32",
            name="twins",
        )
        self.mlps.build((None, NUM_FEATURES), (None, 1))

    def _first_logits(self) -> npt.NDArray[np.float64]:
        """Half a bell curve on the largest size, once divided by the temperature."""
        short = np.arange(len(self._matrix))[::-1] / self.output_dim
        return np.asarray(-self._temperature * (short / self.size_spread) ** 2 / 2)

    def update_frequencies(self, counts: Any) -> None:
        """Takes new counts, which gives ids new sizes. The twins stay as they are.

        Args:
            counts: How often each id occurs, shape `(input_dim,)`. Held as float32.

        Raises:
            ValueError: If they are not `input_dim` numbers of at least 0.
        """
        array = check_counts(counts, self.input_dim)
        groups = frequency_groups(array, self.groups, self.alpha_from, self.mask_zero)
        self.build()
        self.group_of_id.assign(groups.of_id)
        self.group_features.assign(groups.features)
        self.group_share.assign(groups.share)
        self.counts.assign(array.astype("float32"))

    def call(self, inputs: Any, training: Any = None) -> Any:
        self._check_known()
        groups = lookup(self.group_of_id, inputs, "int32")
        return gather(self._group_masks(training), groups)

    def _group_masks(self, training: Any) -> Any:
        """The mask of each group, shape `(groups, output_dim)`."""
        logits = self._group_logits()
        hard = prefix_mask.hard_mask(logits, self._matrix, self.min_size)
        # A model whose `call` has no `training` argument passes None in training
        # too. Values are the same either way.
        if training is not None and not training:
            return hard
        soft = prefix_mask.soft_mask(logits, self._matrix)
        if self.size_penalty is not None:
            self.add_loss(self.size_penalty * self._expected_size(soft))
        return prefix_mask.straight_through(hard, soft)

    def _group_logits(self) -> Any:
        """Logits over the temperature, shape `(groups, choices)`."""
        features = ops.convert_to_tensor(self.group_features)
        alpha = features[:, NUM_FEATURES:]
        logits = self.mlps(features[:, :NUM_FEATURES], alpha)
        logits = ops.multiply(logits, self._taught) / self.temperature
        price = ops.expand_dims(ops.add(self.price, self._least), -1)
        sizes = np.arange(len(self._matrix), dtype="float32")
        return logits - ops.multiply(price, sizes)

    def _expected_size(self, soft: Any) -> Any:
        return ops.sum(self.group_share * ops.sum(soft, axis=-1))

    @property
    def known(self) -> bool:
        """Whether it is known how often ids occur."""
        # A model may be built, and so reloaded, before counts are known.
        return self.built and (in_symbolic_scope() or self.counts.known)

    def _check_known(self) -> None:
        if not self.known:
            raise ValueError(
                f"Layer {self.name!r} (TwinMasks) must know how often ids occur before "
                "it is called. Received: no counts. Call its "
                "update_frequencies(counts)."
            )

    def sizes(self) -> npt.NDArray[np.int64]:
        """How many values each id keeps, shape `(input_dim,)`.

        Raises:
            ValueError: If the layer does not know how often ids occur.
        """
        self._check_known()
        sizes = prefix_mask.hard_sizes(self._group_logits(), self.min_size)
        by_group = ops.convert_to_numpy(sizes).astype(np.int64)
        return np.asarray(by_group[ops.convert_to_numpy(self.group_of_id)])

    def expected_size(self) -> float:
        """The mean over all ids of `sum_k t_ik * (min_size + k)`.

        Raises:
            ValueError: If the layer does not know how often ids occur.
        """
        self._check_known()
        soft = prefix_mask.soft_mask(self._group_logits(), self._matrix)
        return float(ops.convert_to_numpy(self._expected_size(soft)))

    def group_logits(self) -> npt.NDArray[np.float64]:
        """The logit of each size for each group of ids, over the temperature.

        Returns:
            Floats of shape `(groups, output_dim - min_size + 1)`.

        Raises:
            ValueError: If the layer does not know how often ids occur.
        """
        self._check_known()
        return np.asarray(ops.convert_to_numpy(self._group_logits()), np.float64)

    def group_counts(self) -> npt.NDArray[np.float64]:
        """How often an id of each group occurs, on average; 0 where there is none.

        Raises:
            ValueError: If the layer does not know how often ids occur.
        """
        self._check_known()
        of_id = ops.convert_to_numpy(self.group_of_id)
        counts = ops.convert_to_numpy(self.counts)
        ids = np.bincount(of_id, minlength=self.groups)
        totals = np.bincount(of_id, counts, minlength=self.groups)
        return np.asarray(totals / np.maximum(ids, 1), np.float64)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (*input_shape, self.output_dim)

    def compute_output_spec(
        self, inputs: Any, training: Any = None
    ) -> keras.KerasTensor:
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype="float32")

    def build_from_config(self, config: Any) -> None:
        """Makes the weights, which do not depend on the inputs."""
        self.build()

    def get_build_config(self) -> dict[str, Any]:
        """Nothing: the weights do not depend on the inputs."""
        return {"input_shape": None}

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        config.update(
            input_dim=self.input_dim,
            output_dim=self.output_dim,
            groups=self.groups,
            hidden_units=list(self.hidden_units),
            activation=activations.serialize(self.activation),
            twins=self.twins,
            alpha_from=self.alpha_from,
            temperature=self._temperature,
            min_size=self.min_size,
            size_spread=self.size_spread,
            size_penalty=self._size_penalty,
            mask_zero=self.mask_zero,
            seed=self.seed,
        )
        return config
