"""Schema files: what parses, what does not, and what the errors say."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkrec.errors import SchemaError
from sparkrec.schema.parser import (
    Feature,
    FeatureSchema,
    feature_schema,
    parse_column_schema,
    parse_combine_schema,
)

names = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True)
SCHEMAS = Path(__file__).parents[2] / "schema"


def test_column_schema_takes_indices_comments_and_blank_lines() -> None:
    text = "\ufeff# users\r\n0 user_id\r\n\r\n1\tage\n  # more\nincome\n 7   zip \n"
    assert parse_column_schema(text, "columns") == ["user_id", "age", "income", "zip"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns: declares no column"),
        ("# a\n\n", "columns: declares no column"),
        ("0 a\n1 a", "columns:2: in '1 a': 'a' already stands on line 1"),
        ("0 a\n00 b", "columns:2: in '00 b': the index 0 already stands on line 1"),
        ("x a", "columns:1: in 'x a': the index 'x' is not a whole number"),
        ("-1 a", "columns:1: in '-1 a': the index '-1' is not a whole number"),
        ("a\n\n7", "columns:3: in '7': an index without a name"),
        ("0 a b", "columns:1: in '0 a b': expected `index name`"),
        ("0 a#b", "columns:1: in '0 a#b': the name 'a#b' has the character '#'"),
        ("0 a.b", "columns:1: in '0 a.b': the name 'a.b' has the character '.'"),
        ("0 9a", "columns:1: in '0 9a': the name '9a' begins with '9'"),
        ("0\u00a0a", r"columns:1: in '0\xa0a': the name '0\xa0a' has the character '\xa0'"),
        ("9" * 5000 + " a\n9 b\n9 c", "columns:3: in '9 c': the index 9 already stands"),
    ],
)
def test_column_schema_errors_name_the_line(text: str, message: str) -> None:
    with pytest.raises(SchemaError, match=re.escape(message)):
        parse_column_schema(text, "columns")


def test_combine_schema_takes_crosses_and_aliases() -> None:
    text = "# features\nuser_id\n\nage#income@money#zip\nlast@movie\nage@age\n"
    assert parse_combine_schema(text, "combine") == [
        Feature("user_id", ("user_id",), ("user_id",)),
        Feature("age#income@money#zip", ("age", "income", "zip"), ("age", "money", "zip")),
        Feature("last@movie", ("last",), ("movie",)),
        Feature("age", ("age",), ("age",)),
    ]


def test_combine_schema_takes_forms_of_content() -> None:
    text = "tokens(title)\ntokens(plot@title)\nnumber(price)\nvector(given)"
    assert parse_combine_schema(text, "combine") == [
        Feature("tokens(title)", ("title",), ("title",), "tokens"),
        Feature("tokens(plot@title)", ("plot",), ("title",), "tokens"),
        Feature("number(price)", ("price",), ("price",), "number"),
        Feature("vector(given)", ("given",), ("given",), "vector"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n# a\n", "combine: declares no feature"),
        ("a\n\nb c", "combine:3: in 'b c': spaces inside a feature"),
        ("a # the a", "combine:1: in 'a # the a': spaces inside a feature"),
        ("a#", "combine:1: in 'a#': a cross with an empty part"),
        ("a##b", "combine:1: in 'a##b': a cross with an empty part"),
        ("a@", "combine:1: in 'a@': 'a@' is not of the form"),
        ("@a", "combine:1: in '@a': '@a' is not of the form"),
        ("a@b@c", "combine:1: in 'a@b@c': 'a@b@c' is not of the form"),
        ("a#b#a", "combine:1: in 'a#b#a': the column 'a' stands twice"),
        ("a\na@a", "combine:2: in 'a@a': the feature already stands on line 1"),
        ("a,b", "combine:1: in 'a,b': the name 'a,b' has the character ','"),
        ("a@1", "combine:1: in 'a@1': the name '1' begins with '1'"),
        ("token(a)", "combine:1: in 'token(a)': unknown form 'token'; did you mean 'tokens'?"),
        ("tokens(a#b)", "combine:1: in 'tokens(a#b)': tokens(...) takes one column"),
        ("number(a@b)", "combine:1: in 'number(a@b)': number(...) is not hashed"),
        ("vector()", "combine:1: in 'vector()': a cross with an empty part"),
        ("tokens(a", "combine:1: in 'tokens(a': the name 'tokens(a' has the character '('"),
        ("tokens(a)#b", "combine:1: in 'tokens(a)#b': the name 'tokens(a)' has the character '('"),
        ("tokens(a)\ntokens(a@a)", "combine:2: in 'tokens(a@a)': the feature already stands on"),
    ],
)
def test_combine_schema_errors_name_the_line(text: str, message: str) -> None:
    with pytest.raises(SchemaError, match=re.escape(message)):
        parse_combine_schema(text, "combine")


def test_features_read_declared_columns_only() -> None:
    message = (
        "combine:3: 'age#usr_id' reads the column 'usr_id', which columns does not declare; "
        "did you mean 'user_id'?"
    )
    with pytest.raises(SchemaError, match=re.escape(message)):
        feature_schema("user_id\nage", "columns", "user_id\n\nage#usr_id", "combine")


def test_require_names_the_column_the_nearest_and_the_file() -> None:
    schema = feature_schema("user_id\nage\nspare", "user.columns", "user_id\nage", "combine")
    schema.require(["spare", "age", "user_id", "more"], "train")
    message = "train lacks the column 'user_id' that user.columns declares; did you mean 'userid'?"
    with pytest.raises(SchemaError, match=re.escape(message)):
        schema.require(["userid", "age", "spare"], "train")
    with pytest.raises(SchemaError, match=r"lacks the column 'spare' .*; there are: user_id, age"):
        schema.require(["user_id", "age"], "train")
    schema.require(["user_id", "age"], "train", used_only=True)


@settings(deadline=None)
@given(st.text())
def test_any_text_parses_or_is_a_schema_error_of_one_line(text: str) -> None:
    for parse in (parse_column_schema, parse_combine_schema):
        try:
            assert parse(text, "file")
        except SchemaError as error:
            assert str(error).startswith("file:")
            assert "\n" not in str(error)


@settings(deadline=None)
@given(
    st.text(alphabet="ab#@ \t\n0\r", max_size=30) | st.sampled_from(["tokens(a@b)", "vector(a)"])
)
def test_canonical_names_parse_to_the_same_features(text: str) -> None:
    try:
        features = parse_combine_schema(text, "file")
    except SchemaError:
        return
    assert parse_combine_schema("\n".join(f.name for f in features), "file") == features


@settings(deadline=None)
@given(st.lists(names, min_size=1, unique=True), st.booleans())
def test_column_schema_round_trips(columns: list[str], with_index: bool) -> None:
    lines = [f"{i} {name}" if with_index else name for i, name in enumerate(columns)]
    assert parse_column_schema("\n".join(lines), "file") == columns


@settings(deadline=None)
@given(st.lists(names, min_size=1, unique=True))
def test_json_round_trips(columns: list[str]) -> None:
    combine = "\n".join([f"{name}@shared" for name in columns] + ["#".join(columns)])
    schema = feature_schema("\n".join(columns), "columns", combine, "combine")
    again = FeatureSchema.from_json(json.loads(json.dumps(schema.to_json())))
    assert again == schema
    assert again.source == "columns"


@pytest.mark.parametrize("tower", ["user", "item"])
@pytest.mark.parametrize("dataset", ["ml_1m", "complete_journey"])
def test_shipped_schemas_parse(dataset: str, tower: str) -> None:
    columns = SCHEMAS / "dssm" / dataset / f"{tower}_column_schema"
    combine = SCHEMAS / "dssm" / dataset / f"{tower}_combine_schema"
    schema = feature_schema(columns.read_text(), str(columns), combine.read_text(), str(combine))
    assert schema.used_columns == schema.columns
    assert all(f.columns == f.names for f in schema.features)
