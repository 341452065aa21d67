"""Published outputs compared with their manifests, down to the content."""

import json
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkrec.errors import StorageError
from sparkrec.io import storage
from sparkrec.io import verify as command
from sparkrec.io.outputs import MANIFEST, resolve
from sparkrec.io.publishing import part, publish
from sparkrec.io.tables import write_part, write_table
from sparkrec.io.verify import verify


@pytest.fixture
def root(spark: SparkSession, tmp_path: Path) -> Path:
    """A table `t`, and a run with a table and a model."""
    root = tmp_path / "data"
    write_table(spark.range(5).toDF("x"), str(root / "t"), "job", files=2)
    with publish(str(root / "run"), "job") as folder:
        write_part(spark.range(3).toDF("x"), f"{folder}/lists")
        with part(f"{folder}/model", hashes=True):
            storage.write_bytes(f"{folder}/model/weights", b"12345")
    return root


def faults(path: Path) -> dict[str, str]:
    """The faults below a path, by the end of the folder's name."""
    found = dict(verify(str(path)))
    return {Path(folder).name: fault for folder, fault in found.items() if fault is not None}


def test_all_is_as_it_was_written(root: Path) -> None:
    found = dict(verify(str(root)))
    run, table = resolve(str(root / "run")), resolve(str(root / "t"))
    assert found == dict.fromkeys([table, run, f"{run}/lists", f"{run}/model"])
    assert list(verify(str(root / "run" / "model"))) == [(f"{run}/model", None)]


def test_a_flipped_byte_of_a_model(root: Path) -> None:
    file = Path(resolve(str(root / "run")), "model", "weights")
    file.write_bytes(b"12x45")
    assert faults(root) == {
        "model": f"{file} is damaged: its content is not what was written; make it again, or go "
        "back to the run before: python -m sparkrec.io.rollback PATH"
    }


def test_another_table_of_the_same_size(root: Path, spark: SparkSession) -> None:
    """Files of another table, with names and sizes of this one's."""
    folder = Path(resolve(str(root / "t")))
    write_table(spark.range(5).selectExpr("id + 7 AS x"), str(root / "u"), "job", files=2)
    others = sorted(Path(resolve(str(root / "u"))).glob("*.parquet"))
    manifest = json.loads((folder / MANIFEST).read_text())
    for mine, other in zip(sorted(folder.glob("*.parquet")), others, strict=True):
        mine.write_bytes(other.read_bytes())
        entry = next(file for file in manifest["files"] if file["name"] == mine.name)
        entry["size"] = mine.stat().st_size
        (folder / f".{mine.name}.crc").write_bytes(
            (other.parent / f".{other.name}.crc").read_bytes()
        )
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (fault,) = faults(root / "t").values()
    assert fault.startswith(f"{folder} has 5 rows with the hash ")


def test_command(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["verify", str(root / "run" / "model")])
    command.main()
    folder = resolve(str(root / "run" / "model"))
    assert capsys.readouterr().out == f"ok      {folder}\n"
    Path(folder, "weights").unlink()
    with pytest.raises(SystemExit, match=r"^error: 1 of the published folders are damaged$"):
        command.main()
    assert capsys.readouterr().out.startswith(f"DAMAGED {folder}\n        {folder}/weights is miss")
    monkeypatch.setattr(sys, "argv", ["verify", str(root / "none")])
    with pytest.raises(SystemExit, match=r"^error: no such path"):
        command.main()


def test_nothing_is_published(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(StorageError, match="nothing is published at or below"):
        list(verify(str(tmp_path)))
