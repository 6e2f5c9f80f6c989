"""The items of about the largest inner products, found by FAISS."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_eds.argument_checks import check_integer
from keras_eds.errors import DataError
from keras_eds.retrieval.item_vectors import Floats, check_k, item_vectors

Ints = npt.NDArray[np.int64]
# FAISS wants so many vectors to find the centre of a list.
_VECTORS_A_LIST = 39


class FaissIndex:
    """Searches the lists of items that are near a query, not all items.

    As in `ExactIndex` a cut table is searched as it is: one FAISS index for each
    block of rows of equal width, of inner products with narrowed queries. The
    best of all blocks are the answer.

    Args:
        source: As of `ExactIndex.of`.
        factory: What `faiss.index_factory` takes for a block, as in `"HNSW32"`,
            `"Flat"`, `"IVF64,SQ8"` or `"PCA16,Flat"`. Defaults to `None`: as many
            lists as the square root of the block's items (`"IVF..,Flat"`);
            `"Flat"`, which searches all, for blocks of fewer than 1,521 items.
        probes: How many of a block's lists are searched, also where `factory`
            wraps them, as in `"PCA16,IVF64,Flat"`. Defaults to a quarter of them.
        seed: Seed of the lists' centres.

    Raises:
        DataError: If `source` cannot be read.
        ImportError: If FAISS is not installed: `pip install keras-eds[faiss]`.
        ValueError: If FAISS does not know `factory` or cannot fill it with a
            block, or it changes inner products (`"ITQ"`, `"L2norm"`, `"PCAW"`);
            or if `probes` is not positive or there are no lists to probe.

    Example:

    >>> index = keras_eds.retrieval.FaissIndex(np.eye(3))  # doctest: +SKIP
    >>> scores, items = index.search([[0.1, 0.9, 0.5]], k=2)  # doctest: +SKIP
    >>> items.tolist()  # doctest: +SKIP
    [[1, 2]]

    Reference: Johnson et al., Billion-scale similarity search with GPUs, IEEE
    Transactions on Big Data 2021.
    """

    def __init__(
        self,
        source: Any,
        factory: str | None = None,
        probes: int | None = None,
        seed: int = 0,
    ) -> None:
        faiss = _import_faiss()
        if probes is not None:
            check_integer("probes", probes)
        found = item_vectors(source)
        self._vectors = found._replace(blocks=[])
        self.num_items, self.query_dim = found.num_items, found.query_dim
        self.factories = [factory or _factory(len(block)) for block in found.blocks]
        self._blocks = [
            _build(faiss, block, name, probes, seed)
            for block, name in zip(found.blocks, self.factories, strict=True)
        ]

    def search(self, queries: npt.ArrayLike, k: int = 10) -> tuple[Floats, Ints]:
        """The best items found for each query.

        Args:
            queries: Floats of shape `(batch, query_dim)`.
            k: How many.

        Returns:
            Scores and items, both `(batch, k)`, the best first. Where the lists
            that were searched hold fewer than `k` items, the last are -1, with
            score `-inf`.

        Raises:
            ValueError: If `k` is more than there are items.
            DataError: If queries have another width, or are not finite.
        """
        k = check_k(k, self.num_items)
        given = self._check(queries)
        projection, constant = self._vectors.projection, self._vectors.constant
        narrow = given if projection is None else given @ projection.T
        scores, places = self._candidates(narrow, k)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(scores, best, axis=1)
        places = np.take_along_axis(places, best, axis=1)
        if constant is not None:
            scores = scores + (given @ constant)[:, None]
        ids = self._vectors.ids
        items = places if ids is None else np.where(places < 0, -1, ids[places])
        return scores, items

    def _candidates(self, queries: Floats, k: int) -> tuple[Floats, Ints]:
        found, first = [], 0
        for block in self._blocks:
            scores, places = block.search(queries, k)
            found.append((scores, np.where(places < 0, -1, places + first)))
            first += block.index.ntotal
        rest = min(k, self.num_items - first)
        if rest:
            # Of these nothing is known but the constant: all score alike.
            places = np.broadcast_to(first + np.arange(rest), (len(queries), rest))
            found.append((np.zeros(places.shape, np.float32), places))
        scores, places = (
            np.concatenate(parts, axis=1) for parts in zip(*found, strict=True)
        )
        return scores, places

    def num_bytes(self) -> int:
        """What the index holds, FAISS's lists included."""
        faiss = _import_faiss()
        arrays = [self._vectors.ids, self._vectors.projection, self._vectors.constant]
        arrays += [block.centre for block in self._blocks]
        own = sum(array.nbytes for array in arrays if array is not None)
        lists = (faiss.serialize_index(block.index) for block in self._blocks)
        return own + sum(len(part) for part in lists)

    def _check(self, queries: npt.ArrayLike) -> Floats:
        array = np.asarray(queries, np.float32)
        fits = array.ndim == 2 and array.shape[1] == self.query_dim
        if not fits or not np.isfinite(array).all():
            raise DataError(
                f"`queries` must be finite, of shape (batch, {self.query_dim}). "
                f"Received: shape {array.shape}, "
                f"{int((~np.isfinite(array)).sum())} values that are not finite. Give "
                "the output of the tower that the items' vectors were trained with."
            )
        return array


def _factory(items: int) -> str:
    lists = round(items**0.5)
    return "Flat" if items < lists * _VECTORS_A_LIST else f"IVF{lists},Flat"


class _Block(NamedTuple):
    """One FAISS index of items, less their mean where there is a `centre`."""

    index: Any
    centre: Floats | None

    def search(self, queries: Floats, k: int) -> tuple[Floats, Ints]:
        """Scores and places of at most `k` items; -inf and -1 where it found none."""
        rows = np.ascontiguousarray(queries[:, : self.index.d])
        scores, places = self.index.search(rows, min(k, self.index.ntotal))
        if self.centre is not None:
            scores = scores + (rows @ self.centre)[:, None]
        return np.where(places < 0, np.float32(-np.inf), scores), places


def _build(
    faiss: Any, block: Floats, factory: str, probes: int | None, seed: int
) -> _Block:
    try:
        index = faiss.index_factory(block.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        # Also where something in front of the lists, or behind, wraps them.
        lists = faiss.try_extract_index_ivf(index)
        _check_probes(probes, factory, lists)
        if lists is not None:
            lists.cp.seed = seed
        centre = _centre(faiss, index, factory, block)
        items = block if centre is None else block - centre
        index.train(items)
        index.add(items)
    except RuntimeError as error:
        raise ValueError(
            "`factory` must be a description that faiss.index_factory knows, for "
            f"blocks of this size. Received: factory={factory!r} for {len(block)} "
            f"items of width {block.shape[1]} ({error}). See FAISS's wiki, or leave "
            "it out."
        ) from error
    if lists is not None:
        lists.nprobe = min(probes or -(-lists.nlist // 4), lists.nlist)
    return _Block(index, centre)


def _centre(faiss: Any, index: Any, factory: str, block: Floats) -> Floats | None:
    """The mean of the items, where FAISS would take it off the queries, too.

    `<u, v> = <u, v - mean> + <u, mean>`, and vectors of mean 0 are not moved.
    """
    transforms = _transforms(faiss, index)
    for transform in transforms:
        _check_keeps_products(faiss, transform, factory)
    if not any(isinstance(t, faiss.PCAMatrix) for t in transforms):
        return None
    centre: Floats = block.mean(axis=0, dtype=np.float64).astype(np.float32)
    return centre


def _transforms(faiss: Any, index: Any) -> list[Any]:
    """What vectors go through before they are compared, in all parts of an index."""
    index = faiss.downcast_index(index)
    found = []
    if isinstance(index, faiss.IndexPreTransform):
        chain = [index.chain.at(place) for place in range(index.chain.size())]
        found = [faiss.downcast_VectorTransform(transform) for transform in chain]
    for name in ("index", "base_index", "refine_index"):
        if hasattr(index, name):
            found += _transforms(faiss, getattr(index, name))
    return found


def _check_keeps_products(faiss: Any, transform: Any, factory: str) -> None:
    scales = (faiss.ITQTransform, faiss.NormalizationTransform)
    whitens = isinstance(transform, faiss.PCAMatrix) and transform.eigen_power != 0
    if whitens or isinstance(transform, scales):
        raise ValueError(
            "`factory` must keep inner products, which are the scores. Received: "
            f"factory={factory!r}, whose {type(transform).__name__} changes the "
            "lengths of vectors (ITQ, L2norm and PCAW do). Use PCA, PCAR, RR or OPQ."
        )


def _check_probes(probes: int | None, factory: str, lists: Any) -> None:
    if probes is not None and lists is None and factory != "Flat":
        raise ValueError(
            "`probes` must be None for a `factory` without lists (IVF). Received: "
            f"probes={probes} for factory={factory!r}. Leave one of them out."
        )


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "`FaissIndex` needs FAISS. Received: a Python without it. Install "
            "keras-eds[faiss], or use ExactIndex."
        ) from error
    return faiss
