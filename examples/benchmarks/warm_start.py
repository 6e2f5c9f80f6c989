"""Do masks learn sizes faster from a trained model than from scratch?

Puts AMTL's masks on a DeepFM and trains both together for 2 epochs, in which the
library's schedule (`SizeSchedule`) brings the expected bytes down to 25 %. After 1/4,
1/2, 1 and 2 epochs the model is scored on validation data, with the masks as they are
and, without training, at the price at which they are expected to keep 25 % of the
bytes. The schedule is the same for both starts, so bytes are equal too: warm, a full
model that was trained until its validation loss rose, and cold, the same model before
training. As a control, the cold model is trained without masks as well.

    KERAS_BACKEND=jax python examples/benchmarks/warm_start.py

Every score is a line of `results/warm_start.jsonl`; a second call goes on where
the first was stopped. Writes `results/warm_start.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from ctr_budgets import Bench
from ctr_setup import SETTINGS
from sklearn.metrics import roc_auc_score

import keras_eds
from keras_eds.field import total_parameters
from keras_eds.methods import AMTL
from keras_eds.optimizers import LazyAdam
from keras_eds.surgery.masking import Masking, masks_on
from keras_eds.surgery.sites import find_sites
from keras_eds.tuners.size_schedule import SizeSchedule

RESULTS = Path(__file__).parent / "results"
BUDGET = 0.25
# In quarters of an epoch.
MOMENTS, QUARTERS = (1, 2, 4, 8), 8
STARTS = ("warm", "cold", "cold, no masks")


def val_auc(model: keras.Model, data: Any) -> float:
    x, y = data.validation
    scores = model.predict(x, batch_size=8192, verbose=0)[:, 0]
    return float(roc_auc_score(y, scores))


class Scores(keras.callbacks.Callback):
    """Scores at the moments, as the model is and at the budget."""

    def __init__(
        self, data: Any, maskings: Sequence[Masking], schedule: SizeSchedule | None
    ) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._data, self._maskings, self._schedule = data, maskings, schedule

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch + 1 not in MOMENTS:
            return
        row = {"epochs": (epoch + 1) / 4, "auc": val_auc(self.model, self._data)}
        if self._schedule is not None:
            row["kept"] = self._kept()
            price = self._schedule._price
            price.meet(self._schedule._limits[0])
            row["budget_auc"] = val_auc(self.model, self._data)
            row["budget_kept"] = self._kept()
            price.meet(self._schedule._target)
        self.rows.append(row)

    def _kept(self) -> float:
        """The share of all table values that masks let through."""
        fields = [masking.site.field for masking in self._maskings]
        kept = sum(int(m.masks.sizes().sum()) for m in self._maskings)
        return kept / total_parameters(fields)


def train(bench: Bench, model: keras.Model, callbacks: Any) -> None:
    """Trains for 2 epochs, with a new optimizer and the seed of the bench."""
    x, y = bench.data.train
    batch_size = bench.settings["batch_size"]
    steps = len(y) // batch_size // 4
    rng = np.random.default_rng(bench.seed)
    # All epochs in one pass: `fit` would start anew within a quarter.
    epochs = range(QUARTERS // 4)
    order = [rng.permutation(len(y))[: 4 * steps * batch_size] for _ in epochs]
    rows = np.concatenate(order)
    keras.utils.set_random_seed(bench.seed)
    model.compile(LazyAdam(bench.settings["learning_rate"]), "binary_crossentropy")
    model.fit(
        {name: ids[rows] for name, ids in x.items()},
        y[rows],
        batch_size=batch_size,
        shuffle=False,
        steps_per_epoch=steps,
        epochs=QUARTERS,
        callbacks=callbacks,
        verbose=0,
    )


def learned(bench: Bench, model: keras.Model) -> list[dict[str, float]]:
    """The scores of the model while it trains with masks."""
    sites = find_sites(model)
    counts = keras_eds.count_ids(model, {"x": bench.data.train[0]})
    options = {"size_penalty": 0.0, "seed": bench.seed, **AMTL().masks}
    budget = keras_eds.Budget.parse(BUDGET)
    quarter = len(bench.data.train[1]) // bench.settings["batch_size"] // 4
    with masks_on(sites, counts, **options) as maskings:
        schedule = SizeSchedule(maskings, [budget], lambda _: None, lambda: quarter)
        scores = Scores(bench.data, maskings, schedule)
        train(bench, model, [schedule, scores])
    return scores.rows


def runs(
    bench: Bench, names: Sequence[str], finished: set[str]
) -> Iterator[list[dict[str, Any]]]:
    """The scores of every start that is not `finished`."""
    left = [name for name in names if name not in finished]
    if not left:
        return
    keras.utils.set_random_seed(bench.seed)
    model = bench.build()
    starts = {"cold": model.get_weights()}
    full: dict[str, float] = {}
    if "warm" in left:
        history = model.fit(*bench.data.train, **bench.fit_options())
        full["full_auc"] = val_auc(model, bench.data)
        full["full_epochs"] = len(history.history["loss"])
        starts["warm"] = model.get_weights()
    for name in left:
        model.set_weights(starts[name.split(",")[0]])
        if name == "cold, no masks":
            scores = Scores(bench.data, [], None)
            train(bench, model, [scores])
            rows = scores.rows
        else:
            rows = learned(bench, model)
        about = {"dataset": bench.name, "seed": bench.seed, "start": name}
        about |= full if name == "warm" else {}
        yield [{**about, **row} for row in rows]


def read(path: Path) -> pd.DataFrame:
    lines = path.read_text().splitlines() if path.exists() else []
    return pd.DataFrame([json.loads(line) for line in lines])


def write_table(rows: pd.DataFrame, command: str) -> None:
    parts = [
        "# Learning sizes from a trained model and from scratch",
        "",
        f"Made by `{command}`. DeepFM with the settings of `ctr_budgets.py`. Masks "
        "and model are trained together for 2 epochs, in which the schedule of AMTL "
        f"brings the expected bytes to {BUDGET:.0%}. Validation AUC, mean over seeds, "
        f"with the masks at the moment, and with masks for {BUDGET:.0%} of the bytes "
        "without training in between. The warm start has had the epochs of the full "
        "model before.",
    ]
    for dataset, group in rows.groupby("dataset", sort=False):
        full = group[group.start == "warm"].drop_duplicates("seed")
        parts += [
            "",
            f"## {dataset}",
            "",
            f"The full model: {full.full_auc.mean():.4f} after "
            f"{full.full_epochs.mean():.1f} epochs.",
            "",
            "| epochs | seeds | warm | cold | warm - cold, each seed "
            "| values kept, warm / cold | cold, no masks "
            f"| warm at {BUDGET:.0%} | cold at {BUDGET:.0%} "
            "| warm - cold, each seed | values kept, warm / cold |",
            "|---" * 11 + "|",
        ]
        parts += [_line(group, moment / 4) for moment in MOMENTS]
        parts += ["", *(_verdict(group, moment / 4) for moment in MOMENTS)]
    (RESULTS / "warm_start.md").write_text("\n".join(parts) + "\n")


def _line(group: pd.DataFrame, epochs: float) -> str:
    at = group[group.epochs == epochs].set_index("seed")
    warm, cold = at[at.start == "warm"], at[at.start == "cold"]
    both = warm.index.intersection(cold.index)
    warm, cold = warm.loc[both], cold.loc[both]
    bare = at[at.start == "cold, no masks"].auc
    gains, cut_gains = warm.auc - cold.auc, warm.budget_auc - cold.budget_auc
    cells = [
        f"{epochs:g}",
        str(len(gains)),
        f"{warm.auc.mean():.4f}",
        f"{cold.auc.mean():.4f}",
        ", ".join(f"{gain:+.4f}" for gain in gains),
        f"{warm.kept.mean():.1%} / {cold.kept.mean():.1%}",
        f"{bare.mean():.4f} ({len(bare)} seeds)" if len(bare) else "",
        f"{warm.budget_auc.mean():.4f}",
        f"{cold.budget_auc.mean():.4f}",
        ", ".join(f"{gain:+.4f}" for gain in cut_gains),
        f"{warm.budget_kept.mean():.1%} / {cold.budget_kept.mean():.1%}",
    ]
    return "| " + " | ".join(cells) + " |"


def _verdict(group: pd.DataFrame, epochs: float) -> str:
    at = group[group.epochs == epochs].set_index(["start", "seed"])
    said = []
    for score, where in (("auc", "with the masks"), ("budget_auc", "when cut")):
        gains = (at.loc["warm", score] - at.loc["cold", score]).dropna()
        said.append(
            f"{where}, warm is ahead in {(gains > 0).sum()} of {len(gains)} seeds, "
            f"by {gains.mean():+.4f}"
        )
    return f"- After {epochs:g} epochs: " + "; ".join(said) + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = sorted(SETTINGS, reverse=True)
    parser.add_argument("--datasets", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=STARTS)
    parser.add_argument("--data", default=None, help="where the data sets are")
    given = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "warm_start.jsonl"
    backend = keras.backend.backend()
    script = " ".join(["examples/benchmarks/warm_start.py", *sys.argv[1:]])
    command = f"KERAS_BACKEND={backend} python {script}"
    for dataset in given.datasets:
        data = SETTINGS[dataset]["load"](given.data)
        for seed in given.seeds:
            known = read(path)
            if len(known):
                known = known[(known.dataset == dataset) & (known.seed == seed)]
            finished = set(known.start) if len(known) else set()
            bench = Bench(dataset, data, "DeepFM", seed)
            for rows in runs(bench, given.starts, finished):
                with path.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
                print(*rows, sep="\n", flush=True)
            write_table(read(path), command)


if __name__ == "__main__":
    main()
