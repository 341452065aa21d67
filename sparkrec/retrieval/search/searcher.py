"""The best items for a batch of queries, whatever the model: seen items, candidates, fallback.

A searcher is the part of a saved model that answers. It runs without Spark, on an executor or in
any other process.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.retrieval.search.allowed import Allowed
from sparkrec.retrieval.search.candidates import Candidates
from sparkrec.retrieval.search.topk import Floats, Ints

Mask = npt.NDArray[np.bool_]
# (row, item number) pairs, rows ascending.
Pairs = tuple[Ints, Ints]


@dataclass(frozen=True)
class SearchOptions:
    """What is asked of a searcher.

    Attributes
    ----------
    k
        Items for each query.
    exclude_seen
        Never give an item of the query's history.
    history
        Column of the history, an array of raw item ids, oldest first.
    candidates
        Which items may be given; all of the catalogue by default.
    fallback
        Answer queries that the searcher knows nothing about with the most popular items; their
        score is the item's count in train.
    item, timestamp
        Columns of the items' id in their table, and of the time of a query.
    """

    k: int = 20
    exclude_seen: bool = True
    history: str = "history"
    candidates: Candidates | None = None
    fallback: bool = True
    item: str = "item_id"
    timestamp: str = "timestamp"

    @classmethod
    def of_params(cls, params: Mapping[str, Any]) -> "SearchOptions":
        """What the params of a retriever ask for, by their names."""
        return cls(
            k=params["k"],
            exclude_seen=params["exclude_seen"],
            history=params["history_col"],
            candidates=Candidates.of(params["candidates"]),
            fallback=params["fallback"] == "global_hot",
            item=params["item_col"],
            timestamp=params["timestamp_col"],
        )

    def allowed(self, catalogue: Catalogue, items: pa.Table | None) -> Allowed | None:
        """The candidates, with the columns of the items' table; None where all items are.

        See `Candidates.resolve` for the errors.
        """
        if self.candidates is None:
            return None
        return self.candidates.resolve(catalogue, items, self.item)


class Searcher:
    """Queries in, scored items out. Must be picklable."""

    catalogue: Catalogue
    # The last history looked up: `search`, `answers` and the exclusion of seen items all read it.
    _looked_up: tuple[pa.RecordBatch, str, Pairs] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_looked_up": None}

    @classmethod
    def restore(cls, folder: str, description: dict[str, Any]) -> "Searcher":
        """The searcher of a saved model, from its folder and the contents of its `model.json`."""
        raise NotImplementedError

    def use_one_thread(self) -> None:
        """Use one thread from now on; called in Spark's Python workers, one per core."""

    def prepare(self, queries: pa.Table) -> pa.Table:
        """Queries with all that `search` reads.

        It does in this process what the model's `prepare_queries` does on Spark.
        """
        return queries

    def history_items(self, batch: pa.RecordBatch, column: str) -> Pairs:
        """`ragged_items` of a column of a batch, looked up once."""
        # A local variable, because another thread may replace the attribute.
        known = self._looked_up
        if known is None or known[0] is not batch or known[1] != column:
            known = batch, column, ragged_items(batch.column(column), self.catalogue)
            self._looked_up = known
        return known[2]

    def search(
        self, batch: pa.RecordBatch, k: int, seen: Pairs | None, allowed: Mask | None
    ) -> tuple[Floats, Ints]:
        """Scores and items (numbers from 0, -1 for none) of each row, [rows, at most k].

        `seen` has the items that must not be given to a row; `allowed` [items] the candidates.
        """
        raise NotImplementedError

    def answers(self, batch: pa.RecordBatch) -> Mask:
        """Rows that the searcher knows something about; the others are for the fallback."""
        raise NotImplementedError


def search_batch(
    searcher: Searcher, batch: pa.RecordBatch, options: SearchOptions, allowed: Allowed | None
) -> pa.ListArray:
    """`list<struct<item_id, score>>` of each row, best first; shorter where fewer can be given.

    Parameters
    ----------
    allowed
        `options.allowed(searcher.catalogue, ...)`, computed once for many batches.

    Raises
    ------
    DataError
        The candidates depend on the time of a query, and a query has none.
    """
    if allowed is None or not allowed.by_time:
        mask = None if allowed is None else allowed.mask
        return _as_lists(searcher.catalogue, *_search(searcher, batch, options, mask))
    width = min(options.k, len(searcher.catalogue))
    scores = np.full((batch.num_rows, width), -np.inf, np.float32)
    items = np.full(scores.shape, -1, np.int64)
    for rows, mask in allowed.at(batch, options.timestamp):
        found, numbers = _search(searcher, batch.take(pa.array(rows)), options, mask)
        scores[rows, : found.shape[1]], items[rows, : found.shape[1]] = found, numbers
    return _as_lists(searcher.catalogue, scores, items)


def _search(
    searcher: Searcher, batch: pa.RecordBatch, options: SearchOptions, allowed: Mask | None
) -> tuple[Floats, Ints]:
    seen = None
    if options.exclude_seen and options.history in batch.schema.names:
        seen = searcher.history_items(batch, options.history)
    scores, items = searcher.search(batch, options.k, seen, allowed)
    if options.fallback:
        unanswered = np.flatnonzero(~searcher.answers(batch))
        if len(unanswered):
            shape = (len(unanswered), items.shape[1])
            items[unanswered], scores[unanswered] = popular_items(
                searcher.catalogue, unanswered, seen, allowed, *shape
            )
    return scores, items


def ragged_items(lists: pa.Array, catalogue: Catalogue) -> Pairs:
    """(row, item number) of every catalogue item in an array of lists, rows ascending."""
    lengths = np.asarray(pa.compute.fill_null(pa.compute.list_value_length(lists), 0))
    items = catalogue.numbers(pa.compute.list_flatten(lists))
    rows = np.repeat(np.arange(len(lists), dtype=np.int64), lengths)
    return rows[items >= 0], items[items >= 0]


def popular_items(
    catalogue: Catalogue,
    rows: Ints,
    seen: Pairs | None,
    allowed: Mask | None,
    count: int,
    k: int,
) -> tuple[Ints, Floats]:
    """The most popular unseen items for some rows of a batch: items and counts."""
    popular = catalogue.popular
    if allowed is not None:
        popular = popular[allowed[popular]]
    longest = 0
    if seen is not None and len(seen[0]):
        longest = int(np.bincount(seen[0]).max())
    head = popular[: k + longest]
    free = np.ones((count, len(head)), bool)
    if seen is not None:
        place = np.full(len(catalogue), -1, np.int64)
        place[head] = np.arange(len(head))
        line = np.full(int(max(rows.max(initial=0), seen[0].max(initial=0))) + 1, -1, np.int64)
        line[rows] = np.arange(count)
        hit = (place[seen[1]] >= 0) & (line[seen[0]] >= 0)
        free[line[seen[0][hit]], place[seen[1][hit]]] = False
    # Unseen items of each row first, in their order.
    chosen = np.argsort(~free, axis=1, kind="stable")[:, :k]
    items = np.full((count, k), -1, np.int64)
    scores = np.full((count, k), -np.inf, np.float32)
    ok = np.take_along_axis(free, chosen, axis=1)
    width = chosen.shape[1]
    items[:, :width] = np.where(ok, head[chosen], -1)
    scores[:, :width] = np.where(ok, catalogue.counts[head[chosen]], -np.inf)
    return items, scores


def _as_lists(catalogue: Catalogue, scores: Floats, items: Ints) -> pa.ListArray:
    given = items >= 0
    offsets = np.concatenate([[0], np.cumsum(given.sum(axis=1))]).astype(np.int32)
    ids = catalogue.ids.take(pa.array(items[given]))
    values = pa.StructArray.from_arrays(
        [ids, pa.array(scores[given].astype(np.float64))], ["item_id", "score"]
    )
    return pa.ListArray.from_arrays(pa.array(offsets), values)
