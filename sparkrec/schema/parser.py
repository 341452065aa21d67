"""Parses schema files: the declared columns, and the features made from them.

A *column schema* has one column per line, ``index name``; the index is optional. A *combine schema*
has one feature per line: a column, or a cross of columns ``a#b#c``. A part can have the form
``column@alias``: the hash then uses the alias in place of the column's name, so columns with the
same alias share their embeddings (``recent_movie_ids@movie_id`` reads the rows of ``movie_id``).

Three more forms describe the content of items: ``tokens(title)`` are the words of a text,
``number(price)`` is a number itself and not a name for something, and ``vector(embedding)`` is a
ready-made embedding. ``tokens(plot@title)`` reads the rows of ``tokens(title)``.

Both formats are MetaSpore's, but for the three forms. Blank lines and lines that begin with ``#``
are skipped. Any other malformed line is an error that gives the line number.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sparkrec.errors import SchemaError

# No dots: Spark reads `a.b` as a field of a struct.
_NAME = re.compile(r"[^\W\d][\w-]*")
_INDEX = re.compile(r"[0-9]+")
_FORM = re.compile(r"(\w*)\((.*)\)")
FORMS = ("tokens", "number", "vector")
_LISTED = 8  # how many names an error message lists before it says "..."


@dataclass(frozen=True)
class Feature:
    """One line of a combine schema.

    Attributes
    ----------
    name
        The canonical text of the line: without outer spaces, and without an alias that is equal to
        the name of its column.
    columns
        The columns that are read; a feature with several columns is a cross.
    names
        The name under which each column is hashed: its alias, or its own name.
    form
        `value` for a column or a cross of columns, or `tokens`, `number` or `vector`.
    """

    name: str
    columns: tuple[str, ...]
    names: tuple[str, ...]
    form: str = "value"


@dataclass(frozen=True)
class FeatureSchema:
    """The columns and features of one tower.

    Attributes
    ----------
    columns
        Declared columns, in the order of the column schema.
    features
        Features, in the order of the combine schema.
    source
        The column schema's path, for messages; not part of equality.
    """

    columns: tuple[str, ...]
    features: tuple[Feature, ...]
    source: str = field(default="the column schema", compare=False)

    @property
    def used_columns(self) -> tuple[str, ...]:
        """The declared columns that some feature reads, in the order of the column schema."""
        read = {column for feature in self.features for column in feature.columns}
        return tuple(column for column in self.columns if column in read)

    def require(
        self, available_columns: Iterable[str], where: str, used_only: bool = False
    ) -> None:
        """Check that data has every declared column.

        Parameters
        ----------
        available_columns
            Names of the data's columns.
        where
            Name of the data in the message, such as a path.
        used_only
            Whether to check only the columns that a feature reads.

        Raises
        ------
        SchemaError
            A declared column is missing; the message gives its name, the most similar name that
            exists and the schema file.
        """
        available = list(available_columns)
        for column in self.used_columns if used_only else self.columns:
            if column not in available:
                raise SchemaError(
                    f"{where} lacks the column {column!r} that {self.source} declares"
                    f"{did_you_mean(column, available)}"
                )

    def to_json(self) -> dict[str, Any]:
        """The schema as plain dicts and lists, for `from_json`."""
        return {
            "columns": list(self.columns),
            "features": [
                {
                    "name": f.name,
                    "columns": list(f.columns),
                    "names": list(f.names),
                    "form": f.form,
                }
                for f in self.features
            ],
            "source": self.source,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "FeatureSchema":
        """Restore the schema from the output of `to_json`."""
        features = tuple(
            Feature(f["name"], tuple(f["columns"]), tuple(f["names"]), f["form"])
            for f in data["features"]
        )
        return cls(tuple(data["columns"]), features, data["source"])


def feature_schema(
    column_text: str, column_source: str, combine_text: str, combine_source: str
) -> FeatureSchema:
    """Parse both files and check that features only read declared columns.

    Parameters
    ----------
    column_text, combine_text
        The files' contents.
    column_source, combine_source
        The files' paths, for messages.

    Raises
    ------
    SchemaError
        A line is malformed, a file declares nothing, or a feature reads an undeclared column.
    """
    columns = parse_column_schema(column_text, column_source)
    features = []
    for number, feature in _features(combine_text, combine_source):
        for column in feature.columns:
            if column not in columns:
                raise SchemaError(
                    f"{combine_source}:{number}: {feature.name!r} reads the column {column!r}, "
                    f"which {column_source} does not declare{did_you_mean(column, columns)}"
                )
        features.append(feature)
    return FeatureSchema(tuple(columns), tuple(features), column_source)


def parse_column_schema(text: str, source: str) -> list[str]:
    """Column names in the order of their lines.

    Parameters
    ----------
    text
        Lines of ``index name`` or ``name``, separated by spaces or tabs.
    source
        Where the text is from, for messages.

    Raises
    ------
    SchemaError
        A line is malformed, a name or an index is repeated, or there is no column.
    """
    names: dict[str, int] = {}
    indices: dict[str, int] = {}
    for number, line in _lines(text):
        fail = _Failure(source, number, line)
        parts = re.split(r"[ \t]+", line)
        if len(parts) > 2:
            raise fail("expected `index name` or `name`; comments need a line of their own")
        if len(parts) == 2:
            if not _INDEX.fullmatch(parts[0]):
                raise fail(f"the index {parts[0]!r} is not a whole number; write `index name`")
            index = parts[0].lstrip("0") or "0"
            if index in indices:
                raise fail(f"the index {index} already stands on line {indices[index]}; renumber")
            indices[index] = number
        elif _INDEX.fullmatch(parts[0]):
            raise fail("an index without a name; write `index name`")
        name = parts[-1]
        _check_name(name, fail)
        if name in names:
            raise fail(f"{name!r} already stands on line {names[name]}; remove one of the two")
        names[name] = number
    if not names:
        raise SchemaError(f"{source}: declares no column; write one `index name` a line")
    return list(names)


def parse_combine_schema(text: str, source: str) -> list[Feature]:
    """Features in the order of their lines.

    Parameters
    ----------
    text
        One feature per line: ``a``, ``a@alias``, a cross ``a#b@alias#c``, ``tokens(a)``,
        ``tokens(a@alias)``, ``number(a)`` or ``vector(a)``.
    source
        Where the text is from, for messages.

    Raises
    ------
    SchemaError
        A line is malformed, a feature is repeated, a cross repeats a column, or there is no
        feature.
    """
    return [feature for _, feature in _features(text, source)]


def did_you_mean(name: str, choices: Collection[str]) -> str:
    """The end of an error message: the most similar choice, or else a list of the choices."""
    near = difflib.get_close_matches(name, choices, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    if not choices:
        return "; there are none"
    listed = ", ".join(list(choices)[:_LISTED])
    return f"; there are: {listed}{', ...' if len(choices) > _LISTED else ''}"


@dataclass(frozen=True)
class _Failure:
    """Makes the errors of one line."""

    source: str
    number: int
    line: str

    def __call__(self, message: str) -> SchemaError:
        return SchemaError(f"{self.source}:{self.number}: in {self.line!r}: {message}")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines with declarations. A byte order mark and Windows line ends are allowed."""
    for number, raw in enumerate(re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff")), start=1):
        line = raw.strip(" \t")
        if line and not line.startswith("#"):
            yield number, line


def _features(text: str, source: str) -> Iterator[tuple[int, Feature]]:
    seen: dict[str, int] = {}
    for number, line in _lines(text):
        fail = _Failure(source, number, line)
        feature = _feature(line, fail)
        if feature.name in seen:
            raise fail(f"the feature already stands on line {seen[feature.name]}; remove one")
        seen[feature.name] = number
        yield number, feature
    if not seen:
        raise SchemaError(f"{source}: declares no feature; write one column or cross (a#b) a line")


def _feature(line: str, fail: _Failure) -> Feature:
    if " " in line or "\t" in line:
        raise fail("spaces inside a feature; write one a line, `a#b`, comments on their own line")
    found = _FORM.fullmatch(line)
    form, crossed = (found[1], found[2]) if found else ("value", line)
    if found and form not in FORMS:
        raise fail(f"unknown form {form!r}{did_you_mean(form, FORMS)}")
    if found and "#" in crossed:
        raise fail(f"{form}(...) takes one column; write a cross without it")
    if form in ("number", "vector") and "@" in crossed:
        raise fail(f"{form}(...) is not hashed, so it has no alias; write `{form}(column)`")
    columns, names = [], []
    for part in crossed.split("#"):
        if not part:
            raise fail("a cross with an empty part; write `a#b`, with one `#` between columns")
        column, at, alias = part.partition("@")
        if "@" in alias or not column or (at and not alias):
            raise fail(f"{part!r} is not of the form `column` or `column@alias`")
        _check_name(column, fail)
        if at:
            _check_name(alias, fail)
        if column in columns:
            raise fail(f"the column {column!r} stands twice in the cross; remove one")
        columns.append(column)
        names.append(alias or column)
    canonical = "#".join(
        column if column == name else f"{column}@{name}"
        for column, name in zip(columns, names, strict=True)
    )
    name = f"{form}({canonical})" if found else canonical
    return Feature(name, tuple(columns), tuple(names), form)


def _check_name(name: str, fail: _Failure) -> None:
    if _NAME.fullmatch(name):
        return
    odd = next((c for c in name if not re.fullmatch(r"[\w-]", c)), None)
    what = f"has the character {odd!r}" if odd else f"begins with {name[0]!r}"
    raise fail(
        f"the name {name!r} {what}; names begin with a letter or `_` and go on with letters, "
        "digits, `_` and `-`"
    )
