"""Histories as matrices, and what a model with a history asks of its schemas."""

import numpy as np
import pyarrow as pa
import pytest

from sparkrec.columns import Columns
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.declared import require_item_alone, without_history
from sparkrec.encoding.sides import recent_items, recent_values
from sparkrec.errors import SchemaError
from sparkrec.schema.parser import FeatureSchema, feature_schema

CATALOGUE = Catalogue(pa.array(["a", "b", "c"]), np.array([1, 1, 1]))
COLUMNS = Columns(item="movie_id")


def declared(*names: str) -> FeatureSchema:
    columns = "\n".join(dict.fromkeys(part for name in names for part in name.split("#")))
    return feature_schema(columns, "columns", "\n".join(names), "features")


def test_the_last_known_items_oldest_first() -> None:
    lists = pa.array([["a", "b", "c"], [], None, ["x", "c", None, "x", "a"], ["b"], ["x"]])
    found = recent_items(lists, 2, CATALOGUE)
    assert found.tolist() == [[3, 4], [0, 0], [0, 0], [4, 2], [3, 0], [0, 0]]
    assert recent_items(lists.slice(3, 2), 3, CATALOGUE).tolist() == [[4, 2, 0], [3, 0, 0]]


def test_values_stand_beside_the_items_that_are_read() -> None:
    lists = pa.array([["a", "b", "c"], [], None, ["x", "c", None, "x", "a"], ["b"], ["x"]])
    values = pa.array([[1.0, 2.0, 3.0], [], None, [4.0, 5.0, 6.0, 7.0, 8.0], [9.0], [10.0]])
    found = recent_values(lists, values, 2, CATALOGUE)
    assert found.tolist() == [[2, 3], [0, 0], [0, 0], [5, 8], [9, 0], [0, 0]]


def test_a_history_of_a_list_array_that_is_a_slice() -> None:
    lists = pa.array([["a"], ["b", "c"], ["c"]]).slice(1)
    assert recent_items(lists, 2, CATALOGUE).tolist() == [[3, 4], [4, 0]]


def test_other_features_stay() -> None:
    schema = declared("user_id", "recent_movie_ids", "age#gender")
    rest = without_history(schema, COLUMNS, "simplex", other_features=True)
    assert rest.columns == ("user_id", "age", "gender")
    assert [feature.name for feature in rest.features] == ["user_id", "age#gender"]


def test_mistakes() -> None:
    with pytest.raises(SchemaError, match="add the feature `recent_movie_ids`"):
        without_history(declared("user_id"), COLUMNS, "simplex", other_features=True)
    with pytest.raises(SchemaError, match="reads `recent_movie_ids` alone; take out `user_id`"):
        schema = declared("user_id", "recent_movie_ids")
        without_history(schema, COLUMNS, "gru4rec", other_features=False)
    with pytest.raises(SchemaError, match="declare `movie_id` alone, not movie_id, genre"):
        require_item_alone(declared("movie_id", "genre"), COLUMNS, "hrm")
