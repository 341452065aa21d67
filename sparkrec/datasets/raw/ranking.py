"""Numbers events, so that (timestamp, position) is their exact order.

Timestamps are stored in seconds, so `position` must contain the order within a second. It is the
rank of the event by

1. its time to the microsecond,
2. the columns of `order_by`, if the conf names any,
3. its place in the input: files by path, rows by their place in the file,
4. for a Spark table, which has no order of its rows, its columns from left to right.

The same input gives the same positions in every run, with any number of cores, tasks or file
blocks. Events are ranked within each hour, and the number of events in earlier hours is added. So
no step depends on the partitions, and no task needs all events.
"""

import itertools

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from sparkrec.datasets.raw.sources import ORDER, column
from sparkrec.spark_versions import from_arrow

MICROS, BY = "_sr_micros", "_sr_by"
_HOUR, _START, _RANK = "_sr_hour", "_sr_start", "_sr_rank"
_MICROS_OF_HOUR = 3_600_000_000


def drop_duplicates(events: DataFrame) -> DataFrame:
    """Of events that are equal in all columns except `ORDER`, keep the first one in the input."""
    keys = [column(name) for name in events.columns if name != ORDER]
    return events.groupBy(*keys).agg(F.min(ORDER).alias(ORDER))


def hours(events: DataFrame) -> dict[int, int]:
    """Number of events in each hour; hours are counted from the epoch."""
    hour = F.floor(F.col(MICROS) / _MICROS_OF_HOUR).alias(_HOUR)
    return {row[_HOUR]: row["count"] for row in events.groupBy(hour).count().collect()}


def rank(events: DataFrame, per_hour: dict[int, int], position: str) -> DataFrame:
    """Add the column `position` (long, unique, from 0 without gaps).

    Parameters
    ----------
    events
        Events with `MICROS` (time in microseconds), `ORDER` (place in the input) and optionally
        `BY` (a struct, compared from left to right).
    per_hour
        Output of `hours(events)`.
    """
    ascending = sorted(per_hour)
    before = itertools.accumulate((per_hour[hour] for hour in ascending), initial=0)
    starts = dict(zip(ascending, before, strict=False))
    offsets = from_arrow(
        events.sparkSession,
        pa.table(
            {
                _HOUR: pa.array(starts, pa.int64()),
                _START: pa.array(starts.values(), pa.int64()),
            }
        ),
    )
    first = [name for name in (MICROS, BY, ORDER) if name in events.columns]
    rest = [name for name in events.columns if name not in first]
    within = Window.partitionBy(_HOUR).orderBy(*map(column, (*first, *rest)))
    return (
        events.withColumn(_HOUR, F.floor(F.col(MICROS) / _MICROS_OF_HOUR))
        .withColumn(_RANK, F.row_number().over(within))
        .join(F.broadcast(offsets), _HOUR)
        .withColumn(position, F.col(_START) + F.col(_RANK) - 1)
        .drop(_HOUR, _RANK, _START)
    )
