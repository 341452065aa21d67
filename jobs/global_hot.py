"""Global Hot, the most frequent items for everyone: the yardstick, through the same evaluator."""

from sparkrec.pipeline.train import run_training_job

if __name__ == "__main__":
    run_training_job("global_hot", __doc__)
