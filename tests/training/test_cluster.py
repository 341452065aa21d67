"""What is checked of a cluster before training, and how its errors come back; no cluster needed."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark import SparkConf
from pyspark.sql import SparkSession

from sparkrec.errors import StorageError, TrainingError
from sparkrec.io import storage
from sparkrec.training import cluster, distributed
from sparkrec.training.cluster import check_cluster, what_each_gets
from sparkrec.training.distributed import run_training
from sparkrec.training.failures import REPORT, TrainersOutput, what_failed
from sparkrec.training.loop import FINAL_STATE, Rank


def session(master: str, settings: dict[str, str]) -> Any:
    """A session that only has a master and settings."""
    conf = SparkConf(loadDefaults=False).setAll(list(settings.items()))
    return SimpleNamespace(sparkContext=SimpleNamespace(master=master, getConf=lambda: conf))


def test_dynamic_allocation() -> None:
    dynamic = session("yarn", {"spark.dynamicAllocation.enabled": "true"})
    with pytest.raises(TrainingError, match=r"while spark\.dynamicAllocation\.enabled is true; gi"):
        check_cluster(dynamic, 1, False, "/work")
    check_cluster(session("yarn", {"spark.dynamicAllocation.enabled": "false"}), 2, False, "/work")


def test_a_task_without_a_gpu() -> None:
    with pytest.raises(TrainingError, match=r"spark\.task\.resource\.gpu\.amount is not set"):
        check_cluster(session("yarn", {}), 2, True, "/work")
    half = session("yarn", {"spark.task.resource.gpu.amount": "0.5"})
    with pytest.raises(TrainingError, match="gives no GPU to a task"):
        check_cluster(half, 2, True, "/work")
    check_cluster(session("yarn", {"spark.task.resource.gpu.amount": "1"}), 2, True, "/work")


def test_gpus_that_do_not_fit_the_processes() -> None:
    two = {"spark.task.resource.gpu.amount": "2"}
    with pytest.raises(TrainingError, match=r"workers is 3, but a task has 2 GPUs .* a multiple"):
        check_cluster(session("yarn", two), 3, True, "/work")
    check_cluster(session("yarn", two), 4, True, "/work")
    one = {"spark.task.resource.gpu.amount": "1"}
    with pytest.raises(TrainingError, match=r"and spark\.driver\.resource\.gpu\.amount is 0"):
        check_cluster(session("local[2]", one), 2, True, "/work")
    one |= {"spark.driver.resource.gpu.amount": "2"}
    check_cluster(session("local[2]", one), 2, True, "/work")


def test_what_each_process_gets() -> None:
    spec: Any = SimpleNamespace(training=SimpleNamespace(workers=2, use_gpu=False))
    assert what_each_gets(session("yarn", {}), spec).startswith("2, each with one task slot")
    spec.training.use_gpu = True
    told = what_each_gets(session("yarn", {"spark.task.resource.gpu.amount": "1"}), spec)
    assert told.startswith("2, each with one GPU; a task of Spark has 1 GPU(s)")
    assert told.endswith("nccl")


@pytest.mark.parametrize(("use_gpu", "local_rank"), [(True, "0"), (True, "1"), (False, "1")])
def test_device_and_backend_of_a_rank(
    monkeypatch: pytest.MonkeyPatch, use_gpu: bool, local_rank: str
) -> None:
    """TorchDistributor lets a process see the GPUs of its task, one for each of its processes."""
    calls: list[tuple[Any, ...]] = []
    fakes = {
        "torch.cuda.set_device": lambda device: calls.append(("device", device)),
        "torch.cuda.get_device_name": lambda device: "a GPU",
        "torch.set_num_threads": lambda threads: calls.append(("threads", threads)),
        "torch.distributed.init_process_group": lambda name: calls.append(("group", name)),
        "torch.distributed.all_gather_object": lambda hosts, own: hosts.__setitem__(0, own),
        "torch.distributed.get_backend": lambda: "fake",
        "torch.distributed.barrier": lambda: None,
        "torch.distributed.is_initialized": lambda: False,
        "sparkrec.training.distributed._end_with_launchers": lambda: None,
        "sparkrec.training.distributed.train": lambda spec, rank: calls.append(("train", rank)),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(name, fake)
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": local_rank}.items():
        monkeypatch.setenv(name, value)
    spec: Any = SimpleNamespace(training=SimpleNamespace(use_gpu=use_gpu), checkpoint_path="/c")
    distributed.run_rank(spec)
    found = dict(calls)
    device = f"cuda:{local_rank}" if use_gpu else "cpu"
    assert found["train"] == Rank(3, 4, device)
    assert found["group"] == ("nccl" if use_gpu else "gloo")
    assert found.get("device") == (device if use_gpu else None)
    assert ("threads" in found) is not use_gpu


def test_a_driver_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(TrainingError, match="Torch finds no CUDA device on this machine"):
        check_cluster(session("local[2]", {}), 1, True, "/work")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    check_cluster(session("local[2]", {}), 1, True, "/work")


def test_slots() -> None:
    with pytest.raises(TrainingError, match=r"workers is 3, but local\[2\] has 2 slots"):
        check_cluster(session("local[2]", {}), 3, False, "/work")
    with pytest.raises(TrainingError, match=r"has 4 slots"):
        check_cluster(session("local-cluster[2,2,1024]", {}), 5, False, "/work")
    check_cluster(session("local-cluster[2,2,1024]", {}), 4, False, "/work")


def test_executors_that_cannot_reach_s3(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def why(path: str) -> str:
        return f"{path}: no credentials"

    monkeypatch.setattr(cluster, "_why_unreadable", why)
    with pytest.raises(TrainingError) as caught:
        check_cluster(spark, 2, False, "s3://bucket/runs")
    message = str(caught.value)
    assert message.startswith("executors cannot reach s3://bucket/runs: no credentials; they need")
    assert "spark.executorEnv.AWS_ACCESS_KEY_ID" in message
    monkeypatch.setattr(cluster, "_why_unreadable", lambda path: None)
    check_cluster(spark, 2, False, "s3://bucket/runs")


def test_why_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def exists(path: str) -> bool:
        raise StorageError(f"{path}: no credentials")

    monkeypatch.setattr(storage, "exists", exists)
    assert cluster._why_unreadable("s3://b/x") == "s3://b/x: no credentials"
    monkeypatch.setattr(storage, "exists", lambda path: False)
    assert cluster._why_unreadable("s3://b/x") is None


def test_an_error_that_came_back_through_spark() -> None:
    """The report of a process that could not write it to the checkpoints' folder."""
    report = {"rank": 1, "host": "b", "kind": "StorageError", "error": "s3://x: gone", "trace": ""}
    lost = {**report, "rank": 0, "kind": "RuntimeError", "error": "Connection closed by peer"}
    printed = [f"I0000 {REPORT}{json.dumps(each)}" for each in (lost, report)]
    text = "\n".join(["Command failed with return code 1.", *printed, "Traceback"])
    assert what_failed(2, text, []) == "training process 1 on b failed: StorageError: s3://x: gone"


def test_stack_traces_of_training_processes_are_not_shown() -> None:
    lost = {"rank": 1, "host": "b", "kind": "RuntimeError", "error": "closed by peer", "trace": ""}
    shown = io.StringIO()
    output = TrainersOutput(shown)
    kept = ["a print of the network\n", "2026-11-26 16:00:00,001 INFO sparkrec.training epoch 1\n"]
    later = "2026-11-26 16:00:02,000 WARNING acme.bst of the other process\n"
    trace = [
        f"2026-11-26 16:00:01,000 ERROR sparkrec.training {REPORT}{json.dumps(lost)}\n",
        "[rank1]: Traceback (most recent call last):\n",
        "[rank1]: RuntimeError: Connection closed by peer\n",
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:\n",
        "  rank      : 0 (local_rank: 0)\n",
        "  exitcode  : -9 (pid: 31188)  (SIGKILL)\n",
    ]
    for line in [*kept, *trace, later]:
        output.write(line)
    assert shown.getvalue() == "".join([*kept, later])
    assert output.held == "".join(trace)
    # They tell what the surviving process could not know.
    assert "training process 0 was killed by signal 9" in what_failed(2, output.held, [])


def test_stack_traces_are_shown_with_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "sparkrec.training")
    shown = io.StringIO()
    TrainersOutput(shown).write("[rank1]: Traceback (most recent call last):\n")
    assert shown.getvalue()


class Distributor:
    """A TorchDistributor whose port is taken so many times."""

    taken = 0

    def __init__(self, **_: object) -> None:
        pass

    def run(self, *_: object) -> None:
        if self.taken:
            type(self).taken -= 1
            raise RuntimeError("the server socket has failed to listen, name: EADDRINUSE")


@pytest.mark.parametrize("taken", [2, 3])
def test_a_port_that_another_process_took(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, taken: int
) -> None:
    monkeypatch.setattr(Distributor, "taken", taken)
    monkeypatch.setattr("pyspark.ml.torch.distributor.TorchDistributor", Distributor)
    monkeypatch.setattr(distributed, "_packages", lambda spec: {})
    spec: Any = SimpleNamespace(
        training=SimpleNamespace(workers=2, use_gpu=False), checkpoint_path=str(tmp_path)
    )
    storage.write_json(str(tmp_path / FINAL_STATE), {"progress": {"epoch": 7}})
    cluster = session("spark://x:7077", {})
    if taken == 2:
        assert run_training(cluster, spec).epoch == 7
    else:
        with pytest.raises(TrainingError, match="the port of the training was taken by another"):
            run_training(cluster, spec)
