"""Small Arrow tables as single parquet files, local or on S3."""

import pyarrow as pa
import pyarrow.parquet

from sparkrec.io import storage


def write_parquet(path: str, table: pa.Table) -> None:
    """Write a table as one file, atomically."""
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    storage.write_bytes(path, sink.getvalue().to_pybytes())


def read_parquet(path: str) -> pa.Table:
    """Read a table from one file."""
    return pyarrow.parquet.read_table(pa.BufferReader(storage.read_bytes(path)))
