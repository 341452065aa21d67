"""Parses raw events: names and types of columns, and a status (good, bad, left out) of each row."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkrec.bounds import Rating, check_bounds
from sparkrec.columns import Columns, check_column_names
from sparkrec.datasets.raw.judging import (
    GOOD,
    NOT_WANTED,
    OTHER_TYPE,
    OUT_OF_RANGE,
    STATUS,
    TEXT,
)
from sparkrec.datasets.raw.ranking import BY, MICROS
from sparkrec.datasets.raw.sources import (
    CORRUPT,
    ORDER,
    Source,
    column,
    not_text,
    read_source,
    require,
    undecoded,
)
from sparkrec.datasets.raw.timestamps import (
    TimestampOptions,
    check_pattern,
    to_micros,
    to_seconds,
)
from sparkrec.datasets.raw.where import WANTED, flag_wanted
from sparkrec.errors import DataError
from sparkrec.io.tables import KEY_TYPES, NUMBER_TYPES, require_columns
from sparkrec.spark_versions import try_cast

LOST = "_sr_lost"

_TIME_TYPES = (
    *NUMBER_TYPES,
    T.StringType,
    T.DecimalType,
    T.TimestampType,
    T.TimestampNTZType,
    T.DateType,
)
_RATING_TYPES = (*NUMBER_TYPES, T.StringType, T.DecimalType)


@dataclass(frozen=True)
class RawColumns:
    """Names of the raw columns, by their role.

    Attributes
    ----------
    user
        Raw column of the user id.
    item
        Raw column of the item id.
    timestamp
        Raw column of the time of an event.
    session
        Raw column that groups events into sessions or baskets, if there is one.
    rating
        Raw column of the rating or weight of an event (a number), if there is one.
    """

    user: str
    item: str
    timestamp: str
    session: str | None = None
    rating: str | None = None


@dataclass(frozen=True)
class EventTypes:
    """Which types of events to keep, and the weight of each.

    Attributes
    ----------
    column
        Raw column of the event type; it is written as `event_type`.
    keep
        The types to keep.
    weights
        Instead of `keep`, the weight of each type, which is written as the rating. Events of other
        types are left out.
    """

    column: str
    keep: tuple[str, ...] = ()
    weights: dict[str, Rating] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_bounds(self)
        if bool(self.keep) == bool(self.weights):
            raise ValueError("keep must list the types to keep, or weights give each its worth")

    @property
    def wanted(self) -> list[str]:
        """The types to keep."""
        return list(self.keep or self.weights)


@dataclass(frozen=True, kw_only=True)
class EventsSource(Source):
    """The raw events.

    Attributes
    ----------
    columns
        Names of the raw columns.
    timestamp
        Format of the raw timestamps.
    order_by
        Raw columns with the order of events that have the same time, the first one first: numbers
        (also as text) or times. By default their order is that of the input.
    where
        A condition in Spark SQL on the raw columns, such as `Quantity > 0`. Rows for which it is
        false or null are left out. The columns of a CSV are text: `try_cast(Price AS double) > 0`
        reads one as a number that may have decimals.
    event_type
        Filter and weights by type of event.
    start
        Only events at or after this time are kept; an ISO date or time.
    end
        Only events before this time are kept; an ISO date or time.
    integer_ids
        Ids of a CSV (`user`, `item`, `session`) that are read as integers. Other ids keep their
        type: text from a CSV, text or integer from other sources.
    drop_duplicates
        Whether only the first of several events that are equal in all used columns is kept.
    keep_columns
        Other raw columns to copy to the table.
    """

    columns: RawColumns
    timestamp: TimestampOptions = field(default_factory=TimestampOptions)
    order_by: tuple[str, ...] = ()
    where: str | None = None
    event_type: EventTypes | None = None
    start: dt.date | dt.datetime | str | None = None
    end: dt.date | dt.datetime | str | None = None
    integer_ids: tuple[Literal["user", "item", "session"], ...] = ()
    drop_duplicates: bool = True
    keep_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.where is not None and not self.where.strip():
            raise ValueError("where must be a condition, such as Quantity > 0")
        for name in ("start", "end"):
            if getattr(self, name) is not None:
                try:
                    to_seconds(getattr(self, name), self.timestamp.timezone)
                except ValueError:
                    raise ValueError(f"{name} must be an ISO date or time") from None
        if self.event_type and self.event_type.weights and self.columns.rating:
            raise ValueError("event_type must have no weights where columns.rating is given")


def parse_events(
    spark: SparkSession, source: EventsSource, names: Columns, without: Collection[str] = ()
) -> DataFrame:
    """Read raw events, name and cast their columns, and add a status to each row.

    In addition to the configured columns there are `MICROS`, `ORDER`, `BY` (with `order_by`),
    `STATUS` (`GOOD`, the reason to leave the row out, or what is wrong with it) and `TEXT` (the
    text of the row, for messages).
    """
    key, raw, types = "input.events", source.columns, source.event_type
    frame = flag_wanted(read_source(spark, source, key, without), source.where, key)
    where = f"{key}: {source.name}"
    parts = {part: name for part, name in vars(raw).items() if name is not None}
    used = {f"columns.{part}": name for part, name in parts.items()}
    if types:
        used["event_type.column"] = types.column
    used |= {f"order_by[{i}]": name for i, name in enumerate(source.order_by)}
    used |= {f"keep_columns[{i}]": name for i, name in enumerate(source.keep_columns)}
    require(frame, used, where)
    allowed = {"timestamp": _TIME_TYPES, "rating": _RATING_TYPES}
    for part, name in parts.items():
        require_columns(frame, {name: allowed.get(part, KEY_TYPES)}, where)
    require_columns(frame, dict.fromkeys(source.order_by, _TIME_TYPES), where)
    check_pattern(spark, source.timestamp, f"{key}.timestamp")

    output: dict[str, Column] = {}
    for part in ("user", "item", "session"):
        if part in parts:
            output[_name(names, part)] = _key(frame, parts[part], part in source.integer_ids)
    if "rating" in parts:
        output[_name(names, "rating")] = try_cast(column(parts["rating"]), "double")
    if types:
        kind = column(types.column).cast("string")
        output["event_type"] = kind
        if types.weights:
            worth = F.create_map(*[F.lit(x) for pair in types.weights.items() for x in pair])
            output[_name(names, "rating")] = worth[kind]
    taken = [*output, names.timestamp, names.position]
    for name in source.keep_columns:
        if name.lower() in map(str.lower, taken):
            raise DataError(
                f"{key}.keep_columns: `{name}` is the name of a column that is written "
                "anyway; rename one of them"
            )
        if any(mark in frame.schema[name].dataType.simpleString() for mark in ("map<", "variant")):
            raise DataError(
                f"{key}.keep_columns: `{name}` is a map or variant, which cannot be "
                "compared; carry its fields instead"
            )
        output[name] = column(name)
    check_column_names(output, f"{where}: keep_columns")
    time_type = frame.schema[raw.timestamp].dataType
    output[MICROS] = to_micros(column(raw.timestamp), time_type, source.timestamp)
    if source.order_by:
        output[BY] = F.struct(
            *(_orderable(frame, name).alias(f"by{i}") for i, name in enumerate(source.order_by))
        )

    text = F.to_json(F.struct(*map(column, dict.fromkeys(used.values()))), _SHOW_NULLS)
    if CORRUPT in frame.columns:
        text = F.coalesce(F.col(CORRUPT), text)
    else:
        frame = frame.withColumn(CORRUPT, F.lit(None).cast("string"))
    # In files of text, every value that is read shows the encoding; elsewhere ids must be text.
    texts = (
        used.values() if source.format == "csv" else [raw.user, raw.item, raw.session or raw.user]
    )
    parsed = frame.select(
        *(value.alias(name) for name, value in output.items()),
        CORRUPT,
        undecoded(frame, dict.fromkeys(texts)).alias(LOST),
        ORDER,
        WANTED,
        text.alias(TEXT),
    )
    return parsed.withColumn(STATUS, _status(source, names, parts)).drop(CORRUPT, LOST, WANTED)


_SHOW_NULLS = {"ignoreNullFields": "false"}


def _orderable(frame: DataFrame, name: str) -> Column:
    text = isinstance(frame.schema[name].dataType, T.StringType)
    # Text would put 10 before 9.
    return try_cast(column(name), "decimal(38,9)") if text else column(name)


def _name(names: Columns, part: str) -> str:
    return getattr(names, part) or {"session": "session_id", "rating": "rating"}[part]


def _key(frame: DataFrame, name: str, integer: bool) -> Column:
    value = column(name)
    if integer:
        return try_cast(value, "bigint")
    if isinstance(frame.schema[name].dataType, T.StringType):
        return F.when(F.trim(value) != "", value)
    return value


def _status(source: EventsSource, names: Columns, parts: dict[str, str]) -> Column:
    status = F.when(F.col(CORRUPT).isNotNull(), "another number of fields than the header")
    status = status.when(F.col(LOST), not_text(source))
    status = status.when(~F.col(WANTED), NOT_WANTED)
    if source.event_type:
        wanted = F.col("event_type").isin(source.event_type.wanted)
        status = status.when(~F.coalesce(wanted, F.lit(False)), OTHER_TYPE)
    for part in ("user", "item", "session"):
        if part in parts:
            kind = "whole number as " if part in source.integer_ids else ""
            status = status.when(column(_name(names, part)).isNull(), f"no {kind}{part}")
    status = status.when(F.col(MICROS).isNull(), f"timestamp is not {source.timestamp.expected}")
    for i, name in enumerate(source.order_by):
        status = status.when(F.col(BY)[f"by{i}"].isNull(), f"no number as {name}")
    if "rating" in parts:
        rating = column(_name(names, "rating"))
        status = status.when(rating.isNull() | F.isnan(rating), "no number as rating")
    zone = source.timestamp.timezone
    if source.start is not None:
        start = to_seconds(source.start, zone) * 1_000_000
        status = status.when(F.col(MICROS) < start, OUT_OF_RANGE)
    if source.end is not None:
        end = to_seconds(source.end, zone) * 1_000_000
        status = status.when(F.col(MICROS) >= end, OUT_OF_RANGE)
    return status.otherwise(GOOD)
