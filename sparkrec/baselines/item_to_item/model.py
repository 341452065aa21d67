"""What the item-to-item models share: a table of neighbours, and how a history asks it.

A candidate j scores the sum, over the items i of the history, of weight(i) x similarity(i, j).
"""

import io
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy import sparse  # type: ignore[import-untyped]

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.io import storage
from sparkrec.retrieval.base import RetrievalModel, require_history
from sparkrec.retrieval.params import ConfigParams
from sparkrec.retrieval.recommend import ragged_items
from sparkrec.retrieval.search.topk import Floats, Ints, best_of

M = TypeVar("M", bound="ItemToItemModel")

# Scores of a batch of queries, at 12 bytes each.


@dataclass(frozen=True, kw_only=True)
class ItemToItemConfig:
    """How an item-to-item model is asked.

    Attributes
    ----------
    trigger
        `last`: by the last item of the history; `history`: by its recent items.
    decay
        With `history`: an item of age a (0 is the last) weighs decay^a. 1 weighs all alike.
    max_history
        With `history`: items older than so many do not count.
    num_neighbours
        Neighbours of each item that are kept, the best.
    """

    trigger: Literal["last", "history"] = "history"
    decay: float = 0.6
    max_history: int = 50
    num_neighbours: int = 100

    def __post_init__(self) -> None:
        if self.trigger not in ("last", "history"):
            raise ValueError("trigger must be last or history")
        if not 0 < self.decay <= 1:
            raise ValueError("decay must be above 0 and at most 1")
        for name in ("max_history", "num_neighbours"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")


class ItemToItemModel(ConfigParams[Any], RetrievalModel):
    """Neighbours of every item, asked by the history of a query.

    Items of the history that train did not have, and nulls, are passed over: they neither count
    nor age the others. An item that stands in the history twice counts twice. Whatever k leaves
    room for after the neighbours is filled with popular items; those have negative scores, minus
    the rank by popularity, so that they are the same for every query.

    Attributes
    ----------
    catalogue
        The items.
    neighbours
        int32 [items, K]: item numbers, best first, -1 for none.
    scores
        float64 [items, K]: their similarity, above 0.

    Notes
    -----
    All neighbours are broadcast to the executors, at 12 bytes each. A query's scores are a dense
    row over the catalogue, so answering costs time in proportion to queries x items: up to about
    a million items, beyond which the I2I table is better served from a key-value store.
    """

    config_class = ItemToItemConfig

    def __init__(
        self, catalogue: Catalogue, neighbours: npt.NDArray[np.int32], scores: npt.NDArray[Any]
    ) -> None:
        super().__init__()
        self.catalogue, self.neighbours, self.scores = catalogue, neighbours, scores

    def prepare_queries(self, queries: DataFrame) -> DataFrame:
        require_history(queries, self.get("history_col"))
        return queries

    def searcher(self) -> "NeighbourSearcher":
        oldest = 1 if self.get("trigger") == "last" else self.get("max_history")
        return NeighbourSearcher(
            self.catalogue,
            self.neighbours,
            self.scores,
            self.get("history_col"),
            self.get("decay") ** np.arange(oldest),
        )

    def i2i(self, spark: SparkSession) -> DataFrame:
        """The neighbours as a table: `key`, `value: array<struct<item_id, score>>`, best first.

        Items without neighbours have no row.
        """
        given = self.neighbours >= 0
        some = np.flatnonzero(given.any(axis=1))
        offsets = np.concatenate([[0], np.cumsum(given[some].sum(axis=1))]).astype(np.int32)
        ids = self.catalogue.ids
        entries = pa.StructArray.from_arrays(
            [ids.take(pa.array(self.neighbours[given])), pa.array(self.scores[given])],
            ["item_id", "score"],
        )
        value = pa.ListArray.from_arrays(pa.array(offsets), entries)
        return spark.createDataFrame(pa.table({"key": ids.take(pa.array(some)), "value": value}))

    def write_parts(self, folder: str) -> dict[str, Any]:
        self.catalogue.write(storage.join(folder, "items.parquet"))
        width = self.neighbours.shape[1]
        table = pa.table(
            {
                "neighbours": pa.FixedSizeListArray.from_arrays(self.neighbours.ravel(), width),
                "scores": pa.FixedSizeListArray.from_arrays(self.scores.ravel(), width),
            }
        )
        sink = io.BytesIO()
        pyarrow.parquet.write_table(table, sink)
        storage.write_bytes(storage.join(folder, "neighbours.parquet"), sink.getvalue())
        return {"num_items": len(self.catalogue)}

    @classmethod
    def read_parts(cls: type[M], folder: str, description: dict[str, Any]) -> M:
        content = storage.read_bytes(storage.join(folder, "neighbours.parquet"))
        table = pyarrow.parquet.read_table(pa.BufferReader(content))
        items = table.num_rows
        neighbours, scores = (
            pa.compute.list_flatten(table.column(name)).to_numpy().reshape(items, -1)
            for name in ("neighbours", "scores")
        )
        return cls(Catalogue.read(storage.join(folder, "items.parquet")), neighbours, scores)


def stringify(i2i: DataFrame) -> DataFrame:
    """An I2I table with its values as text, `id:score;id:score`, best first.

    Ids that contain `:` or `;` cannot be told apart in it.
    """
    entry = F.transform(
        "value", lambda x: F.concat_ws(":", x["item_id"].cast("string"), x["score"].cast("string"))
    )
    return i2i.select("key", F.concat_ws(";", entry).alias("value"))


class NeighbourSearcher:
    """The executors' part of an item-to-item model.

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
        seen: tuple[Ints, Ints] | None,
        allowed: npt.NDArray[np.bool_] | None,
    ) -> tuple[Floats, Ints]:
        rows, items = ragged_items(batch.column(self.history), self.catalogue)
        asked = self._weighted(rows, items, batch.num_rows)

        def scores(start: int, stop: int) -> Floats:
            block = (asked[start:stop] @ self.similarity).toarray().astype(np.float32)
            return np.where(block > 0, block, self._filler)

        return best_of(scores, batch.num_rows, k, self._order, seen, allowed)

    def answers(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
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
