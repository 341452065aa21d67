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
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from _measure import Figures, fastest, in_child, measure, report, start_session
from pyspark.sql import SparkSession
from scipy import sparse

from sparkrec.baselines.als.als import ALS, ALSConfig, ALSModel
from sparkrec.spark_versions import to_arrow

K = 20
SEED = 1
Lists = dict[int, list[Any]]


def quality(lists: Lists, relevant: dict[int, list[Any]]) -> dict[str, float]:
    """recall@20 and ndcg@20 over the test rows, as sparkrec.evaluation.metrics has them."""
    recall, ndcg = 0.0, 0.0
    for query, wanted in relevant.items():
        places = [at for at, item in enumerate(lists.get(query, []), start=1) if item in wanted]
        ideal = sum(1 / np.log2(at + 1) for at in range(1, min(len(wanted), K) + 1))
        recall += len(places) / len(wanted)
        ndcg += sum(1 / np.log2(at + 1) for at in places) / ideal
    return {"recall@20": recall / len(relevant), "ndcg@20": ndcg / len(relevant)}


def run_ours(
    spark: SparkSession, data: str, columns: tuple[str, str], config: ALSConfig
) -> dict[str, Figures]:
    """Figures of the fit, and of every way to answer the test rows."""
    user, item = columns
    train = spark.read.parquet(f"{data}/train").select(user, item).cache()
    test = spark.read.parquet(f"{data}/test").select("query_id", user, "history", "relevant")
    relevant = {row["query_id"]: row["relevant"] for row in test.cache().collect()}
    train.count()
    params = {**asdict(config), "user_col": user, "item_col": item, "seed": SEED}
    ALS(**{**params, "max_iter": 1, "rank": 2}).fit(train.limit(1000))
    model, fit = measure(spark, lambda: ALS(**params).fit(train))
    assert isinstance(model, ALSModel)

    def answer(how: dict[str, Any]) -> Lists:
        asked = model.copy().set_params(k=K, exclude_seen=True, **how).transform(test)
        rows = to_arrow(asked.select("query_id", "recommended.item_id")).to_pylist()
        return {row["query_id"]: row["item_id"] for row in rows}

    rows = {"sparkrec, fit": fit}
    for name, how in (
        ("users' vectors", {"fold_in": "factors"}),
        ("history", {"fold_in": "history"}),
        ("recent history", {"fold_in": "history", "decay": 0.8, "max_history": 50}),
    ):
        lists, figures = measure(spark, partial(answer, how))
        rows[f"sparkrec, {name}"] = figures | quality(lists, relevant)
    return rows


def run_implicit(
    data: str, columns: tuple[str, str], config: ALSConfig, regularization: float | None
) -> Figures:
    """The same for `implicit`, on the matrix of the train's (user, item) counts."""
    from implicit.cpu.als import AlternatingLeastSquares

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
    _, fit = fastest(lambda: model.fit(matrix, show_progress=False), 1)
    asked = users.get_indexer(test[user])
    (found, _), seconds = fastest(lambda: model.recommend(asked, mask, N=K), 1)
    lists = {
        query: list(items[given])
        for query, given in zip(test["query_id"].tolist(), found, strict=True)
    }
    relevant = dict(zip(test["query_id"], test["relevant"].map(list), strict=True))
    figures = {"seconds": seconds, "fit_seconds": fit, "regularization": regularization}
    return figures | quality(lists, relevant)


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
    theirs = in_child(run_implicit, options.data, columns, config, options.regularization)
    spark, started = start_session("als")
    print(f"session start {started:.1f} s, {config}")
    rows = run_ours(spark, options.data, columns, config)
    spark.stop()
    rows["implicit, fit"] = {"seconds": theirs.pop("fit_seconds"), "driver_gb": theirs["driver_gb"]}
    rows["implicit, users' vectors"] = theirs
    ours = rows["sparkrec, users' vectors"]
    ratios = {
        "fit to implicit's fit": rows["sparkrec, fit"]["seconds"]
        / rows["implicit, fit"]["seconds"],
        "recommend to implicit's recommend": ours["seconds"] / theirs["seconds"],
        "recall@20 to implicit's": ours["recall@20"] / theirs["recall@20"],
    }
    report(rows, ratios)


if __name__ == "__main__":
    main()
