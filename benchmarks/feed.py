"""The path from parquet to Torch, measured: petastorm against pyarrow, and a DSSM epoch on each.

Run by `make bench`. Encoded rows of MovieLens-1M's size are made with a seed (Zipf-distributed
items, 12 user-side numbers, 10 negatives).
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch

from sparkrec.feed.feed import Feed, FeedSettings, column_names
from sparkrec.models.dssm import DSSM, DSSMConfig
from sparkrec.models.two_tower import TowerInput
from sparkrec.training.settings import Loss, Training
from sparkrec.training.step.objective import TwoTowerLoss
from sparkrec.training.step.optimizers import make_optimizers

FIELDS = {"user": 12, "item": 0, "negatives": 10}
USERS, ITEMS, GROUP = 6040, 3700, 32_768


def write_rows(folder: Path, rows: int, seed: int) -> None:
    """Encoded rows as `encoding.encode` writes them, one row group a file."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, ITEMS + 1)
    folder.mkdir(parents=True)
    for number, start in enumerate(range(0, rows, GROUP)):
        n = min(GROUP, rows - start)
        item = rng.choice(ITEMS, (n, 22), p=shares / shares.sum()) + 2
        user = np.concatenate([rng.integers(2, USERS + 2, (n, 1)), item[:, :11] + USERS], axis=1)
        values = [*user.T, item[:, 11], *item[:, 12:].T]
        names = [name for field, width in FIELDS.items() for name in column_names(field, width)]
        table = pa.table(dict(zip(names, map(np.ascontiguousarray, values), strict=True)))
        pa.parquet.write_table(table, folder / f"part-{number:05d}.parquet", compression="zstd")


def read_pyarrow(folder: Path) -> tuple[int, float]:
    """Rows and seconds of reading every column of every file with plain pyarrow."""
    start, rows = perf_counter(), 0
    for path in sorted(folder.rglob("*.parquet")):
        file = pa.parquet.ParquetFile(path)
        rows += sum(file.read_row_group(i).num_rows for i in range(file.num_row_groups))
    return rows, perf_counter() - start


def read_feed(folder: Path) -> tuple[int, float]:
    """Rows and seconds of the feed's first epoch: read, stacked, shuffled, as Torch batches."""
    feed = Feed(FeedSettings(str(folder), FIELDS, batch_size=2048, cache_bytes=0))
    start = perf_counter()
    rows = sum(len(batch["item"]) for batch in feed.epoch(1))
    return rows, perf_counter() - start


def train_epoch(batches: Iterator[dict[str, torch.Tensor]]) -> tuple[int, float]:
    """Positives and seconds of one epoch of DSSM with the network of its ML-1M confs."""
    torch.manual_seed(0)
    user = TowerInput(USERS + ITEMS + 4, ((0, 1), (1, 2), (2, 12)))
    item = TowerInput(ITEMS + 2, ((0, 1),))
    network = DSSM(DSSMConfig(), user, item)
    optimizers = make_optimizers(network, Training())
    step = TwoTowerLoss(network, Loss(), torch.arange(ITEMS + 2)[:, None])
    start, rows = perf_counter(), 0
    for batch in batches:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss, _, _ = step(batch)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        rows += len(batch["item"])
    return rows, perf_counter() - start


def measure(rows: int, repeats: int) -> dict[str, float]:
    """All figures; each rate is the median of the repeats, taken turn by turn."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "encoded"
        write_rows(folder, rows, seed=1)
        rates: dict[str, list[float]] = {"pyarrow": [], "feed": [], "petastorm": [], "memory": []}
        waiting = []
        for _ in range(repeats):
            for name, read in (("pyarrow", read_pyarrow), ("feed", read_feed)):
                count, seconds = read(folder)
                rates[name].append(count / seconds)
            feed = Feed(FeedSettings(str(folder), FIELDS, batch_size=2048, cache_bytes=0))
            kept = list(feed.epoch(1))
            feed.waited_seconds = 0.0
            count, seconds = train_epoch(feed.epoch(1))
            rates["petastorm"].append(count / seconds)
            waiting.append(feed.waited_seconds / seconds)
            count, seconds = train_epoch(iter(kept))
            rates["memory"].append(count / seconds)
    middle = {name: float(np.median(values)) for name, values in rates.items()}
    return {
        "rows": rows,
        "pyarrow_rows_per_second": middle["pyarrow"],
        "petastorm_rows_per_second": middle["feed"],
        "petastorm_to_pyarrow": middle["feed"] / middle["pyarrow"],
        "dssm_positives_per_second": middle["petastorm"],
        "dssm_from_memory_positives_per_second": middle["memory"],
        "dssm_to_memory": middle["petastorm"] / middle["memory"],
        "waiting_share": float(np.median(waiting)),
    }


def main() -> None:
    """Print the machine, a table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    found = measure(options.rows, options.repeats)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Torch threads {torch.get_num_threads()}")
    for name, value in found.items():
        print(f"{name:40s} {value:14,.3f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
