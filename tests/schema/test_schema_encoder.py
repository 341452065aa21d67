"""The encoder: layout of the matrix and of the table, growth, buckets, and what it refuses."""

import json
import re

import numpy as np
import pyarrow as pa
import pytest

from sparkrec.errors import SchemaError
from sparkrec.schema.encoder import FeatureEncoder
from sparkrec.schema.hashing import hash_cross, hash_value
from sparkrec.schema.parser import FeatureSchema, feature_schema

COLUMNS = "user_id\nrecent\ntags\nage"
TABLE = pa.table(
    {
        "user_id": ["u1", "u2", None],
        "recent": pa.array([[1, 2, 3, 4], [2], []], pa.list_(pa.int64())),
        "tags": [["x", "y"], None, ["y"]],
        "age": [25, None, 30],
    }
)


def make_schema(combine: str, columns: str = COLUMNS) -> FeatureSchema:
    return feature_schema(columns, "columns", combine, "combine")


def fit(combine: str, table: pa.Table = TABLE, **buckets: int) -> FeatureEncoder:
    schema = make_schema(combine)
    widths = {c: w for c, w in {"recent": 3, "tags": 2}.items() if c in schema.used_columns}
    empty = FeatureEncoder(schema, widths, np.zeros(0, np.uint64), buckets)
    return empty.grow(empty.distinct_hashes(table))


def row_of(encoder: FeatureEncoder, hash_: int) -> int:
    return encoder.hashes.tolist().index(hash_) + encoder.num_rows - len(encoder.hashes)


def test_each_feature_has_a_slice_and_lists_keep_the_last_values() -> None:
    encoder = fit("user_id\nrecent\nage")
    assert encoder.slices == [(0, 1), (1, 4), (4, 5)]
    assert encoder.width == 5
    assert encoder.num_rows == 2 + 2 + 3 + 2  # the dropped 1 of the first history has no row

    matrix = encoder.encode(TABLE)
    assert matrix.dtype == np.int64
    assert matrix.flags.c_contiguous
    u1, u2 = (row_of(encoder, hash_value("user_id", u)) for u in ("u1", "u2"))
    m2, m3, m4 = (row_of(encoder, hash_value("recent", m)) for m in (2, 3, 4))
    a25, a30 = (row_of(encoder, hash_value("age", a)) for a in (25, 30))
    assert matrix.tolist() == [[u1, m2, m3, m4, a25], [u2, m2, 0, 0, 0], [0, 0, 0, 0, a30]]
    assert sorted({*matrix.ravel().tolist()} - {0}) == list(range(2, 9))


def test_unknown_values_are_row_one() -> None:
    encoder = fit("user_id\nrecent")
    rows = [{"user_id": "new", "recent": [9, 2]}, {"user_id": "", "recent": None}]
    assert encoder.encode_rows(rows).tolist() == [
        [1, 1, row_of(encoder, hash_value("recent", 2)), 0],
        [0, 0, 0, 0],
    ]
    empty = FeatureEncoder(make_schema("user_id"), {}, np.zeros(0, np.uint64))
    assert empty.encode_rows([{"user_id": "a"}]).tolist() == [[1]]


def test_crosses_of_lists_are_products_padded_on_the_right() -> None:
    encoder = fit("recent#tags#age")
    assert encoder.slices == [(0, 6)]
    expected = [
        row_of(encoder, hash_cross([hash_value("recent", r), hash_value("tags", t), age]))
        for age in [hash_value("age", 25)]
        for r in (2, 3, 4)
        for t in ("x", "y")
    ]
    assert encoder.encode(TABLE).tolist() == [expected, [0] * 6, [0] * 6]
    # A shorter batch and shorter lists are laid out alike.
    short = encoder.encode_rows([{"recent": [3, 4], "tags": ["y"], "age": 25}])
    assert short.tolist() == [[expected[3], expected[5], 0, 0, 0, 0]]


def test_aliases_share_rows() -> None:
    schema = make_schema("user_id\nage@user_id")
    encoder = FeatureEncoder(schema, {}, np.array([hash_value("user_id", 7)], np.uint64))
    assert encoder.encode_rows([{"user_id": 7, "age": "7"}]).tolist() == [[2, 2]]


def test_tables_of_several_batches_and_slices_encode_alike() -> None:
    encoder = fit("user_id\nrecent\nrecent#tags")
    whole = encoder.encode(TABLE)
    parts = pa.Table.from_batches([*TABLE.slice(0, 1).to_batches(), *TABLE[1:].to_batches()])
    assert np.array_equal(encoder.encode(parts), whole)
    assert np.array_equal(encoder.encode(TABLE.slice(1)), whole[1:])
    assert np.array_equal(encoder.encode(TABLE.to_batches()[0]), whole)
    assert encoder.encode(TABLE.slice(0, 0)).shape == (0, encoder.width)
    assert encoder.encode_rows([]).shape == (0, encoder.width)
    assert np.array_equal(encoder.encode_rows(TABLE.to_pylist()), whole)


def test_growth_keeps_rows_and_appends_sorted() -> None:
    encoder = fit("user_id\nrecent")
    grown = encoder.grow(np.array([5, 3, 5, 0, int(encoder.hashes[0])], np.uint64))
    assert grown.hashes.tolist() == [*encoder.hashes.tolist(), 3, 5]
    assert grown.num_rows == encoder.num_rows + 2
    assert np.array_equal(grown.encode(TABLE), encoder.encode(TABLE))
    assert grown.grow(np.array([2**64 - 1, 1], np.uint64)).hashes[-2:].tolist() == [1, 2**64 - 1]


def test_buckets_take_fixed_ranges_before_the_vocabulary() -> None:
    encoder = fit("user_id\nrecent\nage", recent=10, user_id=4)
    assert encoder.num_rows == 2 + 4 + 10 + 2
    user = 2 + hash_value("user_id", "u1") % 4
    recent = [6 + hash_value("recent", item) % 10 for item in (2, 3, 4)]
    age = 16 + encoder.hashes.tolist().index(hash_value("age", 25))
    assert encoder.encode(TABLE)[0].tolist() == [user, *recent, age]
    assert encoder.encode_rows([{"user_id": "new", "recent": [], "age": 99}])[0].tolist() == [
        2 + hash_value("user_id", "new") % 4,
        *[0, 0, 0, 1],
    ]


def test_features_of_one_hash_name_share_their_buckets() -> None:
    schema = make_schema("user_id\nage@user_id")
    none = np.zeros(0, np.uint64)
    encoder = FeatureEncoder(schema, {}, none, {"user_id": 5, "age@user_id": 5})
    assert encoder.num_rows == 7
    rows = encoder.encode_rows([{"user_id": 7, "age": 7}])
    assert rows[0, 0] == rows[0, 1] >= 2
    with pytest.raises(SchemaError, match="'user_id' and 'age@user_id' share embeddings"):
        FeatureEncoder(schema, {}, none, {"user_id": 5})


def test_saved_encoders_come_back() -> None:
    encoder = fit("user_id\nrecent\nage\nrecent#tags", user_id=4)
    state = json.loads(json.dumps(encoder.to_json()))
    arrays = {name: array.copy() for name, array in encoder.arrays().items()}
    assert arrays["hashes"].dtype == np.int64
    again = FeatureEncoder.restore(state, arrays)
    assert again.schema == encoder.schema
    assert (again.num_rows, again.slices) == (encoder.num_rows, encoder.slices)
    assert np.array_equal(again.encode(TABLE), encoder.encode(TABLE))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"user_id": "a"}, "row 0 lacks the column 'recent' that columns declares"),
        ({"user_id": "a", "recent": 3}, "column 'recent' holds single values (int64)"),
        ({"user_id": ["a"], "recent": []}, "column 'user_id' holds lists"),
        ({"user_id": 1.0, "recent": []}, "column 'user_id' is of type double"),
        ({"user_id": "a", "recent": [1, "b"]}, "column 'recent' cannot be read: "),
        ({"user_id": 2**70, "recent": []}, "column 'user_id' cannot be read: "),
        ({"user_id": "\ud800", "recent": []}, "column 'user_id' cannot be read: "),
    ],
)
def test_wrong_queries_are_schema_errors(row: dict, message: str) -> None:
    with pytest.raises(SchemaError, match=re.escape(message)):
        fit("user_id\nrecent").encode_rows([row])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"buckets": {"usr_id": 3}}, "buckets: 'usr_id' is not a feature; did you mean 'user_id'?"),
        ({"buckets": {"user_id": 0}}, "buckets: 'user_id' needs a whole number above 0, not 0"),
        ({"widths": {"age": 3}}, "widths: 'age': 3 is not a column that a feature reads"),
        ({"widths": {"recent": 5000}}, "feature 'recent' would be 5000 rows wide"),
        ({"hashes": np.array([3, 3], np.uint64)}, "hashes repeat"),
    ],
)
def test_wrong_encoders_are_schema_errors(arguments: dict, message: str) -> None:
    defaults = {"widths": {}, "hashes": np.zeros(0, np.uint64), "buckets": {}}
    with pytest.raises(SchemaError, match=re.escape(message)):
        FeatureEncoder(make_schema("user_id\nrecent"), **(defaults | arguments))
