"""Ranked lists of items as Global Hot makes them: one for all users, or one per segment."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.io import storage
from sparkrec.io.arrow import read_parquet, write_parquet
from sparkrec.retrieval.search.searcher import Mask, Pairs, Searcher
from sparkrec.retrieval.search.topk import Floats, Ints

Doubles = npt.NDArray[np.float64]

_ITEMS, _RANKINGS, _SEGMENTS = "items.parquet", "rankings.parquet", "segments.parquet"

SEGMENT = "_sr_segment"
OVERALL = -1


@dataclass(frozen=True, eq=False)
class Ranking:
    """Distinct items (numbers from 0), best first, and their scores."""

    items: Ints
    scores: Doubles

    @classmethod
    def of(cls, scores: Doubles, order: Ints) -> "Ranking":
        """All items of a catalogue by score, ties by `order`."""
        items = np.lexsort((order, -scores)).astype(np.int64)
        return cls(items, scores[items])

    def __len__(self) -> int:
        return len(self.items)

    def first(self, size: int) -> "Ranking":
        """The best `size` items."""
        return Ranking(self.items[:size], self.scores[:size])

    def only(self, kept: Mask) -> "Ranking":
        """The items at the places where `kept` is true."""
        return Ranking(self.items[kept], self.scores[kept])

    def followed_by(self, other: "Ranking") -> "Ranking":
        """At the end, with scores below all of these, the items of `other` that are missing here.

        The r-th item of `other` (from 0) scores 1 / (2 + r) of the last score here.
        """
        if not len(self):
            return other
        rest = np.flatnonzero(~np.isin(other.items, self.items))
        scores = self.scores[-1] / (2.0 + rest)
        return Ranking(
            np.concatenate([self.items, other.items[rest]]), np.concatenate([self.scores, scores])
        )

    def first_free(self, rows: int, k: int, taken: Pairs) -> tuple[Ints, Ints, Ints]:
        """The best k items for each row, except the (row, item) pairs `taken`.

        Returns
        -------
        row, column, place
            The item at `place` of this ranking is the one to give to `row` in `column`.
        """
        free = np.ones((rows, len(self)), bool)
        by_item = np.argsort(self.items)
        at = np.searchsorted(self.items, taken[1], sorter=by_item)
        hit = np.append(self.items[by_item], -1)[at] == taken[1]
        free[taken[0][hit], by_item[at[hit]]] = False
        column = np.cumsum(free, axis=1) - 1
        row, place = np.nonzero(free & (column < k))
        return row, column[row, place], place


@dataclass(frozen=True, eq=False)
class SegmentRankings:
    """The lists of Global Hot.

    Attributes
    ----------
    catalogue
        The items.
    overall
        All items, best first.
    lists
        The items of each segment.
    segments
        One row a segment, in the order of `lists`, with the values of its columns; None without.
    """

    catalogue: Catalogue
    overall: Ranking
    lists: tuple[Ranking, ...] = ()
    segments: pa.Table | None = None

    def write(self, folder: str) -> None:
        """Write the lists below the folder of a model."""
        self.catalogue.write(storage.join(folder, _ITEMS))
        rankings = [self.overall, *self.lists]
        table = {
            "segment": np.repeat(np.arange(OVERALL, len(self.lists)), list(map(len, rankings))),
            "item": np.concatenate([ranking.items for ranking in rankings]),
            "score": np.concatenate([ranking.scores for ranking in rankings]),
        }
        write_parquet(storage.join(folder, _RANKINGS), pa.table(table))
        if self.segments is not None:
            write_parquet(storage.join(folder, _SEGMENTS), self.segments)

    @classmethod
    def read(cls, folder: str, segmented: bool) -> "SegmentRankings":
        """What `write` wrote."""
        table = read_parquet(storage.join(folder, _RANKINGS))
        segment, items, scores = (column.to_numpy() for column in table.columns)
        cuts = np.flatnonzero(np.diff(segment)) + 1
        overall, *lists = map(Ranking, np.split(items, cuts), np.split(scores, cuts))
        segments = read_parquet(storage.join(folder, _SEGMENTS)) if segmented else None
        catalogue = Catalogue.read(storage.join(folder, _ITEMS))
        return cls(catalogue, overall, tuple(lists), segments)


class RankingSearcher(Searcher):
    """Answers from ranked lists.

    Queries carry the number of the user's list in `SEGMENT`, null for the overall one.
    """

    def __init__(self, rankings: SegmentRankings) -> None:
        self.catalogue, self.overall = rankings.catalogue, rankings.overall
        self.lists, self.segments = rankings.lists, rankings.segments

    @classmethod
    def restore(cls, folder: str, description: dict[str, Any]) -> "RankingSearcher":
        return cls(SegmentRankings.read(folder, description["segmented"]))

    def prepare(self, queries: pa.Table) -> pa.Table:
        """Add the number of each query's segment, by the columns of the segments."""
        if self.segments is None:
            return queries
        names = self.segments.column_names
        numbers = {tuple(row.values()): i for i, row in enumerate(self.segments.to_pylist())}
        found: list[int | None] = [None] * queries.num_rows
        if set(names) <= set(queries.column_names):
            rows = queries.select(names).to_pylist()
            found = [numbers.get(tuple(row.values())) for row in rows]
        return queries.append_column(SEGMENT, pa.array(found, pa.int32()))

    def search(
        self,
        batch: pa.RecordBatch,
        k: int,
        seen: Pairs | None,
        allowed: Mask | None,
    ) -> tuple[Floats, Ints]:
        k = min(k, len(self.catalogue))
        scores = np.full((batch.num_rows, k), -np.inf, np.float32)
        items = np.full((batch.num_rows, k), -1, np.int64)
        segments = self._segments(batch)
        # Rows grouped by segment, each with its seen items.
        rows = np.argsort(segments, kind="stable")
        lines = taken = np.zeros(0, np.int64)
        if seen is not None:
            lines = np.argsort(rows)[seen[0]]
            by_line = np.argsort(lines, kind="stable")
            lines, taken = lines[by_line], seen[1][by_line]
        numbers, starts = np.unique(segments[rows], return_index=True)
        for number, start, stop in zip(numbers, starts, [*starts[1:], len(rows)], strict=True):
            low, high = np.searchsorted(lines, (start, stop))
            pairs = lines[low:high] - start, taken[low:high]
            longest = int(np.bincount(pairs[0]).max()) if high > low else 0
            head = self._head(number, k + longest, allowed)
            line, column, place = head.first_free(stop - start, k, pairs)
            scores[rows[start:stop][line], column] = head.scores[place]
            items[rows[start:stop][line], column] = head.items[place]
        return scores, items

    def answers(self, batch: pa.RecordBatch) -> Mask:
        return np.ones(batch.num_rows, bool)

    def _segments(self, batch: pa.RecordBatch) -> Ints:
        if not self.lists:
            return np.full(batch.num_rows, OVERALL, np.int64)
        numbers = pa.compute.fill_null(batch.column(SEGMENT), OVERALL)
        return np.asarray(numbers, np.int64)

    def _head(self, number: int, size: int, allowed: Mask | None) -> Ranking:
        """The first items of a segment's list, followed by the overall list."""
        if number == OVERALL:
            ranking = self.overall
        else:
            own = self.lists[number]
            rest = self.overall if allowed is not None else self.overall.first(size + len(own))
            ranking = own.followed_by(rest)
        if allowed is not None:
            ranking = ranking.only(allowed[ranking.items])
        return ranking.first(size)
