"""Functions that call other layers than those that they were written for."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

Copy = Callable[[Any], Any]
FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)


def redirected(
    function: Any, copy: Copy, outer: tuple[types.FunctionType, ...] = ()
) -> Any:
    """A function that calls the copies of the layers that it called.

    Args:
        function: A function, method or partial, or a layer itself.
        copy: What stands for what the function refers to.
        outer: The functions in whose closures it was found.
    """
    if isinstance(function, functools.partial):
        given = [redirected(argument, copy, outer) for argument in function.args]
        inner: Callable[..., Any] = redirected(function.func, copy, outer)
        return functools.partial(inner, *given, **function.keywords)
    if isinstance(function, types.MethodType):
        return types.MethodType(function.__func__, copy(function.__self__))
    if not isinstance(function, types.FunctionType):
        return copy(function)
    if function in outer:
        return function
    cells = tuple(
        types.CellType(redirected(cell.cell_contents, copy, (*outer, function)))
        for cell in function.__closure__ or ()
    )
    scope = dict(function.__globals__)
    scope.update({n: copy(scope[n]) for n in function.__code__.co_names if n in scope})
    new = types.FunctionType(
        function.__code__, scope, function.__name__, function.__defaults__, cells
    )
    new.__kwdefaults__ = function.__kwdefaults__
    return new
