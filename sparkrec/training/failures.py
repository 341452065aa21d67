"""What became of a training on the executors that failed: one line, from many processes' output."""

import contextlib
import io
import json
import logging
import re
from collections.abc import Sequence
from typing import Any, TextIO

log = logging.getLogger("sparkrec.training")

# Begins the line in which a training process logs its error.
REPORT = "sparkrec-error-of-rank "
_KILLED = re.compile(r"rank\s*:\s*(\d+)[^\n]*\n\s*exitcode\s*:\s*-(\d+)")
_PORT_TAKEN = re.compile(r"EADDRINUSE|address already in use", re.IGNORECASE)
# From such a line on, a training process, or torchrun, writes why it ends.
_FAILING = re.compile(
    rf"{re.escape(REPORT)}|Traceback \(most recent call last\)|^\[rank\d+\]: "
    r"|torch/distributed/elastic/.*failed"
)
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ ")


class TrainersOutput(io.TextIOBase):
    """Shows what training processes print, but not the stack traces with which they end.

    TorchDistributor writes their lines to the stderr of the driver, one in each call. Once one of
    them tells of an error, only lines of logs are shown; with `--debug` all are.

    Attributes
    ----------
    held
        The lines that are not shown.
    """

    def __init__(self, shown: TextIO) -> None:
        self._shown = shown
        self._failing = False
        self.held = ""

    def write(self, text: str) -> int:
        self._failing = self._failing or _FAILING.search(text) is not None
        if self._failing and (REPORT in text or not _LOG_LINE.match(text)):
            self.held += text
            if not log.isEnabledFor(logging.DEBUG):
                return len(text)
        return self._shown.write(text)

    def flush(self) -> None:
        self._shown.flush()


def port_was_taken(text: str) -> bool:
    """Whether torchrun did not start because another process had its port."""
    return _PORT_TAKEN.search(text) is not None


def what_failed(workers: int, text: str, reports: Sequence[dict[str, Any]]) -> str:
    """The error message of a failed training.

    It prefers the error of a process over the errors of processes that only lost another one.

    Parameters
    ----------
    text
        The error of TorchDistributor, and what the training processes printed at their end.
    reports
        The errors that they wrote to the storage; if there are none, those in `text` are taken.
    """
    reports = sorted(
        reports or _logged(text),
        key=lambda r: (r["kind"] in ("DistBackendError", "RuntimeError"), r["rank"]),
    )
    for report in reports:
        log.debug("rank %s on %s:\n%s", report["rank"], report["host"], report["trace"])
    killed = _KILLED.search(text)
    again = "; set training.resume: true to continue from the last checkpoint"
    if killed:
        return (
            f"training process {killed.group(1)} was killed by signal {killed.group(2)} (signal 9 "
            f"is often the machine out of memory){again}"
        )
    if reports:
        first = reports[0]
        lost = first["kind"] in ("DistBackendError", "RuntimeError") and "peer" in first["error"]
        if not lost:
            return (
                f"training process {first['rank']} on {first['host']} failed: "
                f"{first['kind']}: {first['error']}"
            )
        return f"a training process died, and process {first['rank']} lost it{again}"
    text = " ".join(text.split())
    if "barrier" in text.lower() and "slots" in text.lower():
        return f"training.workers is {workers}, but the cluster has fewer free slots"
    if port_was_taken(text):
        return f"the port of the training was taken by another process, each time{again}"
    if "failed with return code" in text or "TorchDistributor failed" in text:
        return (
            "a training process died without an error of its own (killed, perhaps for want of "
            f"memory){again}"
        )
    return f"training on the executors failed: {text[:500]}"


def _logged(text: str) -> list[dict[str, Any]]:
    """The reports among the lines that training processes logged."""
    found = []
    for line in text.splitlines():
        # A line may be cut.
        with contextlib.suppress(ValueError):
            found.append(json.loads(line.partition(REPORT)[2]))
    return found
