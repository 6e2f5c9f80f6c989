from __future__ import annotations

import keras
import pytest


def pytest_configure(config: pytest.Config) -> None:
    # TensorFlow's variables do not know NumPy 2's `copy` keyword yet.
    config.addinivalue_line(
        "filterwarnings", "ignore:__array__ implementation:DeprecationWarning"
    )


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.utils.set_random_seed(0)
