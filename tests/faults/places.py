"""Where jobs run and keep their data: this machine, a cluster, or a cluster and a bucket."""

import json
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import s3_server
from cluster import JAVA_OPTIONS, Cluster
from fault_jobs import CONFS, Job, content
from layouts import MANIFEST
from processes import MARK, kill_marked, left, new_mark
from s3_gate import Gate

_RUN_ID = re.compile(r"\d{8}-\d{6}-")
_TEMPORARY = re.compile(r"staging|replaced|\.tmp|_sparkrec\.(writing|claim|lease)")

_SPARK = {
    "master": "local[2]",
    "ui.enabled": False,
    "sql.shuffle.partitions": 2,
    "driver.extraJavaOptions": JAVA_OPTIONS,
    # Compiling takes longer than running, with a few rows.
    "sql.codegen.wholeStage": False,
    "sql.codegen.factoryMode": "NO_CODEGEN",
}


@dataclass
class Running:
    """A job that runs as a process of its own."""

    process: "subprocess.Popen[bytes]"
    log: Path
    mark: str
    started: float = field(default_factory=monotonic)

    def wait(self, limit: float = 300) -> int:
        """The exit code; a job that takes longer is killed."""
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def kill(self) -> None:
        """`kill -9` of the job, and of what is left of it ten seconds later."""
        self.process.kill()
        self.process.wait()
        self.left(10, end=True)

    def left(self, seconds: float, end: bool = False) -> int:
        """How many processes of the job live on after so many seconds (and end them)."""
        alive = left(self.mark, seconds)
        if end and alive:
            kill_marked(self.mark)
        return len(alive)

    @property
    def printed(self) -> str:
        """What the job printed so far."""
        return self.log.read_text(errors="replace")

    @property
    def errors(self) -> list[str]:
        """The lines `error: ...` that it printed."""
        return [line for line in self.printed.splitlines() if line.startswith("error: ")]


@dataclass(frozen=True)
class Place:
    """Where jobs run: a source tree, its interpreter, and folders of their own.

    Attributes
    ----------
    base
        Holds `root` (the data), `tmp` (temporary files) and the logs.
    """

    tree: Path
    python: Path
    base: Path

    @property
    def root(self) -> Path:
        return self.base / "root"

    @property
    def temporary(self) -> Path:
        return self.base / "tmp"

    def spark(self) -> dict[str, Any]:
        """The `spark:` block of the confs."""
        return dict(_SPARK)

    def environment(self) -> dict[str, str]:
        """The variables of a job."""
        return {
            **os.environ,
            "ROOT": str(self.root),
            "TMPDIR": str(self.temporary),
            "SPARK_LOCAL_DIRS": str(self.temporary),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(self.tree),
            "EPOCHS": "3",
            "WORKERS": "1",
        }

    def start(self, job: Job, *sets: str, **environ: str) -> Running:
        """Start a job with these settings."""
        self.base.mkdir(exist_ok=True)
        self.temporary.mkdir(exist_ok=True)
        conf = self.base / f"{job.name}.yaml"
        conf.write_text(f"{CONFS[job.name]}spark: {json.dumps(self.spark())}\n")
        mark = new_mark()
        log = self.base / f"log-{mark}"
        overrides = [part for one in sets for part in ("--set", one)]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [
                    str(self.python),
                    str(self.tree / "jobs" / f"{job.name}.py"),
                    *("--conf", str(conf), *overrides),
                ],
                env={**self.environment(), MARK: mark, **environ},
                cwd=self.base,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return Running(process, log, mark)

    def temporary_folders(self) -> list[Path]:
        """The temporary folders of all processes."""
        return [self.temporary]

    def fetch(self) -> None:
        """Bring the data to `root`, if that is only a copy of them."""

    def put(self) -> None:
        """Make the data what is in `root`, if that is only a copy of them."""

    def content(self, job: Job) -> str:
        """What the job's output holds now."""
        self.fetch()
        return content(self.root / job.output, job)

    def leftovers(self) -> list[str]:
        """Temporary files of ours: beside outputs, in them, and in the temporary folder."""
        self.fetch()
        found = [p for p in self.root.rglob("*") if _TEMPORARY.search(p.name)]
        # Versions of an output that were not finished.
        found += [
            p
            for p in self.root.rglob("*")
            if _RUN_ID.match(p.name) and p.is_dir() and not (p / MANIFEST).is_file()
        ]
        for folder in self.temporary_folders():
            found += folder.glob("sparkrec-*")
        return [str(path) for path in found]


@dataclass(frozen=True)
class OnCluster(Place):
    """Jobs whose executors are those of a cluster; the data are on this machine's disk."""

    cluster: Cluster

    @property
    def events(self) -> Path:
        """The folder of Spark's event logs, one file an application."""
        return self.base / "events"

    def spark(self) -> dict[str, Any]:
        self.events.mkdir(parents=True, exist_ok=True)
        return {
            **_SPARK,
            "master": self.cluster.url,
            "executor.memory": "700m",
            "executor.extraJavaOptions": JAVA_OPTIONS,
            "eventLog.enabled": True,
            "eventLog.dir": f"file://{self.events}",
            "eventLog.rolling.enabled": False,
            "eventLog.compress": False,
        }

    def environment(self) -> dict[str, str]:
        # Epochs of a few rows are short. There have to be enough of them to be disturbed.
        more = {"SPARK_LOCAL_IP": "127.0.0.1", "EPOCHS": "30", "WORKERS": "2"}
        return {**super().environment(), **more}

    def temporary_folders(self) -> list[Path]:
        return [self.temporary, *self.cluster.folder.glob("worker-*/tmp")]

    def happened(self) -> list[dict[str, Any]]:
        """The events of the newest application."""
        newest = max(self.events.iterdir(), key=lambda log: log.stat().st_mtime)
        return [json.loads(line) for line in newest.read_text().splitlines()]


@dataclass(frozen=True)
class InBucket(OnCluster):
    """Jobs on a cluster whose data are in a bucket; `root` is a copy of it.

    Attributes
    ----------
    server
        The URL of the S3 server, which always answers.
    gate
        Between the jobs and that server.
    jars
        Those of S3A, as `spark.jars` wants them.
    """

    server: str
    gate: Gate
    jars: str

    def spark(self) -> dict[str, Any]:
        s3a = {f"hadoop.fs.s3a.{name}": value for name, value in s3_server.S3A.items()}
        return {**super().spark(), "jars": self.jars, **s3a}

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            **s3_server.ENVIRONMENT,
            "AWS_ENDPOINT_URL": self.gate.url,
            "ROOT": f"s3://{s3_server.BUCKET}",
        }

    def fetch(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        client = s3_server.client(self.server)
        for key in self._keys(client):
            if not key.endswith("/"):
                (self.root / key).parent.mkdir(parents=True, exist_ok=True)
                client.download_file(s3_server.BUCKET, key, str(self.root / key))

    def put(self) -> None:
        client = s3_server.client(self.server)
        for key in self._keys(client):
            client.delete_object(Bucket=s3_server.BUCKET, Key=key)
        for path in self.root.rglob("*"):
            if path.is_file():
                key = path.relative_to(self.root).as_posix()
                client.upload_file(str(path), s3_server.BUCKET, key)

    @staticmethod
    def _keys(client: Any) -> list[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=s3_server.BUCKET)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]
