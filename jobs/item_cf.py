"""ItemCF: count which items go together, write the I2I table, recommend, and evaluate."""

from pyspark.sql import SparkSession

from sparkrec.baselines.item_to_item.item_cf import ItemCF, ItemCFConfig
from sparkrec.pipeline.cli import run_job
from sparkrec.pipeline.counted import CountJob, item_to_item_model
from sparkrec.pipeline.inputs import read_inputs, retriever_params
from sparkrec.pipeline.run import Run


def main(job: CountJob[ItemCFConfig], spark: SparkSession) -> None:
    """Run the whole path, and print the table of metrics."""
    tables = read_inputs(spark, job)
    run = Run(job, tables)
    model = item_to_item_model(run, ItemCF(job.model, **retriever_params(job)))
    run.evaluate(model, "item_cf")
    run.evaluate_yardsticks()
    print(run.finish())


if __name__ == "__main__":
    run_job(main, CountJob[ItemCFConfig])
