"""Adds features to queries, and encodes validation queries as arrays."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.history_columns import HistoryColumns
from sparkrec.encoding.sides import QueryEncoder
from sparkrec.errors import DataError, SchemaError
from sparkrec.item_index import FIRST_ITEM
from sparkrec.schema.parser import FeatureSchema
from sparkrec.spark_versions import to_arrow

Ints = npt.NDArray[np.int64]


def query_features(
    queries: DataFrame,
    users: DataFrame | None,
    schema: FeatureSchema,
    user: str,
    history_columns: HistoryColumns,
    where: str,
) -> DataFrame:
    """Join the columns that a schema needs and queries do not have from the users table.

    Columns that are derived from the history are added later, when the queries are encoded
    (`HistoryColumns.add`).

    Raises
    ------
    SchemaError
        A column is in neither table and cannot be derived.
    """
    joined = join_users(queries, users, schema.used_columns, user)
    try:
        schema.require(history_columns.given_by(joined.columns), where, used_only=True)
    except SchemaError as error:
        if users is not None:
            raise
        raise SchemaError(
            f"{error}; no table of users was given, which may have it (input.users)"
        ) from None
    return joined


def join_users(
    frame: DataFrame, users: DataFrame | None, wanted: tuple[str, ...], user: str
) -> DataFrame:
    """Join the columns of the users table that a schema needs and the frame does not have."""
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
    history_columns: HistoryColumns,
    exclude_seen: bool,
    max_rows: int,
    seed: int,
) -> dict[str, Ints]:
    """Encode validation queries for `training.validate`; at most `max_rows`, sampled by the seed.

    Raises
    ------
    DataError
        There is no query with a relevant item.
    """
    catalogue = user_encoder.catalogue
    order = F.xxhash64(F.lit(seed), F.col("query_id"))
    history = history_columns.history
    columns = dict.fromkeys([*user_encoder.schema.used_columns, "relevant", history])
    chosen = (
        queries.where(F.size("relevant") > 0)
        .orderBy(order, "query_id")
        .limit(max_rows)
        .select(*[name for name in columns if name in queries.columns])
    )
    table = to_arrow(chosen)
    if not table.num_rows:
        raise DataError("validation has no rows; set training.early_stopping: null")
    arrays = {
        "queries": user_encoder.encode(history_columns.add(table, catalogue)),
        "candidates": np.flatnonzero(catalogue.counts > 0) + FIRST_ITEM,
    }
    arrays["targets"], arrays["target_offsets"] = _ragged(table.column("relevant"), catalogue)
    if exclude_seen:
        arrays["seen"], arrays["seen_offsets"] = _ragged(table.column(history), catalogue)
    return arrays


def _ragged(lists: pa.ChunkedArray, catalogue: Catalogue) -> tuple[Ints, Ints]:
    """Concatenated lists of items as dense indices, and the offsets of the lists [lists + 1]."""
    whole = lists.combine_chunks()
    lengths = np.asarray(pa.compute.fill_null(pa.compute.list_value_length(whole), 0))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return catalogue.index(pa.compute.list_flatten(whole)), offsets
