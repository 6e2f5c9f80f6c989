"""Start the tables of a network from item2vec and from walks on a graph.

    pip install gensim
    python examples/item2vec_init.py

Learns vectors of MovieLens-1M's movies with gensim, without any labels of the
network: item2vec takes what a user has liked for a sentence; DeepWalk takes random
walks on the graph of users and the movies they have liked, and learns users too.
Both are written in word2vec's format and read into the tables of an FNN, beside one
drawn at random. The last is cut to 25 % and 10 % of its table bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
from before_after import arguments, compiled, load, shrink, train
from gensim.models import Word2Vec

import keras_eds
from keras_eds.datasets import Dataset
from keras_eds.models import FNN
from keras_eds.pretraining import read_vectors

Sentences = list[list[str]]
WALKS, LENGTH = 10, 20


def liked(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """User and movie of every liked training example."""
    x, y = data.train
    return x["user"][y > 0], x["movie"][y > 0]


def baskets(users: np.ndarray, movies: np.ndarray) -> Sentences:
    """What each user has liked, in a random order."""
    shuffled = np.random.default_rng(0).permutation(len(users))
    users, movies = users[shuffled], movies[shuffled]
    order = np.argsort(users, kind="stable")
    starts = np.flatnonzero(np.diff(users[order])) + 1
    return [[f"movie {m}" for m in part] for part in np.split(movies[order], starts)]


def walks(users: np.ndarray, movies: np.ndarray) -> Sentences:
    """Random walks, `WALKS` from each node, all of them one step at a time."""
    random = np.random.default_rng(0)
    movies = movies + users.max() + 1
    names = [f"user {i}" for i in range(users.max() + 1)]
    names += [f"movie {i}" for i in range(movies.max() - users.max())]
    ends = np.concatenate([users, movies]), np.concatenate([movies, users])
    order = np.argsort(ends[0], kind="stable")
    neighbours, degrees = ends[1][order], np.bincount(ends[0], minlength=len(names))
    first = np.cumsum(degrees) - degrees
    node = np.repeat(np.flatnonzero(degrees), WALKS)
    paths = [node]
    for _ in range(LENGTH - 1):
        step = (random.random(len(node)) * degrees[node]).astype(int)
        node = neighbours[first[node] + step]
        paths.append(node)
    return [[names[i] for i in path] for path in np.stack(paths, axis=1)]


def learn(sentences: Sentences, width: int, path: Path) -> None:
    """Skip-gram with negative samples, written in word2vec's format."""
    model = Word2Vec(
        sentences, vector_size=width, window=10, min_count=1, sg=1, negative=5,
        epochs=3, seed=0, workers=1,
    )  # fmt: skip
    # In the scale of tables that are drawn at random, not of cosines.
    model.wv.vectors *= 0.1 / model.wv.vectors.std()
    model.wv.save_word2vec_format(str(path))


def tables(model: keras.Model, path: Path, names: Iterable[str]) -> keras.Model:
    """Reads vectors into the tables of some fields, by token."""
    vectors, layers = read_vectors(path), {n: f"{n}_embedding" for n in names}
    ids = {
        layer: {f"{n} {i}": i for i in range(1, model.get_layer(layer).input_dim)}
        for n, layer in layers.items()
    }
    source = dict.fromkeys(layers.values(), vectors)
    # Who has liked nothing in training has no vector: those rows stay as drawn.
    return keras_eds.load_tables(model, source, ids, missing="keep")


def main() -> None:
    given = arguments(__doc__ or "", "item2vec_init", epochs=4).parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    data = load(given.data)
    print(f"Data: {data.source}, {len(data.train[1]):,} training examples.")
    users, movies = liked(data)

    def fnn() -> keras.Model:
        # Tables one wider than the factors: as wide as the vectors.
        model = FNN(data.fields, given.width - 1, (64, 64), dropout=0.2, seed=0)
        return compiled(model, data)

    train("random", fnn(), data, given.epochs)
    learn(baskets(users, movies), given.width, given.out / "item2vec.txt")
    start = tables(fnn(), given.out / "item2vec.txt", ["movie"])
    train("item2vec, movies", start, data, given.epochs)
    learn(walks(users, movies), given.width, given.out / "deepwalk.txt")
    model = tables(fnn(), given.out / "deepwalk.txt", ["user", "movie"])
    train("DeepWalk, users and movies", model, data, given.epochs)
    shrink(model, data, given.epochs, given.out)


if __name__ == "__main__":
    main()
