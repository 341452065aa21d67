"""Checkpoints: everything comes back, the last two are kept, another config is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from sparkrec.errors import TrainingError
from sparkrec.nn.embedding import PooledEmbedding
from sparkrec.training import checkpoint
from sparkrec.training.checkpoint import Progress
from sparkrec.training.settings import Training
from sparkrec.training.step.optimizers import RowAdam, make_optimizers

IDENTITY = {"model": "dssm", "hidden": (8, 4), "learning_rate": 0.1, "early_stopping": None}


class Small(nn.Module):
    """A sparse table and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = PooledEmbedding(9, 4, [(0, 2)])
        self.dense = nn.Linear(4, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.dense(self.table(rows))


def step(network: Small, optimizers: list[torch.optim.Optimizer], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 9, (6, 2), generator=generator)
    for optimizer in optimizers:
        optimizer.zero_grad()
    network(rows).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()


def trained(steps: int = 3) -> tuple[Small, list[torch.optim.Optimizer]]:
    torch.manual_seed(11)
    network = Small()
    optimizers = make_optimizers(network, Training(learning_rate=0.05, weight_decay=0.01))
    for number in range(steps):
        step(network, optimizers, number)
    return network, optimizers


def save(folder: Path, epoch: int = 1, phase: str = "fit", **more: Any) -> str:
    network, optimizers = trained()
    progress = Progress(phase=phase, epoch=epoch, **more)
    return checkpoint.save(str(folder), progress, IDENTITY, network.state_dict(), optimizers, None)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def load(folder: Path, identity: Mapping[str, Any] = IDENTITY) -> checkpoint.Checkpoint:
    found = checkpoint.latest(str(folder), identity)
    assert found is not None
    return found


def test_tables_get_adam_by_rows_and_the_rest_adamw() -> None:
    network, optimizers = trained(0)
    assert [type(optimizer) for optimizer in optimizers] == [
        RowAdam,
        torch.optim.AdamW,
    ]
    owned = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(map(id, network.parameters()))
    assert optimizers[1].param_groups[0]["weight_decay"] == 0.01


def test_everything_comes_back(tmp_path: Path) -> None:
    network, optimizers = trained()
    best = {name: value + 1 for name, value in network.state_dict().items()}
    history = [{"phase": "fit", "epoch": 1, "loss": 0.5, "recall@20": 0.25}]
    progress = Progress("refit", 2, 3, 0.25, 4, history)
    checkpoint.save(str(tmp_path), progress, IDENTITY, network.state_dict(), optimizers, best)
    expected_random = torch.rand(4)

    found = load(tmp_path)
    assert found.progress == progress
    assert found.weights.keys() == network.state_dict().keys()
    assert all(torch.equal(found.weights[k], v) for k, v in network.state_dict().items())
    assert found.best is not None
    assert all(torch.equal(found.best[k], v) for k, v in best.items())

    again, fresh = trained(0)
    again.load_state_dict(found.weights)
    found.restore(fresh)
    assert torch.equal(torch.rand(4), expected_random)
    for old, new in zip(optimizers, fresh, strict=True):
        before, after = old.state_dict(), new.state_dict()
        assert before["param_groups"] == after["param_groups"]
        assert before["state"].keys() == after["state"].keys()
        for index, state in before["state"].items():
            assert state.keys() == after["state"][index].keys()
            for name, value in state.items():
                restored = after["state"][index][name]
                assert type(restored) is type(value)
                assert torch.equal(torch.as_tensor(restored), torch.as_tensor(value)), name


def test_restored_optimizers_take_the_same_steps(tmp_path: Path) -> None:
    network, optimizers = trained()
    checkpoint.save(str(tmp_path), Progress(), IDENTITY, network.state_dict(), optimizers, None)
    found = load(tmp_path)
    again, fresh = trained(0)
    again.load_state_dict(found.weights)
    found.restore(fresh)
    for number in (7, 8):
        step(network, optimizers, number)
        step(again, fresh, number)
    for (name, old), new in zip(network.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(old, new), name


def test_optimizers_that_never_stepped(tmp_path: Path) -> None:
    network, optimizers = trained(0)
    checkpoint.save(str(tmp_path), Progress(), IDENTITY, network.state_dict(), optimizers, None)
    load(tmp_path).restore(trained(0)[1])


def test_the_last_two_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for epoch in (1, 2, 9, 10, 11):
        save(tmp_path, epoch)
    assert names(tmp_path) == ["fit-epoch-0010", "fit-epoch-0011"]
    assert load(tmp_path).progress.epoch == 11
    save(tmp_path, 1, "refit")
    assert names(tmp_path) == ["fit-epoch-0011", "refit-epoch-0001"]
    assert load(tmp_path).progress.phase == "refit"


def test_an_unfinished_checkpoint_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 1)
    killed = Path(save(tmp_path, 2))
    (killed / "_sparkrec.json").unlink()
    assert load(tmp_path).progress.epoch == 1


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    file = Path(save(tmp_path, 2)) / name
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        file.unlink()
    assert load(tmp_path).progress.epoch == 1
    assert "going back to the checkpoint before" in caplog.text and name in caplog.text
    (tmp_path / "fit-epoch-0001" / "state.json").unlink()
    assert checkpoint.latest(str(tmp_path), IDENTITY) is None


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.latest(str(tmp_path), IDENTITY) is None
    assert checkpoint.latest(str(tmp_path / "missing"), IDENTITY) is None


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 0.2}, {"hidden": (8, 5)}, {"early_stopping": {"patience": 1}}, {"new": 1}],
)
def test_another_config_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    save(tmp_path)
    key = next(iter(change))
    with pytest.raises(TrainingError, match=rf"was made with {key} = .*resume: false"):
        checkpoint.latest(str(tmp_path), {**IDENTITY, **change})


def test_a_tuple_is_the_list_that_json_makes_of_it(tmp_path: Path) -> None:
    save(tmp_path)
    assert load(tmp_path, {**IDENTITY, "hidden": [8, 4]}).progress.epoch == 1


def test_discard_removes_every_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2, "refit")
    (tmp_path / "final.safetensors").touch()
    checkpoint.discard(str(tmp_path))
    assert names(tmp_path) == ["final.safetensors"]
    checkpoint.discard(str(tmp_path / "missing"))


def test_no_pickle(tmp_path: Path) -> None:
    folder = Path(save(tmp_path))
    assert names(folder) == [
        "_sparkrec.json",
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]
    for path in folder.iterdir():
        content = path.read_bytes()
        if path.suffix == ".json":
            json.loads(content)
        else:
            assert safetensors.torch.load(content)


def test_tensors_that_are_views_survive(tmp_path: Path) -> None:
    path = str(tmp_path / "x.safetensors")
    matrix = torch.arange(12).reshape(3, 4)
    checkpoint.write_tensors(path, {"turned": matrix.T, "scalar": torch.tensor(2.5)})
    again = checkpoint.read_tensors(path)
    assert torch.equal(again["turned"], matrix.T)
    assert again["scalar"].item() == 2.5
