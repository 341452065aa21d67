"""Tells a training that has diverged from one that works.

An epoch is good if its loss, the weights and the vectors of the items are finite, if no weight is
above a million, if the vectors are not all the same, and if it is above chance:

- with a validation split of at least 100 rows, among more items than the metric's k, if the metric
  is more than two standard errors better than that of a random order of the items
  (`Validation.chance`);
- otherwise, if the mean loss of the epoch is at most twice the loss of the first step, plus 1.
  Without enough validation rows the loss is all there is, and it hardly shows that scores are of no
  use: scores of cosines are bounded, and so are their losses.

A training without a good epoch fails. One that was good and then diverges ends with its best epoch,
and its fit report says `diverged: true`.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sparkrec.item_index import FIRST_ITEM
from sparkrec.training.checkpoint import Progress
from sparkrec.training.validate import Validation

_CHUNK_ITEMS = 65_536
# Sums of such weights have lost most of the 24 bits of a float32.
_LARGEST_WEIGHT = 1e6


class DivergenceError(Exception):
    """The training diverged; the message says by what it is known. Every rank raises it alike."""


def check_loss(loss: float, step: int, device: str, world: int) -> None:
    """Raise DivergenceError unless the loss is finite on every rank."""
    bad = torch.tensor(0.0 if math.isfinite(loss) else 1.0, device=device)
    if world > 1:
        dist.all_reduce(bad)
    if bad:
        raise DivergenceError(f"the loss is not finite (it became {loss} by step {step})")


@torch.no_grad()
def check_network(network: nn.Module, item_features: Tensor) -> None:
    """Raise DivergenceError unless weights and item vectors are sound, and items differ.

    The last step of an epoch can ruin them although the loss of that epoch was finite. A step that
    is far too large can switch off all units of a layer for good: all items then have one vector.
    """
    for name, value in network.named_parameters():
        largest = float(value.abs().max()) if value.numel() else 0.0  # NaN if any weight is
        if not math.isfinite(largest):
            raise DivergenceError(f"the weights `{name}` are not finite")
        if largest > _LARGEST_WEIGHT:
            raise DivergenceError(f"the weights `{name}` have grown to {largest:.1e}")
    network.eval()
    differ, first = len(item_features) <= FIRST_ITEM + 1, None
    for features in item_features[FIRST_ITEM:].split(_CHUNK_ITEMS):
        vectors = network.encode_items(features)  # type: ignore[operator]
        if not torch.isfinite(vectors).all():
            raise DivergenceError("the vectors of some items are not finite")
        first = vectors[:1] if first is None else first
        differ = differ or bool((vectors != first).any())
    if not differ:
        raise DivergenceError("all items have the same vector")


def below_chance(
    report: Mapping[str, Any],
    progress: Progress,
    validation: Validation | None,
    device: str,
    world: int,
) -> str | None:
    """Why an epoch that ended with finite numbers is not above chance; None if it is.

    The metric is the same on every rank. A loss is that of the rank's own rows, so if the loss of
    one rank is too high, the epoch is below chance on all.
    """
    chance = validation.chance() if validation is not None else None
    if validation is not None and chance is not None:
        value = report[validation.metric]
        mean, error = chance
        if value > mean + 2 * error:
            return None
        return (
            f"{validation.metric} of the validation split is {value:.4g}, and a random order of "
            f"the items has {mean:.4g} with a standard error of {error:.2g}"
        )
    first = progress.first_loss if progress.first_loss is not None else report["loss"]
    bad = torch.tensor(float(report["loss"] > 2 * abs(first) + 1), device=device)
    if world > 1:
        dist.all_reduce(bad)
    if not bad:
        return None
    return f"the loss rose from {first:.4g} in the first step to {report['loss']:.4g}"
