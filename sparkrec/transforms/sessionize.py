"""Cut each user's events into sessions, at long gaps between two events."""

from dataclasses import dataclass, field
from typing import Literal

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from sparkrec.bounds import Count
from sparkrec.columns import Columns
from sparkrec.config.job import OutputJob
from sparkrec.errors import ConfigError
from sparkrec.io.tables import load_table, write_table
from sparkrec.transforms._common import require_at_least, require_events
from sparkrec.transforms.features import read_events

SESSION = "session_id"
_PREVIOUS, _STARTS, _FIRST = "_sr_previous", "_sr_starts", "_sr_first"


@dataclass(frozen=True)
class SessionizeInput:
    """Input of the job.

    Attributes
    ----------
    events
        Published table of events.
    """

    events: str


@dataclass(frozen=True, kw_only=True)
class Sessionize(OutputJob):
    """Config of jobs/sessionize.py.

    Attributes
    ----------
    gap_seconds
        A session ends if its user has no event for more than this number of seconds.
    max_events
        Maximum number of events in a session; null for no limit.
    """

    job: Literal["sessionize"]
    dataset: str
    input: SessionizeInput
    columns: Columns = field(default_factory=lambda: Columns(session=SESSION))
    gap_seconds: Count = 1800
    max_events: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.columns.session is None:
            raise ValueError("columns must name the session, the column that is added")


def sessionize(
    events: DataFrame, columns: Columns, gap_seconds: int = 1800, max_events: int | None = None
) -> DataFrame:
    """Add the session of each event, in the column `columns.session`.

    Parameters
    ----------
    events
        One row per event, in any order. Timestamps are seconds since the epoch, so time zones and
        clock changes have no effect.
    gap_seconds
        An event that comes more than this number of seconds after the user's previous event begins
        a new session. Events with equal timestamps are ordered by `columns.position`.
    max_events
        Maximum number of events in a session; the next event begins a new session.

    Returns
    -------
    DataFrame
        All rows and columns of `events`, and the session (replacing a column of the same name):
        bigint, the position of its first event. It does not depend on the partitions, and it is
        distinct over all users if positions are.

    Raises
    ------
    DataError
        A column is missing.
    ConfigError
        `columns.session` is not named, or a limit is below 1.

    Notes
    -----
    Window functions over one shuffle by user.
    """
    require_events(events, columns)
    require_at_least("gap_seconds", gap_seconds, 1)
    if columns.session is None:
        raise ConfigError("columns.session must name the column that the session goes to")
    user = Window.partitionBy(columns.user).orderBy(columns.timestamp, columns.position)
    so_far = user.rowsBetween(Window.unboundedPreceding, Window.currentRow)

    def first_of(starts: Column) -> Column:
        position = F.when(starts, F.col(columns.position))
        return F.last(position, ignorenulls=True).over(so_far).cast("bigint")

    time = F.col(columns.timestamp)
    previous = F.lag(columns.timestamp).over(user)
    starts = previous.isNull() | (time - previous > gap_seconds)
    kept = [name for name in events.columns if name != columns.session]
    sessions = events.select(*kept).withColumn(_STARTS, starts)
    sessions = sessions.withColumn(columns.session, first_of(F.col(_STARTS)))
    if max_events is not None:
        require_at_least("max_events", max_events, 1)
        inside = Window.partitionBy(columns.user, columns.session)
        place = F.row_number().over(inside.orderBy(columns.timestamp, columns.position)) - 1
        sessions = sessions.withColumn(_STARTS, place % max_events == 0)
        sessions = sessions.withColumn(columns.session, first_of(F.col(_STARTS)))
    return sessions.select(*kept, columns.session)


def write_sessions(spark: SparkSession, config: Sessionize) -> str:
    """Run the job; returns a line that says what was written."""
    events = read_events(spark, config.input.events, "input.events", config.columns)
    table = sessionize(events, config.columns, config.gap_seconds, config.max_events)
    facts = write_table(table, **config.target)
    written = load_table(spark, config.output_path)
    sessions = written.select(str(config.columns.session)).distinct().count()
    return f"{config.output_path}: {facts['rows']:,} events in {sessions:,} sessions"
