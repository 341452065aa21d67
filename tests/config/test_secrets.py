"""Secrets: not in confs, messages or whatever a config is written to."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkrec.config.describe import effective_conf
from sparkrec.config.load import load_config, to_json
from sparkrec.config.secrets import REDACTED, SECRET
from sparkrec.errors import ConfigError

MARK = "sw0rdfish"


@dataclass(frozen=True)
class Conf:
    name: str
    spark: dict[str, Any] = field(default_factory=dict)


def refused(path: Path, *overrides: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), Conf, overrides, environ)
    message = str(caught.value)
    assert MARK not in message and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("hadoop.fs.s3a.secret.key: {}", "hadoop.fs.s3a.secret.key"),
        ("spark.hadoop.fs.s3a.access.key: {}", "hadoop.fs.s3a.access.key"),
        ("hadoop.fs.s3a.session.token: '{}'", "hadoop.fs.s3a.session.token"),
        ("SSL.KeyPASSWORD: !!int {}", "SSL.KeyPASSWORD"),
        ("hadoop.fs.s3a.secret.key: $MARK", "hadoop.fs.s3a.secret.key"),
        ("driver.extraJavaOptions: -Da=b -Djavax.Password={}", "driver.extraJavaOptions"),
    ],
)
def test_secret_in_a_conf(tmp_path: Path, line: str, key: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"name: x\nspark:\n  master: local\n  {line.format(MARK)}\n")
    assert refused(path, MARK=MARK) == (
        f"{path}:4: spark.{key} is a secret, which must not stand in a conf or in --set; give it "
        "in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or in spark-defaults.conf"
    )


@pytest.mark.parametrize(
    "override",
    [
        f"spark.hadoop.fs.s3a.secret.key={MARK}",
        f"spark.hadoop.fs.s3a.secret.key=[{MARK}",
        f"spark={{hadoop.fs.s3a.secret.key: {MARK}}}",
        f"spark.driver.extraJavaOptions=-Dtoken={MARK}",
    ],
)
def test_secret_in_set(tmp_path: Path, override: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\n")
    name = override.partition("=")[0]
    message = refused(path, override)
    assert message.startswith(f"--set {name}=...")
    assert ("is a secret" in message) != ("=[" in override)


def test_other_settings_are_no_secrets(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    settings = {
        "app.name": "tokens",
        "driver.extraJavaOptions": "-Da=b",
        "hadoop.fs.s3a.aws.credentials.provider": "com.amazonaws.Provider",
    }
    path.write_text(f"name: my token\nspark: {json.dumps(settings)}\n")
    assert load_config(str(path), Conf).spark == settings


def test_redacted_where_it_is_written() -> None:
    settings = {"hadoop.fs.s3a.secret.key": MARK, "x": f"-Dpassword={MARK}", "master": "local"}
    config = Conf("x", settings)
    expected = {"hadoop.fs.s3a.secret.key": REDACTED, "x": REDACTED, "master": "local"}
    assert to_json(config)["spark"] == expected
    assert MARK not in effective_conf(config)


def test_the_pattern_is_that_of_spark(spark: SparkSession) -> None:
    package = getattr(spark._jvm.org.apache.spark.internal.config, "package$")  # type: ignore[union-attr]
    default = package.__getattr__("MODULE$").SECRET_REDACTION_PATTERN().defaultValueString()
    ours = SECRET.pattern.replace("(?!s?[.]provider)", "")
    # Spark 3.5 does not know credentials.
    wanted = ours.removesuffix("|credential") if spark.version < "4" else ours
    assert default == wanted
