"""A user's own CSV, with everything that CSVs have, and the example's jobs run on it."""

import csv
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from in_session import JOBS
from s3a_jars import jars_of_s3a

REPO = Path(__file__).parents[2]

# With a few rows, compiling takes longer than running.
FEW_ROWS = """
spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
spark.executor.extraJavaOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
spark.sql.codegen.wholeStage false
spark.sql.codegen.factoryMode NO_CODEGEN
"""

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


def write_raw(folder: Path) -> None:
    """Two tastes, string ids, another column order, nulls and duplicates."""
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


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """A data root with raw files, the conf that prepares them, and the example's schemas."""
    write_raw(tmp_path)
    (tmp_path / "prepare.yaml").write_text(PREPARE, encoding="utf-8")
    shutil.copytree(REPO / "schema" / "dssm" / "example", tmp_path / "example/schema/dssm")
    return tmp_path


@pytest.fixture
def steps(data_root: Path) -> list[tuple[str, str]]:
    """The jobs from raw files to trained models and their answers, each with its conf."""
    return [
        ("prepare", str(data_root / "prepare.yaml")),
        ("history_features", str(REPO / "conf/history_features_example.yaml")),
        ("match_dataset", str(REPO / "conf/match_dataset_example.yaml")),
        ("match_dataset", str(REPO / "conf/match_dataset_neg4_example.yaml")),
        ("dssm", str(REPO / "conf/dssm_bce_neg4_example.yaml")),
        ("gru4rec", str(REPO / "conf/gru4rec_ce_example.yaml")),
        ("recommend", str(REPO / "conf/recommend_example.yaml")),
    ]


@pytest.fixture(autouse=True)
def few_rows(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults of Spark for the jobs that run as commands. A test may take them away."""
    folder = tmp_path_factory.mktemp("spark")
    (folder / "spark-defaults.conf").write_text(FEW_ROWS)
    monkeypatch.setenv("SPARK_CONF_DIR", str(folder))


@pytest.fixture
def command() -> Callable[..., None]:
    """`command(root, job, conf, *sets)`: run a job as a command, with its data below a root."""

    def command(root: str, job: str, conf: str, *sets: str) -> None:
        overrides = [part for override in sets for part in ("--set", override)]
        done = subprocess.run(
            [sys.executable, str(JOBS / f"{job}.py"), "--conf", conf, *overrides],
            env={**os.environ, "MY_S3_BUCKET": root},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    return command


@pytest.fixture
def jars() -> str:
    """The jars of S3A, as `spark.jars` wants them."""
    found = jars_of_s3a()
    if not found:
        pytest.skip("SPARKREC_S3A_JARS does not name a folder with the jars of hadoop-aws")
    return found
