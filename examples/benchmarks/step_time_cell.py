"""One cell of `step_time.py`: one model trained by one stack, in this process."""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

WIDTH, BATCH = 32, 1024
EDS, KERAS, TF_KERAS, TORCH = "keras_eds", "Keras", "tf_keras", "torch sparse"
JAX, EDS_JAX = "Keras on JAX", "keras_eds on JAX"


@dataclass(frozen=True)
class Cell:
    """One child process."""

    stack: str
    optimizer: str
    rows: int
    tables: int = 1
    ids: int = 1
    draw: str = "uniform"
    hidden: int = 0
    steps: int = 300

    @property
    def setting(self) -> str:
        ids = f"{self.ids} {self.draw} id" + ("s" if self.ids > 1 else "")
        tables = f"{self.tables} table" + ("s" if self.tables > 1 else "")
        mlp = " + MLP" if self.hidden else ""
        return f"{tables} of {self.rows:.0e} rows{mlp}, {ids}".replace("e+0", "e")


def draw_ids(cell: Cell, steps: int) -> list[Any]:
    """For each table, ids of shape (steps, BATCH) or (steps, BATCH, ids)."""
    rng = np.random.default_rng(0)
    shape = (steps, BATCH) if cell.ids == 1 else (steps, BATCH, cell.ids)
    shuffled = rng.permutation(cell.rows).astype("int32")
    if cell.draw == "zipf":
        draws = [rng.zipf(1.1, shape) - 1 for _ in range(cell.tables)]
        return [shuffled[draw % cell.rows] for draw in draws]
    return [rng.choice(shuffled, shape) for _ in range(cell.tables)]


def keras_model(keras: Any, cell: Cell) -> Any:
    inputs, vectors = [], []
    for _ in range(cell.tables):
        ids = keras.Input(() if cell.ids == 1 else (cell.ids,), dtype="int32")
        rows = keras.layers.Embedding(cell.rows, WIDTH)(ids)
        if cell.ids > 1:
            rows = keras.layers.GlobalAveragePooling1D()(rows)
        inputs.append(ids)
        vectors.append(rows)
    x = keras.layers.Concatenate()(vectors) if cell.tables > 1 else vectors[0]
    for _ in range(2 if cell.hidden else 0):
        x = keras.layers.Dense(cell.hidden, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(1)(x))


def run_keras(cell: Cell, ids: list[Any], y: Any) -> list[Any]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if cell.stack == TF_KERAS:
        import tf_keras as keras
    else:
        import keras
    model = keras_model(keras, cell)
    make = getattr(keras.optimizers, cell.optimizer.removeprefix("Lazy"))
    model.compile(make(0.001), "mse")
    if cell.stack in (EDS, EDS_JAX):
        import keras_eds

        keras_eds.use_sparse_lookups(model, lazy_optimizer=True)
        assert type(model.optimizer).__name__ == cell.optimizer

    class Ends(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            ends.append(clocks())

    ends: list[Any] = []
    data = tf.data.Dataset.from_tensor_slices((tuple(ids), y))
    model.fit(data, verbose=0, shuffle=False, callbacks=[Ends()])
    return ends


def run_torch(cell: Cell, ids: list[Any], y: Any) -> list[Any]:
    import torch

    torch.set_num_threads(1)
    make = torch.nn.Embedding if cell.ids == 1 else torch.nn.EmbeddingBag
    tables = torch.nn.ModuleList(
        [make(cell.rows, WIDTH, sparse=True) for _ in range(cell.tables)]
    )
    dense = torch.nn.Linear(WIDTH * cell.tables, 1)
    optimizers: list[Any] = []
    if cell.optimizer == "SparseAdam":  # it takes no dense gradients
        optimizers.append(torch.optim.SparseAdam(tables.parameters(), 0.001))
        optimizers.append(torch.optim.Adam(dense.parameters(), 0.001))
    else:
        both = [*tables.parameters(), *dense.parameters()]
        optimizers.append(torch.optim.Adagrad(both, 0.001))
    inputs, targets = [torch.from_numpy(i) for i in ids], torch.from_numpy(y)
    ends = []
    for step in range(len(y)):
        for optimizer in optimizers:
            optimizer.zero_grad()
        vectors = [t(i[step]) for t, i in zip(tables, inputs, strict=True)]
        x = torch.cat(vectors, -1) if cell.tables > 1 else vectors[0]
        loss = torch.nn.functional.mse_loss(dense(x), targets[step])
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        loss.item()
        ends.append(clocks())
        if step == 0:  # zeros come into memory only when they are written
            for state in optimizers[0].state.values():
                for slot in (s for s in state.values() if torch.is_tensor(s)):
                    slot.add_(0)
    return ends


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def child(cell: Cell) -> dict[str, Any]:
    warm = min(20, max(3, cell.steps // 4))
    ids = draw_ids(cell, warm + cell.steps)
    y = np.random.default_rng(1).normal(size=(*ids[0].shape[:2], 1)).astype("float32")
    run = run_torch if cell.stack == TORCH else run_keras
    ms = np.diff(run(cell, ids, y), axis=0)[warm - 1 :] * 1e3
    wall, cpu = np.median(ms, axis=0)
    return {
        **asdict(cell),
        "setting": cell.setting,
        "ms": wall,
        "ms_p90": np.quantile(ms[:, 0], 0.9),
        "cpu_ms": cpu,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


if __name__ == "__main__":
    print(json.dumps(child(Cell(**json.loads(sys.argv[1])))))
