"""A trained two-tower model on Spark."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from sparkrec.encoding.history_columns import HistoryColumns
from sparkrec.encoding.queries import query_features
from sparkrec.errors import ConfigError, DataError
from sparkrec.io.tables import KEY_TYPES, require_columns
from sparkrec.retrieval.answering.two_tower import (
    TwoTowerParts,
    TwoTowerSearcher,
    history_columns,
)
from sparkrec.retrieval.base import RetrievalModel
from sparkrec.retrieval.search.topk import Floats
from sparkrec.spark_versions import to_arrow

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

    def add_items(self, items: DataFrame) -> "TwoTowerModel":
        """See `RetrievalModel.add_items`. Costs collecting the new items on the driver."""
        item, reads = self.get("item_col"), self.parts.item_columns
        if set(reads) <= {item}:
            raise ConfigError(
                f"{self.parts.network.spec.network.partition(':')[2]} reads the ids of items "
                "alone, so it has no vector for an item that training never saw; train it with "
                "features of items in the item schema (in a sequence model, with items: both)"
            )
        require_columns(items, {item: KEY_TYPES}, "new items")
        self.parts.item_encoder.features.declared.require(items.columns, "new items", True)
        table = to_arrow(items.select(item, *(name for name in reads if name != item)))
        ids = self._ids(table.column(item).combine_chunks(), "new items")
        if ids.null_count:
            raise DataError(f"new items: {ids.null_count:,} rows have no {item}")
        known = self.catalogue.numbers(ids) >= 0
        if known.any():
            log.info("add_items: %d items are left out, the model knows them", known.sum())
        new = table.set_column(0, item, ids).filter(pa.array(~known))
        repeated = pa.compute.value_counts(new.column(item)).field("counts")
        if len(repeated) < len(new):
            raise DataError(f"new items: a {item} stands in {max(repeated.to_pylist())} rows")
        return self._with(self.parts.add_items(new, item) if len(new) else self.parts)

    def remove_items(self, ids: Sequence[Any]) -> "TwoTowerModel":
        """See `RetrievalModel.remove_items`."""
        try:
            given = self._ids(pa.array(list(ids)), "remove_items")
        except (pa.ArrowException, TypeError) as error:
            raise DataError(f"remove_items: the ids must be of one type: {error}") from None
        kept = np.ones(len(self.catalogue), bool)
        numbers = self.catalogue.numbers(given)
        kept[numbers[numbers >= 0]] = False
        unknown = int((numbers < 0).sum())
        if unknown:
            log.warning("remove_items: the model does not know %d of the items", unknown)
        if not kept.any():
            raise DataError("remove_items: no item would be left")
        return self._with(self.parts if kept.all() else self.parts.remove_items(kept))

    def _ids(self, ids: pa.Array, where: str) -> pa.Array:
        """Raw ids in the type of the catalogue's."""
        wanted = self.catalogue.ids.type
        if len(ids) and pa.types.is_integer(ids.type) == pa.types.is_integer(wanted):
            try:
                return ids.cast(wanted)
            except pa.ArrowException:
                pass  # a number that is too large for the type, for one
        elif not len(ids):
            return pa.array([], wanted)
        raise DataError(
            f"{where}: the ids of items are of type {ids.type}, those of the model {wanted}"
        )

    def _with(self, parts: TwoTowerParts) -> "TwoTowerModel":
        model = type(self)(parts, self._fit_report)
        model.users = self.users
        for param, value in self.extractParamMap().items():
            model._set(**{param.name: value})
        return model

    def _history_columns(self) -> HistoryColumns:
        return history_columns(self.parts, self.columns, self.get("history_col"))

    def write_parts(self, folder: str) -> dict[str, Any]:
        return {**self.parts.write(folder), "fit_report": self._fit_report}

    @classmethod
    def read_parts(cls, folder: str, description: dict[str, Any]) -> "TwoTowerModel":
        return cls(TwoTowerParts.read(folder, description), description["fit_report"])
