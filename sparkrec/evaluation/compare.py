"""Is one model better than another? A paired bootstrap of the difference of two evaluations.

Both are evaluated on the same queries and resampled with the same seed, so a replicate has the same
users (under `cold_items` also the same items) in both. The differences of the replicates are then
those of a bootstrap of the paired differences (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, chapter 8). The interval is narrower than the two intervals of the models suggest,
because an easy user is easy for both. If it does not contain 0, the models differ.

Models that were trained with several seeds are averaged before they are compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparkrec.errors import DataError
from sparkrec.evaluation.bootstrap import interval
from sparkrec.evaluation.metrics import Evaluation, rounded


@dataclass(frozen=True)
class Difference:
    """A metric of two models.

    Attributes
    ----------
    first, second
        Its value, the mean over the runs of each model.
    difference
        `first` less `second`.
    interval95
        The 95% interval of the difference, (low, high).
    """

    first: float
    second: float
    difference: float
    interval95: tuple[float, float]


def compare(first: Sequence[Evaluation], second: Sequence[Evaluation]) -> dict[str, Difference]:
    """Compare two models by the evaluations of their runs, at least one of each.

    Returns
    -------
    dict
        By the name of the metric, those that all evaluations have replicates of. A metric of a
        group is named `recall@20, warm`.

    Raises
    ------
    DataError
        The evaluations are of different queries, or have different numbers of replicates.
    """
    found = _differences(first, second)
    groups = [set(evaluation.groups) for evaluation in (*first, *second)]
    for group in first[0].groups:
        if all(group in names for names in groups):
            parts = [[run.groups[group] for run in runs] for runs in (first, second)]
            found |= {f"{name}, {group}": one for name, one in _differences(*parts).items()}
    return found


def _differences(
    first: Sequence[Evaluation], second: Sequence[Evaluation]
) -> dict[str, Difference]:
    runs = [*first, *second]
    counts = sorted({run.n for run in runs})
    if len(counts) > 1:
        raise DataError(f"the runs were evaluated on different queries, {counts} of them")
    names = [name for name in runs[0].replicates if all(name in run.replicates for run in runs)]
    found = {}
    for name in names:
        lengths = sorted({len(run.replicates[name]) for run in runs})
        if len(lengths) > 1:
            raise DataError(f"the runs have different numbers of bootstrap replicates, {lengths}")
        ours, theirs = (
            np.mean([run.replicates[name] for run in side], axis=0) for side in (first, second)
        )
        values = [float(np.mean([run.metrics[name] for run in side])) for side in (first, second)]
        low, high = interval(ours - theirs)
        found[name] = Difference(
            rounded(values[0]),
            rounded(values[1]),
            rounded(values[0] - values[1]),
            (rounded(low), rounded(high)),
        )
    return found
