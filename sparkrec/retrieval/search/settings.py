"""The `retrieval:` block of a conf."""

import re
from dataclasses import dataclass

from sparkrec.bounds import Bounds, Count, TopK, check_bounds
from sparkrec.errors import ConfigError
from sparkrec.retrieval.search.candidates import Candidates

INDEX_KINDS = re.compile(r"Flat|IVF([0-9]{1,20}),Flat|HNSW([0-9]{1,20})")

# faiss crashes on fewer links, and each takes 8 bytes of memory an item. With no list it fails.
_INDEX_BOUNDS = (("IVF<lists>", Bounds(1, 2**24)), ("HNSW<links>", Bounds(2, 1024)))


@dataclass(frozen=True)
class Retrieval:
    """How the items with the highest scores are found.

    Attributes
    ----------
    index
        faiss index of the item vectors: `Flat` (exact), `IVF<lists>,Flat` with at most as many
        lists as there are items (4 * sqrt(items) is usual), or `HNSW<links>` with 2 to 1024 links
        (16 to 64 are usual).
    nprobe
        Number of inverted lists that a query searches (IVF only).
    ef_search
        Size of the candidate list of a search (HNSW only).
    k
        Number of items to recommend.
    exclude_seen
        Whether items of the query's history are left out in the validation metric and in the first
        result of a run. A run reports its metrics with and without them.
    candidates
        Which items may be recommended. An item that is not a candidate is a miss in the evaluation.
    """

    index: str = "Flat"
    nprobe: Count = 16
    ef_search: TopK = 128
    k: TopK = 20
    exclude_seen: bool = False
    candidates: Candidates | None = None

    def __post_init__(self) -> None:
        matched = INDEX_KINDS.fullmatch(self.index)
        if not matched:
            raise ValueError(
                f"index must be Flat, IVF<lists>,Flat or HNSW<links>, not {self.index}"
            )
        for number, (what, bounds) in zip(matched.groups(), _INDEX_BOUNDS, strict=True):
            if number is not None:
                bounds.check(f"index {what}", int(number), whole=True)
        check_bounds(self)

    def check_items(self, items: int) -> None:
        """Raise ConfigError if the index cannot hold this number of items."""
        matched = INDEX_KINDS.fullmatch(self.index)
        assert matched is not None
        if matched[1] and int(matched[1]) > items:
            raise ConfigError(
                f"retrieval.index: {self.index} has more lists than there are items ({items}); "
                "name fewer, 4 * sqrt(items) is usual"
            )
