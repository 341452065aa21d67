"""Ta-Feng: grocery baskets of a wholesaler in Taiwan, November 2000 to February 2001.

It is read in the format that next-basket studies use: a JSON object that has for each user a list
of baskets in order of time, each a list of item numbers, `{"1": [[0, 1, 2], [3]], ...}`. The format
has no times, so the number of a basket in its user's list is used as its time.
"""

import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import SparkSession

from sparkrec.config.job import OutputJob
from sparkrec.datasets.prepared import Prepared, check_outputs, publish_tables
from sparkrec.errors import DataError
from sparkrec.io import storage
from sparkrec.spark_versions import from_arrow


@dataclass(frozen=True)
class TaFengInput:
    """Where the raw file is.

    Attributes
    ----------
    baskets
        The JSON file, local or on `s3://`.
    """

    baskets: str


@dataclass(frozen=True, kw_only=True)
class PrepareTaFeng(OutputJob):
    """Config of `jobs/prepare_tafeng.py`.

    Attributes
    ----------
    output_path
        Root of the table `events`.
    """

    job: Literal["prepare_tafeng"]
    dataset: str
    input: TaFengInput


def prepare_tafeng(spark: SparkSession, config: PrepareTaFeng) -> Prepared:
    """Write `events`: user_id int, item_id int, basket_id long, timestamp long, position long.

    `basket_id` is the number of the basket in the file, `timestamp` its number among the user's
    baskets, and `position` the number of the item in the file, all from 0. An item that occurs
    twice in a basket is two events. The driver reads the file.

    Raises
    ------
    StorageError
        The file is missing, or another job or program wrote the output.
    DataError
        The file is not of the form above, or has no basket with an item.
    """
    check_outputs(config, ("events",))
    events = _events(config.input.baskets)
    about = {"dataset": config.dataset}
    tables = {"events": from_arrow(spark, events)}
    rows = publish_tables(tables, config, about)
    users = len(events["user_id"].unique())
    baskets = len(events["basket_id"].unique())
    notes = {"baskets": f"{baskets:,} of {users:,} users"}
    return Prepared(config.output_path, rows, {}, notes=notes)


def _events(path: str) -> pa.Table:
    try:
        users = json.loads(storage.read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"input.baskets: {path} is not JSON: {error}") from None
    if not isinstance(users, dict):
        raise DataError(f"input.baskets: {path} must be an object of users, not a list")
    numbers: list[int] = []
    lengths: list[int] = []
    owners: list[int] = []
    items: list[npt.NDArray[np.int64]] = []
    for user, baskets in users.items():
        try:
            owner = int(user)
            found = [np.array(basket, dtype=np.int64, ndmin=1) for basket in baskets]
        except (TypeError, ValueError, OverflowError):
            found = None
        if found is None or any(basket.ndim > 1 for basket in found):
            raise DataError(
                f"input.baskets: {path}: user {user!r} must be a number with a list of baskets, "
                "each a list of item numbers"
            )
        numbers += range(len(found))
        lengths += [len(basket) for basket in found]
        owners += [owner] * len(found)
        items += found
    if not sum(lengths):
        raise DataError(f"input.baskets: {path} has no basket with an item")
    counts = np.array(lengths)
    every = np.concatenate(items)
    return pa.table(
        {
            "user_id": np.repeat(np.array(owners, np.int32), counts),
            "item_id": every.astype(np.int32),
            "basket_id": np.repeat(np.arange(len(counts)), counts),
            "timestamp": np.repeat(np.array(numbers, np.int64), counts),
            "position": np.arange(len(every)),
        }
    )
