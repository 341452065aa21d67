"""Weights of events, such as 1 for a view and 3 for a purchase."""

import math
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.errors import DataError
from sparkrec.io.tables import NUMBER_TYPES, require_columns


@dataclass(frozen=True)
class Weights:
    """The weights of a table.

    Attributes
    ----------
    mean, largest
        Both are above 0.
    """

    mean: float
    largest: float


def check_weights(rows: DataFrame, column: str, table: str = "train") -> Weights:
    """Check that every row has a weight.

    Raises
    ------
    DataError
        The column is missing or no number; a weight is null, infinite or negative; or all are 0.
    """
    require_columns(rows, {column: NUMBER_TYPES}, table)
    weight = F.col(f"`{column}`").cast("double")
    usable = (weight >= 0) & (weight < math.inf)  # Spark sorts NaN above infinity
    found = rows.agg(
        F.count_if(~F.coalesce(usable, F.lit(False))).alias("unusable"),
        F.avg(weight).alias("mean"),
        F.max(weight).alias("largest"),
    ).first()
    assert found is not None  # an aggregate without groups has one row
    if found["unusable"]:
        raise DataError(
            f"{table}: column `{column}`, which weight_col names, is null, infinite or negative in "
            f"{found['unusable']:,} rows; leave these events out before the split (`where` of "
            "jobs/prepare.py), or remove weight_col"
        )
    if not found["largest"]:
        raise DataError(
            f"{table}: column `{column}`, which weight_col names, has no weight above 0"
        )
    return Weights(float(found["mean"]), float(found["largest"]))
