"""A user's mistakes through real jobs: exit code 1 and one line that says what to do."""

import json
import shutil
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from sparkrec.io import storage
from sparkrec.io.outputs import MANIFEST, is_published, resolve
from sparkrec.io.s3 import _client as s3_client
from sparkrec.pipeline import cli

# ------------------------------------------------------------------------------- before Spark


def test_unset_variable(command: Callable[..., str], conf: Callable[..., str]) -> None:
    path = conf("global_hot", "${ROOT}/train", "${SPARKREC_NO_SUCH}/train")
    assert command("global_hot", "--conf", path, ROOT="/r", OUT="/o") == (
        f"{path}:5: environment variable SPARKREC_NO_SUCH is not set (in `train: "
        "${SPARKREC_NO_SUCH}/train`); export SPARKREC_NO_SUCH=... first"
    )


def test_unknown_key(command: Callable[..., str], conf: Callable[..., str]) -> None:
    path = conf("global_hot", "output_path", "outptu_path")
    assert command("global_hot", "--conf", path, ROOT="/r", OUT="/o") == (
        f"{path}:9: unknown key `outptu_path`; did you mean `output_path`?"
    )


def test_duplicate_key(command: Callable[..., str], conf: Callable[..., str]) -> None:
    path = conf("match_dataset", "", "seed: 1\nseed: 2\n")
    assert command("match_dataset", "--conf", path, ROOT="/r", OUT="/o") == (
        f"{path}:8: duplicate key `seed` (first at {path}:7)"
    )


def test_wrong_type(command: Callable[..., str], conf: Callable[..., str]) -> None:
    path = conf("dssm", "epochs: 1", "epochs: many")
    assert command("dssm", "--conf", path, ROOT="/r", OUT="/o") == (
        f"{path}:10: training.epochs must be a whole number; not 'many' (str)"
    )


def test_unknown_protocol(command: Callable[..., str], conf: Callable[..., str]) -> None:
    path = conf("global_hot", "leave_one_out", "leave_one_ot")
    assert command("global_hot", "--conf", path, ROOT="/r", OUT="/o") == (
        f"{path}:8: evaluation.protocol must be one of last_3, leave_one_out, session_next, "
        "temporal, cold_items, next_basket; not 'leave_one_ot'; did you mean `leave_one_out`?"
    )


def test_unknown_method(command: Callable[..., str], conf: Callable[..., str]) -> None:
    path = conf("match_dataset", "leave_one_out}", "last_one}")
    assert command("match_dataset", "--conf", path, ROOT="/r", OUT="/o") == (
        f"{path}:5: split.method must be one of last_n, leave_one_out, temporal, last_basket; not "
        "'last_one'"
    )


def test_no_conf(command: Callable[..., str], tmp_path: Path) -> None:
    assert command("global_hot", "--conf", str(tmp_path / "none.yaml")) == (
        f"cannot read conf {tmp_path / 'none.yaml'}: No such file or directory"
    )


# ------------------------------------------------------------------------------- whole commands


@pytest.mark.slow
def test_missing_input(
    command: Callable[..., str], conf: Callable[..., str], tmp_path: Path
) -> None:
    path = conf("global_hot")
    environ = {"ROOT": str(tmp_path / "none"), "OUT": str(tmp_path / "out")}
    assert command("global_hot", "--conf", path, "--set", "spark.master=local[1]", **environ) == (
        f"input.train: no such path: {tmp_path / 'none' / 'train'}"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_more_workers_than_slots(
    command: Callable[..., str], conf: Callable[..., str], root: Path, tmp_path: Path
) -> None:
    sets = ("--set", "training.workers=4", "--set", "spark.master=local[2]")
    environ = {"ROOT": str(root), "OUT": str(tmp_path / "out")}
    assert command("dssm", "--conf", conf("dssm"), *sets, **environ) == (
        "training.workers is 4, but local[2] has 2 slots; lower training.workers, or run with a "
        "larger master"
    )
    assert not is_published(str(tmp_path / "out" / "run"))


@pytest.mark.slow
def test_a_master_that_spark_does_not_know(
    command: Callable[..., str], conf: Callable[..., str], tmp_path: Path
) -> None:
    environ = {"ROOT": str(tmp_path), "OUT": str(tmp_path / "out")}
    line = command(
        "global_hot", "--conf", conf("global_hot"), "--set", "spark.master=locl", **environ
    )
    assert line.startswith("Spark does not start with spark.master=locl: [JAVA_GATEWAY_EXITED]")
    assert line.endswith("What Java said stands above.")


class ReadOnly(BaseHTTPRequestHandler):
    """An S3 server with an empty bucket, which refuses every write."""

    writes: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        listing = "?" in self.path
        code = "<ListBucketResult/>" if listing else "<Error><Code>NoSuchKey</Code></Error>"
        self._answer(200 if listing else 404, code)

    def do_HEAD(self) -> None:
        self._answer(404, "")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.writes.append(self.path)
        self._answer(403, "<Error><Code>AccessDenied</Code></Error>")

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("job", ["global_hot", "dssm", "match_dataset"])
def test_no_right_to_write_to_s3_is_found_before_the_work(
    inside: Callable[..., str], monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("the job has begun")

    monkeypatch.setattr(cli, "open_session", opened)
    server = ThreadingHTTPServer(("127.0.0.1", 0), ReadOnly)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    s3_client.cache_clear()
    ReadOnly.writes.clear()
    line = inside(job, "output_path=s3://bucket/out")
    assert line.startswith("output path s3://bucket/out cannot be written to: s3://bucket/out/")
    assert line.endswith(
        "the credentials do not allow PutObject here; change the policy of the bucket or of the "
        "user"
    )
    assert len(ReadOnly.writes) == 1
    s3_client.cache_clear()
    server.shutdown()
    server.server_close()


# ------------------------------------------------------------------------------- on Spark


@pytest.mark.parametrize("job", ["global_hot", "dssm"])
def test_empty_input(inside: Callable[..., str], root: Path, job: str) -> None:
    line = inside(job, f"input.train={root}/train_empty")
    assert line.startswith(f"input.train: {root}/train_empty/") and line.endswith(" has no rows")


def test_unfinished_input(inside: Callable[..., str], root: Path) -> None:
    line = inside("global_hot", f"input.test={root}/schema")
    assert line.startswith(f"input.test: {root}/schema is not a finished sparkrec output")


@pytest.mark.parametrize("job", ["global_hot", "match_dataset"])
def test_a_damaged_part(inside: Callable[..., str], root: Path, tmp_path: Path, job: str) -> None:
    """Found by an executor: one line with the file's name, and nothing of Spark's stack traces."""
    # Without Hadoop's checksums, which would find it first.
    source = resolve(str(root / "train"))
    shutil.copytree(source, tmp_path / "train", ignore=shutil.ignore_patterns(".*"))
    manifest = tmp_path / "train" / MANIFEST
    listed = json.loads(manifest.read_text())
    files = [file for file in listed["files"] if not file["name"].startswith(".")]
    manifest.write_text(json.dumps({**listed, "files": files}))
    (part,) = (tmp_path / "train").glob("*.parquet")
    content = part.read_bytes()
    footer = 8 + int.from_bytes(content[-8:-4], "little")
    part.write_bytes(content[:4] + bytes(len(content) - 4 - footer) + content[-footer:])
    key = "events" if job == "match_dataset" else "train"
    assert inside(job, f"input.{key}={tmp_path}/train") == (
        f"cannot read {part}: it is damaged, or not in the format that the conf names; "
        "write it again"
    )


def test_input_is_no_table(inside: Callable[..., str], root: Path) -> None:
    line = inside("global_hot", f"input.test={root}/broken")
    assert line.startswith(f"input.test: {root}/broken/") and "holds no parquet table" in line


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
    inside: Callable[..., str],
    root: Path,
    tmp_path: Path,
    file: str,
    text: str | None,
    expected: str,
) -> None:
    folder = tmp_path / "schema"
    shutil.copytree(root / "schema", folder)
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    line = inside("dssm", f"schema.path={folder}")
    assert str(folder / file) in line and expected in line


@pytest.mark.parametrize("job", ["global_hot", "dssm", "match_dataset"])
def test_output_that_is_not_ours(inside: Callable[..., str], tmp_path: Path, job: str) -> None:
    out = tmp_path / "out" / ("split/train" if job == "match_dataset" else "run")
    storage.write_bytes(str(out / "thesis.txt"), b"precious")
    assert inside(job) == (
        f"output path {out} exists and is not an output of sparkrec (it holds thesis.txt); choose "
        "another output_path, or set overwrite: true to write there all the same"
    )
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]


def test_output_of_another_job(inside: Callable[..., str], root: Path) -> None:
    assert inside("global_hot", f"output_path={root}/items") == (
        f"output path {root}/items was made by `prepare`, not by `global_hot global_hot`; choose "
        "another output_path, or set overwrite: true to replace it"
    )


@pytest.mark.parametrize("job", ["global_hot", "match_dataset"])
def test_output_below_a_file(inside: Callable[..., str], tmp_path: Path, job: str) -> None:
    (tmp_path / "file").write_text("x")
    line = inside(job, f"output_path={tmp_path}/file/run")
    assert line.startswith(f"output path {tmp_path}/file/run lies below {tmp_path}/file, which is")


def test_infer_without_a_model(inside: Callable[..., str], tmp_path: Path) -> None:
    line = inside("global_hot", "mode=[infer]")
    assert line.startswith(
        f"mode is [infer], but there is no saved model at {tmp_path}/out/run/mod"
    )


def test_divergence_publishes_nothing(inside: Callable[..., str], tmp_path: Path) -> None:
    line = inside("dssm", "training.learning_rate=1e30")
    assert line.startswith("training diverged, no epoch is above chance: epoch 1: ")
    assert line.endswith("; lower training.learning_rate or raise loss.temperature")
    assert not is_published(str(tmp_path / "out" / "run"))
    assert not is_published(str(tmp_path / "out" / "run" / "model"))


def test_more_lists_than_items_is_known_before_training(
    inside: Callable[..., str], tmp_path: Path
) -> None:
    line = inside("dssm", "retrieval.index='IVF7,Flat'")
    assert line.startswith("retrieval.index: IVF7,Flat has more lists than there are items (6)")
    assert not (tmp_path / "out" / "run" / "work" / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "Quantty > 0",
            "is not a Spark SQL condition on the raw columns: A column, variable, or f",
        ),
        (
            "Quantity > 0",
            "cannot be computed for all rows: The value '1.5' of the type \"STRING\" ",
        ),
    ],
)
def test_where(command: Callable[..., str], tmp_path: Path, where: str, message: str) -> None:
    (tmp_path / "events.csv").write_text("u,i,t,Quantity\na,b,1,1.5\n")
    path = tmp_path / "prepare.yaml"
    path.write_text(
        "job: prepare\ndataset: tiny\noutput_path: ${OUT}\ninput:\n  events:\n"
        "    path: ${ROOT}/events.csv\n    format: csv\n"
        f"    columns: {{user: u, item: i, timestamp: t}}\n    where: {where}\n"
    )
    environ = {"ROOT": str(tmp_path), "OUT": str(tmp_path / "out")}
    arguments = ("--conf", str(path), "--set", "spark.master=local[1]")
    line = command("prepare", *arguments, **environ)
    assert line.startswith(f"input.events.where: '{where}' {message}")
    assert not (tmp_path / "out").exists()
