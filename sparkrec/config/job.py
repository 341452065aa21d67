"""What the configs of all jobs have in common."""

from dataclasses import dataclass, field
from typing import Any

from sparkrec.bounds import Count, check_bounds
from sparkrec.config.load import FROM_LOADER


@dataclass(frozen=True, kw_only=True)
class Job:
    """Keys that every conf has.

    Attributes
    ----------
    job
        Name of the script: `dssm` for jobs/dssm.py.
    conf
        Name of the conf; no key, the loader sets it.
    spark
        Spark settings; the prefix `spark.` of a key can be left out.
    """

    job: str
    conf: str = field(default="", metadata={FROM_LOADER: True})
    spark: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OutputJob(Job):
    """Keys that every conf of a job with an output has.

    Attributes
    ----------
    output_path
        Folder of the output. A run of the job writes a new version, `<output_path>/<run id>`, and
        when that is complete the file `LATEST` names it.
    overwrite
        Whether the job may write to a path that holds something else: the output of another job or
        conf, or files that are not sparkrec's. Such files are neither removed nor read.
    keep_runs
        Number of finished versions to keep, with the new one.
    """

    output_path: str
    overwrite: bool = False
    keep_runs: Count = 2

    def __post_init__(self) -> None:
        check_bounds(self)

    @property
    def made_by(self) -> str:
        """What makes the output: the job and the name of its conf."""
        return f"{self.job} {self.conf}".strip()

    @property
    def target(self) -> dict[str, Any]:
        """Where to publish, and as whose output: arguments of `publish` and `write_table`."""
        return {
            "path": self.output_path,
            "made_by": self.made_by,
            "overwrite": self.overwrite,
            "keep": self.keep_runs,
        }
