"""A marked secret, and whatever a job writes: it must be nowhere in it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_session import JOBS

MARK = "sw0rdfish"


def contents(path: Path) -> bytes:
    """What stands in a file, decompressed."""
    if path.suffix == ".parquet":
        return str(pq.read_table(path).to_pylist()).encode()
    if path.suffix == ".zstd":
        with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
            return bytes(stream.read())
    return path.read_bytes()


@pytest.mark.slow
def test_nothing_that_a_job_writes_has_the_secret(
    root: Path, conf: Callable[..., str], tmp_path: Path
) -> None:
    settings = tmp_path / "settings"
    settings.mkdir()
    written = tmp_path / "written"
    (written / "events").mkdir(parents=True)
    (settings / "spark-defaults.conf").write_text(
        f"spark.hadoop.fs.s3a.secret.key {MARK}-defaults\n"
        f"spark.hadoop.fs.s3a.access.key {MARK}-defaults\n"
        "spark.eventLog.enabled true\n"
        "spark.eventLog.compress true\n"
        f"spark.eventLog.dir {(written / 'events').as_uri()}\n"
    )
    environ = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": f"{MARK}-key",
        "AWS_SECRET_ACCESS_KEY": f"{MARK}-secret",
        "AWS_SESSION_TOKEN": f"{MARK}-token",
        "SPARK_CONF_DIR": str(settings),
        "ROOT": str(root),
        "OUT": str(written / "out"),
    }

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        sets = ["--set", "spark.master=local[2]", "--debug", *more]
        command = [sys.executable, str(JOBS / "dssm.py"), "--conf", conf("dssm"), *sets]
        done = subprocess.run(
            command, env=environ, cwd=written, capture_output=True, text=True, timeout=400
        )
        assert MARK not in done.stdout + done.stderr
        return done

    refused = run("--set", f"spark.hadoop.fs.s3a.secret.key={MARK}-set")
    assert refused.returncode == 1 and "is a secret, which" in refused.stderr
    assert not (written / "out").exists()
    assert run("--print-conf").returncode == 0
    done = run()
    assert done.returncode == 0, done.stderr
    files = [path for path in written.rglob("*") if path.is_file()]
    logs = b"".join(contents(path) for path in files if "events" in path.parts)
    assert b"SparkListenerEnvironmentUpdate" in logs and b"fs.s3a.secret.key" in logs
    names = {path.name for path in files}
    assert {"metrics.json", "model.json"} <= names
    assert [path for path in files if MARK.encode() in contents(path)] == []
