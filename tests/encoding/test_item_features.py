"""Features of items as numbers: what is fitted to train, and how any other item is encoded."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sparkrec.encoding.item_features import ItemFeatures
from sparkrec.errors import DataError, SchemaError
from sparkrec.schema.encoder import FeatureEncoder
from sparkrec.schema.parser import FeatureSchema, feature_schema
from sparkrec.schema.text import Text, idf

COLUMNS = "item_id\nkind\ngenres\ntitle\nprice\ngiven"
TABLE = pa.table(
    {
        "kind": ["k", "k", "m", None],
        "genres": [["a", "b", "c"], ["a"], None, ["b"]],
        "title": ["The blue bird", "Blue sky", None, "The bird sky"],
        "price": [1.0, 3.0, None, 8.0],
        "given": [[1.0, 0.0], [0.0, 1.0], None, [0.5, 0.5]],
    }
)
OF_TRAIN = np.array([True, True, True, False])


def fit_rows(
    table: pa.Table, schema: FeatureSchema, previous: FeatureEncoder | None
) -> FeatureEncoder:
    if previous is not None:
        return previous.grow(previous.distinct_hashes(table))
    widths = {name: 3 for name in schema.columns if pa.types.is_list(table.schema.field(name).type)}
    empty = FeatureEncoder(schema, widths, np.zeros(0, np.uint64))
    return empty.grow(empty.distinct_hashes(table))


def fit(features: str, table: pa.Table = TABLE, **options: Any) -> ItemFeatures:
    declared = feature_schema(COLUMNS, "columns", features, "features")
    previous = options.pop("previous", None)
    text = Text(**{"min_items": 1, "max_share": 1.0, **options})
    of_train = OF_TRAIN if len(table) == len(OF_TRAIN) else np.ones(len(table), bool)
    return ItemFeatures.fit(table, of_train, declared, fit_rows, text, 3, previous)


def test_a_feature_with_many_values_is_as_long_as_one_with_few() -> None:
    found = fit("kind\ngenres").encode(TABLE)
    assert found.rows.shape == found.weights.shape == (4, 4)
    assert found.rows.dtype == np.int32 and found.floats.shape == (4, 0)
    assert np.array_equal(found.weights > 0, found.rows > 1)
    lengths = np.square(found.weights[:, 1:]).sum(axis=1)
    assert lengths.tolist() == pytest.approx([1, 1, 0, 1])
    assert found.weights[0, 1:].tolist() == pytest.approx([3**-0.5] * 3)


def test_words_weigh_by_how_rare_they_are_in_train() -> None:
    encoder = fit("tokens(title)")
    found = encoder.encode(TABLE)
    # In train: the 1, blue 2, bird 1, sky 1 of three items; the fourth is not in train.
    one, two = idf(np.array([1, 2]), 3)
    length = np.sqrt(2 * one**2 + two**2)
    assert found.weights[0].tolist() == pytest.approx([one / length, two / length, one / length])
    assert found.rows[0, 1] == found.rows[1, 0], "blue"
    assert found.rows[3].tolist() == [found.rows[0, 0], found.rows[0, 2], found.rows[1, 1]]
    assert not found.rows[2].any() and not found.weights[2].any()


def test_words_of_too_few_or_too_many_items_are_left_out() -> None:
    assert len(fit("tokens(title)", min_items=2).rows.hashes) == 1
    assert len(fit("tokens(title)", max_share=0.5).rows.hashes) == 3
    rare = fit("tokens(title)", min_items=2).encode(TABLE)
    assert rare.weights[:, 0].tolist() == [1, 1, 0, 0] and not rare.weights[:, 1:].any()


def test_texts_may_share_their_words() -> None:
    table = TABLE.append_column("plot", pa.array(["sky", None, "blue", "x"]))
    declared = feature_schema(f"{COLUMNS}\nplot", "c", "tokens(title)\ntokens(plot@title)", "f")
    encoder = ItemFeatures.fit(
        table, OF_TRAIN, declared, fit_rows, Text(min_items=1, max_share=1.0), 3
    )
    found = encoder.encode(table)
    assert found.rows[0, 3] == found.rows[1, 1], "sky in a plot and in a title"
    assert found.rows[2, 3] == found.rows[0, 1], "blue"


def test_numbers_are_standardised_and_bounded() -> None:
    encoder = fit("number(price)")
    assert encoder.encode(TABLE).floats[:, 0].tolist() == [-1.0, 1.0, 0.0, 5.0]
    assert encoder.num_floats == 1
    same = fit("number(price)", pa.table({"price": [2, 2]}))
    assert same.encode(pa.table({"price": [2, 3]})).floats[:, 0].tolist() == [0.0, 1.0]
    nothing = fit("number(price)", pa.table({"price": pa.nulls(2, pa.float64())}))
    assert nothing.encode(pa.table({"price": [2.0]})).floats.tolist() == [[2.0]]


def test_vectors_are_read_as_they_are() -> None:
    encoder = fit("vector(given)\nnumber(price)")
    floats = encoder.encode(TABLE).floats
    assert floats[:, 1:].tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.5, 0.5]]
    with pytest.raises(DataError, match="an item has 3 numbers, not 2"):
        encoder.encode(TABLE.set_column(4, "given", pa.array([[1.0, 2.0, 3.0]] * 4)))
    with pytest.raises(DataError, match="has a number that is missing or infinite"):
        encoder.encode(TABLE.set_column(4, "given", pa.array([[1.0, None]] * 4)))


def test_it_is_restored() -> None:
    encoder = fit("kind\ntokens(title)\nnumber(price)\nvector(given)\ngenres")
    again = ItemFeatures.restore(json.loads(json.dumps(encoder.to_json())), encoder.arrays())
    for name, value in encoder.encode(TABLE).arrays().items():
        assert np.array_equal(value, again.encode(TABLE).arrays()[name])


def test_an_earlier_encoder_grows() -> None:
    first = fit("kind\ntokens(title)\nnumber(price)")
    more = pa.concat_tables([TABLE, TABLE.slice(0, 1)]).set_column(
        2, "title", pa.array(["The blue bird", "new bird", "new", "sky", "blue"])
    )
    grown = fit("kind\ntokens(title)\nnumber(price)", more, previous=first)
    known = len(first.rows.hashes)
    assert len(grown.rows.hashes) == known + 1
    assert np.array_equal(grown.row_weights[:known], first.row_weights)
    assert grown.row_weights[known] == idf(np.array([2]), 5)[0]
    assert grown.numbers == first.numbers
    old, new = first.encode(TABLE), grown.encode(TABLE)
    assert np.array_equal(old.rows, new.rows) and np.allclose(old.weights, new.weights)
    with pytest.raises(SchemaError, match="the earlier model has the features kind, tokens"):
        fit("kind", previous=first)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("tokens(price)", "reads a text, but column 'price' is of type double"),
        ("number(title)", "reads a number, but column 'title' is of type string"),
        ("vector(price)", "reads an array of numbers, but column 'price' is of type double"),
    ],
)
def test_types(features: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        fit(features)
