"""What became of a case: right, or one of the ways to be wrong."""

import re
from enum import Enum

from fuzz_child import Ended

_JAVA_TRACE = re.compile(r"^\s+at [\w.$/]+\(", re.M)


class Outcome(Enum):
    """The classes of outcomes; the first two are as they should be."""

    RIGHT = "right"
    CLEAR = "clear error"
    TRACE = "trace"
    CRASH = "crash"
    HANG = "hang"
    WRONG = "silently wrong"
    LOST = "lost"

    @property
    def good(self) -> bool:
        """Whether the case ended as it should."""
        return self in (Outcome.RIGHT, Outcome.CLEAR)


def told(ended: Ended) -> Outcome:
    """The outcome as far as exit code and text say: a success counts as right.

    A clear error is exit code 1 with one line `error: ...`, or the usage of argparse (2), and
    nowhere a stack trace of Python or Java.
    """
    if ended.hung:
        return Outcome.HANG
    if ended.code is None:
        return Outcome.CRASH
    if ended.code == 0:
        return Outcome.RIGHT
    lines = [line for line in ended.printed.splitlines() if line.startswith("error: ")]
    trace = "Traceback (most recent call last)" in ended.printed or _JAVA_TRACE.search(
        ended.printed
    )
    usage = ended.code == 2 and ": error: " in ended.printed
    one_line = ended.code == 1 and len(lines) == 1
    return Outcome.CLEAR if (one_line or usage) and not trace else Outcome.TRACE
