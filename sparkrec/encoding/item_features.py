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
from sparkrec.errors import DataError, SchemaError
from sparkrec.schema.encoder import UNKNOWN_ROW, FeatureEncoder
from sparkrec.schema.parser import Feature, FeatureSchema
from sparkrec.schema.text import Text, Words, idf, words

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# A number that lies farther from the mean, in standard deviations, counts as this far.
_FARTHEST = 5.0


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
        Mean and standard deviation of each `number(column)`, by column.
    vectors
        Length of each `vector(column)`, by column.
    """

    declared: FeatureSchema
    rows: FeatureEncoder
    row_weights: Floats
    text: Text
    max_words: int
    numbers: Mapping[str, tuple[float, float]]
    vectors: Mapping[str, int]

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
            Fits the encoder of columns (`encoding.fit_sides.fit_features`).
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
        hashed = _hashed(schema)
        found = {feature: _words_of(table, feature, text) for feature in _of(schema, "tokens")}
        frequent = {}
        for feature, these in found.items():
            distinct, _, codes = these.items_with()
            kept = text.frequent(_items_with(these, codes, len(distinct), of_train), of_train.sum())
            if previous is not None:
                kept |= previous.rows.rows_of(_listed(feature), distinct) != UNKNOWN_ROW
            frequent[feature] = kept[codes]
        lists = {
            feature.name: these.where(frequent[feature], max_words)
            for feature, these in found.items()
        }
        encoder = fit_rows(
            _with_lists(table, hashed, lists), hashed, previous.rows if previous else None
        )
        weights = np.full(encoder.num_rows, np.inf, np.float32)
        for feature, these in found.items():
            distinct, _, codes = these.items_with()
            counts = _items_with(these, codes, len(distinct), of_train)
            places = encoder.rows_of(_listed(feature), distinct)
            np.minimum.at(weights, places, idf(counts, int(of_train.sum())))
        weights = np.where(np.isinf(weights), 1, weights)[-len(encoder.hashes) :]
        if previous is not None:
            weights[: len(previous.row_weights)] = previous.row_weights
        return cls(
            schema,
            encoder,
            weights[: len(encoder.hashes)].astype(np.float32),
            text,
            max_words,
            dict(previous.numbers)
            if previous
            else {
                f.columns[0]: _moments(table.filter(pa.array(of_train)), f.columns[0])
                for f in _of(schema, "number")
            },
            dict(previous.vectors)
            if previous
            else {
                f.columns[0]: _vectors(table, f.columns[0], None).shape[1]
                for f in _of(schema, "vector")
            },
        )

    @property
    def num_floats(self) -> int:
        """Number of plain numbers of an item."""
        return len(self.numbers) + sum(self.vectors.values())

    def encode_rows(self, table: pa.Table) -> Ints:
        """Embedding rows of the hashed features, int64 [items, width]."""
        if not self.rows.schema.features:
            return np.zeros((table.num_rows, 0), np.int64)
        lists = {}
        for feature in _of(self.declared, "tokens"):
            found = _words_of(table, feature, self.text)
            distinct, _, codes = found.items_with()
            known = self.rows.rows_of(_listed(feature), distinct) != UNKNOWN_ROW
            lists[feature.name] = found.where(known[codes], self.max_words)
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
        parts = [np.zeros((table.num_rows, 0), np.float32)]
        for column, (mean, deviation) in self.numbers.items():
            values = (_numbers(table, column) - mean) / deviation
            clipped = np.clip(np.nan_to_num(values), -_FARTHEST, _FARTHEST)
            parts.append(clipped[:, None].astype(np.float32))
        parts += [_vectors(table, column, width) for column, width in self.vectors.items()]
        return Content(rows.astype(np.int32), weights, np.concatenate(parts, axis=1))

    def to_json(self) -> dict[str, Any]:
        """Everything but the vocabulary and its weights."""
        return {
            "declared": self.declared.to_json(),
            **self.rows.to_json(),
            "text": asdict(self.text),
            "max_words": self.max_words,
            "numbers": {name: list(moments) for name, moments in self.numbers.items()},
            "vectors": dict(self.vectors),
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
            {name: (moments[0], moments[1]) for name, moments in data["numbers"].items()},
            dict(data["vectors"]),
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


def _items_with(found: Words, codes: Ints, distinct: int, of_train: Mask) -> Ints:
    """Number of items of train that each distinct word is in."""
    return np.bincount(codes[of_train[found.rows]], minlength=distinct)


def _numbers(table: pa.Table, column: str) -> npt.NDArray[np.float64]:
    """A column as float64, NaN for null."""
    kind = table.schema.field(column).type
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    if not any(test(kind) for test in (*numeric, pa.types.is_null)):
        raise SchemaError(
            f"number({column}) reads a number, but column {column!r} is of type {kind}; declare "
            f"`{column}` itself, or cast it to double"
        )
    values = table.column(column)
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    found = values.cast(pa.float64()).to_numpy()
    return np.where(np.isfinite(found), found, np.nan)


def _moments(table: pa.Table, column: str) -> tuple[float, float]:
    """Mean and standard deviation of a column; the deviation is 1 where all values are equal."""
    values = _numbers(table, column)
    known = values[~np.isnan(values)]
    if not len(known):
        return 0.0, 1.0
    return float(known.mean()), float(known.std()) or 1.0


def _vectors(table: pa.Table, column: str, width: int | None) -> Floats:
    """A column of arrays of numbers as a matrix; zeros for null."""
    kind = table.schema.field(column).type
    lists = table.column(column).combine_chunks()
    nested = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (nested or pa.types.is_fixed_size_list(kind)) or not (
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    ):
        raise SchemaError(
            f"vector({column}) reads an array of numbers, but column {column!r} is of type {kind}"
        )
    present = np.flatnonzero(lists.is_valid().to_numpy(zero_copy_only=False))
    lengths = pa.compute.list_value_length(lists.take(pa.array(present))).to_numpy()
    wanted = int(lengths[0]) if width is None and len(lengths) else (width or 0)
    if (lengths != wanted).any():
        odd = int(lengths[lengths != wanted][0])
        raise DataError(
            f"the vectors of column {column!r} must have one length: an item has {odd:,} numbers, "
            f"not {wanted:,}"
        )
    flat = lists.take(pa.array(present)).flatten().cast(pa.float32())
    values = flat.to_numpy(zero_copy_only=False).reshape(len(present), wanted)
    if not np.isfinite(values).all():
        raise DataError(f"a vector of column {column!r} has a number that is missing or infinite")
    matrix = np.zeros((table.num_rows, wanted), np.float32)
    matrix[present] = values
    return matrix
