"""Opens the SparkSession, with S3A if a path needs it.

Settings of spark-submit (or spark-defaults.conf) have priority over those of the conf's `spark:`
block, and these over the defaults below. The default master is `local[*]`.
"""

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from logging import CRITICAL, ERROR
from pathlib import Path

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession

from sparkrec.errors import ConfigError
from sparkrec.jvm import hush_repeated_errors, quiet_start
from sparkrec.s3a import check_s3a, s3a_settings, use_sdk_credentials
from sparkrec.shipping import imports_the_same, module_zip
from sparkrec.spark_versions import set_query_log_level

_DEFAULTS = {
    "spark.master": "local[*]",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    # The default of Spark 4; Spark 3.5 would fail at a text that Spark 2 read as another time.
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    "spark.sql.parquet.compression.codec": "zstd",
    # Every task reads a whole row group into the heap, which is 1 GB by default.
    "spark.hadoop.parquet.block.size": str(32 << 20),
    # The default batch of a cached table is 10,000 rows; with long lists its buffers would fill the
    # heap.
    "spark.sql.inMemoryColumnarStorage.batchSize": "1000",
    "spark.ui.showConsoleProgress": "true" if sys.stderr.isatty() else "false",
    # Distributed training with too few slots should fail in seconds and not wait.
    "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "2s",
    "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "2",
}

# The master that spark-submit sets if none is named.
_SUBMIT_MASTER = "local[*]"
_LOCAL = re.compile(r"local\[\s*([0-9]+|\*)\s*(?:,\s*[0-9]+\s*)?\]")

# Spark's default, 200, is too many for small data and too few for large ones.
_PARTITIONS = "spark.sql.shuffle.partitions"
# Of compressed parquet; as rows of Spark it is several times as much.
_BYTES_PER_PARTITION = 16 << 20

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
    input_bytes: int = 0,
) -> SparkSession:
    """Open the session of a job, or return the one that is open.

    Parameters
    ----------
    name
        Application name.
    settings
        The conf's `spark:` block: keys with or without the `spark.` prefix.
    paths
        All paths that the job reads or writes; if one is on `s3://`, S3A is set up.
    verbose
        Whether to show Spark's warnings and the notices of the JVM at its start. If spark-submit
        starts the JVM, the notices are always shown.
    input_bytes
        Size of the files that the job reads; it sets the number of shuffle partitions, unless
        `spark.sql.shuffle.partitions` is given.

    Raises
    ------
    ConfigError
        The session would be one of Spark Connect; a setting has to be known when the JVM starts,
        but the JVM is already running; Spark does not start; or a path is on S3 and the JVM has no
        S3A.
    """
    wanted = {
        key if key.startswith("spark.") else f"spark.{key}": _text(value)
        for key, value in (settings or {}).items()
    }
    _refuse_connect(wanted)
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
    on_s3 = next((path for path in paths if path.lower().startswith(("s3://", "s3a://"))), None)
    if on_s3 is not None:
        defaults |= s3a_settings({**wanted, **(launched or {})})
    merged = {**defaults, **wanted, **(launched or {})}
    cores = local_cores(merged["spark.master"])

    if launched is None:
        # The JVM that this process starts must use the interpreter of this process.
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
            if not verbose:
                hush_repeated_errors(session.sparkContext)
        set_query_log_level(ERROR if verbose else CRITICAL)
    except (Py4JJavaError, PySparkRuntimeError) as error:
        if isinstance(error, Py4JJavaError):
            reason = str(error.java_exception.getMessage() or error.java_exception.toString())
        else:
            reason = f"{error} What Java said stands above."
        raise ConfigError(
            f"Spark does not start with spark.master={merged['spark.master']}: "
            f"{' '.join(reason.split())}"
        ) from error
    if _PARTITIONS not in merged:
        tasks = cores or _cluster_slots(session, merged)
        by_size = -(-input_bytes // _BYTES_PER_PARTITION)
        session.conf.set(_PARTITIONS, str(max(4 * tasks, by_size)))
    if on_s3 is not None:
        check_s3a(session, on_s3, launched is not None)
        use_sdk_credentials(session)
    ship_module(session, "sparkrec")
    return session


# (application, module) of the modules that were shipped or that need no shipping.
_SHIPPED: set[tuple[str, str]] = set()


def ship_module(spark: SparkSession, name: str) -> None:
    """Make a module of this process importable in the session's Python workers.

    On a local master nothing is sent if the workers' Python finds the same module itself. Workers
    then use the compiled code that is cached on disk, which is not possible with a zip. Otherwise
    the top-level module or package is sent as a zip, once per session.

    Parameters
    ----------
    spark
        The session.
    name
        A module that this process can import, such as `acme.bst`; all of `acme` is shipped.

    Raises
    ------
    ConfigError
        The module is the running program (`__main__`), does not exist, or has no Python sources.
    """
    name = name.partition(".")[0]
    context = spark.sparkContext
    if (context.applicationId, name) in _SHIPPED:
        return
    if not (is_local(spark) and imports_the_same(context.pythonExec, name)):
        context.addPyFile(module_zip(name))
    _SHIPPED.add((context.applicationId, name))


def _text(value: object) -> str:
    """Format a value from YAML as Spark expects it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _launched_settings() -> dict[str, str] | None:
    """The settings of spark-submit, or None if no JVM is running yet.

    spark-submit sets `spark.master` if none is named, so its value is only used if it is on the
    command line or in spark-defaults.conf.
    """
    if SparkContext._gateway is None and "PYSPARK_GATEWAY_PORT" not in os.environ:
        return None
    SparkContext._ensure_initialized()
    settings = dict(SparkConf().getAll())
    assert SparkContext._jvm is not None
    command = str(SparkContext._jvm.java.lang.System.getProperty("sun.java.command") or "")
    # The arguments after the job's file belong to the job, such as `--set spark.master=...`.
    command = command.partition(Path(sys.argv[0]).name or "\0")[0]
    named = (
        settings.get("spark.master") != _SUBMIT_MASTER
        or any(mark in command for mark in ("--master", "spark.master="))
        # From the JVM's environment, because spark-submit sets MASTER in that of this process.
        or SparkContext._jvm.java.lang.System.getenv("MASTER") is not None
    )
    if not named and not _in_spark_defaults("spark.master"):
        settings.pop("spark.master", None)
    # The gateway of pip's pyspark-shell sets a name that the user did not choose.
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


def _cluster_slots(session: SparkSession, settings: Mapping[str, str]) -> int:
    """Task slots of a cluster; those that are asked for may not all have registered yet."""
    asked = int(settings.get("spark.executor.instances", 0)) * int(
        settings.get("spark.executor.cores", 1)
    )
    return max(slots(session), asked, int(settings.get("spark.cores.max", 0)))


def _refuse_connect(wanted: Mapping[str, str]) -> None:
    """Raise ConfigError if the session would be one of Spark Connect."""
    found = [n for n in ("SPARK_REMOTE", "SPARK_CONNECT_MODE_ENABLED") if os.environ.get(n)]
    if "spark.remote" in wanted:
        found.append("spark.remote")
    if os.environ.get("SPARK_API_MODE", wanted.get("spark.api.mode")) == "connect":
        found.append("spark.api.mode=connect")
    if found:
        raise ConfigError(
            f"sparkrec does not run on Spark Connect ({found[0]} is set), which has no RDDs, no "
            "barrier tasks and no files for the executors; unset it, and name the cluster with "
            "spark-submit --master"
        )


def slots(spark: SparkSession) -> int:
    """Number of tasks that the session can run at once."""
    return spark.sparkContext.defaultParallelism


def local_cores(master: str) -> int | None:
    """Number of task slots of a `local`, `local[n]` or `local[*]` master; None for any other."""
    if master == "local":
        return 1
    threads = _LOCAL.fullmatch(master)
    if threads is None:
        return None
    return (os.cpu_count() or 1) if threads[1] == "*" else int(threads[1])


def is_local(spark: SparkSession) -> bool:
    """Whether tasks run in the driver's own JVM (`local[...]`)."""
    return local_cores(spark.sparkContext.master or "") is not None
