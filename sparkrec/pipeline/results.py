"""Run every conf that has no current result, and write what all confs gave.

A result is current if its run folder's `metrics.json` was made from the same config, the same
code (all that its job imports) and the same data. ``python -m sparkrec.pipeline.results`` looks
at every conf of a retrieval job whose tables have been prepared; `make results` calls it.

Rows of `docs/results.csv` are replaced for these confs; those of other confs stay, with the commit
that they were made by. A row of a conf that is gone is deleted by hand. The tables of
`docs/results.md` and of the README are made of the file.
"""

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkrec.config import load as configs
from sparkrec.errors import ConfigError, SparkrecError, StorageError
from sparkrec.io import storage
from sparkrec.io.outputs import is_published, open_output
from sparkrec.io.tables import fingerprint
from sparkrec.models.registry import BUILT_IN, find_class
from sparkrec.pipeline.code import code_fingerprint
from sparkrec.pipeline.inputs import RetrievalJob
from sparkrec.pipeline.result_rows import merge, read_rows, rows_of, write_rows
from sparkrec.pipeline.result_tables import format_headlines, format_tables
from sparkrec.pipeline.train import ANY, load_training_job

log = logging.getLogger("sparkrec.results")

_BEGIN, _END = "<!-- results: make results -->", "<!-- end of results -->"


def load_job(conf: Path, jobs: Path) -> tuple[RetrievalJob | None, Path]:
    """The config of a conf that trains a model, None for any other; and its job's script.

    Raises
    ------
    ConfigError
        The conf names no job, or one that has no script.
    """
    lines = conf.read_text(encoding="utf-8").splitlines()
    name = next((line[4:].split("#")[0].strip() for line in lines if line.startswith("job:")), "")
    if not name:
        raise ConfigError(f"{conf}: the key `job:`, which names the script in {jobs}, is missing")
    script = jobs / f"{name}.py"
    if not script.is_file():
        raise ConfigError(f"{conf}: job `{name}` has no script {script}")
    trains = name in BUILT_IN or name == ANY
    return load_training_job(str(conf), name) if trains else None, script


def current_metrics(job: RetrievalJob, script: Path) -> dict[str, Any] | None:
    """The metrics of a job's run folder, if they are current."""
    try:
        metrics = storage.read_json(open_output(job.output_path).path("metrics.json"))
    except StorageError:
        return None
    same = (
        metrics["config"] == json.loads(json.dumps(configs.to_json(job)))
        and metrics["versions"].get("code") == code_fingerprint(script, find_class(job.model_class))
        and metrics["data"] == fingerprint(job.tables.paths())
    )
    return metrics if same else None


def collect(confs: list[Path], jobs: Path, all_inputs: bool) -> dict[str, dict[str, Any]]:
    """The metrics of every retrieval conf, running those that are not current.

    Without `all_inputs`, confs are passed over that need a table which is not there.
    """
    found = {}
    for conf in confs:
        job, script = load_job(conf, jobs)
        if job is None:
            continue
        missing = [path for path in job.tables.paths().values() if not is_published(path)]
        if missing and not all_inputs:
            log.info("left out: %s, there is no %s", conf, missing[0])
            continue
        metrics = current_metrics(job, script)
        if metrics is None:
            log.info("running %s", conf)
            subprocess.run([sys.executable, str(script), "--conf", str(conf)], check=True)
            metrics = storage.read_json(open_output(job.output_path).path("metrics.json"))
        else:
            log.info("current: %s", conf)
        found[conf.stem] = metrics
    return found


def write_between_markers(page: Path, tables: str) -> None:
    """Put tables between a page's two markers."""
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise StorageError(f"{page} lacks the lines `{_BEGIN}` and `{_END}`")
    page.write_text(f"{head}{_BEGIN}\n{tables}\n{_END}{tail}", encoding="utf-8")


def write_results(found: Mapping[str, Mapping[str, Any]], readme: Path, docs: Path) -> None:
    """Bring the CSV file of results up to date, and make the tables of both pages of it.

    Parameters
    ----------
    found
        By conf name, the contents of the run's `metrics.json`.
    readme, docs
        The README, and the folder with `results.csv` and `results.md`.
    """
    new = [row for conf, run in found.items() for row in rows_of(conf, run)]
    rows = merge(read_rows(docs / "results.csv"), new)
    write_rows(docs / "results.csv", rows)
    write_between_markers(docs / "results.md", format_tables(rows))
    write_between_markers(readme, format_headlines(rows))


def main() -> None:
    """Command line: confs to look at, or all whose tables are there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("confs", nargs="*", type=Path, help="default: all whose tables are there")
    parser.add_argument("--jobs", type=Path, default=Path("jobs"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    named = bool(options.confs)
    try:
        confs = options.confs or sorted(Path("conf").glob("*.yaml"))
        found = collect(confs, options.jobs, named)
        write_results(found, options.readme, options.docs)
    except SparkrecError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {' '.join(map(str, error.cmd))} failed")


if __name__ == "__main__":
    main()
