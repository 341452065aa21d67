"""The column names of an events table, which are passed to every transform."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Columns:
    """Names of the columns in the data, by their role.

    Attributes
    ----------
    user
        Column of the user id.
    item
        Column of the item id.
    timestamp
        Column of the time of an event, in seconds since the epoch.
    position
        Column of the row number in the raw input (int64). Events are always ordered by
        (timestamp, position), because consecutive events often have the same timestamp.
    rating
        Column of the rating or weight of an event; null if there is none.
    session
        Column that groups events into sessions or baskets; null if there is none.
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
