"""S3A, Hadoop's file system with which Spark reads and writes `s3://` paths."""

import os
from collections.abc import Mapping
from pathlib import Path

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.sql import SparkSession

from sparkrec.errors import ConfigError

# Requests are repeated for about 40 seconds while S3 refuses them. By S3A's defaults it would be
# minutes, and hours if an endpoint does not answer.
_S3A_LIMITS = {
    "spark.hadoop.fs.s3a.attempts.maximum": "1",  # of the AWS SDK, within each of S3A's
    "spark.hadoop.fs.s3a.retry.limit": "4",
    "spark.hadoop.fs.s3a.retry.interval": "1s",  # doubled each time
    "spark.hadoop.fs.s3a.connection.timeout": "20000",  # milliseconds
    "spark.hadoop.fs.s3a.connection.establish.timeout": "5000",
}
# What spares requests.
_S3A_WRITES = {
    # A rename is a copy on S3. In version 2, tasks rename their files to the folder of the table,
    # so that the driver need not rename them again when all have ended. If a job fails in between,
    # files stay behind, in a version of an output that is not published.
    "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
    # The default since Hadoop 3.4; older versions look for markers to remove after each write.
    "spark.hadoop.fs.s3a.directory.marker.retention": "keep",
}

_PROVIDER = "fs.s3a.aws.credentials.provider"
# Keys in Hadoop's settings come first, as by S3A's default; Spark puts those of the environment
# there. The default chain of the AWS SDK follows in the place of environment and role alone: it
# also knows profiles and web identity.
_FROM_SETTINGS = (
    "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider",
    "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
)
# By the interface that the version of the SDK has for them.
_SDK_CHAINS = {
    "software.amazon.awssdk.auth.credentials.AwsCredentialsProvider": (
        "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider"
    ),
    "com.amazonaws.auth.AWSCredentialsProvider": (
        "com.amazonaws.auth.DefaultAWSCredentialsProviderChain"
    ),
}


def s3a_settings(given: Mapping[str, str]) -> dict[str, str]:
    """Settings of S3A: the hadoop-aws of Spark's Hadoop version, and the environment's endpoint."""
    settings = {"spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem"}
    settings |= _S3A_LIMITS | _S3A_WRITES
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


def check_s3a(session: SparkSession, path: str, launched: bool) -> None:
    """Raise ConfigError unless the JVM has the file system that reads `s3://` paths."""
    jvm, context = session._jvm, session.sparkContext
    assert jvm is not None
    try:
        jvm.org.apache.hadoop.fs.FileSystem.getFileSystemClass(
            "s3a", context._jsc.hadoopConfiguration()
        )
    except Py4JJavaError:
        package = f"org.apache.hadoop:hadoop-aws:{_hadoop_version()}"
        if launched:
            jars = context.getConf().get("spark.jars") or "<hadoop-aws and the AWS SDK>.jar"
            session.stop()
            raise ConfigError(
                f"{path}: Spark has no S3A file system, whose jars must be there when spark-submit "
                f"starts the JVM; add `--packages {package}`, which downloads them, or "
                f"`--jars {jars}`"
            ) from None
        session.stop()
        raise ConfigError(
            f"{path}: the jars that the conf names have no S3A file system; leave spark.jars out "
            f"of it, or set it to those of {package} and of the AWS SDK that it needs"
        ) from None


def use_sdk_credentials(session: SparkSession) -> None:
    """Let S3A find credentials as boto3 does, unless the user chose a provider.

    It is set in the driver's Hadoop configuration, which goes with every task, because only the
    running JVM can tell which version of the AWS SDK its S3A uses: 1 up to Hadoop 3.3, then 2.
    """
    hadoop = session.sparkContext._jsc.hadoopConfiguration()
    origins = hadoop.getPropertySources(_PROVIDER)
    if origins is not None and list(origins) != ["core-default.xml"]:
        return
    providers = hadoop.getClassByNameOrNull("org.apache.hadoop.fs.s3a.AWSCredentialProviderList")
    if providers is None:
        return
    for interface, chain in _SDK_CHAINS.items():
        wanted = hadoop.getClassByNameOrNull(interface)
        if wanted is not None and wanted.isAssignableFrom(providers):
            hadoop.set(_PROVIDER, ",".join((*_FROM_SETTINGS, chain)))
            return


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
