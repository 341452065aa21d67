"""Where outputs are on a local disk, and what a folder held before something was tried on it.

No module of the package is used: the harnesses also run on other versions of it.
"""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MANIFEST = "_sparkrec.json"
LATEST = "LATEST"
CHECKPOINTS = "work/checkpoints"

State = dict[str, tuple[int, int]]


def resolve(path: Path) -> Path:
    """The folder of an output: `X/train` is `X/<run id>/train` if `X/LATEST` has the run id.

    An output without a pointer is in its folder itself.
    """
    for above in (path, *path.parents):
        pointer = above / LATEST
        if pointer.is_file():
            return above / pointer.read_text(encoding="utf-8").strip() / path.relative_to(above)
    return path


def is_published(path: Path) -> bool:
    """Whether the output is there as a whole, or its parts are (a folder of several tables)."""
    folder = resolve(path)
    if (folder / MANIFEST).is_file():
        return True
    return (path / LATEST).is_file() and any(folder.glob(f"*/{MANIFEST}"))


def read_table(path: Path) -> pa.Table:
    """A published table, whichever way it is laid out."""
    files = sorted(resolve(path).glob("*.parquet"))
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files])


def state(root: Path) -> State:
    """Size and time of change of every file below a folder."""
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            about = path.stat()
            found[str(path.relative_to(root))] = (about.st_size, about.st_mtime_ns)
    return found


def restore(root: Path, copy: Path) -> None:
    """Make a folder what its copy is again."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(copy, root, symlinks=True)
