"""Answering with a table of neighbours: merging those of a history against a sparse product.

Run by `make bench`. The reference multiplies the histories by the table as scipy matrices and takes
the best of a dense row over the catalogue for every query; it answers the first
`--reference-queries` alone. Histories are drawn with a seed by a Zipf law; an item is the neighbour
of others the oftener the smaller its number. Seen items are left out. Seconds are CPU seconds of
one thread, the least of `--repeats`, with the table in memory; each side runs in a process of its
own, whose memory includes the table.
"""

import argparse
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from _measure import Figures, in_child, least_cpu, report
from scipy import sparse

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.retrieval.answering.neighbours import NeighbourSearcher, age_weights
from sparkrec.retrieval.search.searcher import Pairs, ragged_items
from sparkrec.retrieval.search.topk import Floats, Ints, best_of

K, HISTORY, NEIGHBOURS, DECAY = 20, 50, 100, 0.6


def make_searcher(items: int, seed: int) -> NeighbourSearcher:
    """Neighbours from one slice of the catalogue each, so that those of an item are distinct."""
    rng = np.random.default_rng(seed)
    neighbours = np.empty((items, NEIGHBOURS), np.int32)
    for column, part in enumerate(rng.permutation(NEIGHBOURS)):
        neighbours[:, column] = items * ((part + rng.random(items)) / NEIGHBOURS) ** 2
    scores = -np.sort(-rng.random((items, NEIGHBOURS)), axis=1)
    catalogue = Catalogue(pa.array(np.arange(items)), np.arange(items, 0, -1))
    weights = age_weights("history", DECAY, HISTORY)
    return NeighbourSearcher(catalogue, neighbours, scores, "history", weights)


def make_queries(items: int, queries: int, seed: int) -> pa.RecordBatch:
    """Histories of 50 items."""
    rng = np.random.default_rng(seed)
    shares = np.cumsum(1 / np.arange(1, items + 1))
    drawn = np.searchsorted(shares, rng.random(queries * HISTORY) * shares[-1])
    offsets = pa.array(np.arange(queries + 1) * HISTORY, pa.int32())
    return pa.record_batch({"history": pa.ListArray.from_arrays(offsets, pa.array(drawn))})


def as_matrix(searcher: NeighbourSearcher) -> sparse.csr_matrix:
    """[items, items]: the table of neighbours once more."""
    given = searcher.neighbours >= 0
    indptr = np.concatenate([[0], np.cumsum(given.sum(axis=1))])
    shape = (len(searcher.catalogue), len(searcher.catalogue))
    return sparse.csr_matrix((searcher.scores[given], searcher.neighbours[given], indptr), shape)


def by_product(
    searcher: NeighbourSearcher, table: sparse.csr_matrix, batch: pa.RecordBatch, seen: Pairs
) -> tuple[Floats, Ints]:
    """The reference."""
    rows, history = ragged_items(batch.column("history"), searcher.catalogue)
    age = HISTORY - 1 - np.arange(len(rows)) % HISTORY
    shape = (batch.num_rows, table.shape[0])
    asked = sparse.csr_matrix((searcher.weights[age], (rows, history)), shape)
    filler = np.empty(table.shape[0], np.float32)
    filler[searcher.catalogue.popular] = -1.0 - np.arange(table.shape[0])

    def scores(start: int, stop: int) -> Floats:
        block = (asked[start:stop] @ table).toarray().astype(np.float32)
        return np.where(block > 0, block, filler)

    return best_of(scores, batch.num_rows, K, searcher.catalogue.order, seen, None)


def measured(items: int, queries: int, repeats: int, product: bool) -> Figures:
    """CPU seconds of one side, and its answers."""
    searcher = make_searcher(items, seed=1)
    batch = make_queries(items, queries, seed=2)
    seen = ragged_items(batch.column("history"), searcher.catalogue)
    if product:
        answer = partial(by_product, searcher, as_matrix(searcher), batch, seen)
    else:
        answer = partial(searcher.search, batch, K, seen, None)
        searcher.search(batch.slice(0, 0), K, seen, None)  # compiles
    (scores, found), seconds = least_cpu(answer, repeats)
    per_second = queries / seconds
    return {"cpu_seconds": seconds, "queries_per_second": per_second, "answers": (scores, found)}


def same(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> float:
    """The share of equal values, among the queries that both answered."""
    rows = min(len(one), len(other))
    return float((one[:rows] == other[:rows]).mean())


def main() -> None:
    """Print the machine, a table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--reference-queries", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows = {
        "merged": in_child(measured, options.items, options.queries, options.repeats, False),
        "sparse product": in_child(
            measured, options.items, options.reference_queries, options.repeats, True
        ),
    }
    (scores, items), (wanted_scores, wanted_items) = (row.pop("answers") for row in rows.values())
    ours, theirs = rows.values()
    ratios = {
        "queries a second, to the product": (
            ours["queries_per_second"] / theirs["queries_per_second"]
        ),
        "same items": same(items, wanted_items),
        "same scores": same(scores, wanted_scores),
    }
    report(rows, ratios)


if __name__ == "__main__":
    main()
