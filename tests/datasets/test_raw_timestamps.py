"""Raw timestamps of every kind, whatever the session's own time zone."""

import datetime as dt

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sparkrec.datasets.raw.timestamps import (
    TimestampOptions,
    check_pattern,
    to_micros,
    to_seconds,
)
from sparkrec.errors import DataError

TEN_UTC = 1_704_103_200_000_000  # 2024-01-01T10:00:00Z

CASES = [
    ("1704103200", "seconds", "UTC", TEN_UTC),
    ("1704103200.25", "seconds", "UTC", TEN_UTC + 250_000),
    ("1704103200123", "milliseconds", "UTC", TEN_UTC + 123_000),
    ("1704103200123456", "microseconds", "UTC", TEN_UTC + 123_456),
    ("1704103200123", "seconds", "UTC", None),
    ("-1", "seconds", "UTC", None),
    ("9" * 40, "seconds", "UTC", None),
    ("yesterday", "seconds", "UTC", None),
    ("2024-01-01T10:00:00Z", "iso", "Asia/Tokyo", TEN_UTC),
    ("2024-01-01T12:00:00+02:00", "iso", "Asia/Tokyo", TEN_UTC),
    (" 2024-01-01 11:00:00.5 ", "iso", "Europe/Berlin", TEN_UTC + 500_000),
    ("2024-01-01T10:00", "iso", "UTC", TEN_UTC),
    ("2024-01-01 12:00+0200", "iso", "Asia/Tokyo", TEN_UTC),
    ("2024-01-01", "iso", "Europe/Berlin", TEN_UTC - 11 * 3_600_000_000),
    ("2024-13-01T10:00:00", "iso", "UTC", None),
    ("10:00:00", "iso", "UTC", None),
    ("01.01.2024 11:00", "dd.MM.yyyy HH:mm", "Europe/Berlin", TEN_UTC),
    ("01.01.2024 15:30 +05:30", "dd.MM.yyyy HH:mm XXX", "Europe/Berlin", TEN_UTC),
    ("2024-01-01 10:00", "dd.MM.yyyy HH:mm", "UTC", None),
]


@pytest.mark.parametrize("session_zone", ["UTC", "America/New_York"])
def test_texts(spark: SparkSession, session_zone: str) -> None:
    spark.conf.set("spark.sql.session.timeZone", session_zone)
    try:
        frame = spark.createDataFrame([tuple(text for text, *_ in CASES)])
        kinds = [field.dataType for field in frame.schema]
        micros = [
            to_micros(F.col(name), kind, TimestampOptions(form, zone)).alias(name)
            for name, kind, (_, form, zone, _) in zip(frame.columns, kinds, CASES, strict=True)
        ]
        row = frame.select(*micros).first()
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    assert row is not None
    assert list(row) == [expected for *_, expected in CASES]


def test_columns_that_are_times_already(spark: SparkSession) -> None:
    frame = spark.sql(
        "select timestamp'2024-01-01T10:00:00Z' a, timestamp_ntz'2024-01-01 11:00:00' b, "
        "date'2024-01-01' c, cast(1704103200 as double) d, 1704103200L e"
    )
    options = TimestampOptions(timezone="Europe/Berlin")
    micros = [to_micros(F.col(f.name), f.dataType, options) for f in frame.schema]
    row = frame.select(*micros).first()
    assert row is not None
    assert list(row) == [TEN_UTC, TEN_UTC, TEN_UTC - 11 * 3_600_000_000, TEN_UTC, TEN_UTC]


def test_mistakes(spark: SparkSession) -> None:
    with pytest.raises(ValueError, match="timezone must be a zone"):
        TimestampOptions(timezone="Europe/Berln")
    check_pattern(spark, TimestampOptions("dd.MM.yyyy"), "timestamp")
    with pytest.raises(DataError, match=r"timestamp\.format: 'millis' is not seconds, milli"):
        check_pattern(spark, TimestampOptions("millis"), "timestamp")


def test_to_seconds() -> None:
    assert to_seconds("2024-01-01", "UTC") == 1_704_067_200
    assert to_seconds(dt.date(2024, 1, 1), "Europe/Berlin") == 1_704_063_600
    assert to_seconds("2024-01-01T01:00:00+01:00", "Asia/Tokyo") == 1_704_067_200
