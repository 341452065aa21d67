"""The match-dataset job: splits events into train, validation and test, or samples negatives."""

from dataclasses import dataclass, field
from typing import Literal

from pyspark.sql import DataFrame, SparkSession

from sparkrec.bounds import Count, Length, Moment, Power, Rating, Seed, check_bounds
from sparkrec.columns import Columns
from sparkrec.config.job import OutputJob
from sparkrec.errors import DataError
from sparkrec.io import storage
from sparkrec.io.publishing import publish
from sparkrec.io.tables import load_table, write_part, write_table
from sparkrec.transforms import filters
from sparkrec.transforms.cold_items import COLD_ITEMS, ColdItems, cold_items
from sparkrec.transforms.features import read_events
from sparkrec.transforms.filters import Core
from sparkrec.transforms.negatives import negatives_shortfall, sample_negatives
from sparkrec.transforms.split import (
    IS_VALIDATION,
    TEST,
    TRAIN,
    Split,
    last_basket,
    last_n,
    leave_one_out,
    temporal,
)


@dataclass(frozen=True)
class MatchInput:
    """Either `events` or `train`.

    Attributes
    ----------
    events
        Table of events (with history features) to split.
    train
        Table `train` of a split, to sample negatives for.
    """

    events: str | None = None
    train: str | None = None

    def __post_init__(self) -> None:
        if (self.events is None) == (self.train is None):
            raise ValueError("events or train must be given, and not both")


@dataclass(frozen=True)
class Filters:
    """Which events are kept.

    Attributes
    ----------
    min_user_events
        Minimum number of events of a user in train. Other users are left out of train and test.
    min_item_events
        Minimum number of events of an item in train. Other items are left out of train, and of the
        test rows that would ask for them.
    iterate
        Whether to filter until all remaining users and items have enough events (the k-core). If
        not, there is one pass.
    start
        Only events at or after this time are kept, in seconds since the epoch.
    end
        Only events before this time are kept, in seconds since the epoch.
    """

    min_user_events: Count = 1
    min_item_events: Count = 1
    iterate: bool = True
    start: Moment | None = None
    end: Moment | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError("start must be before end")

    @property
    def core(self) -> Core:
        """The minimum numbers of events."""
        return Core(self.min_user_events, self.min_item_events, self.iterate)


@dataclass(frozen=True)
class SplitBy:
    """How test rows are held out.

    Attributes
    ----------
    method
        `last_n`: the last n events of each user; `leave_one_out`: the last event; `last_basket`:
        the last basket; `temporal`: all events from a time on.
    n
        Number of events that `last_n` holds out per user.
    test_from
        For `temporal`, time from which events are test rows, in seconds since the epoch.
    validation_from
        For `temporal`, time from which events are validation rows, in seconds since the epoch. By
        default the last event of each user in train is.
    new_users
        For `temporal`, whether the events of users who begin at or after `test_from` are `test`
        rows or are left out (`drop`). They are never in train. Sessions must be `test`.
    cold_items
        Which items are left out of train, so that the test rows show how well items are found that
        a model has never seen. They are listed in the table `cold_items`.
    """

    method: Literal["last_n", "leave_one_out", "temporal", "last_basket"]
    n: Count = 3
    test_from: Moment | None = None
    validation_from: Moment | None = None
    new_users: Literal["test", "drop"] = "test"
    cold_items: ColdItems | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        if (self.method == "temporal") != (self.test_from is not None):
            raise ValueError("test_from must be given for method temporal, and for no other")
        if self.validation_from is not None:
            if self.test_from is None:
                raise ValueError("validation_from must be left out; it is for method temporal")
            if self.validation_from >= self.test_from:
                raise ValueError("validation_from must be before test_from")

    def split(self, events: DataFrame, columns: Columns, core: Core | None = None) -> Split:
        """Split events by the method."""
        if self.method == "last_n":
            return last_n(events, columns, self.n, core, self.cold_items)
        if self.method == "leave_one_out":
            return leave_one_out(events, columns, core, self.cold_items)
        if self.method == "last_basket":
            return last_basket(events, columns, core, self.cold_items)
        assert self.test_from is not None
        moments = self.test_from, self.validation_from
        return temporal(events, columns, *moments, self.new_users, core, self.cold_items)


@dataclass(frozen=True)
class Negatives:
    """Sampled negatives of each positive.

    Attributes
    ----------
    num
        Number of negatives per positive.
    alpha
        Items are drawn with probability in proportion to popularity^alpha.
    rating_above
        Only rows of train with a rating above this are positives; by default all rows are.
    """

    num: Length
    alpha: Power = 0.75
    rating_above: Rating | None = None

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class MatchDataset(OutputJob):
    """Config of jobs/match_dataset.py, which either splits events or samples negatives.

    Attributes
    ----------
    output_path
        With `split`, folder of the tables train, validation and test. With `negatives`, path of one
        table: the positives of `input.train` with their negatives.
    """

    job: Literal["match_dataset"]
    dataset: str
    input: MatchInput
    seed: Seed = 0
    columns: Columns = field(default_factory=Columns)
    filters: Filters = field(default_factory=Filters)
    split: SplitBy | None = None
    negatives: Negatives | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.split is None) == (self.negatives is None):
            raise ValueError("split or negatives must be given, and not both")
        if (self.split is None) != (self.input.events is None):
            raise ValueError("input must name events for a split, and train for negatives")
        if self.negatives and self.negatives.rating_above is not None and not self.columns.rating:
            raise ValueError("negatives.rating_above needs columns.rating")


def write_match_dataset(spark: SparkSession, config: MatchDataset) -> str:
    """Run the job; returns lines that say what was written."""
    return _write_split(spark, config) if config.split else _write_negatives(spark, config)


def _write_split(spark: SparkSession, config: MatchDataset) -> str:
    assert config.split is not None and config.input.events is not None
    columns, wanted = config.columns, config.filters
    events = read_events(spark, config.input.events, "input.events", columns)
    read = filters.date_range(events, columns, wanted.start, wanted.end)
    split = config.split.split(read, columns, wanted.core)
    tables, cold = split.tables, config.split.cold_items
    if cold is not None:
        tables[COLD_ITEMS] = cold_items(read, columns, cold)
    rows = {}
    with publish(**config.target, parts=tuple(tables)) as folder:
        for name, frame in tables.items():
            rows[name] = write_part(frame, storage.join(folder, name))["rows"]
        # Counted before the split is published, so that a failure leaves the old one in force.
        found = split.parts.collect()
        outside = events.count() - sum(row["events"] for row in found)
    marked = sum(row["marked"] for row in found)
    parts = {row["part"]: row["events"] for row in sorted(found)} | {"outside start..end": outside}
    return _summary(config.output_path, rows, marked, parts)


def _summary(path: str, rows: dict[str, int], marked: int, parts: dict[str, int]) -> str:
    """Lines that say where every event is."""
    train, test = parts.pop(TRAIN, 0), parts.pop(TEST, 0)
    left_out = sum(parts.values())
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in parts.items() if n)
    total = train + test + left_out
    return "\n".join(
        [
            f"{storage.join(path, 'train')}: {rows['train']:,} rows",
            f"{storage.join(path, 'validation')}: {rows['validation']:,} rows, made of "
            f"{marked:,} events that lie inside train, marked there by {IS_VALIDATION}",
            f"{storage.join(path, 'test')}: {rows['test']:,} rows",
            *(
                [f"{storage.join(path, COLD_ITEMS)}: {rows[COLD_ITEMS]:,} items"]
                if COLD_ITEMS in rows
                else []
            ),
            f"{total:,} events = {train:,} in train + {test:,} in test + {left_out:,} left out"
            + (f" ({reasons})" if reasons else ""),
        ]
    )


def _write_negatives(spark: SparkSession, config: MatchDataset) -> str:
    assert config.negatives is not None and config.input.train is not None
    wanted, columns = config.negatives, config.columns
    train = read_events(spark, config.input.train, "input.train", columns)
    positives = train
    if wanted.rating_above is not None:
        positives = filters.positives(train, columns, wanted.rating_above)
        if positives.isEmpty():
            raise DataError(
                f"input.train: {config.input.train} has no row with a {columns.rating} above "
                f"negatives.rating_above: {wanted.rating_above:g}"
            )
    table = sample_negatives(positives, train, columns, wanted.num, wanted.alpha, config.seed)
    facts = write_table(table, **config.target)
    written = load_table(spark, config.output_path)
    short = negatives_shortfall(written, wanted.num)
    asked = facts["rows"] * wanted.num
    return (
        f"{config.output_path}: {facts['rows']:,} positives, {asked - short:,} of {asked:,} "
        f"negatives delivered (shortfall {short:,})"
    )
