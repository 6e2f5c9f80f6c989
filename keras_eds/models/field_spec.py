"""The description of one categorical input field."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from keras_eds.argument_checks import check_integer


@dataclasses.dataclass(frozen=True)
class FieldSpec:
    """One categorical input of a model: its name, its ids, its shape.

    Args:
        name: Key of the field in the dict of inputs. The model names the
            field's table `<name>_embedding`, because Keras wants the input
            to be called like its key and every name to be used once.
        vocabulary_size: Number of rows of the field's table: ids are
            `0 .. vocabulary_size - 1`. Id 0 stands for unknown (single-valued
            fields) or for padding (multi-hot fields).
        multi_hot: If `False`, an example holds one id, shape `(batch,)`. If
            `True`, it holds several, shape `(batch, n)`, padded with 0; their
            vectors are averaged.

    Raises:
        ValueError: If the name is empty or holds a `/`, or if
            `vocabulary_size` is not a positive integer.

    Example:

    >>> FieldSpec("genres", 19, multi_hot=True).embedding_name
    'genres_embedding'
    """

    name: str
    vocabulary_size: int
    multi_hot: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or "/" in self.name:
            raise ValueError(
                "`name` must be a non-empty string without '/'. "
                f"Received: name={self.name!r}. Give the field another name."
            )
        remedy = f"Count the ids of field {self.name!r}, id 0 included."
        size = check_integer("vocabulary_size", self.vocabulary_size, remedy=remedy)
        object.__setattr__(self, "vocabulary_size", size)

    @property
    def embedding_name(self) -> str:
        """Name of the layer that holds the field's table."""
        return f"{self.name}_embedding"


def check_fields(fields: Sequence[FieldSpec]) -> tuple[FieldSpec, ...]:
    """Return `fields` as a tuple, or say what is wrong with them.

    Args:
        fields: The fields of one model.

    Raises:
        TypeError: If an element is not a `FieldSpec`.
        ValueError: If there is no field, or two have the same name.

    Example:

    >>> len(check_fields([FieldSpec("user", 10), FieldSpec("item", 20)]))
    2
    """
    fields = tuple(fields)
    if not fields:
        raise ValueError(
            "`fields` must hold at least one field. Received: fields=(). "
            "Pass `FieldSpec(name, vocabulary_size)` for each input."
        )
    for field in fields:
        if not isinstance(field, FieldSpec):
            raise TypeError(
                "`fields` must hold `FieldSpec` only. Received: "
                f"{field!r} of type {type(field).__name__}. "
                "Wrap it: `FieldSpec(name, vocabulary_size)`."
            )
    names = [field.name for field in fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            "`fields` must have different names. Received: "
            f"{twice} more than once. Rename or drop the copies."
        )
    return fields
