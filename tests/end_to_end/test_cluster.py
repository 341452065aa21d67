"""The jobs on a standalone cluster with their data on S3 make the tables that they make locally."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bare_python import python_without_sparkrec
from cluster import Cluster
from s3_server import S3A

from sparkrec.io import storage
from sparkrec.io.outputs import open_output, read_manifest, resolve

REPO = Path(__file__).parents[2]
TABLES = (
    "events",
    "items",
    "history",
    *(f"leave_one_out/{name}" for name in ("train", "validation", "test")),
    "leave_one_out/negsample/num_negs_4",
)
RUN = "example/runs/dssm_bce_neg4_example"


@pytest.mark.slow
def test_a_cluster_makes_the_same_tables(
    jars: str,
    s3: str,
    data_root: Path,
    steps: list[tuple[str, str]],
    command: Callable[..., None],
    tmp_path: Path,
) -> None:
    storage.copy_folder(str(data_root), s3)
    root = str(data_root)
    *tables, dssm, _, recommend = steps
    for job, conf in (*tables, dssm):
        command(root, job, conf)
    model = f"{root}/{RUN}/model"
    command(root, *recommend, f"model_path={model}")
    storage.copy_folder(resolve(model), f"{s3}/model_of_the_local_run")

    folder = Path(sys.executable).parent
    flags = [f"--conf=spark.hadoop.fs.s3a.{name}={value}" for name, value in S3A.items()]
    executors = python_without_sparkrec(tmp_path / "python")
    with Cluster(tmp_path / "cluster", workers=2) as cluster:

        def submit(job: str, conf: str, *sets: str) -> None:
            overrides = [part for override in sets for part in ("--set", override)]
            done = subprocess.run(
                [
                    f"{folder}/spark-submit",
                    *("--master", cluster.url, "--jars", jars, "--executor-memory", "1g"),
                    *flags,
                    *(f"jobs/{job}.py", "--conf", conf, *overrides),
                ],
                cwd=REPO,
                env={
                    **os.environ,
                    "MY_S3_BUCKET": s3,
                    "PYSPARK_PYTHON": executors,
                    "PYSPARK_DRIVER_PYTHON": sys.executable,
                },
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

        for step in tables:
            submit(*step)
        submit(*dssm, "training.workers=2")
        submit(*recommend, f"model_path={s3}/model_of_the_local_run")

    for name in (*TABLES, "recommendations/gru4rec_ce_example"):
        here, there = (read_manifest(f"{place}/example/{name}") for place in (root, s3))
        assert there["content"] == here["content"] and there["rows"] == here["rows"] > 0, name
    recall = {}
    for place in (root, s3):
        results = storage.read_json(open_output(f"{place}/{RUN}").path("metrics.json"))["results"]
        (found,) = (r for r in results if r["model"] == "dssm" and not r["exclude_seen"])
        recall[place] = found["metrics"]["recall@10"]
    assert recall[s3] == pytest.approx(recall[root], abs=0.1)
