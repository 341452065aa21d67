"""Turn your own interaction logs (parquet, CSV or a Spark table) into events, users and items.

docs/your-data.md walks through an example.
"""

from pyspark.sql import SparkSession

from sparkrec.datasets.tables import PrepareOwn, prepare_own
from sparkrec.pipeline.cli import run_job


def main(config: PrepareOwn, spark: SparkSession) -> None:
    """Prepare the tables and print what was written."""
    print(prepare_own(spark, config))


if __name__ == "__main__":
    run_job(main, PrepareOwn)
