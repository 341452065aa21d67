"""One case after the other on a data root: do it, judge it, and mend what it changed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_oracles as oracles
import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_child import Ended
from fuzz_mutations import damage
from fuzz_outcomes import Outcome, told
from fuzz_root import Run, model_folder
from layouts import is_published, read_table, resolve, restore, state

Found = tuple[Outcome, str]
"""The outcome of a case, and what to print about it."""

RECOMMEND = """\
job: recommend
input: {{events: "${{MY_S3_BUCKET}}/movielens/1m/events"}}
model_path: {model}
k: 10
exclude_seen: false
output_path: ${{MY_S3_BUCKET}}/answers
"""
DSSM = """\
job: dssm
dataset: ml_1m
columns: {user: user_id, item: movie_id, rating: rating}
input:
  train: ${MY_S3_BUCKET}/movielens/1m/last_3/train
  test: ${MY_S3_BUCKET}/movielens/1m/last_3/test
  items: ${MY_S3_BUCKET}/movielens/1m/items
  users: ${MY_S3_BUCKET}/movielens/1m/users
schema: {path: "${MY_S3_BUCKET}/movielens/1m/schema/dssm_features"}
model: {embedding_dim: 4, hidden: [4]}
loss: {name: softmax, negatives: in_batch, temperature: 0.1}
training: {epochs: 1, batch_size: 64, early_stopping: null}
evaluation: {protocol: last_3}
output_path: ${MY_S3_BUCKET}/movielens/1m/out
"""
TABLES = {
    "prepare": """\
job: prepare
dataset: odd
input:
  events:
    path: ${MY_S3_BUCKET}/odd/raw.parquet
    columns: {user: user, item: item, timestamp: when}
    timestamp: {format: seconds}
max_bad_rows: 100
output_path: ${MY_S3_BUCKET}/odd
""",
    "match_dataset": """\
job: match_dataset
dataset: odd
input: {events: "${MY_S3_BUCKET}/odd/events"}
split: {method: leave_one_out}
output_path: ${MY_S3_BUCKET}/odd/split
""",
    "global_hot": """\
job: global_hot
dataset: odd
input: {train: "${MY_S3_BUCKET}/odd/split/train", test: "${MY_S3_BUCKET}/odd/split/test"}
retrieval: {k: 5}
evaluation: {protocol: leave_one_out}
output_path: ${MY_S3_BUCKET}/odd/runs/global_hot
""",
    "item_cf": """\
job: item_cf
dataset: odd
input: {train: "${MY_S3_BUCKET}/odd/split/train", test: "${MY_S3_BUCKET}/odd/split/test"}
model: {similarity: cosine, trigger: last, max_items_per_user: 0}
retrieval: {k: 5}
evaluation: {protocol: leave_one_out, fallback: none}
output_path: ${MY_S3_BUCKET}/odd/runs/item_cf
""",
}
ORACLES: dict[str, Callable[[pa.Table, pa.Table, int], oracles.Lists]] = {
    "global_hot": oracles.global_hot,
    "item_cf": oracles.item_cf,
}


class Trial:
    """Cases tried on the data root `root`, of which `root.parent/copy` is kept as it was."""

    def __init__(self, root: Path, run: Run) -> None:
        self.root, self.run = root, run
        self.copy = root.parent / "copy"
        restore(self.copy, root)
        restore(root, self.copy)
        self.before = state(root)
        self.wanted: dict[str, oracles.Lists] = {}

    def conf(self, job: str, text: str) -> Found:
        """A conf is right if its run is sound, and otherwise refused with nothing done."""
        path = self.root.parent / "case.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        ended = self.run(job, "--conf", str(path))
        output = self.root / "movielens/1m/out"
        outcome, note = told(ended), ended.printed
        if outcome is Outcome.RIGHT and not is_published(output):
            outcome, note = Outcome.WRONG, "exit 0, and no output"
        elif outcome is Outcome.RIGHT and (resolve(output) / "metrics.json").is_file():
            wrong = oracles.sound_run(output)
            if wrong is not None:
                outcome, note = Outcome.WRONG, wrong
        elif ended.code != 0 and is_published(output):
            outcome, note = Outcome.WRONG, f"published, and then failed: {note}"
        return self._mended(outcome, note)

    def schema(self, name: str, text: str) -> Found:
        """A schema file is read, or refused."""
        folder = self.root / "movielens/1m/schema/dssm_features"
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(text.encode())
        # The change itself is not a loss.
        self.before = state(self.root)
        found = self.conf("dssm", DSSM)
        (folder / name).write_bytes(kept)
        self.before = state(self.root)
        return found

    def model(self, model: str, damaged: list[Any]) -> Found:
        """A damaged model answers as before, or is refused."""
        if model not in self.wanted:
            ended = self._answers(model_folder(self.root, model))
            assert ended.code == 0, ended.printed
            self.wanted[model] = oracles.recommended(self.root / "answers", "user_id")
            self._mended(Outcome.RIGHT, "")
        folder = self.root / "movielens/1m/runs/damaged/model"
        shutil.copytree(model_folder(self.root, model), folder)
        damage(folder, *damaged)
        ended = self._answers(folder)
        outcome, note = told(ended), ended.printed
        if outcome is Outcome.RIGHT:
            found = oracles.recommended(self.root / "answers", "user_id")
            if not oracles.same_lists(found, self.wanted[model]):
                outcome, note = Outcome.WRONG, "other answers"
        return self._mended(outcome, note)

    def table(self, rows: list[dict[str, Any]]) -> Found:
        """Events of any kind are prepared, split, counted and recommended from, or refused."""
        folder = self.root / "odd"
        folder.mkdir()
        try:
            pq.write_table(_typed(rows), folder / "raw.parquet")
        except (pa.ArrowException, OverflowError):
            return self._mended(Outcome.RIGHT, "no table")
        for job, text in TABLES.items():
            path = self.root.parent / f"{job}.yaml"
            path.write_text(text, encoding="utf-8")
            ended = self.run(job, "--conf", str(path))
            outcome, note = told(ended), f"{job}: {ended.printed}"
            if outcome is Outcome.RIGHT:
                wrong = self._wrong_table(job, rows)
                if wrong is not None:
                    outcome, note = Outcome.WRONG, f"{job}: {wrong}"
            if outcome is not Outcome.RIGHT:
                return self._mended(outcome, note)
        return self._mended(Outcome.RIGHT, "")

    def _wrong_table(self, job: str, rows: list[dict[str, Any]]) -> str | None:
        folder = self.root / "odd"
        if job == "prepare":
            found = oracles.written_events(read_table(folder / "events"))
            wanted = oracles.good_events(rows)
            return None if sorted(found) == sorted(wanted) else f"events {found}, not {wanted}"
        if job in ORACLES:
            train, test = (read_table(folder / "split" / name) for name in ("train", "test"))
            lists = folder / "runs" / job / "recommendations" / "seen_kept"
            answers = oracles.recommended(lists, "query_id")
            expected = ORACLES[job](train, test, 5)
            if not oracles.same_lists(answers, expected):
                return f"answers {answers}, not {expected}"
        return None

    def _answers(self, folder: Path) -> Ended:
        path = self.root.parent / "recommend.yaml"
        path.write_text(RECOMMEND.format(model=folder), encoding="utf-8")
        return self.run("recommend", "--conf", str(path))

    def _mended(self, outcome: Outcome, note: str) -> Found:
        """Remove what is new; if anything is gone or changed, that is the outcome."""
        now = state(self.root)
        lost = sorted(name for name, about in self.before.items() if now.get(name) != about)
        if lost:
            restore(self.root, self.copy)
            self.before = state(self.root)
            return Outcome.LOST, f"{lost[:3]}: {note}"
        for name in now.keys() - self.before.keys():
            (self.root / name).unlink()
        for folder in sorted(self.root.rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        return outcome, note


def _typed(rows: list[dict[str, Any]]) -> pa.Table:
    """Columns of nulls alone are text."""
    columns = {name: [row[name] for row in rows] for name in ("user", "item", "when")}
    kinds = {"when": pa.int64()}
    return pa.table(
        {
            name: pa.array(
                values,
                kinds.get(name, pa.string() if not any(v is not None for v in values) else None),
            )
            for name, values in columns.items()
        }
    )
