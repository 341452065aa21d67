"""Which sources a result was made by: a job's script and all of the package that it imports."""

import ast
import hashlib
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from sparkrec.retrieval.base import Retriever
from sparkrec.shipping import unzipped

PACKAGE = unzipped(str(Path(__file__).parents[1]))
# What jobs import where they train a network.
_NEURAL = Path("pipeline/neural.py")


def code_fingerprint(script: Path | None = None, model: type[Any] | None = None) -> str:
    """A hash of a script and of the modules of the package that it imports, however indirectly.

    Parameters
    ----------
    script
        The job's script; by default the running program. A program that imports nothing of the
        package by itself (a notebook, an interpreter) has a hash of the whole package.
    model
        The class that the job trains, whose module counts wherever it is. The modules of training
        count for networks alone: the script imports them only where it trains one.
    """
    script = script or _running()
    text = script.read_text(encoding="utf-8") if script else ""
    unused = set() if model is None or not issubclass(model, Retriever) else {PACKAGE / _NEURAL}
    if model is not None:
        text += f"\nimport {model.__module__}\n"
    sources = _closure(text, unused)
    if not sources:
        sources, script = set(PACKAGE.rglob("*.py")), None
    digest = hashlib.sha256(script.read_bytes() if script else b"")
    outside = getattr(sys.modules.get(model.__module__), "__file__", None) if model else None
    if outside and PACKAGE.name not in Path(outside).parts:
        digest.update(Path(outside).read_bytes())
    for source in sorted(sources):
        digest.update(str(source.relative_to(PACKAGE)).encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def commit() -> str | None:
    """The git commit of the package's checkout, short; None where there is no checkout.

    It ends in `-dirty` if the package or the jobs differ from the commit.
    """
    # An environment may lie in a checkout of something else, which does not track the package.
    if _git("ls-files", "--error-unmatch", str(PACKAGE / "__init__.py")) is None:
        return None
    name = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", str(PACKAGE), str(PACKAGE.with_name("jobs")))
    return f"{name}-dirty" if changed else name


def _git(*arguments: str) -> str | None:
    """What git prints in the package's folder; None if it fails or is not installed."""
    command = ["git", "-C", str(PACKAGE), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _running() -> Path | None:
    name = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(name) if name and Path(name).is_file() else None


def _closure(text: str, unused: set[Path]) -> set[Path]:
    """Source files of the package that a text imports, and those that they import, but `unused`."""
    found: set[Path] = set()
    new = set(_imported(text)) - unused
    while new:
        found |= new
        imported = (_imported(source.read_text(encoding="utf-8")) for source in new)
        new = {source for sources in imported for source in sources} - found - unused
    return found


@cache
def _imported(text: str) -> frozenset[Path]:
    """Source files of the modules that a text names in its imports, wherever they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    sources = set()
    for name in names:
        first, *rest = name.split(".")
        # Importing a module runs the `__init__` of every package above it.
        steps = [PACKAGE.joinpath(*rest[:depth]) for depth in range(len(rest) + 1)]
        if first == PACKAGE.name:
            files = [step / "__init__.py" for step in steps] + [steps[-1].with_suffix(".py")]
            sources |= {file for file in files if file.is_file()}
    return frozenset(sources)
