"""Whose setting wins, what S3 needs, and what the executors are sent."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from bare_python import python_without_sparkrec
from pyspark import SparkContext
from pyspark.sql import SparkSession

from sparkrec import s3a, session
from sparkrec.errors import ConfigError
from sparkrec.pipeline.code import code_fingerprint
from sparkrec.session import is_local, local_cores, open_session, ship_module, slots
from sparkrec.shipping import module_zip

SUBMIT = Path(sys.executable).parent / "spark-submit"
REPO = Path(__file__).parents[1]


class Recorder:
    """Takes the place of SparkSession: nothing is open, and a builder that notes its settings."""

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}
        self.builder = self
        self.sparkContext = self
        self.sent: list[str] = []
        self.pythonExec = sys.executable
        self.master = "yarn"
        self.applicationId = uuid4().hex
        self.defaultParallelism = 6
        self.conf = SimpleNamespace(set=self.config)

    def getActiveSession(self) -> None:  # noqa: N802
        return None

    def appName(self, name: str) -> "Recorder":  # noqa: N802
        self.name = name
        return self

    def config(self, key: str, value: str) -> "Recorder":
        self.settings[key] = value
        return self

    def getOrCreate(self) -> "Recorder":  # noqa: N802
        return self

    def setLogLevel(self, level: str) -> None:  # noqa: N802
        pass

    def addPyFile(self, path: str) -> None:  # noqa: N802
        self.sent.append(Path(path).name)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`opened(settings, launched, paths)`: the settings a session would be opened with."""
    for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        monkeypatch.setenv(name, sys.executable)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)

    def opened(
        settings: dict[str, Any] | None = None,
        launched: dict[str, str] | None = None,
        paths: tuple[str, ...] = (),
        input_bytes: int = 0,
    ) -> dict[str, str]:
        recorder = Recorder()
        monkeypatch.setattr(session, "SparkSession", recorder)
        monkeypatch.setattr(session, "_launched_settings", lambda: launched)
        monkeypatch.setattr(session, "quiet_start", lambda settings: nullcontext())
        monkeypatch.setattr(session, "hush_repeated_errors", lambda context: None)
        monkeypatch.setattr(session, "check_s3a", lambda *given: None)
        monkeypatch.setattr(session, "use_sdk_credentials", lambda *given: None)
        open_session("test", settings, paths, input_bytes=input_bytes)
        return recorder.settings

    return opened


def test_defaults(opened: Any) -> None:
    settings = opened()
    assert settings["spark.master"] == "local[*]"
    assert settings["spark.sql.session.timeZone"] == "UTC"
    assert settings["spark.sql.shuffle.partitions"] == str(4 * (os.cpu_count() or 1))
    assert settings["spark.sql.inMemoryColumnarStorage.batchSize"] == "1000"
    assert not any(".s3" in key or "jars" in key for key in settings)


def test_precedence(opened: Any) -> None:
    conf = {"spark.master": "local[2]", "executor.memory": "2g", "sql.session.timeZone": "CET"}
    settings = opened(conf)
    assert settings["spark.master"] == "local[2]"
    assert settings["spark.executor.memory"] == "2g"
    assert settings["spark.sql.session.timeZone"] == "CET"
    assert settings["spark.sql.shuffle.partitions"] == "8"
    launched = {"spark.master": "local[1]", "spark.executor.memory": "1g", "spark.x": "y"}
    settings = opened(conf, launched)
    assert settings["spark.master"] == "local[1]"
    assert settings["spark.executor.memory"] == "1g"
    assert settings["spark.x"] == "y"
    assert settings["spark.sql.session.timeZone"] == "CET"
    assert settings["spark.sql.shuffle.partitions"] == "4"
    assert opened({}, launched={})["spark.master"] == "local[*]"


def test_values_of_yaml(opened: Any) -> None:
    settings = opened({"sql.shuffle.partitions": 7, "sql.adaptive.enabled": False})
    assert settings["spark.sql.shuffle.partitions"] == "7"
    assert settings["spark.sql.adaptive.enabled"] == "false"


def test_a_cluster_has_its_own_partitions(opened: Any) -> None:
    key = "spark.sql.shuffle.partitions"
    assert opened({"master": "yarn"})[key] == "24"
    executors = {"master": "yarn", "executor.instances": 5, "executor.cores": 4}
    assert opened(executors)[key] == "80"
    assert opened({"master": "spark://a:7077", "cores.max": 10})[key] == "40"


def test_partitions_by_the_size_of_the_input(opened: Any) -> None:
    key = "spark.sql.shuffle.partitions"
    for master in ("yarn", "local[2]"):
        assert opened({"master": master}, None, (), 100 << 24)[key] == "100"
        assert opened({"master": master}, None, (), (100 << 24) + 1)[key] == "101"
    assert opened({"master": "yarn", "sql.shuffle.partitions": 3}, None, (), 1 << 40)[key] == "3"
    assert opened({"master": "yarn"}, {key: "9"}, (), 1 << 40)[key] == "9"


@pytest.mark.parametrize(
    ("key", "flag"),
    [
        ("driver.memory", "--driver-memory 4g"),
        ("spark.driver.memory", "--driver-memory 4g"),
        ("driver.extraClassPath", "--driver-class-path 4g"),
    ],
)
def test_keys_of_the_launch(opened: Any, key: str, flag: str) -> None:
    with pytest.raises(ConfigError, match=rf"cannot be set in a conf once .* `spark-submit {flag}"):
        opened({key: "4g"}, launched={"spark.driver.memory": "1g"})
    full = key if key.startswith("spark.") else f"spark.{key}"
    assert opened({key: "4g"}, launched={full: "4g"})[full] == "4g"
    assert opened({key: "4g"}, launched=None)[full] == "4g"


def test_s3a_only_with_s3_paths(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3a, "_has_s3a", lambda: False)
    monkeypatch.setattr(s3a, "_hadoop_version", lambda: "9.9.9")
    plain = opened({}, None, ("/data/s3://x", "data"))
    assert not any("s3" in key or "jars" in key for key in plain)
    for path in ("s3://bucket/x", "s3a://bucket/x", "S3://bucket/x"):
        settings = opened({}, None, ("/data", path))
        assert settings["spark.jars.packages"] == "org.apache.hadoop:hadoop-aws:9.9.9"
        assert settings["spark.hadoop.fs.s3.impl"].endswith("S3AFileSystem")
        assert "spark.hadoop.fs.s3a.endpoint" not in settings
    for given in ({"jars.packages": "mine"}, {"jars": "mine.jar"}):
        settings = opened(given, None, ("s3://b/x",))
        assert "hadoop-aws" not in settings.get("spark.jars.packages", "")
    settings = opened({}, {"spark.jars": "mine.jar"}, ("s3://b/x",))
    assert "spark.jars.packages" not in settings
    monkeypatch.setattr(s3a, "_has_s3a", lambda: True)
    assert "spark.jars.packages" not in opened({}, None, ("s3://b/x",))


def test_s3a_endpoint(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    settings = opened({}, None, ("s3://b/x",))
    assert settings["spark.hadoop.fs.s3a.endpoint"] == "http://127.0.0.1:9000"
    assert settings["spark.hadoop.fs.s3a.path.style.access"] == "true"
    assert settings["spark.hadoop.fs.s3a.connection.ssl.enabled"] == "false"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.org")
    settings = opened({"hadoop.fs.s3a.endpoint": "mine"}, None, ("s3://b/x",))
    assert settings["spark.hadoop.fs.s3a.endpoint"] == "mine"
    assert settings["spark.hadoop.fs.s3a.connection.ssl.enabled"] == "true"
    assert not any("key" in key.lower() or "secret" in key.lower() for key in settings)


def test_hadoop_version() -> None:
    assert (s3a._jars_folder() / f"hadoop-client-api-{s3a._hadoop_version()}.jar").exists()


@pytest.mark.parametrize(
    ("master", "cores"),
    [
        ("local", 1),
        ("local[1]", 1),
        ("local[16]", 16),
        ("local[3,2]", 3),
        ("local[*]", os.cpu_count()),
        ("local[*, 4]", os.cpu_count()),
        ("local-cluster[2,1,1024]", None),
        ("local[x]", None),
        ("local[]", None),
        ("yarn", None),
        ("spark://host:7077", None),
        ("", None),
    ],
)
def test_local_cores(master: str, cores: int | None) -> None:
    assert local_cores(master) == cores


def test_slots(spark: SparkSession) -> None:
    assert is_local(spark)
    assert slots(spark) == 3  # spark.default.parallelism of the tests' session


def test_an_open_session_is_taken(spark: SparkSession) -> None:
    assert open_session("other", {"driver.memory": "3g"}) is spark


@pytest.mark.parametrize(
    ("arguments", "master", "named"),
    [
        ("jobs/x.py --conf c.yaml", "local[*]", False),
        ("jobs/x.py --conf c.yaml --set spark.master=local[3]", "local[*]", False),
        ("--master local[*] jobs/x.py --conf c.yaml", "local[*]", True),
        ("--conf spark.master=local[*] jobs/x.py", "local[*]", True),
        ("--properties-file p jobs/x.py --conf c.yaml", "yarn", True),
    ],
)
def test_spark_submits_own_master_does_not_count(
    arguments: str, master: str, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Settings:
        def getAll(self) -> list[tuple[str, str]]:  # noqa: N802
            return [("spark.master", master), ("spark.app.name", "x"), ("spark.y", "1")]

    class Java:
        def __getattr__(self, name: str) -> "Java":
            return self

        def getenv(self, name: str) -> None:
            return None

        def getProperty(self, name: str) -> str:  # noqa: N802
            return f"org.apache.spark.deploy.SparkSubmit {arguments}"

    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    monkeypatch.setenv("MASTER", master)
    for name in ("SPARK_HOME", "SPARK_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["/somewhere/jobs/x.py"])
    monkeypatch.setattr(session, "SparkConf", Settings)
    monkeypatch.setattr(SparkContext, "_ensure_initialized", lambda: None)
    monkeypatch.setattr(SparkContext, "_jvm", Java())
    wanted = {"spark.y": "1"} | ({"spark.master": master} if named else {})
    assert session._launched_settings() == wanted


def test_spark_defaults_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    assert not session._in_spark_defaults("spark.master")
    (tmp_path / "spark-defaults.conf").write_text("# spark.master x\n  spark.master local[3]\n")
    assert session._in_spark_defaults("spark.master")
    assert not session._in_spark_defaults("spark.jars")


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on this process's path with a package `acme`, which holds a module `bst`."""
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "__init__.py").write_text("")
    (tmp_path / "acme" / "bst.py").write_text("WHO = 'bst'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[name]


def test_a_cluster_is_sent_a_module_once_a_session(acme: Path) -> None:
    first, second = Recorder(), Recorder()
    for recorder in (first, first, second):
        ship_module(recorder, "acme.bst")  # type: ignore[arg-type]
        ship_module(recorder, "sparkrec")  # type: ignore[arg-type]
    assert first.sent == second.sent == ["shipped-acme.zip", "shipped-sparkrec.zip"]


def test_a_local_master_is_sent_what_its_workers_would_not_find(
    acme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    recorder = Recorder()
    recorder.master = "local[2]"
    for name in ("acme", "sparkrec"):
        ship_module(recorder, name)  # type: ignore[arg-type]
    assert recorder.sent == ["shipped-acme.zip"]


def test_workers_import_what_was_shipped(acme: Path, spark: SparkSession) -> None:
    def who(rows: object) -> list[str]:
        from acme.bst import WHO  # type: ignore[import-not-found]

        return [WHO]

    ship_module(spark, "acme.bst")
    assert spark.sparkContext.parallelize([0], 1).mapPartitions(who).collect() == ["bst"]


REPORT = """
import json, sys
from sparkrec.session import open_session

spark = open_session("check", json.loads(sys.argv[1]))
partitions = spark.conf.get("spark.sql.shuffle.partitions")
print(json.dumps([spark.sparkContext.master, partitions]))
"""


def submit(tmp_path: Path, flags: list[str], block: dict[str, str]) -> "list[str] | str":
    script = tmp_path / "job.py"
    script.write_text(REPORT)
    command = [str(SUBMIT), *flags, "--conf", "spark.ui.enabled=false", str(script)]
    stray = ("MASTER", "PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET")
    environ = {name: value for name, value in os.environ.items() if name not in stray}
    done = subprocess.run(
        [*command, json.dumps(block), "--set", "spark.master=local[7]"],
        capture_output=True,
        text=True,
        cwd=REPO,
        env=environ | {"PYTHONPATH": str(REPO), "PYSPARK_PYTHON": sys.executable},
    )
    if done.returncode:
        # spark-submit sends what a Python job writes to stderr to its own stdout.
        return done.stdout + done.stderr
    answer: list[str] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.slow
def test_spark_submit(tmp_path: Path) -> None:
    block = {"master": "local[2]"}
    assert submit(tmp_path, ["--master", "local[1]"], block) == ["local[1]", "4"]
    assert submit(tmp_path, [], block) == ["local[2]", "8"]
    answer = submit(tmp_path, [], {"driver.memory": "3g"})
    assert "give it as `spark-submit --driver-memory 3g`" in answer


PLACES = """
from sparkrec.pipeline.code import code_fingerprint
from sparkrec.session import open_session

def place(_):
    import sparkrec.session
    return sparkrec.session.__file__

spark = open_session("check")
print(place(0), spark.sparkContext.parallelize([0], 1).map(place).first(), code_fingerprint())
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sparkrec.zip", "mine.zip"])
def test_a_driver_that_got_sparkrec_from_py_files(tmp_path: Path, name: str) -> None:
    """As in cluster mode, where neither driver nor executors have sparkrec installed."""
    given = Path(module_zip("sparkrec")).rename(tmp_path / name)
    script = tmp_path / "job.py"
    script.write_text(PLACES)
    stray = ("MASTER", "PYTHONPATH", "PYSPARK_DRIVER_PYTHON")
    done = subprocess.run(
        [str(SUBMIT), "--master", "local-cluster[1,1,1024]", "--py-files", str(given), str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in stray}
        | {"PYSPARK_PYTHON": python_without_sparkrec(tmp_path / "env")},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(str(given))]
    assert len(lines) == 1, done.stdout[-2000:] + done.stderr[-2000:]
    driver, executor, fingerprint = lines[0].split()
    assert driver.startswith(f"{given}/sparkrec/") and ".zip/sparkrec/" in executor
    assert fingerprint == code_fingerprint(script)


@pytest.mark.slow
def test_a_master_that_spark_refuses() -> None:
    """In a process of its own, since the tests' session is open here."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT, json.dumps({"master": "local[x]", "ui.enabled": "false"})],
        capture_output=True,
        text=True,
        cwd=REPO,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "sparkrec.errors.ConfigError: Spark does not start with spark.master=local[x]: "
        "Could not parse Master URL: 'local[x]'"
    )
    assert "ERROR SparkContext: Error initializing SparkContext" in done.stderr


@pytest.mark.parametrize(
    ("variables", "settings"),
    [
        ({"SPARK_REMOTE": "sc://host"}, {}),
        ({}, {"remote": "sc://host"}),
        ({}, {"api.mode": "connect"}),
        ({"SPARK_API_MODE": "connect"}, {}),
    ],
)
def test_spark_connect_is_refused(
    opened: Any,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    settings: dict[str, str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"does not run on Spark Connect \(.* is set\)"):
        opened(settings)
