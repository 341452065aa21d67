"""A process that runs many jobs of a source tree in one session, and is replaced if it dies."""

import contextlib
import json
import os
import select
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType

WORKER = Path(__file__).parent / "fuzz_worker.py"


@dataclass(frozen=True)
class Ended:
    """How a job ended: exit code, or None if it hung or its process died; and what it printed."""

    code: int | None
    printed: str
    seconds: float
    hung: bool = False


class Child:
    """Jobs of `tree`, run by the interpreter `python`.

    Parameters
    ----------
    environ
        Environment of the jobs.
    folder
        Working directory of the jobs.
    limit
        Seconds after which a job counts as hanging.
    """

    def __init__(
        self, tree: Path, python: Path, environ: dict[str, str], folder: Path, limit: float = 120
    ) -> None:
        self.tree, self.python, self.limit = tree, python, limit
        self.environ, self.folder = {**os.environ, **environ}, folder
        self.log = folder.parent / "log"
        self._process: subprocess.Popen[str] | None = None

    def run(self, job: str, *arguments: str) -> Ended:
        """Run jobs/`job`.py with arguments."""
        process = self._started()
        begin, start = self.log.stat().st_size, monotonic()
        assert process.stdin is not None
        process.stdin.write(json.dumps([job, *arguments]) + "\n")
        process.stdin.flush()
        line, hung = self._line(self.limit)
        if not line.strip():
            self.stop()
        with self.log.open("rb") as log:
            log.seek(begin)
            printed = log.read().decode("utf-8", "replace")
        code = int(line) if line.strip() else None
        return Ended(code, printed, monotonic() - start, hung)

    def stop(self) -> None:
        """End the process and all that it started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def _started(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._process = subprocess.Popen(
                [str(self.python), str(WORKER), str(self.tree), str(self.log)],
                env={**self.environ, "PYTHONPATH": str(self.tree)},
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                start_new_session=True,
            )
            line, _ = self._line(120)
            if line.strip() != "ready":
                raise RuntimeError(f"no session: see {self.log}")
        return self._process

    def _line(self, limit: float) -> tuple[str, bool]:
        """A line of the worker, or nothing if it died or (True) did not answer in time."""
        assert self._process is not None and self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], limit)
        return (self._process.stdout.readline(), False) if ready else ("", True)
