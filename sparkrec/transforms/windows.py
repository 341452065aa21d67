"""Windows over a user's events: the training rows of sequence models."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkrec.columns import Columns
from sparkrec.transforms._common import moment, require_at_least, require_events, tail

WINDOW = "window"
_ITEMS, _END = "_sr_items", "_sr_end"


def item_windows(
    events: DataFrame, columns: Columns, steps: int, beside: Mapping[str, Column] | None = None
) -> DataFrame:
    """Cut each user's items, in order, into windows of `steps` input items and their successors.

    Parameters
    ----------
    events
        One row per event, in any order; rows without an item are left out.
    steps
        Number of input items of a window, at least 1. A window has one item more, the target of
        its last step.
    beside
        Values of each event to collect beside the items, by name, such as its weight.

    Returns
    -------
    DataFrame
        Columns `columns.user` and `window`: array of 2 to `steps` + 1 items, oldest first, and
        one array of the same length for each name of `beside`. Every
        item of a user except the first is a target exactly once. Windows are cut from the end, so
        only the earliest window of a user can be shorter. Users with one event have no window.

    Raises
    ------
    DataError
        A column is missing.
    ConfigError
        `steps` is below 1.

    Notes
    -----
    One shuffle by user; a user's items must fit in a row.
    """
    require_at_least("steps", steps, 1)
    beside = beside or {}
    ordered = _user_entries(events, columns, beside)
    # Positions of the last items of the windows, counted from 1.
    ends = F.sequence(F.size(_ITEMS), F.lit(2), F.lit(-steps))
    long_enough = ordered.where(F.size(_ITEMS) > 1)
    ended = long_enough.select(columns.user, _ITEMS, F.explode(ends).alias(_END))
    start = F.greatest(F.col(_END) - steps, F.lit(1))
    window = F.slice(_ITEMS, start, F.col(_END) - start + 1)
    made = {WINDOW: window["item"]} | {name: window[name] for name in beside}
    return ended.select(columns.user, *(value.alias(name) for name, value in made.items()))


def user_items(
    events: DataFrame, columns: Columns, name: str, max_len: int | None = None
) -> DataFrame:
    """Collect the items of each user: `columns.user`, and `name`, an array of items, oldest first.

    Parameters
    ----------
    events
        One row per event, in any order; rows without an item are left out.
    max_len
        Number of the latest items to keep; all by default.

    Raises
    ------
    DataError
        A column is missing.
    """
    entries = _user_entries(events, columns, {})
    items = F.col(_ITEMS)["item"]
    return entries.select(
        columns.user, (items if max_len is None else tail(items, max_len)).alias(name)
    )


def _user_entries(events: DataFrame, columns: Columns, more: Mapping[str, Column]) -> DataFrame:
    """Collect the events of each user, oldest first: array of structs with `item` and `more`."""
    require_events(events, columns)
    others = [value.alias(name) for name, value in more.items()]
    entry = F.struct(moment(columns).alias("at"), F.col(columns.item).alias("item"), *others)
    known = events.where(F.col(columns.item).isNotNull())
    ordered = F.sort_array(F.collect_list(entry))
    return known.groupBy(columns.user).agg(ordered.alias(_ITEMS))
