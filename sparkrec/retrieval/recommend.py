"""Top-k for every query, on the executors.

The searcher (a model's query encoder with its index, or a table of scores) is broadcast once and
unpacked once per Python worker; queries stream through it as Arrow batches.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.errors import DataError
from sparkrec.retrieval.search.topk import Floats, Ints

RECOMMENDED = "recommended"
_BATCH_ROWS = 4096


class Searcher(Protocol):
    """What runs on an executor: queries in, scored items out. Must be picklable."""

    catalogue: Catalogue

    def search(
        self,
        batch: pa.RecordBatch,
        k: int,
        seen: tuple[Ints, Ints] | None,
        allowed: npt.NDArray[np.bool_] | None,
    ) -> tuple[Floats, Ints]:
        """Scores and items (numbers from 0, -1 for none) of each row, [rows, at most k].

        `seen` has (row, item) pairs that must not be given, rows ascending; `allowed` [items]
        the candidates.
        """

    def answers(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Rows that the searcher knows something about; the others are for the fallback."""


def recommend(
    queries: DataFrame,
    searcher: Searcher,
    item_type: T.DataType,
    k: int,
    exclude_seen: bool,
    history: str,
    candidates: list[object] | None = None,
    fallback: bool = False,
) -> DataFrame:
    """Add `recommended`: array<struct<item_id, score>>, best first, to every query.

    Parameters
    ----------
    queries
        One row a query, with `history` (array of raw item ids) and what the searcher reads.
    exclude_seen
        Never give an item of the query's history.
    candidates
        Raw ids of the only items to give; all of the catalogue by default.
    fallback
        Answer queries that the searcher knows nothing about with the most popular items; their
        score is the item's count in train.

    Notes
    -----
    A query with fewer than k items to give gets a shorter array.
    """
    if history not in queries.columns and exclude_seen:
        raise DataError(
            f"queries have no `{history}` column, which excluding seen items needs "
            f"(they have {', '.join(queries.columns)})"
        )
    fields = [field for field in queries.schema.fields if field.name != RECOMMENDED]
    entry = T.StructType(
        [T.StructField("item_id", item_type), T.StructField("score", T.DoubleType())]
    )
    schema = T.StructType([*fields, T.StructField(RECOMMENDED, T.ArrayType(entry))])
    allowed = _allowed(searcher.catalogue, candidates)
    shared = queries.sparkSession.sparkContext.broadcast((searcher, allowed))
    history_column = history if history in queries.columns else None

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine, mask = shared.value
        for whole in batches:
            for start in range(0, whole.num_rows, _BATCH_ROWS):
                batch = whole.slice(start, _BATCH_ROWS)
                found = _search(mine, batch, k, exclude_seen, history_column, mask, fallback)
                lists = _as_lists(mine.catalogue, *found)
                yield pa.RecordBatch.from_arrays(
                    [*batch.columns, lists], [*batch.schema.names, RECOMMENDED]
                )

    return queries.select(*[f"`{field.name}`" for field in fields]).mapInArrow(run, schema)


def _allowed(catalogue: Catalogue, candidates: list[object] | None) -> npt.NDArray[np.bool_] | None:
    if candidates is None:
        return None
    items = catalogue.index(pa.array(candidates, catalogue.ids.type)) - 2
    allowed = np.zeros(len(catalogue), bool)
    allowed[items[items >= 0]] = True
    return allowed


def _search(
    searcher: Searcher,
    batch: pa.RecordBatch,
    k: int,
    exclude_seen: bool,
    history: str | None,
    allowed: npt.NDArray[np.bool_] | None,
    fallback: bool,
) -> tuple[Floats, Ints]:
    seen = None
    if exclude_seen and history is not None:
        seen = ragged_items(batch.column(batch.schema.get_field_index(history)), searcher.catalogue)
    scores, items = searcher.search(batch, k, seen, allowed)
    if fallback:
        unanswered = np.flatnonzero(~searcher.answers(batch))
        if len(unanswered):
            shape = (len(unanswered), items.shape[1])
            items[unanswered], scores[unanswered] = popular_items(
                searcher.catalogue, unanswered, seen, allowed, *shape
            )
    return scores, items


def ragged_items(lists: pa.Array, catalogue: Catalogue) -> tuple[Ints, Ints]:
    """(row, item number) of every catalogue item in an array of lists, rows ascending."""
    lengths = np.asarray(pa.compute.fill_null(pa.compute.list_value_length(lists), 0))
    items = catalogue.index(pa.compute.list_flatten(lists)) - 2
    rows = np.repeat(np.arange(len(lists), dtype=np.int64), lengths)
    return rows[items >= 0], items[items >= 0]


def popular_items(
    catalogue: Catalogue,
    rows: Ints,
    seen: tuple[Ints, Ints] | None,
    allowed: npt.NDArray[np.bool_] | None,
    count: int,
    k: int,
) -> tuple[Ints, Floats]:
    """The most popular items for some rows of a batch, those seen left out; items and counts."""
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
    # The free places of each row first, in their order.
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
