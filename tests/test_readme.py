"""The README is true: its code runs, its commands are the ones that CI calls."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_eds

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_blocks_run_in_order(tmp_path: Path) -> None:
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks("python")))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    small = keras.saving.load_model(tmp_path / "runs" / "small.keras")
    narrow = keras_eds.layers.PrunedFieldEmbedding
    assert any(isinstance(layer, narrow) for layer in small.layers)


def test_first_two_shell_blocks_are_one_command_each() -> None:
    main, tests = blocks("bash")[:2]
    assert main.count("\n") == tests.count("\n") == 1
    assert "examples/quickstart.py" in main
    assert tests.strip().endswith("python -m pytest")


def test_ci_takes_the_test_command_from_the_readme() -> None:
    pattern = re.search(r"grep -m1 '(.*)' README.md", (ROOT / ".ci/run").read_text())
    assert pattern is not None
    lines = [line for line in README.splitlines() if re.search(pattern[1], line)]
    assert lines[0] == blocks("bash")[1].strip()


@pytest.mark.parametrize("picture", re.findall(r"!\[.*?\]\((.*?)\)", README))
def test_pictures_exist(picture: str) -> None:
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


def test_methods_table_names_every_method() -> None:
    from keras_eds.methods import METHODS

    for name, method in METHODS.items():
        assert f'| `"{name}"` | `{method.__name__}(' in README
