"""Finds the processes that a test started by a mark in their environment.

A process that outlives its parent belongs to nobody's children any more, but it keeps the
environment in which it was started. So do all processes that it starts in turn.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Callable

import psutil

MARK = "SPARKREC_TEST_MARK"


def new_mark() -> str:
    """A value for `MARK` that no other process has."""
    return uuid.uuid4().hex


def marked(mark: str) -> list[psutil.Process]:
    """All living processes with this mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            alive = process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid()
            if alive and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def left(mark: str, seconds: float) -> list[psutil.Process]:
    """The marked processes that still live after so many seconds; returns early if none does."""
    until = time.monotonic() + seconds
    while (alive := marked(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    return alive


def kill_marked(mark: str) -> None:
    """`kill -9` of all processes with this mark, and of those that they start meanwhile."""
    while alive := marked(mark):
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=1)


def wait_until(holds: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until something holds; raises TimeoutError, which says what, if it does not."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)
