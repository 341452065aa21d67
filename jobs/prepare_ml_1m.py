"""Turn the raw files of MovieLens-1M (or 100K) into the tables events, users and items.

The raw files are fetched by `python -m sparkrec.datasets.download ml-1m DIR`.
"""

from pyspark.sql import SparkSession

from sparkrec.datasets.movielens import PrepareMovieLens, prepare_movielens
from sparkrec.pipeline.cli import run_job


def main(config: PrepareMovieLens, spark: SparkSession) -> None:
    """Prepare the tables and print what was written."""
    print(prepare_movielens(spark, config))


if __name__ == "__main__":
    run_job(main, PrepareMovieLens)
