"""The condition in Spark SQL that says which raw rows are wanted."""

from pyspark.errors import AnalysisException, ParseException, PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.errors import DataError

WANTED = "_sr_wanted"
# SQLSTATE class of errors that a value causes: text that is no number, a division by zero.
_BAD_VALUE = "22"


def flag_wanted(frame: DataFrame, where: str | None, key: str) -> DataFrame:
    """Add `WANTED`, whether the condition is true for the row; never null.

    Parameters
    ----------
    where
        The condition; None wants all rows.
    key
        The key of the source in the conf, for messages.

    Raises
    ------
    DataError
        It is not a condition on the columns of the frame.
    """
    if where is None:
        return frame.withColumn(WANTED, F.lit(True))
    try:
        condition = F.expr(where)
        # A filter refuses what is not a condition on one row, such as a sum.
        frame.where(condition)
        return frame.withColumn(WANTED, F.coalesce(condition, F.lit(False)))
    except (AnalysisException, ParseException) as error:
        raise DataError(
            f"{key}.where: {where!r} is not a Spark SQL condition on the raw columns: "
            f"{_first_sentence(error)}"
        ) from None


def explain_where(error: PySparkException, where: str | None, key: str) -> DataError | None:
    """Translate Spark's error for a value that the condition cannot be computed for.

    None for any other error.
    """
    if where is None or not (error.getSqlState() or "").startswith(_BAD_VALUE):
        return None
    return DataError(
        f"{key}.where: {where!r} cannot be computed for all rows: {_first_sentence(error)}; "
        "with try_cast(<column> AS double) such a value is null, and its row is left out"
    )


def _first_sentence(error: PySparkException) -> str:
    text = " ".join(str(error).split()).partition("] ")[2] or str(error)
    return text.partition(". ")[0].removesuffix(".")
