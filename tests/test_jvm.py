"""What of the JVM's stderr reaches the terminal."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sparkrec import jvm

REPO = Path(__file__).parents[1]
START = """
import sys
from sparkrec.session import open_session

spark = open_session("check", {"master": "local[1]", "ui.enabled": "false"}, verbose=%r)
spark.sparkContext._jvm.java.lang.System.err.print("without a line end")
spark.stop()
"""


def started(verbose: bool, environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", START % verbose],
        capture_output=True,
        text=True,
        cwd=REPO,
        env={**os.environ, **environ},
    )


@pytest.mark.slow
def test_a_start_shows_nothing_but_what_comes_after_it() -> None:
    done = started(False, {})
    assert (done.returncode, done.stderr) == (0, "without a line end")


@pytest.mark.slow
def test_a_verbose_start_shows_all() -> None:
    assert "Using Spark's default log4j profile" in started(True, {}).stderr


def test_why_java_does_not_start_is_shown() -> None:
    done = started(False, {"JAVA_HOME": "/no/such/java"})
    assert done.returncode == 1
    assert "/no/such/java" in done.stderr.partition("Traceback")[0]
    assert "What Java said stands above" in done.stderr.splitlines()[-1]


def test_notices_are_left_out_until_the_start_is_over(capfd: pytest.CaptureFixture[str]) -> None:
    notice = b"26/01/02 03:04:05 WARN Utils: a notice\n"
    read, write = os.pipe()
    started = threading.Event()
    reader = threading.Thread(target=jvm._pass_on, args=(read, started))
    reader.start()
    for part in (notice + b"an error\n" + notice[:12], notice[12:] + b"WARNING: Using incubator"):
        os.write(write, part)
    os.write(write, b" modules: x\nhalf" + jvm._STARTED + b" a line\n" + notice)
    assert started.wait(10)
    os.write(write, b"the end")
    os.close(write)
    reader.join()
    assert capfd.readouterr().err == "an error\nhalf a line\n" + notice.decode() + "the end"
