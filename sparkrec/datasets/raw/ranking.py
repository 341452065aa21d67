"""Numbering events, so that (timestamp, position) is their exact order.

Timestamps are kept in seconds, so what finer time and the order of the input say must go into
`position`. It is the rank of the event in the order of

1. its time to the microsecond,
2. its place in the input: files by path, rows as they stand in the file,
3. for a Spark table, which has no order of its own: its columns, from left to right.

The same input gives the same positions in every run, with any number of cores, tasks or blocks:
ranks are counted within each hour and shifted by the number of events in the hours before, so no
step depends on how rows are spread, and none brings all events to one task.
"""

import itertools

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from sparkrec.datasets.raw.sources import ORDER, column

MICROS = "__micros"
_HOUR = "__hour"
_MICROS_OF_HOUR = 3_600_000_000


def drop_duplicates(events: DataFrame) -> DataFrame:
    """Of the events that agree in all columns but `ORDER`, keep the first in the input."""
    keys = [column(name) for name in events.columns if name != ORDER]
    return events.groupBy(*keys).agg(F.min(ORDER).alias(ORDER))


def hours(events: DataFrame) -> dict[int, int]:
    """How many events each hour has; hours are counted from the epoch."""
    hour = F.floor(F.col(MICROS) / _MICROS_OF_HOUR).alias(_HOUR)
    return {row[_HOUR]: row["count"] for row in events.groupBy(hour).count().collect()}


def rank(events: DataFrame, per_hour: dict[int, int], position: str) -> DataFrame:
    """Add the column `position` (long, unique, from 0 on without gaps).

    Parameters
    ----------
    events
        With `MICROS` (time in microseconds) and `ORDER` (place in the input).
    per_hour
        What `hours(events)` gave.
    """
    ascending = sorted(per_hour)
    before = itertools.accumulate((per_hour[hour] for hour in ascending), initial=0)
    starts = dict(zip(ascending, before, strict=False))
    offsets = events.sparkSession.createDataFrame(
        pa.table(
            {_HOUR: pa.array(starts, pa.int64()), "__start": pa.array(starts.values(), pa.int64())}
        )
    )
    rest = [column(name) for name in events.columns if name not in (MICROS, ORDER)]
    within = Window.partitionBy(_HOUR).orderBy(F.col(MICROS), F.col(ORDER), *rest)
    return (
        events.withColumn(_HOUR, F.floor(F.col(MICROS) / _MICROS_OF_HOUR))
        .withColumn("__rank", F.row_number().over(within))
        .join(F.broadcast(offsets), _HOUR)
        .withColumn(position, F.col("__start") + F.col("__rank") - 1)
        .drop(_HOUR, "__rank", "__start")
    )
