"""The same jobs with the data root in a bucket: Spark through S3A, the rest through boto3."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow.dataset import dataset
from s3_server import S3A

from sparkrec.io import storage
from sparkrec.io.outputs import open_output, read_manifest, resolve

REPO = Path(__file__).parents[2]
PREPARED = """
job: prepare
dataset: example
input:
  events:
    path: {root}/raw/events.csv
    format: csv
    columns: {{user: user_id, item: item_id, timestamp: timestamp}}
output_path: {root}/prepared
"""


def submit(conf: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What spark-submit of `jobs/prepare.py` gave, and printed."""
    folder = str(Path(sys.executable).parent)
    return subprocess.run(
        [f"{folder}/spark-submit", *options, "jobs/prepare.py", "--conf", str(conf)],
        cwd=REPO,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_spark_submit_without_the_jars(s3: str, tmp_path: Path) -> None:
    storage.write_bytes(f"{s3}/raw/events.csv", b"user_id,item_id,timestamp\na,b,1600000000\n")
    conf = tmp_path / "prepare.yaml"
    # Jars that a conf names come too late.
    text = PREPARED.format(root=s3) + "spark: {jars: /x/mine.jar}\n"
    for given in (PREPARED.format(root=s3), text):
        conf.write_text(given)
        ended = submit(conf)
        assert ended.returncode != 0
        (line,) = [text for text in ended.stdout.splitlines() if text.startswith("error: ")]
        assert line.startswith(f"error: {s3}/") and "has no S3A file system" in line
        assert "--packages org.apache.hadoop:hadoop-aws:3." in line and "--jars" in line
    assert "--jars /x/mine.jar" in line
    assert storage.list_files(f"{s3}/prepared") == []


@pytest.mark.slow
def test_spark_submit_with_the_jars(jars: str, s3: str, tmp_path: Path) -> None:
    rows = "".join(f"u{n % 7},i{n % 5},{1600000000 + n}\n" for n in range(40))
    text = "user_id,item_id,timestamp\n" + rows
    storage.write_bytes(f"{s3}/raw/events.csv", text.encode())
    conf = tmp_path / "prepare.yaml"
    conf.write_text(PREPARED.format(root=s3))
    flags = [f"--conf=spark.hadoop.fs.s3a.{name}={value}" for name, value in S3A.items()]
    ended = submit(conf, "--jars", jars, *flags)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    table = resolve(f"{s3}/prepared/events")
    filesystem, folder = storage.arrow_filesystem(table)
    assert dataset(folder, format="parquet", filesystem=filesystem).count_rows() == 40


PROFILE = """
[default]
aws_access_key_id = other
[mine]
aws_access_key_id = test
aws_secret_access_key = test
"""
BY_PROFILE = """
import json, sys
import pyarrow.fs
from sparkrec.io import s3, storage
from sparkrec.session import open_session

root = sys.argv[1]
storage.write_bytes(f"{root}/small", b"by boto3")
assert s3.arrow_filesystem().open_input_file(f"{root}/small"[5:]).read() == b"by boto3"
spark = open_session("profile", json.loads(sys.argv[2]), [root])
table = root.replace("s3:", "s3a:") + "/table"
spark.range(1000).repartition(3).write.parquet(table)
print(spark.read.parquet(table).count(), spark.sparkContext.textFile(table[:-5] + "small").first())
"""


@pytest.mark.slow
def test_a_profile_serves_spark_boto3_and_arrow(
    jars: str, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text(PROFILE)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "mine")
    # The second is the name of the first in version 1 of the AWS SDK.
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CREDENTIAL_PROFILES_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "credentials"))
    settings = {"jars": jars, "master": "local-cluster[1,1,1024]", "ui.enabled": "false"}
    others = {name: value for name, value in S3A.items() if name != "aws.credentials.provider"}
    settings |= {f"hadoop.fs.s3a.{name}": str(value) for name, value in others.items()}
    script = tmp_path / "by_profile.py"
    script.write_text(BY_PROFILE)
    ended = subprocess.run(
        [sys.executable, str(script), s3, json.dumps(settings)],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.stdout.splitlines()[-1:] == ["1000 by boto3"], ended.stderr[-2000:]


GONE = """
import json, signal, subprocess, sys, time
import boto3
from sparkrec.read_errors import explain, unreadable_file
from sparkrec.session import open_session

settings, port = json.loads(sys.argv[1]), sys.argv[2]
server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", port])
client = boto3.client("s3")
while True:
    try:
        client.create_bucket(Bucket="test")
        break
    except Exception:
        time.sleep(0.5)
spark = open_session("gone", settings, ["s3://test/x"])
spark.range(1000).write.parquet("s3a://test/x")
frame = spark.read.parquet("s3a://test/x")
server.kill()
server.wait()
started = time.time()
try:
    frame.groupBy().sum("id").collect()
except Exception as error:
    print(json.dumps([time.time() - started, explain(error), unreadable_file(error) is None]))
"""


@pytest.mark.slow
def test_s3_that_is_gone_while_spark_reads(
    jars: str, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    settings = {"jars": jars, "master": "local[2]"}
    settings |= {f"hadoop.fs.s3a.{name}": str(value) for name, value in S3A.items()}
    script = tmp_path / "gone.py"
    script.write_text(GONE)
    ended = subprocess.run(
        [sys.executable, str(script), json.dumps(settings), str(port)],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    seconds, line, no_damage = json.loads(ended.stdout.splitlines()[-1])
    assert line.startswith("S3 failed at s3://test/x/part-") and "Connection refused" in line
    assert no_damage
    # It outlasts an outage of 20 seconds, as far as the random waits of S3A let it.
    assert 10 < seconds < 90


@pytest.mark.slow
def test_own_csv_to_metrics_on_s3(
    jars: str,
    s3: str,
    data_root: Path,
    steps: list[tuple[str, str]],
    command: Callable[..., None],
) -> None:
    storage.copy_folder(str(data_root), s3)
    settings = {f"hadoop.fs.s3a.{name}": value for name, value in S3A.items()}
    for job, conf in steps:
        command(s3, job, conf, f"spark={json.dumps({'jars': jars, **settings})}")
    run = f"{s3}/example/runs/dssm_bce_neg4_example"
    names = {file["name"].split("/")[0] for file in read_manifest(run)["files"]}
    assert names == {"metrics.json", "model", "recommendations", "replicates.parquet"}
    results = storage.read_json(open_output(run).path("metrics.json"))["results"]
    kept = {r["model"]: r for r in results if not r["exclude_seen"]}
    assert {name: result["n"] for name, result in kept.items()} == {"dssm": 60, "global_hot": 60}
    # Each customer buys from one of two ranges, which popularity cannot tell apart.
    recall = {name: result["metrics"]["recall@10"] for name, result in kept.items()}
    assert recall["dssm"] > recall["global_hot"]
