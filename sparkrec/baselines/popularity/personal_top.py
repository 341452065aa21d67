"""Personal Top: the items that the user had most often, ordered by their count.

It is the reference for repeat consumption (groceries, music): people often buy the same items
again, and a model should be better than this rule. It is only useful if seen items may be
recommended.
"""

from typing import Any

from pyspark.sql import DataFrame

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.io import storage
from sparkrec.retrieval.answering.personal_top import PersonalTopSearcher
from sparkrec.retrieval.base import RetrievalModel, Retriever, require_history


class PersonalTopModel(RetrievalModel):
    """Ranks the items of the history by count, ties by recency, and then popular items."""

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
    """Counts the items of train, for the popular items; the rest comes from each history."""

    model_class = PersonalTopModel

    def _fit(self, dataset: DataFrame) -> PersonalTopModel:
        return self._copyValues(PersonalTopModel(count_catalogue(dataset, self.get("item_col"))))
