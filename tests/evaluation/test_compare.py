"""The paired bootstrap of two evaluations."""

from collections.abc import Sequence

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.errors import DataError
from sparkrec.evaluation.compare import compare
from sparkrec.evaluation.metrics import Evaluation, evaluate

USERS = 400


def lists(spark: SparkSession, hits: Sequence[bool]) -> DataFrame:
    """A query a user, whose item is found or not."""
    rows = [(user, [(user if hit else -1, 1.0)]) for user, hit in enumerate(hits)]
    return spark.createDataFrame(
        rows, "query_id long, recommended array<struct<item_id long, score double>>"
    ).coalesce(1)


def evaluated(spark: SparkSession, hits: Sequence[bool], seed: int = 0) -> Evaluation:
    queries = spark.createDataFrame(
        [(user, user, [user]) for user in range(len(hits))],
        "query_id long, user_id long, relevant array<long>",
    )
    counts = spark.createDataFrame([(-1, 1)], "item long, count long")
    return evaluate(lists(spark, hits), queries, "user_id", counts, (5,), seed=seed)


def test_the_interval_is_that_of_paired_differences(spark: SparkSession) -> None:
    """Two models that find the same easy users differ by little, and surely."""
    rng = np.random.default_rng(0)
    easy = rng.random(USERS) < 0.5
    one, other = easy | (rng.random(USERS) < 0.1), easy & (rng.random(USERS) < 0.98)
    first, second = evaluated(spark, one), evaluated(spark, other)
    found = compare([first], [second])["recall@5"]
    differences = one.astype(float) - other
    assert (found.first, found.second) == (one.mean(), other.mean())
    assert found.difference == pytest.approx(differences.mean(), abs=1e-6)
    error = differences.std() / USERS**0.5
    low, high = found.interval95
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.15)
    assert low > 0
    # The intervals of the two models, which are not paired, overlap.
    assert second.interval95["recall@5"][1] > first.interval95["recall@5"][0]
    reverse = compare([second], [first])["recall@5"]
    assert reverse.interval95 == (-high, -low)
    same = compare([first], [first])["recall@5"]
    assert (same.difference, same.interval95) == (0, (0, 0))


def test_runs_of_a_model_are_averaged(spark: SparkSession) -> None:
    rng = np.random.default_rng(1)
    hits = [rng.random(USERS) < 0.5 for _ in range(4)]
    runs = [evaluated(spark, hit) for hit in hits]
    found = compare(runs[:3], runs[3:])["recall@5"]
    mean = np.mean(hits[:3], axis=0)
    assert found.first == pytest.approx(mean.mean(), abs=1e-6)
    error = (mean - hits[3]).std() / USERS**0.5
    low, high = found.interval95
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.15)


def test_groups_and_mistakes(spark: SparkSession) -> None:
    rng = np.random.default_rng(2)
    first, second = (evaluated(spark, rng.random(USERS) < 0.5) for _ in range(2))
    part = Evaluation(3, {"recall@5": 0.5}, {}, {}, {"recall@5": np.array([0.5, np.nan])})
    other = Evaluation(3, {"recall@5": 0.25}, {}, {}, {"recall@5": np.array([0.25, np.nan])})
    first.groups["cold"], second.groups["cold"] = part, other
    first.groups["warm"] = part
    found = compare([first], [second])
    assert found["recall@5, cold"].interval95 == (0.25, 0.25)
    assert "recall@5, warm" not in found and "coverage@5" not in found
    with pytest.raises(DataError, match="different queries"):
        compare([first], [evaluated(spark, rng.random(USERS - 1) < 0.5)])
    with pytest.raises(DataError, match="different numbers of bootstrap replicates"):
        compare([part], [Evaluation(3, {"recall@5": 0.5}, {}, {}, {"recall@5": np.zeros(3)})])
