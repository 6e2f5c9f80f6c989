from __future__ import annotations

import keras
import pytest


def pytest_configure(config: pytest.Config) -> None:
    for known in (
        # TensorFlow's variables do not know NumPy 2's `copy` keyword yet.
        "ignore:__array__ implementation:DeprecationWarning",
        # FeatureSpace asks for int64, which JAX does not have by default.
        "ignore:Explicitly requested dtype int64:UserWarning",
    ):
        config.addinivalue_line("filterwarnings", known)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.utils.set_random_seed(0)
