"""Disks that are too small, for tests that may mount file systems."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layouts import restore


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A file system of this size, with the folder's files, in the place of the folder."""
    kept = folder.with_name(folder.name + "-kept")
    folder.mkdir(exist_ok=True)
    restore(kept, folder)
    mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
    try:
        shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
        yield
    finally:
        shutil.rmtree(kept)
        restore(kept, folder)
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        restore(folder, kept)
        shutil.rmtree(kept)


def can_mount() -> bool:
    """Whether this process may mount a file system."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return done.returncode == 0


def mount(*arguments: str) -> None:
    """Run `mount`."""
    subprocess.run(["mount", *arguments], check=True)


def kilobytes(folder: Path) -> int:
    """The room that a folder takes on a tmpfs: whole pages of 4 KiB for the files' contents."""
    return sum(4 * -(-p.stat().st_size // 4096) for p in folder.rglob("*") if p.is_file())
