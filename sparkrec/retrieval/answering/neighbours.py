"""Answering with a table of neighbours, as ItemCF and Swing make it.

A candidate j scores the sum, over the items i of the history, of weight(i) x similarity(i, j).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.io import storage
from sparkrec.io.arrow import read_parquet, write_parquet
from sparkrec.retrieval.answering.merge import Filler, Ragged, Table, merge
from sparkrec.retrieval.search.searcher import Mask, Pairs, Searcher
from sparkrec.retrieval.search.topk import Floats, Ints

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
        self._order = catalogue.order.astype(np.int32)
        self._by_order = np.argsort(self._order).astype(np.int32)
        # Popular items score less than any neighbour; their scores are the same for all queries.
        ranks = np.arange(len(catalogue), dtype=np.float32)
        self._filler = Filler(catalogue.popular.astype(np.int32), -1 - ranks)
        # Accumulators that no call is using.
        self._spare: list[npt.NDArray[np.float64]] = []

    @classmethod
    def restore(cls, folder: str, description: dict[str, Any]) -> "NeighbourSearcher":
        params = description["params"]
        weights = age_weights(params["trigger"], params["decay"], params["max_history"])
        return cls(*read_neighbours(folder), params["history_col"], weights)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_spare": []}

    def search(
        self,
        batch: pa.RecordBatch,
        k: int,
        seen: Pairs | None,
        allowed: Mask | None,
    ) -> tuple[Floats, Ints]:
        nothing = np.zeros(0, np.int64)
        history = self.history_items(batch, self.history)
        filler = self._filler
        if allowed is not None:
            places = np.flatnonzero(allowed[filler.items])
            filler = Filler(filler.items[places], filler.scores[places])
        try:
            sums = self._spare.pop()
        except IndexError:
            sums = np.zeros(len(self.catalogue))
        found = merge(
            Table(self.neighbours, self.scores, self._order, self._by_order),
            _ragged(history, batch.num_rows),
            self.weights,
            _ragged((nothing, nothing) if seen is None else seen, batch.num_rows),
            np.zeros(0, bool) if allowed is None else allowed,
            filler,
            sums,
            min(k, len(self.catalogue)),
        )
        self._spare.append(sums)
        return found

    def answers(self, batch: pa.RecordBatch) -> Mask:
        known = np.zeros(batch.num_rows, bool)
        known[self.history_items(batch, self.history)[0]] = True
        return known


def _ragged(pairs: Pairs, queries: int) -> Ragged:
    return Ragged(np.searchsorted(pairs[0], np.arange(queries + 1)), pairs[1])
