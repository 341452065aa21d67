"""Swing: compare the users of every item in pairs, write the I2I table, recommend, evaluate."""

from sparkrec.pipeline.train import run_training_job

if __name__ == "__main__":
    run_training_job("swing", __doc__)
