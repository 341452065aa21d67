"""Mean gradients of two ranks."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from sparkrec.training.reduce import average_gradients


def rank_gradients(rank: int) -> list[Tensor | None]:
    """Of a dense weight, a table, a table that one rank does not read, a weight that one rank does
    not need, and one that none has."""
    rows = torch.tensor([[0, 2, 2], [3, 2, 0]][rank])
    table = torch.sparse_coo_tensor(
        rows[None], torch.arange(6.0).view(3, 2) + 10 * rank, (4, 2), check_invariants=False
    )
    alone = rank == 0
    return [
        torch.full((3,), 1.0 + rank),
        table,
        table if alone else None,
        torch.ones(2) if alone else None,
        None,
    ]


def average(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    gradients = rank_gradients(rank)
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((3,), (4, 2), (4, 2), (2,), (5,))]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    average_gradients(parameters, 2)
    kinds = [p.grad is not None and p.grad.is_sparse for p in parameters]
    means = [None if p.grad is None else p.grad.to_dense() for p in parameters]
    torch.save({"means": means, "kinds": kinds}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_every_rank_gets_the_mean(tmp_path: Path) -> None:
    mp.spawn(average, (str(tmp_path),), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    ranks = [rank_gradients(0), rank_gradients(1)]
    for answer in found:
        assert answer["kinds"] == [False, True, True, False, False]
        for place, mean in enumerate(answer["means"]):
            given = [one[place].to_dense() for one in ranks if one[place] is not None]
            if not given:
                assert mean is None
            else:
                assert torch.allclose(mean, torch.stack(given).sum(dim=0) / 2)
