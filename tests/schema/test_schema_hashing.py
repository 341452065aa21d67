"""Hashes: golden values, and the vectorised path against the plain reading of the formula."""

import re
import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkrec.errors import SchemaError
from sparkrec.schema.hashed_columns import HashedColumn, hash_column, hash_feature
from sparkrec.schema.hashing import bkdr, hash_cross, hash_text, hash_value
from sparkrec.schema.parser import Feature

GENDER_F = 33325239030282849
GENDER_F_AGE_25 = 2143859260614341765

texts = st.one_of(st.none(), st.text(max_size=12))
ints = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))


def column_hashes(hashed: HashedColumn, name: str) -> list[list[int]]:
    return hashed.field(name)[hashed.codes].tolist()


def test_golden_values_in_plain_python() -> None:
    assert hash_value("gender", "F") == GENDER_F
    assert hash_cross([hash_value("gender", "F"), hash_value("age", 25)]) == GENDER_F_AGE_25


@pytest.mark.parametrize("age", [pa.array([25]), pa.array(["25"]), pa.array([25], pa.int8())])
def test_golden_values_over_arrow(age: pa.Array) -> None:
    columns = {"g": hash_column(pa.array(["F"]), "g"), "age": hash_column(age, "age")}
    assert hash_feature(Feature("g@gender", ("g",), ("gender",)), columns).tolist() == [[GENDER_F]]
    cross = Feature("g@gender#age", ("g", "age"), ("gender", "age"))
    assert hash_feature(cross, columns).tolist() == [[GENDER_F_AGE_25]]


def test_bytes_are_signed_chars() -> None:
    first, second = (byte - 256 for byte in "é".encode())
    assert hash_text("é") == (first * 131 + second) % 2**64


@settings(deadline=None)
@given(st.lists(st.text()), st.integers(0, 3))
def test_bkdr_is_the_recurrence_on_slices_too(values: list[str], skip: int) -> None:
    for dtype in (pa.string(), pa.large_string()):
        array = pa.array(values, dtype)[skip : max(skip, len(values) - 1)]
        assert bkdr(array).tolist() == [hash_text(text) for text in array.to_pylist()]


def test_bkdr_of_long_text() -> None:
    text = "长尾é" * 20_000
    assert bkdr(pa.array(["a", text, ""])).tolist() == [97, hash_text(text), 0]


@settings(deadline=None)
@given(st.one_of(st.lists(texts), st.lists(ints), st.lists(st.one_of(st.none(), st.booleans()))))
def test_scalar_columns_agree_with_the_reference(values: list) -> None:
    expected = [[hash_value("name", value)] for value in values]
    array = pa.array(values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert column_hashes(hash_column(array, "column"), "name") == expected
    sliced = hash_column(array[1:], "column")
    assert column_hashes(sliced, "name") == expected[1:]


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
@settings(deadline=None)
@given(
    rows=st.lists(st.one_of(st.none(), st.lists(texts, max_size=5)), min_size=1),
    limit=st.integers(1, 6),
    skip=st.integers(0, 2),
)
def test_list_columns_agree_with_the_reference(kind, rows, limit, skip) -> None:  # type: ignore[no-untyped-def]
    rows = [*rows, ["a"]]
    array = pa.array(rows, kind(pa.string()))[skip:]
    hashed = hash_column(array, "column", limit)
    kept = [[hash_value("name", v) for v in row or () if v][-limit:] for row in rows[skip:]]
    width = max([1, *map(len, kept)])
    assert column_hashes(hashed, "name") == [row + [0] * (width - len(row)) for row in kept]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.lists(ints, max_size=3), texts, st.lists(texts, max_size=3)), min_size=1)
)
def test_crosses_are_cartesian_products(rows: list[tuple]) -> None:
    columns = {
        "a": hash_column(pa.array([r[0] for r in rows], pa.list_(pa.int64())), "a", 3),
        "b": hash_column(pa.array([r[1] for r in rows], pa.string()), "b"),
        "c": hash_column(pa.array([r[2] for r in rows], pa.list_(pa.string())), "c", 3),
    }
    hashes = hash_feature(Feature("a#b#c", ("a", "b", "c"), ("a", "b", "c")), columns)
    for (first, second, third), row in zip(rows, hashes.tolist(), strict=True):
        expected = [
            hash_cross([hash_value("a", a), hash_value("b", second), hash_value("c", c)])
            for a in first
            if a is not None
            for c in third
            if second and c
        ]
        assert row == expected + [0] * (len(row) - len(expected))


def test_other_layouts_of_the_same_values() -> None:
    plain = column_hashes(hash_column(pa.array(["a", None, "b", "a"]), "x"), "x")
    encoded = pa.array(["a", None, "b", "a"]).dictionary_encode()
    view = pa.array(["a", None, "b", "a"], pa.string_view())
    assert column_hashes(hash_column(encoded, "x"), "x") == plain
    assert column_hashes(hash_column(view, "x"), "x") == plain
    fixed = pa.array([[1, 2], None, [3, None]], pa.list_(pa.int64(), 2))
    ragged = pa.array([[1, 2], None, [3]])
    assert column_hashes(hash_column(fixed, "x", 2), "x") == column_hashes(
        hash_column(ragged, "x", 2), "x"
    )


def test_columns_of_nulls_are_padding() -> None:
    assert column_hashes(hash_column(pa.nulls(2), "x"), "x") == [[0], [0]]
    assert column_hashes(hash_column(pa.nulls(2), "x", 3), "x") == [[0], [0]]
    assert column_hashes(hash_column(pa.array([[], [None]]), "x", 3), "x") == [[0], [0]]
    assert hash_column(pa.array([], pa.list_(pa.string())), "x", 3).codes.shape == (0, 1)


@pytest.mark.parametrize(
    ("array", "limit", "message"),
    [
        (
            pa.array([1.0, 2.0]),
            None,
            "column 'age' is of type double, which cannot be hashed; cast",
        ),
        (pa.array([[1.0]]), 2, "column 'age' is of type list<item: double>"),
        (pa.array([b"a"]), None, "column 'age' is of type binary"),
        (pa.array([0], pa.date32()), None, "column 'age' is of type date32[day]"),
        (pa.array([[1]]), None, "column 'age' holds lists (list<item: int64>), but held single"),
        (pa.array([1]), 2, "column 'age' holds single values (int64), but held lists"),
    ],
)
def test_wrong_types_say_what_to_do(array: pa.Array, limit: int | None, message: str) -> None:
    with pytest.raises(SchemaError, match=re.escape(message)):
        hash_column(array, "age", limit)


def test_hashes_are_uint64() -> None:
    assert hash_column(pa.array(["a"]), "x").field("x").dtype == np.uint64
