"""Which tables a conf's `input` names, and which are found by name."""

from pathlib import Path

import pytest

from sparkrec.config.load import load_config
from sparkrec.errors import ConfigError
from sparkrec.io.publishing import publish
from sparkrec.pipeline.counted import CountJob, NoSettings
from sparkrec.pipeline.inputs import Inputs, RetrievalJob


def publish_tables(*paths: Path) -> None:
    for path in paths:
        with publish(str(path), "test") as folder:
            (Path(folder) / "rows").write_text("1")


def test_a_split_has_what_lies_in_it_and_above_it(tmp_path: Path) -> None:
    split = tmp_path / "data" / "last_3"
    inputs = Inputs(split=str(split))
    assert inputs.paths() == inputs.required()
    assert inputs.required() == {"train": f"{split}/train", "test": f"{split}/test"}
    publish_tables(split / "validation", tmp_path / "data" / "items")
    assert inputs.paths() == {
        **inputs.required(),
        "validation": f"{split}/validation",
        "items": f"{tmp_path}/data/items",
    }
    assert inputs.root == f"{tmp_path}/data"


def test_what_is_not_published_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "data" / "users").mkdir(parents=True)
    (tmp_path / "data" / "users" / "part-0.parquet").write_text("")
    assert "users" not in Inputs(split=f"{tmp_path}/data/last_3").paths()


def test_single_tables_take_the_place_of_the_split_s(tmp_path: Path) -> None:
    inputs = Inputs(split="/d/last_3", train="/d/last_3/negsample/10", users="/other/users")
    assert inputs.required() == {
        "train": "/d/last_3/negsample/10",
        "test": "/d/last_3/test",
        "events": "/d/last_3/train",
        "users": "/other/users",
    }
    assert Inputs(train="/d/s/train", test="/d/s/test").paths() == {
        "train": "/d/s/train",
        "test": "/d/s/test",
    }
    assert Inputs(train="/d/s/train", test="/d/s/test").root == "/d"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{test: /d/test}", "conf.yaml:3: input.train must be given, or split, the folder that"),
        ("{split: /d, tests: /d}", "conf.yaml:3: unknown key `input.tests`; did you mean `test`"),
        ("[a]", "conf.yaml:3: input must be"),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text(f"job: x\ndataset: y\ninput: {text}\nevaluation: {{protocol: last_3}}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(str(path), RetrievalJob)


def test_a_block_that_needs_no_value_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text("job: x\ndataset: y\ninput: /d/s\nevaluation: {protocol: last_3}\n")
    job = load_config(str(path), CountJob[NoSettings])
    assert job.model == NoSettings() and job.tables == Inputs(split="/d/s")
    path.write_text("job: x\ndataset: y\ninput: /d/s\n")
    with pytest.raises(ConfigError, match="missing key `evaluation`"):
        load_config(str(path), RetrievalJob)
