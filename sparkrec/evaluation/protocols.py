"""Evaluation protocols by name: which test rows are evaluated, and the description in reports.

Metrics can only be compared under the same protocol, so every `Result` has the name of one.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.errors import ConfigError, DataError

EVENT_TYPE = "event_type"
COLD_ITEMS = "cold_items"


@dataclass(frozen=True)
class Protocol:
    """Rules by which test rows become queries and are evaluated.

    Attributes
    ----------
    name
        Name in confs and results.
    description
        One sentence for the reader of a report.
    rating_above
        If the data has ratings, only test rows with a rating above this are evaluated; None
        evaluates all.
    ties
        How `evaluate` ranks a relevant item among items with the same score.
    last_apart
        Whether the last query of each user is also evaluated apart.
    """

    name: str
    description: str
    rating_above: float | None = None
    ties: Literal["by_id", "conservative"] = "by_id"
    last_apart: bool = False

    def relevant_queries(
        self, test: DataFrame, rating: str | None = None, rating_above: float | None = None
    ) -> DataFrame:
        """Keep the test rows that are evaluated.

        Parameters
        ----------
        test
            Test rows of the split.
        rating
            Column of the rating. None if the data has no ratings; then all rows are evaluated.
        rating_above
            Replaces the threshold of the protocol. Rows with a null rating are below any threshold.

        Raises
        ------
        ConfigError
            A threshold is given but no rating column.
        DataError
            Rows are selected by rating, and `test` does not have that column.
        """
        if rating is None:
            if rating_above is not None:
                raise ConfigError(
                    f"evaluation: rating_above is {rating_above}, but columns names no rating"
                )
            return test
        threshold = self.rating_above if rating_above is None else rating_above
        if threshold is None:
            return test
        if rating not in test.columns:
            raise DataError(f"test has no column {rating!r}; it has {', '.join(test.columns)}")
        return test.filter(F.col(rating) > threshold)


def of_event_type(queries: DataFrame, target: str, where: str) -> DataFrame:
    """Keep the queries whose event is of the type `target`; their histories have all events.

    Parameters
    ----------
    where
        The table's key in the conf, for messages.

    Raises
    ------
    DataError
        The table has no column `event_type`, or no row of this type.
    """
    if EVENT_TYPE not in queries.columns:
        raise DataError(
            f"{where} has no column `{EVENT_TYPE}`, which evaluation.target needs (it has "
            f"{', '.join(queries.columns)}); jobs/prepare.py writes it, and rows that are whole "
            "baskets have none"
        )
    chosen = queries.where(F.col(EVENT_TYPE) == target)
    if chosen.isEmpty():
        known = [row[0] for row in queries.select(EVENT_TYPE).distinct().limit(10).collect()]
        raise DataError(
            f"{where} has no row with {EVENT_TYPE} `{target}`, which evaluation.target names; it "
            f"has {', '.join(sorted(map(str, known)))}"
        )
    return chosen


_PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "last_3",
            "each user's last three events are queried one by one with the history just before "
            "them; a row counts if its rating is above 2; candidates are the items of train, and "
            "a test item outside them is a miss.",
            rating_above=2.0,
        ),
        Protocol(
            "leave_one_out",
            "each user's last event is queried with all events before it and ranked among all "
            "items.",
        ),
        Protocol(
            "session_next",
            "every event of a test session after its first is queried with the session's events "
            "before it and ranked among the items of train, behind items with the same score; "
            "test events of items that train lacks are left out beforehand; `last item` has the "
            "last event of each session alone.",
            ties="conservative",
            last_apart=True,
        ),
        Protocol(
            "temporal",
            "every event from a moment on is queried with the user's events before it and ranked "
            "among the items of train; a test item outside them is a miss.",
        ),
        Protocol(
            COLD_ITEMS,
            "the test rows of a split that keeps some items from train (`cold_items`); these are "
            "added to the model before it answers, and every relevant item is a row: `cold` and "
            "`warm` are ranked among all items, `cold among cold` and `warm among warm` among "
            "their own kind; intervals are over users and items.",
        ),
        Protocol(
            "next_basket",
            "each user's last basket is queried with the baskets before it; every item in it is "
            "relevant.",
        ),
    )
}


def protocol(name: str) -> Protocol:
    """Return a protocol by name; ConfigError, with the most similar name, if there is none."""
    if name in _PROTOCOLS:
        return _PROTOCOLS[name]
    near = get_close_matches(name, _PROTOCOLS, n=1)
    hint = f"; did you mean `{near[0]}`?" if near else ""
    raise ConfigError(f"protocol must be one of {', '.join(_PROTOCOLS)}; not {name!r}{hint}")


def protocol_names() -> list[str]:
    """The names of all protocols."""
    return list(_PROTOCOLS)
