"""The vector index: item vectors in faiss, searched by inner product.

`Flat` is exact: scores come from a blocked matrix product over the vectors that the faiss index
holds, seen items are masked inside it, and ties go by item id, so results are deterministic.
`IVF<lists>,Flat` and `HNSW<links>` are faiss's approximate indexes: more than k items are found for
all queries at once, and the seen ones left out; where too few are left, a query is searched again
with a selector of its own. It may still find fewer than k, and ties have no promised order.
"""

from dataclasses import dataclass, field
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from sparkrec.compiled import compiled
from sparkrec.retrieval.search.settings import Retrieval
from sparkrec.retrieval.search.topk import Floats, Ints, best_of

# The most items to search for beyond k. A query that has seen more rarely has all of them among its
# best, and one long history must not slow down the whole batch.
_MOST_BEYOND = 256


@dataclass(eq=False)
class VectorIndex:
    """An index over the vectors of all items; item i is the i-th vector.

    Attributes
    ----------
    order
        [items]: of two items with equal scores the one with the smaller number is first.
    """

    faiss_index: Any
    settings: Retrieval
    order: Ints
    _vectors: Floats | None = field(default=None, repr=False)

    @classmethod
    def build(cls, vectors: Floats, settings: Retrieval, order: Ints) -> "VectorIndex":
        """Index [items, dim] float32 vectors.

        Raises
        ------
        ConfigError
            An IVF index has more lists than there are items.
        """
        settings.check_items(len(vectors))
        index = faiss.index_factory(vectors.shape[1], settings.index, faiss.METRIC_INNER_PRODUCT)
        contiguous = np.ascontiguousarray(vectors, np.float32)
        if not index.is_trained:
            index.train(contiguous)
        index.add(contiguous)
        return cls(index, settings, order)

    @classmethod
    def empty(cls, settings: Retrieval) -> "VectorIndex":
        """An index without items, for a model that is not trained yet."""
        return cls(faiss.IndexFlatIP(1), settings, np.zeros(0, np.int64))

    def with_vectors(self, vectors: Floats, order: Ints) -> "VectorIndex":
        """An index that also has the given vectors [new, dim], after the others.

        The lists of an IVF index stay as they are. `order` is that of all items.
        """
        index = faiss.clone_index(self.faiss_index)
        index.add(np.ascontiguousarray(vectors, np.float32))
        return VectorIndex(index, self.settings, order)

    def to_bytes(self) -> bytes:
        """The index in faiss's own format."""
        return faiss.serialize_index(self.faiss_index).tobytes()

    @classmethod
    def from_bytes(cls, content: bytes, settings: Retrieval, order: Ints) -> "VectorIndex":
        """The index from the bytes of `to_bytes`."""
        index = faiss.deserialize_index(np.frombuffer(content, np.uint8))
        return cls(index, settings, order)

    def search(
        self,
        queries: Floats,
        k: int,
        seen: tuple[Ints, Ints] | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[Floats, Ints]:
        """The k items with the largest inner product for each query, best first.

        Parameters
        ----------
        queries
            float32 [queries, dim].
        seen
            Items that must not be given to a query: (row of the query, item), two arrays of one
            length, rows ascending.
        allowed
            [items]: only these are given to anyone.

        Returns
        -------
        scores, items
            [queries, min(k, items)]; -1 where nothing more was found.
        """
        if self.settings.index == "Flat":
            return self._search_exact(queries, k, seen, allowed)
        return self._search_approximate(queries, k, seen, allowed)

    @property
    def vectors(self) -> Floats:
        """All vectors, [items, dim]."""
        if self._vectors is None:
            self._vectors = self.faiss_index.reconstruct_n(0, self.faiss_index.ntotal)
        return self._vectors

    def _search_exact(
        self,
        queries: Floats,
        k: int,
        seen: tuple[Ints, Ints] | None,
        allowed: npt.NDArray[np.bool_] | None,
    ) -> tuple[Floats, Ints]:
        def scores(start: int, stop: int) -> Floats:
            return queries[start:stop] @ self.vectors.T

        return best_of(scores, len(queries), k, self.order, seen, allowed)

    def _search_approximate(
        self,
        queries: Floats,
        k: int,
        seen: tuple[Ints, Ints] | None,
        allowed: npt.NDArray[np.bool_] | None,
    ) -> tuple[Floats, Ints]:
        items = self.faiss_index.ntotal
        k = min(k, items)
        queries = np.ascontiguousarray(queries, np.float32)
        parameters = self._parameters(None if allowed is None else _selector(allowed))
        if seen is None:
            return self.faiss_index.search(queries, k, params=parameters)
        starts = np.searchsorted(seen[0], np.arange(len(queries) + 1))
        most = int(np.diff(starts).max(initial=0))
        wide = min(k + min(most, _MOST_BEYOND), items)
        wide_scores, wide_found = self.faiss_index.search(queries, wide, params=parameters)
        scores, found, again = _first_unseen(wide_scores, wide_found, starts, seen[1], items, k)
        for row in np.flatnonzero(again):
            mask = np.ones(items, bool) if allowed is None else allowed.copy()
            mask[seen[1][starts[row] : starts[row + 1]]] = False
            scores[row], found[row] = self.faiss_index.search(
                queries[row : row + 1], k, params=self._parameters(_selector(mask))
            )
        return scores, found

    def _parameters(self, selector: Any) -> Any:
        if self.settings.index.startswith("HNSW"):
            return faiss.SearchParametersHNSW(sel=selector, efSearch=self.settings.ef_search)
        return faiss.SearchParametersIVF(sel=selector, nprobe=self.settings.nprobe)


def _selector(mask: npt.NDArray[np.bool_]) -> Any:
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))


@compiled
def _first_unseen(
    scores: Floats, found: Ints, starts: Ints, seen: Ints, items: int, k: int
) -> tuple[Floats, Ints, npt.NDArray[np.bool_]]:
    """The first k unseen items of each row, and whether the row has fewer than k.

    Parameters
    ----------
    starts
        [rows + 1]: row r has seen `seen[starts[r]:starts[r + 1]]`.
    """
    rows, width = found.shape
    kept_scores = np.full((rows, k), -np.inf, np.float32)
    kept = np.full((rows, k), -1, np.int64)
    short = np.zeros(rows, np.bool_)
    marked = np.zeros(items, np.bool_)
    for row in range(rows):
        own = seen[starts[row] : starts[row + 1]]
        for item in own:
            marked[item] = True
        place, passed = 0, 0
        for column in range(width):
            item = found[row, column]
            if place == k or item < 0:
                break
            if marked[item]:
                passed += 1
            else:
                kept_scores[row, place], kept[row, place] = scores[row, column], item
                place += 1
        short[row] = place < k and passed > 0
        for item in own:
            marked[item] = False
    return kept_scores, kept, short
