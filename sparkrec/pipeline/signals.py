"""Ends a job on SIGINT and SIGTERM: within a second, with one line, and with all its processes."""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from sparkrec.jvm import silence

# Seconds for the job to clean up, and for its processes to end by themselves.
_CLEAN_UP, _GRACE = 0.4, 0.3


class Interrupted(KeyboardInterrupt):
    """Raised in the main thread when a signal ends the job; the line was printed."""


@contextmanager
def ended_by_signals() -> Iterator["Signals"]:
    """End the job of the block on SIGINT and SIGTERM; off the main thread it does nothing."""
    signals = Signals()
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        _end_with_parent()
    before = {number: signal.getsignal(number) for number in Signals.NUMBERS}
    signals.watch()
    try:
        yield signals
    except BaseException:
        # Cleaning up may have failed, and then its error came in the place of `Interrupted`.
        if signals.received is None:
            raise
        end_processes()
        os._exit(128 + signals.received)
    finally:
        if signals.can_watch:
            for number, handler in before.items():
                signal.signal(number, handler)


class Signals:
    """The handlers of a job's signals.

    Attributes
    ----------
    received
        The number of the signal that ends the job; None before.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.can_watch = threading.current_thread() is threading.main_thread()
        self.received: int | None = None

    def watch(self) -> None:
        """Install the handlers; again after Spark has installed one of its own."""
        if self.can_watch:
            for number in self.NUMBERS:
                signal.signal(number, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        for other in self.NUMBERS:
            signal.signal(other, signal.SIG_IGN)
        self.received = number
        logging.disable(logging.CRITICAL)
        silence()
        threading.excepthook = lambda _: None  # of other threads, whose work is cut off
        line = f"error: ended by {signal.Signals(number).name}; the output before is still in force"
        with contextlib.suppress(OSError):  # stderr may be closed
            os.write(2, f"{line}\n".encode())
        # If cleaning up takes too long, the next run does it.
        late = threading.Timer(_CLEAN_UP, _end_at_once, [number])
        late.daemon = True
        late.start()
        raise Interrupted


def _end_with_parent() -> None:
    """End this process when spark-submit, which started it, is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="sparkrec-parent", daemon=True).start()


def _end_at_once(number: int) -> None:
    end_processes()
    os._exit(128 + number)


def end_processes() -> None:
    """End all processes that this one started."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.terminate()
    _, alive = psutil.wait_procs(children, timeout=_GRACE)
    for child in alive:
        with contextlib.suppress(psutil.Error):
            child.kill()
