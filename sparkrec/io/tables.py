"""Published parquet tables: reads them with checks, and writes them as a whole."""

from collections.abc import Mapping, Sequence
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkrec.columns import check_column_names
from sparkrec.errors import DataError, StorageError
from sparkrec.io import storage
from sparkrec.io.outputs import Published, is_foreign, open_output, read_manifest
from sparkrec.io.publishing import KEPT_RUNS, part, publish
from sparkrec.read_errors import unreadable_file
from sparkrec.spark_versions import condition

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
        The table has no rows, lacks a column, has a column of another type, or has names of columns
        that the stages cannot work with (see `check_column_names`).
    """
    try:
        published = None if foreign and is_foreign(path) else open_output(path)
    except StorageError as error:
        raise StorageError(f"{what}: {error}") from None
    if published is None:
        frame, rows = _infer(spark, path, what), None
    else:
        frame, rows = read_published(spark, published, f"{what}: {path}")
    check_column_names(frame.columns, f"{what}: {path}")
    require_columns(frame, types or {}, f"{what}: {path}")
    if rows == 0 or (rows is None and frame.isEmpty()):
        raise DataError(f"{what}: {path} has no rows")
    return frame


def _infer(spark: SparkSession, path: str, what: str) -> DataFrame:
    """Read parquet of another program, whose schema Spark finds."""
    try:
        return spark.read.parquet(storage.spark_path(path))
    except AnalysisException as error:
        raise DataError(f"{what}: {path} holds no parquet table ({condition(error)})") from None
    except Py4JJavaError as error:
        bad = unreadable_file(error)
        if bad is None:
            raise
        raise DataError(f"{what}: {path} holds no parquet table ({bad})") from None


def read_published(spark: SparkSession, published: Published, where: str) -> tuple[DataFrame, int]:
    """The files of the manifest, with its schema; returns the number of rows as well."""
    manifest = published.manifest
    try:
        schema, rows = T.StructType.fromJson(manifest["schema"]), int(manifest["rows"])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{where} holds no parquet table (its manifest has no schema)") from None
    paths = [published.folder]
    if published.has_other_files:
        names = [file["name"] for file in manifest["files"]]
        paths = [published.path(name) for name in names if name.endswith(".parquet")]
    return spark.read.schema(schema).parquet(*map(storage.spark_path, paths)), rows


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
    keep: int = KEPT_RUNS,
) -> dict[str, Any]:
    """Write a table and publish it; returns the entries of its manifest except the files.

    The manifest has `rows`, `schema`, and `content`, a hash of all rows that does not depend on
    their order, so that equal data has the same hash wherever it was written.

    Parameters
    ----------
    made_by
        What writes the table, as in `publish`.
    overwrite
        Whether a path that something else made may be written to.
    about
        Other entries of the manifest.
    files
        Number of parquet files; None writes one file per partition.
    keep
        Number of versions to keep, with the new one.
    """
    facts: dict[str, Any] = dict(about or {})
    with publish(path, made_by, overwrite, facts, keep=keep) as folder:
        facts |= _write(frame, folder, files)
    return facts


def write_part(
    frame: DataFrame, folder: str, about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write a table as a part of a version; returns what `write_table` returns."""
    facts: dict[str, Any] = dict(about or {})
    with part(folder, facts):
        facts |= _write(frame, folder)
    return facts


def load_table(spark: SparkSession, path: str) -> DataFrame:
    """Read a published table, or a part of an output, without any demand on its rows."""
    return read_published(spark, open_output(path), path)[0]


def _write(frame: DataFrame, folder: str, files: int | None = None) -> dict[str, Any]:
    """Write parquet files into a folder; returns `rows`, `content` and `schema`."""
    target = storage.spark_path(folder)
    (frame.repartition(files) if files else frame).write.mode("append").parquet(target)
    written = frame.sparkSession.read.schema(frame.schema).parquet(target)
    rows, content = content_hash(written)
    return {"rows": rows, "content": content, "schema": written.schema.jsonValue()}


def content_hash(table: DataFrame) -> tuple[int, str]:
    """The number of rows of a table, and a hash of them that does not depend on their order."""
    columns = [_cell_hash(field) for field in sorted(table.schema, key=lambda f: f.name)]
    row = table.agg(
        F.count("*").alias("rows"),
        F.sum(F.xxhash64(*columns).cast("decimal(38,0)")).alias("content"),
    ).first()
    assert row is not None
    return int(row["rows"]), f"{int(row['content'] or 0) & (2**64 - 1):016x}"


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
