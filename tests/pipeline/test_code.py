"""The hash of the sources behind a result."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sparkrec.models.registry import find_class
from sparkrec.pipeline import code
from sparkrec.shipping import module_zip

JOBS = Path(__file__).parents[2] / "jobs"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that a test may change."""
    copy = tmp_path / "sparkrec"
    shutil.copytree(code.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGE", copy)
    code._imported.cache_clear()
    yield copy
    code._imported.cache_clear()


@pytest.mark.parametrize(
    ("job", "module", "counts"),
    [
        ("dssm", "models/dssm.py", True),
        ("dssm", "nn/losses.py", True),
        ("dssm", "evaluation/metrics.py", True),
        ("dssm", "retrieval/__init__.py", True),
        ("dssm", "baselines/item_to_item/swing.py", False),
        ("item_cf", "baselines/item_to_item/_item_cf_kernel.py", True),
        ("item_cf", "splitmix64.py", True),
        ("item_cf", "training/loop.py", False),
    ],
)
def test_what_a_job_imports_counts(job: str, module: str, counts: bool, package: Path) -> None:
    script, model = JOBS / f"{job}.py", find_class(job)
    before = code.code_fingerprint(script, model)
    with (package / module).open("a") as file:
        file.write("\n# changed\n")
    code._imported.cache_clear()
    assert (code.code_fingerprint(script, model) != before) is counts


def test_the_package_in_a_zip_counts_as_its_folder() -> None:
    script = JOBS / "item_cf.py"
    program = (
        f"import sys; sys.path.insert(0, {module_zip('sparkrec')!r}); from pathlib import Path; "
        f"from sparkrec.pipeline import code; print(code.code_fingerprint(Path({str(script)!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == code.code_fingerprint(script)


def test_the_script_itself_counts(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    shutil.copy(JOBS / "dssm.py", script)
    assert code.code_fingerprint(script) == code.code_fingerprint(JOBS / "dssm.py")
    script.write_text(script.read_text() + "\n# changed\n")
    assert code.code_fingerprint(script) != code.code_fingerprint(JOBS / "dssm.py")


def test_a_program_without_imports_counts_everything(tmp_path: Path, package: Path) -> None:
    script = tmp_path / "empty.py"
    script.write_text("print('nothing')\n")
    before = code.code_fingerprint(script)
    (package / "baselines" / "__init__.py").write_text("")
    assert code.code_fingerprint(script) != before


def git(folder: Path, *arguments: str) -> str:
    about = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "core.hooksPath=")
    command = ["git", "-C", str(folder), *about, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_a_checkout(package: Path) -> None:
    repo = package.parent
    assert code.commit() is None
    git(repo, "init", "--quiet")
    (repo / "other").write_text("")
    git(repo, "add", "other")
    git(repo, "commit", "--quiet", "-m", "without the package")
    assert code.commit() is None
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "-m", "with the package")
    name = git(repo, "rev-parse", "--short", "HEAD")
    (repo / "other").write_text("changed")
    assert code.commit() == name
    (repo / "jobs").mkdir()
    (repo / "jobs" / "new.py").write_text("")
    assert code.commit() == f"{name}-dirty"


def test_without_git(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert code.commit() is None


def test_the_module_of_a_model_from_outside_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside_net.py").write_text("class Net:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = find_class("outside_net:Net")
    before = code.code_fingerprint(JOBS / "train.py", model)
    (tmp_path / "outside_net.py").write_text("class Net:\n    width = 3\n")
    assert code.code_fingerprint(JOBS / "train.py", model) != before
