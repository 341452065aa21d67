"""A small data set in the shape of MovieLens-1M, so that the repository's confs run on it.

Its tables and its models are made with the jobs and confs of the tree that is tried.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_child import Ended
from layouts import resolve

Run = Callable[..., Ended]
"""`run(job, argument, ...)`."""

USERS, ITEMS = 40, 60
SMALL = ("training.epochs=1", "training.early_stopping=null")
# What a saved model of each kind is made with.
MODELS = {
    "global_hot": ("global_hot_ml_1m",),
    "item_cf": ("item_cf_ml_1m",),
    "als": ("als_ml_1m", "model.rank=4", "model.max_iter=1"),
    "gru4rec": ("gru4rec_ce_ml_1m", *SMALL, "model.hidden=[8]", "model.embedding_dim=8"),
    "dssm": ("dssm_batch_neg_ml_1m", *SMALL, "model.hidden=[8]", "model.embedding_dim=8"),
}

PREPARE = """\
job: prepare
dataset: ml_1m
columns: {user: user_id, item: movie_id, rating: rating}
input:
  events:
    path: ${MY_S3_BUCKET}/raw/events.parquet
    columns: {user: user_id, item: movie_id, timestamp: timestamp, rating: rating}
    timestamp: {format: seconds}
  users: {path: "${MY_S3_BUCKET}/raw/users.parquet", key: user_id}
  items: {path: "${MY_S3_BUCKET}/raw/items.parquet", key: movie_id}
output_path: ${MY_S3_BUCKET}/movielens/1m
"""


def write_raw(folder: Path) -> None:
    """Write the raw tables."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    users = np.arange(1, USERS + 1)
    events = [
        {"user_id": int(user), "movie_id": int(item), "rating": float(1 + (user + item) % 5),
         "timestamp": 1_000_000_000 + 50 * int(step) + int(user)}
        for user in users
        for step, item in enumerate(random.permutation(ITEMS)[: 8 + user % 5] + 1)
    ]  # fmt: skip
    tables = {
        "events": events,
        "users": [
            {"user_id": int(u), "gender": "FM"[u % 2], "age": 10 * int(u % 5), "occupation": 1}
            for u in users
        ],
        "items": [
            {"movie_id": i, "title": f"film {i}", "genres": ["a", "b", "c"][: 1 + i % 3]}
            for i in range(1, ITEMS + 1)
        ],
    }
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def build(root: Path, tree: Path, run: Run, models: tuple[str, ...] = tuple(MODELS)) -> None:
    """Fill a data root: tables, schema files, and a run of each of the models.

    Raises
    ------
    RuntimeError
        A job failed.
    """
    write_raw(root / "raw")
    (root / "prepare.yaml").write_text(PREPARE, encoding="utf-8")
    for folder in sorted((tree / "schema").glob("*/ml_1m")):
        shutil.copytree(folder, root / "movielens/1m/schema" / folder.parent.name)
    confs = tree / "conf"
    steps = [("prepare", root / "prepare.yaml")]
    steps += [("history_features", confs / "history_features_ml_1m.yaml")]
    names = ("cf", "loo", "neg10")
    steps += [("match_dataset", confs / f"match_dataset_{name}_ml_1m.yaml") for name in names]
    for job, conf in steps:
        _run(run, job, conf)
    for model in models:
        name, *sets = MODELS[model]
        _run(run, model, confs / f"{name}.yaml", *sets)


def model_folder(root: Path, model: str) -> Path:
    """The saved model of one of `MODELS`."""
    return resolve(root / "movielens/1m/runs" / MODELS[model][0] / "model")


def _run(run: Run, job: str, conf: Path, *sets: str) -> None:
    ended = run(job, "--conf", str(conf), *(part for one in sets for part in ("--set", one)))
    if ended.code != 0:
        raise RuntimeError(f"{job} --conf {conf}: {ended.printed[-2000:]}")
