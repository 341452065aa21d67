"""Chooses the objective of a network."""

import logging

import torch
from torch import Tensor, nn

from sparkrec.models.sequence import RecurrentNetwork, SequenceNetwork
from sparkrec.training.settings import Loss, Training
from sparkrec.training.step.objective import Objective, SequenceLoss, TwoTowerLoss
from sparkrec.training.step.session_parallel import SessionParallelLoss

log = logging.getLogger("sparkrec.training")


def objective(
    network: nn.Module,
    loss: Loss,
    item_features: Tensor,
    item_counts: Tensor | None,
    training: Training,
) -> Objective:
    """Make the objective for a network."""
    kind: type[Objective] = TwoTowerLoss
    if isinstance(network, SequenceNetwork):
        kind = SequenceLoss
        if training.session_parallel:
            assert isinstance(network, RecurrentNetwork)
            kind = SessionParallelLoss
    half = training.half_precision and multiplies_bfloat16(item_features.device)
    if training.half_precision and not half:
        log.info("half_precision: this processor cannot multiply in bfloat16, so float32 is used")
    return kind(network, loss, item_features, item_counts, half)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware, so that it is faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    having = torch.cpu.get_capabilities()
    return bool(having.get("avx512_bf16") or having.get("amx_bf16"))
