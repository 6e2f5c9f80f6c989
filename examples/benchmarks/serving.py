"""File sizes and latency of served models: full, cut, cut and int8, in every format.

    python examples/serve.py
    python examples/benchmarks/serving.py

Reads the models that the example saved, writes each in every format, and times each
file at batches of 1, 64 and 4,096 on one thread, in processor time, which other work on
the machine hardly changes. Writes `results/serving.md`.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_eds
from keras_eds.budget import format_bytes
from keras_eds.datasets import load_movielens_1m
from keras_eds.serving.export import FORMATS

RESULTS = Path(__file__).parent / "results"
BATCHES = (1, 64, 4096)
HEAD = """# Files and latency of served models

DeepFM on MovieLens-1M of `examples/serve.py`: eight fields, width 32. Bytes are those
of the file, or of all files in the folder of a SavedModel; "variables" are the bytes of
a SavedModel without its graph. Milliseconds of processor time a call on one thread of
{cpu}, the least of {rounds} means of {calls} calls. `largest difference` is that of the
outputs to those of the model in Keras, over 4,096 examples.

`python examples/serve.py && python examples/benchmarks/serving.py`
"""

COLUMNS = ["model", "test AUC", "format", "file", "variables", "batch 1", "64", "4,096",
           "largest difference"]  # fmt: skip

Call = Callable[[dict[str, np.ndarray]], np.ndarray]


def saved_model(path: Path) -> Call:
    loaded = tf.saved_model.load(str(path))
    # A server has the tensors already.
    return lambda x: loaded.serve(x)


def litert(path: Path) -> Call:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = tf.lite.Interpreter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = Interpreter(str(path), num_threads=1)
    runner = interpreter.get_signature_runner()

    def call(x: dict[str, np.ndarray]) -> np.ndarray:
        return next(iter(runner(**x).values()))

    call.held = interpreter  # the runner does not keep it
    return call


def onnx(path: Path) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    return lambda x: session.run(None, x)[0]


LOADERS = {"tf_saved_model": saved_model, "litert": litert, "onnx": onnx}


def milliseconds(call: Call, x: dict, rounds: int, calls: int) -> float:
    means = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            call(x)
        means.append((time.process_time() - began) / calls)
    return 1000 * min(means)


def size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def rows(name: str, model: keras.Model, data, arguments) -> list[str]:
    x, y = data.test
    auc = model.evaluate(x, y, batch_size=8192, verbose=0, return_dict=True)["auc"]
    lines = []
    for format in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            path = keras_eds.export(model, Path(folder) / "file", format)
            call = LOADERS[format](path)
            cells = []
            for batch in BATCHES:
                part = {key: values[:batch] for key, values in x.items()}
                if format == "tf_saved_model":
                    part = {key: tf.constant(v) for key, v in part.items()}
                out = np.asarray(call(part))
                took = milliseconds(call, part, arguments.rounds, arguments.calls)
                cells.append(f"{took:.2f}")
            here = model.predict_on_batch({k: v[: BATCHES[-1]] for k, v in x.items()})
            variables = format_bytes(size(path / "variables")) if path.is_dir() else ""
            cells = [name, f"{auc:.4f}", format, format_bytes(size(path)), variables,
                     *cells, f"{np.abs(out - here).max():.1e}"]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |\n")
        print(lines[-1], end="", flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("runs/serve"))
    parser.add_argument("--data", default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=20)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    data = load_movielens_1m(arguments.data)
    cpu = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    text = HEAD.format(
        cpu=cpu[0] if cpu else os.uname().machine,
        rounds=arguments.rounds,
        calls=arguments.calls,
    )
    text += f"\n| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"
    paths = sorted(arguments.models.glob("*.keras"), key=_share, reverse=True)
    for path in paths:
        model = keras.saving.load_model(path)
        name = "full" if path.stem == "full" else f"{path.stem} of the table bytes"
        text += "".join(rows(name, model, data, arguments))
        small = keras_eds.quantize_tables(model)
        text += "".join(rows(f"{name}, int8", small, data, arguments))
    (RESULTS / "serving.md").write_text(text)


def _share(path: Path) -> int:
    return 100 if path.stem == "full" else int(path.stem.rstrip("%"))


if __name__ == "__main__":
    main()
