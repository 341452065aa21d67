"""MovieLens-1M and MovieLens-100K, from GroupLens's files to canonical tables.

Both are small enough (25 MB) to be parsed on the driver, with Arrow. This also makes `position`
exact: it is the line number in the raw file, however Spark would split the file. For larger
MovieLens releases (CSV), use `sparkrec.datasets.tables`.

Source: F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS
2015. The licence forbids redistribution; download it with `python -m sparkrec.datasets.download`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from sparkrec.bounds import CountOrZero
from sparkrec.config.job import OutputJob
from sparkrec.datasets.prepared import Prepared, check_bad_rows, check_outputs, publish_tables
from sparkrec.errors import DataError, StorageError
from sparkrec.io import storage
from sparkrec.spark_versions import from_arrow

# The order of the 19 flags at the end of a line of u.item (u.genre).
GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip


@dataclass(frozen=True)
class MovieLensInput:
    """Where the raw files are.

    Attributes
    ----------
    path
        Folder with `ratings.dat`, `users.dat`, `movies.dat` (1M), or `u.data`, `u.user`, `u.item`
        (100K); local or `s3://`.
    extra
        File with more about the movies of 1M, `movies_extrainfos.dat`, which GroupLens does not
        have: UTF-8 lines of MovieID, title, year, rating, date, genres, director, writers, actors,
        plot and poster with `::` between them. It adds the columns `directors`, `actors` and `plot`
        to the items.
    """

    path: str
    extra: str | None = None


@dataclass(frozen=True, kw_only=True)
class PrepareMovieLens(OutputJob):
    """Config of `jobs/prepare_ml_1m.py`.

    Attributes
    ----------
    variant
        Format of the files: `1m` or `100k`.
    output_path
        Root of the tables `events`, `users` and `items`.
    max_bad_rows
        Maximum number of bad lines in all three files together; they are left out. With more the
        job fails. The default is 0.1% of ML-1M's ratings; GroupLens's files have no bad line.
    """

    job: Literal["prepare_ml_1m"]
    dataset: str
    input: MovieLensInput
    variant: Literal["1m", "100k"] = "1m"
    max_bad_rows: CountOrZero = 1000


@dataclass(frozen=True)
class _RawFile:
    """Format of a raw file: a pattern with a group per column; lines that do not match are bad."""

    name: str
    pattern: str
    expected: str
    key: tuple[str, ...]
    finish: Callable[[pa.Table, np.ndarray], pa.Table]
    encoding: str = "latin-1"


def prepare_movielens(spark: SparkSession, config: PrepareMovieLens) -> Prepared:
    """Write the events, users and items of MovieLens.

    - `events`: user_id int, movie_id int, rating int, timestamp long (seconds), position long
      (0-based number of the line in the raw file).
    - `users`: user_id int, gender, age int, occupation, zip (text).
    - `items`: movie_id int, title, year int (null where the title names none), genres
      array<string>; with `input.extra` also directors and actors array<string>, and plot.

    Raises
    ------
    StorageError
        A raw file is missing, or another job or program wrote the output.
    DataError
        A raw file is empty, or there are more than `max_bad_rows` bad lines: another number of
        fields, a field that is not a number, a rating outside 1..5, or the key of an earlier line.
    """
    check_outputs(config, tuple(_FILES[config.variant]))
    tables: dict[str, pa.Table] = {}
    bad_rows: dict[str, int] = {}
    for table, raw in _FILES[config.variant].items():
        earlier = sum(bad_rows.values())
        path = storage.join(config.input.path, raw.name)
        tables[table], bad_rows[raw.name] = _read(config, raw, path, earlier)
    if config.input.extra is not None:
        earlier = sum(bad_rows.values())
        extra, bad_rows[_EXTRA.name] = _read(config, _EXTRA, config.input.extra, earlier)
        tables["items"] = _with_extra(tables["items"], extra)
    frames = {name: from_arrow(spark, table) for name, table in tables.items()}
    about = {"dataset": config.dataset, "variant": config.variant, "bad_rows": bad_rows}
    rows = publish_tables(frames, config, about)
    return Prepared(config.output_path, rows, bad_rows)


def _read(config: PrepareMovieLens, raw: _RawFile, path: str, earlier: int) -> tuple[pa.Table, int]:
    try:
        # Latin-1 maps every byte to a character. splitlines() would also split at characters such
        # as \x85, which occur in titles.
        lines = storage.read_bytes(path).decode(raw.encoding, errors="replace").split("\n")
    except StorageError as error:
        if raw is _EXTRA:
            raise StorageError(f"input.extra: {error}") from None
        raise StorageError(
            f"input.path: {error}; MovieLens-{config.variant.upper()} is fetched by "
            f"`python -m sparkrec.datasets.download ml-{config.variant} DIR`"
        ) from None
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise DataError(f"input.path: {path} is empty")
    text = pc.ascii_rtrim(pa.array(lines), "\r")
    fields = pc.extract_regex(text, raw.pattern)
    good = fields.is_valid().to_numpy(zero_copy_only=False)
    shaped = np.flatnonzero(good)
    parsed = pa.Table.from_struct_array(fields.filter(pa.array(good)))
    good[shaped[parsed.select(raw.key).to_pandas().duplicated().to_numpy()]] = False
    if not good.any():
        raise DataError(
            f"input.path: {path} has no usable line; line 1 is {lines[0][:200]!r}, expected "
            f"{raw.expected}"
        )
    bad = int((~good).sum())
    if bad:
        first = int(np.flatnonzero(~good)[0])
        wrong = (
            f"the {' and '.join(raw.key)} of an earlier line"
            if fields[first].is_valid
            else f"expected {raw.expected}"
        )
        where = f"line {first + 1}: {lines[first][:200]!r} ({wrong})"
        check_bad_rows(path, bad, config.max_bad_rows, where, earlier)
    return raw.finish(parsed.filter(pa.array(good[shaped])), np.flatnonzero(good)), bad


def _events(parsed: pa.Table, line: np.ndarray) -> pa.Table:
    ids = {name: parsed[name].cast(pa.int32()) for name in ("user_id", "movie_id", "rating")}
    seconds = parsed["timestamp"].cast(pa.int64())
    return pa.table({**ids, "timestamp": seconds, "position": pa.array(line, pa.int64())})


def _users(parsed: pa.Table, line: np.ndarray) -> pa.Table:
    return pa.table(
        {
            "user_id": parsed["user_id"].cast(pa.int32()),
            "gender": parsed["gender"],
            "age": parsed["age"].cast(pa.int32()),
            "occupation": parsed["occupation"],
            "zip": parsed["zip"],
        }
    )


def _movies(parsed: pa.Table, line: np.ndarray) -> pa.Table:
    titles = [title.strip() for title in parsed["title"].to_pylist()]
    if "flags" in parsed.column_names:
        flags = [value.split("|") for value in parsed["flags"].to_pylist()]
        genres = [[g for g, f in zip(GENRES_100K, row, strict=True) if f == "1"] for row in flags]
    else:
        genres = [value.split("|") for value in parsed["genres"].to_pylist()]
    return pa.table(
        {
            "movie_id": parsed["movie_id"].cast(pa.int32()),
            "title": titles,
            "year": pa.array([year_of(title) for title in titles], pa.int32()),
            "genres": pa.array(genres, pa.list_(pa.string())),
        }
    )


def _extra(parsed: pa.Table, line: np.ndarray) -> pa.Table:
    plots = [None if plot == "N/A" else plot for plot in parsed["plot"].to_pylist()]
    names = {
        column: pa.array(
            [[] if value == "N/A" else value.split(", ") for value in parsed[column].to_pylist()],
            pa.list_(pa.string()),
        )
        for column in ("directors", "actors")
    }
    return pa.table({"movie_id": parsed["movie_id"].cast(pa.int32()), **names, "plot": plots})


def _with_extra(items: pa.Table, extra: pa.Table) -> pa.Table:
    """The items with the columns of `extra`, null where it lacks a movie."""
    place = pd.Index(extra["movie_id"].to_numpy()).get_indexer(items["movie_id"].to_numpy())
    rows = pa.array(place, mask=place < 0)
    for name in ("directors", "actors", "plot"):
        items = items.append_column(name, extra[name].combine_chunks().take(rows))
    return items


def year_of(title: str) -> int | None:
    """The year of release at the end of a MovieLens title: `Heat (1995)` gives 1995."""
    years = re.findall(r"\((\d{4})\)", title)
    return int(years[-1]) if years else None


# Ids of up to nine digits fit into an int.
_USER, _MOVIE = r"(?P<user_id>[1-9]\d{0,8})", r"(?P<movie_id>[1-9]\d{0,8})"
_RATING, _TIME = r"(?P<rating>[1-5])", r"(?P<timestamp>\d{1,12})"
_FILES = {
    "1m": {
        "events": _RawFile(
            "ratings.dat",
            f"^{_USER}::{_MOVIE}::{_RATING}::{_TIME}$",
            "UserID::MovieID::Rating::Timestamp with a rating from 1 to 5",
            ("user_id", "movie_id"),
            _events,
        ),
        "users": _RawFile(
            "users.dat",
            rf"^{_USER}::(?P<gender>[MF])::(?P<age>\d{{1,3}})::(?P<occupation>\d+)::(?P<zip>[^:]+)$",
            "UserID::Gender::Age::Occupation::Zip",
            ("user_id",),
            _users,
        ),
        "items": _RawFile(
            "movies.dat",
            f"^{_MOVIE}::(?P<title>.+)::(?P<genres>[^:]+)$",
            "MovieID::Title::Genres",
            ("movie_id",),
            _movies,
        ),
    },
    "100k": {
        "events": _RawFile(
            "u.data",
            f"^{_USER}\t{_MOVIE}\t{_RATING}\t{_TIME}$",
            "user id, item id, rating and timestamp between tabs, with a rating from 1 to 5",
            ("user_id", "movie_id"),
            _events,
        ),
        "users": _RawFile(
            "u.user",
            rf"^{_USER}\|(?P<age>\d{{1,3}})\|(?P<gender>[MF])\|(?P<occupation>[^|]+)\|(?P<zip>[^|]+)$",
            "user id|age|gender|occupation|zip code",
            ("user_id",),
            _users,
        ),
        "items": _RawFile(
            "u.item",
            rf"^{_MOVIE}\|(?P<title>[^|]+)\|[^|]*\|[^|]*\|[^|]*\|(?P<flags>[01](?:\|[01]){{18}})$",
            "movie id|title|release date|video release date|IMDb URL and 19 flags of 0 or 1",
            ("movie_id",),
            _movies,
        ),
    },
}

_EXTRA = _RawFile(
    "movies_extrainfos.dat",
    rf"^{_MOVIE}::(?:.*?::){{5}}(?P<directors>.*?)::.*?::(?P<actors>.*?)::(?P<plot>.*)::.*$",
    "eleven fields with :: between them, among them director, actors and plot",
    ("movie_id",),
    _extra,
    "utf-8",
)
