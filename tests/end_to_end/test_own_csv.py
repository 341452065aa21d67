"""A user's own CSV, with everything that CSVs have, from jobs/prepare.py to recommendations."""

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

REPO = Path(__file__).parents[2]

PREPARE = """
job: prepare
dataset: example
columns: {user: customer_id, item: sku, timestamp: timestamp}
input:
  events:
    path: ${MY_S3_BUCKET}/raw.csv
    format: csv
    columns: {user: Kunde, item: Artikel, timestamp: when, rating: stars}
    timestamp: {format: iso}
  items:
    path: ${MY_S3_BUCKET}/articles.csv
    format: csv
    key: Artikel
max_bad_rows: 20
output_path: ${MY_S3_BUCKET}/example
"""


def write_raw(folder: Path) -> int:
    """Two tastes, string ids, another column order, nulls and duplicates; returns bad rows."""
    rng = random.Random(0)
    lines = []
    for user in range(60):
        taste = user % 2
        for step in range(12):
            article = f"ü-{taste}-{rng.randrange(10)}"
            when = f"2024-03-{step + 1:02d}T{rng.randrange(24):02d}:00:00"
            lines.append([str(rng.randrange(1, 6)), when, article, f"kunde {user}"])
    lines += [[*lines[i]] for i in range(0, 40, 4)]
    bad = [["3", "", "ü-0-1", "kunde 1"], ["3", "2024-03-01T00:00:00", "", "kunde 1"]]
    bad += [["3", "2024-03-01T00:00:00", "ü-0-1", ""], ["3", "soon", "ü-0-1", "kunde 1"]]
    rng.shuffle(lines)
    with (folder / "raw.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["stars", "when", "Artikel", "Kunde"], *lines, *bad])
    with (folder / "articles.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [[f"ü-{t}-{i}", f"kind {t}"] for t in range(2) for i in range(10)]
        csv.writer(file).writerows([["Artikel", "category"], *rows])
    return len(bad)


@pytest.mark.slow
def test_own_csv_to_recommendations(spark: SparkSession, tmp_path: Path) -> None:
    write_raw(tmp_path)
    (tmp_path / "prepare.yaml").write_text(PREPARE, encoding="utf-8")
    schema = tmp_path / "example" / "schema" / "dssm"
    shutil.copytree(REPO / "schema" / "dssm" / "example", schema)
    environment = {**os.environ, "MY_S3_BUCKET": str(tmp_path)}
    for job, conf in (
        ("prepare", tmp_path / "prepare.yaml"),
        ("history_features", REPO / "conf/history_features_example.yaml"),
        ("match_dataset", REPO / "conf/match_dataset_example.yaml"),
        ("match_dataset", REPO / "conf/match_dataset_neg4_example.yaml"),
        ("dssm", REPO / "conf/dssm_bce_neg4_example.yaml"),
    ):
        done = subprocess.run(
            [sys.executable, str(REPO / "jobs" / f"{job}.py"), "--conf", str(conf)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    run = tmp_path / "example" / "runs" / "dssm_bce_neg4_example"
    metrics = json.loads((run / "metrics.json").read_text())
    assert {r["model"] for r in metrics["results"]} == {"dssm", "global_hot"}
    lists = spark.read.parquet(str(run / "recommendations" / "seen_kept"))
    test = spark.read.parquet(str(tmp_path / "example" / "leave_one_out" / "test"))
    rows = lists.join(test, "query_id").select("customer_id", "recommended.item_id").collect()
    assert len(rows) == 60
    # Each customer buys from one of two ranges; the model has to tell them apart.
    right = [
        sum(item.startswith(f"ü-{int(row[0].split()[1]) % 2}-") for item in row[1][:5])
        for row in rows
    ]
    assert sum(right) / (5 * len(rows)) > 0.8
