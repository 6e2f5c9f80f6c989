"""The leaves of boosted trees as fields, then a search on their tables.

    pip install lightgbm
    python examples/gbdt_leaves.py

Boosted trees (LightGBM) turn mean ratings, age, year and the like into leaves: one
field a tree, one id a leaf. A logistic regression on them is the model of He et al.,
Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014. A DeepFM on
the same fields gives every leaf a vector; its tables are cut to 25 % and 10 %.
"""

from __future__ import annotations

import keras
import lightgbm
import numpy as np
from before_after import arguments, compiled, load, shrink, train, with_fields
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, TargetEncoder

from keras_eds.datasets import Dataset
from keras_eds.models import DeepFM, FieldSpec

TREES, LEAVES = 24, 32


def features(data: Dataset) -> list[np.ndarray]:
    """Numbers for trees: each id's mean label, its count, and multi-hot genres.

    Means of training rows are of other rows than their own (cross-fitting).
    """
    single = [field.name for field in data.fields if not field.multi_hot]
    raw = [np.stack([x[n] for n in single], 1) for x in _inputs(data)]
    encoder = TargetEncoder(target_type="binary")
    means = [encoder.fit_transform(raw[0], data.train[1])]
    means += [encoder.transform(part) for part in raw[1:]]
    counts = [np.bincount(ids) for ids in raw[0].T]
    columns = []
    for mean, part, x in zip(means, raw, _inputs(data), strict=True):
        seen = [_at(count, ids) for count, ids in zip(counts, part.T, strict=True)]
        hot = [_multi_hot(x[f.name], f.vocabulary_size)
               for f in data.fields if f.multi_hot]  # fmt: skip
        columns.append(np.column_stack([mean, *seen, *hot]))
    return columns


def _inputs(data: Dataset) -> list[dict[str, np.ndarray]]:
    return [data.train[0], data.validation[0], data.test[0]]


def _at(count: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return np.where(ids < len(count), count[np.minimum(ids, len(count) - 1)], 0)


def _multi_hot(ids: np.ndarray, size: int) -> np.ndarray:
    hot = np.zeros((len(ids), size), "float32")
    np.put_along_axis(hot, ids, 1, axis=1)
    return hot[:, 1:]  # without the padding


def leaves(data: Dataset, columns: list[np.ndarray]) -> tuple[Dataset, np.ndarray]:
    """The data with a field for each tree, and what the trees say of the test."""
    trees = lightgbm.LGBMClassifier(
        n_estimators=TREES, num_leaves=LEAVES, learning_rate=0.2, n_jobs=2,
        random_state=0, verbose=-1,
    )  # fmt: skip
    trees.fit(columns[0], data.train[1])
    found = [trees.predict(part, pred_leaf=True).astype("int32") for part in columns]
    fields = [FieldSpec(f"tree_{t:02}", LEAVES + 1) for t in range(found[0].shape[1])]
    # Id 0 is for unknown ids.
    x = [{f.name: part[:, t] + 1 for t, f in enumerate(fields)} for part in found]
    on_leaves = with_fields(data, (x[0], x[1], x[2]), fields)
    return on_leaves, trees.predict_proba(columns[2])[:, 1]


def logistic_regression(data: Dataset) -> np.ndarray:
    """Probabilities of the test part, from leaves as ones and zeros."""
    train, _, test = (np.stack(list(x.values()), 1) for x in _inputs(data))
    model = make_pipeline(
        OneHotEncoder(handle_unknown="ignore"),
        LogisticRegression(C=0.1, solver="newton-cholesky", max_iter=20),
    )
    probabilities: np.ndarray = model.fit(train, data.train[1]).predict_proba(test)
    return probabilities[:, 1]


def report(name: str, y: np.ndarray, p: np.ndarray) -> None:
    auc, loss = roc_auc_score(y, p), log_loss(y, p)
    print(f"{name}: test AUC {auc:.4f}, log loss {loss:.4f}", flush=True)


def main() -> None:
    given = arguments(__doc__ or "", "gbdt_leaves", epochs=4).parse_args()
    keras.utils.set_random_seed(0)
    raw = load(given.data)
    print(f"Data: {raw.source}, {len(raw.train[1]):,} training examples.")
    data, probabilities = leaves(raw, features(raw))
    y = data.test[1]
    report(f"{len(data.fields)} trees", y, probabilities)
    report("logistic regression on their leaves", y, logistic_regression(data))
    model = DeepFM(data.fields, given.width, (64, 64), dropout=0.2, seed=0)
    train("DeepFM on their leaves", compiled(model, data), data, given.epochs)
    shrink(model, data, given.epochs, given.out)


if __name__ == "__main__":
    main()
