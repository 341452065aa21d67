"""Which credentials S3A looks for."""

from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkrec.s3a import use_sdk_credentials

KEY = "fs.s3a.aws.credentials.provider"
SDK_1 = "com.amazonaws.auth.AWSCredentialsProvider"
SDK_2 = "software.amazon.awssdk.auth.credentials.AwsCredentialsProvider"
LIST = "org.apache.hadoop.fs.s3a.AWSCredentialProviderList"


class Hadoop:
    """A Hadoop configuration whose JVM has S3A with a version of the AWS SDK, and other classes."""

    def __init__(self, interface: str | None, others: tuple[str, ...] = ()) -> None:
        self.interface, self.others = interface, others
        self.values: dict[str, str] = {}
        self.origins: list[str] | None = ["core-default.xml"]

    def getPropertySources(self, key: str) -> list[str] | None:  # noqa: N802
        assert key == KEY
        return self.origins

    def getClassByNameOrNull(self, name: str) -> Any:  # noqa: N802
        if name == LIST and self.interface:
            return LIST
        if name in (self.interface, *self.others):
            return SimpleNamespace(isAssignableFrom=lambda other: name == self.interface)
        return None

    def set(self, key: str, value: str) -> None:
        self.values[key] = value


def providers(hadoop: Hadoop) -> list[str]:
    context = SimpleNamespace(_jsc=SimpleNamespace(hadoopConfiguration=lambda: hadoop))
    use_sdk_credentials(SimpleNamespace(sparkContext=context))  # type: ignore[arg-type]
    return [name.rpartition(".")[2] for name in hadoop.values.get(KEY, "").split(",") if name]


@pytest.mark.parametrize(
    ("interface", "others", "chain"),
    [
        (SDK_2, (), "DefaultCredentialsProvider"),
        (SDK_1, (), "DefaultAWSCredentialsProviderChain"),
        # Both versions are on the class path, and S3A uses one of them.
        (SDK_2, (SDK_1,), "DefaultCredentialsProvider"),
        (SDK_1, (SDK_2,), "DefaultAWSCredentialsProviderChain"),
    ],
)
def test_the_default_chain_of_the_sdk(interface: str, others: tuple[str, ...], chain: str) -> None:
    found = providers(Hadoop(interface, others))
    assert found == ["TemporaryAWSCredentialsProvider", "SimpleAWSCredentialsProvider", chain]


@pytest.mark.parametrize(
    "origins", [["core-site.xml"], ["Set by Spark from keys starting with 'spark.hadoop'"]]
)
def test_a_provider_of_the_user_stays(origins: list[str]) -> None:
    hadoop = Hadoop(SDK_2)
    hadoop.origins = origins
    assert providers(hadoop) == []
    hadoop.origins = None
    assert len(providers(hadoop)) == 3


def test_a_jvm_without_s3a(spark: SparkSession) -> None:
    assert providers(Hadoop(None, (SDK_2,))) == []
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    before = hadoop.get(KEY)
    assert list(hadoop.getPropertySources(KEY)) == ["core-default.xml"]
    use_sdk_credentials(spark)
    assert hadoop.get(KEY) == before
