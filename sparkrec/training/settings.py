"""The `training:` and `loss:` blocks of a conf."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop on the validation split.

    Attributes
    ----------
    metric
        `recall@k` or `ndcg@k` on the validation rows, full ranking.
    patience
        Epochs without a better value before training stops.
    refit
        Afterwards train from scratch on all of train for the best number of epochs.
    max_rows
        At most so many validation rows, drawn with the seed.
    """

    metric: str = "recall@20"
    patience: int = 1
    refit: bool = True
    max_rows: int = 20_000

    def __post_init__(self) -> None:
        name, _, k = self.metric.partition("@")
        if name not in ("recall", "ndcg") or not k.isdigit() or int(k) < 1:
            raise ValueError("metric must be recall@k or ndcg@k, such as recall@20")
        if self.patience < 1:
            raise ValueError("patience must be at least 1")
        if self.max_rows < 1:
            raise ValueError("max_rows must be at least 1")


@dataclass(frozen=True)
class Loss:
    """What the scores are trained for.

    Attributes
    ----------
    name
        `bce`, `gbce`, `softmax`, `bpr`, `top1`, `bpr_max`, `top1_max`, `hinge` or `ccl`; what each
        is good for stands in `sparkrec.nn.losses`. `bce` without labels takes the log of the number
        of negatives from the scores, so that those say how likely an item is beside one other.
    negatives
        `given`: those of the row (drawn ahead; or its label, with `bce`), for two-tower models.
        The others do not read negatives of train. `in_batch`: the other positives of the batch,
        which `bce` and `gbce` cannot use. `sampled`: the same and `samples` items drawn for each
        batch. `all`: every item, the exact softmax where there are not too many.
    samples, alpha
        Of `sampled`: how many draws, by popularity^alpha.
    temperature
        Scores are divided by it; cosines need one far below 1, but for `ccl`.
    log_q
        Correct the scores of in-batch and sampled candidates for how likely they are to be among
        them (`softmax` alone).
    margin
        Of `hinge` and `ccl`.
    negative_weight
        Weight of the negatives in `ccl`.
    score_regularisation
        How hard `bpr_max` and `top1_max` hold the negatives' scores near zero.
    elu
        Scores first go through an exponential linear unit that ends at minus this, as GRU4Rec's do
        under `bpr_max`; 0 for none. It keeps their order.
    calibration
        The t of `gbce`: 0 is plain bce, 1 gives calibrated probabilities.
    """

    name: Literal[
        "bce", "gbce", "softmax", "bpr", "top1", "bpr_max", "top1_max", "hinge", "ccl"
    ] = "bce"
    negatives: Literal["given", "in_batch", "sampled", "all"] = "given"
    samples: int = 1024
    alpha: float = 0.75
    temperature: float = 0.05
    log_q: bool = True
    margin: float = 0.4
    negative_weight: float = 1.0
    score_regularisation: float = 1.0
    elu: float = 0.0
    calibration: float = 0.75

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError("temperature must be above 0")
        if self.name in ("bce", "gbce") and self.negatives == "in_batch":
            raise ValueError(f"negatives: in_batch does not go with name: {self.name}")
        if self.samples < 1:
            raise ValueError("samples must be at least 1")
        if self.alpha < 0:
            raise ValueError("alpha must be at least 0")
        if self.elu < 0:
            raise ValueError("elu must be at least 0")
        if self.elu and self.name == "softmax":
            raise ValueError("elu does not go with name: softmax")
        if not 0 <= self.calibration <= 1:
            raise ValueError("calibration must lie in [0, 1]")


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes
    ----------
    epochs
        Passes over the training rows, at most.
    batch_size
        Rows of a step, over all workers: windows of a sequence model; sessions side by side where
        `session_parallel`.
    session_parallel
        GRU4Rec's own way to train: each of `batch_size` lanes walks through a session, one step of
        all lanes an update, its state carried along (and no gradient through it); a lane that is
        done takes the next session, with a new state. One worker.
    optimizer
        `adam` (tables use its sparse form), or `adagrad`.
    learning_rate
        Of the optimizer.
    momentum
        Of `adagrad`: the share of its last step that a parameter's next one begins with.
    schedule
        How the learning rate goes: `constant`, or down to nothing along a line (`linear`) or half
        a `cosine` over all epochs.
    warmup_steps
        Steps in which the learning rate first rises from nothing.
    clip_norm
        Gradients of the dense parameters longer than this, together, are cut to it; null for none.
    weight_decay
        Of the dense layers (decoupled, AdamW).
    workers
        Training processes. One trains in the driver on a local master, else on an executor.
    half_precision
        Multiply in bfloat16, sum in float32, where the processor has instructions for it.
    use_gpu
        Train on each worker's GPU, with nccl between them.
    resume
        Go on from the last checkpoint of a killed run.
    model_in_path
        Start from the weights of a saved model; the vocabulary may grow.
    save_checkpoint_interval
        Epochs between checkpoints.
    print_interval
        Steps between log lines.
    early_stopping
        Stop on the validation split, or null for a fixed number of epochs.
    shuffle_rows
        Rows that are shuffled together.
    cache_mb
        Training rows up to this size are read once and kept in memory.
    """

    epochs: int = 10
    batch_size: int = 1024
    session_parallel: bool = False
    optimizer: Literal["adam", "adagrad"] = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    weight_decay: float = 0.0
    workers: int = 1
    half_precision: bool = False
    use_gpu: bool = False
    resume: bool = False
    model_in_path: str | None = None
    save_checkpoint_interval: int = 1
    print_interval: int = 200
    early_stopping: EarlyStopping | None = field(default_factory=EarlyStopping)
    shuffle_rows: int = 262_144
    cache_mb: int = 1024

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "workers", "save_checkpoint_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("print_interval", "shuffle_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.learning_rate <= 0:
            raise ValueError("learning_rate must be above 0")
        if self.session_parallel and self.warmup_steps:
            raise ValueError("warmup_steps must be 0 with session_parallel")
        if not 0 <= self.momentum < 1:
            raise ValueError("momentum must lie in [0, 1)")
        if self.momentum and self.optimizer != "adagrad":
            raise ValueError("momentum goes with optimizer: adagrad alone")
        if self.session_parallel and self.workers > 1:
            raise ValueError("workers must be 1 with session_parallel")
        if self.warmup_steps < 0:
            raise ValueError("warmup_steps must be at least 0")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError("clip_norm must be above 0, or null")
        if self.batch_size % self.workers:
            raise ValueError("batch_size must be a multiple of workers")
