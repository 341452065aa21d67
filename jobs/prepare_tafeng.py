"""Turn the grocery baskets of Ta-Feng into the table events."""

from pyspark.sql import SparkSession

from sparkrec.datasets.tafeng import PrepareTaFeng, prepare_tafeng
from sparkrec.pipeline.cli import run_job


def main(config: PrepareTaFeng, spark: SparkSession) -> None:
    """Prepare the table and print what was written."""
    print(prepare_tafeng(spark, config))


if __name__ == "__main__":
    run_job(main, PrepareTaFeng)
