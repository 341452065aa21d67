"""recommend: what it adds to the queries, with a searcher whose scores are written down here."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.errors import DataError
from sparkrec.retrieval.recommend import recommend
from sparkrec.retrieval.search.candidates import Candidates
from sparkrec.retrieval.search.searcher import (
    Searcher,
    SearchOptions,
    popular_items,
    ragged_items,
)
from sparkrec.retrieval.search.topk import top_k

Ints = npt.NDArray[np.int64]

IDS = [10, 20, 30, 40, 50]
COUNTS = [5, 9, 9, 1, 3]
SCORES = [0.1, 0.7, 0.9, 0.7, 0.5]
SCHEMA = "query_id long, known boolean, history array<long>, note string"


@dataclass
class FixedSearcher(Searcher):
    """The same scores for every query; it knows nothing about those whose `known` is false."""

    catalogue: Catalogue

    def search(
        self,
        batch: pa.RecordBatch,
        k: int,
        seen: tuple[Ints, Ints] | None,
        allowed: npt.NDArray[np.bool_] | None,
    ) -> tuple[npt.NDArray[np.float32], Ints]:
        scores = np.tile(np.array(SCORES, np.float32), (batch.num_rows, 1))
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
        if seen is not None:
            scores[seen] = -np.inf
        return top_k(scores, k, self.catalogue.order)

    def answers(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        return np.asarray(batch.column("known").to_pylist(), bool)


def catalogue(ids: list[Any] = IDS) -> Catalogue:
    return Catalogue(pa.array(ids), np.array(COUNTS, np.int64))


@pytest.fixture(scope="module")
def queries(spark: SparkSession) -> DataFrame:
    rows = [
        (1, True, [30, 20], "two seen"),
        (2, True, [], "none seen"),
        (3, False, [20, 99, 20], "unknown"),
        (4, False, None, "null history"),
        (5, True, [10, 20, 30, 40, 50], None),
        (6, True, [None, 30], "a null inside"),
    ]
    return spark.createDataFrame(rows, SCHEMA).coalesce(1)


def answers(frame: DataFrame) -> dict[int, list[Any]]:
    return {row["query_id"]: [e["item_id"] for e in row["recommended"]] for row in frame.collect()}


def run(
    queries: DataFrame,
    k: int = 3,
    fallback: bool = False,
    candidates: Any = None,
    **more: Any,
) -> DataFrame:
    rules = Candidates.of(candidates)
    options = SearchOptions(k=k, fallback=fallback, candidates=rules, **more)
    searcher = FixedSearcher(catalogue())
    allowed = options.allowed(searcher.catalogue, None)
    return recommend(queries, searcher, T.LongType(), options, allowed)


def test_best_first_ties_by_id_seen_kept(queries: DataFrame) -> None:
    result = run(queries, exclude_seen=False)
    assert all(items == [30, 20, 40] for items in answers(result).values())
    first = result.where("query_id = 1").first()
    assert first is not None
    assert [e["score"] for e in first["recommended"]] == pytest.approx([0.9, 0.7, 0.7])


def test_seen_items_are_never_given(queries: DataFrame) -> None:
    assert answers(run(queries)) == {
        1: [40, 50, 10],
        2: [30, 20, 40],
        3: [30, 40, 50],
        4: [30, 20, 40],
        5: [],
        6: [20, 40, 50],
    }


def test_the_fallback_answers_only_what_the_searcher_knows_nothing_about(
    queries: DataFrame,
) -> None:
    found = answers(run(queries, fallback=True))
    assert found[2] == [30, 20, 40]
    assert found[3] == [30, 10, 50]  # by count, without the seen 20
    assert found[4] == [20, 30, 10]  # 20 and 30 have one count: by id
    row = run(queries, fallback=True).where("query_id = 3").first()
    assert row is not None
    assert [e["score"] for e in row["recommended"]] == [9, 5, 3]
    assert answers(run(queries, exclude_seen=False, fallback=True))[3] == [20, 30, 10]


def test_only_candidates_are_given(queries: DataFrame) -> None:
    found = answers(run(queries, candidates=[20, 50, 777, 10], fallback=True))
    assert found == {
        1: [50, 10],
        2: [20, 50, 10],
        3: [10, 50],
        4: [20, 10, 50],
        5: [],
        6: [20, 50, 10],
    }


def test_no_candidate_is_known(queries: DataFrame) -> None:
    assert set(map(tuple, answers(run(queries, candidates=[777])).values())) == {()}


def test_k_beyond_the_catalogue(queries: DataFrame) -> None:
    found = answers(run(queries, k=100, fallback=True))
    assert found[2] == [30, 20, 40, 50, 10]
    assert found[4] == [20, 30, 10, 50, 40]
    assert found[1] == [40, 50, 10]


def test_every_column_of_the_queries_is_kept(queries: DataFrame) -> None:
    result = run(queries)
    assert result.columns == [*queries.columns, "recommended"]
    for field in queries.schema:
        assert result.schema[field.name].dataType == field.dataType
    before = {row["query_id"]: row for row in queries.collect()}
    for row in result.collect():
        assert row["note"] == before[row["query_id"]]["note"]
        assert row["history"] == before[row["query_id"]]["history"]


def test_an_earlier_recommended_column_is_replaced(queries: DataFrame) -> None:
    twice = run(run(queries, k=1))
    assert twice.columns.count("recommended") == 1
    assert answers(twice) == answers(run(queries))


def test_text_ids(spark: SparkSession) -> None:
    frame = spark.createDataFrame(
        [(1, True, ["a"]), (2, False, ["b", "é"])],
        "query_id long, known boolean, history array<string>",
    )
    searcher = FixedSearcher(catalogue(["e", "d", "é", "b", "a"]))
    result = recommend(frame, searcher, T.StringType(), SearchOptions(k=3))
    assert answers(result) == {1: ["é", "b", "d"], 2: ["d", "e", "a"]}


def test_a_batch_longer_than_a_block(spark: SparkSession) -> None:
    """Rows of a later chunk must not be masked by the history of an earlier one's."""
    frame = (
        spark.range(9000)
        .selectExpr("id AS query_id", "id % 3 > 0 AS known", "array(10 * (1 + id % 5)) AS history")
        .coalesce(1)
    )
    for query, items in answers(run(frame, k=5, fallback=True)).items():
        expected = [30, 20, 40, 50, 10] if query % 3 else [20, 30, 10, 50, 40]
        expected.remove(10 * (1 + query % 5))
        assert items == expected


def test_no_queries(queries: DataFrame) -> None:
    assert run(queries.where("query_id < 0")).collect() == []


def test_excluding_seen_items_needs_a_history(queries: DataFrame) -> None:
    with pytest.raises(DataError, match="queries have no `history` column, which excluding seen"):
        run(queries.drop("history"))
    assert answers(run(queries.drop("history"), exclude_seen=False))[1] == [30, 20, 40]


def test_ragged_items_leaves_out_nulls_and_strangers() -> None:
    lists = pa.array([[10, None, 99], None, [], [50, 10]], pa.list_(pa.int64()))
    rows, items = ragged_items(lists, catalogue())
    assert rows.tolist() == [0, 3, 3]
    assert items.tolist() == [0, 4, 0]
    rows, items = ragged_items(lists.slice(3), catalogue())
    assert (rows.tolist(), items.tolist()) == ([0, 0], [4, 0])


def test_popular_items_for_some_rows_of_a_batch() -> None:
    seen = (np.array([0, 0, 2, 2]), np.array([0, 1, 1, 1]))
    items, counts = popular_items(catalogue(), np.array([1, 2]), seen, None, 2, 3)
    assert items.tolist() == [[1, 2, 0], [2, 0, 4]]
    assert counts.tolist() == [[9, 9, 5], [9, 5, 3]]
