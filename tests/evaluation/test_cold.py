"""Figures of cold and of warm targets, against a plain loop; intervals over users and items."""

from math import log2

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.errors import DataError
from sparkrec.evaluation.bootstrap import bootstrap_sums
from sparkrec.evaluation.cold import AMONG_COLD, AMONG_WARM, COLD, WARM, evaluate_cold

ITEMS, QUERIES, K = 60, 300, 10
COLD_ITEMS = {item: 86_400 * (item - 40) for item in range(40, ITEMS)}
NOW = 86_400 * 30
LISTS = "query_id long, recommended array<struct<item_id long, score double>>"


def ranked(rng: np.random.Generator, items: list[int], k: int) -> list[tuple[int, float]]:
    return [(int(item), 1.0) for item in rng.permutation(items)[:k]]


@pytest.fixture(scope="module")
def data() -> tuple[dict[int, list[tuple[int, float]]], dict[int, list[tuple[int, float]]], list]:
    rng = np.random.default_rng(3)
    lists = {query: ranked(rng, list(range(ITEMS)), K) for query in range(QUERIES - 5)}
    cold = {query: ranked(rng, list(COLD_ITEMS), K) for query in range(QUERIES)}
    queries = [
        (query, query % 40, NOW, [int(i) for i in rng.choice(ITEMS, rng.integers(0, 4))])
        for query in range(QUERIES)
    ]
    return lists, cold, queries


def frames(spark: SparkSession, data: tuple) -> tuple[DataFrame, DataFrame, DataFrame, DataFrame]:
    lists, cold, queries = data
    known = list(COLD_ITEMS.items())
    return (
        spark.createDataFrame(list(lists.items()), LISTS),
        spark.createDataFrame(list(cold.items()), LISTS),
        spark.createDataFrame(
            queries, "query_id long, user_id long, timestamp long, relevant array<long>"
        ),
        spark.createDataFrame(known, "item long, first_seen long"),
    )


def test_against_a_loop(spark: SparkSession, data: tuple) -> None:
    recommended, among_cold, queries, cold = frames(spark, data)
    warm = {query: [pair for pair in given if pair[0] < 40] for query, given in data[0].items()}
    among = {AMONG_COLD: among_cold, AMONG_WARM: spark.createDataFrame(list(warm.items()), LISTS)}
    found = evaluate_cold(
        recommended, among, queries, "user_id", cold, (5, K), "timestamp", replicates=50
    )
    values: dict[str, list[int]] = {}
    for query, _, _, relevant in data[2]:
        for target in dict.fromkeys(relevant):
            place = places(data[0].get(query, []), target)
            values.setdefault("", []).append(place)
            if target not in COLD_ITEMS:
                values.setdefault(WARM, []).append(place)
                values.setdefault(AMONG_WARM, []).append(places(warm.get(query, []), target))
                continue
            values.setdefault(COLD, []).append(place)
            values.setdefault(AMONG_COLD, []).append(places(data[1][query], target))
            days = (NOW - COLD_ITEMS[target]) / 86_400
            name = "first four weeks" if days < 28 else "older"
            values.setdefault(f"cold, {name}", []).append(place)
    assert set(found.groups) == set(values) - {""}
    for group, expected in values.items():
        part = found.groups[group] if group else found
        assert part.n == len(expected)
        for k in (5, K):
            hits = [place if 0 < place <= k else 0 for place in expected]
            gains = {
                "recall": [float(place > 0) for place in hits],
                "mrr": [1 / place if place else 0.0 for place in hits],
                "ndcg": [1 / log2(place + 1) if place else 0.0 for place in hits],
            }
            for name, gain in gains.items():
                metric = f"{name}@{k}"
                assert part.metrics[metric] == pytest.approx(np.mean(gain), abs=1e-6)
                low, high = part.interval95[metric]
                assert low <= part.metrics[metric] <= high
    shown = [item in COLD_ITEMS for given in data[0].values() for item, _ in given]
    assert found.metrics[f"cold_share@{K}"] == pytest.approx(np.mean(shown), abs=1e-6)


def places(given: list[tuple[int, float]], target: int) -> int:
    items = [item for item, _ in given]
    return items.index(target) + 1 if target in items else 0


def test_nothing_to_evaluate(spark: SparkSession, data: tuple) -> None:
    recommended, among_cold, queries, cold = frames(spark, data)
    with pytest.raises(DataError, match="no query has a relevant item"):
        evaluate_cold(
            recommended, {AMONG_COLD: among_cold}, queries.where("false"), "user_id", cold
        )


def test_intervals_are_over_users_and_items(spark: SparkSession) -> None:
    """Users differ, and so do items: both kinds of chance are in the interval."""
    rng = np.random.default_rng(5)
    users, items = rng.normal(0, 1, 60), rng.normal(0, 2, 30)
    rows = [
        (hash_of(user), hash_of(1000 + item), float(users[user] + items[item]))
        for user in range(60)
        for item in range(30)
    ]
    frame = spark.createDataFrame(rows, "u long, i long, value double").selectExpr("*", "1D AS one")

    def spread(*hashes: str) -> float:
        sums = bootstrap_sums(frame, hashes, ["value", "one"], 2000, 1)
        return float(np.std(sums[1:, 0] / sums[1:, 1]))

    of_users, of_items = np.std(users) / 60**0.5, np.std(items) / 30**0.5
    assert spread("u") == pytest.approx(of_users, rel=0.15)
    assert spread("i") == pytest.approx(of_items, rel=0.15)
    assert spread("u", "i") == pytest.approx(np.hypot(of_users, of_items), rel=0.15)


def hash_of(number: int) -> int:
    return int(np.random.default_rng(number).integers(-(2**62), 2**62))
