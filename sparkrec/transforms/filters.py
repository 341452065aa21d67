"""Filters of events: by the number of events per user and item, by time, and by rating."""

import logging

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError
from sparkrec.transforms._common import require_at_least, require_columns

_log = logging.getLogger(__name__)


def k_core(
    events: DataFrame,
    columns: Columns,
    min_user_events: int,
    min_item_events: int,
    iterate: bool = True,
) -> DataFrame:
    """Keep the events of users and items that have enough events.

    Parameters
    ----------
    events
        One row per event. Repeated events of a pair of user and item all count.
    min_user_events, min_item_events
        Minimum number of events of a user and of an item; 1 sets no limit.
    iterate
        Whether to repeat until every remaining user and item has enough events among the remaining
        rows (the k-core, which is unique). If not, both counts are taken on `events` in one pass.

    Returns
    -------
    DataFrame
        The remaining rows, with all columns.

    Raises
    ------
    DataError
        The user or item column is missing.
    ConfigError
        A minimum is below 1.

    Notes
    -----
    This function is not lazy: it runs a few Spark jobs per round, on one row per distinct pair of
    user and item. The pairs are checkpointed on the executors' disks in each round, so plans do
    not grow; if an executor is lost during this, the job fails. `events` is read twice.
    """
    require_columns(events, [columns.user, columns.item])
    require_at_least("min_user_events", min_user_events, 1)
    require_at_least("min_item_events", min_item_events, 1)

    limits = {columns.user: min_user_events, columns.item: min_item_events}
    limits = {key: limit for key, limit in limits.items() if limit > 1}
    present = events.where(F.col(columns.user).isNotNull() & F.col(columns.item).isNotNull())
    pairs = present.groupBy(columns.user, columns.item).agg(F.count("*").alias("_sr_events"))
    pairs = pairs.localCheckpoint()
    # A filter on one side does not change the counts of that side, so one pass is enough.
    repeat = iterate and len(limits) > 1
    before, rounds = pairs.count(), 0
    while True:
        left = pairs
        for key, limit in limits.items():
            counted = pairs.groupBy(key).agg(F.sum("_sr_events").alias("_sr_number"))
            too_few = counted.where(F.col("_sr_number") < limit)
            left = left.join(too_few.select(key), key, "left_anti")
        pairs = left.localCheckpoint()
        after, rounds = pairs.count(), rounds + 1
        if after == before or not repeat:
            break
        before = after
    _log.info("k_core rounds=%d pairs=%d", rounds, after)

    names = events.columns
    for key in (columns.user, columns.item):
        present = present.join(pairs.select(key).distinct(), key, "left_semi")
    return present.select(names)


def date_range(
    events: DataFrame, columns: Columns, start: int | None = None, end: int | None = None
) -> DataFrame:
    """Keep the events with `start <= timestamp < end`, in seconds since the epoch.

    None leaves that side open.

    Raises
    ------
    DataError
        The timestamp column is missing.
    ConfigError
        The range is empty.
    """
    require_columns(events, [columns.timestamp])
    if start is not None and end is not None and start >= end:
        raise ConfigError(f"date range is empty: start {start} is not before end {end}")
    time = F.col(columns.timestamp)
    kept = events
    if start is not None:
        kept = kept.where(time >= F.lit(start))
    if end is not None:
        kept = kept.where(time < F.lit(end))
    return kept


def positives(events: DataFrame, columns: Columns, rating_above: float) -> DataFrame:
    """Keep the events with a rating strictly above `rating_above`; rows without one are dropped.

    Raises
    ------
    DataError
        The rating column is missing.
    ConfigError
        `columns` names no rating.
    """
    if columns.rating is None:
        raise ConfigError("positives need `rating` among the columns")
    require_columns(events, [columns.rating])
    return events.where(F.col(columns.rating) > F.lit(rating_above))
