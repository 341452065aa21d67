"""One Spark session and one S3 server per test process, and where the research data is."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from s3_server import ENVIRONMENT, s3_server

from sparkrec.io.s3 import _client as s3_client
from sparkrec.session import open_session

# Jobs of a few rows: compiling takes longer than running. So the JVM compiles lightly (and
# gets more than the small code cache that this has by default), and Spark interprets expressions
# and plans each query once. Jobs that run as commands, in `make test-all`, have Spark's defaults.
FEW_ROWS = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m "
    "-XX:+UseSerialGC -Xms1g -Xmn400m",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.shuffle.partitions": "2",
    "spark.default.parallelism": "3",
    "spark.sql.adaptive.enabled": "false",
}

# Two test processes share the cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = open_session(
        "tests",
        {
            "spark.master": "local[2]",
            "spark.ui.enabled": "false",
            "spark.python.daemon.module": "warm_daemon",
            "spark.executorEnv.PYTHONPATH": str(Path(__file__).parent / "helpers"),
            **FEW_ROWS,
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


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server of our own (moto) with the bucket `test`."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh `s3://test/...` root, with the environment that leads to it."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    s3_client.cache_clear()
    yield f"s3://test/{uuid.uuid4().hex}"
    s3_client.cache_clear()


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place to write to, on either kind of storage."""
    return str(request.getfixturevalue("s3")) if request.param == "s3" else str(tmp_path / "place")
