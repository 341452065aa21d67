"""The training loop of two-tower models: epochs, validation, early stopping, checkpoints.

The same code runs in the driver and on every rank of a distributed run. With one worker and a seed
it is deterministic: two runs, or a run and a resumed run, end with equal weights.
"""

import contextlib
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

from sparkrec.errors import TrainingError
from sparkrec.feed.feed import Feed, FeedSettings
from sparkrec.io import storage
from sparkrec.io.tensors import read_tensors, write_tensors
from sparkrec.models.sequence import SequenceNetwork
from sparkrec.training import checkpoint
from sparkrec.training.checkpoint import Progress
from sparkrec.training.divergence import DivergenceError, below_chance, check_loss, check_network
from sparkrec.training.reduce import average_gradients, same_start
from sparkrec.training.spec import TrainingSpec
from sparkrec.training.step.auc import StreamingAUC
from sparkrec.training.step.objective import Objective
from sparkrec.training.step.objectives import objective
from sparkrec.training.step.optimizers import dense_parameters, make_optimizers, set_learning_rate
from sparkrec.training.step.session_batches import session_batches
from sparkrec.training.validate import Validation, improved

log = logging.getLogger("sparkrec.training")

# For session-parallel training: the number of sessions that the feed reads at once; and the AUC is
# measured on one of this number of batches.
_SESSIONS, _WATCHED = 4096, 20

FINAL = "final.safetensors"
FINAL_STATE = "final.json"


@dataclass(frozen=True)
class Rank:
    """This process among the workers."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        return self.rank == 0


def train(spec: TrainingSpec, rank: Rank = Rank()) -> Progress:
    """Train to the end and write the final weights to `checkpoint_path`.

    With early stopping, training stops when the validation metric has not improved for
    `patience` epochs; the weights of the best epoch are final, or, with `refit`, a second phase
    trains from scratch on all rows for that number of epochs. If the training diverges, the weights
    of the best epoch before are final (see `divergence`).

    Raises
    ------
    TrainingError
        No epoch is above chance, or a checkpoint to resume from does not fit.
    """
    resumed = _resume(spec, rank.first)
    if resumed is not None and resumed.progress.phase == "done":
        return resumed.progress
    tensors = read_tensors(spec.tensors_path)
    stopping = spec.training.early_stopping
    validation = Validation(tensors, stopping.metric) if stopping and "queries" in tensors else None
    progress = resumed.progress if resumed else Progress()
    weights: Mapping[str, Tensor] | None = None
    try:
        if progress.phase == "fit":
            weights = _phase(spec, rank, tensors, progress, resumed, validation)
            resumed = None
            refit = validation is not None and stopping is not None and stopping.refit
            if refit and not progress.diverged:
                chosen = progress.best_epoch
                if rank.first:
                    log.info("refit: training on all rows for the %d epochs chosen", chosen)
                progress = Progress("refit", chosen_epochs=chosen, history=progress.history)
        if progress.phase == "refit":
            weights = _phase(spec, rank, tensors, progress, resumed, None)
    except DivergenceError as error:
        if weights is None:
            raise TrainingError(
                f"training diverged, no epoch is above chance: {error}; lower "
                "training.learning_rate or raise loss.temperature"
            ) from None
        log.warning("the refit diverged: %s; the model is that of the validated epochs", error)
        progress.diverged = True
    assert weights is not None
    if rank.first:
        progress.phase = "done"
        write_tensors(storage.join(spec.checkpoint_path, FINAL), weights)
        storage.write_json(
            storage.join(spec.checkpoint_path, FINAL_STATE), {"progress": vars(progress)}
        )
    return progress


def _resume(spec: TrainingSpec, first: bool) -> checkpoint.Checkpoint | None:
    final = storage.join(spec.checkpoint_path, FINAL_STATE)
    if not spec.training.resume:
        if first:
            checkpoint.discard(spec.checkpoint_path)
            storage.remove(final)
        return None
    found = checkpoint.latest(spec.checkpoint_path, spec.identity())
    if found is not None and storage.exists(final):
        done = Progress(**storage.read_json(final)["progress"])
        # Without early stopping, a finished run continues if the conf now has more epochs.
        enough = bool(spec.training.early_stopping) or done.epoch >= spec.training.epochs
        if enough and len(done.history) >= len(found.progress.history):
            found = checkpoint.Checkpoint(done, {}, None, {}, {})
    if found is not None:
        log.info("resuming after epoch %d (%s)", found.progress.epoch, found.progress.phase)
    return found


def _phase(
    spec: TrainingSpec,
    rank: Rank,
    tensors: Mapping[str, Tensor],
    progress: Progress,
    resumed: checkpoint.Checkpoint | None,
    validation: Validation | None,
) -> Mapping[str, Tensor]:
    """Train one phase to its end; returns its final weights. Updates `progress`."""
    training = spec.training
    network = spec.build(tensors)
    if resumed is not None:
        network.load_state_dict(resumed.weights)
    elif spec.initial_weights:
        network.load_state_dict(read_tensors(spec.initial_weights))
    network.to(rank.device)
    optimizers = make_optimizers(network, training)
    if resumed is not None:
        resumed.restore(optimizers)
    # The weights of the best good epoch; without validation those of the last.
    best: Mapping[str, Tensor] | None = None
    if resumed is not None:
        best = resumed.best if validation is not None else resumed.weights
    item_features = tensors["item_features"].to(rank.device)
    counts = tensors.get("item_counts")
    step_module = objective(network, spec.loss, item_features, counts, training)
    if rank.world > 1:
        same_start(network)
    by_length = isinstance(network, SequenceNetwork) and not training.session_parallel
    feed = Feed(
        FeedSettings(
            path=spec.all_path if validation is None else spec.fit_path,
            fields=spec.fields,
            batch_size=_SESSIONS
            if training.session_parallel
            else training.batch_size // rank.world,
            seed=spec.seed,
            rank=rank.rank,
            world=rank.world,
            shuffle_rows=training.shuffle_rows,
            cache_bytes=training.cache_mb << 20,
            batches_by_length="items" if by_length else None,
        )
    )
    epochs = progress.chosen_epochs or training.epochs
    patience = training.early_stopping.patience if training.early_stopping else 0
    failure: str | None = None
    # The first epoch is the one to be better than, until an epoch is above chance.
    while progress.epoch < epochs and not (
        validation and progress.epoch - max(progress.best_epoch, 1) >= patience
    ):
        try:
            report = _train_epoch(spec, rank, step_module, optimizers, feed, progress)
            check_network(network, item_features)
        except DivergenceError as error:
            failure = f"epoch {progress.epoch + 1}: {error}"
            break
        progress.epoch += 1
        better = validation is None
        if validation is not None:
            report |= _validate(validation, network, item_features, rank)
            better = improved(report[validation.metric], progress.best_value)
        failure = below_chance(report, progress, validation, rank.device, rank.world)
        if better and failure is None:
            best = {name: value.detach().clone() for name, value in _weights(network).items()}
            if validation is not None:
                progress.best_epoch = progress.epoch
                progress.best_value = report[validation.metric]
        progress.history.append({"phase": progress.phase, "epoch": progress.epoch, **report})
        if rank.first:
            _log_epoch(progress, epochs, report)
        last = progress.epoch % training.save_checkpoint_interval == 0 or progress.epoch == epochs
        if rank.first and last and failure is None:
            keep_best = best if validation is not None else None
            weights = _weights(network)
            checkpoint.save(
                spec.checkpoint_path, progress, spec.identity(), weights, optimizers, keep_best
            )
        if rank.first and failure is None and spec.epoch_models is not None:
            weights, content = _weights(network), spec.content(tensors)
            spec.epoch_models.write(
                progress.epoch, spec.network, weights, content, tensors["item_features"]
            )
    if best is None:
        raise DivergenceError(failure)
    if failure is not None:
        progress.diverged = True
        if rank.first:
            log.warning("training diverged: %s; the model is that of an earlier epoch", failure)
    return _weights(network) if validation is None and failure is None else best


def _train_epoch(
    spec: TrainingSpec,
    rank: Rank,
    step_module: Objective,
    optimizers: list[torch.optim.Optimizer],
    feed: Feed,
    progress: Progress,
) -> dict[str, float]:
    epoch = progress.epoch + 1
    step_module.begin_epoch()
    dense = dense_parameters(step_module.network)
    waited = feed.waited_seconds
    start = last = perf_counter()
    losses = torch.zeros(())
    auc = StreamingAUC()
    parallel, size = spec.training.session_parallel, spec.training.batch_size
    steps = None if parallel else feed.steps
    begun, an_epoch = 0, feed.rows if parallel else feed.steps
    bar = tqdm(
        total=steps,
        desc=f"{progress.phase} epoch {epoch}",
        unit="step",
        disable=not (rank.first and sys.stderr.isatty()),
    )
    step = 0
    with contextlib.closing(feed.epoch(epoch)) as batches, bar:
        for step, cpu_batch in enumerate(
            session_batches(batches, size) if parallel else batches, 1
        ):
            step_module.watched = not parallel or step % _WATCHED == 1
            batch = {name: value.to(rank.device) for name, value in cpu_batch.items()}
            loss, scores, labels = step_module.learn(batch)
            if rank.world > 1:
                average_gradients(step_module.parameters(), rank.world)
            if spec.training.clip_norm is not None:
                nn.utils.clip_grad_norm_(dense, spec.training.clip_norm)
            # The number of session-parallel batches is known only when the epoch ends; progress
            # is the share of sessions begun.
            begun += int(cpu_batch["starts"].sum()) if parallel else 1
            done = progress.epoch * an_epoch + begun
            set_learning_rate(optimizers, spec.training, done, spec.training.epochs * an_epoch)
            for optimizer in optimizers:
                optimizer.step()
            if progress.first_loss is None:
                progress.first_loss = float(loss)
            losses += loss.cpu()
            if step_module.watched:
                auc.update(scores, labels)
            bar.update()
            if step % spec.training.print_interval == 0 or step == steps:
                now = perf_counter()
                since = (step - 1) % spec.training.print_interval + 1
                rate = since * spec.training.batch_size / (now - last)
                check_loss(float(losses), step, rank.device, rank.world)
                last = now
                if rank.first:
                    bar.set_postfix(loss=f"{float(losses) / step:.4f}", rows=f"{rate:,.0f}/s")
                    log.info(
                        "%s epoch %d step %d/%s loss %.4f auc %.4f rows/s %.0f",
                        progress.phase,
                        epoch,
                        step,
                        steps or "?",
                        float(losses) / step,
                        auc.value(),
                        rate,
                    )
    seconds = perf_counter() - start
    check_loss(float(losses), step, rank.device, rank.world)
    return {
        "loss": float(losses) / max(step, 1),
        "auc": auc.value(),
        "seconds": seconds,
        "rows_per_second": feed.rows_all_ranks / seconds,
        "positives_per_second": step_module.positives * rank.world / seconds,
        "waiting_share": (feed.waited_seconds - waited) / seconds,
    }


def _validate(
    validation: Validation, network: nn.Module, item_features: Tensor, rank: Rank
) -> dict[str, float]:
    """Compute the metric on rank 0 and broadcast it, so that all ranks stop together."""
    value = torch.zeros((), dtype=torch.float64, device=rank.device)
    seconds = 0.0
    if rank.first:
        start = perf_counter()
        value += validation.measure(network, item_features)
        seconds = perf_counter() - start
    if rank.world > 1:
        dist.broadcast(value, src=0)
    return {validation.metric: float(value), "validation_seconds": seconds}


def _log_epoch(progress: Progress, epochs: int, report: Mapping[str, Any]) -> None:
    numbers = " ".join(f"{key} {value:.4g}" for key, value in report.items())
    log.info("%s epoch %d of at most %d: %s", progress.phase, progress.epoch, epochs, numbers)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in network.state_dict().items()}
