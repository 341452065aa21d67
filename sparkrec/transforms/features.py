"""The history-features job: adds the user's recent items to each event."""

from dataclasses import dataclass, field
from typing import Literal

from pyspark.sql import DataFrame, SparkSession

from sparkrec.bounds import Length
from sparkrec.columns import Columns
from sparkrec.config.job import OutputJob
from sparkrec.io.tables import INTEGER_TYPES, KEY_TYPES, read_table, write_table
from sparkrec.transforms.history import add_history


@dataclass(frozen=True)
class EventTables:
    """Published tables.

    Attributes
    ----------
    events
        Table of events.
    items
        Table of items; needed for `item_features`.
    """

    events: str
    items: str | None = None


@dataclass(frozen=True, kw_only=True)
class HistoryFeatures(OutputJob):
    """Config of jobs/history_features.py.

    Attributes
    ----------
    max_len
        Maximum number of items in a history.
    item_features
        Columns of the items table that are added as `recent_<f>` and `last_<f>`.
    by_session
        Whether a history has the items of earlier sessions (baskets) only.
    """

    job: Literal["history_features"]
    dataset: str
    input: EventTables
    columns: Columns = field(default_factory=Columns)
    max_len: Length = 10
    item_features: tuple[str, ...] = ()
    by_session: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.item_features and self.input.items is None:
            raise ValueError("item_features needs input.items")


def read_events(spark: SparkSession, path: str, what: str, columns: Columns) -> DataFrame:
    """Read an events table and check the columns of user, item, timestamp and position."""
    return read_table(
        spark,
        path,
        what,
        {
            columns.user: KEY_TYPES,
            columns.item: KEY_TYPES,
            columns.timestamp: INTEGER_TYPES,
            columns.position: INTEGER_TYPES,
        },
    )


def write_history_features(spark: SparkSession, config: HistoryFeatures) -> str:
    """Run the job; returns a line that says what was written."""
    columns = config.columns
    events = read_events(spark, config.input.events, "input.events", columns)
    items = None
    if config.input.items is not None:
        items = read_table(spark, config.input.items, "input.items", {columns.item: KEY_TYPES})
    table = add_history(
        events, columns, config.max_len, items, config.item_features, config.by_session
    )
    facts = write_table(table, **config.target)
    return (
        f"{config.output_path}: {facts['rows']:,} events with histories of up to {config.max_len}"
    )
