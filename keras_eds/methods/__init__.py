"""The methods that decide how much of every table stays."""

from keras_eds.methods.amtl import AMTL
from keras_eds.methods.base import Method, Outcome, Proposal, SearchState
from keras_eds.methods.ciess.ciess import CIESS
from keras_eds.methods.mde import MDE
from keras_eds.methods.principal_rows import PrincipalRows
from keras_eds.methods.random_row_sizes import RandomRowSizes
from keras_eds.methods.random_sizes import RandomSizes
from keras_eds.methods.sampled_rows import SampledRows
from keras_eds.methods.sseds import SSEDS
from keras_eds.methods.uniform import Uniform

METHODS: dict[str, type[Method]] = {
    "sseds": SSEDS,
    "principal_rows": PrincipalRows,
    "uniform": Uniform,
    "random": RandomSizes,
    "random_rows": RandomRowSizes,
    "mde": MDE,
    "amtl": AMTL,
    "ciess": CIESS,
}


def get(method: str | Method) -> Method:
    """A method by name, or the object itself.

    Raises:
        ValueError: If there is no such method.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]()
    raise ValueError(
        f"`method` must be one of {sorted(METHODS)} or a Method object. "
        f"Received: method={method!r}. Choose one, as in method='sseds'."
    )


__all__ = [
    "AMTL",
    "CIESS",
    "MDE",
    "METHODS",
    "Method",
    "Outcome",
    "PrincipalRows",
    "Proposal",
    "RandomRowSizes",
    "RandomSizes",
    "SSEDS",
    "SampledRows",
    "SearchState",
    "Uniform",
    "get",
]
