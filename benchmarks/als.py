"""ALS: ours, on Spark MLlib, against `implicit`'s AlternatingLeastSquares, quality beside speed.

DATA is a folder with `train` and `test` as jobs/match_dataset.py makes them. Both get the same
factors, iterations and confidences (what MLlib calls alpha is 1 less than what `implicit` does).
MLlib multiplies the regularisation by a row's number of ratings and `implicit` does not, so by
default `implicit` gets `reg_param` times the geometric mean of the ratings of an average user and
an average item, at which an average row is regularised alike.

Timed are the fit, and the top 20 for every test row with seen items excluded; not the start of the
session, reading, or a small fit beforehand. `implicit` runs in a child process of its own.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import psutil
from pyspark.sql import DataFrame, SparkSession
from scipy import sparse  # type: ignore[import-untyped]

from sparkrec.baselines.als import ALS, ALSConfig, ALSModel
from sparkrec.session import open_session

K = 20
SEED = 1
Lists = dict[int, list[Any]]


@contextmanager
def peak_memory(found: dict[str, float]) -> Iterator[None]:
    """Note the largest resident memory, in GB, of the driver, the JVM and the Python workers."""
    stop = threading.Event()
    driver = psutil.Process()

    def sample() -> None:
        while not stop.wait(0.1):
            sizes = {"driver_gb": driver.memory_info().rss, "jvm_gb": 0, "workers_gb": 0}
            for child in driver.children(recursive=True):
                try:
                    kind = "jvm_gb" if child.name() == "java" else "workers_gb"
                    sizes[kind] += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            for kind, size in sizes.items():
                found[kind] = max(found.get(kind, 0.0), size / 2**30)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield
    finally:
        stop.set()
        sampler.join()


def quality(lists: Lists, relevant: dict[int, list[Any]]) -> dict[str, float]:
    """recall@20 and ndcg@20 over the test rows, as sparkrec.evaluation.metrics has them."""
    recall, ndcg = 0.0, 0.0
    for query, wanted in relevant.items():
        places = [at for at, item in enumerate(lists.get(query, []), start=1) if item in wanted]
        ideal = sum(1 / np.log2(at + 1) for at in range(1, min(len(wanted), K) + 1))
        recall += len(places) / len(wanted)
        ndcg += sum(1 / np.log2(at + 1) for at in places) / ideal
    return {"recall@20": recall / len(relevant), "ndcg@20": ndcg / len(relevant)}


def answer(model: ALSModel, test: DataFrame, **params: Any) -> tuple[Lists, float]:
    """Ours: the lists of every test row, and the seconds that they took."""
    start = perf_counter()
    asked = model.copy().set_params(k=K, exclude_seen=True, **params).transform(test)
    rows = asked.select("query_id", "recommended.item_id").toArrow().to_pylist()
    return {row["query_id"]: row["item_id"] for row in rows}, perf_counter() - start


def run_ours(spark: SparkSession, data: str, columns: tuple[str, str], config: ALSConfig) -> Any:
    """One row of figures for the users' own vectors, one for the history folded in."""
    user, item = columns
    train = spark.read.parquet(f"{data}/train").select(user, item).cache()
    test = spark.read.parquet(f"{data}/test").select("query_id", user, "history", "relevant")
    relevant = {row["query_id"]: row["relevant"] for row in test.cache().collect()}
    train.count()
    params = {**asdict(config), "user_col": user, "item_col": item, "seed": SEED}
    ALS(**{**params, "max_iter": 1, "rank": 2}).fit(train.limit(1000))
    memory: dict[str, float] = {}
    with peak_memory(memory):
        start = perf_counter()
        model = ALS(**params).fit(train)
        fit = perf_counter() - start
        assert isinstance(model, ALSModel)
        rows = {}
        for name, how in (
            ("ours", {"fold_in": "factors"}),
            ("ours, history folded in", {"fold_in": "history"}),
            ("ours, recent history", {"fold_in": "history", "decay": 0.8, "max_history": 50}),
        ):
            lists, seconds = answer(model, test, **how)
            rows[name] = {"fit_seconds": fit, "recommend_seconds": seconds}
            rows[name] |= quality(lists, relevant)
    return {name: row | memory for name, row in rows.items()}


def run_implicit(
    data: str, columns: tuple[str, str], config: ALSConfig, regularization: float | None
) -> dict[str, float]:
    """The same for `implicit`, on the matrix of the train's (user, item) counts."""
    from implicit.cpu.als import AlternatingLeastSquares  # type: ignore[import-untyped]

    user, item = columns
    train = pd.read_parquet(f"{data}/train", columns=[user, item])
    test = pd.read_parquet(f"{data}/test", columns=["query_id", user, "history", "relevant"])
    test = test[test[user].isin(train[user])]
    rows, users = pd.factorize(train[user])
    places, items = pd.factorize(train[item])
    shape = (len(users), len(items))
    matrix = sparse.csr_matrix((np.ones(len(train), np.float32), (rows, places)), shape)
    if regularization is None:
        regularization = config.reg_param * matrix.nnz / np.sqrt(len(users) * len(items))
    seen = items.get_indexer(np.concatenate(test["history"].to_numpy()))
    lengths = test["history"].str.len().to_numpy()
    mask = sparse.csr_matrix(
        (np.ones(len(seen), np.float32), seen, np.append(0, np.cumsum(lengths))),
        (len(test), len(items)),
    )
    model = AlternatingLeastSquares(
        factors=config.rank,
        regularization=regularization,
        iterations=config.max_iter,
        random_state=SEED,
    )
    # Confidence 1 + alpha * count, which implicit takes as it is.
    matrix.data = 1 + config.alpha * matrix.data
    start = perf_counter()
    model.fit(matrix, show_progress=False)
    fit = perf_counter() - start
    start = perf_counter()
    found, _ = model.recommend(users.get_indexer(test[user]), mask, N=K)
    seconds = perf_counter() - start
    lists = {
        query: list(items[given])
        for query, given in zip(test["query_id"].tolist(), found, strict=True)
    }
    relevant = dict(zip(test["query_id"], test["relevant"].map(list), strict=True))
    figures = {"fit_seconds": fit, "recommend_seconds": seconds, **quality(lists, relevant)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return figures | {"regularization": regularization, "driver_gb": peak}


def main() -> None:
    """Print the machine, a table, and the same as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--user", default="user_id")
    parser.add_argument("--item", default="movie_id")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--reg-param", type=float, default=0.01)
    parser.add_argument("--alpha", type=float, default=4.0)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--regularization", type=float, help="of implicit, in place of the default")
    options = parser.parse_args()
    config = ALSConfig(
        rank=options.rank,
        reg_param=options.reg_param,
        alpha=options.alpha,
        max_iter=options.iterations,
        num_user_blocks=options.blocks,
        num_item_blocks=options.blocks,
    )
    columns = (options.user, options.item)
    # implicit has threads of its own, and warns of BLAS having some too.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        theirs = pool.apply(run_implicit, (options.data, columns, config, options.regularization))
        pool.close()
        pool.join()
    spark = open_session("benchmark als", {"spark.driver.memory": "4g"})
    rows = {**run_ours(spark, options.data, columns, config), "implicit": theirs}
    spark.stop()
    ratios = {
        "fit_to_implicit": rows["ours"]["fit_seconds"] / theirs["fit_seconds"],
        "recall_to_implicit": rows["ours"]["recall@20"] / theirs["recall@20"],
    }
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {config}")
    print(pd.DataFrame(rows).T.to_string(float_format=lambda value: f"{value:.4f}"))
    for name, value in ratios.items():
        print(f"{name:24s} {value:.3f}")
    print(json.dumps({"config": asdict(config), "rows": rows, **ratios}))


if __name__ == "__main__":
    main()
