"""Global Hot: the most frequent items of train, the same for everyone.

The yardstick of retrieval: a model that is not well above it has learned nothing about the user.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame

from sparkrec import storage
from sparkrec.errors import DataError
from sparkrec.retrieval.base import RetrievalModel, Retriever
from sparkrec.retrieval.catalogue import Catalogue
from sparkrec.retrieval.recommend import popular_items
from sparkrec.retrieval.topk import Floats, Ints


class GlobalHotModel(RetrievalModel):
    """Recommends items by count, ties by item id; the score is the count."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self.catalogue = catalogue

    def searcher(self) -> "HotSearcher":
        return HotSearcher(self.catalogue)

    def write_parts(self, folder: str) -> dict[str, Any]:
        self.catalogue.write(storage.join(folder, "items.parquet"))
        return {}

    @classmethod
    def read_parts(cls, folder: str, description: dict[str, Any]) -> "GlobalHotModel":
        return cls(Catalogue.read(storage.join(folder, "items.parquet")))


class GlobalHot(Retriever):
    """Counts the events of every item; `fit` needs the item column alone."""

    model_class = GlobalHotModel

    def __init__(self, **params: Any) -> None:
        super().__init__()
        self.set_params(**params)

    def _fit(self, dataset: DataFrame) -> "GlobalHotModel":
        item = self.get("item_col")
        if item not in dataset.columns:
            raise DataError(f"train has no column `{item}` (it has {', '.join(dataset.columns)})")
        model = GlobalHotModel(Catalogue.of(dataset, item))
        return self._copyValues(model)


class HotSearcher:
    """The executors' part of Global Hot."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def search(
        self,
        batch: pa.RecordBatch,
        k: int,
        seen: tuple[Ints, Ints] | None,
        allowed: npt.NDArray[np.bool_] | None,
    ) -> tuple[Floats, Ints]:
        rows = np.arange(batch.num_rows, dtype=np.int64)
        k = min(k, len(self.catalogue))
        items, scores = popular_items(self.catalogue, rows, seen, allowed, batch.num_rows, k)
        return scores, items

    def answers(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        return np.ones(batch.num_rows, bool)
