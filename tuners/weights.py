"""Weights in files: without the optimizer's state, and whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import keras

from keras_eds.errors import ProjectError
from keras_eds.surgery import keras_training


def save_weights(model: keras.Model, path: Path) -> None:
    """Saves weights; whoever is killed meanwhile leaves the old file."""
    part = path.with_name(f"part-{os.getpid()}-{path.name}")
    with keras_training.without_optimizer(model):
        model.save_weights(part)
    part.replace(path)


def load_weights(model: keras.Model, path: Path) -> None:
    """Loads what `save_weights` saved.

    Raises:
        ProjectError: If the file is damaged or of another model.
    """
    try:
        with keras_training.without_optimizer(model):
            model.load_weights(path)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise damaged(path, error) from error


def save_model(model: keras.Model, path: Path) -> None:
    """Saves a whole model, all or nothing."""
    part = path.with_name(f"part-{os.getpid()}-{path.name}")
    with keras_training.without_optimizer(model):
        model.save(part)
    part.replace(path)


def damaged(path: Path, error: Exception) -> ProjectError:
    """What to raise for a file of a project that cannot be read."""
    return ProjectError(
        f"`directory` must hold a whole project. Received: {str(path)!r}, which is "
        f"missing, damaged or of another model ({type(error).__name__}: {error}). "
        "Restore it, or start again with overwrite=True."
    )
