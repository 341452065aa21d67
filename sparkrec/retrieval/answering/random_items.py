"""Answering with items drawn by chance."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.io import storage
from sparkrec.retrieval.search.searcher import Mask, Pairs, Searcher
from sparkrec.retrieval.search.topk import Floats, Ints
from sparkrec.splitmix64 import GOLDEN, mixed


class RandomSearcher(Searcher):
    """Gives items in an order that depends on the seed and the history of the query alone.

    Every item is at every place with the same probability: place p has the item (a p + b) modulo a
    prime number at least as large as the catalogue, where a and b are drawn by a hash of the
    history; numbers beyond the catalogue are left out. Scores are 1 / place.
    """

    def __init__(self, catalogue: Catalogue, history: str, seed: int) -> None:
        self.catalogue, self.history, self.seed = catalogue, history, seed

    @classmethod
    def restore(cls, folder: str, description: dict[str, Any]) -> "RandomSearcher":
        params = description["params"]
        catalogue = Catalogue.read(storage.join(folder, "items.parquet"))
        return cls(catalogue, params["history_col"], params["seed"])

    def search(
        self, batch: pa.RecordBatch, k: int, seen: Pairs | None, allowed: Mask | None
    ) -> tuple[Floats, Ints]:
        every = np.arange(len(self.catalogue))
        candidates = every if allowed is None else every[allowed]
        found = np.full((batch.num_rows, min(k, len(every))), -1, np.int64)
        scores = np.full(found.shape, -np.inf, np.float32)
        if not len(candidates):
            return scores, found
        prime = _prime_from(len(candidates))
        longest = int(np.bincount(seen[0]).max()) if seen is not None and len(seen[0]) else 0
        # Enough places for k items, whichever of them are seen or beyond the catalogue.
        places = min(prime, found.shape[1] + longest + prime - len(candidates))
        first, second = self._keys(batch)
        step, start = 1 + first % np.uint64(max(prime - 1, 1)), second % np.uint64(prime)
        drawn = (step[:, None] * np.arange(places, dtype=np.uint64) + start[:, None]) % np.uint64(
            prime
        )
        given = drawn < len(candidates)
        items = candidates[np.where(given, drawn, 0).astype(np.int64)]
        if seen is not None:
            pairs = seen[0] * len(every) + seen[1]
            given &= ~np.isin(np.arange(len(items))[:, None] * len(every) + items, pairs)
        column = np.cumsum(given, axis=1) - 1
        row, place = np.nonzero(given & (column < found.shape[1]))
        found[row, column[row, place]] = items[row, place]
        scores[row, column[row, place]] = 1.0 / (1.0 + column[row, place])
        return scores, found

    def answers(self, batch: pa.RecordBatch) -> Mask:
        return np.ones(batch.num_rows, bool)

    def _keys(self, batch: pa.RecordBatch) -> tuple[npt.NDArray[np.uint64], ...]:
        """Two random numbers a row, by the seed and the items of its history in their order."""
        total = np.zeros(batch.num_rows, np.uint64)
        if self.history in batch.schema.names:
            rows, items = self.history_items(batch, self.history)
            place = np.arange(len(rows)) - np.searchsorted(rows, rows)
            words = mixed(items.astype(np.uint64) * np.uint64(GOLDEN) + place.astype(np.uint64))
            np.add.at(total, rows, words)
        return tuple(mixed(total, self.seed % 2**32 * 2 + which) for which in (0, 1))


def _prime_from(number: int) -> int:
    """The smallest prime number that is at least `number`."""
    while number > 2 and any(number % other == 0 for other in range(2, int(number**0.5) + 1)):
        number += 1
    return max(number, 2)
