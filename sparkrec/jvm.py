"""Start Spark's JVM so that the notices of a normal start do not reach the terminal."""

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway

# Errors, stack traces and whatever else is not known to be harmless are passed on.
_NOTICE = re.compile(
    rb"\S+ \S+ (WARN|INFO) "
    rb"|WARNING: Using incubator modules: "
    rb"|Using Spark's default log4j profile: "
    rb"|Setting default log level to "
    rb"|To adjust logging level use "
)
# Written into the JVM's stderr when its start is over. All that comes before belongs to the start.
_STARTED = b"\0"
_CHUNK = 1 << 16


@contextmanager
def quiet_start(settings: Mapping[str, str]) -> Iterator[None]:
    """Start this process's JVM, and leave out its notices until the context ends.

    One of the notices is the JVM's own, which no logging configuration changes. So a thread reads
    the JVM's stderr; once the context has ended it passes everything on.
    """
    read, write = os.pipe()
    started = threading.Event()
    threading.Thread(target=_pass_on, args=(read, started), daemon=True).start()
    try:
        gateway = launch_gateway(SparkConf().setAll(list(settings.items())), {"stderr": write})
        SparkContext._ensure_initialized(gateway=gateway)
        yield
    finally:
        os.write(write, _STARTED)
        os.close(write)
        started.wait(1)  # what Java said comes before an error that is shown next


def _pass_on(read: int, started: threading.Event) -> None:
    """Copy a pipe to stderr; up to `_STARTED` by lines and without notices, then as it comes."""
    held, mark = b"", b""
    while not mark:
        before, mark, after = (held + os.read(read, _CHUNK)).partition(_STARTED)
        *lines, held = before.split(b"\n")
        _write(b"".join(line + b"\n" for line in lines if not _NOTICE.match(line)))
    _write(held + after)
    started.set()
    while chunk := os.read(read, _CHUNK):
        _write(chunk)


def _write(text: bytes) -> None:
    with suppress(OSError):  # our stderr is closed; the JVM must not wait for a reader
        os.write(2, text)
