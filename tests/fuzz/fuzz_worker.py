"""Runs jobs of a source tree one after the other in one session, for `fuzz_child.Child`.

`python fuzz_worker.py TREE LOG`: each line of the input is a JSON list, the job's name and its
arguments; each line of the output is the exit code. What the job prints is appended to LOG.
"""

import json
import os
import runpy
import sys
import traceback
from pathlib import Path


def main(tree: str, log: str) -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    printed = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    sys.path.insert(0, tree)
    from sparkrec.session import open_session

    # As in the tests' own session: jobs of a few rows take longer to compile than to run.
    spark = open_session(
        "fuzz",
        {
            "spark.master": "local[2]",
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "2",
            "spark.default.parallelism": "2",
            "spark.sql.codegen.wholeStage": "false",
            "spark.python.daemon.module": "warm_daemon",
            "spark.executorEnv.PYTHONPATH": f"{Path(__file__).parents[1] / 'helpers'}:{tree}",
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC "
            "-XX:ReservedCodeCacheSize=256m",
        },
    )
    spark.stop = lambda: None
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        job, *arguments = json.loads(line)
        script = str(Path(tree) / "jobs" / f"{job}.py")
        sys.argv = [script, *arguments]
        try:
            runpy.run_path(script, run_name="__main__")
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        print(code, file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
