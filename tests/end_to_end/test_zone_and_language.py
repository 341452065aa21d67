"""The same tables and metrics in whatever time zone and language Python and the JVM run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ABROAD = {"TZ": "Asia/Kathmandu", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}
JVM = "-Duser.timezone=Asia/Kathmandu -Duser.language=tr -Duser.country=TR"


def contents(root: Path) -> dict[str, Any]:
    """The content hash of every published table, and the metrics of every run."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("_sparkrec.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if "content" in manifest:
            # Names of runs differ.
            name = "/".join(p for p in path.parent.relative_to(root).parts if not _is_run_id(p))
            found[name] = (manifest["rows"], manifest["content"])
    for path in sorted(root.rglob("metrics.json")):
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
        name = "/".join(p for p in path.parent.relative_to(root).parts if not _is_run_id(p))
        found[f"{name}/metrics"] = results
    return found


def _is_run_id(part: str) -> bool:
    return part[:8].isdigit()


def test_abroad(
    data_root: Path,
    steps: list[tuple[str, str]],
    command: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    abroad = data_root.parent / f"{data_root.name}-abroad"
    shutil.copytree(data_root, abroad)
    for name in (*ABROAD, "JDK_JAVA_OPTIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    to_the_first_model = steps[:5]
    for job, conf in to_the_first_model:
        command(str(data_root), job, conf)
    for name, value in ABROAD.items():
        monkeypatch.setenv(name, value)
    # Read by every JVM of the job, before any setting of Spark.
    monkeypatch.setenv("JDK_JAVA_OPTIONS", JVM)
    for job, conf in to_the_first_model:
        command(str(abroad), job, conf.replace(str(data_root), str(abroad)))
    here, there = contents(data_root), contents(abroad)
    assert {"example/events", "example/leave_one_out/test"} <= here.keys()
    assert here == there
