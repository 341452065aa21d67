"""No job writes where it reads: which overlaps of output and input are refused, before any work."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from sparkrec.config.load import load_config
from sparkrec.datasets.tables import PrepareOwn
from sparkrec.errors import StorageError
from sparkrec.io import s3 as s3_storage
from sparkrec.io import storage
from sparkrec.io.output_paths import check_writable
from sparkrec.io.outputs import resolve
from sparkrec.io.publishing import part, publish
from sparkrec.pipeline.paths import check_paths, input_bytes, input_paths
from sparkrec.pipeline.train import load_training_job
from sparkrec.retrieval.offline import Recommend
from sparkrec.transforms.match_dataset import MatchDataset

TRAIN = """\
job: dssm
dataset: d
input: {{train: {root}/split/train, test: {root}/split/test}}
evaluation: {{protocol: leave_one_out}}
"""
SPLIT = """\
job: match_dataset
dataset: d
input: {{events: {root}/events}}
split: {{method: leave_one_out}}
"""
PREPARE = """\
job: prepare
dataset: d
input: {{events: {{path: {root}/raw, columns: {{user: u, item: i, timestamp: t}}}}}}
"""
RECOMMEND = "job: recommend\ninput: {{events: {root}/split/train}}\nmodel_path: {root}/run/model\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Published tables `events` and `split/{train,test}`, raw files, and the run of a conf."""
    root = tmp_path / "my data"
    for path, parts in (("events", ()), ("split", ("train", "test")), ("run", ("model",))):
        made_by = "dssm conf" if path == "run" else "test"
        with publish(str(root / path), made_by, parts=parts) as folder:
            for name in parts:
                with part(f"{folder}/{name}"):
                    storage.write_bytes(f"{folder}/{name}/x", b"1")
            storage.write_bytes(f"{folder}/x", b"1")
    storage.write_bytes(str(root / "raw" / "events.csv"), b"u,i,t\n")
    (root / "link").symlink_to(root / "split")
    return root


def config(root: Path, text: str, *overrides: str) -> Any:
    path = root / "conf.yaml"
    path.write_text(text.format(root=root))
    wanted = [override.replace("ROOT", str(root)) for override in overrides]
    kinds = {SPLIT: MatchDataset, PREPARE: PrepareOwn, RECOMMEND: Recommend}
    if text == TRAIN:
        return load_training_job(str(path), "dssm", wanted)
    return load_config(str(path), kinds[text], wanted)


@pytest.mark.parametrize("overwrite", ["overwrite=false", "overwrite=true"])
@pytest.mark.parametrize(
    ("text", "output", "said"),
    [
        (TRAIN, "ROOT/split/train", "is the same as input.train"),
        (TRAIN, "ROOT/split", "holds input.train"),
        (TRAIN, "ROOT", "holds input.train"),
        (TRAIN, "ROOT/split/train/runs", "lies in input.train"),
        (TRAIN, "ROOT/link", "holds input.train"),
        (TRAIN, "ROOT/link/test/x", "lies in input.test"),
        (TRAIN, "file://ROOT/split/train", "is the same as input.train"),
        (SPLIT, "ROOT/events", "is the same as input.events"),
        (SPLIT, "ROOT", "holds input.events"),
        (SPLIT, "ROOT/events/split", "lies in input.events"),
        (PREPARE, "ROOT/raw", "is the same as input.events.path"),
        (PREPARE, "ROOT/raw/out", "lies in input.events.path"),
        (RECOMMEND, "ROOT/run/model", "is the same as model_path"),
        (RECOMMEND, "ROOT/run", "holds model_path"),
    ],
)
def test_refused(root: Path, text: str, output: str, said: str, overwrite: str) -> None:
    job = config(root, text, f"output_path={output}", overwrite)
    before = storage.list_files(str(root))
    with pytest.raises(StorageError, match=rf"output_path .* {said}: .*; a job does not write"):
        check_paths(job)
    assert storage.list_files(str(root)) == before


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        (TRAIN, ["output_path=ROOT/runs/a"]),
        (TRAIN, ["output_path=ROOT/split/runs/a"]),
        (TRAIN, ["output_path=ROOT/run", "training.model_in_path=ROOT/run/model"]),
        (TRAIN, ["output_path=ROOT/run", "init_model_path=ROOT/run/model"]),
        (SPLIT, ["output_path=ROOT/split"]),
        (PREPARE, ["output_path=ROOT"]),
        (PREPARE, ["output_path=ROOT/other", "input.events.path=ROOT/raw/*.csv"]),
        (RECOMMEND, ["output_path=ROOT/recommended"]),
    ],
)
def test_allowed(root: Path, text: str, sets: list[str]) -> None:
    check_paths(config(root, text, *sets))


def test_a_run_may_not_replace_the_model_of_another(root: Path) -> None:
    sets = ["output_path=ROOT/run/model", "training.model_in_path=ROOT/run/model"]
    with pytest.raises(StorageError, match="a job does not write where it reads"):
        check_paths(config(root, TRAIN, *sets))


@pytest.mark.parametrize("key", ["input.train", "input.test", "output_path", "init_model_path"])
@pytest.mark.parametrize("path", ["hdfs://x/y", "gs://b/x", "abfss:/x", "HTTP://x"])
def test_schemes_without_storage(root: Path, key: str, path: str) -> None:
    job = config(root, TRAIN, "output_path=ROOT/runs/a", f"{key}={path}")
    with pytest.raises(StorageError, match=r"sparkrec has no storage `\w+:`; give a local path"):
        check_paths(job)


@pytest.mark.parametrize("key", ["input.train", "output_path"])
def test_a_nul_character(root: Path, key: str) -> None:
    job = config(root, TRAIN, "output_path=ROOT/runs/a", f'{key}="ROOT/a\\0b"')
    with pytest.raises(StorageError, match=r"a\\x00b' has a (NUL|control) character"):
        check_paths(job)


def test_the_size_of_the_inputs(root: Path) -> None:
    """Files of the current version of each table, and nothing for what is not there."""
    wanted = sum(
        file.size
        for name in ("train", "test")
        for file in storage.list_files(resolve(str(root / "split" / name)))
    )
    assert wanted > 0
    assert input_bytes(check_paths(config(root, TRAIN, "output_path=ROOT/out"))) == wanted
    nothing = ["output_path=ROOT/out", "input.events.path=ROOT/nowhere/*.csv"]
    assert input_bytes(check_paths(config(root, PREPARE, *nothing))) == 0


def test_which_paths_are_inputs(root: Path) -> None:
    sets = ["output_path=ROOT/out", "schema.path=ROOT/schema", "training.model_in_path=ROOT/m"]
    assert input_paths(config(root, TRAIN, *sets)) == {
        "input.train": f"{root}/split/train",
        "input.test": f"{root}/split/test",
        "training.model_in_path": f"{root}/m",
        "schema.path": f"{root}/schema",
    }
    assert input_paths(config(root, PREPARE, "output_path=ROOT/out")) == {
        "input.events.path": f"{root}/raw"
    }
    assert input_paths(config(root, RECOMMEND, "output_path=ROOT/out")) == {
        "input.events": f"{root}/split/train",
        "model_path": f"{root}/run/model",
    }


def test_a_folder_without_the_right_to_write(root: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        job = config(root, SPLIT, f"output_path={folder}/new/out")
        as_root = os.geteuid() == 0
        if as_root:
            os.seteuid(65534)
        try:
            with pytest.raises(StorageError) as caught:
                check_writable(job.output_path)
        finally:
            if as_root:
                os.seteuid(0)
        assert str(caught.value) == (
            f"output path {folder}/new/out: no permission to write to {folder}; change its owner "
            "or mode, or choose another output_path"
        )
        assert list(Path(folder).iterdir()) == []
        Path(folder).chmod(0o755)
        check_paths(job)
        assert list(Path(folder).iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("conditions", [True, False])
def test_a_prefix_that_can_be_written(
    s3: str, root: Path, monkeypatch: pytest.MonkeyPatch, conditions: bool
) -> None:
    if not conditions:  # a store that knows none writes in any case
        monkeypatch.setattr(s3_storage, "_written", lambda put, **condition: bool(put()) or True)
    check_paths(config(root, SPLIT, f"output_path={s3}/out"))
    assert storage.list_files(s3) == []
