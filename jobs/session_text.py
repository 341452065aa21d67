"""Turn sessions as lines of text (PaddleRec's form) into events, or events into such lines."""

from pyspark.sql import SparkSession

from sparkrec.datasets.session_text import SessionText, convert
from sparkrec.pipeline.cli import run_job


def main(config: SessionText, spark: SparkSession) -> None:
    """Convert, and print what was written."""
    print(convert(spark, config))


if __name__ == "__main__":
    run_job(main, SessionText)
