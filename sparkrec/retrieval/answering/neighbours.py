"""Answering with a table of neighbours, as ItemCF and Swing make it.

A candidate j scores the sum, over the items i of the history, of weight(i) x similarity(i, j).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse  # type: ignore[import-untyped]

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.io import storage
from sparkrec.io.arrow import read_parquet, write_parquet
from sparkrec.retrieval.search.searcher import Mask, Pairs, Searcher, ragged_items
from sparkrec.retrieval.search.topk import Floats, Ints, best_of

# Neighbours of every item, int32 [items, K] with -1 for none, and their similarities.
Neighbours = tuple[npt.NDArray[np.int32], npt.NDArray[Any]]


def write_neighbours(
    folder: str, catalogue: Catalogue, neighbours: npt.NDArray[np.int32], scores: npt.NDArray[Any]
) -> None:
    """Write a table of neighbours below the folder of a model."""
    catalogue.write(storage.join(folder, "items.parquet"))
    width = neighbours.shape[1]
    table = pa.table(
        {
            "neighbours": pa.FixedSizeListArray.from_arrays(neighbours.ravel(), width),
            "scores": pa.FixedSizeListArray.from_arrays(scores.ravel(), width),
        }
    )
    write_parquet(storage.join(folder, "neighbours.parquet"), table)


def read_neighbours(folder: str) -> tuple[Catalogue, npt.NDArray[np.int32], npt.NDArray[Any]]:
    """What `write_neighbours` wrote."""
    table = read_parquet(storage.join(folder, "neighbours.parquet"))
    items = table.num_rows
    neighbours, scores = (
        pa.compute.list_flatten(table.column(name)).to_numpy().reshape(items, -1)
        for name in ("neighbours", "scores")
    )
    return Catalogue.read(storage.join(folder, "items.parquet")), neighbours, scores


def age_weights(trigger: str, decay: float, max_history: int) -> npt.NDArray[np.float64]:
    """[ages]: the weight of an item of the history by its age, that of the last item first."""
    ages = np.arange(1 if trigger == "last" else max_history)
    return np.power(decay, ages, dtype=np.float64)


class NeighbourSearcher(Searcher):
    """Adds up the neighbours of a history's items.

    Parameters
    ----------
    weights
        [ages]: the weight of an item by its age, the last item's first.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        neighbours: npt.NDArray[np.int32],
        scores: npt.NDArray[Any],
        history: str,
        weights: npt.NDArray[Any],
    ) -> None:
        self.catalogue, self.neighbours, self.scores = catalogue, neighbours, scores
        self.history, self.weights = history, weights
        self._order = catalogue.order
        # Less than any score of a neighbour, and the same whoever asks.
        self._filler = np.empty(len(catalogue), np.float32)
        self._filler[catalogue.popular] = -1.0 - np.arange(len(catalogue))
        self._similarity: sparse.csr_matrix | None = None

    @classmethod
    def restore(cls, folder: str, description: dict[str, Any]) -> "NeighbourSearcher":
        params = description["params"]
        weights = age_weights(params["trigger"], params["decay"], params["max_history"])
        return cls(*read_neighbours(folder), params["history_col"], weights)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_similarity": None}

    @property
    def similarity(self) -> sparse.csr_matrix:
        """[items, items], the neighbours of each item in its row; made once a worker."""
        if self._similarity is None:
            given = self.neighbours >= 0
            indptr = np.concatenate([[0], np.cumsum(given.sum(axis=1))])
            shape = (len(self.catalogue), len(self.catalogue))
            content = (self.scores[given], self.neighbours[given], indptr)
            self._similarity = sparse.csr_matrix(content, shape)
        return self._similarity

    def search(
        self,
        batch: pa.RecordBatch,
        k: int,
        seen: Pairs | None,
        allowed: Mask | None,
    ) -> tuple[Floats, Ints]:
        rows, items = ragged_items(batch.column(self.history), self.catalogue)
        asked = self._weighted(rows, items, batch.num_rows)

        def scores(start: int, stop: int) -> Floats:
            block = (asked[start:stop] @ self.similarity).toarray().astype(np.float32)
            return np.where(block > 0, block, self._filler)

        return best_of(scores, batch.num_rows, k, self._order, seen, allowed)

    def answers(self, batch: pa.RecordBatch) -> Mask:
        known = np.zeros(batch.num_rows, bool)
        known[ragged_items(batch.column(self.history), self.catalogue)[0]] = True
        return known

    def _weighted(self, rows: Ints, items: Ints, queries: int) -> sparse.csr_matrix:
        """[queries, items]: the weight of each item of a history."""
        ends = np.cumsum(np.bincount(rows, minlength=queries))
        age = ends[rows] - 1 - np.arange(len(rows))
        recent = age < len(self.weights)
        rows, items, age = rows[recent], items[recent], age[recent]
        shape = (queries, len(self.catalogue))
        return sparse.csr_matrix((self.weights[age], (rows, items)), shape)
