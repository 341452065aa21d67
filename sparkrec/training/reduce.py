"""Averages dense and sparse gradients over ranks, with gloo and with nccl.

Dense gradients are sent as one flat tensor. Sparse gradients (of embedding tables) are gathered as
(row, value) pairs, padded to the length of the longest rank, because nccl has no sparse all-reduce
and that of gloo fails if a rank has no row. The cost depends on the rows of the batch and not on
the size of the table.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

_NONE, _DENSE, _SPARSE = range(3)


def same_start(module: nn.Module) -> None:
    """Give every rank the first rank's weights."""
    for value in module.state_dict().values():
        dist.broadcast(value, src=0)


def average_gradients(parameters: Iterable[nn.Parameter], world: int) -> None:
    """Replace every gradient by its mean over the ranks.

    Every rank must call it with the same parameters, in the same order. A missing gradient on a
    rank counts as zeros. A parameter without a gradient on all ranks stays without one.
    """
    parameters = list(parameters)
    kinds = torch.tensor([_kind(p.grad) for p in parameters], device=parameters[0].device)
    dist.all_reduce(kinds, dist.ReduceOp.MAX)
    dense = []
    for parameter, kind in zip(parameters, kinds.tolist(), strict=True):
        if kind == _NONE:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
            if kind == _SPARSE:
                parameter.grad = parameter.grad.to_sparse(1)
        if kind == _SPARSE:
            parameter.grad = _mean_sparse(parameter.grad, world)
        else:
            dense.append(parameter.grad)
    if not dense:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in dense])
    dist.all_reduce(flat)
    flat /= world
    for gradient, mean in zip(dense, flat.split([g.numel() for g in dense]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _kind(gradient: Tensor | None) -> int:
    if gradient is None:
        return _NONE
    return _SPARSE if gradient.is_sparse else _DENSE


def _mean_sparse(gradient: Tensor, world: int) -> Tensor:
    gradient = gradient.coalesce()
    rows, values = gradient.indices()[0], gradient.values()
    counts = torch.zeros(world, dtype=torch.long, device=values.device)
    counts[dist.get_rank()] = len(rows)
    dist.all_reduce(counts)
    longest = int(counts.max())
    padded_rows = rows.new_zeros(longest)
    padded_values = values.new_zeros(longest, values.shape[1])
    padded_rows[: len(rows)], padded_values[: len(rows)] = rows, values
    every_rows = [torch.empty_like(padded_rows) for _ in range(world)]
    every_values = [torch.empty_like(padded_values) for _ in range(world)]
    dist.all_gather(every_rows, padded_rows)
    dist.all_gather(every_values, padded_values)
    lengths = counts.tolist()
    all_rows = torch.cat([r[:n] for r, n in zip(every_rows, lengths, strict=True)])
    all_values = torch.cat([v[:n] for v, n in zip(every_values, lengths, strict=True)])
    shape = gradient.shape
    return torch.sparse_coo_tensor(all_rows[None], all_values / world, shape).coalesce()
