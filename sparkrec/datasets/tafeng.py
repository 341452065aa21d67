"""Ta-Feng: grocery baskets of a wholesaler in Taiwan, November 2000 to February 2001.

Read in the form in which next-basket studies share it: one JSON object, by user a list of baskets
in the order of time, each a list of item numbers, `{"1": [[0, 1, 2], [3]], ...}`. It has no clock,
so a basket's place among its user's stands for its time.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import SparkSession

from sparkrec.datasets.prepared import Prepared, check_outputs, publish_tables
from sparkrec.errors import DataError
from sparkrec.io import storage


@dataclass(frozen=True)
class TaFengInput:
    """The JSON file, local or on `s3://`."""

    baskets: str


@dataclass(frozen=True)
class PrepareTaFeng:
    """Config of `jobs/prepare_tafeng.py`; the table `events` appears below `output_path`."""

    job: Literal["prepare_tafeng"]
    dataset: str
    input: TaFengInput
    output_path: str
    overwrite: bool = False
    spark: dict[str, Any] = field(default_factory=dict)


def prepare_tafeng(spark: SparkSession, config: PrepareTaFeng) -> Prepared:
    """Write `events`: user_id int, item_id int, basket_id long, timestamp long, position long.

    `basket_id` counts all baskets of the file, `timestamp` those of a user before it, `position`
    the items of the file before it. An item twice in a basket is two events. The file is read by
    the driver.

    Raises
    ------
    StorageError
        The file is missing, or the output belongs to something else.
    DataError
        The file is not of the form above, or has no basket with an item.
    """
    check_outputs(config.output_path, ("events",), config.job, config.overwrite)
    events = _events(config.input.baskets)
    about = {"dataset": config.dataset}
    tables = {"events": spark.createDataFrame(events)}
    rows = publish_tables(tables, config.output_path, config.job, config.overwrite, about)
    users = len(events["user_id"].unique())
    baskets = len(events["basket_id"].unique())
    notes = {"baskets": f"{baskets:,} of {users:,} users"}
    return Prepared(config.output_path, rows, {}, notes=notes)


def _events(path: str) -> pa.Table:
    try:
        users = json.loads(storage.read_bytes(path))
    except ValueError as error:
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
