"""The table of results: what is run, what is left out, and where the table goes."""

import json
from pathlib import Path

import pytest

from sparkrec.errors import ConfigError, StorageError
from sparkrec.io import publishing
from sparkrec.pipeline import results

REPO = Path(__file__).parents[2]


def conf(folder: Path) -> Path:
    path = folder / "global_hot_mine.yaml"
    path.write_text(
        f"""job: global_hot
dataset: mine
input: {{train: {folder}/train, test: {folder}/test}}
evaluation: {{protocol: leave_one_out}}
output_path: {folder}/run
"""
    )
    return path


def publish(path: Path) -> None:
    with publishing.publish(str(path), "test") as staging:
        Path(staging).mkdir(parents=True)
        (Path(staging) / "rows").write_text("1")


def test_a_conf_without_its_tables_is_left_out(tmp_path: Path) -> None:
    assert results.collect([conf(tmp_path)], REPO / "jobs", all_inputs=False) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: mine\n", "the key `job:`, which names the script in .*, is missing"),
        ("job:  # none\n", "the key `job:`"),
        ("job: no_such\n", "job `no_such` has no script"),
    ],
)
def test_a_conf_without_a_job_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"{path}: {message}"):
        results.collect([path], REPO / "jobs", all_inputs=False)


def test_only_what_is_not_current_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is stood in for; a current one has the conf, the code and the data of now."""
    ran = []

    def run(command: list[str], check: bool) -> None:
        ran.append(command)
        job, script = results.load_job(conf(tmp_path), REPO / "jobs")
        assert job is not None and check
        about = {
            "config": json.loads(json.dumps(results.configs.to_json(job))),
            "versions": {"code": results.code_fingerprint(script)},
            "data": results.fingerprint(job.input.paths()),
        }
        publishing.claim(job.output_path, job.job, overwrite=True)
        (Path(job.output_path) / "metrics.json").write_text(json.dumps(about))
        publishing.finish(job.output_path, job.job, {})

    monkeypatch.setattr("subprocess.run", run)
    for name in ("train", "test"):
        publish(tmp_path / name)
    for _ in range(2):
        found = results.collect([conf(tmp_path)], REPO / "jobs", all_inputs=False)
        assert list(found) == ["global_hot_mine"]
    assert len(ran) == 1
    changed = conf(tmp_path).read_text() + "seed: 2\n"
    (tmp_path / "global_hot_mine.yaml").write_text(changed)
    results.collect([tmp_path / "global_hot_mine.yaml"], REPO / "jobs", all_inputs=False)
    assert len(ran) == 2


def test_the_table_goes_between_its_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{results._BEGIN}\nold\n{results._END}\nafter\n")
    results.write_table(readme, "new")
    assert readme.read_text() == f"before\n{results._BEGIN}\nnew\n{results._END}\nafter\n"
    readme.write_text("nothing")
    with pytest.raises(StorageError, match="lacks the lines"):
        results.write_table(readme, "new")
