"""Top-k by inner product: ours (the exact index, ties by item id) against faiss's IndexFlatIP.

Timed is the search of all queries with vectors in memory: with no item excluded, and with the items
that each query has seen, which ours masks inside the search; with faiss k + seen items are fetched
and filtered afterwards, which is the usual way round. Each time is the least of `--repeats`.
"""

import argparse

import faiss
import numpy as np
import numpy.typing as npt
from _measure import Figures, fastest, report

from sparkrec.retrieval.search.index import VectorIndex
from sparkrec.retrieval.search.settings import Retrieval

K = 20
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def search_and_filter(index: faiss.IndexFlatIP, queries: Floats, seen: Ints) -> Ints:
    """The K best unseen items of each query, out of K + seen that faiss finds."""
    _, found = index.search(queries, K + seen.shape[1])
    free = ~(found[:, :, None] == seen[:, None, :]).any(axis=2)
    first = np.argsort(~free, axis=1, kind="stable")[:, :K]
    return np.take_along_axis(found, first, axis=1)


def main() -> None:
    """Print the machine, a table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--seen", type=int, default=50, help="items that each query has seen")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    random = np.random.default_rng(1)
    vectors = random.standard_normal((options.items, options.dim), np.float32)
    queries = random.standard_normal((options.queries, options.dim), np.float32)
    seen = random.integers(0, options.items, (options.queries, options.seen))
    pairs = np.repeat(np.arange(options.queries), options.seen), seen.ravel()
    ours = VectorIndex.build(vectors, Retrieval(index="Flat"), np.arange(options.items))
    theirs = faiss.IndexFlatIP(options.dim)
    theirs.add(vectors)

    repeats = options.repeats
    (_, our_items), our_seconds = fastest(lambda: ours.search(queries, K), repeats)
    (_, their_items), their_seconds = fastest(lambda: theirs.search(queries, K), repeats)
    (_, our_unseen), our_masked = fastest(lambda: ours.search(queries, K, pairs), repeats)
    their_unseen, their_filtered = fastest(
        lambda: search_and_filter(theirs, queries, seen), repeats
    )
    rows: dict[str, Figures] = {
        "sparkrec": {"seconds": our_seconds, "seen_excluded_seconds": our_masked},
        "faiss": {"seconds": their_seconds, "seen_excluded_seconds": their_filtered},
    }
    ratios = {
        "to faiss": our_seconds / their_seconds,
        "to faiss, seen excluded": our_masked / their_filtered,
        "same items": float((our_items == their_items).mean()),
        "same items, seen excluded": float((our_unseen == their_unseen).mean()),
    }
    report(rows, ratios)


if __name__ == "__main__":
    main()
