"""Train SSR, index the items, recommend for every test row, and evaluate beside a yardstick."""

from sparkrec.pipeline.train import run_training_job

if __name__ == "__main__":
    run_training_job("ssr", __doc__)
