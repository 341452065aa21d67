"""Published parquet tables: reads them with checks, and writes them as a whole."""

from collections.abc import Mapping, Sequence
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkrec.errors import DataError, StorageError
from sparkrec.io import storage
from sparkrec.io.publishing import is_foreign, publish, read_manifest

KEY_TYPES = (T.StringType, T.LongType, T.IntegerType, T.ShortType, T.ByteType)
INTEGER_TYPES = (T.LongType, T.IntegerType, T.ShortType, T.ByteType)
NUMBER_TYPES = (*INTEGER_TYPES, T.FloatType, T.DoubleType)


def read_table(
    spark: SparkSession,
    path: str,
    what: str,
    types: Mapping[str, Sequence[type[T.DataType]]] | None = None,
    foreign: bool = False,
) -> DataFrame:
    """Read a published table.

    Parameters
    ----------
    what
        The key of the table in the conf (`input.train`), for error messages.
    types
        Columns that must exist, with the Spark types that each may have.
    foreign
        Whether parquet that another program wrote is accepted, too.

    Raises
    ------
    StorageError
        The path does not exist, or the job that writes it did not finish.
    DataError
        The table has no rows, lacks a column, or has a column of another type.
    """
    try:
        manifest = {} if foreign and is_foreign(path) else read_manifest(path)
    except StorageError as error:
        raise StorageError(f"{what}: {error}") from None
    try:
        frame = spark.read.parquet(storage.spark_path(path))
    except AnalysisException as error:
        raise DataError(f"{what}: {path} holds no parquet table ({error.getCondition()})") from None
    except Py4JJavaError as error:
        # For example, a footer cannot be read; the innermost cause names the file.
        cause = error.java_exception
        while cause.getCause() is not None:
            cause = cause.getCause()
        raise DataError(f"{what}: {path} holds no parquet table ({cause.getMessage()})") from None
    require_columns(frame, types or {}, f"{what}: {path}")
    rows = manifest.get("rows")
    if rows == 0 or (rows is None and foreign and frame.isEmpty()):
        raise DataError(f"{what}: {path} has no rows")
    return frame


def require_columns(
    frame: DataFrame, types: Mapping[str, Sequence[type[T.DataType]]], where: str
) -> None:
    """Raise DataError unless the frame has all columns, each with one of the allowed types."""
    present = {field.name: field.dataType for field in frame.schema.fields}
    for name, allowed in types.items():
        if name not in present:
            raise DataError(f"{where} has no column `{name}` (it has {', '.join(present)})")
        if not isinstance(present[name], tuple(allowed)):
            wanted = " or ".join(dict.fromkeys(kind.typeName() for kind in allowed))
            raise DataError(
                f"{where}: column `{name}` is {present[name].simpleString()}, but must be {wanted}"
            )


def write_table(
    frame: DataFrame,
    path: str,
    made_by: str,
    overwrite: bool = False,
    about: Mapping[str, Any] | None = None,
    files: int | None = None,
) -> dict[str, Any]:
    """Write a table and publish it; returns the entries of its manifest except the files.

    The manifest has `rows`, and `content`, a hash of all rows that does not depend on their order,
    so that equal data has the same hash wherever it was written.

    Parameters
    ----------
    made_by
        Name of the job that writes the table.
    overwrite
        Whether a path that another job or program wrote may be replaced.
    about
        Other entries of the manifest.
    files
        Number of parquet files; None writes one file per partition.
    """
    facts: dict[str, Any] = dict(about or {})
    with publish(path, made_by, overwrite, facts) as staging:
        target = storage.spark_path(staging)
        (frame.repartition(files) if files else frame).write.parquet(target)
        written = frame.sparkSession.read.parquet(target)
        columns = [_cell_hash(field) for field in sorted(written.schema, key=lambda f: f.name)]
        row = written.agg(
            F.count("*").alias("rows"),
            F.sum(F.xxhash64(*columns).cast("decimal(38,0)")).alias("content"),
        ).first()
        assert row is not None
        content = int(row["content"] or 0) & (2**64 - 1)
        facts |= {"rows": int(row["rows"]), "content": f"{content:016x}"}
    return facts


def _cell_hash(field: T.StructField) -> Column:
    """Hash of a column's name and value that is different for null, empty and shorter lists.

    Spark's hash of several columns skips nulls and concatenates lists.
    """
    cell = F.col(f"`{field.name}`")
    parts = [F.lit(field.name), cell, cell.isNull()]
    if isinstance(field.dataType, T.ArrayType):
        parts.append(F.size(cell))
    return F.xxhash64(*parts)


def fingerprint(paths: Mapping[str, str]) -> dict[str, str]:
    """The content hash of each published table, by name; equal data has the same hash."""
    return {name: str(read_manifest(path).get("content", "")) for name, path in paths.items()}
