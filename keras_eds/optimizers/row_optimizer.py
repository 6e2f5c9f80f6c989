"""What the lazy optimizers share: row updates, and the refusal of the rest."""

from __future__ import annotations

from typing import Any

import keras

if keras.backend.backend() == "tensorflow":
    from keras_eds.backend.sparse_gradients import SparseRowUpdates as RowUpdates
else:

    class RowUpdates:  # type: ignore[no-redef]
        """Nothing to do: every gradient is dense on this backend."""


class RowOptimizer(RowUpdates):
    """Mixed in before a Keras optimizer; see `SparseRowUpdates`.

    Raises:
        ValueError: for `use_ema` and `gradient_accumulation_steps`, on every
            backend, so that a saved model opens on all of them.
    """

    def __init__(
        self,
        *args: Any,
        use_ema: bool = False,
        gradient_accumulation_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._refuse("use_ema", use_ema, False)
        self._refuse("gradient_accumulation_steps", gradient_accumulation_steps, None)
        super().__init__(*args, **kwargs)

    def _refuse(self, argument: str, value: Any, needed: Any) -> None:
        if value:
            raise ValueError(
                f"`{argument}` must be {needed}: it reads and writes every row of "
                "every table in each step, which a lazy optimizer exists to avoid. "
                f"Received: {argument}={value}. Use "
                f"`keras.optimizers.{type(self).__name__.removeprefix('Lazy')}`, "
                f"or leave `{argument}` out."
            )
