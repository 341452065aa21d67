"""Candidate rules: by id, by columns of the items, by time; from a conf, a param, JSON."""

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.baselines.popularity.global_hot import GlobalHot, GlobalHotModel
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.errors import ConfigError, DataError
from sparkrec.retrieval.answering.answerer import load as load_answerer
from sparkrec.retrieval.search.candidates import Candidates, Condition
from sparkrec.retrieval.search.searcher import SearchOptions

CATALOGUE = Catalogue(pa.array([10, 20, 30, 40, 50]), np.arange(5, 0, -1))
ITEMS = pa.table(
    {
        "item_id": [50, 40, 30, 20, 99],
        "kind": ["tea", "tea", "milk", None, "tea"],
        "price": pa.array([5, 4, 3, 2, 1], pa.int32()),
        "tags": [["a", "b"], [], None, ["b"], ["a"]],
        "start": [None, 100, 200, 300, 0],
        "stop": [150.0, 250.0, None, 300.5, 1.0],
    }
)


def allowed(**rules: Any) -> list[int]:
    found = Candidates.of(rules)
    assert found is not None
    mask = found.resolve(CATALOGUE, ITEMS, "item_id").mask
    return CATALOGUE.ids.filter(pa.array(mask)).to_pylist()


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ({}, [10, 20, 30, 40, 50]),
        ({"allow": [40, 10, 77]}, [10, 40]),
        ({"deny": [40, 77]}, [10, 20, 30, 50]),
        ({"allow": [40, 10], "deny": [10]}, [40]),
        ({"allow": []}, []),
        ({"where": {"kind": {"any_of": ["tea", "wine"]}}}, [40, 50]),
        # A missing value, or an item without a row, is none of these.
        ({"where": {"kind": {"none_of": ["tea"]}}}, [10, 20, 30]),
        ({"where": {"price": {"any_of": [2, 5]}}}, [20, 50]),
        ({"where": {"price": {"at_least": 3, "below": 5}}}, [30, 40]),
        ({"where": {"price": {"above": 3, "at_most": 5}}}, [40, 50]),
        ({"where": {"price": {"above": 2}, "kind": {"any_of": ["tea"]}}}, [40, 50]),
        ({"where": {"tags": {"any_of": ["b"]}}}, [20, 50]),
        ({"where": {"tags": {"none_of": ["a"]}}}, [10, 20, 30, 40]),
        ({"where": {"price": {"at_most": 4}}, "deny": [20]}, [30, 40]),
    ],
)
def test_what_is_allowed(rules: dict[str, Any], wanted: list[int]) -> None:
    assert allowed(**rules) == wanted
    found = Candidates.of(rules)
    assert found is not None
    assert Candidates.of(json.loads(json.dumps(found.to_json()))) == found


def at(times: pa.Array, **rules: Any) -> list[list[int]]:
    """The candidates of each query."""
    found = Candidates.of(rules)
    assert found is not None
    batch = pa.record_batch({"timestamp": times})
    given: list[list[int]] = [[] for _ in range(len(times))]
    for rows, mask in found.resolve(CATALOGUE, ITEMS, "item_id").at(batch, "timestamp"):
        for row in rows:
            assert not given[row]
            given[row] = CATALOGUE.ids.filter(pa.array(mask)).to_pylist()
    return given


def test_times_are_those_of_the_query() -> None:
    both = {"available_from": "start", "available_until": "stop"}
    asked = [300, 99, 100, 149, 150, 200, 299, 250]
    wanted = [
        [
            item
            for item, start, stop in [
                (10, -1, 999),
                (20, 300, 300.5),
                (30, 200, 999),
                (40, 100, 250),
                (50, -1, 150),
            ]
            if start <= time < stop
        ]
        for time in asked
    ]
    assert at(pa.array(asked), **both) == wanted
    moments = [datetime.datetime.fromtimestamp(time, datetime.UTC) for time in asked]
    assert at(pa.array(moments, pa.timestamp("ms", tz="UTC")), **both) == wanted
    assert at(pa.array([160]), available_from="start") == [[10, 40, 50]]
    assert at(pa.array([160.0]), available_until="stop", deny=[10]) == [[20, 30, 40]]


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        ({"where": {"colour": {"any_of": ["red"]}}}, DataError, "has no column `colour`"),
        ({"where": {"kind": {"below": 3}}}, DataError, "`below` compares numbers, but the column"),
        ({"where": {"price": {"any_of": ["x"]}}}, DataError, r"`price` .* unlike \['x'\]"),
        ({"where": {"price": {"any_of": [10**30]}}}, DataError, "`price` .* unlike"),
        ({"allow": [10**30]}, DataError, "candidates.allow: the ids of items are of type int64"),
        ({"allow": ["x"]}, DataError, "candidates.allow: the ids of items are of type int64"),
        ({"where": {"price": {}}}, ConfigError, "a condition names one of any_of, none_of"),
        ({"where": {"price": {"under": 3}}}, ConfigError, "unknown key `where.price.under`"),
        ({"where": {"price": 3}}, ConfigError, "where.price must be"),
        ({"allowed": [3]}, ConfigError, "unknown key `allowed`; did you mean `allow`"),
        ({"available_from": "kind"}, DataError, "must be seconds since the epoch or a timestamp"),
    ],
)
def test_mistakes(rules: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        allowed(**rules)


def test_rules_need_the_tables_that_they_read() -> None:
    rules = Candidates(where={"kind": Condition(any_of=("tea",))})
    with pytest.raises(ConfigError, match="read the column `kind` of the items, but no table of"):
        rules.resolve(CATALOGUE, None, "item_id")
    with pytest.raises(TypeError, match="rules or a list of item ids, not 'abc'"):
        Candidates.of("abc")
    timed = Candidates(available_from="start").resolve(CATALOGUE, ITEMS, "item_id")
    with pytest.raises(DataError, match="queries have no column `timestamp`"):
        list(timed.at(pa.record_batch({"at": [1]}), "timestamp"))
    with pytest.raises(DataError, match="1 queries have no `timestamp`"):
        list(timed.at(pa.record_batch({"timestamp": [1, None]}), "timestamp"))


@pytest.fixture(scope="module")
def model(spark: SparkSession) -> GlobalHotModel:
    """Popular items are 10, 20, 30, 40, 50, in this order."""
    counts = zip(CATALOGUE.ids.to_pylist(), CATALOGUE.counts.tolist(), strict=True)
    rows = [(item,) for item, count in counts for _ in range(count)]
    fitted = GlobalHot(k=2).fit(spark.createDataFrame(rows, "item_id long"))
    fitted.items = spark.createDataFrame(ITEMS.drop_columns(["tags"]).to_pandas())
    return fitted


def queries(spark: SparkSession) -> DataFrame:
    rows = [(0, 310, [10]), (1, 120, [10]), (2, 120, [40]), (3, 260, [])]
    return spark.createDataFrame(
        rows, "query_id long, timestamp long, history array<long>"
    ).coalesce(1)


def given(frame: DataFrame) -> list[list[int]]:
    rows = sorted(frame.collect(), key=lambda row: row["query_id"])
    return [[entry["item_id"] for entry in row["recommended"]] for row in rows]


TIMED = {"available_from": "start", "available_until": "stop", "deny": [20]}


def test_on_spark_saved_and_without_spark(
    model: GlobalHotModel, spark: SparkSession, tmp_path: Path
) -> None:
    asked = queries(spark)
    wanted = [[30], [40, 50], [10, 50], [10, 30]]
    ruled = model.copy().set_params(candidates=TIMED)
    assert given(ruled.transform(asked)) == wanted
    assert given(model.transform(asked)) == [[20, 30], [20, 30], [10, 20], [10, 20]]
    only = {"candidates": {"where": {"price": {"at_most": 3}}}}
    assert given(model.copy().set_params(**only).transform(asked))[0] == [20, 30]
    # The rules are saved with the model, and can be set aside in a call.
    ruled.save(str(tmp_path / "model"))
    loaded = GlobalHotModel.load(str(tmp_path / "model"))
    loaded.items = model.items
    assert given(loaded.transform(asked)) == wanted
    answerer = load_answerer(str(tmp_path / "model"), ITEMS)
    table = pa.table({"history": [[10], [10], [40], []], "timestamp": [310, 120, 120, 260]})
    answers = answerer.answer(table)
    assert [[item for item, _ in answer] for answer in answers] == wanted
    other = answerer.answer([[10]], candidates={"allow": [10, 50]})
    assert [item for item, _ in other[0]] == [50]
    with pytest.raises(DataError, match="queries have no column `timestamp`"):
        answerer.answer([[10]])
    with pytest.raises(DataError, match="queries have no column `timestamp`"):
        loaded.transform(asked.drop("timestamp"))
    loaded.items = None
    with pytest.raises(ConfigError, match="no table of items was given"):
        loaded.transform(asked)


def test_options_of_a_saved_model() -> None:
    params = {
        "k": 3,
        "exclude_seen": False,
        "history_col": "h",
        "candidates": [1, 2],
        "fallback": "none",
        "item_col": "i",
        "timestamp_col": "t",
    }
    options = SearchOptions.of_params(params)
    assert options.candidates == Candidates(allow=(1, 2)) and options.timestamp == "t"
    assert SearchOptions().allowed(CATALOGUE, None) is None
