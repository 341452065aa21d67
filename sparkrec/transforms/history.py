"""What a user did before each event: the recent items and their features, oldest first.

Only events before the row by (timestamp, position) are ever looked at, so that no row knows its own
outcome. Neighbouring events often share a timestamp; position decides between them.
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
    """Add to each event the items its user consumed before it, and their features.

    Parameters
    ----------
    events
        One row an event, in any order.
    columns
        Names of the events' columns.
    max_len
        How many recent items to keep, at least 1.
    items
        Item table with one row for each item, keyed by `columns.item`; needed for `item_features`.
    item_features
        Columns of `items`, each an array or a scalar.
    by_session
        Let the history hold only events of earlier sessions (baskets): all events of a basket see
        the same history. Baskets are ordered by their first event. Needs `columns.session`; rows
        without a session form one basket per user.

    Returns
    -------
    DataFrame
        All rows and columns of `events`, and (replacing columns of the same names)

        - `columns.recent_items`: array<item type>, at most `max_len` items, oldest first; empty,
          not null, for a first event;
        - `columns.last_item`: item type, null for a first event;
        - `recent_<f>` for each feature f: array, the features of the recent items one after
          another, oldest first; nothing stands for an item whose feature is null or that is not
          in `items`, so the array may be shorter than the items';
        - `last_<f>`: f of the last item, null for a first event or an unknown item.

    Raises
    ------
    DataError
        A column is missing, or an item stands twice in `items`.
    ConfigError
        `max_len` below 1, `item_features` without `items`, or `by_session` without a session.

    Notes
    -----
    One shuffle by user and a sliding window; cost grows with events x max_len. `by_session` adds a
    grouping by (user, session) and a join. With features, one small job checks `items` for repeats.
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
    """Add to queries, which have a history, what `add_history` adds to events of its items.

    Parameters
    ----------
    history
        Column with an array of items, oldest first.
    items
        Item table with one row for each item, keyed by `item`.
    features
        Columns of `items`, each an array or a scalar.
    max_len
        Items of a history whose features are taken, the last ones.

    Returns
    -------
    DataFrame
        The queries with (replacing columns of the same names) `recent_<f>` and `last_<f>` for each
        feature f; what `add_history` says of them holds.

    Raises
    ------
    DataError
        A column is missing, or an item stands twice in `items`.

    Notes
    -----
    Each different end of a history is looked up once: two shuffles of them.
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
    return F.coalesce(flat, F.array())  # a query may have no history at all


def _with_features(
    rows: DataFrame, item: str, items: DataFrame | None, features: Sequence[str]
) -> tuple[DataFrame, list[DataType]]:
    """Rows joined with the features under private names, and the features' types."""
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
    # A session holds at least one event, so max_len sessions back are always enough.
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
