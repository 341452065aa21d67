"""Counts the raw rows of each status: good, bad with a reason, or left out by a rule."""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.datasets.prepared import check_bad_rows
from sparkrec.datasets.raw.sources import ORDER, Source
from sparkrec.errors import DataError

STATUS, TEXT = "_sr_status", "_sr_text"
GOOD = "good"
# Reasons to leave out a row that is not bad.
NOT_WANTED = "where is not true"
OTHER_TYPE, OUT_OF_RANGE = "another event type", "outside start..end"


def judge(
    parsed: DataFrame, source: Source, max_bad_rows: int, key: str
) -> tuple[int, dict[str, int], dict[str, int]]:
    """Count the rows of each status.

    Returns
    -------
    good, bad, left_out
        Number of good rows; number of bad rows by reason; number of rows left out by reason.

    Raises
    ------
    DataError
        There are more bad rows than `max_bad_rows`, or no good row.
    """
    first = F.min(F.struct(ORDER, F.when(F.col(STATUS) != GOOD, F.col(TEXT)).alias(TEXT)))
    rows = parsed.groupBy(STATUS).agg(F.count("*").alias("rows"), first.alias("first")).collect()
    counts = {row[STATUS]: int(row["rows"]) for row in rows}
    good = counts.pop(GOOD, 0)
    reasons = (NOT_WANTED, OTHER_TYPE, OUT_OF_RANGE)
    left_out = {name: counts.pop(name) for name in reasons if name in counts}
    where = f"{key}: {source.name}"
    if counts:
        bad = [row for row in rows if row[STATUS] in counts]
        worst = min(bad, key=lambda row: (tuple(row["first"][ORDER] or ()), row[STATUS]))
        place = _place(parsed, worst["first"][ORDER])
        described = f"{place}{worst['first'][TEXT]} ({worst[STATUS]})"
        check_bad_rows(where, sum(counts.values()), max_bad_rows, described)
    if not good:
        seen = ", ".join(f"{n:,} {name}" for name, n in {**left_out, **counts}.items())
        raise DataError(f"{where}: no row is left ({seen or 'it is empty'})")
    return good, counts, left_out


def _place(parsed: DataFrame, order: Any) -> str:
    """The row number in its file, counted from 1 after the header."""
    if order is None:
        return ""
    mine = F.col(ORDER)
    upto = (mine["file"] == order["file"]) & (
        (mine["block"] < order["block"])
        | ((mine["block"] == order["block"]) & (mine["row"] <= order["row"]))
    )
    return f"row {parsed.where(upto).count():,} of {order['file']}: "
