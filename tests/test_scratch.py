"""Temporary folders go with their process, or with the next one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparkrec.scratch import scratch_folder

MAKER = """
import os, signal, sys
from sparkrec.scratch import new_scratch_folder
folder = new_scratch_folder()
(folder / "x").write_text("x")
print(folder, flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "failed":
    raise RuntimeError
"""


def made_by(ending: str, place: Path) -> Path:
    environ = {**os.environ, "TMPDIR": str(place)}
    command = [sys.executable, "-c", MAKER, ending]
    done = subprocess.run(
        command, env=environ, cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    folder = Path(done.stdout.strip())
    assert folder.parent == place, done.stderr
    return folder


@pytest.mark.parametrize("ending", ["ended", "failed"])
def test_a_folder_goes_with_its_process(tmp_path: Path, ending: str) -> None:
    assert not made_by(ending, tmp_path).exists()


def test_the_next_process_removes_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = made_by("killed", tmp_path)
    assert left.exists()
    mine, others = tmp_path / f"sparkrec-{os.getpid()}-mine", tmp_path / "sparkrec-1-x y"
    mine.mkdir()
    others.mkdir()
    made_by("ended", tmp_path)
    assert not left.exists() and mine.exists() and others.exists()


def test_within_another_folder(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        (folder / "x").write_text("x")
    assert list(tmp_path.iterdir()) == []
