"""Random: items drawn by chance, to see how much of a figure is chance."""

from collections.abc import Sequence
from typing import Any

from pyspark.ml.param import Param, Params
from pyspark.sql import DataFrame

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.io import storage
from sparkrec.retrieval.answering.random_items import RandomSearcher
from sparkrec.retrieval.base import RetrievalModel, Retriever
from sparkrec.retrieval.catalogue_changes import kept_items, read_new_items, refuse_score
from sparkrec.schema.parser import FeatureSchema


class _Seeded(Params):
    seed: Param[int] = Param(Params._dummy(), "seed", "seed of all random numbers")


class RandomModel(_Seeded, RetrievalModel):
    """Gives every item of the catalogue with the same probability; see `RandomSearcher`."""

    searcher_class = RandomSearcher
    query_params = ("seed",)

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self.catalogue = catalogue

    def searcher(self) -> RandomSearcher:
        return RandomSearcher(self.catalogue, self.get("history_col"), self.get("seed"))

    def add_items(self, items: DataFrame, score: float = 0.0) -> "RandomModel":
        item = self.get("item_col")
        refuse_score(score, type(self).__name__)
        new = read_new_items(items, item, self.catalogue, FeatureSchema((), (), "none"))
        return self._like_me(
            RandomModel(self.catalogue.with_new(new.column(item).combine_chunks()))
        )

    def remove_items(self, ids: Sequence[Any]) -> "RandomModel":
        kept = kept_items(ids, self.catalogue)
        return self._like_me(RandomModel(self.catalogue.where(kept)))

    def write_parts(self, folder: str) -> dict[str, Any]:
        self.catalogue.write(storage.join(folder, "items.parquet"))
        return {}

    @classmethod
    def read_parts(cls, folder: str, description: dict[str, Any]) -> "RandomModel":
        return cls(Catalogue.read(storage.join(folder, "items.parquet")))


class Random(_Seeded, Retriever):
    """Collects the items of train."""

    model_class = RandomModel

    def _fit(self, dataset: DataFrame) -> RandomModel:
        return self._copyValues(RandomModel(count_catalogue(dataset, self.get("item_col"))))
