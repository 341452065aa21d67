"""Items that a split keeps from train, so that a model can be judged on items it has never seen.

Shops and news have new items all the time: there an item is cold if its first event is at or after
a moment. Where nearly all items are there from the start, as in MovieLens, a share of the items is
drawn by a hash of the id.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkrec.bounds import Bounds, Moment, Seed, check_bounds
from sparkrec.columns import Columns

COLD_ITEMS = "cold_items"
FIRST_SEEN = "first_seen"
_HASHES = 1_000_000


@dataclass(frozen=True)
class ColdItems:
    """Which items are cold: those first seen from a moment on, or a share of all.

    Their events are left out of train and of validation; the test rows stay those of the split.
    Train then has no columns with histories (`recent_...`, `last_...`), because these would have
    cold items; models make their own from the events of train.

    Attributes
    ----------
    first_seen_after
        Items whose first event is at or after this time are cold, in seconds since the epoch.
    share
        Share of the items that is drawn.
    seed
        Seed of the draw.
    rows
        `test`: the rows to be answered are the test rows. `validation`: the test rows are left out,
        and the validation rows take their place, for choosing parameters. The items that `share`
        draws are then others than for `test`.
    """

    first_seen_after: Moment | None = None
    share: Annotated[float, Bounds(0, 0.5, above=True)] | None = None
    seed: Seed = 0
    rows: Literal["test", "validation"] = "test"

    def __post_init__(self) -> None:
        check_bounds(self)
        if (self.first_seen_after is None) == (self.share is None):
            raise ValueError("share must be given, or first_seen_after, and not both")

    def flag(self, columns: Columns, first_seen: str) -> Column:
        """Whether the item of a row is cold; `first_seen` is the column of its first time."""
        if self.first_seen_after is not None:
            return F.col(first_seen) >= self.first_seen_after
        assert self.share is not None
        item = F.col(f"`{columns.item}`").cast("string")
        place = F.pmod(F.xxhash64(F.lit(self.seed), item), F.lit(_HASHES))
        first = round(self.share * _HASHES) if self.rows == "validation" else 0
        return (place >= first) & (place < first + round(self.share * _HASHES))


def cold_items(events: DataFrame, columns: Columns, cold: ColdItems) -> DataFrame:
    """The cold items, one row each: the item, `first_seen`, and `events`, the number of them."""
    items = events.groupBy(columns.item).agg(
        F.min(columns.timestamp).alias(FIRST_SEEN), F.count("*").alias("events")
    )
    return items.where(F.col(columns.item).isNotNull() & cold.flag(columns, FIRST_SEEN))
