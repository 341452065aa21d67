"""Content KNN: the items whose content is most like that of the last items of the history.

An item is a bag of its declared features' values, weighted by how rare they are (idf); a user is
the sum of the bags of the last items; the score is their cosine. It learns nothing of what people
like together, so a model that reads content must do better on items nobody has seen, or reads it
for nothing. It has no opinion where content is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pyspark.sql import DataFrame

from sparkrec.baselines.content.base import ContentRetriever
from sparkrec.bounds import Count, check_bounds
from sparkrec.retrieval.answering.content import ContentSearcher, ItemBags
from sparkrec.retrieval.base import RetrievalModel, require_history
from sparkrec.retrieval.catalogue_changes import kept_items, read_new_items, refuse_score
from sparkrec.retrieval.params import ConfigParams


@dataclass(frozen=True)
class ContentKNNConfig:
    """Settings of Content KNN.

    Attributes
    ----------
    max_history
        Number of the latest items of a history that are read.
    """

    max_history: Count = 10

    def __post_init__(self) -> None:
        check_bounds(self)


class ContentKNNModel(ConfigParams, RetrievalModel):
    """The bags of all items.

    Attributes
    ----------
    bags
        See `retrieval.answering.content.ItemBags`.

    Notes
    -----
    A query costs a sparse product with the bags of all items that share a value with it; where a
    value is common, as a genre is, that is all items.
    """

    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": ContentKNNConfig}
    searcher_class = ContentSearcher
    query_params = ("max_history",)

    def __init__(self, bags: ItemBags) -> None:
        super().__init__()
        self.bags, self.catalogue = bags, bags.catalogue

    def prepare_queries(self, queries: DataFrame) -> DataFrame:
        require_history(queries, self.get("history_col"))
        return queries

    def searcher(self) -> ContentSearcher:
        return ContentSearcher(self.bags, self.get("history_col"), self.get("max_history"))

    def add_items(self, items: DataFrame, score: float = 0.0) -> "ContentKNNModel":
        item = self.get("item_col")
        refuse_score(score, type(self).__name__)
        new = read_new_items(items, item, self.catalogue, self.bags.features.declared)
        return self._like_me(ContentKNNModel(self.bags.add_items(new, item)))

    def remove_items(self, ids: Sequence[Any]) -> "ContentKNNModel":
        kept = kept_items(ids, self.catalogue)
        return self._like_me(ContentKNNModel(self.bags.remove_items(kept)))

    def write_parts(self, folder: str) -> dict[str, Any]:
        return self.bags.write(folder)

    @classmethod
    def read_parts(cls, folder: str, description: dict[str, Any]) -> "ContentKNNModel":
        return cls(ItemBags.read(folder, description))


class ContentKNN(ContentRetriever):
    """Makes the bags of the items of train; see `ContentRetriever` for what it takes."""

    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": ContentKNNConfig}
    model_class = ContentKNNModel

    def _fit(self, dataset: DataFrame) -> ContentKNNModel:
        bags = ItemBags.fit(*self._fit_features(dataset))
        return self._copyValues(ContentKNNModel(bags))
