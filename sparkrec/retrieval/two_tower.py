"""A trained two-tower model on Spark."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame

from sparkrec.encoding.history_columns import HistoryColumns
from sparkrec.encoding.queries import query_features
from sparkrec.errors import ConfigError
from sparkrec.retrieval.answering.two_tower import (
    TwoTowerParts,
    TwoTowerSearcher,
    history_columns,
)
from sparkrec.retrieval.base import RetrievalModel
from sparkrec.retrieval.catalogue_changes import kept_items, read_new_items, refuse_score
from sparkrec.retrieval.search.topk import Floats

log = logging.getLogger("sparkrec.retrieval")


class TwoTowerModel(RetrievalModel):
    """A trained network of any class with its vocabularies and index.

    Attributes
    ----------
    parts
        The network, the catalogue, both sides' encoders and the index.
    """

    searcher_class = TwoTowerSearcher

    def __init__(self, parts: TwoTowerParts, fit_report: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.parts = parts
        self.catalogue = parts.catalogue
        self._fit_report = dict(fit_report or {})

    @property
    def fit_report(self) -> dict[str, Any]:
        """`network`, `seconds` of the parts, `history` (an entry an epoch), `training_rows`."""
        return {"network": self.parts.network.spec.network, **self._fit_report}

    @property
    def item_vectors(self) -> Floats:
        """float32 [items, dim], in the catalogue's order."""
        return self.parts.index.vectors

    def searcher(self) -> TwoTowerSearcher:
        return TwoTowerSearcher(self.parts, self._history_columns())

    @property
    def wanted_columns(self) -> tuple[str, ...]:
        return self.parts.user_encoder.schema.used_columns

    def prepare_queries(self, queries: DataFrame) -> DataFrame:
        """Join the features of `users`."""
        schema, user = self.parts.user_encoder.schema, self.columns.user
        return query_features(
            queries, self.users, schema, user, self._history_columns(), "the table of queries"
        )

    def add_items(self, items: DataFrame, score: float = 0.0) -> "TwoTowerModel":
        """See `RetrievalModel.add_items`. Costs collecting the new items on the driver."""
        item = self.get("item_col")
        if set(self.parts.item_columns) <= {item}:
            raise ConfigError(
                f"{self.parts.network.spec.network.partition(':')[2]} reads the ids of items "
                "alone, so it has no vector for an item that training never saw; train it with "
                "features of items in the item schema (in a sequence model, with items: both)"
            )
        if not self.parts.network.module.has_bias:
            refuse_score(score, self.parts.network.spec.network.partition(":")[2])
        declared = self.parts.item_encoder.features.declared
        new = read_new_items(items, item, self.catalogue, declared)
        return self._with(self.parts.add_items(new, item, score) if len(new) else self.parts)

    def remove_items(self, ids: Sequence[Any]) -> "TwoTowerModel":
        """See `RetrievalModel.remove_items`."""
        kept = kept_items(ids, self.catalogue)
        return self._with(self.parts if kept.all() else self.parts.remove_items(kept))

    def _with(self, parts: TwoTowerParts) -> "TwoTowerModel":
        return self._like_me(type(self)(parts, self._fit_report))

    def _history_columns(self) -> HistoryColumns:
        return history_columns(self.parts, self.columns, self.get("history_col"))

    def write_parts(self, folder: str) -> dict[str, Any]:
        return {**self.parts.write(folder), "fit_report": self._fit_report}

    @classmethod
    def read_parts(cls, folder: str, description: dict[str, Any]) -> "TwoTowerModel":
        return cls(TwoTowerParts.read(folder, description), description["fit_report"])
