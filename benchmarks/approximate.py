"""IVF and HNSW with seen items left out: one search of a whole batch against a selector a query.

Run by `make bench`. Item vectors are clustered, made with a seed, as are queries; half of the items
that a query has seen are its nearest. The reference gives faiss a bitmap of the catalogue for every
query. Seconds are CPU seconds, of one thread, the least of `--repeats`; recall is against exact
search. HNSW has fewer vectors, since building it is slow.
"""

import argparse
from functools import partial

import faiss
import numpy as np
import numpy.typing as npt
from _measure import Figures, least_cpu, report

from sparkrec.retrieval.search.index import VectorIndex
from sparkrec.retrieval.search.settings import Retrieval
from sparkrec.retrieval.search.topk import Floats, Ints

K, CENTRES, SPREAD = 20, 200, 0.7


def make_vectors(rows: int, dim: int, seed: int) -> Floats:
    """Unit vectors around 200 centres."""
    centres = np.random.default_rng(0).standard_normal((CENTRES, dim), np.float32)
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(0, CENTRES, rows)]
    vectors += np.float32(SPREAD) * rng.standard_normal((rows, dim), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_selectors(index: VectorIndex, queries: Floats, seen: Ints) -> tuple[Floats, Ints]:
    """The reference."""
    parts = []
    for query, items in zip(queries, seen, strict=True):
        mask = np.ones(index.faiss_index.ntotal, bool)
        mask[items] = False
        parts.append(index.search(query[None], K, allowed=mask))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def recall(found: Ints, wanted: Ints) -> float:
    """The share of the wanted items that were found."""
    return float((found[:, :, None] == wanted[:, None, :]).any(axis=2).sum() / wanted.size)


def compare(
    kind: str, items: int, options: argparse.Namespace
) -> tuple[dict[str, Figures], dict[str, float]]:
    """Figures and ratios of one kind of index."""
    vectors = make_vectors(items, options.dim, seed=1)
    queries = make_vectors(options.queries, options.dim, seed=2)
    order = np.arange(items)
    exact = VectorIndex.build(vectors, Retrieval(), order)
    near = exact.search(queries, options.seen // 2)[1]
    far = np.random.default_rng(3).integers(0, items, (len(queries), options.seen - near.shape[1]))
    seen = np.concatenate([near, far], axis=1)
    pairs = np.repeat(np.arange(len(queries)), options.seen), seen.ravel()
    wanted = exact.search(queries, K, pairs)[1]
    faiss.omp_set_num_threads(options.build_threads)
    index = VectorIndex.build(vectors, Retrieval(index=kind), order)
    faiss.omp_set_num_threads(1)
    index.search(queries[:1], K, (np.zeros(1, np.int64), seen[0, :1]))  # compiles
    rows: dict[str, Figures] = {}
    for name, search in (
        ("one search", partial(index.search, queries, K, pairs)),
        ("a selector each", partial(by_selectors, index, queries, seen)),
    ):
        (_, found), seconds = least_cpu(search, options.repeats)
        rows[f"{kind}, {name}"] = {
            "items": items,
            "cpu_seconds": seconds,
            "queries_per_second": len(queries) / seconds,
            "recall": recall(found, wanted),
            "seen_given": int(_hits(found, seen)),
        }
    ours, theirs = (row["queries_per_second"] for row in rows.values())
    return rows, {f"{kind}: queries a second, to a selector each": ours / theirs}


def _hits(found: Ints, seen: npt.NDArray[np.int64]) -> np.int64:
    return (found[:, :, None] == seen[:, None, :]).sum()


def main() -> None:
    """Print the machine, a table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--ivf-items", type=int, default=200_000)
    parser.add_argument("--ivf", default="IVF1024,Flat")
    parser.add_argument("--hnsw-items", type=int, default=50_000)
    parser.add_argument("--hnsw", default="HNSW32")
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--seen", type=int, default=50, help="items that each query has seen")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--build-threads", type=int, default=faiss.omp_get_max_threads())
    options = parser.parse_args()
    rows: dict[str, Figures] = {}
    ratios: dict[str, float] = {}
    for kind, items in ((options.ivf, options.ivf_items), (options.hnsw, options.hnsw_items)):
        more_rows, more_ratios = compare(kind, items, options)
        rows |= more_rows
        ratios |= more_ratios
    report(rows, ratios)


if __name__ == "__main__":
    main()
