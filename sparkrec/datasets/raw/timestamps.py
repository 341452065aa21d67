"""Converts raw timestamps of any format to microseconds since the epoch."""

import datetime as dt
import re
import zoneinfo
from dataclasses import dataclass

from pyspark.errors import IllegalArgumentException, SparkUpgradeException
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkrec.errors import DataError
from sparkrec.spark_versions import try_cast

_PER_SECOND = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}
_END_OF_TIME = 4_102_444_800  # 2100-01-01
_HAS_ZONE_LETTER = re.compile(r"[XxZzVO]")


@dataclass(frozen=True)
class TimestampOptions:
    """Format of raw timestamps.

    Attributes
    ----------
    format
        `seconds`, `milliseconds` or `microseconds` since the epoch; `iso` for
        `2024-03-01T12:30:00+01:00` and its shorter forms; or a datetime pattern of Spark, such as
        `dd.MM.yyyy HH:mm`. A column of type timestamp or date does not need a format.
    timezone
        Time zone of times that do not name one, and of `start` and `end`.
    """

    format: str = "seconds"
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        try:
            zoneinfo.ZoneInfo(self.timezone)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
            raise ValueError(
                f"timezone must be a zone such as UTC or Europe/Berlin; not {self.timezone!r}"
            ) from None

    @property
    def expected(self) -> str:
        """Description of a valid value, for messages."""
        if self.format in _PER_SECOND:
            return f"{self.format} since 1970, before the year 2100"
        return f"a time of the format {self.format}"


def to_micros(raw: Column, kind: T.DataType, options: TimestampOptions) -> Column:
    """Microseconds since the epoch (long); null if the raw value is not a time in 1970-2100.

    Parameters
    ----------
    kind
        Spark type of `raw`.
    """
    if isinstance(kind, T.TimestampType):
        micros = F.unix_micros(raw)
    elif isinstance(kind, T.TimestampNTZType | T.DateType):
        micros = _iso(raw.cast("string"), options.timezone)
    elif options.format in _PER_SECOND:
        # A value that is too large for this type is not a time.
        factor = 1_000_000 // _PER_SECOND[options.format]
        micros = try_cast(try_cast(raw, "decimal(24,6)") * factor, "bigint")
    elif options.format == "iso":
        micros = _iso(raw.cast("string"), options.timezone)
    else:
        text, pattern = F.trim(raw.cast("string")), options.format
        if not _HAS_ZONE_LETTER.search(re.sub("'[^']*'", "", pattern)):
            text, pattern = F.concat(text, F.lit(" " + options.timezone)), pattern + " VV"
        micros = F.unix_micros(F.try_to_timestamp(text, F.lit(pattern)))
    return F.when((micros >= 0) & (micros < _END_OF_TIME * 1_000_000), micros)


def _iso(raw: Column, zone: str) -> Column:
    # Spark reads a time zone only after seconds, so missing parts are added.
    text = F.regexp_replace(F.trim(raw), r"^(\d{4}-\d{1,2}-\d{1,2})$", "$1T00:00:00")
    minutes = r"^(\d{4}-\d{1,2}-\d{1,2}[T ]\d{1,2}:\d{2})(?![\d:])"
    text = F.regexp_replace(text, minutes, "$1:00")
    has_zone = text.rlike(r":.*[A-Za-z+-]")
    zoned = F.when(has_zone, text).otherwise(F.concat(text, F.lit(" " + zone)))
    # Spark would read a time without a date as a time of today.
    has_date = text.rlike(r"^\d{4}-\d{1,2}-\d{1,2}[T ]")
    return F.when(has_date, F.unix_micros(try_cast(zoned, "timestamp")))


def check_pattern(spark: SparkSession, options: TimestampOptions, key: str) -> None:
    """Raise DataError if the format is not a datetime pattern of Spark."""
    if options.format in (*_PER_SECOND, "iso"):
        return
    micros = to_micros(F.lit("?"), T.StringType(), options)
    try:
        spark.range(1).select(micros).collect()
    except Exception as error:
        # The former is how Spark 4 says it, the latter how Spark 3.5 does.
        if "INVALID_DATETIME_PATTERN" not in str(error) and not isinstance(
            error, IllegalArgumentException | SparkUpgradeException
        ):
            raise
        raise DataError(
            f"{key}.format: {options.format!r} is not seconds, milliseconds, microseconds, iso or "
            "a datetime pattern of Spark, such as `yyyy-MM-dd HH:mm:ss`"
        ) from None


def to_seconds(moment: str | dt.date, zone: str) -> int:
    """Seconds since the epoch of an ISO text, date or datetime; raises ValueError."""
    if isinstance(moment, str):
        moment = dt.datetime.fromisoformat(moment)
    elif not isinstance(moment, dt.datetime):
        moment = dt.datetime(moment.year, moment.month, moment.day)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zoneinfo.ZoneInfo(zone))
    return int(moment.timestamp())
