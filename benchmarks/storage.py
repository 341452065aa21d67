"""Jobs with their data on S3 against the same jobs on the local disk: seconds, in turns.

    AWS_ENDPOINT_URL=http://127.0.0.1:7480 AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... \
        python benchmarks/storage.py --local data --s3 s3://bucket/data

Both places have the tables of `make ml-1m` and the run of conf/gru4rec_ce_ml_1m.yaml. Where the S3
server runs on this machine, `--server` names its processes, whose CPU seconds are then shown.
`--delay` adds milliseconds to each request.
"""

import argparse
import os
import statistics
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import psutil
from _delay import DelayingProxy
from _measure import Figures, report

REPO = Path(__file__).parents[1]
JOBS = (("match_dataset", "match_dataset_neg10_ml_1m"), ("recommend", "recommend_ml_1m"))


def run(job: str, conf: str, root: str, spark: str | None, environment: dict[str, str]) -> float:
    """Seconds of a job, from the start of its process to the end."""
    command = [sys.executable, f"jobs/{job}.py", "--conf", f"conf/{conf}.yaml"]
    command += ["--set", f"spark={spark}"] if spark else []
    start = perf_counter()
    subprocess.run(
        command,
        cwd=REPO,
        env={**os.environ, **environment, "MY_S3_BUCKET": root},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return perf_counter() - start


def server_seconds(names: list[str]) -> float:
    """CPU seconds, so far, of the processes with these names."""
    total = 0.0
    for process in psutil.process_iter(["name"]):
        if process.info["name"] in names:
            total += sum(process.cpu_times()[:2])
    return total


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--local", required=True, help="the data root on the local disk")
    parser.add_argument("--s3", required=True, help="the data root on S3")
    parser.add_argument("--delay", type=float, default=0, help="milliseconds added to a request")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--spark", help="the `spark:` block, as JSON, such as the jars of S3A")
    parser.add_argument("--server", nargs="*", default=[], help="names of the server's processes")
    options = parser.parse_args()
    environment, proxy = {}, None
    if options.delay:
        server = urlsplit(os.environ["AWS_ENDPOINT_URL"])
        proxy = DelayingProxy(server.hostname or "", server.port or 80, options.delay / 1000)
    rows: dict[str, Figures] = {}
    with proxy.running() if proxy else nullcontext():
        if proxy:
            environment = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
        for job, conf in JOBS:
            local, s3, cpu, requests = [], [], [], []
            for _ in range(options.repeats):
                local.append(run(job, conf, options.local, options.spark, environment))
                cpu_start, sent = server_seconds(options.server), proxy.requests if proxy else 0
                s3.append(run(job, conf, options.s3, options.spark, environment))
                cpu.append(server_seconds(options.server) - cpu_start)
                requests.append(proxy.requests - sent if proxy else 0)
            row: Figures = {"local_seconds": statistics.median(local)}
            row["s3_seconds"] = statistics.median(s3)
            row["ratio"] = row["s3_seconds"] / row["local_seconds"]
            if options.server:
                row["server_cpu_seconds"] = statistics.median(cpu)
            if proxy:
                row["requests"] = statistics.median(requests)
            rows[conf] = row
    report(rows)


if __name__ == "__main__":
    main()
