"""The column names of an events table, named once and passed to every transform."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Columns:
    """Which column plays which part. Names are the data's own; parts are the library's.

    Attributes
    ----------
    user, item, timestamp
        Key of the user, key of the item, and seconds since the epoch of the event.
    position
        int64, the row's number in the raw input. Every order in the library is
        (timestamp, position), since neighbouring events often share a timestamp.
    rating
        Optional column with the strength of the event.
    session
        Optional column that groups events into a session or a basket.
    """

    user: str = "user_id"
    item: str = "item_id"
    timestamp: str = "timestamp"
    position: str = "position"
    rating: str | None = None
    session: str | None = None

    @property
    def stem(self) -> str:
        """The item column without ``_id``: `movie_id` gives `movie`."""
        return self.item.removesuffix("_id")

    @property
    def recent_items(self) -> str:
        """Name of the array column of recent items, oldest first: `recent_movie_ids`."""
        return f"recent_{self.item}s"

    @property
    def last_item(self) -> str:
        """Name of the column of the most recent item: `last_movie`."""
        return f"last_{self.stem}"
