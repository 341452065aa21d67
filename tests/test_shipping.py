"""What a zip for the executors holds, and whether another interpreter needs it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sparkrec.errors import ConfigError
from sparkrec.shipping import imports_the_same, module_zip

REPO = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def imported(archive: str, statement: str) -> str:
    """What an interpreter that has the zip on its path prints."""
    code = f"import sys; sys.path.insert(0, {archive!r}); {statement}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_our_package() -> None:
    names = zipfile.ZipFile(module_zip("sparkrec")).namelist()
    files = {name for name in names if not name.endswith("/")}
    assert files == {str(path.relative_to(REPO)) for path in (REPO / "sparkrec").rglob("*.py")}


def test_a_single_file(folder: Path) -> None:
    (folder / "alone.py").write_text("print('alone')\n")
    archive = module_zip("alone")
    assert zipfile.ZipFile(archive).namelist() == ["alone.py"]
    assert imported(archive, "import alone") == "alone"


def test_a_package_without_init_and_with_other_files(folder: Path) -> None:
    (folder / "loose" / "deep").mkdir(parents=True)
    (folder / "loose" / "deep" / "model.py").write_text("print('model')\n")
    (folder / "loose" / "weights.bin").write_bytes(bytes(1000))
    archive = module_zip("loose")
    assert "loose/weights.bin" not in zipfile.ZipFile(archive).namelist()
    assert imported(archive, "import loose.deep.model") == "model"


def test_a_package_that_was_imported_from_a_zip() -> None:
    """As in a driver on a cluster that got sparkrec by `spark-submit --py-files`."""
    archive = module_zip("sparkrec")
    statement = (
        "import zipfile; from sparkrec.shipping import module_zip; "
        "print(sorted(zipfile.ZipFile(module_zip('sparkrec')).namelist()))"
    )
    assert imported(archive, statement) == str(sorted(zipfile.ZipFile(archive).namelist()))


def test_a_module_that_was_imported_from_a_zip(folder: Path) -> None:
    (folder / "alone.py").write_text("print('alone')\n")
    statement = (
        f"sys.path.append({str(REPO)!r}); import zipfile; from sparkrec.shipping import module_zip;"
        "print(zipfile.ZipFile(module_zip('alone')).namelist())"
    )
    assert imported(module_zip("alone"), statement) == "['alone.py']"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("__main__", "put the class into a module file"),
        ("no_such_module", "there is no module `no_such_module`"),
        ("math", "module `math` has no Python sources"),
    ],
)
def test_what_cannot_be_sent(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        module_zip(name)


def test_another_interpreter_may_find_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "alone.py").write_text("")
    assert not imports_the_same(sys.executable, "alone")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    assert imports_the_same(sys.executable, "alone")


def test_another_copy_is_not_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "alone.py").write_text("")
    copy = folder / "elsewhere"
    copy.mkdir()
    (copy / "alone.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(copy))
    assert not imports_the_same(sys.executable, "alone")


def test_the_working_folder_does_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "alone.py").write_text("")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(folder)
    assert not imports_the_same(sys.executable, "alone")


def test_an_interpreter_that_is_not_there() -> None:
    assert not imports_the_same("/no/such/python", "sparkrec")
