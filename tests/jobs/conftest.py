"""Tiny data with mistakes in it, and jobs that run on it and must end with one error line."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_session import JOBS, run_in
from pyspark.sql import SparkSession

from sparkrec.io import storage
from sparkrec.io.publishing import publish
from sparkrec.io.tables import write_table

CONFS = {
    "global_hot": """\
job: global_hot
dataset: tiny
columns: {item: movie_id}
input:
  train: ${ROOT}/train
  test: ${ROOT}/test
retrieval: {k: 2}
evaluation: {protocol: leave_one_out}
output_path: ${OUT}/run
""",
    "dssm": """\
job: dssm
dataset: tiny
columns: {item: movie_id}
input:
  train: ${ROOT}/train
  test: ${ROOT}/test
  items: ${ROOT}/items
schema: {path: "${ROOT}/schema"}
model: {embedding_dim: 4, hidden: [4]}
training: {epochs: 1, batch_size: 16, early_stopping: null}
retrieval: {k: 2}
evaluation: {protocol: leave_one_out}
output_path: ${OUT}/run
""",
    "match_dataset": """\
job: match_dataset
dataset: tiny
columns: {item: movie_id}
input: {events: "${ROOT}/train"}
split: {method: leave_one_out}
output_path: ${OUT}/split
""",
}
SCHEMA = {
    "user_column_schema": "0 user_id\n",
    "user_combine_schema": "user_id\n",
    "item_column_schema": "0 movie_id\n1 genre\n",
    "item_combine_schema": "movie_id\ngenre\n",
}
TRAIN = "user_id long, movie_id long, timestamp long, position long"
TEST = "query_id long, user_id long, history array<long>, relevant array<long>"


@pytest.fixture(scope="module")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of four users and six movies, good ones and bad ones."""
    root = tmp_path_factory.mktemp("tiny data")

    def table(name: str, rows: list[Any], schema: str) -> None:
        write_table(spark.createDataFrame(rows, schema), str(root / name), "prepare", files=1)

    events = [
        (user, 1 + (user + step) % 6, 10 * step, 4 * step + user)
        for user in range(4)
        for step in range(5)
    ]
    table("train", events, TRAIN)
    table("train_empty", [], TRAIN)
    table("train_typed", [(0, 1.5, 1, 1)], TRAIN.replace("movie_id long", "movie_id double"))
    table(
        "train_text_time", [(0, 1, "noon", 1)], TRAIN.replace("timestamp long", "timestamp string")
    )
    table("train_without", [(0, 1)], "user_id long, timestamp long")
    table("test", [(i, i, [1, 2], [3]) for i in range(4)], TEST)
    table(
        "test_history_of_text",
        [(0, 0, ["1"], [3])],
        TEST.replace("history array<long>", "history array<string>"),
    )
    table(
        "test_one_relevant", [(0, 0, [1], 3)], TEST.replace("relevant array<long>", "relevant long")
    )
    table("test_without_history", [(0, 0, [3])], TEST.replace("history array<long>, ", ""))
    table("items", [(i, f"g{i % 2}") for i in range(1, 7)], "movie_id long, genre string")
    table("items_without_genre", [(i,) for i in range(1, 7)], "movie_id long")
    with publish(str(root / "broken"), "prepare") as staging:
        storage.write_bytes(f"{staging}/part-0.parquet", b"PAR1 no")
    for name, text in SCHEMA.items():
        storage.write_bytes(str(root / "schema" / name), text.encode())
    return root


@pytest.fixture
def conf(tmp_path: Path) -> Callable[..., str]:
    """`conf(job, old, new)`: the path of a job's conf, with one text of it replaced."""

    def conf(job: str, old: str = "", new: str = "") -> str:
        path = tmp_path / f"{job}.yaml"
        assert old in CONFS[job]
        path.write_text(CONFS[job].replace(old, new, 1) if old else CONFS[job] + new)
        return str(path)

    return conf


_TRACES = ("Traceback", '"stacktrace"', "\tat ")  # Python's, that of PySpark's log, and Java's


def error_line(code: Any, err: str) -> str:
    """The one line for the user, after checking that it is the only one and no trace is shown."""
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert code == 1 and len(lines) == 1 and not any(trace in err for trace in _TRACES), err
    return lines[0].removeprefix("error: ")


@pytest.fixture
def command() -> Callable[..., str]:
    """`command(job, *arguments, **environ)`: the error line of a job that runs as a command."""

    def command(job: str, *arguments: str, **environ: str) -> str:
        done = subprocess.run(
            [sys.executable, str(JOBS / f"{job}.py"), *arguments],
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return error_line(done.returncode, done.stderr)

    return command


@pytest.fixture
def inside(
    root: Path,
    spark: SparkSession,
    conf: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """`inside(job, *overrides)`: the error line of a job that runs in the tests' own session."""
    monkeypatch.setenv("ROOT", str(root))
    monkeypatch.setenv("OUT", str(tmp_path / "out"))

    def inside(job: str, *overrides: str) -> str:
        sets = [part for override in overrides for part in ("--set", override)]
        with pytest.raises(SystemExit) as exited:
            run_in(spark, job, "--conf", conf(job), *sets)
        return error_line(exited.value.code, capfd.readouterr().err)

    return inside
