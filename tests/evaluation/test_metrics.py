"""Metrics: by hand, against Spark's own evaluator, and for input that is wrong."""

from math import log2
from typing import Any

import numpy as np
import pytest
from pyspark.ml.evaluation import RankingEvaluator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.errors import DataError
from sparkrec.evaluation.metrics import Evaluation, count_items, evaluate

LISTS = "query_id long, recommended array<struct<item_id: int, score: double>>"
QUERIES = "query_id long, user_id string, relevant array<int>"
COUNTS = "item int, count long"


def lists_of(spark: SparkSession, lists: dict[int, list[int]]) -> DataFrame:
    rows = [
        (query, [(item, -float(place)) for place, item in enumerate(items)])
        for query, items in lists.items()
    ]
    return spark.createDataFrame(rows, LISTS)


@pytest.fixture(scope="module")
def counts(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([(item, item * 10) for item in range(1, 6)], COUNTS)


@pytest.fixture(scope="module")
def small(spark: SparkSession, counts: DataFrame) -> Evaluation:
    """Query 1 finds one of its two items second, 2 finds its one in a short list, 3 has no list."""
    recommendations = lists_of(spark, {1: [1, 2, 3], 2: [4], 9: [5]})
    queries = spark.createDataFrame(
        [(1, "a", [2, 5]), (2, "a", [4]), (3, "b", [1]), (4, "b", []), (5, "b", None)], QUERIES
    )
    return evaluate(recommendations, queries, "user_id", counts, ks=(2, 1), replicates=50)


def test_golden_at_2(small: Evaluation) -> None:
    second = 1 / log2(3)
    expected = {
        "precision@2": (1 / 2 + 1 / 2 + 0) / 3,
        "recall@2": (1 / 2 + 1 / 1 + 0) / 3,
        "f1@2": (2 * 1 / (2 + 2) + 2 * 1 / (2 + 1) + 0) / 3,
        "hit@2": (1 + 1 + 0) / 3,
        "mrr@2": (1 / 2 + 1 / 1 + 0) / 3,
        "map@2": ((1 / 2) / min(2, 2) + (1 / 1) / min(1, 2) + 0) / 3,
        "ndcg@2": (second / (1 + second) + 1 / 1 + 0) / 3,
        "coverage@2": len({1, 2, 4}) / 5,
        "popularity@2": (10 + 20 + 40) / 3,
    }
    found = {name: value for name, value in small.metrics.items() if name.endswith("@2")}
    assert found == pytest.approx(expected, abs=1e-6)


def test_golden_at_1(small: Evaluation) -> None:
    # Only query 2 has a hit in the first place.
    for name in ("precision", "recall", "f1", "hit", "mrr", "map", "ndcg"):
        assert small.metrics[f"{name}@1"] == pytest.approx(1 / 3, abs=1e-6)
    assert "coverage@1" not in small.metrics


def test_rows_without_a_relevant_item_do_not_count(small: Evaluation) -> None:
    assert small.n == 3


def test_every_metric_has_an_interval_around_it(small: Evaluation) -> None:
    assert list(small.interval95) == list(small.metrics)
    for name, (low, high) in small.interval95.items():
        assert low <= small.metrics[name] <= high, name


def test_coverage_interval_is_the_jackknife(small: Evaluation) -> None:
    # a alone got 3 items, b none: (2 - 1) / 2 * (1.5^2 + 1.5^2) = 2.25 = 1.5^2, over 5 items.
    margin = 1.96 * 1.5 / 5
    assert small.interval95["coverage@2"] == pytest.approx((0.6 - margin, 1.0), abs=1e-6)


def random_case(spark: SparkSession, most_relevant: int) -> tuple[DataFrame, DataFrame, DataFrame]:
    rng = np.random.default_rng(most_relevant)
    lists, queries = {}, []
    for query in range(80):
        lists[query] = rng.permutation(40)[: rng.integers(0, 16)].tolist()
        relevant = rng.permutation(40)[: rng.integers(1, most_relevant + 1)].tolist()
        queries.append((query, f"u{rng.integers(20)}", relevant))
    counts = spark.createDataFrame([(item, item) for item in range(40)], COUNTS)
    return lists_of(spark, lists), spark.createDataFrame(queries, QUERIES), counts


@pytest.mark.parametrize("most_relevant", [1, 15])
def test_agrees_with_spark(spark: SparkSession, most_relevant: int) -> None:
    recommendations, queries, counts = random_case(spark, most_relevant)
    ours = evaluate(recommendations, queries, "user_id", counts, ks=(3, 10), replicates=10)
    pairs = recommendations.join(queries, "query_id").select(
        F.expr("cast(recommended.item_id as array<double>)").alias("prediction"),
        F.expr("cast(relevant as array<double>)").alias("label"),
    )
    pairs.cache()
    for k in (3, 10):
        for ours_name, spark_name in (
            ("precision", "precisionAtK"),
            ("recall", "recallAtK"),
            ("map", "meanAveragePrecisionAtK"),
            ("ndcg", "ndcgAtK"),
        ):
            evaluator = RankingEvaluator(metricName=spark_name, k=k)
            expected = evaluator.evaluate(pairs)
            assert ours.metrics[f"{ours_name}@{k}"] == pytest.approx(expected, abs=1e-6)
    pairs.unpersist()


def test_string_ids_and_repeated_or_null_relevant_items(spark: SparkSession) -> None:
    recommendations = spark.createDataFrame(
        [("s1", [("x", 2.0), ("y", 1.0)])],
        "query_id string, recommended array<struct<item_id: string, score: double>>",
    )
    queries = spark.createDataFrame(
        [("s1", 7, ["y", "y", None]), ("s2", 7, [None])],
        "query_id string, user_id int, relevant array<string>",
    )
    events = spark.createDataFrame([("x",), ("x",), ("y",), ("z",)], "movie string")
    found = evaluate(
        recommendations, queries, "user_id", count_items(events, "movie"), ks=(2,), replicates=9
    )
    assert found.n == 1
    assert found.metrics["recall@2"] == 1.0
    assert found.metrics["mrr@2"] == 0.5
    assert found.metrics["popularity@2"] == 1.5
    assert found.metrics["coverage@2"] == pytest.approx(2 / 3, abs=1e-6)


def test_items_outside_the_catalogue_add_nothing(spark: SparkSession, counts: DataFrame) -> None:
    queries = spark.createDataFrame([(1, "a", [1])], QUERIES)
    found = evaluate(
        lists_of(spark, {1: [1, 99]}), queries, "user_id", counts, ks=(2,), replicates=9
    )
    assert found.metrics["coverage@2"] == 1 / 5
    assert found.metrics["popularity@2"] == (10 + 0) / 2


def test_no_recommendations_at_all_is_a_miss(spark: SparkSession, counts: DataFrame) -> None:
    queries = spark.createDataFrame([(1, "a", [1])], QUERIES)
    found = evaluate(lists_of(spark, {}), queries, "user_id", counts, ks=(2,), replicates=9)
    assert found.n == 1
    assert set(found.metrics.values()) == {0.0}


def bad_inputs(spark: SparkSession) -> dict[str, tuple[DataFrame, DataFrame]]:
    good = lists_of(spark, {1: [1]})
    queries = spark.createDataFrame([(1, "a", [1])], QUERIES)
    texts = spark.createDataFrame([(1, "a", ["1"])], QUERIES.replace("int", "string"))
    return {
        "recommendations has more than one row with query_id 1": (good.union(good), queries),
        "queries has more than one row with query_id 1": (good, queries.union(queries)),
        "recommended twice for query_id 1": (lists_of(spark, {1: [1, 1]}), queries),
        "recommended items are int but those of queries.relevant are string": (good, texts),
        "queries has no column 'user_id'": (good, queries.drop("user_id")),
        "must be array<struct<item_id, score>>": (
            good.withColumn("recommended", F.col("recommended.item_id")),
            queries,
        ),
        "query_id is null": (
            good,
            queries.withColumn("query_id", F.lit(None).cast("long")),
        ),
        "no query has a relevant item": (
            good,
            queries.withColumn("relevant", F.array().cast("array<int>")),
        ),
    }


def test_wrong_input_is_a_data_error(spark: SparkSession, counts: DataFrame) -> None:
    for message, (recommendations, queries) in bad_inputs(spark).items():
        with pytest.raises(DataError, match=message.replace("<", ".")):
            evaluate(recommendations, queries, "user_id", counts, ks=(2,), replicates=9)


def test_catalogue_must_count_each_item_once(spark: SparkSession, counts: DataFrame) -> None:
    queries = spark.createDataFrame([(1, "a", [1])], QUERIES)
    lists = lists_of(spark, {1: [1]})
    with pytest.raises(DataError, match="10 rows but 5 distinct"):
        evaluate(lists, queries, "user_id", counts.union(counts), replicates=9)
    with pytest.raises(DataError, match="item_counts is empty"):
        evaluate(lists, queries, "user_id", counts.limit(0), replicates=9)
    with pytest.raises(DataError, match="ks must be"):
        evaluate(lists, queries, "user_id", counts, ks=())


def test_a_catalogue_that_the_caller_keeps_stays_kept(spark: SparkSession) -> None:
    counts = spark.createDataFrame([(1, 1), (2, 1)], COUNTS).persist()
    queries = spark.createDataFrame([(1, "a", [1])], QUERIES)
    evaluate(lists_of(spark, {1: [1]}), queries, "user_id", counts, ks=(1,), replicates=9)
    assert counts.storageLevel.useMemory
    counts.unpersist()


def test_conservative_ties(spark: SparkSession, counts: DataFrame) -> None:
    """Behind every item with its score; nowhere where a tie goes on to the end of a full list."""
    scores = {
        1: [(1, 3.0), (2, 2.0), (3, 2.0), (4, 1.0)],  # 2 ties with 3: third
        2: [(1, 3.0), (2, 2.0), (3, 1.0), (4, 1.0)],  # 3 ties to the end of a full list
        3: [(1, 1.0), (2, 1.0)],  # a short list ends for want of items: second
        4: [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)],  # the last place, and no tie that shows
        5: [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)],  # a model that says nothing finds nothing
        6: [(1, 1.0)],
    }
    recommendations = spark.createDataFrame(list(scores.items()), LISTS)

    def found(relevant: dict[int, int], ties: str) -> tuple[float, float]:
        """Sums over queries of 1 / rank and of the hits."""
        rows = [(query, "a", [item]) for query, item in relevant.items()]
        queries = spark.createDataFrame(rows, QUERIES)
        metrics = evaluate(recommendations, queries, "user_id", counts, (4,), 2, ties=ties).metrics
        return len(rows) * metrics["mrr@4"], len(rows) * metrics["recall@4"]

    placed = found({1: 2, 3: 1, 4: 4}, "conservative")
    assert placed == pytest.approx((1 / 3 + 1 / 2 + 1 / 4, 3), abs=1e-6)
    assert found({2: 3, 5: 1, 6: 9}, "conservative") == (0, 0)
    assert found({5: 1}, "by_id") == pytest.approx((1, 1))


def test_the_last_query_of_each_user_is_also_evaluated_apart(
    spark: SparkSession, counts: DataFrame
) -> None:
    """Query 2 is the last of a, 3 the only one of b; 4, the last of all, does not count."""
    recommendations = lists_of(spark, {1: [1, 2], 2: [4, 1], 3: [3, 1], 4: [5, 2]})
    rows = [
        (1, "a", [1], [9]),
        (2, "a", [1], [9, 1]),
        (3, "b", [3], [9]),
        (4, "a", [], [9, 1, 1]),
    ]
    queries = spark.createDataFrame(rows, f"{QUERIES}, history array<int>")
    settings: dict[str, Any] = {"ks": (2,), "replicates": 50}
    found = evaluate(
        recommendations, queries, "user_id", counts, last_apart=True, **settings
    ).groups
    assert found.keys() == {"last item"}
    assert (found["last item"].n, found["last item"].metrics["mrr@2"]) == (2, 0.75)
    assert not evaluate(recommendations, queries, "user_id", counts, **settings).groups
    with pytest.raises(DataError, match="no column history"):
        bare = queries.drop("history")
        evaluate(recommendations, bare, "user_id", counts, last_apart=True, **settings)


def test_queries_without_a_history_are_also_evaluated_apart(
    spark: SparkSession, counts: DataFrame
) -> None:
    """Queries 1 and 2 have a history, 3 has an empty one and 4 a null; 5 does not count."""
    recommendations = lists_of(spark, {1: [1, 2], 2: [4, 1], 3: [3, 1], 4: [5, 2], 5: [1, 2]})
    rows = [
        (1, "a", [2], [9]),
        (2, "b", [3], [9]),
        (3, "a", [3], []),
        (4, "c", [1], None),
        (5, "d", [], []),
    ]
    queries = spark.createDataFrame(rows, f"{QUERIES}, history array<int>")
    found = evaluate(recommendations, queries, "user_id", counts, ks=(2,), replicates=50)
    assert (found.n, found.metrics["mrr@2"]) == (4, pytest.approx((0.5 + 1) / 4))
    assert {
        name: (part.n, part.metrics["mrr@2"], part.metrics["hit@2"])
        for name, part in found.groups.items()
    } == {"with history": (2, 0.25, 0.5), "without history": (2, 0.5, 0.5)}
    low, high = found.groups["without history"].interval95["mrr@2"]
    assert low <= 0.5 <= high

    # The figure of all queries is the one without the column, and one kind alone is no group.
    plain = evaluate(
        recommendations, queries.drop("history"), "user_id", counts, ks=(2,), replicates=50
    )
    assert (plain.n, plain.metrics, plain.interval95) == (
        *(found.n, found.metrics, found.interval95),
    )
    assert plain.groups == {}
    some = queries.where("query_id < 3")
    assert not evaluate(recommendations, some, "user_id", counts, replicates=9).groups
