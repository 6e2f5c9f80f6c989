"""How the rows of several ids are made one."""

from __future__ import annotations

from typing import Any

from keras import ops

COMBINERS = ("mean", "sqrtn", "sum")


def check_combiner(combiner: str | None) -> None:
    """Refuses a combiner that does not exist.

    Raises:
        ValueError: If `combiner` is neither None nor one of `COMBINERS`.
    """
    if combiner is not None and combiner not in COMBINERS:
        raise ValueError(
            f"`combiner` must be None or one of {COMBINERS}. "
            f"Received: combiner={combiner!r}. Choose one of these."
        )


def scale_of(
    ids: Any, weights: Any, combiner: str | None, dtype: str, layer_name: str
) -> Any:
    """The weight of each looked-up row in its sum, or None without one."""
    if combiner is None:
        if weights is not None:
            raise ValueError(
                "`weights` need a `combiner`. Received: combiner=None. Give "
                f"combiner=... to layer {layer_name!r} or call it without weights."
            )
        return None
    single = len(ids.shape) <= 1
    if single and (weights is None or combiner != "sum"):
        return None
    scale = ops.ones(ops.shape(ids), dtype) if weights is None else weights
    scale = ops.cast(scale, dtype)
    if single or combiner == "sum":
        return scale
    total = scale if combiner == "mean" else ops.square(scale)
    total = ops.sum(total, axis=-1, keepdims=True)
    total = total if combiner == "mean" else ops.sqrt(total)
    return ops.divide_no_nan(scale, total)


def reduce_rows(rows: Any, scale: Any) -> Any:
    """The sum of `rows` by `scale` over the last axis of the ids."""
    rows = rows * ops.expand_dims(scale, -1)
    return rows if len(rows.shape) <= 2 else ops.sum(rows, axis=-2)


def reduce_constant(constant: Any, scale: Any) -> Any:
    """What `reduce_rows` gives where every row is `constant`."""
    if scale is None:
        return constant
    total = scale if len(scale.shape) <= 1 else ops.sum(scale, axis=-1)
    return ops.expand_dims(total, -1) * constant
