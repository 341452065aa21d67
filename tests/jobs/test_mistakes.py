"""A user's mistakes through real jobs: exit code 1 and one line that says what to do."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkrec import storage
from sparkrec.cli import run_job
from sparkrec.evaluation.run import RetrievalJob
from sparkrec.models.dssm import DSSMConfig
from sparkrec.tables import write_table
from sparkrec.training.job import TwoTowerJob
from sparkrec.transforms.match_dataset import MatchDataset

REPO = Path(__file__).parents[2]

KINDS: dict[str, Any] = {
    "dssm": TwoTowerJob[DSSMConfig],
    "global_hot": RetrievalJob,
    "match_dataset": MatchDataset,
}
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
    with storage.publish(str(root / "broken"), "prepare") as staging:
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


def error_line(code: Any, err: str) -> str:
    """The one line for the user, after checking that it is the only one and no trace is shown."""
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert code == 1 and len(lines) == 1 and "Traceback" not in err, err
    return lines[0].removeprefix("error: ")


def command(job: str, *arguments: str, **environ: str) -> str:
    """Run a job as a command; the error line it must end with."""
    done = subprocess.run(
        [sys.executable, str(REPO / "jobs" / f"{job}.py"), *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return error_line(done.returncode, done.stderr)


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
    monkeypatch.setattr(spark, "stop", lambda: None)

    def inside(job: str, *overrides: str) -> str:
        path = REPO / "jobs" / f"{job}.py"
        spec = importlib.util.spec_from_file_location(f"job_{job}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        sets = [part for override in overrides for part in ("--set", override)]
        with pytest.raises(SystemExit) as exited:
            run_job(module.main, KINDS[job], ["--conf", conf(job), *sets])
        return error_line(exited.value.code, capfd.readouterr().err)

    return inside


# ------------------------------------------------------------------------------- before Spark


def test_unset_variable(conf: Callable[..., str]) -> None:
    path = conf("global_hot", "${ROOT}/train", "${SPARKREC_NO_SUCH}/train")
    assert command("global_hot", "--conf", path, ROOT="/r", OUT="/o") == (
        f"{path}:5: environment variable SPARKREC_NO_SUCH is not set (in `train: "
        "${SPARKREC_NO_SUCH}/train`); export SPARKREC_NO_SUCH=... first"
    )


def test_unknown_key(conf: Callable[..., str]) -> None:
    path = conf("global_hot", "output_path", "outptu_path")
    assert command("global_hot", "--conf", path, ROOT="/r", OUT="/o") == (
        f"{path}:9: unknown key `outptu_path`; did you mean `output_path`?"
    )


def test_duplicate_key(conf: Callable[..., str]) -> None:
    path = conf("match_dataset", "", "seed: 1\nseed: 2\n")
    assert command("match_dataset", "--conf", path, ROOT="/r", OUT="/o") == (
        f"{path}:8: duplicate key `seed` (first at {path}:7)"
    )


def test_wrong_type(conf: Callable[..., str]) -> None:
    path = conf("dssm", "epochs: 1", "epochs: many")
    assert command("dssm", "--conf", path, ROOT="/r", OUT="/o") == (
        f"{path}:10: training.epochs must be a whole number; not 'many' (str)"
    )


def test_no_conf(tmp_path: Path) -> None:
    assert command("global_hot", "--conf", str(tmp_path / "none.yaml")) == (
        f"cannot read conf {tmp_path / 'none.yaml'}: No such file or directory"
    )


# ------------------------------------------------------------------------------- whole commands


def test_missing_input(conf: Callable[..., str], tmp_path: Path) -> None:
    path = conf("global_hot")
    environ = {"ROOT": str(tmp_path / "none"), "OUT": str(tmp_path / "out")}
    assert command("global_hot", "--conf", path, "--set", "spark.master=local[1]", **environ) == (
        f"input.train: no such path: {tmp_path / 'none' / 'train'}"
    )
    assert not (tmp_path / "out").exists()


def test_more_workers_than_slots(conf: Callable[..., str], root: Path, tmp_path: Path) -> None:
    sets = ("--set", "training.workers=4", "--set", "spark.master=local[2]")
    environ = {"ROOT": str(root), "OUT": str(tmp_path / "out")}
    assert command("dssm", "--conf", conf("dssm"), *sets, **environ) == (
        "training.workers is 4, but local[2] has 2 slots; lower training.workers, or run with a "
        "larger master"
    )
    assert not storage.is_published(str(tmp_path / "out" / "run"))


def test_a_master_that_spark_does_not_know(conf: Callable[..., str], tmp_path: Path) -> None:
    environ = {"ROOT": str(tmp_path), "OUT": str(tmp_path / "out")}
    line = command(
        "global_hot", "--conf", conf("global_hot"), "--set", "spark.master=locl", **environ
    )
    assert line.startswith("Spark does not start with spark.master=locl: [JAVA_GATEWAY_EXITED]")
    assert line.endswith("What Java said stands above.")


# ------------------------------------------------------------------------------- on Spark


@pytest.mark.parametrize("job", ["global_hot", "dssm"])
def test_empty_input(inside: Callable[..., str], root: Path, job: str) -> None:
    line = inside(job, f"input.train={root}/train_empty")
    assert line == f"input.train: {root}/train_empty has no rows"


def test_unfinished_input(inside: Callable[..., str], root: Path, tmp_path: Path) -> None:
    line = inside("global_hot", f"input.test={root}/schema")
    assert line.startswith(f"input.test: {root}/schema is not a finished sparkrec output")


def test_input_is_no_table(inside: Callable[..., str], root: Path) -> None:
    line = inside("global_hot", f"input.test={root}/broken")
    assert line.startswith(f"input.test: {root}/broken holds no parquet table")


@pytest.mark.parametrize(
    ("job", "key", "table", "expected"),
    [
        (
            "global_hot",
            "train",
            "train_typed",
            "column `movie_id` is double, but must be string or",
        ),
        ("match_dataset", "events", "train_text_time", "column `timestamp` is string, but must be"),
        ("match_dataset", "events", "train_without", "has no column `movie_id` (it has user_id"),
        ("global_hot", "train", "train_without", "has no column `movie_id` (it has user_id"),
        ("global_hot", "test", "train", "has no column `query_id` (it has user_id, movie_id"),
        ("global_hot", "test", "test_history_of_text", "column `history` is array<string>"),
        ("global_hot", "test", "test_one_relevant", "relevant"),
        ("global_hot", "test", "test_without_history", "history"),
        ("dssm", "items", "train_without", "has no column `movie_id`"),
        ("dssm", "test", "test_without_history", "history"),
    ],
)
def test_input_of_the_wrong_shape(
    inside: Callable[..., str], root: Path, job: str, key: str, table: str, expected: str
) -> None:
    assert expected in inside(job, f"input.{key}={root}/{table}")


def test_schema_names_a_column_that_the_data_lacks(inside: Callable[..., str], root: Path) -> None:
    assert inside("dssm", f"input.items={root}/items_without_genre") == (
        f"input.items lacks the column 'genre' that {root}/schema/item_column_schema declares; "
        "there are: movie_id"
    )


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (
            "user_column_schema",
            "0 user_id\n1 last_movie oops\n",
            ":2: in '1 last_movie oops': expec",
        ),
        (
            "item_combine_schema",
            "# items\n\nmovie_id##genre\n",
            ":3: in 'movie_id##genre': a cross",
        ),
        ("item_combine_schema", "movie_id\nyear\n", ":2: 'year' reads the column 'year', which"),
        ("item_column_schema", "# nothing\n", ": declares no column"),
        ("user_combine_schema", None, "user_combine_schema: No such file"),
    ],
)
def test_malformed_schema(
    inside: Callable[..., str], tmp_path: Path, file: str, text: str | None, expected: str
) -> None:
    folder = tmp_path / "schema"
    for name, good in SCHEMA.items():
        content = text if name == file else good
        if content is not None:
            storage.write_bytes(str(folder / name), content.encode())
    line = inside("dssm", f"schema.path={folder}")
    assert str(folder / file) in line and expected in line


@pytest.mark.parametrize("job", ["global_hot", "dssm", "match_dataset"])
def test_output_that_is_not_ours(inside: Callable[..., str], tmp_path: Path, job: str) -> None:
    out = tmp_path / "out" / ("split/train" if job == "match_dataset" else "run")
    storage.write_bytes(str(out / "thesis.txt"), b"precious")
    assert inside(job) == (
        f"output path {out} exists and is not an output of sparkrec (it holds thesis.txt); choose "
        "another output_path, or set overwrite: true to replace it"
    )
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]


def test_output_of_another_job(inside: Callable[..., str], root: Path) -> None:
    assert inside("global_hot", f"output_path={root}/train") == (
        f"output path {root}/train was made by `prepare`, not by `global_hot`; choose another "
        "output_path, or set overwrite: true to replace it"
    )


@pytest.mark.parametrize("job", ["global_hot", "match_dataset"])
def test_output_below_a_file(inside: Callable[..., str], tmp_path: Path, job: str) -> None:
    (tmp_path / "file").write_text("x")
    line = inside(job, f"output_path={tmp_path}/file/run")
    assert line.startswith(f"cannot write {tmp_path}/file/run")


def test_infer_without_a_model(inside: Callable[..., str], tmp_path: Path) -> None:
    line = inside("global_hot", "mode=[infer]")
    assert line.startswith(
        f"mode is [infer], but there is no saved model at {tmp_path}/out/run/mod"
    )


def test_unknown_protocol(inside: Callable[..., str]) -> None:
    line = inside("global_hot", "evaluation.protocol=leave_one_ot")
    assert line == "evaluation: unknown protocol 'leave_one_ot'; did you mean 'leave_one_out'?"
