"""What AMTL's masked twins keep of a trained DeepFM at several penalties.

Trains a DeepFM on MovieLens-1M, puts `MaskedTwinEmbedding` in the place of every
table, warm-started, and trains on with a penalty on the kept share of the table
values; then cuts the tables to the learned sizes. Test AUC of the cut model against
the bytes that it keeps, the index of the rows counted.

    KERAS_BACKEND=jax python examples/benchmarks/masked_twins.py

Writes `results/masked_twins.md`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

import keras_eds
from keras_eds import DimensionPlan, RowPlan
from keras_eds.datasets import load_movielens_1m
from keras_eds.layers import MaskedTwinEmbedding, RowSizedEmbedding
from keras_eds.models import DeepFM
from keras_eds.optimizers import LazyAdam

RESULTS = Path(__file__).parent / "results"
PENALTIES = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
EPOCHS = 4


def full_model(data: Any, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    options = {"embedding_dim": 32, "hidden_units": (64, 64), "dropout": 0.2}
    model = DeepFM(data.fields, seed=seed, **options)
    stop = keras.callbacks.EarlyStopping(
        "val_loss", patience=2, restore_best_weights=True
    )
    fit(model, data, 20, [stop])
    return model


def fit(model: keras.Model, data: Any, epochs: int, callbacks: Any = ()) -> None:
    model.compile(LazyAdam(2e-3), "binary_crossentropy")
    model.fit(
        *data.train,
        validation_data=data.validation,
        batch_size=4096,
        epochs=epochs,
        callbacks=list(callbacks),
        verbose=0,
    )


def with_tables(model: keras.Model, make: Any) -> keras.Model:
    """The model with `make(table layer)` in the place of every table."""
    kinds = (keras.layers.Embedding, MaskedTwinEmbedding)

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, kinds):
            return make(layer)
        return layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone)
    for layer in copy.layers:
        if not isinstance(layer, (*kinds, RowSizedEmbedding)):
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return copy


def like(layer: Any) -> dict[str, Any]:
    """What every layer in the place of a table shares with it."""
    return {"name": layer.name, "mask_zero": layer.mask_zero}


def masked(full: keras.Model, counts: dict[str, np.ndarray], penalty: float) -> Any:
    values = sum(field.num_parameters for field in keras_eds.find_fields(full))

    def make(layer: keras.layers.Embedding) -> MaskedTwinEmbedding:
        table = keras.ops.convert_to_numpy(layer.embeddings)
        # Added up over the tables: penalty times the kept share of all values.
        share = len(table) * penalty / values
        options = {"counts": counts[layer.name], "size_penalty": share, "min_size": 0}
        return MaskedTwinEmbedding.from_table(table, **options, **like(layer))

    return with_tables(full, make)


def cut(model: keras.Model) -> keras.Model:
    def make(layer: MaskedTwinEmbedding) -> RowSizedEmbedding:
        table = keras.ops.convert_to_numpy(layer.embeddings)
        return RowSizedEmbedding.from_dense(table, layer.sizes(), **like(layer))

    return with_tables(model, make)


def test_auc(model: keras.Model, data: Any) -> float:
    x, y = data.test
    scores = model.predict(x, batch_size=8192, verbose=0)[:, 0]
    return float(roc_auc_score(y, scores))


def compare(data: Any, seed: int) -> list[str]:
    full = full_model(data, seed)
    fields = {field.name: field for field in keras_eds.find_fields(full)}
    counts = keras_eds.count_ids(full, {"x": data.train[0]})
    total = sum(field.num_bytes for field in fields.values())
    rows = [f"| {seed} | full |  | 100% | {test_auc(full, data):.4f} |"]
    for penalty in PENALTIES:
        keras.utils.set_random_seed(seed)
        model = masked(full, counts, penalty)
        fit(model, data, EPOCHS)
        small = cut(model)
        sizes = {name: model.get_layer(name).sizes() for name in fields}
        plan = DimensionPlan(tuple(RowPlan(fields[n], s) for n, s in sizes.items()))
        means = ", ".join(f"{s.mean():.1f}" for s in sizes.values())
        share = plan.num_bytes() / total
        auc = test_auc(small, data)
        rows.append(f"| {seed} | {penalty} | {means} | {share:.1%} | {auc:.4f} |")
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--data", default=None, help="where MovieLens-1M is")
    arguments = parser.parse_args()
    data = load_movielens_1m(arguments.data)
    lines = [
        "# Masked twins at several penalties",
        "",
        "Made by `KERAS_BACKEND=jax python examples/benchmarks/masked_twins.py` on "
        f"MovieLens-1M: DeepFM, width 33, {EPOCHS} epochs from a trained model with "
        "`penalty * kept share of all table values` in the loss, then cut.",
        "",
        "| seed | penalty | mean sizes by field | bytes kept | test AUC |",
        "|---|---|---|---|---|",
    ]
    for seed in arguments.seeds:
        lines += compare(data, seed)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "masked_twins.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
