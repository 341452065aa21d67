"""Hold out events for testing: the last n, the last basket, or all from a moment on.

What a split means, whichever it is:

- `test` has the held-out rows, `train` all others. A user of whom nothing would be left in train is
  not tested: all rows stay in train.
- `validation` is each user's last train event (or the last part of train, where a split says so).
  Its rows are a subset of train, where the boolean column `is_validation` marks them, so that a fit
  can leave them out while parameters are chosen. A user with one train event (or basket) has no
  validation row, for nothing would be left to fit.
- Every test and validation row is a query with its answer. Added are `query_id` (long, the row's
  position), `history` (array of all items of the user before the row, oldest first, earlier test
  rows included) and `relevant` (array of the items to be found).

Every order is (timestamp, position). The frames of a split are lazy and read `events` several
times: write `events` first, or persist them. Each costs two shuffles by user; histories are sliced
from one sorted array per user, so a user's items must fit in a row.
"""

from dataclasses import dataclass
from typing import Literal

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError
from sparkrec.transforms._common import (
    moment,
    require_at_least,
    require_events,
    require_session,
)

IS_VALIDATION = "is_validation"
QUERY_ID = "query_id"
HISTORY = "history"
RELEVANT = "relevant"
_ADDED = (QUERY_ID, HISTORY, RELEVANT)

# Columns that never leave this module. A row's rank is 1 + the number of the user's earlier events.
_RANK, _EVENTS, _ITEMS = "_sr_rank", "_sr_events", "_sr_items"
_START, _TEST = "_sr_start", "_sr_test"


@dataclass(frozen=True)
class Split:
    """Three frames made by one of this module's functions; the module says what is in them."""

    train: DataFrame
    validation: DataFrame
    test: DataFrame


def last_n(events: DataFrame, columns: Columns, n: int = 3) -> Split:
    """Hold out the last n events of each user who has more than n.

    Parameters
    ----------
    events
        One row an event; other columns, such as a history, are kept.
    n
        Test rows per user, at least 1.

    Raises
    ------
    DataError
        A column is missing.
    ConfigError
        `n` is below 1.
    """
    require_events(events, columns)
    require_at_least("n", n, 1)
    ranked = _rank(events, columns, [columns.timestamp, columns.position])
    held_out = (F.col(_EVENTS) > n) & (F.col(_RANK) > F.col(_EVENTS) - n)
    return _split_rows(events, ranked.withColumn(_TEST, held_out), columns)


def leave_one_out(events: DataFrame, columns: Columns) -> Split:
    """Hold out the last event of each user who has more than one: `last_n` with n=1."""
    return last_n(events, columns, n=1)


def temporal(
    events: DataFrame,
    columns: Columns,
    test_from: int,
    validation_from: int | None = None,
    new_users: Literal["train", "test"] = "train",
) -> Split:
    """Hold out all events from a moment on.

    Parameters
    ----------
    events
        One row an event; other columns, such as a history, are kept.
    test_from
        Seconds since the epoch: events at or after it are test rows.
    validation_from
        Events at or after it and before `test_from` are the validation rows; by default each user's
        last train event is.
    new_users
        Where users go whose first event is at or after `test_from`. "train" keeps them there whole,
        as every split does with users of whom nothing would be left; train then holds events from
        after `test_from`. "test" tests them, the first event with an empty history: right where
        the "user" is a session, and where train must not know the future. The same word decides
        on users whose train events all lie in the validation range.

    Raises
    ------
    DataError
        A column is missing.
    ConfigError
        `validation_from` is not before `test_from`, or `new_users` is neither word.
    """
    require_events(events, columns)
    if validation_from is not None and validation_from >= test_from:
        raise ConfigError(f"validation_from {validation_from} is not before test_from {test_from}")
    if new_users not in ("train", "test"):
        raise ConfigError(f"new_users must be train or test, not {new_users}")
    time = F.col(columns.timestamp)
    first = F.min(columns.timestamp).over(Window.partitionBy(columns.user))

    def known(since: int) -> Column:
        return F.lit(True) if new_users == "test" else F.col(_START) < since

    ranked = _rank(events, columns, [columns.timestamp, columns.position]).withColumn(_START, first)
    ranked = ranked.withColumn(_TEST, (time >= test_from) & known(test_from))
    validation = None
    if validation_from is not None:
        validation = (time >= validation_from) & (time < test_from) & known(validation_from)
    return _split_rows(events, ranked, columns, validation)


def last_basket(events: DataFrame, columns: Columns) -> Split:
    """Hold out the last basket of each user who has more than one.

    Baskets are the events of a user with the same `columns.session`, ordered by their first event;
    events without a session form one basket. Test and validation have one row per (user, basket),
    with the columns user, `query_id` (smallest position of the basket), timestamp (of its first
    event), `history` (all items of earlier baskets), `relevant` (the distinct items, sorted), and
    those columns of `events` whose names begin with `recent_` or `last_`, as they stand in the
    basket's first event (see `add_history(by_session=True)`). Validation is the last train basket.

    Raises
    ------
    DataError
        A column is missing.
    ConfigError
        `columns` names no session.
    """
    require_events(events, columns)
    session = require_session(events, columns, "last_basket")
    # Sharing the rows out by user serves the window by basket and all that follow.
    first = F.min(moment(columns)).over(Window.partitionBy(columns.user, session))
    started = events.repartition(columns.user).withColumn(_START, first)
    # All events of a basket have the same rank: 1 + the events in the user's earlier baskets.
    ranked = _rank(started, columns, [_START])
    last = F.max(_RANK).over(Window.partitionBy(columns.user))
    held_out = (F.col(_RANK) == last) & (F.col(_RANK) > 1)
    marked = _mark_validation(ranked.withColumn(_TEST, held_out), columns)
    sequences = _sequences(started, [_START, columns.timestamp, columns.position], columns)

    def queries(rows: DataFrame) -> DataFrame:
        return _basket_queries(rows, sequences, events.columns, columns)

    return Split(
        train=_train(events, marked),
        validation=queries(marked.where(F.col(IS_VALIDATION))),
        test=queries(marked.where(F.col(_TEST))),
    )


def _rank(events: DataFrame, columns: Columns, order: list[str]) -> DataFrame:
    """Add to each row 1 + how many rows of its user come before it, and how many there are."""
    by_user = Window.partitionBy(columns.user)
    ranked = events.withColumn(_RANK, F.rank().over(by_user.orderBy(*order)))
    return ranked.withColumn(_EVENTS, F.count("*").over(by_user))


def _mark_validation(ranked: DataFrame, columns: Columns) -> DataFrame:
    """Mark the last train event (or basket) of each user who has another one in train."""
    by_user = Window.partitionBy(columns.user)
    last_train = F.max(F.when(~F.col(_TEST), F.col(_RANK))).over(by_user)
    chosen = ~F.col(_TEST) & (F.col(_RANK) == last_train) & (F.col(_RANK) > 1)
    return ranked.withColumn(IS_VALIDATION, chosen)


def _train(events: DataFrame, marked: DataFrame) -> DataFrame:
    names = [name for name in events.columns if name != IS_VALIDATION]
    return marked.where(~F.col(_TEST)).select(*names, IS_VALIDATION)


def _split_rows(
    events: DataFrame, ranked: DataFrame, columns: Columns, validation: Column | None = None
) -> Split:
    """The split of rows that `_TEST` marks; validation is by default the last train event."""
    if validation is None:
        marked = _mark_validation(ranked, columns)
    else:
        marked = ranked.withColumn(IS_VALIDATION, ~F.col(_TEST) & validation)
    sequences = _sequences(events, [columns.timestamp, columns.position], columns)
    names = [name for name in events.columns if name not in (IS_VALIDATION, *_ADDED)]

    def queries(rows: DataFrame) -> DataFrame:
        return rows.join(sequences, columns.user).select(
            *names,
            F.col(columns.position).cast("long").alias(QUERY_ID),
            F.slice(_ITEMS, F.lit(1), F.col(_RANK) - 1).alias(HISTORY),
            F.array(columns.item).alias(RELEVANT),
        )

    return Split(
        train=_train(events, marked),
        validation=queries(marked.where(F.col(IS_VALIDATION))),
        test=queries(marked.where(F.col(_TEST))),
    )


def _sequences(events: DataFrame, order: list[str], columns: Columns) -> DataFrame:
    """One row a user: all items in order."""
    keys = [F.col(name).alias(f"k{i}") for i, name in enumerate(order)]
    # sort_array, for array_sort calls an interpreted comparator and is several times slower.
    entries = F.sort_array(F.collect_list(F.struct(*keys, F.col(columns.item).alias("item"))))
    return events.groupBy(columns.user).agg(entries["item"].alias(_ITEMS))


def _basket_queries(
    rows: DataFrame, sequences: DataFrame, names: list[str], columns: Columns
) -> DataFrame:
    """One row for each (user, basket) among the rows."""
    past = [name for name in names if name.startswith(("recent_", "last_"))]
    queries = rows.groupBy(columns.user, _RANK).agg(
        F.min(F.col(columns.position).cast("long")).alias(QUERY_ID),
        F.min(columns.timestamp).alias(columns.timestamp),
        F.sort_array(F.collect_set(columns.item)).alias(RELEVANT),
        *[F.min_by(name, moment(columns)).alias(name) for name in past],
    )
    return queries.join(sequences, columns.user).select(
        columns.user,
        QUERY_ID,
        columns.timestamp,
        F.slice(_ITEMS, F.lit(1), F.col(_RANK) - 1).alias(HISTORY),
        RELEVANT,
        *past,
    )
