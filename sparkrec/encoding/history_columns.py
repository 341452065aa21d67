"""Columns of the user's side that follow from a query's history. No Spark."""

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
    """Which columns are made of the history, and how.

    Items that the catalogue lacks are left out of both: a new item at the end of a history would
    otherwise hide the last one that the model knows.

    Attributes
    ----------
    history
        Column of the history, oldest first.
    recent, last
        Columns to be made of its items, and of the last one; None for those that no feature reads.
    replace_recent
        Make `recent` even where queries have it, for models that were trained on whole histories:
        the column may hold only the last few items.
    """

    history: str
    recent: str | None
    last: str | None
    replace_recent: bool

    @classmethod
    def read_by(
        cls, schema: FeatureSchema, columns: Columns, history: str, replace_recent: bool
    ) -> "HistoryColumns":
        """Those of the two columns that a schema reads."""
        recent, last = (
            name if name in schema.used_columns else None
            for name in (columns.recent_items, columns.last_item)
        )
        return cls(history, recent, last, replace_recent)

    def given_by(self, present: list[str]) -> list[str]:
        """Columns that there are or will be, of queries with those that are `present`."""
        made = [self.recent, self.last] if self.history in present else []
        return [*present, *(name for name in made if name is not None and name not in present)]

    def add(self, rows: Rows, catalogue: Catalogue) -> Rows:
        """Rows with the columns that they lack, where they have a history."""
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
    """Lists without the items that the catalogue lacks, and the last item of each or null."""
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
