"""Answering without Spark: options, tables with features and segments, and mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.errors import DataError, StorageError
from sparkrec.io import storage
from sparkrec.io.publishing import publish
from sparkrec.retrieval.answering import Answerer, load
from sparkrec.retrieval.answering.personal_top import PersonalTopSearcher
from sparkrec.retrieval.answering.rankings import Ranking, RankingSearcher, SegmentRankings
from sparkrec.retrieval.search.searcher import SearchOptions

CATALOGUE = Catalogue(pa.array(["a", "b", "c", "d"]), np.array([9, 7, 5, 3]))


@pytest.fixture
def answerer() -> Answerer:
    return Answerer(PersonalTopSearcher(CATALOGUE, "history"), SearchOptions(k=2))


def items(answers: list[list[tuple[Any, float]]]) -> list[list[Any]]:
    return [[item for item, _ in given] for given in answers]


def test_histories_of_any_kind(answerer: Answerer) -> None:
    histories = [["a"], (), None, np.array(["d", "c"])]
    assert items(answerer.answer(histories)) == [["b", "c"], ["a", "b"], ["a", "b"], ["a", "b"]]


def test_options_of_a_call_and_those_of_the_model(answerer: Answerer) -> None:
    assert items(answerer.answer([["d", "d", "b"]], exclude_seen=False, k=3)) == [["d", "b", "a"]]
    assert items(answerer.answer([["a"]], candidates=["a", "d"])) == [["d"]]
    assert items(answerer.answer([["a"]])) == [["b", "c"]]


def test_no_queries(answerer: Answerer) -> None:
    assert answerer.answer([]) == []


def test_a_table_of_queries_comes_back_in_its_order(answerer: Answerer) -> None:
    table = pa.table({"user": [2, 1], "history": [["a"], ["b"]]})
    assert items(answerer.answer(table)) == [["b", "c"], ["a", "c"]]


@pytest.mark.parametrize(
    ("queries", "options", "error", "message"),
    [
        ([["a"]], {"K": 3}, TypeError, r"unknown option 'K'; known: candidates, .*exclude_seen"),
        ([["a"]], {"k": 0}, ValueError, "k must be at least 1"),
        ([[1.5]], {}, DataError, "histories must be sequences of item ids of type string"),
        (pa.table({"user": [1]}), {}, DataError, r"queries have no `history` column .*user"),
    ],
)
def test_mistakes(
    answerer: Answerer, queries: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        answerer.answer(queries, **options)


def test_segments_are_found_by_the_columns_of_the_queries() -> None:
    overall = Ranking(np.array([0, 1, 2, 3]), np.array([9.0, 7.0, 5.0, 3.0]))
    young = Ranking(np.array([3]), np.array([2.0]))
    rankings = SegmentRankings(CATALOGUE, overall, (young,), pa.table({"age": [18]}))
    answerer = Answerer(RankingSearcher(rankings), SearchOptions(k=2))
    table = pa.table({"history": [[], [], []], "age": [18, 70, None]})
    assert items(answerer.answer(table)) == [["d", "a"], ["a", "b"], ["a", "b"]]
    assert items(answerer.answer([[]])) == [["a", "b"]]


def test_what_is_no_model_of_this_version(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such path"):
        load(str(tmp_path / "nowhere"))
    for name, description in (("old", {"class": "DSSMModel"}), ("gone", {"class": "a:B"})):
        with publish(str(tmp_path / name), "test") as staging:
            full = {
                **description,
                "params": {},
                "searcher": "no_such_module:Searcher" if name == "gone" else "",
            }
            storage.write_json(f"{staging}/model.json", full)
    with pytest.raises(StorageError, match="no saved model of this version of sparkrec; train"):
        load(str(tmp_path / "old"))
    with pytest.raises(StorageError, match="there is no module `no_such_module`"):
        load(str(tmp_path / "gone"))
