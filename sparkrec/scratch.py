"""Temporary folders of this process, `sparkrec-<pid>-...`, which do not outlive it for long.

They are removed when they are no longer needed, at the latest when the process ends. Those of
processes that were killed are removed by the next process that makes one.
"""

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_NAME = re.compile(r"sparkrec-(\d+)-\w+")


def new_scratch_folder() -> Path:
    """Make a folder that is removed when this process ends."""
    sweep_scratch_folders()
    folder = Path(tempfile.mkdtemp(prefix=f"sparkrec-{os.getpid()}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def scratch_folder(within: Path | None = None) -> Iterator[Path]:
    """Make a folder, in the temporary folder or `within` another, for the time of the block."""
    place = within or Path(tempfile.gettempdir())
    sweep_scratch_folders(place)
    with tempfile.TemporaryDirectory(
        prefix=f"sparkrec-{os.getpid()}-", dir=place, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def sweep_scratch_folders(within: Path | None = None) -> None:
    """Remove the folders of processes that are gone."""
    place = within or Path(tempfile.gettempdir())
    for folder in place.glob("sparkrec-*"):
        owner = _NAME.fullmatch(folder.name)
        if owner is not None and not psutil.pid_exists(int(owner[1])):
            shutil.rmtree(folder, ignore_errors=True)
