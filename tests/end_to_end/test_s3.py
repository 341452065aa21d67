"""The same jobs with the data root in a bucket: Spark through S3A, the rest through boto3."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sparkrec.io import storage
from sparkrec.io.outputs import open_output, read_manifest

# What hadoop-aws 3.3 needs beside a newer Hadoop, whose defaults it cannot read.
S3A = {
    "aws.credentials.provider": "com.amazonaws.auth.EnvironmentVariableCredentialsProvider",
    "threads.keepalivetime": 60,
    "multipart.purge.age": 86400,
    "connection.timeout": 200000,
    "connection.establish.timeout": 30000,
    "connection.ttl": 300000,
    "connection.request.timeout": 60000,
    "connection.idle.time": 60000,
    "connection.acquisition.timeout": 60000,
}


@pytest.fixture
def jars() -> str:
    """The jars in the folder that SPARKREC_S3A_JARS names, as `spark.jars` wants them."""
    folder = os.environ.get("SPARKREC_S3A_JARS")
    found = sorted(map(str, Path(folder).glob("*.jar"))) if folder else []
    if not found:
        pytest.skip("SPARKREC_S3A_JARS does not name a folder with the jars of hadoop-aws")
    return ",".join(found)


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
    assert names == {"metrics.json", "model", "recommendations"}
    results = storage.read_json(open_output(run).path("metrics.json"))["results"]
    kept = {r["model"]: r for r in results if not r["exclude_seen"]}
    assert {name: result["n"] for name, result in kept.items()} == {"dssm": 60, "global_hot": 60}
    # Each customer buys from one of two ranges, which popularity cannot tell apart.
    recall = {name: result["metrics"]["recall@10"] for name, result in kept.items()}
    assert recall["dssm"] > recall["global_hot"]
