"""Machine code on disk is used again, and not after a change of what was compiled into it."""

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
FUNCTIONS = ast.FunctionDef | ast.Lambda
CALLER = """
from callee import SCALE, inner
from sparkrec.compiled import compiled


@compiled
def outer(x):
    return SCALE * inner(x)
"""
CALLEE = """
from sparkrec.compiled import compiled

SCALE = %d


@compiled
def inner(x):
    return x + %d
"""
ASK = """
from caller import outer
print(outer(1), sum(outer.stats.cache_hits.values()))
"""


def ask(*path: Path) -> list[int]:
    """What a fresh interpreter gets of `outer(1)`, and how often it was found on disk."""
    environ = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(map(str, [*path, REPO]))}
    environ.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, env=environ, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()]


def write(folder: Path, scale: int, added: int) -> None:
    (folder / "caller.py").write_text(CALLER)
    (folder / "callee.py").write_text(CALLEE % (scale, added))


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "added"), [(1, 20), (3, 10)], ids=["callee", "constant"])
def test_a_change_elsewhere_is_noticed(tmp_path: Path, scale: int, added: int) -> None:
    write(tmp_path, 1, 10)
    assert ask(tmp_path) == [11, 0]
    assert ask(tmp_path) == [11, 1]
    write(tmp_path, scale, added)
    assert ask(tmp_path) == [scale * (1 + added), 0]
    assert ask(tmp_path) == [scale * (1 + added), 1]


@pytest.mark.slow
def test_nothing_is_cached_of_a_callee_in_a_zip(tmp_path: Path) -> None:
    write(tmp_path, 1, 10)
    with zipfile.ZipFile(tmp_path / "callee.zip", "w") as archive:
        archive.write(tmp_path / "callee.py", "callee.py")
    (tmp_path / "callee.py").unlink()
    for _ in range(2):
        assert ask(tmp_path, tmp_path / "callee.zip") == [11, 0]


def names_in_nested_functions(path: Path) -> set[str]:
    functions = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, FUNCTIONS)]
    nested = [n for outer in functions for n in ast.walk(outer) if n is not outer]
    return {
        name.id
        for inner in nested
        if isinstance(inner, FUNCTIONS)
        for name in ast.walk(inner)
        if isinstance(name, ast.Name)
    }


def test_no_function_that_spark_sends_names_a_compiled_one() -> None:
    """A nested function is sent by value, and with it a compiled one, without its cache."""
    files = sorted((REPO / "sparkrec").rglob("*.py"))
    kernels = {
        node.name
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(d, ast.Name) and d.id == "compiled" for d in node.decorator_list)
    }
    assert len(kernels) > 10
    assert not [path for path in files if kernels & names_in_nested_functions(path)]
