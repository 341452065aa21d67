"""Tables to what training reads: rows with their history, and counts of items."""

import logging

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.columns import Columns
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.encode import HELD_OUT, LABEL, NEGATIVES
from sparkrec.errors import DataError
from sparkrec.item_index import FIRST_ITEM
from sparkrec.schema.parser import FeatureSchema
from sparkrec.transforms.history import add_history
from sparkrec.transforms.split import leave_one_out

log = logging.getLogger("sparkrec.training")

Ints = npt.NDArray[np.int64]

# Recent items of a row whose history is a feature like others.
HISTORY_LENGTH = 10


def with_history_features(
    train: DataFrame, schema: FeatureSchema, columns: Columns, length: int
) -> DataFrame:
    """Add the history columns that the user side's schema names and train lacks."""
    derived = {columns.recent_items, columns.last_item} & set(schema.used_columns)
    if derived - set(train.columns):
        return add_history(train, columns, max_len=length)
    return train


def check_lists(train: DataFrame, column: str, read: int) -> None:
    """Say so where the lists in a column of train are all shorter than what a model would read."""
    if not read or column not in train.columns:
        return
    first = train.agg(F.max(F.size(column))).first()
    longest = max(first[0] or 0, 0) if first is not None else 0
    if longest < read:
        log.warning(
            "train's lists `%s` have at most %d items where %d would be read; the history "
            "features' max_len says how many they keep",
            column,
            longest,
            read,
        )


def hold_out_last(train: DataFrame, columns: Columns) -> tuple[DataFrame, DataFrame]:
    """Mark the last event of every user as held out; returns train and the queries of those.

    Raises
    ------
    DataError
        Train has a column that says which rows are held out, or a label.
    """
    for mark in (HELD_OUT, LABEL):
        if mark in train.columns:
            raise DataError(
                f"early stopping cannot hold out rows of a train with the column `{mark}`; give "
                "the validation queries, or set training.early_stopping: null"
            )
    split = leave_one_out(train, columns)
    marked = split.train.select(*train.columns, F.lit(False).alias(HELD_OUT)).unionByName(
        split.test.select(*train.columns, F.lit(True).alias(HELD_OUT))
    )
    return marked, split.test


def positives_only(train: DataFrame) -> DataFrame:
    """Train without negatives of its own, for losses that find theirs elsewhere.

    Raises
    ------
    DataError
        Train has labels, hence rows that are no positives.
    """
    if LABEL in train.columns:
        raise DataError(
            f"train has a column `{LABEL}`, which loss: {{name: bce, negatives: given}} alone can "
            "learn from; with any other, leave out the rows with label 0, and the column"
        )
    return train.drop(NEGATIVES)


def row_counts(train: DataFrame, item: str, catalogue: Catalogue) -> Ints:
    """Training rows of every item, by dense index."""
    table = train.groupBy(item).agg(F.count("*").alias("n")).toArrow()
    counts = np.zeros(len(catalogue) + FIRST_ITEM, np.int64)
    counts[catalogue.index(table.column(item))] = table.column("n").to_numpy()
    return counts
