"""Evaluation protocols by name: which test rows count, and the sentence a report prints.

A number means nothing without its protocol; every `Result` carries the name of one.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.errors import ConfigError, DataError


@dataclass(frozen=True)
class Protocol:
    """A way to make queries of test rows.

    Attributes
    ----------
    name
        What confs and results call it.
    description
        One sentence for the reader of a report.
    rating_above
        A test row counts if its rating is above this, where the data has ratings; None: all count.
    ties
        How `evaluate` ranks a relevant item among others with its score.
    """

    name: str
    description: str
    rating_above: float | None = None
    ties: Literal["by_id", "conservative"] = "by_id"

    def relevant_queries(
        self, test: DataFrame, rating: str | None = None, rating_above: float | None = None
    ) -> DataFrame:
        """Keep the test rows that count.

        Parameters
        ----------
        test
            Test rows of the split.
        rating
            Column of the rating; None where the data has none, and then every row counts.
        rating_above
            Takes the place of the protocol's own threshold. A null rating never passes one.

        Raises
        ------
        ConfigError
            A threshold is given but no rating column.
        DataError
            Ratings decide, and `test` lacks their column.
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
            "test events of items that train lacks are left out beforehand.",
            ties="conservative",
        ),
        Protocol(
            "temporal",
            "every event from a moment on is queried with the user's events before it and ranked "
            "among the items of train; a test item outside them is a miss.",
        ),
        Protocol(
            "next_basket",
            "each user's last basket is queried with the baskets before it; every item in it is "
            "relevant.",
        ),
    )
}


def protocol(name: str) -> Protocol:
    """Look a protocol up; ConfigError, with the nearest name, if there is none."""
    if name in _PROTOCOLS:
        return _PROTOCOLS[name]
    near = get_close_matches(name, _PROTOCOLS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_PROTOCOLS)}"
    raise ConfigError(f"evaluation: unknown protocol {name!r}; {hint}")


def protocol_names() -> list[str]:
    """The names of all protocols."""
    return list(_PROTOCOLS)
