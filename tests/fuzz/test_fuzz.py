"""A bounded part of the fuzzing that `make fuzz` does: the outcome is right, or one clear line."""

import contextlib
import io
import runpy
import subprocess
import sys
import traceback
from pathlib import Path
from time import monotonic
from typing import Any

import fuzz_mutations as mutations
import pytest
from fuzz_child import Ended
from fuzz_outcomes import Outcome, told
from hypothesis import HealthCheck, given, seed, settings
from in_session import JOBS

REPO = Path(__file__).parents[2]


@seed(0)
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(case=mutations.confs(REPO))
def test_odd_confs(case: tuple[str, str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Read as a job reads its conf, up to where it would start Spark."""
    job, text, what = case
    conf = tmp_path_factory.mktemp("conf") / "case.yaml"
    conf.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MY_S3_BUCKET", str(conf.parent))
        ended = _printed_conf(job, str(conf))
    assert told(ended).good, f"{what}\n{ended.printed}"


@pytest.mark.parametrize(
    ("code", "printed", "outcome"),
    [
        (0, "", Outcome.RIGHT),
        (1, "WARN x\nerror: no such path\n", Outcome.CLEAR),
        (2, "usage: x\nx.py: error: the following arguments are required\n", Outcome.CLEAR),
        (1, "error: one\nerror: two\n", Outcome.TRACE),
        (1, "nothing\n", Outcome.TRACE),
        (1, "Traceback (most recent call last):\n  File x\nerror: no\n", Outcome.TRACE),
        (1, "\tat org.apache.spark.scheduler.Task.run(Task.scala:147)\nerror: x\n", Outcome.TRACE),
        (None, "", Outcome.CRASH),
    ],
)
def test_what_is_told(code: int | None, printed: str, outcome: Outcome) -> None:
    assert told(Ended(code, printed, 0.0)) is outcome


def test_a_hang_is_told() -> None:
    assert told(Ended(None, "", 1.0, hung=True)) is Outcome.HANG


@pytest.mark.slow
@pytest.mark.parametrize("number", [1])
def test_fifty_cases(number: int) -> None:
    """Whole jobs in a session of their own: confs, schema files, saved models and tables."""
    script = str(Path(__file__).parent / "fuzz_run.py")
    done = subprocess.run(
        [sys.executable, script, "--cases", "50", "--seed", str(number)],
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _printed_conf(job: str, conf: str) -> Ended:
    """`python jobs/{job}.py --conf {conf} --print-conf` in this process."""
    script, err, start = str(JOBS / f"{job}.py"), io.StringIO(), monotonic()
    code: Any = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, "--conf", conf, "--print-conf"])
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            try:
                runpy.run_path(script, run_name="__main__")
            except SystemExit as ended:
                code = ended.code
            except Exception:
                code = 1
                traceback.print_exc()
    return Ended(code, err.getvalue(), monotonic() - start)
