"""Training rows to encoded parquet: fixed-width int64 columns, shuffled, in equal row groups.

A row has `user_0..` (embedding rows of the user side), `item` (dense index of the positive) and
`negative_0..` (dense indices, 0 where fewer could be drawn), or `label`, or neither, and `weight`
(double) where events have weights. Item features are not repeated in every row: they are one
matrix, by dense index.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.sides import QueryEncoder
from sparkrec.errors import DataError
from sparkrec.feed.feed import column_names
from sparkrec.io import storage
from sparkrec.io.publishing import part
from sparkrec.item_index import FIRST_ITEM, PADDING, UNKNOWN

Ints = npt.NDArray[np.int64]

NEGATIVES = "negatives"
LABEL = "label"
WEIGHT = "weight"
HELD_OUT = "is_validation"
_ROWS_PER_GROUP = 32_768
ORDER, _WEIGHT = "_sr_order", "_sr_weight"


@dataclass(frozen=True)
class Encoded:
    """Where the encoded rows are.

    Attributes
    ----------
    path, fit_path
        Folders of all rows, and of those that are not held out for validation.
    fields
        Tensors of a row and their widths.
    rows
        All rows.
    """

    path: str
    fit_path: str
    fields: dict[str, int]
    rows: int


def encode_rows(
    train: DataFrame,
    item_column: str,
    user_encoder: QueryEncoder,
    path: str,
    workers: int,
    seed: int,
    weight: Column | None = None,
) -> Encoded:
    """Write the encoded training rows, and publish them under `path`.

    Rows are put in an order that depends on (seed, row) alone, and into as many files, of one
    row group each, as give every worker an equal share.

    Parameters
    ----------
    train
        The user side's columns, the item column, optionally `negatives` (array) or `label` (0 or
        1), and optionally `is_validation`.
    weight
        Weight of each row in the loss, if rows have weights.

    Raises
    ------
    DataError
        `negatives` are all empty, `label` is not whole numbers, or no rows are left.
    """
    fields, negatives = _fields(train, user_encoder)
    fields |= {WEIGHT: 0} if weight is not None else {}
    key = F.xxhash64(
        F.lit(seed), *(F.col(f"`{name}`") for name in sorted(train.columns) if name != HELD_OUT)
    )
    held_out = F.col(HELD_OUT) if HELD_OUT in train.columns else F.lit(False)
    wanted = [*user_encoder.schema.used_columns, item_column]
    wanted += [name for name in (NEGATIVES, LABEL) if name in train.columns]
    source = train.select(
        *dict.fromkeys(f"`{name}`" for name in wanted),
        held_out.alias(HELD_OUT),
        key.alias(ORDER),
        *([weight.cast("double").alias(_WEIGHT)] if weight is not None else []),
    )
    names = [name for field, width in fields.items() for name in column_names(field, width)]
    schema = T.StructType(
        [
            T.StructField(ORDER, T.LongType()),
            *(T.StructField(name, column_type(name), nullable=False) for name in names),
        ]
    )
    encoder = _RowEncoder(user_encoder, item_column, negatives, schema.names)
    counts = {
        row[HELD_OUT]: row["n"]
        for row in source.groupBy(HELD_OUT).agg(F.count("*").alias("n")).collect()
    }
    rows = sum(counts.values())
    if not counts.get(False):
        raise DataError("no training rows are left once validation rows are held out")
    with part(path, {"rows": rows}) as folder:
        for name, held in (("fit", False), ("held_out", True)):
            if counts.get(held):
                # Spark moves no filter across mapInArrow: behind it, every row would be encoded
                # once for each part.
                chosen = source.where(F.col(HELD_OUT) == held).drop(HELD_OUT)
                encoded = chosen.mapInArrow(encoder, schema)
                write_rows(encoded, names, counts[held], storage.join(folder, name), workers)
    return Encoded(path, storage.join(path, "fit"), fields, rows)


def column_type(column: str) -> T.DataType:
    """Spark's type of an encoded column."""
    return T.DoubleType() if column.startswith(WEIGHT) else T.LongType()


def write_rows(frame: DataFrame, names: list[str], rows: int, path: str, workers: int) -> None:
    """Write rows in their order into files of one row group, equally many for every worker."""
    files = max(workers, -(-rows // _ROWS_PER_GROUP))
    files = min(-(-files // workers) * workers, rows)
    placed = frame.repartition(files, F.col(ORDER)).sortWithinPartitions(ORDER)
    target = storage.spark_path(path)
    placed.select(names).write.option("parquet.block.size", 1 << 30).parquet(target)


class _RowEncoder:
    """Runs on the executors: one Arrow batch of rows to their int64 columns."""

    def __init__(
        self,
        user_encoder: QueryEncoder,
        item_column: str,
        negatives: int,
        names: list[str],
    ) -> None:
        self.user_encoder = user_encoder
        self.catalogue = user_encoder.catalogue
        self.item_column = item_column
        self.negatives = negatives
        self.names = names

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            columns = {name: batch.column(i) for i, name in enumerate(batch.schema.names)}
            users = np.asfortranarray(self.user_encoder.encode(batch))
            arrays = [columns[ORDER], *map(pa.array, users.T)]
            items = self.catalogue.index(columns[self.item_column])
            if np.any(items < FIRST_ITEM):
                raise DataError(f"a training row has a {self.item_column} that no event has")
            arrays.append(pa.array(items))
            if LABEL in columns:
                labels = columns[LABEL].cast(pa.int64())
                if labels.null_count or not np.isin(labels.to_numpy(), (0, 1)).all():
                    raise DataError(f"a row's `{LABEL}` is null or neither 0 nor 1")
                arrays.append(labels)
            elif self.negatives:
                drawn = fixed_width(columns[NEGATIVES], self.negatives, self.catalogue)
                arrays += map(pa.array, np.asfortranarray(drawn).T)
            if _WEIGHT in columns:
                arrays.append(columns[_WEIGHT])
            yield pa.RecordBatch.from_arrays(arrays, self.names)


def _fields(train: DataFrame, encoder: QueryEncoder) -> tuple[dict[str, int], int]:
    fields = {"user": encoder.width, "item": 0}
    if NEGATIVES in train.columns:
        longest = train.agg(F.max(F.size(NEGATIVES))).first()
        assert longest is not None
        if not longest[0] or longest[0] < 1:
            raise DataError("train has no negatives: every array of `negatives` is empty")
        return {**fields, NEGATIVES: int(longest[0])}, int(longest[0])
    if LABEL not in train.columns:
        return fields, 0
    kind = train.schema[LABEL].dataType
    if not isinstance(kind, T.IntegralType | T.BooleanType):
        raise DataError(f"train: column `{LABEL}` is {kind.simpleString()}, but must be 0 or 1")
    return {**fields, LABEL: 0}, 0


def fixed_width(lists: pa.Array, width: int, catalogue: Catalogue) -> Ints:
    """Lists of raw item ids to dense indices [rows, width], 0 where a list is shorter.

    Raises
    ------
    DataError
        A negative is not in the catalogue.
    """
    lengths = np.asarray(pa.compute.fill_null(pa.compute.list_value_length(lists), 0))
    items = catalogue.index(pa.compute.list_flatten(lists))
    if np.any(items == UNKNOWN):
        raise DataError("negatives name an item that no event of train has; sample them anew")
    matrix = np.full((len(lists), width), PADDING, np.int64)
    matrix[np.arange(width) < lengths[:, None]] = items
    return matrix
