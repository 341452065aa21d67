"""Session-parallel training of recurrent networks, with gradients computed without autograd.

A step is so small (32 sessions, 100 dimensions) that the overhead of autograd would take most of
its time. Autograd is only used for losses other than the softmax.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sparkrec.models.sequence import RecurrentNetwork
from sparkrec.nn import gru_cell
from sparkrec.nn.items import ItemTable
from sparkrec.training.step.objective import Objective, Scored


class SessionParallelLoss(Objective):
    """Trains on session-parallel batches (see `session_batches`).

    States are carried from one batch to the next, but gradients do not flow through them. A batch
    has `input`, `target`, `starts` and `kept`, each [open lanes].
    """

    network: RecurrentNetwork
    _states: list[Tensor] | None = None
    _widest = 0

    def begin_epoch(self) -> None:
        super().begin_epoch()
        self._states = None

    @torch.no_grad()
    def learn(self, batch: Mapping[str, Tensor]) -> Scored:
        """As `Objective.learn`, starting from the states of the previous step."""
        network = self.network
        read, found = cast(ItemTable, network.items), cast(ItemTable, network.found_items)
        layers = cast(Sequence[nn.GRU], network.layers)
        states = self._states_before(batch)
        below = read.weight.index_select(0, batch["input"])[:, : layers[0].input_size]
        below, input_mask = _dropped(below, network.dropout_embedding)
        steps, masks, after = [], [], []
        for layer, state in zip(layers, states, strict=True):
            steps.append(gru_cell.forward(layer, below, state))
            below, mask = _dropped(steps[-1].after, network.dropout_hidden)
            masks.append(mask)
            after.append(below)  # as in the authors' code, the state after dropout is carried on
        self._states = after
        self.positives += len(below)

        candidates = self.candidates(batch["target"])
        vectors = found.weight.index_select(0, candidates)
        scored, gradient, to_vectors = self.contrast_gradients(
            network.with_one(below), vectors, batch["target"], candidates
        )

        gradient = gradient[:, : layers[-1].hidden_size]
        self._widest = max(self._widest, len(below))
        if len(below) < self._widest:
            # The last sessions of an epoch have the weight that they would have in a full batch.
            # Otherwise the few events of a narrow batch would have too much weight.
            share = len(below) / self._widest
            gradient, to_vectors = gradient * share, to_vectors * share
        for layer, step, mask in zip(
            reversed(layers), reversed(steps), reversed(masks), strict=True
        ):
            gradient = gru_cell.backward(layer, step, _times(gradient, mask))
        self._leave_in_tables(candidates, to_vectors, batch["input"], _times(gradient, input_mask))
        return scored

    def _states_before(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """The states of the lanes that are still open, zeros where a session begins."""
        starts = batch["starts"]
        if self._states is None:
            widths = [layer.hidden_size for layer in cast(Sequence[nn.GRU], self.network.layers)]
            return [self.item_features.new_zeros(len(starts), width).float() for width in widths]
        going_on = ~starts[:, None]
        if len(starts) == len(self._states[0]):  # no lane has closed
            return [state * going_on for state in self._states]
        return [state[batch["kept"]] * going_on for state in self._states]

    def _leave_in_tables(
        self, candidates: Tensor, to_vectors: Tensor, inputs: Tensor, to_inputs: Tensor
    ) -> None:
        found = cast(ItemTable, self.network.found_items)
        read = cast(ItemTable, self.network.items)
        if found is not read:
            _leave(found, candidates, to_vectors)
            _leave(read, inputs, to_inputs)
            return
        if to_inputs.shape[1] < to_vectors.shape[1]:
            to_inputs = torch.nn.functional.pad(to_inputs, (0, 1))
        rows = torch.cat([candidates, inputs])
        _leave(found, rows, torch.cat([to_vectors, to_inputs]))


def _leave(table: ItemTable, rows: Tensor, gradients: Tensor) -> None:
    weight = table.weight
    if table.sparse:
        weight.grad = torch.sparse_coo_tensor(
            rows[None], gradients, weight.shape, check_invariants=False
        )
    else:
        weight.grad = torch.zeros_like(weight).index_add_(0, rows, gradients)


def _dropped(values: Tensor, share: float) -> tuple[Tensor, Tensor | None]:
    """Apply dropout; returns the values and the mask with which they were multiplied."""
    if not share:
        return values, None
    mask = torch.empty_like(values).bernoulli_(1 - share).div_(1 - share)
    return values * mask, mask


def _times(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values * mask
