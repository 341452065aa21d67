"""Keeps secrets out of confs, and out of all that confs are written to.

Secrets are known by Spark's own rule: the default of `spark.redaction.regex`, by which Spark
replaces values in its event logs and in its UI.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from sparkrec.config.nodes import where
from sparkrec.errors import ConfigError, cut

# `credentials.provider` is the exception: it names a class, and S3A cannot do without it.
SECRET = re.compile(r"(?i)secret|password|token|access[.]?key|credential(?!s?[.]provider)")
REDACTED = "*********(redacted)"
# Names in a value, such as those of `-Dname=value` in the options of a JVM.
_NAMES = re.compile(r"[^\s=]+(?==)")


def is_secret(key: str, value: object) -> bool:
    """Whether a key, or a name in its value, is that of a secret."""
    return any(SECRET.search(name) for name in (key, *_NAMES.findall(str(value))))


def refuse_secrets(root: yaml.MappingNode) -> None:
    """Raise ConfigError if the `spark:` block of a conf has a secret; the message does not."""
    for block, child in root.value:
        if block.value == "spark":
            _refuse_in(child, "spark")


def _refuse_in(block: yaml.Node, prefix: str) -> None:
    for key, value in block.value if isinstance(block, yaml.MappingNode) else ():
        # A block in the block is no setting, but it may hold a secret all the same.
        name = f"{prefix}.{cut(str(key.value)).removeprefix('spark.')}"
        if is_secret(name, value.value):
            raise ConfigError(
                f"{where(key)}: {name} is a secret, which must not stand in a conf or in --set; "
                "give it in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or in "
                "spark-defaults.conf"
            )
        _refuse_in(value, name)


def redact(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Spark settings with a mark in the place of secrets."""
    return {k: REDACTED if is_secret(k, value) else value for k, value in settings.items()}
