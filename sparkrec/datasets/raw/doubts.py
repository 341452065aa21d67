"""Measures what may be wrong with events that can all be read, and warns with figures.

Such events are no bad rows, but a model that is trained on them may be wrong without a word: the
order of a user's events is not in the data, events of their own look like duplicates, or cancelled
orders count as positives.
"""

import logging

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.columns import Columns
from sparkrec.datasets.raw.ranking import BY, MICROS
from sparkrec.datasets.raw.sources import column

log = logging.getLogger("sparkrec.prepare")

_MANY_TIES, _MANY_DUPLICATES = 0.5, 0.01


def warn_of_doubts(
    events: DataFrame, names: Columns, rated: bool, duplicates: int, where: str
) -> dict[str, str]:
    """Log a warning for each doubt; returns the figures by name.

    Parameters
    ----------
    events
        Distinct events with `MICROS` and optionally `BY`; read once.
    rated
        Whether the events have the column of the rating.
    duplicates
        Number of duplicates that were left out before.
    where
        The key of the events in the conf and their path.

    Notes
    -----
    Two neighbouring events of a user share a time if time and `BY` are equal. A user with n events
    at t different times has n - 1 pairs of neighbours, of which n - t share their time.
    """
    rating = column(names.rating or "rating") if rated else F.lit(None).cast("double")
    time = F.struct(*[name for name in (MICROS, BY) if name in events.columns])
    users = events.groupBy(column(names.user)).agg(
        F.count("*").alias("events"),
        F.count_distinct(time).alias("times"),
        F.count_if(rating < 0).alias("negative"),
        F.count_if(rating == 0).alias("zero"),
    )
    found = users.agg(
        F.sum("events").alias("events"),
        F.sum(F.col("events") - 1).alias("pairs"),
        F.sum(F.col("events") - F.col("times")).alias("ties"),
        F.sum("negative").alias("negative"),
        F.sum("zero").alias("zero"),
    ).first()
    assert found is not None  # an aggregate without groups has one row
    figures = {}
    if found["pairs"]:
        figures["neighbouring events of a user with the same time"] = _share(
            found["ties"], found["pairs"]
        )
        if found["ties"] > _MANY_TIES * found["pairs"]:
            log.warning(
                "%s: %s of the neighbouring events of a user have the same time, so their order is "
                "that of the input; if other columns have the order, name them in order_by",
                where,
                _share(found["ties"], found["pairs"]),
            )
    if duplicates > _MANY_DUPLICATES * (found["events"] + duplicates):
        log.warning(
            "%s: %s of the rows are equal to an earlier row in all columns used and were left out; "
            "if they are events of their own, set drop_duplicates: false, or name a column in "
            "which they differ in order_by or keep_columns",
            where,
            _share(duplicates, found["events"] + duplicates),
        )
    if rated:
        for sign in ("negative", "zero"):
            figures[f"events with a {sign} rating"] = _share(found[sign], found["events"])
        if found["negative"]:
            log.warning(
                "%s: %s of the events have a negative rating; models take every event as a "
                "positive, so leave out cancelled orders and returns with where",
                where,
                _share(found["negative"], found["events"]),
            )
    return figures


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%} ({part:,} of {whole:,})"
