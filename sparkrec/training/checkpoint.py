"""Checkpoints: the state of training in storage, as safetensors and JSON.

A checkpoint is a folder with a manifest, `<phase>-epoch-0003` with `weights.safetensors`,
`optimizer.safetensors` (all tensors of the optimizers' state, and Torch's random state),
`best.safetensors` (the weights of the best epoch so far, with early stopping) and `state.json` (all
numbers and texts). The last two checkpoints are kept; if the last one is damaged, the one before it
is used.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from sparkrec.errors import StorageError, TrainingError
from sparkrec.io import storage
from sparkrec.io.outputs import MANIFEST, check_hashes, open_output
from sparkrec.io.publishing import part
from sparkrec.io.tensors import read_tensors, write_tensors

log = logging.getLogger("sparkrec.training")

_KEPT = 2
_RANDOM = "random_state"


@dataclass
class Progress:
    """Progress of training, which is stored in `state.json`.

    Attributes
    ----------
    phase
        `fit`; `refit` after early stopping has chosen the number of epochs; `done` at the end.
    epoch
        Number of finished epochs of this phase.
    best_epoch, best_value
        The epoch with the best validation metric, and that metric.
    chosen_epochs
        Number of epochs of the refit, or 0 if it is not known yet.
    history
        One entry per epoch: loss, AUC, seconds, share of time spent waiting for data, metric.
    first_loss
        Loss of the first step of this phase.
    diverged
        Whether the training diverged, and the final weights are those of an earlier epoch.
    """

    phase: str = "fit"
    epoch: int = 0
    best_epoch: int = 0
    best_value: float = -1.0
    chosen_epochs: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    first_loss: float | None = None
    diverged: bool = False


def save(
    folder: str,
    progress: Progress,
    identity: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
    best: Mapping[str, Tensor] | None,
) -> str:
    """Write a checkpoint below `folder`, remove all but the last two, and return its path."""
    path = storage.join(folder, f"{progress.phase}-epoch-{progress.epoch:04d}")
    tensors: dict[str, Tensor] = {_RANDOM: torch.get_rng_state()}
    scalars: dict[str, Any] = {}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                key = f"{number}.{index}.{name}"
                if isinstance(value, Tensor):
                    tensors[key] = value
                else:
                    scalars[key] = value
    state_json = {"progress": asdict(progress), "identity": dict(identity), "optimizer": scalars}
    with part(path, hashes=True):
        write_tensors(storage.join(path, "weights.safetensors"), weights)
        write_tensors(storage.join(path, "optimizer.safetensors"), tensors)
        if best is not None:
            write_tensors(storage.join(path, "best.safetensors"), best)
        storage.write_json(storage.join(path, "state.json"), state_json)
    for old in _checkpoints(folder)[:-_KEPT]:
        storage.remove(storage.join(folder, old))
    return path


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read back."""

    progress: Progress
    weights: dict[str, Tensor]
    best: dict[str, Tensor] | None
    optimizer: dict[str, Tensor]
    scalars: dict[str, Any]

    def restore(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Restore the state of the optimizers and Torch's random state."""
        for number, optimizer in enumerate(optimizers):
            states: dict[int, dict[str, Any]] = {}
            for key, value in {**self.optimizer, **self.scalars}.items():
                owner, _, rest = key.partition(".")
                if owner == str(number):
                    index, _, name = rest.partition(".")
                    states.setdefault(int(index), {})[name] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": states, "param_groups": groups})
        torch.set_rng_state(self.optimizer[_RANDOM])


def latest(folder: str, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The newest checkpoint below `folder`, or None.

    Raises
    ------
    TrainingError
        It belongs to another config or to other data.
    """
    for name in reversed(_checkpoints(folder)):
        path = storage.join(folder, name)
        try:
            check_hashes(open_output(path))
        except StorageError as error:
            log.warning("resume: going back to the checkpoint before %s: %s", path, error)
            continue
        return _read(path, identity)
    return None


def _read(path: str, identity: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint, after a look whether it belongs to this run."""
    state = storage.read_json(storage.join(path, "state.json"))
    for key, value in json.loads(json.dumps(dict(identity))).items():
        before = state["identity"].get(key)
        if before != value:
            raise TrainingError(
                f"resume: checkpoint {path} was made with {key} = {before}, but this run has "
                f"{value}; undo the change, or train anew with resume: false"
            )
    has_best = storage.exists(storage.join(path, "best.safetensors"))
    return Checkpoint(
        progress=Progress(**state["progress"]),
        weights=read_tensors(storage.join(path, "weights.safetensors")),
        best=read_tensors(storage.join(path, "best.safetensors")) if has_best else None,
        optimizer=read_tensors(storage.join(path, "optimizer.safetensors")),
        scalars=state["optimizer"],
    )


def discard(folder: str) -> None:
    """Remove all checkpoints, so that a new run cannot resume from those of an earlier run."""
    for name in _checkpoints(folder):
        storage.remove(storage.join(folder, name))


def _checkpoints(folder: str) -> list[str]:
    """Names of published checkpoints, oldest first (`fit` sorts before `refit`)."""
    names = []
    for file in storage.list_files(folder):
        name, _, rest = file.name.partition("/")
        if rest == MANIFEST and "-epoch-" in name:
            names.append(name)
    return sorted(names)
