"""From a user's own CSV through jobs/prepare.py to recommendations."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession


@pytest.mark.slow
def test_own_csv_to_recommendations(
    spark: SparkSession, data_root: Path, run_jobs: Callable[..., str]
) -> None:
    run = Path(run_jobs(str(data_root)))
    metrics = json.loads((run / "metrics.json").read_text())
    assert {r["model"] for r in metrics["results"]} == {"dssm", "global_hot"}
    lists = spark.read.parquet(str(run / "recommendations" / "seen_kept"))
    test = spark.read.parquet(str(data_root / "example" / "leave_one_out" / "test"))
    rows = lists.join(test, "query_id").select("customer_id", "recommended.item_id").collect()
    assert len(rows) == 60
    # Each customer buys from one of two ranges; the model has to tell them apart.
    right = [
        sum(item.startswith(f"ü-{int(row[0].split()[1]) % 2}-") for item in row[1][:5])
        for row in rows
    ]
    assert sum(right) / (5 * len(rows)) > 0.8
    everyone = spark.read.parquet(str(data_root / "example/recommendations/gru4rec_ce_example"))
    answers = {row["customer_id"]: row["recommended"] for row in everyone.collect()}
    assert len(answers) == 60
    assert all(given for given in answers.values())
