"""Base of the item-to-item models: a table of neighbours that is queried by a history.

The score of a candidate j is the sum of weight(i) * similarity(i, j) over the items i of the
history.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.bounds import Count, Decay, TopK, check_bounds
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.retrieval.answering.neighbours import (
    NeighbourSearcher,
    age_weights,
    read_neighbours,
    write_neighbours,
)
from sparkrec.retrieval.base import RetrievalModel, require_history
from sparkrec.retrieval.params import ConfigParams
from sparkrec.spark_versions import from_arrow

M = TypeVar("M", bound="ItemToItemModel")


@dataclass(frozen=True, kw_only=True)
class ItemToItemConfig:
    """How an item-to-item model is queried, and the size of its table.

    Attributes
    ----------
    trigger
        Items of the history whose neighbours are recommended: `last`, the last item only, or
        `history`, the recent items.
    decay
        With `trigger: history`, an item of age a (0 is the last item) has the weight decay^a.
        1 gives all items the same weight.
    max_history
        With `trigger: history`, number of the latest items that are used.
    num_neighbours
        Number of neighbours of each item that the table holds, those with the highest similarity.
    """

    trigger: Literal["last", "history"] = "history"
    decay: Decay = 0.6
    max_history: Count = 50
    num_neighbours: TopK = 100

    def __post_init__(self) -> None:
        if self.trigger not in ("last", "history"):
            raise ValueError("trigger must be last or history")
        check_bounds(self)


class ItemToItemModel(ConfigParams, RetrievalModel):
    """The neighbours of every item, queried by a history.

    Items of the history that are not in train, and nulls, are skipped: they have no weight and do
    not change the age of the others. An item that occurs twice in the history counts twice. If a
    query has fewer than k neighbours, popular items are added after them. Their scores are
    negative (minus the rank by popularity) and the same for every query.

    Attributes
    ----------
    catalogue
        The items.
    neighbours
        int32 [items, K]: item numbers, highest similarity first, -1 where there are fewer than K.
    scores
        float64 [items, K]: the similarities, above 0.

    Notes
    -----
    All neighbours are broadcast to the executors, at 12 bytes each: a million items with 100
    neighbours take 1.2 GB in every Python worker, and a larger table is better served from a
    key-value store, see `i2i`. A query costs one addition for each neighbour of each item of its
    history, so time depends on the catalogue only as far as the table fits the processor's cache;
    a worker needs 8 bytes an item for the sums.
    """

    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": ItemToItemConfig}
    searcher_class = NeighbourSearcher
    query_params = ("trigger", "decay", "max_history")

    def __init__(
        self, catalogue: Catalogue, neighbours: npt.NDArray[np.int32], scores: npt.NDArray[Any]
    ) -> None:
        super().__init__()
        self.catalogue, self.neighbours, self.scores = catalogue, neighbours, scores

    def prepare_queries(self, queries: DataFrame) -> DataFrame:
        require_history(queries, self.get("history_col"))
        return queries

    def searcher(self) -> NeighbourSearcher:
        weights = age_weights(self.get("trigger"), self.get("decay"), self.get("max_history"))
        return NeighbourSearcher(
            self.catalogue, self.neighbours, self.scores, self.get("history_col"), weights
        )

    def i2i(self, spark: SparkSession) -> DataFrame:
        """The neighbours as a table: `key`, `value: array<struct<item_id, score>>`, best first.

        Items without neighbours have no row in it.
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
        return from_arrow(spark, pa.table({"key": ids.take(pa.array(some)), "value": value}))

    def tables(self, spark: SparkSession) -> dict[str, DataFrame]:
        """The table of neighbours, `i2i`."""
        return {"i2i": self.i2i(spark)}

    def write_parts(self, folder: str) -> dict[str, Any]:
        write_neighbours(folder, self.catalogue, self.neighbours, self.scores)
        return {"num_items": len(self.catalogue)}

    @classmethod
    def read_parts(cls: type[M], folder: str, description: dict[str, Any]) -> M:
        return cls(*read_neighbours(folder))


def stringify(i2i: DataFrame) -> DataFrame:
    """Format the values of an I2I table as text, `id:score;id:score`, best first.

    The text is ambiguous if ids contain `:` or `;`.
    """
    entry = F.transform(
        "value", lambda x: F.concat_ws(":", x["item_id"].cast("string"), x["score"].cast("string"))
    )
    return i2i.select("key", F.concat_ws(";", entry).alias("value"))
