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

# The floors of the house, lowest first: a module imports from its own floor and from those below.
FLOORS = (
    {
        "nn",
        "columns",
        "errors",
        "bounds",
        "read_errors",
        "compiled",
        "splitmix64",
        "item_index",
        "scratch",
        "shipping",
        "jvm",
        "spark_versions",
        "s3a",
    },
    {"models", "schema", "session", "config", "io"},
    {"feed", "transforms", "evaluation"},
    {"encoding", "datasets"},
    {"retrieval"},
    {"training", "baselines"},
    {"pipeline"},
)
# Libraries that a room, or a part of one, must not import.
FORBIDDEN = {
    "models": "pyspark",
    "nn": "pyspark",
    "transforms": "torch",
    "baselines": "torch",
    "retrieval/search": "pyspark",
    "retrieval/answering": "pyspark",
}
# What can be imported without anything heavy.
LIGHT = ("errors", "bounds", "columns", "splitmix64", "item_index", "config", "models/registry")
LIGHT_SCHEMA = ("schema/__init__", "schema/parser", "schema/hashing", "schema/encoder")
LIGHT_IO = ("io/storage", "io/s3", "io/outputs", "io/publishing")


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


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def within(path: Path, place: str) -> bool:
    """Whether a module is a room, a part of one, or a file: `models`, `retrieval/search`."""
    inside = path.relative_to(PACKAGE).with_suffix("").as_posix()
    return inside == place or inside.startswith(f"{place}/")


def floor(part: str) -> int:
    found = [i for i, floor in enumerate(FLOORS) if part in floor]
    assert found, f"`{part}` stands on no floor; add it to FLOORS"
    return found[0]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")


def graph() -> dict[str, set[str]]:
    """Which modules of the package each of them imports, wherever in it the import stands."""
    names = {module_name(path) for path in MODULES}
    found = {}
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        used = imported(path)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                used |= {f"{node.module}.{alias.name}" for alias in node.names}
        found[module_name(path)] = (used & names) - {module_name(path), "sparkrec"}
    return found


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Nodes of a circle, in order, or none."""
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        for other in sorted(edges[node]):
            if found := walk(other, [*way, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(edges) if (found := walk(node, []))), [])


def test_floors_and_no_arrow_that_runs_up() -> None:
    wrong = []
    for name, used in graph().items():
        if name == "sparkrec":
            assert not used
            continue
        part = name.split(".")[1]
        wrong += [
            f"{name} imports {other} from above"
            for other in sorted(used)
            if floor(other.split(".")[1]) > floor(part)
        ]
    assert not wrong


def test_nothing_imports_a_job() -> None:
    assert not [path for path in MODULES if "jobs" in {n.split(".")[0] for n in imported(path)}]


def test_no_circle_of_modules_and_none_of_rooms() -> None:
    modules = graph()
    assert circle(modules) == []
    rooms: dict[str, set[str]] = {part: set() for floor in FLOORS for part in floor}
    for name, used in modules.items():
        if name != "sparkrec":
            room = name.split(".")[1]
            rooms[room] |= {other.split(".")[1] for other in used} - {room}
    assert circle(rooms) == []


def test_circles_are_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b"}, "b": set()}) == []


def test_no_heavy_library_where_it_has_no_business() -> None:
    wrong = [
        (module_name(path), library)
        for path in MODULES
        for place, library in FORBIDDEN.items()
        if within(path, place) and library in {name.split(".")[0] for name in imported(path)}
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


def below(*places: str) -> list[str]:
    found = [module_name(path) for path in MODULES if any(within(path, place) for place in places)]
    assert found
    return found


def test_baselines_run_without_torch() -> None:
    modules = [*below("baselines", "transforms", "datasets"), "jobs.global_hot", "jobs.prepare"]
    assert loads(modules) == {"pyspark"}


def test_networks_run_without_spark() -> None:
    assert loads(below("models", "nn")) == {"torch"}


def test_what_answers_runs_without_spark() -> None:
    assert loads(below("retrieval/search", "retrieval/answering")) == {"torch", "faiss"}


def test_the_lowest_floors_are_light() -> None:
    assert loads(below(*LIGHT, *LIGHT_IO, *LIGHT_SCHEMA)) == set()


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
