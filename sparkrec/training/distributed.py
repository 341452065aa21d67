"""Runs training in the driver, or on the executors with TorchDistributor.

A single worker on a local master trains in the driver process, without start-up cost. Otherwise
training is a barrier stage of `workers` tasks, each with its own training process; they communicate
through gloo (CPUs) or nccl (GPUs). The package and the module of the network's class are sent with
the job, so the executors only need their dependencies.
"""

import contextlib
import json
import logging
import socket
import sys
from pathlib import Path
from typing import Any

from pyspark import cloudpickle
from pyspark.sql import SparkSession

from sparkrec.errors import StorageError, TrainingError
from sparkrec.io import storage
from sparkrec.read_errors import explain
from sparkrec.scratch import sweep_scratch_folders
from sparkrec.session import is_local
from sparkrec.shipping import module_zip
from sparkrec.training.checkpoint import Progress
from sparkrec.training.cluster import what_each_gets
from sparkrec.training.failures import REPORT, TrainersOutput, port_was_taken, what_failed
from sparkrec.training.loop import FINAL_STATE, Rank, train
from sparkrec.training.spec import TrainingSpec

log = logging.getLogger("sparkrec.training")

_ERRORS = "errors"
# TorchDistributor looks for a free port some seconds before torchrun takes it.
_TRIES = 3


def run_training(spark: SparkSession, spec: TrainingSpec) -> Progress:
    """Train in the driver or on the executors, and return the progress.

    Raises
    ------
    TrainingError
        There are fewer slots than workers, or a training process failed; the message has the error
        of that process.
    """
    workers = spec.training.workers
    if workers == 1 and is_local(spark):
        return train(spec, Rank(device="cuda" if spec.training.use_gpu else "cpu"))
    storage.remove(storage.join(spec.checkpoint_path, _ERRORS))
    from pyspark.ml.torch.distributor import TorchDistributor

    log.info("training processes on the executors: %s", what_each_gets(spark, spec))
    distributor = TorchDistributor(
        num_processes=workers, local_mode=False, use_gpu=spec.training.use_gpu
    )
    for tries_left in reversed(range(_TRIES)):
        output = TrainersOutput(sys.stderr)
        try:
            with contextlib.redirect_stderr(output):
                distributor.run(_entry(), _packages(spec), cloudpickle.dumps(spec))
            break
        except Exception as error:
            text = f"{error}\n{output.held}"
            if tries_left and port_was_taken(text):
                log.warning("another process took the port of the training; it starts again")
                continue
            raise TrainingError(what_failed(workers, text, _reports(spec))) from error
    final = storage.read_json(storage.join(spec.checkpoint_path, FINAL_STATE))
    return Progress(**final["progress"])


def _packages(spec: TrainingSpec) -> dict[str, bytes]:
    """Zips of sparkrec and of the network's package, for the training processes."""
    names = {"sparkrec", spec.network.network.partition(":")[0].partition(".")[0]}
    return {name: Path(module_zip(name)).read_bytes() for name in sorted(names)}


def _entry() -> Any:
    """The function that every training process runs.

    It is pickled by value (it is a local function), because the process that unpickles it cannot
    import sparkrec before this function has added the package to the path.
    """

    def run(packages: dict[str, bytes], pickled_spec: bytes) -> None:
        import atexit
        import os
        import pickle
        import shutil
        import sys
        import tempfile
        from pathlib import Path

        # As `sparkrec.scratch` does it, which cannot be imported yet.
        folder = Path(tempfile.mkdtemp(prefix=f"sparkrec-{os.getpid()}-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for name, content in packages.items():
            (folder / f"{name}.zip").write_bytes(content)
            sys.path.insert(0, str(folder / f"{name}.zip"))
        from sparkrec.training.distributed import run_rank

        run_rank(pickle.loads(pickled_spec))

    run.__module__ = "__main__"
    return run


def run_rank(spec: TrainingSpec) -> None:
    """Run one training process: join the group, train, and write any error for the driver."""
    import os
    import traceback

    import torch
    import torch.distributed as dist

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _end_with_launchers()
    sweep_scratch_folders()
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    use_gpu = spec.training.use_gpu
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if use_gpu else "cpu"
    try:
        if use_gpu:
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if use_gpu else "gloo")
        if not use_gpu:
            hosts: list[Any] = [None] * world
            dist.all_gather_object(hosts, socket.gethostname())
            here = hosts.count(socket.gethostname())
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // here))
        log.info(
            "rank %d of %d on %s: %s through %s",
            rank,
            world,
            socket.gethostname(),
            torch.cuda.get_device_name(device) if use_gpu else f"{torch.get_num_threads()} threads",
            dist.get_backend(),
        )
        train(spec, Rank(rank, world, device))
        dist.barrier()
    except BaseException as error:
        report = {"rank": rank, "host": socket.gethostname(), "kind": type(error).__name__}
        report |= {"error": explain(error) or _one_line(error), "trace": traceback.format_exc()}
        # TorchDistributor adds the last lines of the output to the error of the task. That error
        # comes back from one process; the files come from all of them, if they can be written.
        log.error("%s%s", REPORT, json.dumps({**report, "trace": ""}))
        with contextlib.suppress(StorageError):
            name = storage.join(spec.checkpoint_path, _ERRORS, f"rank-{rank}.json")
            storage.write_json(name, report)
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _end_with_launchers() -> None:
    """End this process when torchrun, or the Spark process that started it, is killed.

    Otherwise it would continue, and write checkpoints at the same time as the run that resumes.
    """
    import os
    import threading
    import time

    import psutil

    launchers = psutil.Process().parents()[:2]

    def watch() -> None:
        try:
            while all(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in launchers):
                time.sleep(0.2)
        except psutil.NoSuchProcess:
            pass
        os._exit(1)

    threading.Thread(target=watch, name="sparkrec-launchers", daemon=True).start()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _reports(spec: TrainingSpec) -> list[dict[str, Any]]:
    """The errors that training processes wrote; none if the storage cannot be read."""
    folder = storage.join(spec.checkpoint_path, _ERRORS)
    with contextlib.suppress(StorageError):
        files = storage.list_files(folder)
        return [storage.read_json(storage.join(folder, file.name)) for file in files]
    return []
