"""The jobs that are disturbed, their data, and what an output holds."""

import csv
import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from layouts import MANIFEST, resolve

CONFS = {
    "prepare": """\
job: prepare
dataset: faults
input:
  events:
    path: ${ROOT}/raw
    format: csv
    columns: {user: user, item: item, timestamp: when}
    timestamp: {format: seconds}
output_path: ${ROOT}/data
""",
    "match_dataset": """\
job: match_dataset
dataset: faults
input: {events: "${ROOT}/data/events"}
split: {method: last_n, n: 1}
output_path: ${ROOT}/data/split
""",
    "gru4rec": """\
job: gru4rec
dataset: faults
seed: 1
input: {train: "${ROOT}/data/split/train", test: "${ROOT}/data/split/test"}
schema: {path: "${ROOT}/schema"}
model: {max_len: 10, hidden: [8], embedding_dim: 8}
loss: {name: softmax, negatives: all, temperature: 1}
training:
  epochs: ${EPOCHS}
  workers: ${WORKERS}
  batch_size: 64
  early_stopping: null
  save_checkpoint_interval: 1
evaluation: {protocol: last_3, rating_above: null}
output_path: ${ROOT}/data/runs/gru4rec
""",
    "recommend": """\
job: recommend
input: {events: "${ROOT}/data/events"}
model_path: ${ROOT}/data/runs/gru4rec/model
k: 10
output_path: ${ROOT}/data/answers
""",
}


@dataclass(frozen=True)
class Job:
    """A job, the setting that makes its next output another one, and its folders."""

    name: str
    change: str
    output: str
    reads: str


JOBS = (
    Job("prepare", "input.events.start=2020-09-14", "data", "raw"),
    Job("match_dataset", "split.n=2", "data/split", "data/events"),
    Job("gru4rec", "seed=2", "data/runs/gru4rec", "data/split/train"),
    Job("recommend", "k=5", "data/answers", "data/runs/gru4rec/model"),
)


def write_raw(root: Path) -> None:
    """Two files of events, and the schema files."""
    rng = random.Random(0)
    (root / "raw").mkdir(parents=True)
    for part in range(2):
        with (root / "raw" / f"{part}.csv").open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["user", "item", "when"])
            for user in range(part, 200, 2):
                start = 1_600_000_000 + user
                lines.writerows(
                    [f"u{user}", f"i{(user % 3) * 30 + rng.randrange(30)}", start + 6 * 3600 * step]
                    for step in range(12)
                )
    (root / "schema").mkdir()
    for side, name in (("user", "recent_item_ids"), ("item", "item_id")):
        (root / "schema" / f"{side}_column_schema").write_text(f"0 {name}\n")
        (root / "schema" / f"{side}_combine_schema").write_text(f"{name}\n")


def content(output: Path, job: Job) -> str:
    """A hash of all that readers see of an output, or why it is not whole."""
    if job.name == "prepare":
        tables = [output / name for name in ("events", "users", "items")]
    elif job.name == "match_dataset":
        tables = [output / name for name in ("train", "validation", "test")]
    elif job.name == "gru4rec":
        tables = [output / "recommendations" / name for name in ("seen_kept", "seen_excluded")]
    else:
        tables = [output]
    found: list[Any] = []
    for table in tables:
        if job.name == "match_dataset" and not resolve(table).is_dir():
            continue
        rows = _rows(table)
        if isinstance(rows, str):
            return rows
        found.append(rows)
    if job.name == "gru4rec":
        metrics = resolve(output / "metrics.json")
        if not metrics.is_file():
            return "no metrics.json"
        found.append(json.loads(metrics.read_text())["results"])
        model = resolve(output / "model")
        if not (model / "model.json").is_file():
            return "no model"
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _rows(table: Path) -> list[str] | str:
    folder = resolve(table)
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return f"no manifest in {folder}"
    rows: list[str] = []
    for entry in json.loads(manifest.read_text())["files"]:
        file = folder / entry["name"]
        if not file.is_file() or file.stat().st_size != entry["size"]:
            return f"{file} is not as its manifest says"
        if file.suffix == ".parquet":
            rows += [
                json.dumps(row, default=str) for row in pq.ParquetFile(file).read().to_pylist()
            ]
    return sorted(rows)
