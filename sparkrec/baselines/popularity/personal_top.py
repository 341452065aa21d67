"""Personal Top: what the user had most often, most often first.

The yardstick of repeat consumption (groceries, music): people buy again what they bought before,
and a model has to beat that. It only makes sense where seen items may be recommended.
"""

from typing import Any

from pyspark.sql import DataFrame

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.io import storage
from sparkrec.retrieval.answering.personal_top import PersonalTopSearcher
from sparkrec.retrieval.base import RetrievalModel, Retriever, require_history


class PersonalTopModel(RetrievalModel):
    """Items of the query's history by count, ties by their last time; popular items after them."""

    searcher_class = PersonalTopSearcher

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self.catalogue = catalogue

    def searcher(self) -> PersonalTopSearcher:
        return PersonalTopSearcher(self.catalogue, self.get("history_col"))

    def prepare_queries(self, queries: DataFrame) -> DataFrame:
        require_history(queries, self.get("history_col"))
        return queries

    def write_parts(self, folder: str) -> dict[str, Any]:
        self.catalogue.write(storage.join(folder, "items.parquet"))
        return {}

    @classmethod
    def read_parts(cls, folder: str, description: dict[str, Any]) -> "PersonalTopModel":
        return cls(Catalogue.read(storage.join(folder, "items.parquet")))


class PersonalTop(Retriever):
    """`fit` counts the items of train; the rest is in each query's history."""

    model_class = PersonalTopModel

    def _fit(self, dataset: DataFrame) -> PersonalTopModel:
        return self._copyValues(PersonalTopModel(count_catalogue(dataset, self.get("item_col"))))
