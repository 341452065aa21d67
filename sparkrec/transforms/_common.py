"""Small helpers that the transforms share."""

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError, DataError


def require_columns(frame: DataFrame, names: Iterable[str], table: str = "events") -> None:
    """Raise `DataError` unless the frame has every one of the named columns."""
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataError(
            f"{table}: no column {', '.join(missing)}; there are {', '.join(frame.columns)}"
        )


def require_events(events: DataFrame, columns: Columns, table: str = "events") -> None:
    """Raise `DataError` unless the frame has the four columns that every event has."""
    require_columns(
        events, (columns.user, columns.item, columns.timestamp, columns.position), table
    )


def require_session(events: DataFrame, columns: Columns, what: str) -> str:
    """Name of the session column; `ConfigError` if none is named, `DataError` if it is missing."""
    if columns.session is None:
        raise ConfigError(f"{what} needs `session` among the columns: the column of the basket")
    require_columns(events, [columns.session])
    return columns.session


def require_at_least(name: str, value: int, least: int) -> None:
    """Raise `ConfigError` for a count that is too small."""
    if value < least:
        raise ConfigError(f"{name} must be at least {least}, not {value}")


def moment(columns: Columns) -> Column:
    """The order of events as a comparable struct: (timestamp, position)."""
    return F.struct(
        F.col(columns.timestamp).alias("timestamp"), F.col(columns.position).alias("position")
    )


def tail(array: Column, length: int) -> Column:
    """The last `length` elements of an array, or all of a shorter one."""
    return F.slice(array, F.greatest(F.size(array) - F.lit(length), F.lit(0)) + 1, F.lit(length))
