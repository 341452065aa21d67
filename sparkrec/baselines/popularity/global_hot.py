"""Global Hot: the most frequent items of train, for all users or for the users of a segment.

It is the reference for every other model: one that is not clearly better has learned nothing about
the user. Recent events can have more weight (`window`, `half_life`), and so can types of events
(`weight_col`). Users can be divided into segments by columns of the users table (`segment`), which
helps for users without a history.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from sparkrec.bounds import Bounds, Length, check_bounds
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.errors import ConfigError, DataError
from sparkrec.io.tables import NUMBER_TYPES, require_columns
from sparkrec.retrieval.answering.rankings import (
    SEGMENT,
    Doubles,
    Ranking,
    RankingSearcher,
    SegmentRankings,
)
from sparkrec.retrieval.base import RetrievalModel, Retriever
from sparkrec.spark_versions import from_arrow, to_arrow
from sparkrec.transforms.weights import check_weights

_UNITS = "_sr_units"
_PLACE = "_sr_place"
_DAY = 86_400
# Weights are summed as integer multiples of 2^-30 of the largest weight, so that a sum does not
# depend on the order in which Spark adds. This is enough for 30 half-lives, and for 8 billion
# events of an item.
_ONE = 1 << 30

_DAYS = Bounds(0, 1_000_000, above=True)


@dataclass(frozen=True)
class GlobalHotConfig:
    """The `model:` block of a Global Hot conf, and the params of `GlobalHot`.

    Attributes
    ----------
    window
        Number of days before the latest event of train whose events are counted. Items without an
        event in this window are ranked after the others, by their count in all of train. null
        counts all events.
    half_life
        Number of days after which the weight of an event is halved, counted back from the latest
        event of train. null gives all events the same weight.
    segment
        Columns that divide users into segments, such as `[gender, age]`. A user gets the top items
        of the users with the same values, then the overall list. A user with a null in one of
        these columns, or with values that are not in train, gets the overall list only.
    segment_length
        Maximum number of items in the list of a segment. The driver and every Python worker hold
        the lists of all segments in memory, at 16 bytes per item.
    weight_col
        Column of the weight of an event, such as the `rating` that jobs/prepare.py writes for types
        of events. Items whose events all have the weight 0 are ranked last, by their count. null
        gives all events the same weight.
    """

    window: Annotated[float, _DAYS] | None = None
    half_life: Annotated[float, _DAYS] | None = None
    segment: tuple[str, ...] = ()
    segment_length: Length = 1000
    weight_col: str | None = None

    def __post_init__(self) -> None:
        check_bounds(self)


class GlobalHotModel(RetrievalModel):
    """Ranks items by weight, ties by item id. The score is the weight (by default the count).

    Attributes
    ----------
    rankings
        The ranking for all users, and one for each segment, best item first.
    """

    searcher_class = RankingSearcher

    def __init__(self, rankings: SegmentRankings) -> None:
        super().__init__()
        self.catalogue, self.rankings = rankings.catalogue, rankings

    def searcher(self) -> RankingSearcher:
        return RankingSearcher(self.rankings)

    def prepare_queries(self, queries: DataFrame) -> DataFrame:
        """Add the number of the user's segment, null if the segment is unknown."""
        segments = self.rankings.segments
        if segments is None:
            return queries
        names = segments.column_names
        wide = _join_segment(queries, self.users, names, self.get("user_col"), "queries")
        numbers = pa.array(np.arange(segments.num_rows, dtype=np.int32))
        table = from_arrow(queries.sparkSession, segments.append_column(SEGMENT, numbers))
        return wide.join(F.broadcast(table), names, "left")

    def write_parts(self, folder: str) -> dict[str, Any]:
        self.rankings.write(folder)
        return {"segmented": self.rankings.segments is not None}

    @classmethod
    def read_parts(cls, folder: str, description: dict[str, Any]) -> "GlobalHotModel":
        return cls(SegmentRankings.read(folder, description["segmented"]))


class GlobalHot(Retriever):
    """Counts the events of every item, or sums their weights.

    Parameters
    ----------
    config
        The `model:` block of a conf; by default the defaults of `GlobalHotConfig`.
    users
        Table with the columns of `segment`, one row per user. It is not needed if train and the
        queries have these columns.
    params
        Params by name: those of every retriever, and the fields of `GlobalHotConfig`.
    """

    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": GlobalHotConfig}
    model_class = GlobalHotModel

    def _fit(self, dataset: DataFrame) -> GlobalHotModel:
        catalogue = count_catalogue(dataset, self.get("item_col"))
        overall = Ranking.of(catalogue.counts.astype(np.float64), catalogue.order)
        events = dataset.where(F.col(self.get("item_col")).isNotNull())
        units, one = F.lit(_ONE), float(_ONE)
        if any(self.get(name) is not None for name in ("window", "half_life", "weight_col")):
            events, units, one = self._weighed(events)
            weighed = Ranking.of(self._weights(events, units, catalogue) / one, catalogue.order)
            overall = weighed.only(weighed.scores > 0).followed_by(overall)
        lists: tuple[Ranking, ...] = ()
        segments: pa.Table | None = None
        if self.get("segment"):
            lists, segments = self._segments(events, units, one, catalogue)
        model = GlobalHotModel(SegmentRankings(catalogue, overall, lists, segments))
        model.users = self.users
        return self._copyValues(model)

    def _weighed(self, events: DataFrame) -> tuple[DataFrame, Column, float]:
        """The events inside the window, the weight of each in units, and the units of a 1."""
        timestamp, window, half_life = map(self.get, ("timestamp_col", "window", "half_life"))
        weight, one = F.lit(1.0), float(_ONE)
        if self.get("weight_col") is not None:
            largest = check_weights(events, self.get("weight_col")).largest
            # A power of two, so that whole weights stay whole.
            one = _ONE / 2.0 ** max(0, math.ceil(math.log2(largest)))
            weight = F.col(f"`{self.get('weight_col')}`").cast("double")
        if window is not None or half_life is not None:
            require_columns(events, {timestamp: NUMBER_TYPES}, "train, for window and half_life,")
            latest = events.agg(F.max(timestamp)).head()
            age = (F.lit(latest[0] if latest else None) - F.col(timestamp)) / _DAY
            events = events.where(F.col(timestamp).isNotNull() if window is None else age < window)
            weight = weight if half_life is None else weight * F.pow(F.lit(0.5), age / half_life)
        return events, F.round(weight * one).cast("long"), one

    def _weights(self, events: DataFrame, units: Column, catalogue: Catalogue) -> Doubles:
        """[items]: the sum of the weights of each item's events, in units."""
        item = self.get("item_col")
        table = to_arrow(events.groupBy(item).agg(F.sum(units).alias(_UNITS)))
        weights = np.zeros(len(catalogue))
        weights[catalogue.numbers(table.column(item))] = table.column(_UNITS).to_numpy()
        return weights

    def _segments(
        self, events: DataFrame, units: Column, one: float, catalogue: Catalogue
    ) -> tuple[tuple[Ranking, ...], pa.Table]:
        """The ranking of every segment, and the table of segments, one row each."""
        item, user, names = self.get("item_col"), self.get("user_col"), list(self.get("segment"))
        if item in names:
            raise ConfigError(f"segment: `{item}` is the item column; name columns of the users")
        place = Window.partitionBy(*names).orderBy(F.desc(_UNITS), item)
        ranked = (
            _join_segment(events, self.users, names, user, "train")
            .dropna(subset=names)
            .groupBy(*names, item)
            .agg(F.sum(units).alias(_UNITS))
            .where(F.col(_UNITS) > 0)
            .withColumn(_PLACE, F.row_number().over(place))
            .where(F.col(_PLACE) <= self.get("segment_length"))
            .orderBy(*names, _PLACE)
        )
        table = to_arrow(ranked)
        if not table.num_rows:
            raise DataError(f"no event of train has a user with {', '.join(names)}")
        starts = np.flatnonzero(table.column(_PLACE).to_numpy() == 1)
        items = np.split(catalogue.numbers(table.column(item)), starts[1:])
        scores = np.split(table.column(_UNITS).to_numpy() / one, starts[1:])
        return tuple(map(Ranking, items, scores)), table.select(names).take(starts)


def _join_segment(
    frame: DataFrame, users: DataFrame | None, names: list[str], user: str, what: str
) -> DataFrame:
    """Join the columns of a segment that a frame does not have from the users table."""
    missing = [name for name in names if name not in frame.columns]
    if not missing:
        return frame
    for table, at, wanted in ((users, "the users table", [user, *missing]), (frame, what, [user])):
        absent = [name for name in wanted if table is None or name not in table.columns]
        if absent:
            raise DataError(
                f"{what}: segment needs {', '.join(missing)}, but {at} has no column `{absent[0]}`"
            )
    assert users is not None
    return frame.join(users.select(user, *missing).dropDuplicates([user]), user, "left")
