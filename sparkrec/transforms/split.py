"""Hold out events for testing: the last n, the last basket, or all events after a time.

All splits have these rules:

- `test` has the held-out rows, and `train` has all others. If a user would have no row left in
  train, the user is not tested and all rows stay in train.
- `validation` is each user's last event of train (or the last part of train, if a split says so).
  Its rows are a subset of train, marked there by the boolean column `is_validation`, so that a fit
  can leave them out while settings are chosen. A user with one event (or basket) in train has no
  validation row, because no row would be left to fit.
- Every test and validation row is a query with its answer. The columns `query_id` (long, the row's
  position), `history` (array of all items of the user before the row, oldest first, including
  earlier test rows) and `relevant` (array of the items to find) are added.
- A `core` (minimum numbers of events of users and items) is counted on the events that are not held
  out, so it does not know the future. It applies to all rows: a test or validation row whose user
  or item is outside is left out, because train cannot contain it. Histories are not filtered.
- `parts` counts every event once: in train, in test, or left out, with the reason.
- With `cold` (see `transforms.cold_items`), events of cold items are left out of train and of
  validation, and are test rows like any others, also if the items are outside of the core. Train
  has no columns with histories.

Events are always ordered by (timestamp, position). The frames of a split are lazy and read `events`
several times, so write or persist `events` first. Each frame costs two shuffles by user. Histories
are slices of one sorted array per user, so the items of a user must fit in a row.
"""

from collections.abc import Callable
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
from sparkrec.transforms.cold_items import ColdItems
from sparkrec.transforms.filters import Core

IS_VALIDATION = "is_validation"
QUERY_ID = "query_id"
HISTORY = "history"
RELEVANT = "relevant"
_ADDED = (QUERY_ID, HISTORY, RELEVANT)

# Private columns. The rank of a row is 1 + the number of the user's earlier events.
_RANK, _EVENTS, _ITEMS = "_sr_rank", "_sr_events", "_sr_items"
_START, _PART, _VALIDATION = "_sr_start", "_sr_part", "_sr_validation"
_FIRST_SEEN = "_sr_first_seen"
TRAIN, TEST = "train", "test"
OUTSIDE_CORE, NEW_USER = "users or items with too few events in train", "users who are new in test"
COLD, UNUSED = "cold items before the test rows", "test rows, in whose place validation rows are"


@dataclass(frozen=True)
class Split:
    """The frames of a split; see the docstring of the module.

    Attributes
    ----------
    train, validation, test
        The tables.
    parts
        Number of `events` of the input by `part`: `TRAIN`, `TEST` or the reason (`OUTSIDE_CORE`,
        `NEW_USER`) why they are in neither; and how many of them are `marked` as validation. Test
        and validation rows of baskets have several events.
    """

    train: DataFrame
    validation: DataFrame
    test: DataFrame
    parts: DataFrame

    @property
    def tables(self) -> dict[str, DataFrame]:
        """The tables by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def last_n(
    events: DataFrame,
    columns: Columns,
    n: int = 3,
    core: Core | None = None,
    cold: ColdItems | None = None,
) -> Split:
    """Hold out the last n events of each user who has more than n.

    Parameters
    ----------
    events
        One row per event; other columns, such as a history, are kept.
    n
        Number of test rows per user, at least 1.
    core
        Which users and items are kept; by default all are.
    cold
        Which items are left out of train; by default none are.

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
    return _split_rows(events, _with_parts(ranked, held_out, core, cold, columns), columns)


def leave_one_out(
    events: DataFrame,
    columns: Columns,
    core: Core | None = None,
    cold: ColdItems | None = None,
) -> Split:
    """Hold out the last event of each user who has more than one: `last_n` with n=1."""
    return last_n(events, columns, 1, core, cold)


def temporal(
    events: DataFrame,
    columns: Columns,
    test_from: int,
    validation_from: int | None = None,
    new_users: Literal["test", "drop"] = "test",
    core: Core | None = None,
    cold: ColdItems | None = None,
) -> Split:
    """Hold out all events at or after a time, so that train has no event of the test's time.

    Parameters
    ----------
    events
        One row per event; other columns, such as a history, are kept.
    test_from
        Time in seconds since the epoch. Events at or after it are test rows.
    validation_from
        Events at or after this time and before `test_from` are marked as validation, and are the
        validation rows. By default the validation row is each user's last event of train.
    new_users
        What happens to the events of users whose first event is at or after `test_from`. "test"
        makes them test rows, the first one with an empty history. "drop" leaves them out of train
        and test. In the same way "drop" makes no validation rows for users whose first event is in
        the validation range; their events are in train, marked as validation.
    core
        Which users and items are kept; by default all are. A minimum for users leaves out all
        new users, because they have no event in train.
    cold
        Which items are left out of train; by default none are.

    Raises
    ------
    DataError
        A column is missing.
    ConfigError
        `validation_from` is not before `test_from`, `new_users` is neither test nor drop, or `cold`
        asks for validation rows in the place of test rows.
    """
    require_events(events, columns)
    if validation_from is not None and validation_from >= test_from:
        raise ConfigError(f"validation_from {validation_from} is not before test_from {test_from}")
    if new_users not in ("test", "drop"):
        raise ConfigError(f"new_users must be test or drop, not {new_users}")
    if cold is not None and cold.rows == "validation":
        raise ConfigError(
            "cold_items.rows: validation is not for temporal splits; set test_from to the time "
            "from which rows are for validation, and filters.end to the old test_from"
        )
    time = F.col(columns.timestamp)
    first = F.min(columns.timestamp).over(Window.partitionBy(columns.user))
    ranked = _rank(events, columns, [columns.timestamp, columns.position]).withColumn(_START, first)
    parts = _with_parts(ranked, time >= test_from, core, cold, columns)
    if new_users == "drop":
        new = (F.col(_PART) == TEST) & (F.col(_START) >= test_from)
        parts = parts.withColumn(_PART, F.when(new, NEW_USER).otherwise(F.col(_PART)))
    if validation_from is None:
        return _split_rows(events, parts, columns)
    marked = parts.withColumn(IS_VALIDATION, (F.col(_PART) == TRAIN) & (time >= validation_from))
    asked = F.col(IS_VALIDATION)
    if new_users == "drop":
        asked &= F.col(_START) < validation_from
    return _split_rows(events, marked.withColumn(_VALIDATION, asked), columns)


def last_basket(
    events: DataFrame,
    columns: Columns,
    core: Core | None = None,
    cold: ColdItems | None = None,
) -> Split:
    """Hold out the last basket of each user who has more than one.

    A basket is the events of a user with the same `columns.session`; baskets are ordered by their
    first event. The events of a user without a session are one basket. Test and validation have one
    row per (user, basket), with the columns user, `query_id` (smallest position of the basket),
    timestamp (of its first event), `history` (all items of earlier baskets), `relevant` (the
    distinct items, sorted), and the columns of `events` named `recent_...` or `last_...`,
    with the values of the basket's first event (see `add_history(by_session=True)`). Validation is
    the last basket of train.

    Raises
    ------
    DataError
        A column is missing.
    ConfigError
        `columns` names no session.
    """
    require_events(events, columns)
    session = require_session(events, columns, "last_basket")
    # One repartition by user serves the window by basket and all later windows.
    first = F.min(moment(columns)).over(Window.partitionBy(columns.user, session))
    started = events.repartition(columns.user).withColumn(_START, first)
    # All events of a basket have the same rank: 1 + the events in the user's earlier baskets.
    ranked = _rank(started, columns, [_START])
    last = F.max(_RANK).over(Window.partitionBy(columns.user))
    held_out = (F.col(_RANK) == last) & (F.col(_RANK) > 1)
    marked = _mark_validation(_with_parts(ranked, held_out, core, cold, columns), columns)
    sequences = _sequences(started, [_START, columns.timestamp, columns.position], columns)

    def queries(rows: DataFrame) -> DataFrame:
        return _basket_queries(rows, sequences, events.columns, columns)

    return _split(events, marked, queries)


def _rank(events: DataFrame, columns: Columns, order: list[str]) -> DataFrame:
    """Add 1 + the number of the user's rows before each row, and the number of the user's rows."""
    by_user = Window.partitionBy(columns.user)
    ranked = events.withColumn(_RANK, F.rank().over(by_user.orderBy(*order)))
    return ranked.withColumn(_EVENTS, F.count("*").over(by_user))


def _with_parts(
    ranked: DataFrame,
    held_out: Column,
    core: Core | None,
    cold: ColdItems | None,
    columns: Columns,
) -> DataFrame:
    """Add the part that each row belongs to: `TRAIN`, `TEST`, or why it is in neither."""
    rows = ranked.withColumn(_PART, F.when(held_out, TEST).otherwise(TRAIN))
    is_cold = F.lit(False)
    if cold is not None:
        first = F.min(columns.timestamp).over(Window.partitionBy(columns.item))
        rows = rows.withColumn(_FIRST_SEEN, first)
        is_cold = F.coalesce(cold.flag(columns, _FIRST_SEEN), F.lit(False))
    if core is not None and core.limits:
        in_core, flagged = core.flag(rows, rows.where(F.col(_PART) == TRAIN), columns)
        # A cold item may have no event in train, and is tested all the same.
        kept = in_core | (is_cold & (F.col(_PART) == TEST))
        rows = flagged.withColumn(_PART, F.when(kept, F.col(_PART)).otherwise(OUTSIDE_CORE))
    if cold is None:
        return rows
    if cold.rows == "validation":
        part = F.col(_PART)
        now = F.when(part == TEST, UNUSED).when(F.col(IS_VALIDATION), TEST).otherwise(part)
        marked = _mark_validation(rows, columns)
        rows = marked.withColumn(_PART, now).drop(IS_VALIDATION, _VALIDATION)
    left_out = (F.col(_PART) == TRAIN) & is_cold
    return rows.withColumn(_PART, F.when(left_out, COLD).otherwise(F.col(_PART)))


def _mark_validation(rows: DataFrame, columns: Columns) -> DataFrame:
    """Mark the last event (or basket) in train of each user who has an earlier one there."""
    by_user = Window.partitionBy(columns.user)
    in_train = F.col(_PART) == TRAIN
    rank = F.when(in_train, F.col(_RANK))
    last, first = F.max(rank).over(by_user), F.min(rank).over(by_user)
    chosen = in_train & (F.col(_RANK) == last) & (first < last)
    return rows.withColumn(IS_VALIDATION, chosen).withColumn(_VALIDATION, F.col(IS_VALIDATION))


def _split(
    events: DataFrame, marked: DataFrame, queries: Callable[[DataFrame], DataFrame]
) -> Split:
    names = [name for name in events.columns if name != IS_VALIDATION]
    if _FIRST_SEEN in marked.columns:
        names = [name for name in names if not name.startswith(("recent_", "last_"))]
    return Split(
        train=marked.where(F.col(_PART) == TRAIN).select(*names, IS_VALIDATION),
        validation=queries(marked.where(F.col(_VALIDATION))),
        test=queries(marked.where(F.col(_PART) == TEST)),
        parts=marked.groupBy(F.col(_PART).alias("part")).agg(
            F.count("*").alias("events"), F.count_if(F.col(IS_VALIDATION)).alias("marked")
        ),
    )


def _split_rows(events: DataFrame, rows: DataFrame, columns: Columns) -> Split:
    """Split rows with parts; by default validation is each user's last event of train."""
    marked = rows if _VALIDATION in rows.columns else _mark_validation(rows, columns)
    sequences = _sequences(events, [columns.timestamp, columns.position], columns)
    names = [name for name in events.columns if name not in (IS_VALIDATION, *_ADDED)]

    def queries(chosen: DataFrame) -> DataFrame:
        return chosen.join(sequences, columns.user).select(
            *names,
            F.col(columns.position).cast("long").alias(QUERY_ID),
            F.slice(_ITEMS, F.lit(1), F.col(_RANK) - 1).alias(HISTORY),
            F.array(columns.item).alias(RELEVANT),
        )

    return _split(events, marked, queries)


def _sequences(events: DataFrame, order: list[str], columns: Columns) -> DataFrame:
    """Collect all items of each user in order, one row per user."""
    keys = [F.col(name).alias(f"k{i}") for i, name in enumerate(order)]
    # sort_array, because array_sort calls an interpreted comparator and is several times slower.
    entries = F.sort_array(F.collect_list(F.struct(*keys, F.col(columns.item).alias("item"))))
    return events.groupBy(columns.user).agg(entries["item"].alias(_ITEMS))


def _basket_queries(
    rows: DataFrame, sequences: DataFrame, names: list[str], columns: Columns
) -> DataFrame:
    """Make one query per (user, basket) of the rows."""
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
