"""Converts sessions between events and text lines, the format of PaddleRec's GRU4Rec.

A line is a session: the numbers of its items in order, separated by spaces. A vocabulary can give
the items of the numbers: it has one item per line, and the line number (from 0) is the item's
number. Without a vocabulary the numbers are the items. The session files are any number of text
files in a folder.
"""

import logging
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.bounds import CountOrZero
from sparkrec.columns import Columns
from sparkrec.config.job import OutputJob
from sparkrec.datasets.prepared import check_bad_rows
from sparkrec.errors import DataError
from sparkrec.io import storage
from sparkrec.io.output_paths import check_output
from sparkrec.io.outputs import resolve
from sparkrec.io.publishing import publish
from sparkrec.io.tables import KEY_TYPES, read_table, write_table
from sparkrec.spark_versions import from_arrow, to_arrow, try_cast
from sparkrec.transforms.windows import user_items

log = logging.getLogger("sparkrec.session_text")

VOCABULARY = "vocab.txt"
_WORD, _NUMBER, _ITEMS = "_sr_word", "_sr_number", "_sr_items"
_FILES = 8


@dataclass(frozen=True)
class SessionTextInput:
    """Either `sessions` to read or `events` to write.

    Attributes
    ----------
    sessions
        Text file, or folder of text files.
    events
        Published events table; `columns.user` is the session.
    vocabulary
        File with the items by number. When text is written, the default is a new vocabulary with
        all items of the events, sorted; events of items that a given vocabulary does not have are
        left out and counted.
    """

    sessions: str | None = None
    events: str | None = None
    vocabulary: str | None = None

    def __post_init__(self) -> None:
        if (self.sessions is None) == (self.events is None):
            raise ValueError("sessions or events must be given, and not both")


@dataclass(frozen=True, kw_only=True)
class SessionText(OutputJob):
    """Config of jobs/session_text.py.

    Attributes
    ----------
    output_path
        With `input.sessions`, the events table. With `input.events`, a folder with `sessions/` and
        `vocab.txt`.
    max_bad_rows
        Maximum number of bad lines; they are left out. With more the job fails.
    """

    job: Literal["session_text"]
    dataset: str
    input: SessionTextInput
    columns: Columns = field(default_factory=lambda: Columns(user="session_id"))
    max_bad_rows: CountOrZero = 0


def convert(spark: SparkSession, config: SessionText) -> str:
    """Run the job; returns a line that says what was written.

    An event that is read from text has the session (the number of its line in all files, from 0),
    the item (text with a vocabulary, otherwise long), its place in the session as timestamp, and
    its position. The driver reads the sessions. Spark writes them, in the order of their ids over
    the files. Sessions without an item are left out.

    Raises
    ------
    StorageError
        An input is missing, or another job or program wrote the output.
    DataError
        More than `max_bad_rows` lines have a word that is not a number or not in the vocabulary,
        no session is left, or the vocabulary has an item twice.
    """
    check_output(config.output_path, config.made_by, config.overwrite)
    if config.input.sessions is not None:
        return _to_events(spark, config, config.input.sessions)
    return _to_text(spark, config, str(config.input.events))


def _to_events(spark: SparkSession, config: SessionText, path: str) -> str:
    columns = config.columns
    vocabulary = _read_vocabulary(config.input.vocabulary)
    lines = pa.array(
        line.strip()
        for file in _text_files(path)
        # A line with bytes that are not UTF-8 is a bad row like others that are not numbers.
        for line in _lines(file, errors="replace")
        if line.strip()
    )
    pattern = r"^\d{1,18}(\s+\d{1,18})*$"
    good = pc.match_substring_regex(lines.cast(pa.string()), pattern)
    tokens = pc.split_pattern_regex(lines.cast(pa.string()).filter(good), r"\s+")
    lengths = pc.list_value_length(tokens).to_numpy(zero_copy_only=False)
    numbers = pc.list_flatten(tokens).cast(pa.int64()).to_numpy(zero_copy_only=False)
    sessions = np.flatnonzero(good.to_numpy(zero_copy_only=False))
    owner = np.repeat(np.arange(len(sessions)), lengths)
    fine = np.ones(len(sessions), bool)
    if vocabulary is not None:
        np.logical_and.at(fine, owner, numbers < len(vocabulary))
    kept = np.zeros(len(lines), bool)
    kept[sessions[fine]] = True
    bad = np.flatnonzero(~kept)
    if len(bad):
        first = f"session {bad[0] + 1}: {lines[int(bad[0])].as_py()[:200]!r}"
        check_bad_rows(path, len(bad), config.max_bad_rows, f"{first} (expected known numbers)")
    if not kept.any():
        raise DataError(f"input.sessions: {path} has no session")
    use = fine[owner]
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    items: pa.Array = pa.array(numbers[use])
    if vocabulary is not None:
        items = vocabulary.take(items)
    events = pa.table(
        {
            columns.user: sessions[owner[use]],
            columns.item: items,
            columns.timestamp: (np.arange(len(numbers)) - starts)[use],
            columns.position: np.arange(int(use.sum())),
        }
    )
    frame = from_arrow(spark, events)
    about = {"dataset": config.dataset, "bad_rows": len(bad)}
    facts = write_table(frame, **config.target, about=about)
    return f"{config.output_path}: {facts['rows']:,} events of {int(fine.sum()):,} sessions"


def _to_text(spark: SparkSession, config: SessionText, path: str) -> str:
    columns = config.columns
    types = dict.fromkeys((columns.user, columns.item), KEY_TYPES)
    events = read_table(spark, path, "input.events", types)
    given = _read_vocabulary(config.input.vocabulary)
    item = events.schema[columns.item].dataType
    words = given
    if words is None:
        words = to_arrow(events.select(columns.item).distinct().orderBy(columns.item)).column(0)
        words = words.combine_chunks().cast(pa.string())
    table = pa.table({_WORD: words, _NUMBER: np.arange(len(words))})
    word = try_cast(F.col(_WORD), item)  # null for a word that is not an id of this type
    numbered = from_arrow(spark, table).select(word.alias(_WORD), _NUMBER)
    joined = events.join(F.broadcast(numbered), F.col(columns.item) == F.col(_WORD), "left")
    numbers = joined.select(
        columns.user, columns.timestamp, columns.position, F.col(_NUMBER).alias(columns.item)
    )
    left_out = 0
    if given is not None:
        left_out = joined.where(F.col(_NUMBER).isNull()).count()
        if left_out:
            log.warning("left out %d events of items that the vocabulary lacks", left_out)
    sessions = user_items(numbers, columns, _ITEMS).where(F.size(_ITEMS) > 0)
    line = F.concat_ws(" ", F.transform(_ITEMS, lambda number: number.cast("string")))
    about: dict[str, Any] = {"dataset": config.dataset, "left_out": left_out}
    with publish(**config.target, about=about) as folder:
        target = storage.spark_path(storage.join(folder, "sessions"))
        _by_id(sessions, columns.user).select(line.alias("value")).write.text(target)
        about["rows"] = spark.read.text(target).count()
        if not about["rows"]:
            raise DataError(f"input.events: {path} has no event of the vocabulary's items")
        text = "".join(f"{word}\n" for word in words.to_pylist())
        storage.write_bytes(storage.join(folder, VOCABULARY), text.encode())
    return (
        f"{config.output_path}: {about['rows']:,} sessions, {len(words):,} items, "
        f"{left_out:,} events of unknown items left out"
    )


def _by_id(sessions: DataFrame, session: str) -> DataFrame:
    return sessions.repartitionByRange(_FILES, session).sortWithinPartitions(session)


def _read_vocabulary(path: str | None) -> pa.Array | None:
    if path is None:
        return None
    words = pa.array(_lines(path), pa.string())
    if len(pc.unique(words)) < len(words):
        raise DataError(f"input.vocabulary: {path} names an item twice")
    if not len(words):
        raise DataError(f"input.vocabulary: {path} is empty")
    return words


def _lines(path: str, errors: str = "strict") -> list[str]:
    try:
        lines = storage.read_bytes(resolve(path)).decode("utf-8", errors).split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}") from None
    if lines[-1] == "":
        lines.pop()
    return [line.rstrip("\r") for line in lines]


def _text_files(path: str) -> list[str]:
    path = resolve(path)
    names = sorted(file.name for file in storage.list_files(path))
    data = [name for name in names if not name.rpartition("/")[2].startswith(("_", "."))]
    if not data:
        return [path]
    return [storage.join(path, name) if name else path for name in data]
