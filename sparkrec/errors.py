"""Errors meant for the person who made the mistake: what is wrong, where, and what to do.

Every message is one line. A job prints it as ``error: ...`` and exits non-zero; ``--debug`` shows
the stack trace as well.
"""


class SparkrecError(Exception):
    """Base of all errors that a user can cause and mend."""


class ConfigError(SparkrecError):
    """A config file or command line is wrong."""


class SchemaError(SparkrecError):
    """A schema file is malformed, or names a column that the data lacks."""


class DataError(SparkrecError):
    """Input data is missing, empty, of the wrong type, or has too many bad rows."""


class StorageError(SparkrecError):
    """A path cannot be read, written or published."""


class TrainingError(SparkrecError):
    """Training cannot start, or cannot go on."""


# Longer texts are cut in messages.
_SHOWN = 200


def cut(text: str) -> str:
    """Return a text for a message, cut after 200 characters."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"


def shown(value: object) -> str:
    """Return a value for a message: its `repr`, cut after 200 characters."""
    return cut(repr(value))
