"""Shared by all data sets: the limit on bad rows, and publishing the tables."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame

from sparkrec.config.job import OutputJob
from sparkrec.errors import DataError
from sparkrec.io import storage
from sparkrec.io.output_paths import check_output
from sparkrec.io.publishing import publish
from sparkrec.io.tables import write_part

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """The result of a preparation; `str` of it is the summary that a job prints.

    Attributes
    ----------
    path
        Root of the tables.
    rows
        Number of rows of each table, by the name of its folder.
    bad_rows
        Number of raw rows that could not be used, by table or reason.
    left_out
        Number of good raw rows that a rule left out, by rule.
    notes
        Other facts, such as the range of dates.
    """

    path: str
    rows: Mapping[str, int]
    bad_rows: Mapping[str, int]
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"wrote {self.path}"]
        lines += [f"  {name:<8} {count:>12,} rows" for name, count in self.rows.items()]
        for title, counts in (("bad rows", self.bad_rows), ("left out", self.left_out)):
            parts = ", ".join(f"{name} {n:,}" for name, n in counts.items() if n)
            lines.append(
                f"  {title:<8} {sum(counts.values()):>12,}{f' ({parts})' if parts else ''}"
            )
        lines += [f"  {name}: {value}" for name, value in self.notes.items()]
        return "\n".join(lines)


def check_outputs(config: OutputJob, names: tuple[str, ...]) -> None:
    """Raise StorageError, before any work, if the tables must not be written to the output path."""
    check_output(config.output_path, config.made_by, config.overwrite, names)


def publish_tables(
    tables: Mapping[str, DataFrame], config: OutputJob, about: Mapping[str, object]
) -> dict[str, int]:
    """Publish tables together, as the parts of one output; returns the number of rows of each."""
    with publish(**config.target, parts=tuple(tables)) as folder:
        return {
            name: write_part(frame, storage.join(folder, name), dict(about))["rows"]
            for name, frame in tables.items()
        }


def check_bad_rows(where: str, bad: int, limit: int, first: str, earlier: int = 0) -> None:
    """Log the bad rows of an input, or raise DataError if there are more than `limit`.

    Parameters
    ----------
    where
        The input: a file, or the key of the conf and its path.
    bad
        Number of bad rows of the input.
    limit
        Maximum number of bad rows.
    first
        Description of the first bad row: its place, its text, and what is wrong with it.
    earlier
        Number of bad rows of earlier inputs, which count towards the same limit.
    """
    counted = f"{bad:,} bad row{'' if bad == 1 else 's'}"
    if earlier:
        counted += f" after {earlier:,} in the files before"
    if bad + earlier > limit:
        raise DataError(
            f"{where}: {counted}, more than max_bad_rows: {limit}; the first is {first}"
        )
    if bad:
        log.warning("%s: left out %s; the first is %s", where, counted, first)
