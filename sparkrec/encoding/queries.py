"""Queries to what models read: their features, and validation queries as arrays."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.columns import Columns
from sparkrec.encoding.catalogue import UNKNOWN, Catalogue
from sparkrec.encoding.sides import QueryEncoder
from sparkrec.errors import DataError, SchemaError
from sparkrec.schema.parser import FeatureSchema

Ints = npt.NDArray[np.int64]
Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


@dataclass(frozen=True)
class FromHistory:
    """The columns of the user's side that follow from a query's history.

    Items that the catalogue lacks are no part of either: a new item at the end of a history would
    otherwise hide the one that the model knows.

    Attributes
    ----------
    history
        Column of the history, oldest first.
    recent, last
        Columns to be made of its items, and of the last one; None for those that no feature reads.
    replace_recent
        Make `recent` even where queries have it, for models that were trained on whole histories:
        the column may hold a few items alone.
    """

    history: str
    recent: str | None
    last: str | None
    replace_recent: bool

    @classmethod
    def wanted(
        cls, schema: FeatureSchema, columns: Columns, history: str, replace_recent: bool
    ) -> "FromHistory":
        """What a schema reads of it."""
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
    known = catalogue.index(items) > UNKNOWN
    rows = np.repeat(np.arange(len(lists)), lengths)[known]
    counts = np.bincount(rows, minlength=len(lists))
    ends = np.cumsum(counts)
    items = items.filter(pa.array(known))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    last = items.take(pa.array(ends - 1, mask=counts == 0))
    return pa.ListArray.from_arrays(offsets, items), last


def query_features(
    queries: DataFrame,
    users: DataFrame | None,
    schema: FeatureSchema,
    user: str,
    from_history: FromHistory,
    where: str,
) -> DataFrame:
    """Join what a schema wants and queries lack from the users table; what follows from the
    history is made of it when it is read (`FromHistory.add`).

    Raises
    ------
    SchemaError
        A column is nowhere to be found.
    """
    joined = join_users(queries, users, schema.used_columns, user)
    schema.require(from_history.given_by(joined.columns), where, used_only=True)
    return joined


def join_users(
    frame: DataFrame, users: DataFrame | None, wanted: tuple[str, ...], user: str
) -> DataFrame:
    """Join the columns of the users table that a schema wants and the frame lacks."""
    if users is None:
        return frame
    missing = [name for name in wanted if name not in frame.columns and name in users.columns]
    if not missing:
        return frame
    if user not in users.columns:
        raise SchemaError(f"the users table has no column `{user}` to join it by")
    return frame.join(users.select(user, *missing).dropDuplicates([user]), user, "left")


def validation_arrays(
    queries: DataFrame,
    user_encoder: QueryEncoder,
    from_history: FromHistory,
    exclude_seen: bool,
    max_rows: int,
    seed: int,
) -> dict[str, Ints]:
    """Validation queries as `training.validate` reads them; at most `max_rows`, drawn by seed.

    Raises
    ------
    DataError
        There is none.
    """
    catalogue = user_encoder.catalogue
    order = F.xxhash64(F.lit(seed), F.col("query_id"))
    history = from_history.history
    columns = dict.fromkeys([*user_encoder.schema.used_columns, "relevant", history])
    table = (
        queries.where(F.size("relevant") > 0)
        .orderBy(order, "query_id")
        .limit(max_rows)
        .select(*[name for name in columns if name in queries.columns])
        .toArrow()
    )
    if not table.num_rows:
        raise DataError("validation has no rows; set training.early_stopping: null")
    arrays = {
        "queries": user_encoder.encode(from_history.add(table, catalogue)),
        "candidates": np.flatnonzero(catalogue.counts > 0) + 2,
    }
    arrays["targets"], arrays["target_offsets"] = _ragged(table.column("relevant"), catalogue)
    if exclude_seen:
        arrays["seen"], arrays["seen_offsets"] = _ragged(table.column(history), catalogue)
    return arrays


def _ragged(lists: pa.ChunkedArray, catalogue: Catalogue) -> tuple[Ints, Ints]:
    """Lists of items as dense indices, flat, and where each list begins and the last one ends."""
    whole = lists.combine_chunks()
    lengths = np.asarray(pa.compute.fill_null(pa.compute.list_value_length(whole), 0))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return catalogue.index(pa.compute.list_flatten(whole)), offsets
