"""The table of results: what is run, what is left out, and where the tables go."""

import json
import shutil
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
    with publishing.publish(str(path), "test") as folder:
        (Path(folder) / "rows").write_text("1")


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
        model = results.find_class(job.model_class)
        about = {
            "config": json.loads(json.dumps(results.configs.to_json(job))),
            "versions": {"code": results.code_fingerprint(script, model)},
            "data": results.fingerprint(job.tables.paths()),
        }
        with publishing.publish(**job.target) as folder:
            (Path(folder) / "metrics.json").write_text(json.dumps(about))

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


def test_what_is_written(tmp_path: Path) -> None:
    """Both pages have tables of all rows; a conf that was not run keeps its own."""
    pages = [tmp_path / "README.md", tmp_path / "results.md"]
    for page in pages:
        page.write_text(f"before\n{results._BEGIN}\nold\n{results._END}\nafter\n")
    entry = {"model": "sasrec", "protocol": "last_3", "exclude_seen": False, "n": 3}
    run = {
        "model": "sasrec",
        "dataset": "ml_1m",
        "seconds": {"fit": 1.0},
        "versions": {"commit": "abc"},
        "results": [
            {
                **entry,
                "metrics": {"recall@20": 0.5, "ndcg@20": 0.2},
                "interval95": {},
                "groups": {},
            }
        ],
    }
    results.write_results({"one": run}, pages[0], tmp_path)
    results.write_results({"two": run | {"versions": {"commit": "def"}}}, pages[0], tmp_path)
    readme, whole = (page.read_text() for page in pages)
    for text in (readme, whole):
        assert text.startswith(f"before\n{results._BEGIN}\n") and "old" not in text
        assert text.endswith(f"\n{results._END}\nafter\n")
    assert "| sasrec | `one` | 0.5000 | 0.2000 | 1.0 |  |" in readme
    commits = [line.split(" | ")[-1] for line in whole.splitlines() if line.startswith("| sasrec")]
    assert commits == ["abc |", "def |"]


def test_a_page_without_marks(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(StorageError, match="lacks the lines"):
        results.write_between_markers(tmp_path / "README.md", "new")


def test_the_repositorys_tables_are_those_of_its_csv(tmp_path: Path) -> None:
    for page in ("README.md", "docs/results.md", "docs/results.csv"):
        shutil.copy(REPO / page, tmp_path)
    results.write_results({}, tmp_path / "README.md", tmp_path)
    for page in ("README.md", "docs/results.md", "docs/results.csv"):
        assert (tmp_path / Path(page).name).read_text() == (REPO / page).read_text(), page
