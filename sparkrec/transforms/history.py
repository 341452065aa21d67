"""History features: the recent items of the user before each event, and their features.

Only events before the row, by (timestamp, position), are used, so that no row contains its own
outcome. Consecutive events often have the same timestamp; position decides their order.
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError, DataError
from sparkrec.transforms._common import (
    moment,
    require_at_least,
    require_columns,
    require_events,
    require_session,
    tail,
)

_PAST = "_sr_past"
_FEATURE = "_sr_feature_"


def add_history(
    events: DataFrame,
    columns: Columns,
    max_len: int = 10,
    items: DataFrame | None = None,
    item_features: Sequence[str] = (),
    by_session: bool = False,
) -> DataFrame:
    """Add to each event the items that its user had before it, and their features.

    Parameters
    ----------
    events
        One row per event, in any order.
    columns
        Names of the columns of events.
    max_len
        Maximum number of recent items, at least 1.
    items
        Item table with one row per item, keyed by `columns.item`; needed for `item_features`.
    item_features
        Columns of `items`, each an array or a scalar.
    by_session
        Whether the history has events of earlier sessions (baskets) only, so that all events of a
        basket have the same history. Baskets are ordered by their first event. Needs
        `columns.session`; the rows of a user without a session are one basket.

    Returns
    -------
    DataFrame
        All rows and columns of `events`, and (replacing columns of the same names)

        - `columns.recent_items`: array<item type>, at most `max_len` items, oldest first; empty,
          not null, for a first event;
        - `columns.last_item`: item type, null for a first event;
        - `recent_<f>` for each feature f: array, the concatenated features of the recent items,
          oldest first. An item whose feature is null, or that is not in `items`, adds nothing, so
          this array can be shorter than that of the items;
        - `last_<f>`: f of the last item, null for a first event or an unknown item.

    Raises
    ------
    DataError
        A column is missing, or `items` has two rows for an item.
    ConfigError
        `max_len` is below 1, `item_features` are given without `items`, or `by_session` without a
        session column.

    Notes
    -----
    One shuffle by user and a sliding window; the cost grows with events * max_len. `by_session`
    adds a grouping by (user, session) and a join. With features, one small job checks that the
    rows of `items` are distinct.
    """
    require_events(events, columns)
    require_at_least("max_len", max_len, 1)
    features = list(dict.fromkeys(item_features))
    added = [columns.recent_items, columns.last_item]
    added += [name for f in features for name in (f"recent_{f}", f"last_{f}")]
    clash = {columns.user, columns.item, columns.timestamp, columns.position} & set(added)
    if clash:
        raise ConfigError(f"history would overwrite the column {', '.join(sorted(clash))}")

    kept = [name for name in events.columns if name not in added]
    source, types = _with_features(events.select(kept), columns.item, items, features)
    entry = F.struct(
        F.col(columns.item).alias("item"),
        *[F.col(f"{_FEATURE}{i}").alias(f"f{i}") for i in range(len(features))],
    )
    if by_session:
        session = require_session(events, columns, "by_session history")
        with_past = _past_of_session(source, columns, session, entry, max_len)
    else:
        window = Window.partitionBy(columns.user).orderBy(columns.timestamp, columns.position)
        past = F.collect_list(entry).over(window.rowsBetween(-max_len, -1))
        with_past = source.withColumn(_PAST, past)

    last = F.try_element_at(F.col(_PAST), F.lit(-1))
    return with_past.select(
        *kept,
        F.col(f"{_PAST}.item").alias(columns.recent_items),
        last["item"].alias(columns.last_item),
        *_feature_columns(features, types),
    )


def add_item_features(
    queries: DataFrame,
    history: str,
    item: str,
    items: DataFrame,
    features: Sequence[str],
    max_len: int = 10,
) -> DataFrame:
    """Add to queries the features of the items of their history, as `add_history` does to events.

    Parameters
    ----------
    history
        Column with an array of items, oldest first.
    item
        Column of the item id in `items`.
    items
        Item table with one row per item, keyed by `item`.
    features
        Columns of `items`, each an array or a scalar.
    max_len
        Number of the latest items of a history whose features are used.

    Returns
    -------
    DataFrame
        The queries with `recent_<f>` and `last_<f>` for each feature f (replacing columns of the
        same names), as described in `add_history`.

    Raises
    ------
    DataError
        A column is missing, or `items` has two rows for an item.

    Notes
    -----
    Each distinct list of the last `max_len` items is looked up once, with two shuffles.
    """
    recent, place = "_sr_recent", "_sr_place"
    keyed = queries.withColumn(recent, tail(F.col(history), max_len))
    ends = keyed.select(recent).where(F.size(recent) > 0).distinct()
    placed = ends.select(recent, F.posexplode(recent).alias(place, item))
    source, types = _with_features(placed, item, items, features)
    entry = F.struct(place, *[F.col(f"{_FEATURE}{i}").alias(f"f{i}") for i in range(len(types))])
    past = source.groupBy(recent).agg(F.sort_array(F.collect_list(entry)).alias(_PAST))
    joined = keyed.join(past, recent, "left")
    added = {name for f in features for name in (f"recent_{f}", f"last_{f}")}
    return joined.select(
        *[F.col(f"`{name}`") for name in queries.columns if name not in added],
        *_feature_columns(features, types),
    )


def _feature_columns(features: Sequence[str], types: Sequence[DataType]) -> list[Column]:
    last = F.try_element_at(F.col(_PAST), F.lit(-1))
    return [
        column
        for i, feature in enumerate(features)
        for column in (
            _recent_feature(i, types[i]).alias(f"recent_{feature}"),
            last[f"f{i}"].alias(f"last_{feature}"),
        )
    ]


def _recent_feature(index: int, dtype: DataType) -> Column:
    values = F.array_compact(F.col(f"{_PAST}.f{index}"))
    flat = F.flatten(values) if isinstance(dtype, ArrayType) else values
    return F.coalesce(flat, F.array())  # the history of a query may be null


def _with_features(
    rows: DataFrame, item: str, items: DataFrame | None, features: Sequence[str]
) -> tuple[DataFrame, list[DataType]]:
    """Join the rows with the features, under private names; also returns the features' types."""
    if not features:
        return rows, []
    if items is None:
        raise ConfigError(f"item_features {', '.join(features)} need the items table")
    require_columns(items, [item, *features], "items")
    repeated = items.groupBy(item).count().where("count > 1").head()
    if repeated is not None:
        raise DataError(f"items: {item}={repeated[0]} stands in {repeated[1]} rows")
    table = items.select(item, *[F.col(f).alias(f"{_FEATURE}{i}") for i, f in enumerate(features)])
    return rows.join(table, item, "left"), [items.schema[f].dataType for f in features]


def _past_of_session(
    source: DataFrame, columns: Columns, session: str, entry: Column, max_len: int
) -> DataFrame:
    """Add the entries of the `max_len` events before each row's session."""
    ordered = F.sort_array(F.collect_list(F.struct(moment(columns).alias("at"), entry.alias("e"))))
    window = Window.partitionBy("_sr_user").orderBy("_sr_start").rowsBetween(-max_len, -1)
    # A session has at least one event, so the last max_len sessions are always enough.
    baskets = (
        source.groupBy(F.col(columns.user).alias("_sr_user"), F.col(session).alias("_sr_session"))
        .agg(F.min(moment(columns)).alias("_sr_start"), ordered.alias("_sr_entries"))
        .withColumn("_sr_entries", tail(F.col("_sr_entries.e"), max_len))
        .withColumn(_PAST, tail(F.flatten(F.collect_list("_sr_entries").over(window)), max_len))
        .drop("_sr_start", "_sr_entries")
    )
    same_basket = F.col(columns.user).eqNullSafe(F.col("_sr_user")) & F.col(session).eqNullSafe(
        F.col("_sr_session")
    )
    return source.join(baskets, same_basket, "left").drop("_sr_user", "_sr_session")
