"""What follows from a history, and validation queries as arrays."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.declared import plain_schema
from sparkrec.encoding.history_columns import HistoryColumns
from sparkrec.encoding.queries import validation_arrays
from sparkrec.encoding.sides import QueryEncoder
from sparkrec.errors import DataError
from sparkrec.schema.encoder import FeatureEncoder
from sparkrec.schema.parser import FeatureSchema

HISTORY = HistoryColumns("history", "recent", None, replace_recent=False)
SCHEMA = "query_id string, recent array<long>, relevant array<long>, history array<long>"
ROWS = [
    ("a", [1, 2], [3, 9], [1, 2]),
    ("b", [], [1], []),
    ("c", [3], [], [3]),
    ("d", [2], [2, 1, 3], [9, 2]),
]


@pytest.fixture
def encoder() -> QueryEncoder:
    ids = pa.array([1, 2, 3], pa.int64())
    catalogue = Catalogue(ids, np.array([5, 4, 3]))
    empty = FeatureEncoder(FeatureSchema((), (), "none"), {}, np.zeros(0, np.uint64))
    return QueryEncoder(plain_schema(("recent",)), empty, catalogue, "recent", 2)


def test_a_query_has_all_its_relevant_items_and_one_without_any_is_left_out(
    spark: SparkSession, encoder: QueryEncoder
) -> None:
    queries = spark.createDataFrame(ROWS, SCHEMA)
    arrays = validation_arrays(queries, encoder, HISTORY, True, 10, 1)
    found = {}
    for row, query in enumerate(arrays["queries"].tolist()):
        start, stop = arrays["target_offsets"][row : row + 2]
        first, last = arrays["seen_offsets"][row : row + 2]
        found[tuple(query)] = (
            arrays["targets"][start:stop].tolist(),
            arrays["seen"][first:last].tolist(),
        )
    index = dict(zip([1, 2, 3], encoder.catalogue.index(pa.array([1, 2, 3])).tolist(), strict=True))
    assert found == {
        (index[1], index[2]): ([index[3], 1], [index[1], index[2]]),
        (0, 0): ([index[1]], []),
        (index[2], 0): ([index[2], index[1], index[3]], [1, index[2]]),
    }
    assert not {"seen", "seen_offsets"} & set(
        validation_arrays(queries, encoder, HISTORY, False, 10, 1)
    )


def test_at_most_so_many_queries_are_drawn_by_the_seed(
    spark: SparkSession, encoder: QueryEncoder
) -> None:
    rows = [(str(i), [1 + i % 3], [1], []) for i in range(60)]
    queries = spark.createDataFrame(rows, SCHEMA)

    def drawn(frame_seed: int) -> list[list[int]]:
        arrays = validation_arrays(queries, encoder, HISTORY, False, 20, frame_seed)
        assert arrays["target_offsets"].tolist() == list(range(21))
        return arrays["queries"].tolist()

    assert drawn(1) == drawn(1) != drawn(2)


def test_no_query_with_relevant_items_is_an_error(
    spark: SparkSession, encoder: QueryEncoder
) -> None:
    queries = spark.createDataFrame(ROWS[2:3], SCHEMA)
    with pytest.raises(DataError, match="early_stopping: null"):
        validation_arrays(queries, encoder, HISTORY, False, 10, 1)


@pytest.mark.parametrize("kind", [pa.table, pa.RecordBatch.from_pydict])
def test_what_follows_from_a_history(kind: Callable[..., Any]) -> None:
    """Items that the catalogue lacks are no part of it; columns that are there stay."""
    catalogue = Catalogue(pa.array([1, 2, 3], pa.int64()), np.array([5, 4, 3]))
    lists = pa.array([[9], [9, 1, 8, 2, 7], None, [], [3, None, 1]], pa.list_(pa.int64()))
    rows = kind({"history": lists}).slice(1)
    wanted = HistoryColumns("history", "recent", "last", replace_recent=False)
    added = wanted.add(rows, catalogue).to_pydict()
    assert added["recent"] == [[1, 2], [], [], [3, 1]]
    assert added["last"] == [2, None, None, 1]
    given = kind({"history": lists, "recent": lists, "last": pa.array([4] * 5)}).slice(1)
    assert wanted.add(given, catalogue) is given
    replacing = dataclasses.replace(wanted, replace_recent=True).add(given, catalogue).to_pydict()
    assert (replacing["recent"], replacing["last"]) == (added["recent"], [4] * 4)
    without = kind({"other": [1]})
    assert wanted.add(without, catalogue) is without
    assert wanted.given_by(["other"]) == ["other"]
    assert wanted.given_by(["history", "last"]) == ["history", "last", "recent"]
