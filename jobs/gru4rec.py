"""Train GRU4Rec, index the items, recommend for every test row, and evaluate beside a yardstick."""

from pyspark.sql import SparkSession

from sparkrec.models.gru4rec import GRU4RecConfig
from sparkrec.pipeline.cli import run_job
from sparkrec.pipeline.inputs import read_inputs
from sparkrec.pipeline.neural import TwoTowerJob, two_tower_estimator
from sparkrec.pipeline.run import Run


def main(job: TwoTowerJob[GRU4RecConfig], spark: SparkSession) -> None:
    """Run the whole path, and print the table of metrics."""
    tables = read_inputs(spark, job)
    estimator = two_tower_estimator(job, tables)
    run = Run(job, tables, keep=job.training.resume)
    run.evaluate(run.model(estimator), "gru4rec")
    run.evaluate_yardsticks()
    print(run.finish())


if __name__ == "__main__":
    run_job(main, TwoTowerJob[GRU4RecConfig])
