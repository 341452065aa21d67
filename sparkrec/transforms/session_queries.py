"""Turns test sessions into queries: each event after the first is predicted from those before."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from sparkrec.columns import Columns
from sparkrec.transforms._common import require_columns, require_events
from sparkrec.transforms.split import HISTORY, QUERY_ID, RELEVANT


def session_queries(test: DataFrame, train: DataFrame, columns: Columns) -> DataFrame:
    """The queries of the protocol `session_next`.

    Parameters
    ----------
    test
        Events of test sessions; a session is a user, `columns.user`.
    train
        Events of train. Test events of items that are not in train are dropped first, as in the
        code of GRU4Rec's authors.

    Returns
    -------
    DataFrame
        The columns of `test`, with `query_id` (the row's position), `history` (array of the
        session's items before the row, oldest first, never empty) and `relevant` (the row's item).

    Raises
    ------
    DataError
        A column is missing.
    """
    require_events(test, columns, "test")
    require_columns(train, [columns.item], "train")
    known = test.join(train.select(columns.item).distinct(), columns.item, "left_semi")
    order = Window.partitionBy(columns.user).orderBy(columns.timestamp, columns.position)
    before = order.rowsBetween(Window.unboundedPreceding, -1)
    asked = known.select(
        *test.columns,
        F.col(columns.position).alias(QUERY_ID),
        F.collect_list(columns.item).over(before).alias(HISTORY),
        F.array(columns.item).alias(RELEVANT),
    )
    return asked.where(F.size(HISTORY) > 0)


def last_sessions(events: DataFrame, columns: Columns, seconds: int) -> tuple[DataFrame, DataFrame]:
    """Split off the sessions whose last event lies in the last `seconds` of the data.

    Returns
    -------
    train, test
        Whole sessions (`columns.user`). The test sessions are those whose last event is at or after
        the latest timestamp minus `seconds`.

    Raises
    ------
    DataError
        A column is missing.

    Notes
    -----
    Finding the latest timestamp is a Spark job of its own.
    """
    require_events(events, columns)
    latest = events.agg(F.max(columns.timestamp)).first()
    assert latest is not None  # an aggregate without groups has one row
    border = (latest[0] or 0) - seconds
    end = F.max(columns.timestamp).over(Window.partitionBy(columns.user))
    ended = events.withColumn("_sr_end", end)
    train = ended.where(F.col("_sr_end") < border).drop("_sr_end")
    return train, ended.where(F.col("_sr_end") >= border).drop("_sr_end")
