"""How the Python workers get a module: they import it themselves, or are sent a zip of it."""

import importlib.util
import json
import os
import subprocess
import tempfile
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path

from sparkrec.errors import ConfigError

# Prints the places that a module would be imported from; importing nothing, it takes 50 ms.
_ASK = """
import importlib.util, json, sys
spec = importlib.util.find_spec(sys.argv[1])
print(json.dumps(list(spec.submodule_search_locations or [spec.origin]) if spec else []))
"""
_ASK_SECONDS = 60


def module_zip(name: str) -> str:
    """Zip a top-level module or package, its Python sources alone; return the archive's path.

    Raises
    ------
    ConfigError
        There is no such module here, or none that is made of Python sources.
    """
    sources = []
    for place in _places(_find(name)):
        if Path(place).is_dir():
            sources += [(path, Path(place).parent) for path in sorted(Path(place).rglob("*.py"))]
        elif place.endswith(".py"):
            sources.append((Path(place), Path(place).parent))
    if not sources:
        raise ConfigError(
            f"module `{name}` has no Python sources that could be sent to the executors; "
            f"install it where they run"
        )
    target = Path(tempfile.mkdtemp(prefix="sparkrec-")) / f"{name}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        inside = [(path, path.relative_to(root)) for path, root in sources]
        # Python finds a folder without `__init__.py` in a zip only if the folder has an entry.
        for folder in sorted({folder for _, path in inside for folder in path.parents[:-1]}):
            archive.mkdir(str(folder))
        for path, relative in inside:
            archive.write(path, relative)
    return str(target)


def imports_the_same(python: str, name: str) -> bool:
    """Whether an interpreter, started anew in an empty folder, would import this very module.

    The folder is empty so that what only lies in the working folder does not count.
    """
    own = _places(_find(name))
    with tempfile.TemporaryDirectory(prefix="sparkrec-") as neutral:
        try:
            done = subprocess.run(
                [python, "-c", _ASK, name],
                cwd=neutral,
                capture_output=True,
                text=True,
                timeout=_ASK_SECONDS,
                check=True,
            )
            # What a `.pth` file prints comes before.
            theirs = json.loads(done.stdout.splitlines()[-1])
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            return False
    return [os.path.realpath(place) for place in theirs] == [os.path.realpath(p) for p in own]


def _find(name: str) -> ModuleSpec:
    if name == "__main__":
        raise ConfigError(
            "a class of the program that is running (`__main__`) cannot be sent to the executors; "
            "put the class into a module file"
        )
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # it is imported, by something that left no spec
        spec = None
    if spec is None:
        raise ConfigError(f"there is no module `{name}` on Python's path")
    return spec


def _places(spec: ModuleSpec) -> list[str]:
    """The folders of a package, or the one file of a module."""
    return list(spec.submodule_search_locations or [spec.origin or ""])
