"""The SparkSession: `local[*]` by default, whatever spark-submit gives otherwise, S3A when needed.

What spark-submit (or spark-defaults.conf) says wins, then the conf's `spark:` block, then the
defaults below.
"""

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession

from sparkrec.errors import ConfigError
from sparkrec.jvm import quiet_start
from sparkrec.shipping import imports_the_same, module_zip

_DEFAULTS = {
    "spark.master": "local[*]",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.compression.codec": "zstd",
    # A row group is read whole, by every task at once, into a heap that is 1 GB by default.
    "spark.hadoop.parquet.block.size": str(32 << 20),
    # So are the rows that a cached table is packed by, ten thousand otherwise: with long lists
    # their buffers alone would fill it.
    "spark.sql.inMemoryColumnarStorage.batchSize": "1000",
    "spark.ui.showConsoleProgress": "true" if sys.stderr.isatty() else "false",
    # Too few slots for a distributed training should fail in seconds, not look like a hang.
    "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "2s",
    "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "2",
}

# What spark-submit fills in where nobody names a master.
_SUBMIT_MASTER = "local[*]"
_LOCAL = re.compile(r"local\[\s*([0-9]+|\*)\s*(?:,\s*[0-9]+\s*)?\]")

# Keys that the JVM reads when it starts, and the spark-submit flag that sets each.
_LAUNCH_KEYS = {
    "spark.driver.memory": "--driver-memory",
    "spark.driver.extraJavaOptions": "--driver-java-options",
    "spark.driver.extraClassPath": "--driver-class-path",
    "spark.driver.extraLibraryPath": "--driver-library-path",
}


def open_session(
    name: str,
    settings: Mapping[str, str] | None = None,
    paths: Iterable[str] = (),
    verbose: bool = False,
) -> SparkSession:
    """Open the session of a job, or return the one that is open.

    Parameters
    ----------
    name
        Application name.
    settings
        The conf's `spark:` block: keys with or without the `spark.` prefix.
    paths
        Every path that the job touches; with an `s3://` one among them, S3A is set up.
    verbose
        Show Spark's warnings, and what the JVM reports when it starts. spark-submit starts the JVM
        itself, so its notices are shown in any case.

    Raises
    ------
    ConfigError
        A setting only works when the JVM starts, and a JVM is already running.
    """
    wanted = {
        key if key.startswith("spark.") else f"spark.{key}": _text(value)
        for key, value in (settings or {}).items()
    }
    active = SparkSession.getActiveSession()
    if active is not None:
        return active

    launched = _launched_settings()
    for key, flag in _LAUNCH_KEYS.items():
        if launched is not None and key in wanted and launched.get(key) != wanted[key]:
            raise ConfigError(
                f"spark: {key} cannot be set in a conf once spark-submit has started the JVM; "
                f"give it as `spark-submit {flag} {shlex.quote(wanted[key])}`"
            )
    defaults = dict(_DEFAULTS)
    if any(path.startswith(("s3://", "s3a://")) for path in paths):
        defaults |= _s3a_settings({**wanted, **(launched or {})})
    merged = {**defaults, **wanted, **(launched or {})}
    cores = local_cores(merged["spark.master"])
    if cores is not None:
        # Spark's 200 partitions are made for clusters; on one machine they cost more than the work.
        merged.setdefault("spark.sql.shuffle.partitions", str(4 * cores))

    if launched is None:
        # The JVM that this process starts must not inherit a stray interpreter choice.
        os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    if "spark.pyspark.python" not in merged:
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(name)
    for key, value in merged.items():
        builder = builder.config(key, value)
    start = nullcontext() if verbose or launched is not None else quiet_start(merged)
    try:
        with start:
            session = builder.getOrCreate()
            session.sparkContext.setLogLevel("WARN" if verbose else "ERROR")
    except (Py4JJavaError, PySparkRuntimeError) as error:
        if isinstance(error, Py4JJavaError):
            reason = str(error.java_exception.getMessage() or error.java_exception.toString())
        else:
            reason = f"{error} What Java said stands above."
        raise ConfigError(
            f"Spark does not start with spark.master={merged['spark.master']}: "
            f"{' '.join(reason.split())}"
        ) from error
    ship_module(session, "sparkrec")
    return session


# (application, module) of what was shipped, or need not be.
_SHIPPED: set[tuple[str, str]] = set()


def ship_module(spark: SparkSession, name: str) -> None:
    """Make a module of this process importable in the session's Python workers.

    On a local master nothing is sent if the workers' Python finds the same module by itself: they
    then share its compiled code on disk, which a zip in a new folder every session cannot have.
    Otherwise the top-level module or package is sent as a zip, once a session.

    Parameters
    ----------
    spark
        The session.
    name
        A module that this process can import, such as `acme.bst`; all of `acme` is shipped.

    Raises
    ------
    ConfigError
        The module is the running program (`__main__`), is not there, or has no Python sources.
    """
    name = name.partition(".")[0]
    context = spark.sparkContext
    if (context.applicationId, name) in _SHIPPED:
        return
    if not (is_local(spark) and imports_the_same(context.pythonExec, name)):
        context.addPyFile(module_zip(name))
    _SHIPPED.add((context.applicationId, name))


def _text(value: object) -> str:
    """A value of YAML as Spark writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _launched_settings() -> dict[str, str] | None:
    """Settings that spark-submit was given, or None where no JVM runs yet.

    spark-submit fills in `spark.master` itself when nobody named one, so that value counts only
    if it stands on its command line or in spark-defaults.conf.
    """
    if SparkContext._gateway is None and "PYSPARK_GATEWAY_PORT" not in os.environ:
        return None
    SparkContext._ensure_initialized()
    settings = dict(SparkConf().getAll())
    assert SparkContext._jvm is not None
    command = str(SparkContext._jvm.java.lang.System.getProperty("sun.java.command") or "")
    # What follows the job's file are its own arguments, `--set spark.master=...` among them.
    command = command.partition(Path(sys.argv[0]).name or "\0")[0]
    named = (
        settings.get("spark.master") != _SUBMIT_MASTER
        or any(mark in command for mark in ("--master", "spark.master="))
        # Of the JVM's environment: the one here has a MASTER that spark-submit itself put there.
        or SparkContext._jvm.java.lang.System.getenv("MASTER") is not None
    )
    if not named and not _in_spark_defaults("spark.master"):
        settings.pop("spark.master", None)
    # pip's pyspark-shell gateway names itself; that is no wish of the user's.
    settings.pop("spark.app.name", None)
    return settings


def _in_spark_defaults(key: str) -> bool:
    home = os.environ.get("SPARK_CONF_DIR") or (
        str(Path(os.environ["SPARK_HOME"]) / "conf") if "SPARK_HOME" in os.environ else ""
    )
    defaults = Path(home) / "spark-defaults.conf" if home else None
    if defaults is None or not defaults.is_file():
        return False
    lines = defaults.read_text(encoding="utf-8").splitlines()
    return any(line.strip().startswith(key) for line in lines)


def _s3a_settings(given: Mapping[str, str]) -> dict[str, str]:
    """S3A for `s3://`: the hadoop-aws of Spark's own Hadoop, the endpoint of the environment."""
    settings = {"spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem"}
    if not any(key in given for key in ("spark.jars", "spark.jars.packages")) and not _has_s3a():
        settings["spark.jars.packages"] = f"org.apache.hadoop:hadoop-aws:{_hadoop_version()}"
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        settings["spark.hadoop.fs.s3a.endpoint"] = endpoint
        settings["spark.hadoop.fs.s3a.path.style.access"] = "true"
        settings["spark.hadoop.fs.s3a.connection.ssl.enabled"] = str(
            endpoint.startswith("https")
        ).lower()
    return settings


def _jars_folder() -> Path:
    import pyspark

    home = os.environ.get("SPARK_HOME")
    return (Path(home) if home else Path(pyspark.__file__).parent) / "jars"


def _has_s3a() -> bool:
    return any(_jars_folder().glob("hadoop-aws-*.jar"))


def _hadoop_version() -> str:
    for jar in _jars_folder().glob("hadoop-client-api-*.jar"):
        return jar.stem.removeprefix("hadoop-client-api-")
    return "3.5.0"


def slots(spark: SparkSession) -> int:
    """How many tasks the session can run at once."""
    return spark.sparkContext.defaultParallelism


def local_cores(master: str) -> int | None:
    """The task slots of a `local`, `local[n]` or `local[*]` master; None for any other."""
    if master == "local":
        return 1
    threads = _LOCAL.fullmatch(master)
    if threads is None:
        return None
    return (os.cpu_count() or 1) if threads[1] == "*" else int(threads[1])


def is_local(spark: SparkSession) -> bool:
    """Whether tasks run in the driver's own JVM (`local[...]`)."""
    return local_cores(spark.sparkContext.master or "") is not None
