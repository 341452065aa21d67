"""From a user's own CSV through jobs/prepare.py to recommendations."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from in_session import run_in
from pyspark.sql import SparkSession

from sparkrec.io.outputs import resolve
from sparkrec.io.tables import load_table


@pytest.mark.slow
def test_own_csv_to_recommendations(
    spark: SparkSession,
    data_root: Path,
    steps: list[tuple[str, str]],
    command: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one session, but for the last job, which has Spark's defaults and finds all it needs."""
    monkeypatch.setenv("MY_S3_BUCKET", str(data_root))
    monkeypatch.delenv("SPARK_CONF_DIR")
    for job, conf in steps[:-1]:
        run_in(spark, job, "--conf", conf)
    command(str(data_root), *steps[-1])
    run = Path(resolve(f"{data_root}/example/runs/dssm_bce_neg4_example"))
    metrics = json.loads((run / "metrics.json").read_text())
    assert {r["model"] for r in metrics["results"]} == {"dssm", "global_hot"}
    lists = load_table(spark, str(run / "recommendations" / "seen_kept"))
    test = load_table(spark, str(data_root / "example" / "leave_one_out" / "test"))
    rows = lists.join(test, "query_id").select("customer_id", "recommended.item_id").collect()
    assert len(rows) == 60
    # Each customer buys from one of two ranges; the model has to tell them apart.
    right = [
        sum(item.startswith(f"ü-{int(row[0].split()[1]) % 2}-") for item in row[1][:5])
        for row in rows
    ]
    assert sum(right) / (5 * len(rows)) > 0.8
    everyone = load_table(spark, str(data_root / "example/recommendations/gru4rec_ce_example"))
    answers = {row["customer_id"]: row["recommended"] for row in everyone.collect()}
    assert len(answers) == 60
    assert all(given for given in answers.values())
