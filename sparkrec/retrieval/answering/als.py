"""Answering with ALS: each query's vector, looked up or folded in, and its best items."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import load, save

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.io import storage
from sparkrec.retrieval.answering.fold_in import FoldIn, Objective, Weighting
from sparkrec.retrieval.search.searcher import Mask, Pairs, Searcher
from sparkrec.retrieval.search.topk import Floats, Ints, best_of

# Column of a user's own vector, array<float> [rank].
FACTOR = "_sr_factor"


def write_item_vectors(folder: str, catalogue: Catalogue, vectors: Floats) -> None:
    """Write the items and their vectors below the folder of a model."""
    catalogue.write(storage.join(folder, "items.parquet"))
    content = save({"items": np.ascontiguousarray(vectors)})
    storage.write_bytes(storage.join(folder, "vectors.safetensors"), content)


def read_item_vectors(folder: str) -> tuple[Catalogue, Floats]:
    """What `write_item_vectors` wrote."""
    vectors = load(storage.read_bytes(storage.join(folder, "vectors.safetensors")))["items"]
    return Catalogue.read(storage.join(folder, "items.parquet")), vectors


def als_searcher(
    catalogue: Catalogue, vectors: Floats, mean_rating: float, params: Mapping[str, Any]
) -> "ALSSearcher":
    """The searcher of a model with these params (those of `baselines.als.als.ALSModel`)."""
    objective = Objective(
        params["reg_param"], params["alpha"], params["implicit_prefs"], params["nonnegative"]
    )
    weighting = Weighting(
        params["decay"], params["max_history"], mean_rating, params["duplicates"] == "once"
    )
    return ALSSearcher(catalogue, FoldIn(vectors, objective), weighting, params["history_col"])


class ALSSearcher(Searcher):
    """A query has a history and, where the users' own vectors answer, `FACTOR` or null."""

    def __init__(
        self, catalogue: Catalogue, fold_in: FoldIn, weighting: Weighting, history: str
    ) -> None:
        self.catalogue, self.fold_in = catalogue, fold_in
        self.weighting, self.history = weighting, history

    @classmethod
    def restore(cls, folder: str, description: dict[str, Any]) -> "ALSSearcher":
        """A searcher that folds in every query's history, also those of train's users.

        The users' own vectors are a table for Spark, which is not read here.
        """
        catalogue, vectors = read_item_vectors(folder)
        return als_searcher(catalogue, vectors, description["mean_rating"], description["params"])

    def vectors(self, batch: pa.RecordBatch) -> tuple[Floats, Mask]:
        """User vectors, float32 [rows, rank], and which rows have one; the others are zeros."""
        known, own = self._own(batch)
        rows, items = self.history_items(batch, self.history)
        rows, items = rows[~known[rows]], items[~known[rows]]
        vectors = self.fold_in.solve(self.weighting.ratings(rows, items), batch.num_rows)
        vectors[known] = own
        known[rows] = True
        return vectors, known

    def search(
        self,
        batch: pa.RecordBatch,
        k: int,
        seen: Pairs | None,
        allowed: Mask | None,
    ) -> tuple[Floats, Ints]:
        """The best items by inner product; no items for rows without a vector."""
        vectors, known = self.vectors(batch)
        items = self.fold_in.item_vectors

        def scores(start: int, stop: int) -> Floats:
            chunk = vectors[start:stop] @ items.T
            chunk[~known[start:stop]] = -np.inf
            return chunk

        return best_of(scores, len(vectors), k, self.catalogue.order, seen, allowed)

    def answers(self, batch: pa.RecordBatch) -> Mask:
        """Rows whose user is in train, or whose history has an item of train."""
        rows, _ = self.history_items(batch, self.history)
        known, _ = self._own(batch)
        known[rows] = True
        return known

    def _own(self, batch: pa.RecordBatch) -> tuple[Mask, Floats]:
        """Which rows have their user's vector from training, and these vectors."""
        rank = self.fold_in.item_vectors.shape[1]
        if FACTOR not in batch.schema.names:
            return np.zeros(batch.num_rows, bool), np.zeros((0, rank), np.float32)
        factors = batch.column(FACTOR)
        own = pa.compute.list_flatten(factors).to_numpy().reshape(-1, rank)
        return factors.is_valid().to_numpy(zero_copy_only=False).copy(), own
