"""The `retrieval:` block of a conf."""

import re
from dataclasses import dataclass

INDEX_KINDS = re.compile(r"Flat|IVF(\d+),Flat|HNSW(\d+)")


@dataclass(frozen=True)
class Retrieval:
    """How the items with the highest scores are found.

    Attributes
    ----------
    index
        faiss index of the item vectors: `Flat` (exact), `IVF<lists>,Flat` or `HNSW<links>`.
    nprobe
        Number of inverted lists that a query searches (IVF only).
    ef_search
        Size of the candidate list of a search (HNSW only).
    k
        Number of items to recommend.
    exclude_seen
        Whether items of the query's history are left out in the validation metric and in the first
        result of a run. A run reports its metrics with and without them.
    """

    index: str = "Flat"
    nprobe: int = 16
    ef_search: int = 128
    k: int = 20
    exclude_seen: bool = False

    def __post_init__(self) -> None:
        if not INDEX_KINDS.fullmatch(self.index):
            raise ValueError(
                f"index must be Flat, IVF<lists>,Flat or HNSW<links>, not {self.index}"
            )
        for name in ("nprobe", "ef_search", "k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
