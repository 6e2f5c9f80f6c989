"""Recall, bytes and time of indexes built on cut tables.

    python examples/youtube_retrieval.py
    python examples/benchmarks/retrieval_index.py movielens
    python examples/benchmarks/retrieval_index.py planted

The first reads the YouTubeDNNs that the example saved, and writes
`results/retrieval_index.md`; the second makes 200,000 items, and writes
`results/retrieval_index_planted.md`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_eds.budget import format_bytes
from keras_eds.datasets import load_movielens_interactions
from keras_eds.layers import PrunedFieldEmbedding, RowSizedEmbedding
from keras_eds.retrieval import ExactIndex, FaissIndex, index_recall

RESULTS = Path(__file__).parent / "results"
sys.path.insert(0, str(Path(__file__).parent.parent))
MOVIELENS = """# Indexes on cut tables: films of MovieLens-1M

YouTubeDNN of `examples/youtube_retrieval.py`, 3,706 films. Recall@100 is that of the
test part over all films that are in neither of the other parts, by the exact index;
`same 100` is the share of the full model's 100 films that the cut model finds too, and
`wide` what an index of full vectors would hold. FAISS: recall@10 against the exact
index of the same model, all {users} users, with the setting named. The full model was
trained for six epochs and still gained; the cut ones for two more, by which they may be
ahead of it.

"""
MOVIELENS_COLUMNS = ["model", "Recall@100", "same 100", "index", "wide", "int8 index",
                     "its Recall@100", "FAISS recall@10", "FAISS setting",
                     "FAISS bytes"]  # fmt: skip
PLANTED = """# Indexes on cut tables: {items:,} planted items

Vectors of width 32 in {groups} groups; cut to {kept} directions (a table for the field,
and a projection) or to sizes from 0 to 16 by popularity (a mean of {mean:.1f}).
{queries} queries in a batch, k = 10; milliseconds of processor time a query, on one
thread. `recall@10` is against the exact index of the same table.

"""
PLANTED_COLUMNS = ["items' vectors", "index", "bytes", "ms a query", "recall@10"]


def movielens(arguments: argparse.Namespace) -> str:
    from youtube_retrieval import recall_at_100, user_vectors

    data = load_movielens_interactions(arguments.data)
    text = MOVIELENS.format(users=f"{data.num_users:,}") + _head(MOVIELENS_COLUMNS)
    exact_full = None
    paths = sorted(arguments.models.glob("*.keras"), key=_share, reverse=True)
    for path in paths:
        model = keras.saving.load_model(path)
        vectors = user_vectors(model, data, arguments.length)
        weights = model.get_layer("item_weights")
        top = _items(ExactIndex.of(weights, 100), vectors)
        exact_full = top if exact_full is None else exact_full
        ten = _items(ExactIndex.of(weights, 10), vectors)
        index = ExactIndex.of(weights)
        bytes_before = index.num_bytes()
        index.quantize("int8")
        int8 = ExactIndex.of(weights, data.num_items)
        int8.quantize("int8")
        setting, recall, size = _least_probes(weights, vectors, ten)
        cells = [
            path.stem,
            f"{recall_at_100(model, data, vectors):.4f}",
            f"{index_recall(top, exact_full):.3f}",
            format_bytes(bytes_before),
            format_bytes(4 * data.num_items * weights.output_dim),
            format_bytes(index.num_bytes()),
            f"{recall_at_100(model, data, vectors, int8):.4f}",
            f"{recall:.3f}",
            setting,
            format_bytes(size),
        ]
        text += _line(cells)
    return text


def _least_probes(source: Any, queries: np.ndarray, exact: np.ndarray) -> Any:
    """The fewest probed lists that have 0.95 of the answer."""
    probes = 1
    while True:
        index = FaissIndex(source, "IVF32,Flat", probes=probes)
        recall = index_recall(index.search(queries, 10)[1], exact)
        if recall >= 0.95 or probes >= 32:
            return f"IVF32,Flat, {probes} probes", recall, index.num_bytes()
        probes += 1


def planted(arguments: argparse.Namespace) -> str:
    random = np.random.default_rng(0)
    items, groups, width, kept = arguments.items, 2000, 32, 8
    # Directions of falling worth, as a cut finds them.
    scale = (0.8 ** np.arange(width)).astype("float32")
    centres = random.normal(size=(groups, width)).astype("float32") * scale
    table = centres[random.integers(0, groups, items)]
    table += 0.5 * random.normal(size=table.shape).astype("float32") * scale
    basis = np.linalg.qr(random.normal(size=(width, width)))[0].astype("float32")
    queries = (random.normal(size=(arguments.queries, width)) * scale).astype("float32")
    queries = queries @ basis
    sizes = np.minimum(16, 200 * (1 + np.arange(items)) ** -0.4).astype(int)
    narrow = PrunedFieldEmbedding(items, kept, width)
    narrow.build()
    narrow.set_weights([table[:, :kept], basis[:kept]])
    packed = RowSizedEmbedding.from_dense(table[:, :16], sizes, basis[:16])
    text = PLANTED.format(
        items=items, groups=groups, kept=kept, mean=sizes.mean(), queries=len(queries)
    ) + _head(PLANTED_COLUMNS)
    sources = {"wide": table @ basis, f"{kept} of 32": narrow, "by row": packed}
    for name, source in sources.items():
        exact = ExactIndex.of(source)
        expected = _items(exact, queries)
        took = _milliseconds(exact, queries)
        text += _line([name, "exact", format_bytes(exact.num_bytes()), took, "1"])
        for factory, probes in (("IVF256,Flat", 64), ("IVF256,SQ8", 64)):
            index = FaissIndex(source, factory, probes)
            recall = index_recall(index.search(queries)[1], expected)
            took = _milliseconds(index.search, queries)
            setting = f"FAISS {factory}, {probes} probes"
            cells = [setting, format_bytes(index.num_bytes()), took, f"{recall:.3f}"]
            text += _line([name, *cells])
    return text


def _head(columns: list[str]) -> str:
    return f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n"


def _line(cells: list[str]) -> str:
    line = "| " + " | ".join(cells) + " |\n"
    print(line, end="", flush=True)
    return line


def _items(index: ExactIndex, queries: np.ndarray) -> np.ndarray:
    step = 64
    parts = [index(queries[i : i + step])[1] for i in range(0, len(queries), step)]
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])


def _milliseconds(call: Callable[[np.ndarray], Any], queries: np.ndarray) -> str:
    times = []
    for _ in range(5):
        began = time.process_time()
        call(queries)
        times.append(time.process_time() - began)
    return f"{1000 * min(times) / len(queries):.3f}"


def _share(path: Path) -> int:
    return 100 if path.stem == "full" else int(path.stem.rstrip("%"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=("movielens", "planted"))
    parser.add_argument("--models", type=Path, default=Path("runs/youtube_retrieval"))
    parser.add_argument("--data", default=None)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=64)
    arguments = parser.parse_args()
    if arguments.part == "movielens":
        (RESULTS / "retrieval_index.md").write_text(movielens(arguments))
    else:
        (RESULTS / "retrieval_index_planted.md").write_text(planted(arguments))


if __name__ == "__main__":
    main()
