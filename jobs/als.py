"""ALS: factorise train with Spark MLlib, recommend by user vector or by history, and evaluate."""

from pyspark.sql import SparkSession

from sparkrec.baselines.als.als import ALS, ALSConfig
from sparkrec.pipeline.cli import run_job
from sparkrec.pipeline.counted import CountJob
from sparkrec.pipeline.inputs import read_inputs, retriever_params
from sparkrec.pipeline.run import Run


def main(job: CountJob[ALSConfig], spark: SparkSession) -> None:
    """Run the whole path, and print the table of metrics."""
    tables = read_inputs(spark, job)
    run = Run(job, tables)
    estimator = ALS(job.model, work_path=job.output_path, seed=job.seed, **retriever_params(job))
    model = run.model(estimator)
    # A loaded model is asked as the conf says, not as it was saved.
    asked = job.model
    model.set_params(fold_in=asked.fold_in, decay=asked.decay, max_history=asked.max_history)
    run.evaluate(model, "als")
    run.evaluate_yardsticks()
    print(run.finish())


if __name__ == "__main__":
    run_job(main, CountJob[ALSConfig])
