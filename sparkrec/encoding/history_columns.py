"""Columns of the user side that are derived from the history of a query. Imports no Spark."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from sparkrec.columns import Columns
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.item_index import FIRST_ITEM
from sparkrec.schema.parser import FeatureSchema

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


@dataclass(frozen=True)
class HistoryColumns:
    """The columns that are derived from the history.

    Items that are not in the catalogue are left out. Otherwise a new item at the end of a history
    would hide the last item that the model knows.

    Attributes
    ----------
    history
        Column of the history, oldest first.
    recent
        Column to derive with the items of the history; None if no feature reads it.
    last
        Column to derive with the last item; None if no feature reads it.
    replace_recent
        Whether to derive `recent` even if the queries have it. This is for models that read whole
        histories, because the column may have only the last few items.
    """

    history: str
    recent: str | None
    last: str | None
    replace_recent: bool

    @classmethod
    def read_by(
        cls, schema: FeatureSchema, columns: Columns, history: str, replace_recent: bool
    ) -> "HistoryColumns":
        """Make the object for the columns that the features of a schema read."""
        recent, last = (
            name if name in schema.used_columns else None
            for name in (columns.recent_items, columns.last_item)
        )
        return cls(history, recent, last, replace_recent)

    def given_by(self, present: list[str]) -> list[str]:
        """The columns that queries with the columns `present` have after `add`."""
        made = [self.recent, self.last] if self.history in present else []
        return [*present, *(name for name in made if name is not None and name not in present)]

    def add(self, rows: Rows, catalogue: Catalogue) -> Rows:
        """Add the missing columns to rows that have a history."""
        present = rows.schema.names
        if self.history not in present:
            return rows
        made = []
        if self.recent is not None and (self.replace_recent or self.recent not in present):
            made.append(self.recent)
        if self.last is not None and self.last not in present:
            made.append(self.last)
        if not made:
            return rows
        known, last = _known_items(rows.column(self.history), catalogue)
        for name in made:
            values = known if name == self.recent else last
            if name in present:
                rows = rows.drop_columns([name])
            rows = rows.append_column(name, values)
        return rows


def _known_items(lists: pa.Array | pa.ChunkedArray, catalogue: Catalogue) -> tuple[pa.Array, ...]:
    """Lists without items that are not in the catalogue, and the last item of each (or null)."""
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    lengths = np.asarray(pa.compute.fill_null(pa.compute.list_value_length(lists), 0))
    items = pa.compute.list_flatten(lists)
    known = catalogue.index(items) >= FIRST_ITEM
    rows = np.repeat(np.arange(len(lists)), lengths)[known]
    counts = np.bincount(rows, minlength=len(lists))
    ends = np.cumsum(counts)
    items = items.filter(pa.array(known))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    last = items.take(pa.array(ends - 1, mask=counts == 0))
    return pa.ListArray.from_arrays(offsets, items), last
