"""A trained two-tower model on Spark."""

from collections.abc import Mapping
from typing import Any

from pyspark.sql import DataFrame

from sparkrec.encoding.history_columns import HistoryColumns
from sparkrec.encoding.queries import query_features
from sparkrec.retrieval.answering.two_tower import (
    TwoTowerParts,
    TwoTowerSearcher,
    history_columns,
)
from sparkrec.retrieval.base import RetrievalModel
from sparkrec.retrieval.search.topk import Floats


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

    def _history_columns(self) -> HistoryColumns:
        return history_columns(self.parts, self.columns, self.get("history_col"))

    def write_parts(self, folder: str) -> dict[str, Any]:
        return {**self.parts.write(folder), "fit_report": self._fit_report}

    @classmethod
    def read_parts(cls, folder: str, description: dict[str, Any]) -> "TwoTowerModel":
        return cls(TwoTowerParts.read(folder, description), description["fit_report"])
