"""Which sources a result was made by: a job's script and all of the package that it imports."""

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def code_fingerprint(script: Path | None = None) -> str:
    """A hash of a script and of the modules of the package that it imports, however indirectly.

    Without a script it is that of the running program; a program that imports nothing of the
    package by itself (a notebook, an interpreter) has a hash of the whole package. What only a
    model of the registry imports is found through the script that names the model.
    """
    script = script or _running()
    sources = _closure(script.read_text(encoding="utf-8")) if script else set()
    if not sources:
        sources, script = set(PACKAGE.rglob("*.py")), None
    digest = hashlib.sha256(script.read_bytes() if script else b"")
    for source in sorted(sources):
        digest.update(str(source.relative_to(PACKAGE)).encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def _running() -> Path | None:
    name = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(name) if name and Path(name).is_file() else None


def _closure(text: str) -> set[Path]:
    """Source files of the package that a text imports, and those that they import."""
    found: set[Path] = set()
    new = set(_imported(text))
    while new:
        found |= new
        imported = (_imported(source.read_text(encoding="utf-8")) for source in new)
        new = {source for sources in imported for source in sources} - found
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
