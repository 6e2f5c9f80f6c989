"""Give every user and movie of MovieLens-1M a size of its own.

    python examples/row_sizes.py

Trains a DeepFM, keeps a tenth of its table bytes with `PrincipalRows`
(the index of the rows counted), prints what stays, and draws the sizes against
how often an id comes: `popularity.png`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras

import keras_eds
from keras_eds import reporting
from keras_eds.datasets import load_movielens_1m
from keras_eds.methods import PrincipalRows
from keras_eds.models import DeepFM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default=None, help="where MovieLens-1M is")
    parser.add_argument("--out", default="runs/row_sizes", type=Path)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    data = load_movielens_1m(arguments.data)
    model = DeepFM(data.fields, embedding_dim=32, hidden_units=(64, 64), dropout=0.2)
    optimizer = keras_eds.optimizers.LazyAdam(2e-3)
    model.compile(
        optimizer, "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")]
    )
    stop = keras.callbacks.EarlyStopping(
        "val_loss", patience=2, restore_best_weights=True
    )
    options = {
        "validation_data": data.validation,
        "batch_size": 4096,
        "epochs": 20,
        "callbacks": [stop],
        "verbose": 2,
    }
    model.fit(*data.train, **options)
    search = keras_eds.EDSSearch(
        model,
        budget=0.1,
        method=PrincipalRows(compare=False),
        objective="val_auc",
        directory=arguments.out,
        overwrite=True,
    )
    search.search(*data.train, **options)
    search.results_summary()
    small, plan = search.get_best_models()[0], search.get_best_plans()[0]
    x, y = data.test
    for name, scored in (("full", model), ("a tenth", small)):
        loss, auc = scored.evaluate(x, y, batch_size=8192, verbose=0)
        print(f"{name}: test AUC {auc:.4f}, log loss {loss:.4f}")
    counts = keras_eds.count_ids(model, {"x": data.train[0]})
    path = arguments.out / "popularity.png"
    reporting.plot_popularity(plan, counts, path)
    print(plan, f"Picture: {path}", sep="\n")


if __name__ == "__main__":
    main()
