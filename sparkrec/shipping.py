"""Makes a module available in the Python workers, which import it themselves or get it as a zip."""

import importlib.util
import json
import os
import subprocess
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path

from sparkrec.errors import ConfigError
from sparkrec.scratch import new_scratch_folder, scratch_folder

# Prints the paths from which a module would be imported. It imports nothing and takes 50 ms.
_ASK = """
import importlib.util, json, sys
spec = importlib.util.find_spec(sys.argv[1])
print(json.dumps(list(spec.submodule_search_locations or [spec.origin]) if spec else []))
"""
_ASK_SECONDS = 60


def module_zip(name: str) -> str:
    """Zip the Python sources of a top-level module or package; returns the path of the archive.

    Raises
    ------
    ConfigError
        There is no such module, or it has no Python sources.
    """
    sources = []
    for place in map(unzipped, _places(_find(name))):
        if place.is_dir():
            sources += [(path, place.parent) for path in sorted(place.rglob("*.py"))]
        elif place.suffix == ".py":
            sources.append((place, place.parent))
    if not sources:
        raise ConfigError(
            f"module `{name}` has no Python sources that could be sent to the executors; "
            f"install it where they run"
        )
    # Spark takes no two files of one name, and `--py-files` may have given it a `sparkrec.zip`.
    target = new_scratch_folder() / f"shipped-{name}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        inside = [(path, path.relative_to(root)) for path, root in sources]
        # Python finds a folder without `__init__.py` in a zip only if the folder has an entry.
        for folder in sorted({folder for _, path in inside for folder in path.parents[:-1]}):
            archive.mkdir(str(folder))
        for path, relative in inside:
            archive.write(path, relative)
    return str(target)


def unzipped(place: str) -> Path:
    """The path of a package's folder or of a module's file; of a copy, if it is inside a zip.

    A driver on a cluster imports from a zip if spark-submit was given `--py-files`.
    """
    path = Path(place)
    archive = next((above for above in path.parents if above.is_file()), None)
    if archive is None or not zipfile.is_zipfile(archive):
        return path
    inside = path.relative_to(archive)
    target = new_scratch_folder()
    with zipfile.ZipFile(archive) as source:
        names = [name for name in source.namelist() if Path(name).is_relative_to(inside)]
        source.extractall(target, names)
    return target / inside


def imports_the_same(python: str, name: str) -> bool:
    """Whether a new process of an interpreter would import the module from the same files.

    It is started in an empty folder, so that modules in the working folder are not found.
    """
    own = _places(_find(name))
    with scratch_folder() as neutral:
        try:
            done = subprocess.run(
                [python, "-c", _ASK, name],
                cwd=neutral,
                capture_output=True,
                text=True,
                timeout=_ASK_SECONDS,
                check=True,
            )
            # A `.pth` file may print something first.
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
