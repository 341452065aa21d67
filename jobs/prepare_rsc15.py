"""Turn the clicks of RecSys Challenge 2015 into train events and test queries."""

from pyspark.sql import SparkSession

from sparkrec.datasets.rsc15 import PrepareRSC15, prepare_rsc15
from sparkrec.pipeline.cli import run_job


def main(config: PrepareRSC15, spark: SparkSession) -> None:
    """Prepare the tables and print what was written."""
    print(prepare_rsc15(spark, config))


if __name__ == "__main__":
    run_job(main, PrepareRSC15)
