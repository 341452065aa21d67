"""What every job does around its own few lines: arguments, logging, the session, errors."""

import argparse
import dataclasses
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pyspark.sql import SparkSession

from sparkrec.config.describe import describe_keys, effective_conf
from sparkrec.config.load import load_config
from sparkrec.errors import SparkrecError
from sparkrec.pipeline.paths import check_paths, input_bytes
from sparkrec.pipeline.signals import ended_by_signals
from sparkrec.read_errors import explain
from sparkrec.session import open_session

C = TypeVar("C")

# How an error of ours reads after it has crossed from a Python worker through the JVM.
_REMOTE_ERROR = re.compile(r"sparkrec\.errors\.\w+: (.+)")


def run_job(
    main: Callable[[C, SparkSession], None], kind: type[C], argv: list[str] | None = None
) -> None:
    """Run a job's `main(config, spark)` as a command, and exit; `kind` is its config's class.

    Exit code 0 when `main` returns; 1, after one line `error: ...` on stderr, for a user's
    mistake (`--debug` shows the stack trace). Anything else is a bug and shows its trace. A signal
    ends the job with one line and 128 + its number.
    """

    def load(path: str, overrides: Sequence[str]) -> C:
        return load_config(path, kind, overrides)

    run_command(main, load, kind, sys.modules[main.__module__].__doc__, argv)


def run_command(
    main: Callable[[C, SparkSession], str | None],
    load: Callable[[str, Sequence[str]], C],
    kind: Any,
    doc: str | None,
    argv: list[str] | None = None,
) -> None:
    """Run a job whose config `load(conf, overrides)` reads, and print what it returns.

    Exit codes and errors are those of `run_job`.

    Parameters
    ----------
    kind
        The config's class, for `-h`.
    doc
        The script's docstring, for `-h`.
    """
    options = _parse(doc, kind, argv)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    for chatty in ("py4j", "petastorm", "botocore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        config = load(options.conf, options.set)
        if options.print_conf:
            print(effective_conf(config), end="")
            return
        folders = check_paths(config)
        with ended_by_signals() as signals:
            settings = getattr(config, "spark", {})
            name = f"sparkrec {getattr(config, 'job', '')}".strip()
            paths = list(_texts(config))
            spark = open_session(name, settings, paths, options.debug, input_bytes(folders))
            signals.watch()  # Spark has installed a handler of its own
            text = main(config, spark)
            if text:
                print(text)
            spark.stop()
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        if options.debug:
            traceback.print_exc()
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)


def user_message(error: BaseException) -> str | None:
    """The one line for what a user can mend, or None for a bug."""
    if isinstance(error, SparkrecError):
        return " ".join(str(error).split())
    found = _REMOTE_ERROR.search(str(error))
    return found.group(1).strip() if found else explain(error)


def _parse(doc: str | None, kind: Any, argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(doc or "").strip().split("\n\n")[0],
        epilog="keys of the conf:\n  " + "\n  ".join(describe_keys(kind)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--conf", required=True, metavar="FILE", help="YAML conf, local or s3://...; ${VAR} allowed"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY.SUB=VALUE", help="override a key"
    )
    parser.add_argument(
        "--print-conf",
        action="store_true",
        help="print the conf as it is used, every default written out, and stop",
    )
    parser.add_argument(
        "--debug", action="store_true", help="show stack traces of errors, and what Spark reports"
    )
    return parser.parse_args(argv)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _texts(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))
