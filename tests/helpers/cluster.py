"""A Spark cluster on this machine: a master and workers, each a process of its own.

It is Spark's standalone cluster, for which pip's pyspark has no start script. Its executors are
processes of their own, which can be killed.

    with Cluster(folder, workers=2) as cluster:
        subprocess.run([..., "--set", f"spark.master={cluster.url}"])
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pyspark
from processes import MARK, kill_marked, marked, new_mark, wait_until

_MASTER = "org.apache.spark.deploy.master.Master"
_WORKER = "org.apache.spark.deploy.worker.Worker"
_URL = re.compile(r"Starting Spark master at (spark://\S+)")
_PAGE = re.compile(r"Bound MasterWebUI to \S+, and started at (http://\S+)")
# Light JVMs, which start fast.
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


class Cluster:
    """A master and some workers, from `with` to the end of its block.

    Parameters
    ----------
    folder
        For logs, and a folder `worker-<n>` of each worker, with `work` (applications, and the
        executors' logs), `local` (Spark's shuffle files) and `tmp` (temporary files).
    workers, cores, memory
        Number of workers, and what each of them has.
    env
        Variables for all processes of the cluster, such as credentials; executors inherit them.

    Attributes
    ----------
    url
        The master, for `spark.master`.
    page
        The master's web page.
    mark
        The mark of all processes of the cluster (see `processes`).
    """

    def __init__(
        self,
        folder: Path,
        workers: int = 2,
        cores: int = 1,
        memory: str = "1500m",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.workers, self.cores, self.memory = folder, workers, cores, memory
        self.env = dict(env or {})
        self.mark = new_mark()
        self.url = self.page = ""
        self._master: subprocess.Popen[bytes] | None = None
        self._workers: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Cluster":
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            ports = ("--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
            self._master = self._start("master", _MASTER, *ports)
            wait_until(self._read_addresses, "the master has its ports")
            for number in range(self.workers):
                self.start_worker(number)
            wait_until(
                lambda: self.alive_workers() == self.workers, "all workers are known to the master"
            )
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill the master, the workers, and all that they started."""
        kill_marked(self.mark)
        for process in (self._master, *self._workers.values()):
            if process is not None:
                process.wait()

    def start_worker(self, number: int) -> None:
        """Start a worker; again after it was killed."""
        own = self.worker_folder(number)
        for name in ("work", "local", "tmp"):
            (own / name).mkdir(parents=True, exist_ok=True)
        # An address of its own: Spark runs no task a second time on the host that already runs it.
        host = f"127.0.0.{number + 1}"
        self._workers[number] = self._start(
            f"worker-{number}",
            _WORKER,
            *("--host", host, "--webui-port", "0", "--work-dir", str(own / "work")),
            *("--cores", str(self.cores), "--memory", self.memory, self.url),
            SPARK_LOCAL_IP=host,
            SPARK_LOCAL_DIRS=str(own / "local"),
            TMPDIR=str(own / "tmp"),
        )

    def worker_folder(self, number: int) -> Path:
        """The folder of a worker."""
        return self.folder / f"worker-{number}"

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of the workers."""
        return [process.pid for process in self._workers.values()]

    def state(self) -> dict[str, Any]:
        """What the master's page says: `workers`, `activeapps`, `completedapps`, ..."""
        with urllib.request.urlopen(f"{self.page}/json/", timeout=10) as answer:
            return dict(json.load(answer))

    def alive_workers(self) -> int:
        """Number of workers that the master counts as alive."""
        return sum(worker["state"] == "ALIVE" for worker in self.state()["workers"])

    def processes(self) -> list[psutil.Process]:
        """All processes of the cluster, orphans as well."""
        return marked(self.mark)

    def executors(self) -> list[psutil.Process]:
        """The JVMs of the executors."""
        return self._running("CoarseGrainedExecutorBackend")

    def launchers(self) -> list[psutil.Process]:
        """The torchrun processes, which start the trainers."""
        return self._running("torch.distributed.run")

    def trainers(self) -> list[psutil.Process]:
        """The training processes of TorchDistributor."""
        return [
            process
            for process in self._running("/train.py")
            if not {"torch.distributed.run", "pyspark.ml.torch.torch_run_process_wrapper"}
            & set(process.cmdline())
        ]

    def training(self) -> list[psutil.Process]:
        """All processes of a training: trainers, launchers, and the launchers' parents."""
        return self._running("/train.py")

    def wait_idle(self, seconds: float = 30) -> None:
        """Wait until no application is active and no executor lives."""
        wait_until(
            lambda: not self.state()["activeapps"] and not self.executors() and not self.training(),
            "the cluster is idle",
            seconds,
        )

    def left(self, seconds: float) -> list[psutil.Process]:
        """What lives after so many seconds beside the master and the workers."""
        own = {process.pid for process in (self._master, *self._workers.values()) if process}
        until = time.monotonic() + seconds
        while alive := [process for process in self.processes() if process.pid not in own]:
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        return alive

    def _running(self, word: str) -> list[psutil.Process]:
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if any(word in part for part in process.cmdline()):
                    found.append(process)
        return found

    def _read_addresses(self) -> bool:
        assert self._master is not None
        log = (self.folder / "master.log").read_text(errors="replace")
        if self._master.poll() is not None:
            raise RuntimeError(f"the master ended: {log[-2000:]}")
        url, page = _URL.search(log), _PAGE.search(log)
        if url is None or page is None:
            return False
        self.url, self.page = url[1], page[1].rstrip("/")
        return True

    def _start(
        self, name: str, kind: str, *arguments: str, **env: str
    ) -> "subprocess.Popen[bytes]":
        home = Path(pyspark.__file__).parent
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [str(home / "bin" / "spark-class"), kind, *arguments],
                env={
                    **os.environ,
                    "SPARK_HOME": str(home),
                    "SPARK_LOCAL_IP": "127.0.0.1",
                    "SPARK_DAEMON_MEMORY": "256m",
                    "SPARK_DAEMON_JAVA_OPTS": f"{JAVA_OPTIONS} -Dspark.master.rest.enabled=false",
                    "PYSPARK_PYTHON": sys.executable,
                    MARK: self.mark,
                    **self.env,
                    **env,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
