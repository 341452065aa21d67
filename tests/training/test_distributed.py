"""Training on executors: the same model as in the driver, clear errors, and going on after them."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.errors import TrainingError
from sparkrec.io import storage
from sparkrec.training.retrievers import DSSM

USERS, ITEMS = 60, 12
SMALL: dict[str, Any] = {
    "embedding_dim": 8,
    "hidden": (8,),
    "epochs": 4,
    "batch_size": 64,
    "learning_rate": 0.02,
    "temperature": 0.5,
    "num_negatives": 3,
    "early_stopping": None,
    "k": 3,
}


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    """Users of two colours, each with most items of its colour."""
    rows = [
        (user, 2 * ((user + step) % (ITEMS // 2)) + user % 2, step, user * 4 + step)
        for user in range(USERS)
        for step in range(4)
    ]
    schema = "user_id long, item_id long, timestamp long, position long"
    return spark.createDataFrame(rows, schema).persist()


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(events: DataFrame, tmp_path: Path) -> None:
    vectors = {}
    for workers in (1, 2):
        model = DSSM(**SMALL, workers=workers, work_path=str(tmp_path / str(workers))).fit(events)
        assert len(model.fit_report["history"]) == SMALL["epochs"]
        vectors[workers] = model.item_vectors
    # Steps see other rows together, so the weights differ, but not what they are worth.
    likeness = {w: v @ v.T for w, v in vectors.items()}
    assert np.corrcoef(likeness[1].ravel(), likeness[2].ravel())[0, 1] > 0.9


def test_too_many_workers_are_told_at_once(events: DataFrame, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(TrainingError, match=r"workers is 4, but local\[2\] has 2 slots"):
        DSSM(**SMALL, workers=4, work_path=str(tmp_path)).fit(events)
    assert time.monotonic() - started < 10


@pytest.mark.slow
def test_a_rank_s_own_error_reaches_the_driver(events: DataFrame, tmp_path: Path) -> None:
    settings = {**SMALL, "learning_rate": 1e30, "print_interval": 1}
    with pytest.raises(
        TrainingError, match=r"training diverged, no epoch is above chance: .* became nan"
    ):
        DSSM(**settings, workers=2, work_path=str(tmp_path)).fit(events)


@pytest.mark.slow
def test_a_killed_process_is_reported_and_the_run_goes_on(
    events: DataFrame, tmp_path: Path
) -> None:
    settings = {**SMALL, "epochs": 500, "work_path": str(tmp_path), "workers": 2}
    checkpoints = tmp_path / "checkpoints"
    killed: list[float] = []

    def begun() -> bool:
        # Old checkpoints go as new ones come, so a folder may vanish while it is listed.
        try:
            return any(p.name.startswith("fit-epoch-") for p in checkpoints.iterdir())
        except OSError:
            return False

    def victim() -> psutil.Process | None:
        for process in psutil.Process().children(recursive=True):
            try:
                if any(part.endswith("train.py") for part in process.cmdline()):
                    return process
            except psutil.Error:
                continue
        return None

    def kill_one() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not killed:
            found = victim() if begun() else None
            if found is not None:
                killed.append(time.monotonic())
                os.kill(found.pid, signal.SIGKILL)
            time.sleep(0.2)

    thread = threading.Thread(target=kill_one)
    thread.start()
    with pytest.raises(TrainingError, match="resume: true"):
        DSSM(**settings).fit(events)
    thread.join()
    assert killed
    assert time.monotonic() - killed[0] < 30
    # Whichever of the nested processes was killed, those that it leaves behind end at once.
    time.sleep(2)
    done = max(int(p.name[-4:]) for p in checkpoints.glob("fit-epoch-*"))
    model = DSSM(**{**settings, "epochs": done + 2, "resume": True}).fit(events)
    assert len(model.fit_report["history"]) == done + 2
    assert storage.exists(str(checkpoints / "final.safetensors"))
