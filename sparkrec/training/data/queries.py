"""Queries to what models read: their features, and validation queries as arrays."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.columns import Columns
from sparkrec.errors import DataError, SchemaError
from sparkrec.retrieval.catalogue import Catalogue
from sparkrec.schema.parser import FeatureSchema
from sparkrec.training.data.sides import QueryEncoder

Ints = npt.NDArray[np.int64]


def query_features(
    queries: DataFrame,
    users: DataFrame | None,
    schema: FeatureSchema,
    columns: Columns,
    history: str,
    whole_history: bool,
    where: str,
) -> DataFrame:
    """Add what a schema wants and queries lack: `recent_<item>s` and `last_<item>` from the
    history, the rest from the users table.

    With `whole_history`, for models that were trained on all of it, the recent items are the
    history's even where queries have a column of them, which may hold a few alone.

    Raises
    ------
    SchemaError
        A column is nowhere to be found.
    """
    wanted = schema.used_columns
    if history in queries.columns:
        if columns.recent_items in wanted and (
            whole_history or columns.recent_items not in queries.columns
        ):
            queries = queries.withColumn(columns.recent_items, F.col(history))
        if columns.last_item in wanted and columns.last_item not in queries.columns:
            queries = queries.withColumn(columns.last_item, F.try_element_at(history, F.lit(-1)))
    joined = join_users(queries, users, wanted, columns.user)
    schema.require(joined.columns, where, used_only=True)
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
    history: str,
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
    columns = dict.fromkeys([*user_encoder.schema.used_columns, "relevant"])
    if exclude_seen:
        columns[history] = None
    table = (
        queries.where(F.size("relevant") > 0)
        .orderBy(order, "query_id")
        .limit(max_rows)
        .select(*columns)
        .toArrow()
    )
    if not table.num_rows:
        raise DataError("validation has no rows; set training.early_stopping: null")
    arrays = {
        "queries": user_encoder.encode(table),
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
