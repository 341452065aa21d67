"""Arguments, exit codes and the one line that a mistake is told in."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sparkrec.errors import ConfigError, DataError, SchemaError, StorageError, TrainingError
from sparkrec.pipeline import cli
from sparkrec.pipeline.cli import run_job, user_message


@dataclass(frozen=True)
class Paths:
    events: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conf:
    job: str
    input: Paths
    count: int = 1
    spark: dict[str, Any] = field(default_factory=dict)


class Session:
    stopped = 0

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `open_session` was called with, and the session that it gave."""
    calls: dict[str, Any] = {"session": Session()}

    def open_session(
        name: str, settings: Any, paths: Any, verbose: bool, input_bytes: int
    ) -> Session:
        calls.update(name=name, settings=settings, paths=list(paths), verbose=verbose)
        calls.update(input_bytes=input_bytes)
        session: Session = calls["session"]
        return session

    monkeypatch.setattr(cli, "open_session", open_session)
    monkeypatch.setattr(cli, "check_paths", lambda config: {"s3://b/x"})
    monkeypatch.setattr(cli, "input_bytes", lambda folders: 12 * len(folders))
    return calls


@pytest.fixture
def conf(tmp_path: Path) -> str:
    path = tmp_path / "x.yaml"
    path.write_text(
        "job: try\ninput: {events: s3://b/x, more: [/a, /b]}\nspark: {executor.memory: 2g}\n"
    )
    return str(path)


def exits(main: Any, argv: list[str]) -> Any:
    with pytest.raises(SystemExit) as exited:
        run_job(main, Conf, argv)
    return exited.value.code


def test_success(opened: dict[str, Any], conf: str) -> None:
    seen = []

    def main(config: Conf, spark: Any) -> None:
        seen.append((config, spark))

    run_job(main, Conf, ["--conf", conf, "--set", "count=3", "--set", "input.events=/e"])
    expected = Conf("try", Paths("/e", ("/a", "/b")), 3, {"executor.memory": "2g"})
    assert seen == [(expected, opened["session"])]
    assert opened["session"].stopped == 1
    assert opened["name"] == "sparkrec try"
    assert opened["settings"] == {"executor.memory": "2g"}
    assert {"/e", "/a", "/b"} <= set(opened["paths"])
    assert not opened["verbose"]
    assert opened["input_bytes"] == 12


@pytest.mark.parametrize("kind", [ConfigError, DataError, SchemaError, StorageError, TrainingError])
def test_a_users_mistake(
    opened: dict[str, Any], conf: str, kind: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(config: Conf, spark: Any) -> None:
        raise kind("the path\n  /x is missing")

    assert exits(main, ["--conf", conf]) == 1
    assert capsys.readouterr().err == "error: the path /x is missing\n"


def test_debug_shows_the_trace(
    opened: dict[str, Any], conf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(config: Conf, spark: Any) -> None:
        raise DataError("the path is missing")

    assert exits(main, ["--conf", conf, "--debug"]) == 1
    assert opened["verbose"]
    err = capsys.readouterr().err
    assert err.startswith("Traceback") and err.endswith("\nerror: the path is missing\n")


def test_a_bug_is_no_users_mistake(opened: dict[str, Any], conf: str) -> None:
    def main(config: Conf, spark: Any) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        run_job(main, Conf, ["--conf", conf])


def test_mistakes_in_the_conf_come_before_spark(
    opened: dict[str, Any], conf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main: Any = test_success
    assert exits(main, ["--conf", conf, "--set", "cuont=1"]) == 1
    assert "unknown key `cuont`; did you mean `count`?" in capsys.readouterr().err
    assert exits(main, ["--conf", f"{conf}.none"]) == 1
    assert capsys.readouterr().err.startswith("error: cannot read conf")
    assert "name" not in opened


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    main: Any = test_success
    assert exits(main, []) == 2
    assert "--conf" in capsys.readouterr().err
    assert exits(main, ["-h"]) == 0
    out = capsys.readouterr().out
    assert str(sys.modules[__name__].__doc__) in out.splitlines()
    for expected in ("--conf FILE", "--set KEY.SUB=VALUE", "--debug", "job: str (required)"):
        assert expected in out
    assert "  input.events: str (required)\n" in out and "  count: int (default 1)\n" in out


def test_an_error_of_ours_that_crossed_the_jvm() -> None:
    crossed = (
        "An exception was thrown from the Python worker:\n  File worker.py\n"
        "sparkrec.errors.DataError: column `x` is empty; fill it\n\nmore"
    )
    assert user_message(RuntimeError(crossed)) == "column `x` is empty; fill it"
    assert user_message(RuntimeError("ValueError: x")) is None
    assert user_message(DataError("a\n b")) == "a b"
