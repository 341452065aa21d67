"""Read a raw table wherever it is: parquet, CSV, or a table that Spark knows by name.

Every row also gets `ORDER`, a struct that orders the rows as they stand in the input: by file
path, then by place in the file. Spark cuts files into blocks as its cluster has cores, but within
a block rows come in order, so (file, start of block, counter) is the same order however it cuts.
The rows of a named table have no order of their own; there `ORDER` is null.
"""

import difflib
import re
from dataclasses import dataclass, field
from typing import Literal

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkrec.errors import DataError, StorageError
from sparkrec.io import storage

ORDER = "__order"
CORRUPT = "__corrupt"

_ORDER_TYPE = "struct<file:string,block:bigint,row:bigint>"
_HEADER = re.compile(
    r"CSV header does not conform.*?Header: (.*?) Schema: (.*?) Expected.*?"
    r"CSV file: (\S+)"
)
_UNREADABLE = re.compile(
    r"\[FAILED_READ_FILE[^]]*\] Encountered error while reading file (\S+?)\.? "
)


@dataclass(frozen=True)
class CsvOptions:
    """How a CSV reads. All its values are text; quotes inside quotes are doubled (RFC 4180).

    Attributes
    ----------
    header
        Whether the first line of each file names the columns; without, they are `_c0`, `_c1`, ...
    delimiter, encoding, quote
        As in the file: `"\\t"`, `ISO-8859-1`, ...
    multiline
        Whether a quoted value may hold line breaks; such a file is read by one task.
    null_values
        Texts that mean "nothing there".
    """

    header: bool = True
    delimiter: str = ","
    encoding: str = "UTF-8"
    quote: str = '"'
    multiline: bool = False
    null_values: tuple[str, ...] = ("", "NULL", "null", "\\N")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A raw table: either a path (file, folder or glob; local or `s3://`) or a Spark table.

    Attributes
    ----------
    path
        File, folder or glob.
    table
        Name of a table or view in Spark's catalog, in place of `path`.
    format
        Of the files under `path`.
    csv
        Options of the format `csv`.
    """

    path: str | None = None
    table: str | None = None
    format: Literal["parquet", "csv"] = "parquet"
    csv: CsvOptions = field(default_factory=CsvOptions)

    def __post_init__(self) -> None:
        if (self.path is None) == (self.table is None):
            raise ValueError("path must be given, or table in its place; and not both")

    @property
    def name(self) -> str:
        """The path or table, for messages."""
        return self.path or f"table {self.table}"


def read_source(spark: SparkSession, source: Source, key: str) -> DataFrame:
    """Read a raw table, with `ORDER` and, for a CSV, `CORRUPT` (a malformed line's text) added.

    Parameters
    ----------
    key
        The conf's key for it (`input.events`), named in errors.

    Raises
    ------
    StorageError
        Nothing is there.
    DataError
        What is there cannot be read as the format.
    """
    if source.table is not None:
        try:
            frame = spark.table(source.table)
        except AnalysisException as error:
            raise DataError(
                f"{key}.table: Spark knows no table {source.table} ({error.getCondition()})"
            ) from None
        return frame.withColumn(ORDER, F.lit(None).cast(_ORDER_TYPE))
    assert source.path is not None
    is_glob = any(char in source.path for char in "*?[{")
    if not is_glob and not storage.exists(source.path):
        raise StorageError(f"{key}.path: no such file or folder: {source.path}")
    try:
        path = storage.spark_path(source.path)
        if source.format == "csv":
            frame = _read_csv(spark, path, source.csv)
        else:
            frame = spark.read.parquet(path)
    except AnalysisException as error:
        raise DataError(
            f"{key}.path: cannot read {source.path} as {source.format} ({error.getCondition()})"
        ) from None
    order = F.struct(
        F.col("_metadata.file_path").alias("file"),
        F.col("_metadata.file_block_start").alias("block"),
        F.monotonically_increasing_id().alias("row"),
    )
    return frame.select("*", order.alias(ORDER))


def _read_csv(spark: SparkSession, path: str, options: CsvOptions) -> DataFrame:
    reader = spark.read.options(
        header=options.header,
        sep=options.delimiter,
        encoding=options.encoding,
        quote=options.quote,
        escape=options.quote,
        multiLine=options.multiline,
        mode="PERMISSIVE",
        columnNameOfCorruptRecord=CORRUPT,
        # Files of one folder may differ in the order of their columns: that must not pass unseen.
        enforceSchema=False,
        # A line with too few or too many fields only shows when all of them are read.
        columnPruning=False,
    )
    names = reader.csv(path).columns
    fields = [T.StructField(name, T.StringType()) for name in (*names, CORRUPT)]
    frame = reader.schema(T.StructType(fields)).csv(path)
    nulls = [text for text in options.null_values if text]
    if not nulls:
        return frame
    cleaned = {name: F.when(~column(name).isin(nulls), column(name)) for name in names}
    return frame.withColumns(cleaned)


def column(name: str) -> Column:
    """A column by its exact name, dots and spaces included."""
    return F.col("`" + name.replace("`", "``") + "`")


def require(frame: DataFrame, names: dict[str, str], where: str) -> None:
    """Raise DataError unless the frame has every raw column that the conf names.

    Parameters
    ----------
    names
        The conf's key of each column, and the column: `{"columns.user": "customer"}`.
    where
        The conf's key and path of the frame, named in the error.
    """
    present = [name for name in frame.columns if name not in (ORDER, CORRUPT)]
    lower = {name.lower(): name for name in present}
    for key, name in names.items():
        if name in present:
            continue
        near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
        hint = " or ".join(f"`{lower[match]}`" for match in near)
        hint = f"did you mean {hint}?" if near else f"it has {', '.join(present)}"
        raise DataError(f"{where} has no column `{name}`, which {key} names; {hint}")


def explain_read_error(error: Exception) -> DataError | None:
    """What Spark's executors say about a file that they cannot read, as an error of ours."""
    text = " ".join(str(error).split())
    found = _HEADER.search(text)
    if found is not None:
        header, schema, name = found.groups()
        return DataError(
            f"{name}: its header ({header}) differs from that of the other files ({schema}); "
            "bring the columns into one order, or prepare the files apart"
        )
    found = _UNREADABLE.search(text)
    if found is not None:
        return DataError(
            f"cannot read {found.group(1)}: it is damaged, or not of the format that the conf names"
        )
    return None
