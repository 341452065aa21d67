"""Count-based retrievers. Imports no Torch."""

from typing import Any

from sparkrec.baselines.popularity.global_hot import GlobalHot
from sparkrec.baselines.popularity.personal_top import PersonalTop
from sparkrec.retrieval.base import Retriever

YARDSTICKS: dict[str, type[Retriever]] = {"global_hot": GlobalHot, "personal_top": PersonalTop}


def yardstick(name: str, **params: Any) -> Retriever:
    """A model that stands beside others in a table, by name."""
    return YARDSTICKS[name](**params)
