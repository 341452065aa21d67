"""The executors' part of ALS: each query's vector, looked up or folded in, and its best items."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkrec.baselines.als._mllib import FACTOR
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.retrieval.answering.fold_in import FoldIn, Weighting
from sparkrec.retrieval.recommend import ragged_items
from sparkrec.retrieval.search.topk import Floats, Ints, best_of


class ALSSearcher:
    """A query has a history and, where the users' own vectors answer, `FACTOR` or null."""

    def __init__(
        self, catalogue: Catalogue, fold_in: FoldIn, weighting: Weighting, history: str
    ) -> None:
        self.catalogue, self.fold_in = catalogue, fold_in
        self.weighting, self.history = weighting, history

    def vectors(self, batch: pa.RecordBatch) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """float32 [rows, rank], and the rows of which something is known; zeros elsewhere."""
        known, own = self._own(batch)
        rows, items = ragged_items(batch.column(self.history), self.catalogue)
        rows, items = rows[~known[rows]], items[~known[rows]]
        vectors = self.fold_in.solve(self.weighting.ratings(rows, items), batch.num_rows)
        vectors[known] = own
        known[rows] = True
        return vectors, known

    def search(
        self,
        batch: pa.RecordBatch,
        k: int,
        seen: tuple[Ints, Ints] | None,
        allowed: npt.NDArray[np.bool_] | None,
    ) -> tuple[Floats, Ints]:
        """The best items by inner product; none where nothing is known."""
        vectors, known = self.vectors(batch)
        items = self.fold_in.item_vectors

        def scores(start: int, stop: int) -> Floats:
            block = vectors[start:stop] @ items.T
            block[~known[start:stop]] = -np.inf
            return block

        return best_of(scores, len(vectors), k, self.catalogue.order, seen, allowed)

    def answers(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Rows whose user train had, or whose history has an item of train."""
        rows, _ = ragged_items(batch.column(self.history), self.catalogue)
        known, _ = self._own(batch)
        known[rows] = True
        return known

    def _own(self, batch: pa.RecordBatch) -> tuple[npt.NDArray[np.bool_], Floats]:
        """Which rows bring their user's vector from training, and these vectors."""
        rank = self.fold_in.item_vectors.shape[1]
        if FACTOR not in batch.schema.names:
            return np.zeros(batch.num_rows, bool), np.zeros((0, rank), np.float32)
        factors = batch.column(FACTOR)
        own = pa.compute.list_flatten(factors).to_numpy().reshape(-1, rank)
        return factors.is_valid().to_numpy(zero_copy_only=False).copy(), own
