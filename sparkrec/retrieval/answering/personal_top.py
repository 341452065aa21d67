"""Answering with the items of the query's own history, most often first."""

from typing import Any

import numpy as np
import pyarrow as pa

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.io import storage
from sparkrec.retrieval.search.searcher import Mask, Pairs, Searcher, popular_items
from sparkrec.retrieval.search.topk import Floats, Ints


class PersonalTopSearcher(Searcher):
    """Counts the items of each history."""

    def __init__(self, catalogue: Catalogue, history: str) -> None:
        self.catalogue = catalogue
        self.history = history

    @classmethod
    def restore(cls, folder: str, description: dict[str, Any]) -> "PersonalTopSearcher":
        return cls(
            Catalogue.read(storage.join(folder, "items.parquet")),
            description["params"]["history_col"],
        )

    def search(
        self,
        batch: pa.RecordBatch,
        k: int,
        seen: Pairs | None,
        allowed: Mask | None,
    ) -> tuple[Floats, Ints]:
        k = min(k, len(self.catalogue))
        rows, items = self.history_items(batch, self.history)
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
        seen: Pairs | None,
        allowed: Mask | None,
    ) -> None:
        """Fill the remaining places with popular items, whose scores are below any count."""
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

    def answers(self, batch: pa.RecordBatch) -> Mask:
        return np.ones(batch.num_rows, bool)
