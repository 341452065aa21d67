"""The `training:` and `loss:` blocks of a conf."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from sparkrec.bounds import Bounds, Count, CountOrZero, Dropout, Power, Share, Weight, check_bounds

# Whatever a float32 can hold: a step that is too large is found by what it does to the training.
_FLOAT32 = Bounds(0, 1e38, above=True)


@dataclass(frozen=True)
class EarlyStopping:
    """When training stops, judged by the validation split.

    Attributes
    ----------
    metric
        The metric that is watched, `recall@k` or `ndcg@k`. Each validation query ranks all items.
    patience
        Number of epochs without a better value after which training stops.
    refit
        Whether a new model is then trained from scratch on all rows of train, for the number of
        epochs that was best.
    max_rows
        Maximum number of validation rows. A larger split is sampled, with the seed.
    """

    metric: str = "recall@20"
    patience: Count = 1
    refit: bool = True
    max_rows: Count = 20_000

    def __post_init__(self) -> None:
        name, _, k = self.metric.partition("@")
        if name not in ("recall", "ndcg") or not re.fullmatch("[1-9][0-9]{0,3}", k):
            raise ValueError("metric must be recall@k or ndcg@k, such as recall@20; k below 10,000")
        check_bounds(self)


@dataclass(frozen=True)
class Loss:
    """The loss function, and the negatives that it compares each positive with.

    Attributes
    ----------
    name
        `bce`, `gbce`, `softmax`, `bpr`, `top1`, `bpr_max`, `top1_max`, `hinge` or `ccl`.
        `sparkrec.nn.losses` says when to use which. Where the rows have no labels, `bce` subtracts
        log(number of negatives) from the scores, so that the network does not have to learn it.
    negatives
        Where the negatives come from. `given`: from the row, which holds negatives sampled by an
        earlier job, or (with `bce`) a label; for two-tower models only. The other values do not
        read negatives from train. `in_batch`: the other positives of the batch; not possible with
        `bce` and `gbce`. `sampled`: the other positives of the batch and `samples` items drawn for
        each batch. `all`: every item, which makes `softmax` exact and suits catalogues that are
        not too large.
    samples
        Number of items that `sampled` draws for each batch, with replacement.
    alpha
        `sampled` draws an item with probability in proportion to popularity^alpha.
    temperature
        Scores are divided by it. Cosines need a temperature far below 1, except with `ccl`.
    log_q
        Whether `softmax` subtracts from the score of an in-batch or sampled candidate the log of
        the probability that the item is a candidate (logQ correction).
    margin
        Margin of `hinge` and `ccl`.
    negative_weight
        Weight of the negatives in `ccl`.
    score_regularisation
        Weight of the term of `bpr_max` and `top1_max` that keeps the scores of the negatives near
        zero.
    elu
        The scores first pass an exponential linear unit whose lower limit is minus this value, as
        in GRU4Rec with `bpr_max`. It does not change the order of the scores. 0 leaves it out.
    calibration
        The parameter t of `gbce`: 0 is plain binary cross-entropy, 1 gives calibrated
        probabilities.
    weight_col
        Column of train with the weight of each row in the loss, such as the `rating` that
        jobs/prepare.py writes for types of events. In a sequence model it is the weight of the
        event that is predicted. Weights are divided by their mean, so that the learning rate keeps
        its meaning. By default all rows have the same weight.
    """

    name: Literal[
        "bce", "gbce", "softmax", "bpr", "top1", "bpr_max", "top1_max", "hinge", "ccl"
    ] = "bce"
    negatives: Literal["given", "in_batch", "sampled", "all"] = "given"
    samples: Annotated[int, Bounds(1, 2**24)] = 1024
    alpha: Power = 0.75
    temperature: Annotated[float, Bounds(1e-6, 1e6)] = 0.05
    log_q: bool = True
    margin: Annotated[float, Bounds(-1000, 1000)] = 0.4
    negative_weight: Weight = 1.0
    score_regularisation: Weight = 1.0
    elu: Weight = 0.0
    calibration: Share = 0.75
    weight_col: str | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.name in ("bce", "gbce") and self.negatives == "in_batch":
            raise ValueError(f"negatives: in_batch cannot be used with name: {self.name}")
        if self.elu and self.name == "softmax":
            raise ValueError("elu cannot be used with name: softmax")


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes
    ----------
    epochs
        Maximum number of passes over the training rows.
    batch_size
        Number of rows in a training step, summed over all workers. A row is a window in a sequence
        model. With `session_parallel` it is the number of sessions that are trained in parallel.
    session_parallel
        Whether to train as the authors of GRU4Rec do: a batch has `batch_size` lanes, each reads
        one session, and every update trains one step of all lanes. The hidden state is carried to
        the next step, but gradients do not flow through it. At the end of its session a lane
        starts the next session with a new state. It needs `workers: 1`.
    by_session
        Whether a sequence model predicts an event from the events of earlier sessions alone
        (`columns.session`). Use it where the order within a session means nothing, as in a shopping
        basket; otherwise a model also learns what stands beside what in the table. In the first
        session of a window, and so of a user, nothing is predicted.
    optimizer
        `adam` (in its sparse form for embedding tables), or `adagrad`.
    learning_rate
        Learning rate of the optimizer, after the warm-up.
    momentum
        Momentum of `adagrad`: the fraction of a parameter's last step that is added to its next.
    schedule
        Course of the learning rate over all epochs: `constant`, or a decrease towards zero that is
        `linear` or follows half a `cosine`.
    warmup_steps
        Number of steps at the start in which the learning rate rises from zero.
    clip_norm
        Maximum norm of the gradient of all dense parameters together; a longer gradient is scaled
        down to it. null does not clip.
    weight_decay
        Decoupled weight decay of the dense layers (AdamW). `adagrad` does not use it.
    workers
        Number of training processes. A single process runs in the driver on a local master, and on
        an executor otherwise.
    half_precision
        Whether to multiply in bfloat16 and sum in float32, where the processor has instructions
        for it.
    use_gpu
        Whether each worker trains on its GPU; workers then communicate through nccl.
    resume
        Whether to continue a killed run from its last checkpoint.
    model_in_path
        Saved model whose weights training starts from. The vocabulary may grow.
    save_checkpoint_interval
        Number of epochs between checkpoints.
    save_inference_interval
        Number of epochs from one whole model to the next. They are written to `models/epoch-<n>` of
        the run folder while training goes on, and each can be served like the final one. If early
        stopping trains anew on all rows, those models replace the first ones. By default none is
        written.
    print_interval
        Number of steps between log lines.
    early_stopping
        Settings of early stopping on the validation split. null trains for exactly `epochs`.
    shuffle_rows
        Number of rows in the shuffle buffer.
    cache_mb
        Training rows up to this size in MB are read once and then held in memory.
    """

    epochs: Annotated[int, Bounds(1, 10_000)] = 10
    batch_size: Annotated[int, Bounds(1, 2**24)] = 1024
    session_parallel: bool = False
    by_session: bool = False
    optimizer: Literal["adam", "adagrad"] = "adam"
    learning_rate: Annotated[float, _FLOAT32] = 1e-3
    momentum: Dropout = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: CountOrZero = 0
    clip_norm: Annotated[float, _FLOAT32] | None = None
    weight_decay: Weight = 0.0
    workers: Annotated[int, Bounds(1, 10_000)] = 1
    half_precision: bool = False
    use_gpu: bool = False
    resume: bool = False
    model_in_path: str | None = None
    save_checkpoint_interval: Count = 1
    save_inference_interval: Count | None = None
    print_interval: Count = 200
    early_stopping: EarlyStopping | None = field(default_factory=EarlyStopping)
    shuffle_rows: Count = 262_144
    cache_mb: CountOrZero = 1024

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.session_parallel and self.warmup_steps:
            raise ValueError("warmup_steps must be 0 with session_parallel")
        if self.momentum and self.optimizer != "adagrad":
            raise ValueError("momentum can only be used with optimizer: adagrad")
        if self.session_parallel and self.by_session:
            raise ValueError("by_session must be false with session_parallel")
        if self.session_parallel and self.workers > 1:
            raise ValueError("workers must be 1 with session_parallel")
        if self.batch_size % self.workers:
            raise ValueError("batch_size must be a multiple of workers")
