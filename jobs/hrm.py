"""Train HRM, index the items, recommend for every test row, and evaluate beside a yardstick."""

from pyspark.sql import SparkSession

from sparkrec.models.hrm import HRMConfig
from sparkrec.pipeline.cli import run_job
from sparkrec.pipeline.inputs import read_inputs
from sparkrec.pipeline.neural import TwoTowerJob, two_tower_estimator
from sparkrec.pipeline.run import Run


def main(job: TwoTowerJob[HRMConfig], spark: SparkSession) -> None:
    """Run the whole path, and print the table of metrics."""
    tables = read_inputs(spark, job)
    estimator = two_tower_estimator(job, tables)
    run = Run(job, tables, keep=job.training.resume)
    run.evaluate(run.model(estimator), "hrm")
    run.evaluate_yardsticks()
    print(run.finish())


if __name__ == "__main__":
    run_job(main, TwoTowerJob[HRMConfig])
