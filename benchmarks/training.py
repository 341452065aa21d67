"""Events a second that models train on, loop and loss alone, from memory.

Run by `make bench`. Sessions, windows and rows are made with a seed: sessions of RSC15's shape (2
to 20 clicks, 3,000 items), windows of MovieLens-1M's (200 events, 3,400 items), and its rows (6,040
users, histories of 10). Session-parallel steps have the sizes of GRU4Rec's authors' for RSC15;
windows, and the rows of two-tower models, those of `conf/*_ml_1m.yaml`. References: the
session-parallel step as one would write it in plain Torch (a GRUCell, sparse embeddings, samples
that are not made distinct, and autograd), and HRM's and SimpleX's with Torch's own SparseAdam.
"""

import argparse
from collections.abc import Iterable, Mapping
from time import perf_counter

import numpy as np
import torch
from _measure import report
from torch import Tensor, nn

from sparkrec.models.dssm import DSSM, DSSMConfig
from sparkrec.models.gru4rec import GRU4Rec, GRU4RecConfig
from sparkrec.models.hrm import HRM, HRMConfig
from sparkrec.models.sasrec import SASRec, SASRecConfig
from sparkrec.models.simplex import SimpleX, SimpleXConfig
from sparkrec.models.two_tower import TowerInput
from sparkrec.training.settings import Loss, Training
from sparkrec.training.step import optimizers
from sparkrec.training.step.objectives import objective
from sparkrec.training.step.optimizers import RowAdam, dense_parameters, make_optimizers
from sparkrec.training.step.session_batches import session_batches

WARM_UP = 20


def sequences(rows: int, longest: int, items: int, seed: int) -> Tensor:
    """Dense items [rows, longest], 0 behind the last; Zipf-distributed, lengths geometric."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, items + 1)
    drawn = rng.choice(items, (rows, longest), p=shares / shares.sum()) + 2
    lengths = np.minimum(rng.geometric(3 / longest, rows) + 1, longest)
    drawn[np.arange(longest) >= lengths[:, None]] = 0
    return torch.from_numpy(drawn)


def events_per_second(
    network: nn.Module,
    loss: Loss,
    training: Training,
    items: int,
    steps: Iterable[Mapping[str, Tensor]],
    counts: Tensor,
    sparse_adam: bool = False,
) -> float:
    """Train on the steps, the first few not measured."""
    features = torch.arange(items + 2)[:, None]
    learner = objective(network, loss, features, counts, training)
    learner.begin_epoch()
    learner.watched = False
    updates = make_optimizers(network, training)
    if sparse_adam:
        updates = [
            torch.optim.SparseAdam(update.param_groups) if isinstance(update, RowAdam) else update
            for update in updates
        ]
    dense = dense_parameters(network)
    start = perf_counter()
    for step, batch in enumerate(steps):
        if step == WARM_UP:
            learner.positives, start = 0, perf_counter()
        learner.learn(batch)
        if training.clip_norm is not None:
            nn.utils.clip_grad_norm_(dense, training.clip_norm)
        for optimizer in updates:
            optimizer.step()
    return learner.positives / (perf_counter() - start)


def session_parallel(dim: int, lanes: int, loss: Loss, rows: int) -> float:
    """GRU4Rec as its authors train it."""
    items = 3000
    sessions = sequences(rows, 20, items, seed=1)
    sides = TowerInput(2, (), 20, items + 2), TowerInput(2, (), 1, items + 2)
    config = GRU4RecConfig(20, (dim,), dim, dropout_hidden=0.4, sparse=True, initial_std=0.01)
    settings = {"optimizer": "adagrad", "learning_rate": 0.1, "momentum": 0.2}
    training = Training(batch_size=lanes, session_parallel=True, **settings)  # type: ignore[arg-type]
    steps = session_batches([{"items": sessions}], lanes)
    counts = torch.bincount(sessions.reshape(-1), minlength=items + 2)
    return events_per_second(GRU4Rec(config, *sides), loss, training, items, steps, counts)


def plain_torch(dim: int, lanes: int, loss: Loss, rows: int) -> float:
    """XE of `session_parallel` without anything made for it."""
    items = 3000
    sessions = sequences(rows, 20, items, seed=1)
    counts = torch.bincount(sessions.reshape(-1), minlength=items + 2).double()
    counts[:2] = 0
    weights = counts**loss.alpha
    popular, drawn = torch.log(counts + 1e-9).float(), torch.log(weights + 1e-9).float()
    embedding, bias = (nn.Embedding(items + 2, n, sparse=True) for n in (dim, 1))
    cell = nn.GRUCell(dim, dim)
    tables, layers = [embedding.weight, bias.weight], list(cell.parameters())
    states = {p: {n: torch.zeros_like(p) for n in ("squares", "velocity")} for p in tables + layers}
    group = {"lr": 0.1, "momentum": 0.2, "eps": 1e-6}
    state, events, start = torch.zeros(lanes, dim), 0, perf_counter()
    for step, batch in enumerate(session_batches([{"items": sessions}], lanes)):
        if step == WARM_UP:
            events, start = 0, perf_counter()
        targets, kept = batch["target"], state[batch["kept"]] * ~batch["starts"][:, None]
        state = nn.functional.dropout(cell(embedding(batch["input"]), kept), 0.4)
        samples = torch.multinomial(weights, loss.samples, replacement=True)
        every = torch.cat([targets, samples])
        scores = state @ embedding(every).T + bias(every).T
        scores = scores - torch.cat([popular[targets], drawn[samples]])
        nn.functional.cross_entropy(scores, torch.arange(len(targets))).backward()
        with torch.no_grad():
            for parameter in tables:
                gradient = parameter.grad.coalesce()  # type: ignore[union-attr]
                optimizers.sparse_step(parameter, gradient, states[parameter], group)
            for parameter in layers:
                gradient = parameter.grad
                assert gradient is not None
                optimizers.dense_step(parameter, gradient, states[parameter], group)
        for parameter in tables + layers:
            parameter.grad = None
        state = state.detach()
        events += len(targets)
    return events / (perf_counter() - start)


def windows(kind: str, half_precision: bool, rows: int) -> float:
    """GRU4Rec or SASRec on windows of 200, softmax over all items."""
    items, batch = 3400, 32
    every = sequences(rows, 201, items, seed=2)
    sides = TowerInput(2, (), 200, items + 2), TowerInput(2, (), 1, items + 2)
    network: nn.Module = SASRec(SASRecConfig(), *sides)
    if kind == "gru4rec":
        config = GRU4RecConfig(200, (256,), 256, dropout_embedding=0.3, dropout_hidden=0.3)
        network = GRU4Rec(config, *sides)
    loss = Loss("softmax", "all", temperature=1.0)
    training = Training(clip_norm=1.0, half_precision=half_precision)
    # Windows of like length share a batch, as the feed deals them.
    ordered = every[(every != 0).sum(dim=1).argsort()]
    steps = ({"items": part} for part in ordered.split(batch))
    counts = torch.ones(items + 2)
    return events_per_second(network, loss, training, items, steps, counts)


def two_tower(kind: str, steps: int, sparse_adam: bool = False) -> float:
    """DSSM or HRM with in-batch softmax, or SimpleX with CCL against a thousand samples."""
    items, users, batch, length = 3400, 6040, 1024, 10
    every = sequences(batch * steps, length + 1, items, seed=3)
    user = torch.randint(users, (len(every), 1), generator=torch.Generator().manual_seed(3)) + 2
    # Every history has an item, and its first is what is to be found.
    rows = torch.cat([every[:, 1:], user], dim=1)
    taken = every[:, 0].contiguous()
    batches = [
        {"user": part, "item": item}
        for part, item in zip(rows.split(batch), taken.split(batch), strict=True)
    ]
    item_side = TowerInput(2, (), 1, items + 2)
    loss = Loss("softmax", "in_batch", temperature=0.07)
    network: nn.Module
    if kind == "dssm":
        # The history's items lie in one table with the users.
        slices = ((0, length), (length, length + 1))
        user_side = TowerInput(users + items + 2, slices)
        sides = user_side, TowerInput(items + 2, ((0, 1),))
        network = DSSM(DSSMConfig(embedding_dim=64, hidden=(512, 256), dropout=0.1), *sides)
    else:
        sides = TowerInput(users + 2, ((0, 1),), length, items + 2), item_side
        wide = {"embedding_dim": 256, "dropout": 0.3, "constrained_embedding": False}
        network = HRM(HRMConfig(**wide), *sides)  # type: ignore[arg-type]
        if kind == "simplex":
            network = SimpleX(SimpleXConfig(**wide), *sides)  # type: ignore[arg-type]
            loss = Loss(
                "ccl", "sampled", samples=1000, alpha=0.5, temperature=1.0, margin=0.4,
                negative_weight=10.0,
            )  # fmt: skip
    training = Training(batch_size=batch, half_precision=True)
    counts = torch.bincount(taken, minlength=items + 2)
    return events_per_second(network, loss, training, items, batches, counts, sparse_adam)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sessions", type=int, default=5_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--windows", type=int, default=2_000)
    parser.add_argument("--batches", type=int, default=150)
    options = parser.parse_args()
    torch.manual_seed(1)
    xe = Loss("softmax", "sampled", samples=2048, alpha=0.5, temperature=1.0)
    bpr_max = Loss(
        "bpr_max", "sampled", samples=2048, alpha=0.4, temperature=1.0, elu=0.5,
        score_regularisation=1.95,
    )  # fmt: skip
    ours, plain = "GRU4Rec, 32 sessions side by side, 100 units, XE", "the same in plain Torch"
    # In turns, and the best of each: a machine that others share wanders by a third.
    turns = [
        (
            session_parallel(100, 32, xe, options.sessions),
            plain_torch(100, 32, xe, options.sessions),
        )
        for _ in range(options.turns)
    ]
    rates = {
        ours: max(turn[0] for turn in turns),
        plain: max(turn[1] for turn in turns),
        "GRU4Rec, 80 sessions side by side, 224 units, BPR-max": session_parallel(
            224, 80, bpr_max, options.sessions
        ),
    }
    for kind in ("gru4rec", "sasrec"):
        for half in (False, True):
            name = f"{kind}, windows, {'bfloat16' if half else 'float32'}"
            rates[name] = windows(kind, half, options.windows)
    ratios = {f"{ours}: ratio": rates[ours] / rates[plain]}
    rates["dssm, rows, in-batch softmax"] = two_tower("dssm", options.batches)
    for kind, name in (("hrm", "in-batch softmax"), ("simplex", "CCL")):
        name = f"{kind}, rows, {name}"
        rates[name] = two_tower(kind, options.batches)
        rates[f"{name}, SparseAdam"] = two_tower(kind, options.batches, sparse_adam=True)
        ratios[f"{name}: ratio"] = rates[name] / rates[f"{name}, SparseAdam"]
    report({name: {"events_per_second": rate} for name, rate in rates.items()}, ratios)


if __name__ == "__main__":
    main()
