"""One Spark session per test run, and the path of the research data where there is one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkrec.session import open_session


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = open_session(
        "tests",
        {
            "spark.master": "local[2]",
            "spark.sql.shuffle.partitions": "4",
            "spark.default.parallelism": "4",
            "spark.ui.enabled": "false",
        },
    )
    yield session
    session.stop()


@pytest.fixture(scope="session")
def research_data() -> Path:
    """The folder named by SPARKREC_DATA (ml-1m, ml-100k, ...); tests that need it carry `data`."""
    root = os.environ.get("SPARKREC_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("SPARKREC_DATA does not name the folder of research data")
    return Path(root)
