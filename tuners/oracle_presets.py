"""`EDSOracle` with a method chosen, whose arguments it takes as its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from keras_eds import methods
from keras_eds.field import Field
from keras_eds.tuners.oracle import Budgets, EDSOracle


class _Preset(EDSOracle):
    preset: ClassVar[type[methods.Method]]

    def __init__(
        self,
        fields: Sequence[Field],
        budget: Budgets,
        objective: Any = None,
        trained: bool = False,
        seed: int | None = None,
        max_retries_per_trial: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(
            fields,
            budget,
            self.preset(**options),
            objective,
            trained,
            seed,
            max_retries_per_trial=max_retries_per_trial,
        )


class SSEDSOracle(_Preset):
    """`EDSOracle` with the method SSEDS.

    Args:
        fields: The tables to search.
        budget: A budget or a list of them.
        objective: A metric's name or a `keras_tuner.Objective`.
        trained: Whether the model is trained already.
        seed: Seed of the search.
        max_retries_per_trial: How often to repeat a stage that failed.
        **options: The arguments of `keras_eds.methods.SSEDS`.

    Example:

    >>> oracle = SSEDSOracle(fields, budget=0.1, basis="columns")
    """

    preset = methods.SSEDS


class AMTLOracle(_Preset):
    """`EDSOracle` with the method AMTL.

    Args:
        fields: The tables to search.
        budget: A budget or a list of them.
        objective: A metric's name or a `keras_tuner.Objective`.
        trained: Whether the model is trained already.
        seed: Seed of the search.
        max_retries_per_trial: How often to repeat a stage that failed.
        **options: The arguments of `keras_eds.methods.AMTL`.

    Example:

    >>> oracle = AMTLOracle(fields, budget=0.1, min_size=1)
    """

    preset = methods.AMTL


class CIESSOracle(_Preset):
    """`EDSOracle` with the method CIESS.

    Args:
        fields: The tables to search.
        budget: A budget or a list of them.
        objective: A metric's name or a `keras_tuner.Objective`.
        trained: Whether the model is trained already.
        seed: Seed of the search.
        max_retries_per_trial: How often to repeat a stage that failed.
        **options: The arguments of `keras_eds.methods.CIESS`.

    Example:

    >>> oracle = CIESSOracle(fields, budget=0.1, episodes=5)
    """

    preset = methods.CIESS
