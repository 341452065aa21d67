"""Filters of events: by the number of events per user and item, by time, and by rating."""

import logging
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError
from sparkrec.transforms._common import require_at_least, require_columns

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Core:
    """The users and items that have enough events.

    Attributes
    ----------
    min_user_events, min_item_events
        Minimum number of events of a user and of an item; 1 sets no limit. Repeated events of a
        pair of user and item all count.
    iterate
        Whether to repeat until every remaining user and item has enough events among the remaining
        rows (the k-core, which is unique). If not, both counts are taken on all rows in one pass.

    Raises
    ------
    ConfigError
        A minimum is below 1.
    """

    min_user_events: int = 1
    min_item_events: int = 1
    iterate: bool = True

    def __post_init__(self) -> None:
        require_at_least("min_user_events", self.min_user_events, 1)
        require_at_least("min_item_events", self.min_item_events, 1)

    @property
    def limits(self) -> tuple[str, ...]:
        """Which sides have a limit: `user`, `item`, both or none."""
        sides = {"user": self.min_user_events, "item": self.min_item_events}
        return tuple(side for side, least in sides.items() if least > 1)

    def flag(
        self, events: DataFrame, counted: DataFrame, columns: Columns
    ) -> tuple[Column, DataFrame]:
        """Find the rows of `events` whose user and item are inside.

        Parameters
        ----------
        events
            One row per event. Rows without a user or an item are outside.
        counted
            The rows that are counted: those of train.

        Returns
        -------
        inside, flagged
            A condition, never null, and `events` with the columns that it reads.

        Raises
        ------
        DataError
            The user or item column is missing.

        Notes
        -----
        This function is not lazy: it runs a few Spark jobs per round, on one row per distinct pair
        of user and item. The pairs are checkpointed on the executors' disks in each round, so plans
        do not grow; if an executor is lost during this, the job fails. `counted` is read once and
        `events` once more.
        """
        require_columns(events, [columns.user, columns.item])
        pairs = self._pairs(counted, columns)
        inside = F.col(columns.user).isNotNull() & F.col(columns.item).isNotNull()
        for side in self.limits:
            key, flag = getattr(columns, side), f"_sr_{side}_inside"
            kept = pairs.select(key).distinct().withColumn(flag, F.lit(True))
            events = events.join(kept, key, "left")
            inside &= F.col(flag).isNotNull()
        return inside, events

    def _pairs(self, counted: DataFrame, columns: Columns) -> DataFrame:
        """The pairs of user and item inside, with their number of events."""
        minima = {columns.user: self.min_user_events, columns.item: self.min_item_events}
        minima = {key: least for key, least in minima.items() if least > 1}
        present = counted.where(F.col(columns.user).isNotNull() & F.col(columns.item).isNotNull())
        pairs = present.groupBy(columns.user, columns.item).agg(F.count("*").alias("_sr_events"))
        pairs = pairs.localCheckpoint()
        # A filter on one side does not change the counts of that side, so one pass is enough.
        repeat = self.iterate and len(minima) > 1
        before, rounds = pairs.count(), 0
        while True:
            left = pairs
            for key, least in minima.items():
                counts = pairs.groupBy(key).agg(F.sum("_sr_events").alias("_sr_number"))
                too_few = counts.where(F.col("_sr_number") < least)
                left = left.join(too_few.select(key), key, "left_anti")
            pairs = left.localCheckpoint()
            after, rounds = pairs.count(), rounds + 1
            if after == before or not repeat:
                break
            before = after
        _log.info("k_core rounds=%d pairs=%d", rounds, after)
        return pairs


def k_core(
    events: DataFrame,
    columns: Columns,
    min_user_events: int,
    min_item_events: int,
    iterate: bool = True,
) -> DataFrame:
    """Keep the events of users and items that have enough events; see `Core`.

    The counts know all of `events`. To filter a split, give the split a `Core`, which counts the
    events of train.

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
    """
    core = Core(min_user_events, min_item_events, iterate)
    inside, flagged = core.flag(events, events, columns)
    return flagged.where(inside).select(events.columns)


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
