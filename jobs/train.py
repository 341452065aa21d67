"""Train the model that the conf's `model.class` names, recommend for every test row, and evaluate.

`class` is a short name (`dssm`, `item_cf`), an entry point of the group `sparkrec.models`, or
`module:Class`: a network of your own, or the Estimator of a count model.
"""

from sparkrec.pipeline.train import run_training_job

if __name__ == "__main__":
    run_training_job("train", __doc__)
