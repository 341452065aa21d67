"""The column names of an events table, which are passed to every transform, and rules for names.

A column name may have letters of any script, digits, spaces and signs. It must not have a dot or a
backtick, with which Spark names the parts of a column, or a control character, and it must not be
`*`. Names that differ in case only are the same to Spark. Names that begin with `_sr_` belong to
the columns that sparkrec adds while it works.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sparkrec.errors import DataError, shown

RESERVED_PREFIX = "_sr_"
# Columns that the stages add to tables of queries and training rows.
_ADDED = ("query_id", "history", "relevant", "negatives", "is_validation", "recommended")
_FORBIDDEN = re.compile(r"[.`\x00-\x1f\x7f-\x9f\u2028\u2029\ufffd]|^\*$|^\s*$|^\s|\s$")


def name_fault(name: str) -> str | None:
    """What is wrong with a column name, as the end of a sentence; None if nothing is."""
    if not name.strip():
        return "is empty"
    if _FORBIDDEN.search(name):
        return "has a dot, a backtick, a control character or a blank at an end, or is `*`"
    if name.lower().startswith(RESERVED_PREFIX):
        return f"begins with {RESERVED_PREFIX}, as the columns that sparkrec adds for itself"
    return None


def check_column_names(names: Iterable[str], where: str) -> None:
    """Raise DataError if a table has a column name that the stages cannot work with.

    Parameters
    ----------
    where
        The table, for the message: its key in the conf and its path.
    """
    seen: dict[str, str] = {}
    for name in names:
        fault = name_fault(name)
        if fault is not None:
            raise DataError(f"{where}: the column name {shown(name)} {fault}; rename the column")
        if name.lower() in seen:
            raise DataError(
                f"{where}: the columns `{seen[name.lower()]}` and `{name}` differ in case only, "
                "which Spark cannot tell apart; rename one"
            )
        seen[name.lower()] = name


@dataclass(frozen=True)
class Columns:
    """Names of the columns in the data, by their role.

    Attributes
    ----------
    user
        Column of the user id.
    item
        Column of the item id.
    timestamp
        Column of the time of an event, in seconds since the epoch.
    position
        Column of the row number in the raw input (int64). Events are always ordered by
        (timestamp, position), because consecutive events often have the same timestamp.
    rating
        Column of the rating or weight of an event; null if there is none.
    session
        Column that groups events into sessions or baskets; null if there is none.
    """

    user: str = "user_id"
    item: str = "item_id"
    timestamp: str = "timestamp"
    position: str = "position"
    rating: str | None = None
    session: str | None = None

    def __post_init__(self) -> None:
        roles = {role: name for role, name in vars(self).items() if name is not None}
        taken: dict[str, str] = {}
        for role, name in roles.items():
            fault = name_fault(name)
            if fault is not None:
                raise ValueError(f"{role} must be another name: {shown(name)} {fault}")
            if name.lower() in _ADDED:
                raise ValueError(f"{role} must be another name: sparkrec adds a column `{name}`")
            if name.lower() in taken:
                raise ValueError(
                    f"{role} must be another column than {taken[name.lower()]}: both are `{name}` "
                    "(upper and lower case are the same to Spark)"
                )
            taken[name.lower()] = role
        for derived in (self.recent_items, self.last_item):
            if derived.lower() in taken:
                role = taken[derived.lower()]
                raise ValueError(f"{role} must be another name: sparkrec adds a column `{derived}`")

    @property
    def stem(self) -> str:
        """The item column without ``_id``: `movie_id` gives `movie`."""
        return self.item.removesuffix("_id")

    @property
    def recent_items(self) -> str:
        """Name of the array column of recent items, oldest first: `recent_movie_ids`."""
        return f"recent_{self.item}s"

    @property
    def last_item(self) -> str:
        """Name of the column of the most recent item: `last_movie`."""
        return f"last_{self.stem}"
