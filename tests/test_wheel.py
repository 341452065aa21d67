"""The wheel, in an environment that otherwise has only the dependencies, runs the jobs."""

import json
import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

import sparkrec
from sparkrec.io.outputs import resolve

REPO = Path(__file__).parents[1]

PREPARE = """
job: prepare
dataset: example
columns: {user: customer_id, item: sku, timestamp: timestamp}
input:
  events:
    path: ${MY_S3_BUCKET}/raw.csv
    format: csv
    columns: {user: who, item: what, timestamp: when}
    timestamp: {format: iso}
output_path: ${MY_S3_BUCKET}/example
"""
GLOBAL_HOT = """
job: global_hot
dataset: example
columns: {user: customer_id, item: sku}
input:
  train: ${MY_S3_BUCKET}/example/leave_one_out/train
  test: ${MY_S3_BUCKET}/example/leave_one_out/test
evaluation: {protocol: leave_one_out}
output_path: ${MY_S3_BUCKET}/example/runs/global_hot
"""
USERS = 20


def call(*command: str | Path, **environ: str) -> str:
    """Run a command outside the repository, without what this process's environment adds."""
    own = ("PYTHONPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "VIRTUAL_ENV")
    clean = {name: value for name, value in os.environ.items() if name not in own}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd="/", env={**clean, **environ}, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy, so that nothing that lies about in this checkout gets in."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPO / "sparkrec", folder / "sparkrec", ignore=ignored)
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder)
    assert len(list((folder / "dist").glob("*.tar.gz"))) == 1
    return next((folder / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter of a new environment: the wheel, and the dependencies of the running one."""
    folder = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel)
    packages = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    # Folders named by a `.pth` file come last, and `.pth` files in them, such as that of an
    # editable sparkrec, are not read.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return python


@pytest.mark.slow
def test_the_wheel_has_the_package_and_its_types(wheel: Path, python: Path) -> None:
    code = "import sparkrec as s, importlib.metadata as m; print(s.__file__, m.version('sparkrec'))"
    place, version = call(python, "-c", code).split()
    assert Path(place).is_relative_to(python.parents[1])
    assert version == sparkrec.__version__
    assert (Path(place).parent / "py.typed").is_file()
    own = {path.relative_to(REPO / "sparkrec") for path in (REPO / "sparkrec").rglob("*.py")}
    package = Path(place).parent
    assert {path.relative_to(package) for path in package.rglob("*.py")} == own


@pytest.mark.slow
def test_jobs_run_with_the_wheel(python: Path, tmp_path: Path) -> None:
    shutil.copytree(REPO / "jobs", tmp_path / "jobs")
    lines = ["who,what,when"]
    for user in range(USERS):
        lines += [f"user {user},{what},2024-01-0{day}" for day, what in enumerate("abc", start=1)]
    (tmp_path / "raw.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "prepare.yaml").write_text(PREPARE)
    (tmp_path / "global_hot.yaml").write_text(GLOBAL_HOT)
    for job, conf in (
        ("prepare", tmp_path / "prepare.yaml"),
        ("history_features", REPO / "conf" / "history_features_example.yaml"),
        ("match_dataset", REPO / "conf" / "match_dataset_example.yaml"),
        ("global_hot", tmp_path / "global_hot.yaml"),
    ):
        command = (python, tmp_path / "jobs" / f"{job}.py", "--conf", conf)
        call(*command, MY_S3_BUCKET=str(tmp_path))
    metrics = json.loads(
        Path(resolve(f"{tmp_path}/example/runs/global_hot"), "metrics.json").read_text()
    )
    assert metrics["versions"]["sparkrec"] == sparkrec.__version__
    assert metrics["results"][0]["n"] == USERS
