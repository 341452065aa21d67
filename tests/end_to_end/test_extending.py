"""docs/extending.md as it is written: a module outside the package, two workers, new processes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkrec.io.outputs import resolve
from sparkrec.io.tables import load_table, write_table

REPO = Path(__file__).parents[2]
PAGE = REPO / "docs" / "extending.md"
USERS, ITEMS = 40, 12
EVENTS = "user_id long, item_id string, timestamp long, position long"
QUERIES = "query_id long, user_id long, history array<string>, relevant array<string>"

ANSWER = """
import sys
from sparkrec.retrieval.answering import load
given = load(sys.argv[1]).answer([["i03", "i04"]], k=3, exclude_seen=True)
heavy = [name for name in ("pyspark", "petastorm", "sparkrec.training", "sparkrec.feed")
         if name in sys.modules]
assert not heavy, heavy
print(*[item for item, _ in given[0]])
"""


def file_of_the_page(name: str) -> str:
    found = re.search(rf"<!-- file: {name} -->\n```\w+\n(.*?)```", PAGE.read_text(), re.S)
    assert found is not None
    return found[1]


def test_the_module_is_short() -> None:
    assert len(file_of_the_page("acme/bst.py").splitlines()) < 60


@pytest.fixture(scope="module")
def folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, and a split in which item n + 1 follows item n."""
    folder = tmp_path_factory.mktemp("outside")
    for name in ("acme/bst.py", "bst.yaml"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(file_of_the_page(name))
    items = [f"i{number:02d}" for number in range(ITEMS)]
    walks = [[items[(user + step) % ITEMS] for step in range(8)] for user in range(USERS)]
    events = [
        (user, item, step, 10 * user + step)
        for user, walk in enumerate(walks)
        for step, item in enumerate(walk[:-1])
    ]
    queries = [(user, user, walk[:-1], walk[-1:]) for user, walk in enumerate(walks)]
    split = folder / "data" / "mine" / "leave_one_out"
    write_table(spark.createDataFrame(events, EVENTS), str(split / "train"), "test")
    write_table(spark.createDataFrame(queries, QUERIES), str(split / "test"), "test")
    return folder


def run(folder: Path, *command: str) -> str:
    """Run Python in the page's folder, with the page's module on its path alone."""
    path = os.pathsep.join([str(folder), str(REPO)])
    environ = {**os.environ, "PYTHONPATH": path, "MY_S3_BUCKET": str(folder / "data")}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_trained_by_two_workers_saved_recommended_and_answered(
    folder: Path, spark: SparkSession
) -> None:
    master = ["--set", "spark={master: 'local[2]'}"]
    table = run(folder, str(REPO / "jobs" / "train.py"), "--conf", "bst.yaml", *master)
    assert "BST" in table and "global_hot" in table
    output = folder / "data" / "mine" / "runs" / "bst"
    made = Path(resolve(str(output)))
    metrics = json.loads((made / "metrics.json").read_text())
    excluded = next(result for result in metrics["results"] if result["exclude_seen"])
    assert excluded["model"] == "BST" and excluded["metrics"]["recall@5"] > 0.9
    assert json.loads((made / "model" / "model.json").read_text())["network"] == "acme.bst:BST"

    # Other processes: one with Spark, which has not trained, and one without.
    (folder / "recommend.yaml").write_text(
        "job: recommend\n"
        f"input: {{events: '{output.parents[1]}/leave_one_out/train'}}\n"
        f"model_path: {output}/model\nk: 3\noutput_path: {folder}/recommended\n"
    )
    run(folder, str(REPO / "jobs" / "recommend.py"), "--conf", "recommend.yaml", *master)
    recommended = load_table(spark, str(folder / "recommended")).where("user_id = 3").collect()
    assert recommended[0]["recommended"][0]["item_id"] == "i10"
    assert run(folder, "-c", ANSWER, str(output / "model")).split()[0] == "i05"
