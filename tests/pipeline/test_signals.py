"""SIGINT and SIGTERM end a job within a second, with one line and with all its processes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sparkrec.io import storage
from sparkrec.io.outputs import open_output
from sparkrec.io.publishing import publish

REPO = Path(__file__).parents[2]

JOB = """
import subprocess, sys, time
from sparkrec.io import storage
from sparkrec.io.publishing import publish
from sparkrec.pipeline.signals import ended_by_signals

with ended_by_signals(), publish(sys.argv[1], "job") as folder:
    storage.write_bytes(f"{folder}/x", b"new")
    # A child that ends by itself, and a stubborn one.
    wait = "import os, signal, time; os.write(1, b'ready' + bytes([10])); time.sleep(60)"
    for code in (wait, wait.replace("os.w", "signal.signal(15, signal.SIG_IGN); os.w")):
        subprocess.Popen([sys.executable, "-c", code])
    try:
        time.sleep(60)
    finally:
        if sys.argv[2] == "slow":
            time.sleep(60)
        if sys.argv[2] == "failing":
            raise OSError("the connection is gone")
"""


def lives(process: psutil.Process) -> bool:
    """Whether a process runs; one that nobody has waited for yet is a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("cleaning", ["quick", "slow", "failing"])
def test_a_signal_ends_a_job(tmp_path: Path, number: signal.Signals, cleaning: str) -> None:
    path = str(tmp_path / "out")
    with publish(path, "job") as folder:
        storage.write_bytes(f"{folder}/x", b"old")
    job = subprocess.Popen(
        [sys.executable, "-c", JOB, path, cleaning],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert job.stdout is not None
    assert [job.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    children = psutil.Process(job.pid).children(recursive=True)
    start = time.monotonic()
    job.send_signal(number)
    _, err = job.communicate(timeout=20)
    assert time.monotonic() - start < 3  # one second, and what a busy machine adds
    assert job.returncode == 128 + number
    assert err == f"error: ended by {number.name}; the output before is still in force\n"
    while any(map(lives, children)):
        assert time.monotonic() - start < 3
        time.sleep(0.01)
    assert storage.read_bytes(open_output(path).path("x")) == b"old"
    if cleaning != "slow":
        assert [p.name for p in Path(path).iterdir() if p.name != "LATEST"] == [
            Path(open_output(path).folder).name
        ]
    with publish(path, "job") as folder:
        storage.write_bytes(f"{folder}/x", b"newer")
    assert len(list(Path(path).iterdir())) == 3
