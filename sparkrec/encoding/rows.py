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
from sparkrec.spark_versions import to_arrow
from sparkrec.transforms.history import add_history
from sparkrec.transforms.split import leave_one_out

log = logging.getLogger("sparkrec.training")

Ints = npt.NDArray[np.int64]

# Number of recent items for models that read the history as a feature like any other.
HISTORY_LENGTH = 10


def with_history_features(
    train: DataFrame, schema: FeatureSchema, columns: Columns, length: int
) -> DataFrame:
    """Add the history columns that the schema of the user side names and train does not have."""
    derived = {columns.recent_items, columns.last_item} & set(schema.used_columns)
    if derived - set(train.columns):
        return add_history(train, columns, max_len=length)
    return train


def check_lists(train: DataFrame, column: str, read: int) -> None:
    """Log a warning if all lists in a column of train are shorter than the model could read."""
    if not read or column not in train.columns:
        return
    first = train.agg(F.max(F.size(column))).first()
    longest = max(first[0] or 0, 0) if first is not None else 0
    if longest < read:
        log.warning(
            "the lists `%s` of train have at most %d items, but the model reads up to %d; max_len "
            "of jobs/history_features.py is their maximum length",
            column,
            longest,
            read,
        )


def hold_out_last(train: DataFrame, columns: Columns) -> tuple[DataFrame, DataFrame]:
    """Hold out the last event of every user; returns the marked train rows and the queries.

    Raises
    ------
    DataError
        Train already has a column that marks held-out rows, or it has labels.
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
    """Drop the negatives of train, for losses that do not use them.

    Raises
    ------
    DataError
        Train has labels, so some of its rows are not positives.
    """
    if LABEL in train.columns:
        raise DataError(
            f"train has a column `{LABEL}`, which only loss: {{name: bce, negatives: given}} can "
            "use; for any other loss, remove the rows with label 0, and the column"
        )
    return train.drop(NEGATIVES)


def row_counts(train: DataFrame, item: str, catalogue: Catalogue) -> Ints:
    """Number of training rows of every item, int64 by dense index."""
    table = to_arrow(train.groupBy(item).agg(F.count("*").alias("_sr_rows")))
    counts = np.zeros(len(catalogue) + FIRST_ITEM, np.int64)
    counts[catalogue.index(table.column(item))] = table.column("_sr_rows").to_numpy()
    return counts
