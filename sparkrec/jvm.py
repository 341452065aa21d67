"""Keeps the JVM's notices of a normal start, and its repetitions of errors, off the terminal."""

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway

# Only these notices are removed. Errors, stack traces and all other lines are shown.
_NOTICE = re.compile(
    rb"\S+ \S+ (WARN|INFO) "
    rb"|WARNING: Using incubator modules: "
    rb"|Using Spark's default log4j profile: "
    rb"|Setting default log level to "
    rb"|To adjust logging level use "
    rb"|\tat "  # a frame of a stack trace; the line above it says what is wrong
)
# Written to the JVM's stderr when its start is over. All output before it belongs to the start.
_STARTED = b"\0"
_CHUNK = 1 << 16
# They log the stack trace of an error with which the job ends, and which the job reports itself.
_REPEATING = (
    "org.apache.spark.executor.Executor",
    "org.apache.spark.scheduler.TaskSetManager",
    "org.apache.spark.sql.execution.datasources.FileFormatWriter",
    "org.apache.spark.util.Utils",
    "org.apache.spark.TaskContextImpl",
    "org.apache.spark.shuffle",
    "org.apache.spark.storage",
    "org.apache.arrow.memory.BaseAllocator",
)
_silenced = threading.Event()


@contextmanager
def quiet_start(settings: Mapping[str, str]) -> Iterator[None]:
    """Start the JVM of this process, and remove its notices until the context ends.

    One of the notices comes from the JVM itself, so no logging configuration can remove it.
    Therefore a thread reads the JVM's stderr. After the context has ended, it copies everything.
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
        started.wait(1)  # Java's output must come before an error that is shown next


def hush_repeated_errors(context: SparkContext) -> None:
    """Do not log the errors of tasks, which the driver raises as well."""
    assert context._jvm is not None
    log4j = context._jvm.org.apache.logging.log4j
    for name in _REPEATING:
        log4j.core.config.Configurator.setLevel(name, log4j.Level.OFF)


def silence() -> None:
    """Show no more of what the JVM writes: it is about to be ended, and would complain."""
    _silenced.set()


def _pass_on(read: int, started: threading.Event) -> None:
    """Copy a pipe to stderr: before `_STARTED` by lines and without notices, then unchanged."""
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
    if _silenced.is_set():
        return
    with suppress(OSError):  # our stderr is closed; the JVM must not wait for a reader
        os.write(2, text)
