"""Reads a raw table: parquet, CSV, or a table of Spark's catalog.

Every row also gets `ORDER`, a struct that orders the rows by file path and then by place in the
file. Spark splits files into blocks, depending on the number of cores, but the rows within a block
are in order. So (file, start of block, counter) gives the same order for every way to split. The
rows of a catalog table have no order; their `ORDER` is null.
"""

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkrec.columns import RESERVED_PREFIX
from sparkrec.errors import DataError, StorageError, shown
from sparkrec.io import storage
from sparkrec.read_errors import plain_path, unreadable_file
from sparkrec.spark_versions import condition, is_valid_utf8

ORDER = "_sr_order"
CORRUPT = "_sr_corrupt"

_ENCODINGS = (
    *("UTF-8", "US-ASCII", "ISO-8859-1"),
    *("UTF-16", "UTF-16LE", "UTF-16BE", "UTF-32", "UTF-32LE", "UTF-32BE"),
)
_LOST = "\ufffd"  # what Java decodes bytes to that are no character
_DELIMITER = re.compile(r"\\t|[^\w\s\\\x00-\x1f\x7f]{1,4}|[ \t\x01-\x08]")

_ORDER_TYPE = "struct<file:string,block:bigint,row:bigint>"
_HEADER = re.compile(
    r"CSV header does not conform.*?Header: (.*?) Schema: (.*?) Expected.*?"
    r"CSV file: (\S+)"
)


@dataclass(frozen=True)
class CsvOptions:
    """Format of a CSV file. All values are read as text; quotes in quotes are doubled (RFC 4180).

    Attributes
    ----------
    header
        Whether the first line of each file names the columns. If not, they are `_c0`, `_c1`, ...
    delimiter
        Character between the values, such as `"\\t"`, or up to four signs, such as `||`.
    encoding
        Encoding of the file: `UTF-8`, `US-ASCII`, `ISO-8859-1`, or, with `multiline: true`,
        `UTF-16` or `UTF-32` (also with `LE` or `BE`). A row with bytes that are not text of this
        encoding is a bad row; so is one that has the character U+FFFD, by which an earlier program
        replaced such bytes.
    quote
        Character around quoted values; `""` if no value is quoted.
    multiline
        Whether a quoted value may contain line breaks. Such a file is read by a single task.
    null_values
        Texts that mean null.
    """

    header: bool = True
    delimiter: str = ","
    encoding: str = "UTF-8"
    quote: str = '"'
    multiline: bool = False
    null_values: tuple[str, ...] = ("", "NULL", "null", "\\N")

    def __post_init__(self) -> None:
        if self.encoding.upper() not in _ENCODINGS:
            raise ValueError(
                f"encoding must be one of {', '.join(_ENCODINGS)}, not {shown(self.encoding)}; "
                "convert other files, such as with `iconv -f GBK -t UTF-8`"
            )
        if self.encoding.upper().startswith(("UTF-16", "UTF-32")) and not self.multiline:
            raise ValueError(
                f"encoding must be one whose line break is a single byte, or multiline: true be "
                f"set; not {self.encoding}"
            )
        if len(self.quote) > 1 or re.search(r"[\w\s\x00]", self.quote):
            raise ValueError(f'quote must be a single sign, or "", not {shown(self.quote)}')
        quoted = self.quote and self.quote in self.delimiter
        if not _DELIMITER.fullmatch(self.delimiter) or quoted:
            raise ValueError(
                'delimiter must be a sign that is not the quote, such as ",", ";" or "\\t", or up '
                f"to four signs; not {shown(self.delimiter)}"
            )


@dataclass(frozen=True, kw_only=True)
class Source:
    """A raw table: either a path (file, folder or glob; local or `s3://`) or a Spark table.

    Attributes
    ----------
    path
        File, folder or glob.
    table
        Name of a table or view in Spark's catalog, instead of `path`.
    format
        Format of the files of `path`.
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


def read_source(
    spark: SparkSession, source: Source, key: str, without: Collection[str] = ()
) -> DataFrame:
    """Read a raw table and add `ORDER` and, for a CSV, `CORRUPT` (the text of a malformed line).

    Parameters
    ----------
    key
        The key of the source in the conf (`input.events`), for error messages.
    without
        Files that are not read.

    Raises
    ------
    StorageError
        The path does not exist.
    DataError
        The table does not exist, or the files cannot be read in this format.
    """
    if source.table is not None:
        try:
            frame = spark.table(source.table)
        except AnalysisException as error:
            raise DataError(
                f"{key}.table: Spark knows no table {source.table} ({condition(error)})"
            ) from None
        _refuse_own_names(frame, f"{key}: {source.name}")
        return frame.withColumn(ORDER, F.lit(None).cast(_ORDER_TYPE))
    assert source.path is not None
    is_glob = any(char in source.path for char in "*?[{")
    if not is_glob and not storage.exists(source.path):
        raise StorageError(f"{key}.path: no such file or folder: {source.path}")
    try:
        paths = _paths(spark, storage.spark_path(source.path), without)
        if source.format == "csv":
            frame = _read_csv(spark, paths, source.csv)
            lost = next((name for name in frame.columns if _LOST in name), None)
            if lost is not None:
                raise DataError(
                    f"{key}.csv.encoding: {source.path} is not {source.csv.encoding}: its header "
                    f"has {shown(lost)}"
                )
        else:
            frame = spark.read.parquet(*paths)
    except AnalysisException as error:
        raise DataError(
            f"{key}.path: cannot read {source.path} as {source.format} ({condition(error)})"
        ) from None
    _refuse_own_names(frame, f"{key}: {source.name}")
    order = F.struct(
        F.col("_metadata.file_path").alias("file"),
        F.col("_metadata.file_block_start").alias("block"),
        F.monotonically_increasing_id().alias("row"),
    )
    return frame.select("*", order.alias(ORDER))


def _refuse_own_names(frame: DataFrame, where: str) -> None:
    """Refuse raw columns with the names of those that are added, or of Spark's own."""
    for name in frame.columns:
        own = name.lower().startswith(RESERVED_PREFIX) or name.lower() == "_metadata"
        if own and name != CORRUPT:
            raise DataError(f"{where}: the column name `{name}` is reserved; rename the column")


def _paths(spark: SparkSession, path: str, without: Collection[str]) -> list[str]:
    """The path; or, if some of its files are not to be read, the other ones."""
    if not without:
        return [path]
    # With a schema Spark opens no file to list them.
    files = spark.read.schema("_ int").format("csv").load(path).inputFiles()
    # The files are paths with wildcards to Spark, like any other.
    left = [
        re.sub(r"([][*?{}\\])", r"\\\1", unquote(f)) for f in files if plain_path(f) not in without
    ]
    if not left:
        raise DataError(f"{plain_path(path)}: no file is left that can be read")
    return left


def _read_csv(spark: SparkSession, paths: list[str], options: CsvOptions) -> DataFrame:
    reader = spark.read.options(
        header=options.header,
        sep=options.delimiter,
        encoding=options.encoding,
        quote=options.quote,
        escape=options.quote,
        multiLine=options.multiline,
        mode="PERMISSIVE",
        columnNameOfCorruptRecord=CORRUPT,
        # Files of one folder may have different orders of columns, which must be an error.
        enforceSchema=False,
        # A line with too few or too many fields is only found if all fields are read.
        columnPruning=False,
    )
    names = reader.csv(paths).columns
    fields = [T.StructField(name, T.StringType()) for name in (*names, CORRUPT)]
    frame = reader.schema(T.StructType(fields)).csv(paths)
    nulls = [text for text in options.null_values if text]
    if not nulls:
        return frame
    cleaned = {name: F.when(~column(name).isin(nulls), column(name)) for name in names}
    return frame.withColumns(cleaned)


def column(name: str) -> Column:
    """A column by its exact name, which may contain dots and spaces."""
    return F.col("`" + name.replace("`", "``") + "`")


def undecoded(frame: DataFrame, names: Iterable[str]) -> Column:
    """Whether a row has, in one of these columns, bytes that are no text of its encoding."""
    found = F.lit(False)
    for name in names:
        if isinstance(frame.schema[name].dataType, T.StringType):
            value = F.coalesce(column(name), F.lit(""))
            found |= value.contains(_LOST) | ~is_valid_utf8(value)
    return found


def not_text(source: Source) -> str:
    """What is wrong with a row that is `undecoded`."""
    encoding = source.csv.encoding if source.format == "csv" else "UTF-8"
    return f"text that is not {encoding}"


def require(frame: DataFrame, names: dict[str, str], where: str) -> None:
    """Raise DataError unless the frame has every raw column that the conf names.

    Parameters
    ----------
    names
        Raw column by its key in the conf: `{"columns.user": "customer"}`.
    where
        Key and path of the frame in the conf, for the error message.
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
    """Translate Spark's error for a file that it cannot read; None for any other error."""
    text = " ".join(str(error).split())
    found = _HEADER.search(text)
    if found is not None:
        header, schema, name = found.groups()
        return DataError(
            f"{name}: its header ({header}) differs from that of the other files ({schema}); "
            "use the same order of columns, or prepare the files separately"
        )
    file = unreadable_file(error)
    return None if file is None else DataError(str(file))
