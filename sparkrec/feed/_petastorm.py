"""Adapter: petastorm 0.12.1 on today's pyarrow and numpy. Import it instead of petastorm.

petastorm was written for pyarrow < 15 and numpy < 2. This module supplies what is missing in newer
versions before it imports petastorm: names that only its import statements need, and the legacy
classes `ParquetDataset` and `ParquetDatasetPiece`, as thin wrappers of
`pyarrow.parquet.ParquetFile`. The two classes are only set in petastorm's modules;
`pyarrow.parquet` is not changed.
"""

import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet
import setuptools  # noqa: F401  petastorm imports distutils, which setuptools brings on 3.12+

from sparkrec.errors import DataError
from sparkrec.io.s3_failures import is_from_s3


def _supply_missing_names() -> None:
    for name in ("filesystem", "hdfs"):
        module = types.ModuleType(f"pyarrow.{name}")
        module.HadoopFileSystem = object  # type: ignore[attr-defined]
        module.LocalFileSystem = object  # type: ignore[attr-defined]
        sys.modules.setdefault(f"pyarrow.{name}", module)
        if not hasattr(pa, name):
            setattr(pa, name, module)
    for owner, name, value in (
        (pa, "localfs", None),
        (pa.lib, "ArrowIOError", OSError),
        (np, "unicode_", np.str_),
        (np, "string_", np.bytes_),
    ):
        if not hasattr(owner, name):
            setattr(owner, name, value)


class _Opener:
    """A file system with the method `open(path)` that petastorm needs."""

    def __init__(self, filesystem: pyarrow.fs.FileSystem) -> None:
        self._filesystem = filesystem

    def open(self, path: str) -> pa.NativeFile:
        return self._filesystem.open_input_file(path)


class ParquetDatasetPiece:
    """One parquet file, or one row group of it."""

    def __init__(
        self,
        path: str,
        open_file_func: Any,
        row_group: int | None = None,
        partition_keys: Any = None,
    ) -> None:
        self.path = path
        self.row_group = row_group
        self.partition_keys = partition_keys
        self._open = open_file_func

    def get_metadata(self) -> Any:
        with _naming(self.path), self._open(self.path) as source:
            return pyarrow.parquet.ParquetFile(source).metadata

    def read(self, columns: Any = None, partitions: Any = None) -> pa.Table:
        with _naming(self.path), self._open(self.path) as source:
            file = pyarrow.parquet.ParquetFile(source)
            return file.read_row_group(self.row_group, columns=list(columns))


class ParquetDataset:
    """The parquet files below a folder, in the order of their paths."""

    metadata = None
    common_metadata = None
    partitions = None

    def __init__(
        self, path_or_paths: str, filesystem: pyarrow.fs.FileSystem, **_ignored: Any
    ) -> None:
        self.paths = unquote(path_or_paths)
        if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
            # A bucket and a key: they were given as `file:///bucket/key`.
            self.paths = self.paths.lstrip("/")
        self.fs = _Opener(filesystem)
        self.pieces = [
            ParquetDatasetPiece(path, self.fs.open)
            for path in parquet_files(filesystem, self.paths)
        ]


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turn pyarrow's errors, which do not name the file, into a DataError that does."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if is_from_s3(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"cannot read {path}: it is damaged ({reason}); write it again") from None


def row_counts(filesystem: pyarrow.fs.FileSystem, folder: str) -> list[int]:
    """Number of rows of every row group of the parquet files below a folder.

    Raises
    ------
    DataError
        A file cannot be read.
    """
    opener, counts = _Opener(filesystem), []
    for path in parquet_files(filesystem, folder):
        footer = ParquetDatasetPiece(path, opener.open).get_metadata()
        counts += [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    return counts


def parquet_files(filesystem: pyarrow.fs.FileSystem, folder: str) -> list[str]:
    """Every parquet file below a folder, sorted by path."""
    found = filesystem.get_file_info(pyarrow.fs.FileSelector(folder, recursive=True))
    return sorted(
        info.path for info in found if info.is_file and info.base_name.endswith(".parquet")
    )


_supply_missing_names()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import petastorm.arrow_reader_worker
    import petastorm.etl.dataset_metadata
    import petastorm.reader

_pq = types.SimpleNamespace(ParquetDataset=ParquetDataset, ParquetDatasetPiece=ParquetDatasetPiece)
petastorm.arrow_reader_worker.pq = _pq
petastorm.etl.dataset_metadata.pq = _pq
petastorm.reader.pq = _pq

make_batch_reader = petastorm.reader.make_batch_reader
