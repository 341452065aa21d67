"""What the item-to-item models share: a table of neighbours, and how a history asks it.

A candidate j scores the sum, over the items i of the history, of weight(i) x similarity(i, j).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.retrieval.answering.neighbours import (
    NeighbourSearcher,
    age_weights,
    read_neighbours,
    write_neighbours,
)
from sparkrec.retrieval.base import RetrievalModel, require_history
from sparkrec.retrieval.params import ConfigParams

M = TypeVar("M", bound="ItemToItemModel")


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


class ItemToItemModel(ConfigParams, RetrievalModel):
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
    """An I2I table with its values as text, `id:score;id:score`, best first.

    Ids that contain `:` or `;` cannot be told apart in it.
    """
    entry = F.transform(
        "value", lambda x: F.concat_ws(":", x["item_id"].cast("string"), x["score"].cast("string"))
    )
    return i2i.select("key", F.concat_ws(";", entry).alias("value"))
