"""What the models share that are little more than a table of item counts."""

from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet
from pyspark.sql import DataFrame

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.io import storage
from sparkrec.io.tables import KEY_TYPES, require_columns
from sparkrec.retrieval.base import RetrievalModel

M = TypeVar("M", bound="CountedModel")

_ITEMS = "items.parquet"


class CountedModel(RetrievalModel):
    """A model whose only state is the catalogue with its counts."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self.catalogue = catalogue

    def write_parts(self, folder: str) -> dict[str, Any]:
        self.catalogue.write(storage.join(folder, _ITEMS))
        return {}

    @classmethod
    def read_parts(cls: type[M], folder: str, description: dict[str, Any]) -> M:
        return cls(cls.read_catalogue(folder))

    @staticmethod
    def read_catalogue(folder: str) -> Catalogue:
        """The catalogue that `write_parts` wrote."""
        return Catalogue.read(storage.join(folder, _ITEMS))


def count_items(events: DataFrame, item: str) -> Catalogue:
    """The items of train with their counts.

    Raises
    ------
    DataError
        Train has no such column, or it is no key, or it holds no item.
    """
    require_columns(events, {item: KEY_TYPES}, "train")
    return Catalogue.of(events, item)


def write_parquet(table: pa.Table, path: str) -> None:
    """Write a small table as one file, local or `s3://`."""
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    storage.write_bytes(path, sink.getvalue().to_pybytes())


def read_parquet(path: str) -> pa.Table:
    """The table that `write_parquet` wrote."""
    return pyarrow.parquet.read_table(pa.BufferReader(storage.read_bytes(path)))
