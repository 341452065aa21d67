"""RecSys Challenge 2015: clicks of an online shop, in anonymous sessions.

Two formats can be read: `yoochoose-clicks.dat` of the challenge (session, time, item, category; no
header), which is filtered and split as in the code of GRU4Rec's authors; and files that were
prepared by that code (`SessionId`, `ItemId`, `Time`, tab-separated, one file for train and one for
test).
"""

from dataclasses import dataclass
from typing import Literal

from pyspark.sql import DataFrame, SparkSession

from sparkrec.bounds import Count, CountOrZero
from sparkrec.columns import Columns
from sparkrec.config.job import OutputJob
from sparkrec.datasets.prepared import Prepared, check_outputs, publish_tables
from sparkrec.datasets.raw.events import EventsSource, RawColumns
from sparkrec.datasets.raw.sources import CsvOptions
from sparkrec.datasets.raw.timestamps import TimestampOptions
from sparkrec.datasets.tables import read_events
from sparkrec.errors import DataError
from sparkrec.transforms.filters import k_core
from sparkrec.transforms.session_queries import last_sessions, session_queries

COLUMNS = Columns(user="session_id")
_DAY = 86_400


@dataclass(frozen=True)
class RSC15Input:
    """Either `clicks`, or `train` and `test`.

    Attributes
    ----------
    clicks
        The raw file of the challenge.
    train
        Prepared file of the train sessions.
    test
        Prepared file of the test sessions.
    """

    clicks: str | None = None
    train: str | None = None
    test: str | None = None

    def __post_init__(self) -> None:
        prepared = self.train is not None and self.test is not None
        if (self.clicks is not None) == prepared or (self.train is None) != (self.test is None):
            raise ValueError("clicks must be given, or train and test, and not all of them")


@dataclass(frozen=True, kw_only=True)
class PrepareRSC15(OutputJob):
    """Config of jobs/prepare_rsc15.py.

    Attributes
    ----------
    output_path
        Folder of the tables `train` and `test`.
    test_days
        For raw clicks, the sessions that end in this number of last days are test sessions. The
        authors' code uses 1.
    min_item_events
        For raw clicks, minimum number of events of an item. Sessions with a single event are left
        out before and after this filter.
    max_bad_rows
        Maximum number of bad rows of a file; they are left out. With more the job fails.
    """

    job: Literal["prepare_rsc15"]
    dataset: str
    input: RSC15Input
    test_days: Count = 1
    min_item_events: Count = 5
    max_bad_rows: CountOrZero = 0


def prepare_rsc15(spark: SparkSession, config: PrepareRSC15) -> Prepared:
    """Write `train` (events, with the session as user) and `test` (queries of `session_next`).

    Raises
    ------
    StorageError
        An input is missing, or another job or program wrote the output.
    DataError
        A file has more bad rows than `max_bad_rows`, or train or test is empty.
    """
    check_outputs(config, ("train", "test"))
    bad_rows: dict[str, int] = {}
    read: list[DataFrame] = []

    def events(name: str, source: EventsSource) -> DataFrame:
        found = read_events(spark, source, COLUMNS, config.max_bad_rows, f"input.{name}")
        bad_rows.update({f"{name}: {reason}": n for reason, n in found.bad_rows.items()})
        read.append(found.read)
        return found.events

    try:
        if config.input.clicks is not None:
            clicks = events("clicks", _raw(config.input.clicks))
            # The authors filter sessions, items, and sessions again. Because of the last filter
            # every session has two events, but an item can have fewer than min_item_events.
            for sessions, items in ((2, 1), (1, config.min_item_events), (2, 1)):
                clicks = k_core(clicks, COLUMNS, sessions, items, iterate=False)
            train, test = last_sessions(clicks, COLUMNS, config.test_days * _DAY)
        else:
            train = events("train", _prepared(str(config.input.train)))
            test = events("test", _prepared(str(config.input.test)))
        tables = {"train": train, "test": session_queries(test, train, COLUMNS)}
        for name, frame in tables.items():
            if frame.isEmpty():
                raise DataError(f"{name} would have no rows: no session of it is long enough")
        about = {"dataset": config.dataset, "bad_rows": bad_rows}
        rows = publish_tables(tables, config, about)
    finally:
        for frame in read:
            frame.unpersist()
    return Prepared(config.output_path, rows, bad_rows)


def _raw(path: str) -> EventsSource:
    return EventsSource(
        path=path,
        format="csv",
        csv=CsvOptions(header=False),
        columns=RawColumns(user="_c0", item="_c2", timestamp="_c1"),
        timestamp=TimestampOptions("iso"),
        integer_ids=("user", "item"),
        drop_duplicates=False,
    )


def _prepared(path: str) -> EventsSource:
    return EventsSource(
        path=path,
        format="csv",
        csv=CsvOptions(delimiter="\t"),
        columns=RawColumns(user="SessionId", item="ItemId", timestamp="Time"),
        integer_ids=("user", "item"),
        drop_duplicates=False,
    )
