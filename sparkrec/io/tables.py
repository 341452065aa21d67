"""Published parquet tables: read with checks, write as a whole."""

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
        The conf's key for it (`input.train`), named in errors.
    types
        Columns that must be there, and the Spark types each may have.
    foreign
        Parquet that others wrote will do, too.

    Raises
    ------
    StorageError
        The path is missing, or its writer never finished.
    DataError
        It has no rows, lacks a column, or a column has another type.
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
        # A footer that cannot be read, say; the innermost cause names the file.
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
    """Raise DataError unless the frame has the columns, each of one of its types."""
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
    """Write a table and publish it; returns what its manifest says beside the files.

    The manifest has `rows` and `content`, a hash of all rows that does not depend on their order,
    so that equal data has an equal fingerprint wherever it was written.

    Parameters
    ----------
    files
        Number of parquet files, or None to leave Spark's partitions as they are.
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
    """Hash of a column's name and value, which tells null, an empty list and a shorter one apart.

    Spark's own hash of several columns skips nulls and runs lists together.
    """
    cell = F.col(f"`{field.name}`")
    parts = [F.lit(field.name), cell, cell.isNull()]
    if isinstance(field.dataType, T.ArrayType):
        parts.append(F.size(cell))
    return F.xxhash64(*parts)


def fingerprint(paths: Mapping[str, str]) -> dict[str, str]:
    """The content hash of each named published table: equal data, equal fingerprint."""
    return {name: str(read_manifest(path).get("content", "")) for name, path in paths.items()}
