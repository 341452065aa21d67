"""Networks and ALS on odd tables: few rows, one item, long histories, odd ids."""

import math
from functools import partial
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkrec.baselines.als.als import ALS
from sparkrec.errors import SparkrecError
from sparkrec.retrieval.base import Retriever
from sparkrec.training.retrievers import DSSM, HRM, GRU4Rec, SASRec, SimpleX

Rows = list[tuple[Any, Any, int, int]]

NETWORK = {"epochs": 1, "batch_size": 4, "early_stopping": None, "seed": 1}
SMALL = {**NETWORK, "embedding_dim": 4, "num_negatives": 2}
RETRIEVERS: dict[str, Any] = {
    "als": partial(ALS, rank=2, max_iter=1, num_user_blocks=1, num_item_blocks=1),
    "dssm": partial(DSSM, hidden=(4,), **SMALL),
    "gru4rec": partial(GRU4Rec, hidden=(4,), embedding_dim=4, max_len=5, **NETWORK),
    "hrm": partial(HRM, max_len=5, **SMALL),
    "sasrec": partial(SASRec, dim=4, max_len=5, **NETWORK),
    "simplex": partial(SimpleX, max_len=5, **SMALL),
}
NAMES = tuple(RETRIEVERS)


def events(*users: tuple[Any, list[Any]], step: int = 1) -> Rows:
    """(user, item, timestamp, position) of users with their items, `step` seconds apart."""
    rows: Rows = []
    for user, items in users:
        rows += [(user, item, 100 + step * n, len(rows) + n) for n, item in enumerate(items)]
    return rows


TABLES: dict[str, Rows] = {
    "one row": events((1, [7])),
    "one user": events((1, [1, 2, 3, 4, 5, 6])),
    "one item": events(*((user, [7]) for user in range(6))),
    "one event per user": events(*((user, [user % 3]) for user in range(9))),
    "equal times": events(*((user, [1, 2, 3, 4]) for user in range(4)), step=0),
    "one item again and again": events((1, [7] * 8), (2, [7, 8] * 4)),
    "text of other scripts": events(
        *(
            (user, ["İ", "i", "\u0131", "I", "\U0001f600", "e\u0301", "é", " "])
            for user in ("ß", "ss", "\0")
        )
    ),
    "ids at the ends of int64": events(
        *((user, [-(2**63), 2**63 - 1, 0]) for user in (-1, 2**63 - 1))
    ),
}


def trained(
    spark: SparkSession, make: Any, rows: Rows, history: list[Any] | None = None, k: int = 50
) -> list[tuple[Any, float]] | str:
    """What a user of the rows is recommended by a model of them; or the error of a refusal."""
    kind = "string" if isinstance(rows[0][1], str) else "long"
    user = "string" if isinstance(rows[0][0], str) else "long"
    frame = spark.createDataFrame(
        rows, f"user_id {user}, item_id {kind}, timestamp long, position long"
    )
    estimator: Retriever = make(k=k, exclude_seen=False, fallback="global_hot")
    try:
        model = estimator.fit(frame)
    except SparkrecError as error:
        return str(error)
    asked = [(1, rows[0][0], [rows[0][1]] if history is None else history)]
    queries = spark.createDataFrame(asked, f"query_id long, user_id {user}, history array<{kind}>")
    (row,) = model.transform(queries).collect()
    return [(entry["item_id"], entry["score"]) for entry in row["recommended"]]


def check(answer: list[tuple[Any, float]] | str, rows: Rows) -> None:
    """All items of train, once each, with numbers as scores, best first; or one clear line."""
    if isinstance(answer, str):
        assert "\n" not in answer and len(answer) > 20
        return
    assert sorted(item for item, _ in answer) == sorted({row[1] for row in rows})
    scores = [score for _, score in answer]
    assert all(math.isfinite(score) for score in scores)
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("table", ["one row"])
@pytest.mark.parametrize("name", ["als", "sasrec"])
def test_odd_tables(spark: SparkSession, name: str, table: str) -> None:
    check(trained(spark, RETRIEVERS[name], TABLES[table]), TABLES[table])


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", NAMES)
def test_more_odd_tables(spark: SparkSession, name: str, table: str) -> None:
    check(trained(spark, RETRIEVERS[name], TABLES[table]), TABLES[table])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "als"])
@pytest.mark.parametrize(
    "odd",
    [
        {"batch_size": 1},
        {"embedding_dim": 1},
        {"loss": "softmax", "temperature": 1e-4},
        {"batch_size": 100_000},
    ],
    ids=str,
)
def test_odd_settings(spark: SparkSession, name: str, odd: dict[str, Any]) -> None:
    if "embedding_dim" in odd:
        # These two have further sizes.
        odd = {"gru4rec": {**odd, "hidden": (1,)}, "sasrec": {"dim": 2, "heads": 2}}.get(name, odd)
    rows = events(*((user, [1, 2, 3, user]) for user in range(8)))
    check(trained(spark, partial(RETRIEVERS[name], **odd), rows), rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_history_of_100_000_items(spark: SparkSession, name: str) -> None:
    long = [item % 500 for item in range(100_000)]
    rows = events((1, long), *((user, [user, user + 1]) for user in range(2, 6)))
    make = RETRIEVERS[name] if name == "als" else partial(RETRIEVERS[name], batch_size=4096)
    check(trained(spark, make, rows, history=long, k=600), rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["als", "sasrec"])
def test_nulls(spark: SparkSession, name: str) -> None:
    """A null id is refused, or its row is as if it were not there."""
    rows = events((1, [1, 2, 3]), (2, [2, 3, None]), (None, [1, 2]))
    whole = [row for row in rows if row[0] is not None and row[1] is not None]
    check(trained(spark, RETRIEVERS[name], rows), whole)
