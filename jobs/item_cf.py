"""ItemCF: count which items go together, write the I2I table, recommend, and evaluate."""

from sparkrec.pipeline.train import run_training_job

if __name__ == "__main__":
    run_training_job("item_cf", __doc__)
