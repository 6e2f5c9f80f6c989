"""Recall and NDCG of the ranking models at full width, over all items.

`python examples/benchmarks/ranking_models.py --data movielens --model light_gcn`
trains one model, stops when the validation NDCG@20 no longer rises, and appends a
line to `results/ranking_models.jsonl`; without `--model` it writes
`results/ranking_models.md` from all lines. `--split standard` takes the published
split of Gowalla or Yelp2018, where a tenth of each user's training items is held out
to choose on.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import keras

from keras_eds import datasets
from keras_eds.metrics import RankingMetrics, evaluate_ranking
from keras_eds.models import NCF, NGCF, BPRLoss, LightGCN, MatrixFactorization

RESULTS = Path(__file__).parent / "results"
LINES = RESULTS / "ranking_models.jsonl"
MODELS = ("mf", "ncf", "light_gcn", "ngcf")
KS = (5, 10, 20)
HEAD = """# Ranking models at full width

Recall and NDCG on the test part over all items that are in neither of the other parts;
the mean over users with a test item. Trained on the training part alone; the epoch was
chosen by NDCG@20 on the validation part ("all": trained on both, none chosen). The loss
is BPR with one item that was not met, or the softmax over the item met and as many
others as its number says. One seed a line.

| data | split | model | width | loss | batch | rate | L2 | epochs | s/epoch | {} | on |
| {} |
"""


def load(args):
    if args.data == "movielens":
        return datasets.load_movielens_interactions()
    loader = datasets.load_gowalla if args.data == "gowalla" else datasets.load_yelp2018
    if args.split == "standard":
        return loader(split="standard", validation=0.1)
    return loader()


def load_parts(args):
    data = load(args)
    return data.with_validation_in_train() if args.final else data


def make_model(args, data):
    sizes = {"embedding_dim": args.width, "seed": args.seed}
    if args.l2 is not None:
        sizes["embeddings_l2"] = args.l2
    edges = (data.train.users, data.train.items)
    if args.model == "mf":
        return MatrixFactorization(data.num_users, data.num_items, **sizes)
    if args.model == "ncf":
        return NCF(data.num_users, data.num_items, **sizes)
    if args.model == "light_gcn":
        return LightGCN(data.num_users, data.num_items, edges, **sizes)
    units = (args.width,) * 3
    return NGCF(data.num_users, data.num_items, edges, layer_units=units, **sizes)


def make_loss(args):
    if args.loss == "bpr":
        return BPRLoss()
    return keras.losses.CategoricalCrossentropy(from_logits=True)


class Best(keras.callbacks.Callback):
    """Keeps the best weights, times the epochs, and ends in time."""

    def __init__(self, patience, seconds):
        super().__init__()
        self.patience, self.limit = patience, seconds
        self.best, self.epoch, self.weights = -1.0, 0, None
        self.start, self.times = time.perf_counter(), []

    def on_epoch_begin(self, epoch, logs=None):
        self.begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        # The metrics run after this callback: `own` is the time of training alone.
        self.times.append(time.perf_counter() - self.begin)

    def judge(self, epoch, score):
        if score > self.best:
            self.best, self.epoch = score, epoch
            self.weights = self.model.get_weights()
        late = time.perf_counter() - self.start > self.limit
        if late or epoch - self.epoch >= self.patience:
            self.model.stop_training = True


class Judge(keras.callbacks.Callback):
    """Hands the score to `Best`, after `RankingMetrics`."""

    def __init__(self, best):
        super().__init__()
        self.best = best

    def on_epoch_end(self, epoch, logs=None):
        print(epoch, {k: round(v, 4) for k, v in logs.items()}, flush=True)
        self.best.judge(epoch, logs["val_ndcg@20"])


def train(args):
    data = load_parts(args)
    model = make_model(args, data)
    model.compile(keras.optimizers.Adam(args.learning_rate), make_loss(args))
    best = Best(args.patience * args.every, args.seconds)
    callbacks = [best]
    if not args.final:
        metrics = RankingMetrics(data.validation, data.train, every=args.every)
        callbacks += [metrics, Judge(best)]
    batches = datasets.Triples(
        data.train, args.batch, negatives=args.negatives, seed=args.seed
    )
    model.fit(batches, epochs=args.epochs, verbose=0, callbacks=callbacks)
    if best.weights is not None:
        model.set_weights(best.weights)
    seen = data.train.union(data.validation)
    scores = evaluate_ranking(model, data.test, seen, KS).means()
    times = sorted(best.times[1:] or best.times)
    return {
        "data": args.data, "split": args.split, "model": args.model,
        "width": args.width, "batch": args.batch, "seed": args.seed,
        "loss": args.loss, "negatives": args.negatives,
        "learning_rate": args.learning_rate, "l2": model.embeddings_l2,
        "best_epoch": len(best.times) if args.final else best.epoch + 1,
        "epochs": len(best.times), "final": args.final,
        "seconds_an_epoch": times[len(times) // 2],
        "validation_ndcg@20": best.best, **scores,
        "backend": keras.backend.backend(), "cores": len(os.sched_getaffinity(0)),
    }  # fmt: skip


def report():
    lines = [json.loads(line) for line in LINES.read_text().splitlines()]
    names = [f"{metric}@{k}" for metric in ("recall", "ndcg") for k in KS]
    rule = " | ".join(["---"] * (11 + len(names)))
    text = HEAD.format(" | ".join(names), rule)
    for line in lines:
        cells = [line[k] for k in ("data", "split", "model", "width")]
        wide = f" {line['negatives']}" if line["loss"] == "softmax" else ""
        cells += [line["loss"] + wide, line["batch"]]
        cells += [f"{line['learning_rate']:g}", f"{line['l2']:g}"]
        chosen = "all" if line["final"] else line["best_epoch"]
        cells += [f"{chosen} of {line['epochs']}"]
        cells += [f"{line['seconds_an_epoch']:.1f}"]
        cells += [f"{line[name]:.4f}" for name in names]
        cells += [f"{line['backend']}, {line['cores']} core"]
        text += "| " + " | ".join(map(str, cells)) + " |\n"
    (RESULTS / "ranking_models.md").write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS)
    parser.add_argument(
        "--data", choices=("movielens", "gowalla", "yelp2018"), default="movielens"
    )
    parser.add_argument("--split", choices=("random", "standard"), default="random")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--loss", choices=("bpr", "softmax"), default="bpr")
    parser.add_argument("--negatives", type=int, default=1, help="items not met a row")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--l2", type=float)
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--every", type=int, default=1, help="epochs between rankings")
    parser.add_argument("--patience", type=int, default=5, help="rankings without gain")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--final", action="store_true",
        help="train on the validation part too, for all `--epochs`",
    )  # fmt: skip
    args = parser.parse_args()
    if args.model is not None:
        line = train(args)
        print(json.dumps(line))
        with LINES.open("a") as file:
            file.write(json.dumps(line) + "\n")
    report()


if __name__ == "__main__":
    main()
