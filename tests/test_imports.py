"""The package's import rules: layers point one way, and heavy libraries load where used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
PACKAGE = REPO / "sparkrec"
MODULES = sorted(PACKAGE.rglob("*.py"))
JOBS = sorted((REPO / "jobs").glob("*.py"))

# A module may import from its own tier and from those below it.
TIERS = (
    {
        *("config", "template", "session", "cli", "columns", "errors"),
        *("storage", "s3", "publishing", "tables", "splitmix64", "compiled"),
    },
    {"transforms", "schema", "nn"},
    {"datasets", "baselines", "models", "training", "retrieval", "evaluation"},
)
# Of the lowest tier, what may not even import its neighbours.
LEAVES = {
    "errors": set(),
    "columns": set(),
    "splitmix64": set(),
    "compiled": set(),
    "template": {"errors"},
    "config": {"errors", "template"},
    "s3": {"errors"},
    "storage": {"errors", "s3"},
    "publishing": {"errors", "s3", "storage"},
}
FORBIDDEN = {
    "models": "pyspark",
    "nn": "pyspark",
    "transforms": "torch",
    "baselines": "torch",
}


def imported(path: Path) -> set[str]:
    """Absolute names of all that a module imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            found.add(node.module or "")
            if node.module == "sparkrec":
                found |= {f"sparkrec.{alias.name}" for alias in node.names}
    return found


def parts(names: set[str]) -> set[str]:
    """The first part below `sparkrec` of each of our own names."""
    return {name.split(".")[1] for name in names if name.startswith("sparkrec.")} - {"__version__"}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def tier(part: str) -> int:
    found = [i for i, tier in enumerate(TIERS) if part in tier]
    assert found, f"`{part}` stands in no tier; add it to TIERS"
    return found[0]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")


def test_layers_point_one_way() -> None:
    wrong = []
    for path in MODULES:
        part, names = part_of(path), imported(path)
        if part == "__init__":
            wrong += [(module_name(path), name) for name in sorted(names)]
            continue
        used = parts(names) - {part}
        allowed = {other for other in used if tier(other) <= tier(part)}
        allowed &= LEAVES.get(part, used)
        wrong += [(module_name(path), other) for other in sorted(used - allowed)]
        wrong += [(module_name(path), name) for name in names if name.split(".")[0] == "jobs"]
    assert not wrong


def test_no_heavy_library_where_it_has_no_business() -> None:
    wrong = [
        (module_name(path), name)
        for path in MODULES
        for name in sorted(imported(path))
        if name.split(".")[0] == FORBIDDEN.get(part_of(path))
    ]
    assert not wrong


def loads(modules: list[str]) -> set[str]:
    """Which heavy libraries a fresh interpreter has loaded after importing the modules."""
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(*({'torch', 'pyspark', 'faiss', 'petastorm', 'boto3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def below(*folders: str) -> list[str]:
    return [module_name(path) for path in MODULES if part_of(path) in folders]


def test_baselines_run_without_torch() -> None:
    modules = [*below("baselines", "transforms", "datasets"), "jobs.global_hot", "jobs.prepare"]
    assert loads(modules) == {"pyspark"}


def test_networks_run_without_spark() -> None:
    assert loads(below("models", "nn")) == {"torch"}


def test_the_lowest_tier_is_light() -> None:
    light = [module_name(path) for path in MODULES if part_of(path) in LEAVES]
    assert loads([*light, "sparkrec.schema"]) == set()


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_jobs_are_thin(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "the docstring is what -h shows"
    loops = [n for n in ast.walk(tree) if isinstance(n, ast.For | ast.While | ast.comprehension)]
    assert not loops, "a loop belongs in the library"
    outside = {name.split(".")[0] for name in imported(path)} - {"sparkrec", "pyspark"}
    assert not outside, f"a job needs only the library, not {sorted(outside)}"


def is_main_block(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "main"


def test_the_library_prints_nothing() -> None:
    wrong = []
    for path in MODULES:
        if module_name(path) == "sparkrec.pipeline.cli":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(is_main_block(node) for node in tree.body):
            # A command: its `main` prints.
            tree.body = [node for node in tree.body if not (is_main_block(node) or is_main(node))]
        wrong += [
            f"{module_name(path)}:{node.lineno}: {node.func.id}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("print", "pprint", "breakpoint", "eval", "exec")
        ]
    assert not wrong


def test_nothing_is_pickled_from_disk() -> None:
    """`pickle.loads` only where a training process is handed its task by the driver."""
    wrong = [
        f"{module_name(path)}:{node.lineno}: {ast.unparse(node)}"
        for path in [*MODULES, *JOBS]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "pickle.load")
    ]
    assert not wrong
