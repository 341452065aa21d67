"""Jobs of `jobs/` run in the tests' own process and session."""

import importlib.util
import sys
import typing
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkrec.pipeline.cli import run_job

JOBS = Path(__file__).parents[2] / "jobs"


def run_in(spark: SparkSession, job: str, arguments: list[str]) -> None:
    """Do what `python jobs/{job}.py arguments...` does, in the session `spark`, which stays open.

    Raises
    ------
    SystemExit
        The job ended with an error line.
    """
    spec = importlib.util.spec_from_file_location(f"job_{job}", JOBS / f"{job}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spark, "stop", lambda: None)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        kind = next(iter(typing.get_type_hints(module.main).values()))
        run_job(module.main, kind, arguments)
