"""Runs compared by their folders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparkrec.baselines.item_to_item.item_cf import ItemCF
from sparkrec.errors import DataError, StorageError
from sparkrec.evaluation.metrics import Evaluation
from sparkrec.io import storage
from sparkrec.io.outputs import resolve
from sparkrec.io.publishing import publish
from sparkrec.pipeline.compare import compare_runs, main, with_yardsticks, write_replicates
from sparkrec.pipeline.report import Result, metrics_json


def evaluation(recall: float) -> Evaluation:
    replicates = {"recall@20": recall + np.linspace(-0.1, 0.1, 201)}
    group = Evaluation(4, {"recall@20": recall / 2}, {}, {}, {"recall@20": np.full(201, recall)})
    return Evaluation(9, {"recall@20": recall}, {}, {"cold": group}, replicates)


def write_run(
    folder: Path, model: str, recall: float, test: str = "abc", protocol: str = "temporal"
) -> list[Result]:
    results = [
        Result.of(evaluation(value + 0.1 * seen), name, protocol, seen)
        for name, value in ((model, recall), ("random", 0.01))
        for seen in (False, True)
    ]
    config: dict[str, Any] = {"evaluation": {"protocol": protocol, "rating_above": None}}
    metrics = metrics_json(
        model=model,
        trained=ItemCF,
        dataset="tiny",
        config=config,
        seed=1,
        data={"train": folder.name, "test": test},
        seconds={},
        results=results,
    )
    with publish(str(folder), "run") as path:
        storage.write_json(storage.join(path, "metrics.json"), metrics)
        write_replicates(path, results)
    return results


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compare")
    write_run(root / "first", "item_cf", 0.5)
    write_run(root / "again", "item_cf", 0.6)
    write_run(root / "swing", "swing", 0.4)
    write_run(root / "other_rows", "swing", 0.4, test="def")
    write_run(root / "other_rule", "swing", 0.4, protocol="next_basket")
    return root


def test_two_runs(root: Path) -> None:
    kept, excluded = compare_runs([f"{root}/first"], [f"{root}/swing"])
    assert (kept.exclude_seen, excluded.exclude_seen) == (False, True)
    assert (kept.first, kept.second) == ("item_cf of first", "swing of swing")
    found = kept.differences["recall@20"]
    assert (found.first, found.second, found.difference) == (0.5, 0.4, 0.1)
    assert found.interval95 == (0.1, 0.1)  # the replicates are paired
    assert kept.differences["recall@20, cold"].difference == 0.05
    yardstick = compare_runs([f"{root}/first:random"], [f"{root}/swing:random"])[0]
    assert yardstick.differences["recall@20"].difference == 0


def test_runs_with_several_seeds(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([f"{root}/first", f"{root}/again", "--against", f"{root}/swing"])
    printed = capsys.readouterr().out
    assert "item_cf of first and 1 more - swing of swing, seen kept, paired [95%]" in printed
    assert "0.5500 - 0.4000 = +0.1500 [+0.1500, +0.1500]" in printed


def test_a_run_and_its_yardsticks(tmp_path: Path) -> None:
    results = write_run(tmp_path / "run", "item_cf", 0.5)
    found = with_yardsticks(results, "item_cf")
    assert [(one.second, one.exclude_seen) for one in found] == [
        ("random", False),
        ("random", True),
    ]
    assert found[0].to_json() == {
        "model": "item_cf",
        "against": "random",
        "exclude_seen": False,
        "differences": {
            "recall@20": {"difference": 0.49, "interval95": [0.49, 0.49]},
            "recall@20, cold": {"difference": 0.245, "interval95": [0.49, 0.49]},
        },
    }


def test_mistakes(root: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be compared: input\.test of the one is abc, of"):
        compare_runs([f"{root}/first"], [f"{root}/other_rows"])
    with pytest.raises(DataError, match=r"evaluation\.protocol of the one is temporal, of the"):
        compare_runs([f"{root}/first"], [f"{root}/other_rule"])
    with pytest.raises(DataError, match="no results of `als`; it has those of item_cf, random"):
        compare_runs([f"{root}/first:als"], [f"{root}/swing"])
    with pytest.raises(SystemExit, match=r"error: .*none"):
        main([f"{root}/none", "--against", f"{root}/first"])
    Path(resolve(f"{root}/other_rows"), "replicates.parquet").unlink()
    with pytest.raises(StorageError):
        compare_runs([f"{root}/other_rows"], [f"{root}/other_rows"])
