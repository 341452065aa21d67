"""ALS: factorise train with Spark MLlib, recommend by user vector or by history, and evaluate."""

from sparkrec.pipeline.train import run_training_job

if __name__ == "__main__":
    run_training_job("als", __doc__)
