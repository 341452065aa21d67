"""The bootstrap over users: its weights, its intervals, and what they must not depend on."""

from math import exp, factorial

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.evaluation.bootstrap import bootstrap_sums, interval, poisson_weights, ratios
from sparkrec.evaluation.metrics import Evaluation, evaluate


def test_weights_are_poisson_and_independent() -> None:
    weights = poisson_weights(np.arange(5000, dtype=np.int64), replicates=202, seed=0)
    assert weights.shape == (5000, 202)
    for count in range(5):
        share = float((weights == count).mean())
        assert share == pytest.approx(exp(-1) / factorial(count), abs=0.002)
    across = np.corrcoef(weights[:, :12].T) - np.eye(12)  # neighbouring replicates
    users = np.corrcoef(weights[:12]) - np.eye(12)  # neighbouring hashes
    assert np.abs(across).max() < 0.06
    assert np.abs(users).max() < 0.3


def test_weights_are_a_function_of_seed_user_and_replicate() -> None:
    hashes = np.array([5, -7, 11], dtype=np.int64)
    weights = poisson_weights(hashes, replicates=100, seed=1)
    assert np.array_equal(poisson_weights(hashes[::-1], 100, 1)[::-1], weights)
    assert np.array_equal(poisson_weights(hashes, 40, 1), weights[:, :40])
    assert not np.array_equal(poisson_weights(hashes, 100, 2), weights)


def test_row_0_has_the_plain_sums(spark: SparkSession) -> None:
    users = spark.createDataFrame([(1, 1.0, 2.0), (2, 3.0, 5.0)], "h long, a double, b double")
    sums = bootstrap_sums(users, "h", ["a", "b"], replicates=30, seed=3)
    weights = poisson_weights(np.array([1, 2], dtype=np.int64), 30, 3)
    assert sums[0].tolist() == [4.0, 7.0]
    assert np.allclose(sums[1:], weights.T @ np.array([[1.0, 2.0], [3.0, 5.0]]))


def test_replicates_without_a_user_are_left_out() -> None:
    low, high = interval(ratios(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 4.0])))
    assert (low, high) == (0.5, 0.5)
    assert interval(ratios(np.zeros(3), np.zeros(3))) == (0.0, 0.0)


def case(spark: SparkSession, users: int) -> tuple[DataFrame, DataFrame, DataFrame, np.ndarray]:
    """Three queries a user, whose luck goes by the user; also hits [users] of the three."""
    rng = np.random.default_rng(0)
    luck = rng.beta(1, 2, size=users)
    hit = rng.random((users, 3)) < luck[:, None]
    lists, queries = [], []
    for user in range(users):
        for turn in range(3):
            item = int(rng.integers(200))
            lists.append((3 * user + turn, [(item, 1.0)]))
            queries.append((3 * user + turn, user, [item if hit[user, turn] else 999]))
    return (
        spark.createDataFrame(
            lists, "query_id long, recommended array<struct<item_id: long, score: double>>"
        ),
        spark.createDataFrame(queries, "query_id long, user_id long, relevant array<long>"),
        spark.createDataFrame([(item, item) for item in range(200)], "item long, count long"),
        hit.sum(axis=1),
    )


@pytest.fixture(scope="module")
def large(spark: SparkSession) -> tuple[Evaluation, np.ndarray]:
    recommendations, queries, counts, hits = case(spark, 400)
    return evaluate(recommendations, queries, "user_id", counts, ks=(1,)), hits


@pytest.mark.slow
def test_interval_agrees_with_a_plain_bootstrap(large: tuple[Evaluation, np.ndarray]) -> None:
    evaluation, hits = large
    rng = np.random.default_rng(1)
    means = [rng.choice(hits, size=len(hits)).sum() / (3 * len(hits)) for _ in range(4000)]
    plain_low, plain_high = np.percentile(means, [2.5, 97.5])
    low, high = evaluation.interval95["recall@1"]
    assert low == pytest.approx(plain_low, abs=0.1 * (plain_high - plain_low))
    assert high == pytest.approx(plain_high, abs=0.1 * (plain_high - plain_low))
    assert low < evaluation.metrics["recall@1"] < high


@pytest.mark.slow
def test_interval_shrinks_with_users(
    spark: SparkSession, large: tuple[Evaluation, np.ndarray]
) -> None:
    recommendations, queries, counts, _ = case(spark, 50)
    few = evaluate(recommendations, queries, "user_id", counts, ks=(1,), replicates=400)
    for name in ("recall@1", "popularity@1"):
        wide, narrow = few.interval95[name], large[0].interval95[name]
        assert narrow[1] - narrow[0] < 0.6 * (wide[1] - wide[0])


@pytest.mark.slow
def test_evaluation_does_not_depend_on_partitioning(spark: SparkSession) -> None:
    recommendations, queries, counts, _ = case(spark, 60)
    found = [
        evaluate(
            recommendations.repartition(parts),
            queries.repartition(parts, "user_id"),
            "user_id",
            counts.repartition(parts),
            ks=(1, 2),
            replicates=200,
            seed=4,
        )
        for parts in (1, 5)
    ]
    assert found[0] == found[1]
    other_seed = evaluate(
        recommendations, queries, "user_id", counts, ks=(1, 2), replicates=200, seed=5
    )
    assert other_seed.metrics == found[0].metrics
    assert other_seed.interval95 != found[0].interval95
