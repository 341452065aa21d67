"""The declared features of items as numbers: embedding rows with weights, and plain numbers.

A schema of the item side may have, beside columns and crosses, `tokens(title)`, `number(price)` and
`vector(embedding)` (see `schema.parser`). Vocabularies, document frequencies, means and deviations
are fitted on the items of train; an item that comes later is encoded with the same. Imports no
Spark.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkrec.config.load import from_json
from sparkrec.encoding.item_numbers import ItemNumbers
from sparkrec.errors import SchemaError
from sparkrec.schema.encoder import UNKNOWN_ROW, FeatureEncoder
from sparkrec.schema.parser import Feature, FeatureSchema
from sparkrec.schema.text import Text, Words, idf, words

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Content:
    """The content of some items.

    Attributes
    ----------
    rows
        int32 [items, width]: embedding rows, padding (0) where an item has fewer values.
    weights
        float32 [items, width]: weight of each row. The squares of a feature's weights sum to 1, so
        that an item with many values of a feature has no longer vector than one with few.
    floats
        float32 [items, numbers]: the numbers of `number(...)` and `vector(...)`.
    """

    rows: npt.NDArray[np.int32]
    weights: Floats
    floats: Floats

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by the names under which a network takes them."""
        return {f"item_{name}": value for name, value in vars(self).items()}


@dataclass(frozen=True, eq=False)
class ItemFeatures:
    """Encodes the declared features of items.

    Attributes
    ----------
    declared
        The features as the schema declares them.
    rows
        Encoder of columns, crosses and tokens; `tokens(title)` is a list column of that name to it.
    row_weights
        float32 [vocabulary]: the idf of a word, 1 for any other value.
    text
        How texts are turned into words.
    max_words
        Maximum number of words of a text; the first are used.
    numbers
        Encoder of `number(column)` and `vector(column)`.
    """

    declared: FeatureSchema
    rows: FeatureEncoder
    row_weights: Floats
    text: Text
    max_words: int
    numbers: ItemNumbers

    @classmethod
    def fit(
        cls,
        table: pa.Table,
        of_train: Mask,
        schema: FeatureSchema,
        fit_rows: Callable[[pa.Table, FeatureSchema, FeatureEncoder | None], FeatureEncoder],
        text: Text,
        max_words: int,
        previous: "ItemFeatures | None" = None,
    ) -> "ItemFeatures":
        """Fit the encoder to the items of train, or extend that of an earlier model.

        Parameters
        ----------
        table
            The columns of the schema, one row an item.
        of_train
            [items]: the items of train; frequencies, means and deviations are theirs.
        fit_rows
            Fits the encoder of columns (`encoding.declared.fit_features`).
        previous
            Its vocabulary keeps its rows and weights; its numbers do not change.

        Raises
        ------
        SchemaError
            A column is of the wrong type, or the features are not those of the earlier model.
        DataError
            The vectors of a column are not of one length.
        """
        if previous is not None and previous.declared.features != schema.features:
            raise SchemaError(
                f"{schema.source}: the earlier model has the features "
                f"{', '.join(f.name for f in previous.declared.features)}; declare the same"
            )
        hashed, items = _hashed(schema), int(of_train.sum())
        found = {feature: _words_of(table, feature, text) for feature in _of(schema, "tokens")}
        counts = {feature: these.texts_with(of_train) for feature, these in found.items()}
        lists = {}
        for feature, these in found.items():
            kept = text.frequent(counts[feature], items)
            if previous is not None:
                known = previous.rows.rows_of(_listed(feature), these.distinct)
                kept |= known != UNKNOWN_ROW
            lists[feature.name] = these.where(kept, max_words)
        encoder = fit_rows(
            _with_lists(table, hashed, lists), hashed, previous.rows if previous else None
        )
        # Where texts share their words, a word has the lower of its weights.
        weights = np.full(encoder.num_rows, np.inf, np.float32)
        for feature, these in found.items():
            places = encoder.rows_of(_listed(feature), these.distinct)
            np.minimum.at(weights, places, idf(counts[feature], items))
        of_vocabulary = weights[encoder.num_rows - len(encoder.hashes) :]
        of_vocabulary[np.isinf(of_vocabulary)] = 1
        if previous is not None:
            of_vocabulary[: len(previous.row_weights)] = previous.row_weights
        numbers = previous.numbers if previous else ItemNumbers.fit(table, of_train, schema)
        return cls(schema, encoder, of_vocabulary.copy(), text, max_words, numbers)

    @property
    def num_floats(self) -> int:
        """Number of plain numbers of an item."""
        return self.numbers.width

    def encode_rows(self, table: pa.Table) -> Ints:
        """Embedding rows of the hashed features, int64 [items, width]."""
        if not self.rows.schema.features:
            return np.zeros((table.num_rows, 0), np.int64)
        lists = {}
        for feature in _of(self.declared, "tokens"):
            found = _words_of(table, feature, self.text)
            known = self.rows.rows_of(_listed(feature), found.distinct) != UNKNOWN_ROW
            lists[feature.name] = found.where(known, self.max_words)
        return self.rows.encode(_with_lists(table, self.rows.schema, lists))

    def encode(self, table: pa.Table) -> Content:
        """Encode the features of items, one row each. See `Content`.

        Raises
        ------
        SchemaError
            A column is missing, or is of another type than at fit.
        DataError
            A vector has another length than at fit.
        """
        rows = self.encode_rows(table)
        of_row = np.ones(self.rows.num_rows, np.float32)
        of_row[self.rows.num_rows - len(self.row_weights) :] = self.row_weights
        of_row[: UNKNOWN_ROW + 1] = 0
        weights = of_row[rows]
        for start, stop in self.rows.slices:
            part = weights[:, start:stop]
            length = np.sqrt(np.square(part).sum(axis=1, keepdims=True))
            part /= np.where(length > 0, length, 1)
        return Content(rows.astype(np.int32), weights, self.numbers.encode(table))

    def to_json(self) -> dict[str, Any]:
        """Everything but the vocabulary and its weights."""
        return {
            "declared": self.declared.to_json(),
            **self.rows.to_json(),
            "text": asdict(self.text),
            "max_words": self.max_words,
            **self.numbers.to_json(),
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The vocabulary, `hashes` (see `FeatureEncoder.arrays`), and `row_weights`."""
        return {**self.rows.arrays(), "row_weights": self.row_weights}

    @classmethod
    def restore(
        cls, data: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> "ItemFeatures":
        """Restore the encoder from the output of `to_json` and `arrays`."""
        return cls(
            FeatureSchema.from_json(data["declared"]),
            FeatureEncoder.restore(data, arrays),
            arrays["row_weights"],
            from_json(Text, data["text"], "model.json"),
            data["max_words"],
            ItemNumbers.restore(data),
        )


def _of(schema: FeatureSchema, form: str) -> list[Feature]:
    return [feature for feature in schema.features if feature.form == form]


def _listed(feature: Feature) -> Feature:
    """`tokens(title)` as a feature of a list column of that name."""
    return Feature(feature.name, (feature.name,), feature.names)


def _hashed(schema: FeatureSchema) -> FeatureSchema:
    """The features that are hashed, with those of texts as list columns."""
    features = tuple(
        _listed(feature) if feature.form == "tokens" else feature
        for feature in schema.features
        if feature.form in ("value", "tokens")
    )
    columns = dict.fromkeys(column for feature in features for column in feature.columns)
    return FeatureSchema(tuple(columns), features, schema.source)


def _with_lists(
    table: pa.Table, schema: FeatureSchema, lists: Mapping[str, pa.ListArray]
) -> pa.Table:
    """The columns of a schema, some of them from a table and the others given."""
    return pa.table(
        {name: lists[name] if name in lists else table.column(name) for name in schema.columns}
    )


def _words_of(table: pa.Table, feature: Feature, text: Text) -> Words:
    column = feature.columns[0]
    return words(table.column(column), column, text)
