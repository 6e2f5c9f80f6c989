"""A recommender that is updated every week, on the dated part of MovieLens-1M.

Weeks 0 to 12 of the ratings that have a timestamp (October to December 2000). A
DeepFM is trained on weeks 0 to 7. Then, week by week, it is brought up to date and
scored on the week after, which it has not seen:

- from scratch: a new model on all weeks so far;
- warm: last week's model goes on with this week's ratings alone;
- warm, tables every second week: the network goes on every week, the tables every
  second one, with the ratings of two weeks (`UpdateSchedule`);
- warm, network alone: tables stay as they were after week 7;
- never: nothing is updated.

How many epochs from scratch is chosen by training on weeks 0 to 5 and scoring week 6;
how many warm by going on with week 6 and scoring week 7. Neither is reported on.

A plan for 10 % of the bytes is searched on week 7 for the model of the first seed, and
checked on every later week by `plan_drift`.

    KERAS_BACKEND=jax python examples/benchmarks/weekly_update.py

Every seed is some lines of `results/weekly_update.jsonl`; a second call goes on where
the first was stopped. Writes `results/weekly_update.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

import keras_eds
from keras_eds.datasets import load_movielens_1m
from keras_eds.datasets.movielens_1m import find_ratings, read_ratings, sort_by_time
from keras_eds.methods import PrincipalRows
from keras_eds.models import DeepFM
from keras_eds.optimizers import LazyAdam
from keras_eds.pretraining import UpdateSchedule, plan_drift

RESULTS = Path(__file__).parent / "results"
WIDTH, BATCH_SIZE, LEARNING_RATE, MOST_EPOCHS = 16, 1024, 1e-3, 6
BASE, LAST = 7, 11  # the last week of the first training, and the last update
BUDGET, DRIFT_SEEDS = 0.1, (0,)
ARMS = (
    "from scratch", "warm", "warm, tables every 2nd week", "warm, network alone",
    "never",
)  # fmt: skip
SCHEDULES = {"warm, tables every 2nd week": 2, "warm, network alone": 0}


class Weeks:
    """All dated ratings, and the week of each."""

    def __init__(self, path: str | None) -> None:
        whole = (0.998, 0.001, 0.001)
        data = load_movielens_1m(path, split="time", undated="drop", fractions=whole)
        self.fields = data.fields
        parts = (data.train, data.validation, data.test)
        self.x = {name: np.concatenate([x[name] for x, _ in parts])
                  for name in data.train[0]}  # fmt: skip
        self.y = np.concatenate([y for _, y in parts])
        ratings = sort_by_time(read_ratings(find_ratings(path, True)), "drop")
        seconds = ratings["time"].to_numpy()
        self.week = (seconds - seconds[0]) // (7 * 24 * 3600)

    def between(self, first: int, last: int) -> dict[str, Any]:
        """What `fit` is given for some weeks, both included."""
        rows = (self.week >= first) & (self.week <= last)
        x = {name: values[rows] for name, values in self.x.items()}
        return {"x": x, "y": self.y[rows], "batch_size": BATCH_SIZE}


def build(weeks: Weeks, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = DeepFM(weeks.fields, WIDTH, (64, 64), dropout=0.2, seed=seed)
    auc = keras.metrics.AUC(name="auc")
    model.compile(LazyAdam(LEARNING_RATE), "binary_crossentropy", metrics=[auc])
    return model


def auc_of(model: keras.Model, data: dict[str, Any]) -> float:
    scores = model.predict(data["x"], batch_size=8192, verbose=0)[:, 0]
    return float(roc_auc_score(data["y"], scores))


def best_epochs(model: keras.Model, train: dict[str, Any], test: Any) -> int:
    """After how many epochs of training the score of the next week is best."""
    scores, weights = [], [model.get_weights()]
    for _ in range(MOST_EPOCHS):
        model.fit(**train, epochs=1, verbose=0)
        scores.append(auc_of(model, test))
        weights.append(model.get_weights())
    best = int(np.argmax(scores)) + 1
    model.set_weights(weights[best])
    return best


def chosen_epochs(weeks: Weeks, seed: int) -> tuple[int, int]:
    model, before = build(weeks, seed), BASE - 2
    scratch = best_epochs(model, weeks.between(0, before), weeks.between(6, 6))
    return scratch, best_epochs(model, weeks.between(6, 6), weeks.between(7, 7))


def update(
    weeks: Weeks, arm: str, model: keras.Model, week: int, epochs: tuple[int, int],
    seed: int,
) -> tuple[keras.Model, int, float]:  # fmt: skip
    """The model after a week, how many ratings it was shown, and the seconds."""
    if arm == "never":
        return model, 0, 0.0
    number, callbacks, first = epochs[1], [], week
    if arm == "from scratch":
        model, number, first = build(weeks, seed), epochs[0], 0
    elif arm in SCHEDULES:
        every, day = SCHEDULES[arm], week - BASE
        callbacks = [UpdateSchedule(tables=every, day=day)]
        first = week - 1 if every and day % every == 0 else week
    data, began = weeks.between(first, week), time.monotonic()
    model.fit(**data, epochs=number, callbacks=callbacks, verbose=0)
    return model, number * len(data["y"]), time.monotonic() - began


def copy(model: keras.Model, weeks: Weeks, seed: int) -> keras.Model:
    """The same model, with the optimizer's state."""
    other = build(weeks, seed)
    other.set_weights(model.get_weights())
    other.optimizer.build(other.trainable_variables)
    for ours, theirs in zip(
        other.optimizer.variables, model.optimizer.variables, strict=True
    ):
        # A copy: JAX gives the memory of what it trains away.
        ours.assign(np.array(keras.ops.convert_to_numpy(theirs)))
    return other


def first_plan(model: keras.Model, data: dict[str, Any], seed: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        search = keras_eds.EDSSearch(
            model, BUDGET, PrincipalRows(compare=False), "val_auc", seed=seed,
            directory=folder,
        )  # fmt: skip
        x, y = data["x"], data["y"]
        search.search(x, y, validation_data=(x, y), batch_size=BATCH_SIZE, epochs=1,
                      verbose=0)  # fmt: skip
        return search.get_best_plans()[0]


def one_seed(weeks: Weeks, seed: int) -> list[dict[str, Any]]:
    epochs, rows = chosen_epochs(weeks, seed), []
    base = build(weeks, seed)
    base.fit(**weeks.between(0, BASE), epochs=epochs[0], verbose=0)
    last = weeks.between(BASE, BASE)
    plan = first_plan(base, last, seed) if seed in DRIFT_SEEDS else None
    for arm in ARMS:
        model = copy(base, weeks, seed)
        for week in range(BASE, LAST + 1):
            seen, seconds = 0, 0.0
            if week > BASE:
                # Every arm with the same order of batches.
                keras.utils.set_random_seed(100 * seed + week)
                model, seen, seconds = update(weeks, arm, model, week, epochs, seed)
            row = {"seed": seed, "arm": arm, "week": week + 1, "seen": seen,
                   "seconds": seconds, "epochs": epochs,
                   "auc": auc_of(model, weeks.between(week + 1, week + 1))}  # fmt: skip
            if arm == "warm" and week > BASE and plan is not None:
                row |= drift(model, plan, last, weeks.between(week, week))
            rows.append(row)
    return rows


def drift(model: keras.Model, plan: Any, last: Any, this: Any) -> dict[str, Any]:
    report = plan_drift(model, plan, last, this)
    print(report, flush=True)
    fields = {field.plan.name.removesuffix("_embedding"): field.moved_lookups
              for field in report.fields}  # fmt: skip
    return {
        "moved_users": fields["user"],
        "moved_movies": fields["movie"],
        "moved_share": report.moved_share,
        "spearman": report.rank_correlation,
        **{f"auc_{name}": s["auc"] for name, s in report.scores.items()},
    }


def write_table(rows: pd.DataFrame, command: str) -> None:
    seeds = rows.seed.nunique()
    pairs = sorted(set(map(tuple, rows.epochs)))
    lines = [
        "# Weekly updates, warm and from scratch",
        "",
        f"Made by `{command}`. DeepFM, width {WIDTH}, LazyAdam {LEARNING_RATE}, "
        f"batches of {BATCH_SIZE:,}; epochs from scratch and warm, as chosen on weeks "
        f"6 and 7: {', '.join(f'{a} and {b}' for a, b in pairs)}. AUC of ratings of "
        f"the week after the update, mean of {seeds} seeds. Seconds are on a shared "
        "core.",
        "",
        "| | " + " | ".join(f"week {w}" for w in range(BASE + 2, LAST + 2))
        + " | mean | - from scratch, each seed | ratings shown | seconds |",
        "|---" * (LAST - BASE + 5) + "|",
    ]  # fmt: skip
    updates = rows[rows.week > BASE + 1]
    means = updates.groupby(["arm", "seed"]).auc.mean().unstack()
    for arm in ARMS:
        own = updates[updates.arm == arm]
        gains = means.loc[arm] - means.loc["from scratch"]
        each = ", ".join(f"{gain:+.4f}" for gain in gains)
        cells = [f"{auc:.4f}" for auc in own.groupby("week").auc.mean()]
        lines.append(
            f"| {arm} | {' | '.join(cells)} | {own.auc.mean():.4f} | "
            f"{'' if arm == 'from scratch' else each} | "
            f"{own.seen.sum() / seeds:,.0f} | {own.seconds.sum() / seeds:.0f} |"
        )
    lines += _drift_table(rows.dropna(subset=["spearman"]))
    (RESULTS / "weekly_update.md").write_text("\n".join(lines) + "\n")


def _drift_table(rows: pd.DataFrame) -> list[str]:
    lines = [
        "",
        "## A plan of week 7 on later weeks",
        "",
        f"`plan_drift` of a plan for {BUDGET:.0%} of the bytes, with sizes for ids, "
        "searched on week 7 with the base model. Full model: the warm one, which has "
        "just been updated with the week. No retraining after the cut, so both plans "
        "are judged at their worst, and that found now has seen the week it is scored "
        f"on. {rows.seed.nunique()} seed.",
        "",
        "| week | lookups moved, users | movies | Spearman of sizes | bytes moved "
        "| AUC, full | old plan | plan found now |",
        "|---" * 8 + "|",
    ]
    for week, own in rows.groupby(rows.week - 1):
        mean = own.mean(numeric_only=True)
        lines.append(
            f"| {week} | {mean.moved_users:.0%} | {mean.moved_movies:.0%} | "
            f"{mean.spearman:.2f} | {mean.moved_share:.0%} | {mean.auc_full:.4f} | "
            f"{mean.auc_plan:.4f} | {mean.auc_now:.4f} |"
        )
    return lines


def read(path: Path) -> pd.DataFrame:
    lines = path.read_text().splitlines() if path.exists() else []
    return pd.DataFrame([json.loads(line) for line in lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--data", default=None, help="where MovieLens-1M is")
    given = parser.parse_args()
    path = RESULTS / "weekly_update.jsonl"
    script = " ".join(["examples/benchmarks/weekly_update.py", *sys.argv[1:]])
    command = f"KERAS_BACKEND={keras.backend.backend()} python {script}"
    weeks = Weeks(given.data)
    for seed in given.seeds:
        known = read(path)
        if not len(known) or seed not in set(known.seed):
            rows = one_seed(weeks, seed)
            with path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        write_table(read(path), command)


if __name__ == "__main__":
    main()
