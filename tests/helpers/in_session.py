"""Jobs of `jobs/` run in the tests' own process and session."""

import runpy
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

JOBS = Path(__file__).parents[2] / "jobs"


def run_in(spark: SparkSession, job: str, *arguments: str) -> None:
    """Do what `python jobs/{job}.py arguments...` does, in the session `spark`, which stays open.

    Raises
    ------
    SystemExit
        The job ended with an error line.
    """
    script = str(JOBS / f"{job}.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spark, "stop", lambda: None)
        patch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(script, run_name="__main__")
