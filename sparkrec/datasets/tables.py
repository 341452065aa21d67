"""Prepares canonical tables from your own events, users and items (parquet, CSV or Spark tables).

The config gives the role of each raw column; everything else has a default. No row is lost
silently: rows that are left out are counted by reason, and if there are more bad rows than
`max_bad_rows`, the job fails and shows the first of them.
"""

import datetime as dt
import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.bounds import CountOrZero
from sparkrec.columns import Columns, check_column_names
from sparkrec.config.job import OutputJob
from sparkrec.datasets.prepared import Prepared, check_outputs, publish_tables
from sparkrec.datasets.raw import ranking
from sparkrec.datasets.raw.doubts import warn_of_doubts
from sparkrec.datasets.raw.events import EventsSource, parse_events
from sparkrec.datasets.raw.judging import GOOD, STATUS, TEXT, judge
from sparkrec.datasets.raw.sources import (
    CORRUPT,
    ORDER,
    Source,
    column,
    explain_read_error,
    not_text,
    read_source,
    require,
    undecoded,
)
from sparkrec.datasets.raw.where import explain_where
from sparkrec.errors import DataError
from sparkrec.read_errors import unreadable_file
from sparkrec.spark_versions import try_cast

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FeaturesSource(Source):
    """A raw table with the features of users or items.

    Attributes
    ----------
    key
        Raw column of the user or item id. All other columns are copied.
    """

    key: str


@dataclass(frozen=True)
class OwnInput:
    """The raw tables.

    Attributes
    ----------
    events
        Raw events.
    users
        Raw features of users; by default the table `users` has the user ids of the events only.
    items
        Raw features of items; by default the table `items` has the item ids of the events only.
    """

    events: EventsSource
    users: FeaturesSource | None = None
    items: FeaturesSource | None = None


@dataclass(frozen=True, kw_only=True)
class PrepareOwn(OutputJob):
    """Config of `jobs/prepare.py`.

    Attributes
    ----------
    columns
        Names of the columns in the tables that are written.
    output_path
        Root of the tables `events`, `users` and `items`.
    max_bad_rows
        Maximum number of bad rows of a raw table; they are left out. With more the job fails.
    max_bad_files
        Maximum number of raw files that cannot be read, such as parquet that is damaged or cut
        short. Each is left out as a whole, named in the log, and counted. With more the job fails.
    """

    job: Literal["prepare"]
    dataset: str
    input: OwnInput
    columns: Columns = field(default_factory=Columns)
    max_bad_rows: CountOrZero = 0
    max_bad_files: CountOrZero = 0


def prepare_own(spark: SparkSession, config: PrepareOwn) -> Prepared:
    """Write the events, users and items of your own data.

    - `events`: user, item (text or integer), timestamp long (seconds), position long, and, if they
      are configured, session, rating (double), event_type and `keep_columns`. `position` is the
      rank of the event, from 0, in the order of (time to the microsecond, place in the input); see
      `raw.ranking` for its guarantees.
    - `users`, `items`: one row per id, for every id of the events and of the given table; ids that
      are not in the given table have nulls.

    Raises
    ------
    StorageError
        An input is missing, or another job or program wrote the output.
    DataError
        A mapped column is missing or has a type that is not possible for an id; there are more bad
        rows than `max_bad_rows` (rows without user, item or session, without a readable time, with
        a rating that is not a number, with another number of fields than the header, or with
        text that is not of the file's encoding); more files than `max_bad_files` cannot be read;
        or no event is left.
    """
    names = ("events", "users", "items")
    check_outputs(config, names)
    bad_files: list[str] = []
    while True:
        try:
            return _prepare(spark, config, bad_files)
        except Exception as error:
            bad = unreadable_file(error)
            if bad is not None and not bad.removed and len(bad_files) < config.max_bad_files:
                log.warning("left out a file: %s", bad)
                bad_files.append(bad.path)
                continue
            explained = explain_read_error(error)
            if explained is None:
                raise
            raise explained from None


@dataclass(frozen=True)
class ReadEvents:
    """Raw events that were read and turned into canonical events.

    Attributes
    ----------
    events
        User, item, timestamp, position, and the other columns that the source keeps.
    read
        The frame from which they are computed, persisted. Unpersist it after they are written.
    bad_rows, left_out
        Number of rows that are not in `events`, by reason.
    first_and_last
        Days of the first and of the last event.
    doubts
        Figures of `warn_of_doubts`.
    """

    events: DataFrame
    read: DataFrame
    bad_rows: dict[str, int]
    left_out: dict[str, int]
    first_and_last: tuple[dt.date, dt.date]
    doubts: dict[str, str]


def read_events(
    spark: SparkSession,
    source: EventsSource,
    names: Columns,
    max_bad_rows: int,
    key: str,
    without: Collection[str] = (),
) -> ReadEvents:
    """Read raw events, except those of the files `without`.

    `key` is the key of the source in the conf, for messages.

    Raises
    ------
    StorageError
        The source is missing.
    DataError
        There are more bad rows than `max_bad_rows`, or no event is left.
    """
    parsed = parse_events(spark, source, names, without)
    try:
        usable, bad, left_out = judge(parsed, source, max_bad_rows, key)
    except PySparkException as error:
        raise explain_where(error, source.where, key) or error from None
    good = parsed.where(F.col(STATUS) == GOOD).drop(STATUS, TEXT)
    read = (ranking.drop_duplicates(good) if source.drop_duplicates else good).persist()
    per_hour = ranking.hours(read)
    if source.drop_duplicates:
        left_out["duplicates"] = usable - sum(per_hour.values())
    rated = (names.rating or "rating") in read.columns
    duplicates = left_out.get("duplicates", 0)
    doubts = warn_of_doubts(read, names, rated, duplicates, f"{key}: {source.name}")
    first, last = (
        dt.datetime.fromtimestamp(hour * 3600, dt.UTC).date()
        for hour in (min(per_hour), max(per_hour))
    )
    events = _finish(ranking.rank(read, per_hour, names.position), names)
    return ReadEvents(events, read, bad, left_out, (first, last), doubts)


def _prepare(spark: SparkSession, config: PrepareOwn, without: Collection[str]) -> Prepared:
    source, names = config.input.events, config.columns
    found = read_events(spark, source, names, config.max_bad_rows, "input.events", without)
    events, left_out = found.read, found.left_out
    bad_rows = {f"events: {reason}": n for reason, n in found.bad_rows.items()}
    notes = {"first and last day": ", ".join(map(str, found.first_and_last)), **found.doubts}
    if without:
        notes["files that cannot be read"] = f"{len(without):,} ({', '.join(without)})"
    try:
        tables = {"events": found.events}
        for table, name in (("users", names.user), ("items", names.item)):
            keys = events.select(column(name)).distinct()
            given: FeaturesSource | None = getattr(config.input, table)
            if given is None:
                tables[table] = keys
                continue
            features, bad, repeated = _features(
                spark, given, keys, table, config.max_bad_rows, without
            )
            bad_rows |= {f"{table}: {reason}": n for reason, n in bad.items()}
            left_out[f"{table}: key of an earlier row"] = repeated
            lacking = keys.join(features, name, "left_anti").count()
            notes[f"{table} of the events that {given.name} lacks"] = f"{lacking:,}"
            tables[table] = keys.join(features, name, "full_outer")
        about = {
            "dataset": config.dataset,
            "source": source.name,
            "bad_rows": bad_rows,
            "bad_files": list(without),
            "left_out": left_out,
        }
        rows = publish_tables(tables, config, about)
    finally:
        events.unpersist()
    return Prepared(config.output_path, rows, bad_rows, left_out, notes)


def _finish(ranked: DataFrame, names: Columns) -> DataFrame:
    """The columns of events in their canonical order, with the time in seconds."""
    seconds = F.floor(F.col(ranking.MICROS) / 1_000_000).alias(names.timestamp)
    lead = (names.user, names.item, names.position)
    private = (ranking.MICROS, ranking.BY, ORDER)
    rest = [name for name in ranked.columns if name not in (*lead, *private)]
    return ranked.select(
        column(names.user), column(names.item), seconds, column(names.position), *map(column, rest)
    )


def _features(
    spark: SparkSession,
    source: FeaturesSource,
    keys: DataFrame,
    table: str,
    max_bad_rows: int,
    without: Collection[str],
) -> tuple[DataFrame, dict[str, int], int]:
    """Features with one row per id, of the type of the ids in the events.

    Also returns the number of bad rows by reason, and the number of rows with a repeated id.
    """
    where, name = f"input.{table}", keys.columns[0]
    frame = read_source(spark, source, where, without)
    require(frame, {"key": source.key}, f"{where}: {source.name}")
    rest = [c for c in frame.columns if c not in (source.key, ORDER, CORRUPT)]
    if name.lower() in map(str.lower, rest):
        raise DataError(
            f"{where}: {source.name} has a column `{name}` beside its key "
            f"`{source.key}`, which is to be written as `{name}`; drop one"
        )
    check_column_names([name, *rest], f"{where}: {source.name}")
    texts = [source.key, *rest] if source.format == "csv" else [source.key]
    key = try_cast(column(source.key), keys.schema[0].dataType)
    corrupt = F.col(CORRUPT) if CORRUPT in frame.columns else F.lit(None).cast("string")
    status = (
        F.when(corrupt.isNotNull(), "another number of fields than the header")
        .when(undecoded(frame, texts), not_text(source))
        .when(key.isNull() | (F.trim(key.cast("string")) == ""), "no key")
        .otherwise(GOOD)
    )
    text = F.to_json(F.struct(*map(column, (source.key, *rest))))
    judged = frame.select(
        key.alias(name),
        *map(column, rest),
        ORDER,
        status.alias(STATUS),
        F.coalesce(corrupt, text).alias(TEXT),
    )
    usable, bad, _ = judge(judged, source, max_bad_rows, where)
    good = judged.where(F.col(STATUS) == GOOD).select(
        column(name),
        F.struct(F.lit(0).alias("_sr_zero"), *map(column, rest)).alias("_sr_row"),
        F.struct(ORDER, TEXT).alias("_sr_place"),
    )
    first = good.groupBy(column(name)).agg(F.min_by("_sr_row", "_sr_place").alias("_sr_row"))
    distinct = first.select(column(name), *(F.col("_sr_row").getField(c).alias(c) for c in rest))
    return distinct, bad, usable - first.count()
