"""Personal Top: what the user had most often, most often first.

The yardstick of repeat consumption (groceries, music): people buy again what they bought before,
and a model has to beat that. It only makes sense where seen items may be recommended.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame

from sparkrec.baselines.popularity._counted import CountedModel, count_items
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.retrieval.base import Retriever, require_history
from sparkrec.retrieval.recommend import popular_items, ragged_items
from sparkrec.retrieval.search.topk import Floats, Ints


class PersonalTopModel(CountedModel):
    """Items of the query's history by count, ties by their last time; popular items after them."""

    def searcher(self) -> "PersonalTopSearcher":
        return PersonalTopSearcher(self.catalogue, self.get("history_col"))

    def prepare_queries(self, queries: DataFrame) -> DataFrame:
        require_history(queries, self.get("history_col"))
        return queries


class PersonalTop(Retriever):
    """`fit` counts the items of train; the rest is in each query's history."""

    model_class = PersonalTopModel

    def __init__(self, **params: Any) -> None:
        super().__init__()
        self.set_params(**params)

    def _fit(self, dataset: DataFrame) -> PersonalTopModel:
        return self._copyValues(PersonalTopModel(count_items(dataset, self.get("item_col"))))


class PersonalTopSearcher:
    """The executors' part of Personal Top."""

    def __init__(self, catalogue: Catalogue, history: str) -> None:
        self.catalogue = catalogue
        self.history = history

    def search(
        self,
        batch: pa.RecordBatch,
        k: int,
        seen: tuple[Ints, Ints] | None,
        allowed: npt.NDArray[np.bool_] | None,
    ) -> tuple[Floats, Ints]:
        k = min(k, len(self.catalogue))
        rows, items = ragged_items(batch.column(self.history), self.catalogue)
        if allowed is not None:
            rows, items = rows[allowed[items]], items[allowed[items]]
        # Histories are oldest first: the last occurrence of a pair is its latest.
        pairs = rows[::-1] * len(self.catalogue) + items[::-1]
        pairs, first, counts = np.unique(pairs, return_index=True, return_counts=True)
        row, item = np.divmod(pairs, len(self.catalogue))
        best = np.lexsort((first, -counts, row))
        row, item, counts = row[best], item[best], counts[best]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        scores = np.full((batch.num_rows, k), -np.inf, np.float32)
        found = np.full((batch.num_rows, k), -1, np.int64)
        keep = place < k if seen is None else np.zeros(len(place), bool)
        found[row[keep], place[keep]] = item[keep]
        scores[row[keep], place[keep]] = counts[keep]
        self._fill(found, scores, seen, allowed)
        return scores, found

    def _fill(
        self,
        found: Ints,
        scores: Floats,
        seen: tuple[Ints, Ints] | None,
        allowed: npt.NDArray[np.bool_] | None,
    ) -> None:
        """Popular items, with a score below any count, in the places that are left."""
        rows, k = found.shape
        given_row, given_place = np.nonzero(found >= 0)
        given = (given_row, found[given_row, given_place])
        taken = given if seen is None else seen
        every = np.arange(rows, dtype=np.int64)
        popular, _ = popular_items(self.catalogue, every, taken, allowed, rows, k)
        free = (found < 0).astype(np.int64)
        place = np.cumsum(free, axis=1) - 1
        filler = np.take_along_axis(popular, np.maximum(place, 0), axis=1)
        use = (free == 1) & (filler >= 0)
        found[use] = filler[use]
        scores[use] = 1.0 / (2.0 + place[use])

    def answers(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        return np.ones(batch.num_rows, bool)
