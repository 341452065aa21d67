"""The loop: it learns, it is deterministic, and a resumed run ends where an unbroken one does."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from torch import Tensor

from sparkrec.errors import TrainingError
from sparkrec.feed import _petastorm
from sparkrec.feed.feed import column_names
from sparkrec.io.tensors import read_tensors, write_tensors
from sparkrec.models.two_tower import TowerInput
from sparkrec.retrieval.answering.network import NetworkSpec
from sparkrec.training import loop
from sparkrec.training.loop import FINAL, FINAL_STATE, train
from sparkrec.training.settings import EarlyStopping, Loss, Training
from sparkrec.training.spec import TrainingSpec
from sparkrec.training.validate import Validation

USERS, ITEMS, NEGATIVES = 24, 20, 3
FIELDS = {"user": 1, "item": 0, "negatives": NEGATIVES}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_rows(folder: Path, users: np.ndarray, rng: np.random.Generator, files: int) -> None:
    """User u likes the items of its own parity; negatives are of the other."""
    folder.mkdir(parents=True)
    items = 2 * rng.integers(0, ITEMS // 2, len(users)) + users % 2
    others = 2 * rng.integers(0, ITEMS // 2, (len(users), NEGATIVES)) + (1 - users % 2)[:, None]
    others[0, -1] = -2  # a row that has one negative fewer
    columns = [users + 2, items + 2, *(others + 2).T]
    names = [name for field, width in FIELDS.items() for name in column_names(field, width)]
    table = pa.table(dict(zip(names, columns, strict=True)))
    for number in range(files):
        part = table.slice(number * len(users) // files, len(users) // files)
        pyarrow.parquet.write_table(part, folder / f"part-{number}.parquet")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoded rows and tensors, as the estimator writes them."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    write_rows(folder / "rows" / "fit", np.repeat(np.arange(USERS), 10), rng, 4)
    write_rows(folder / "rows" / "held_out", np.arange(USERS), rng, 1)
    features = torch.arange(ITEMS + 2)[:, None]
    features[:2] = 0
    targets = 2 * rng.integers(0, ITEMS // 2, USERS) + np.arange(USERS) % 2 + 2
    tensors = {
        "item_features": features,
        "queries": torch.arange(USERS)[:, None] + 2,
        "targets": torch.from_numpy(targets),
        "target_offsets": torch.arange(USERS + 1),
        "candidates": torch.arange(ITEMS) + 2,
    }
    write_tensors(str(folder / "tensors.safetensors"), tensors)
    return folder


def make_spec(data: Path, folder: Path, **training: Any) -> TrainingSpec:
    settings = {"epochs": 4, "batch_size": 32, "learning_rate": 0.02, "early_stopping": None}
    network = NetworkSpec(
        "sparkrec.models.dssm:DSSM",
        {"embedding_dim": 4, "hidden": [8, 4], "dropout": 0.1},
        user=TowerInput(USERS + 2, ((0, 1),)),
        item=TowerInput(ITEMS + 2, ((0, 1),)),
    )
    return TrainingSpec(
        network=network,
        loss=Loss(temperature=0.2),
        training=Training(**{**settings, **training}),
        seed=1,
        fields=FIELDS,
        fit_path=str(data / "rows" / "fit"),
        all_path=str(data / "rows"),
        tensors_path=str(data / "tensors.safetensors"),
        initial_weights=None,
        checkpoint_path=str(folder),
        fingerprint={"rows": "240"},
    )


def final(folder: Path) -> dict[str, Tensor]:
    return read_tensors(str(folder / FINAL))


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def differ(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return any(not torch.equal(a[name], b[name]) for name in a)


class Killed(BaseException):
    """Not an Exception, as a signal is none."""


def kill_after(monkeypatch: pytest.MonkeyPatch, phase: str, epoch: int) -> None:
    """Let training die in the epoch after this one, with its checkpoint written."""
    train_epoch = loop._train_epoch

    def dying(*args: Any) -> dict[str, float]:
        progress = args[-1]
        if (progress.phase, progress.epoch) == (phase, epoch):
            raise Killed
        return train_epoch(*args)

    monkeypatch.setattr(loop, "_train_epoch", dying)


# ------------------------------------------------------------------------------------ learning


def test_the_loss_goes_down_and_the_auc_up(data: Path, tmp_path: Path) -> None:
    progress = train(make_spec(data, tmp_path, epochs=6))
    losses = [entry["loss"] for entry in progress.history]
    assert len(losses) == 6
    assert losses[-1] < 0.5 * losses[0]
    assert progress.history[-1]["auc"] > 0.9 > 0.7 > progress.history[0]["auc"]
    assert {entry["phase"] for entry in progress.history} == {"fit"}


def test_a_run_leaves_its_weights_and_no_pickle(data: Path, tmp_path: Path) -> None:
    progress = train(make_spec(data, tmp_path, epochs=1))
    written = json.loads((tmp_path / FINAL_STATE).read_text())["progress"]
    assert written["phase"] == progress.phase == "done"
    suffixes = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors"}


def test_the_feed_of_the_loop_is_petastorm(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no petastorm today")

    monkeypatch.setattr(_petastorm, "make_batch_reader", broken)
    with pytest.raises(RuntimeError, match="no petastorm today"):
        train(make_spec(data, tmp_path))


def test_initial_weights_are_where_training_starts(data: Path, tmp_path: Path) -> None:
    train(make_spec(data, tmp_path / "first"))
    spec = dataclasses.replace(
        make_spec(data, tmp_path / "second", epochs=1, learning_rate=1e-9),
        initial_weights=str(tmp_path / "first" / FINAL),
    )
    train(spec)
    for name, value in final(tmp_path / "second").items():
        assert torch.allclose(value, final(tmp_path / "first")[name], atol=1e-5), name


# ------------------------------------------------------------------- determinism and resuming


@pytest.mark.parametrize("cache_mb", [0, 64])
def test_two_runs_with_a_seed_are_equal(data: Path, tmp_path: Path, cache_mb: int) -> None:
    for name in ("a", "b"):
        train(make_spec(data, tmp_path / name, epochs=3, cache_mb=cache_mb))
    assert_equal(final(tmp_path / "a"), final(tmp_path / "b"))
    other = dataclasses.replace(make_spec(data, tmp_path / "c", epochs=3), seed=2)
    train(other)
    assert differ(final(tmp_path / "a"), final(tmp_path / "c"))


RUNS = [
    pytest.param({}, ("fit", 2), id="fixed epochs"),
    pytest.param({"cache_mb": 0}, ("fit", 2), id="streaming"),
    pytest.param({"save_checkpoint_interval": 2}, ("fit", 3), id="every second epoch"),
    pytest.param(
        {"early_stopping": EarlyStopping("recall@3", patience=9, refit=False)},
        ("fit", 2),
        id="early stopping",
    ),
    pytest.param(
        {"early_stopping": EarlyStopping("recall@3", patience=9, refit=True)},
        ("fit", 2),
        id="before the refit",
    ),
    pytest.param(
        {"early_stopping": EarlyStopping("ndcg@20", patience=9, refit=True)},
        ("refit", 1),
        id="within the refit",
    ),
    pytest.param(
        {"early_stopping": EarlyStopping("ndcg@20", patience=9, refit=True)},
        ("fit", 4),
        id="between the phases",
    ),
]


@pytest.mark.parametrize(("training", "killed"), RUNS)
def test_a_resumed_run_ends_at_the_weights_of_an_unbroken_one(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    training: dict[str, Any],
    killed: tuple[str, int],
) -> None:
    whole = train(make_spec(data, tmp_path / "whole", **training))
    with monkeypatch.context() as patch:
        phase, epoch = killed
        kill_after(patch, *(("refit", 0) if killed == ("fit", 4) else (phase, epoch)))
        with pytest.raises(Killed):
            train(make_spec(data, tmp_path / "broken", **training))
    assert not (tmp_path / "broken" / FINAL).exists()
    torch.rand(5)  # whatever else the process did in between
    resumed = train(make_spec(data, tmp_path / "broken", resume=True, **training))
    assert_equal(final(tmp_path / "whole"), final(tmp_path / "broken"))
    assert [(e["phase"], e["epoch"], e["loss"]) for e in resumed.history] == [
        (e["phase"], e["epoch"], e["loss"]) for e in whole.history
    ]
    assert (resumed.best_epoch, resumed.chosen_epochs) == (whole.best_epoch, whole.chosen_epochs)


def test_a_finished_run_goes_on_to_more_epochs(data: Path, tmp_path: Path) -> None:
    train(make_spec(data, tmp_path / "whole", epochs=4))
    train(make_spec(data, tmp_path / "grown", epochs=2))
    progress = train(make_spec(data, tmp_path / "grown", epochs=4, resume=True))
    assert [entry["epoch"] for entry in progress.history] == [1, 2, 3, 4]
    assert_equal(final(tmp_path / "whole"), final(tmp_path / "grown"))


def test_resuming_a_finished_run_trains_no_more(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = train(make_spec(data, tmp_path, epochs=2))
    weights = final(tmp_path)
    monkeypatch.delattr(_petastorm, "make_batch_reader")
    again = train(make_spec(data, tmp_path, epochs=2, resume=True))
    assert again.history == done.history
    assert_equal(final(tmp_path), weights)


def test_resume_with_nothing_to_resume_trains_from_the_start(data: Path, tmp_path: Path) -> None:
    train(make_spec(data, tmp_path / "a", epochs=1))
    train(make_spec(data, tmp_path / "b", epochs=1, resume=True))
    assert_equal(final(tmp_path / "a"), final(tmp_path / "b"))


def test_resume_refuses_another_config(data: Path, tmp_path: Path) -> None:
    train(make_spec(data, tmp_path, epochs=1))
    with pytest.raises(TrainingError, match=r"made with learning_rate = 0.02, .* has 0.5"):
        train(make_spec(data, tmp_path, learning_rate=0.5, resume=True))


def test_a_new_run_forgets_the_checkpoints_of_an_old_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its second epoch, it is resumed from its own first, not from the old fourth."""
    train(make_spec(data, tmp_path / "whole", epochs=3))
    train(make_spec(data, tmp_path / "reused", epochs=4))
    with monkeypatch.context() as patch:
        kill_after(patch, "fit", 1)
        with pytest.raises(Killed):
            train(make_spec(data, tmp_path / "reused", epochs=3))
    progress = train(make_spec(data, tmp_path / "reused", epochs=3, resume=True))
    assert len(progress.history) == 3
    assert_equal(final(tmp_path / "whole"), final(tmp_path / "reused"))


# ------------------------------------------------------------------------------ early stopping


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Validation gives these values, one an epoch."""
    left = iter(values)
    monkeypatch.setattr(Validation, "measure", lambda *_: next(left))


def test_early_stopping_ends_at_the_weights_of_the_best_epoch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = make_spec(data, tmp_path / "two", epochs=2)
    train(dataclasses.replace(two, all_path=two.fit_path))
    scripted(monkeypatch, [0.1, 0.5, 0.5, 0.4, 0.9])
    stopping = EarlyStopping("recall@3", patience=2, refit=False)
    progress = train(make_spec(data, tmp_path / "x", epochs=9, early_stopping=stopping))
    assert [entry["recall@3"] for entry in progress.history] == [0.1, 0.5, 0.5, 0.4]
    assert (progress.best_epoch, progress.best_value) == (2, 0.5)
    assert_equal(final(tmp_path / "x"), final(tmp_path / "two"))


def test_the_refit_takes_all_rows_for_the_best_number_of_epochs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without early stopping nothing is held out, so that is the run to compare with.
    train(make_spec(data, tmp_path / "all", epochs=2))
    scripted(monkeypatch, [0.1, 0.5, 0.4])
    stopping = EarlyStopping("recall@3", patience=1, refit=True)
    progress = train(make_spec(data, tmp_path / "x", epochs=9, early_stopping=stopping))
    phases = [(entry["phase"], entry["epoch"]) for entry in progress.history]
    assert phases == [("fit", 1), ("fit", 2), ("fit", 3), ("refit", 1), ("refit", 2)]
    assert progress.chosen_epochs == 2
    assert_equal(final(tmp_path / "x"), final(tmp_path / "all"))


def test_an_epoch_that_is_no_better_than_nothing_still_counts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.0, 0.0])
    stopping = EarlyStopping("recall@3", patience=1, refit=False)
    progress = train(make_spec(data, tmp_path, early_stopping=stopping))
    assert (progress.best_epoch, len(progress.history)) == (1, 2)


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_says_what_to_do(
    data: Path, tmp_path: Path, broken: float
) -> None:
    spec = make_spec(data, tmp_path)
    weights = spec.build({}).state_dict()
    weights["user_tower.0.weight"] = torch.full_like(weights["user_tower.0.weight"], broken)
    path = str(tmp_path / "broken.safetensors")
    write_tensors(path, weights)
    expected = (
        r"no epoch is above chance: epoch 1: the loss is not finite \(.* by step \d+\); lower"
    )
    with pytest.raises(TrainingError, match=expected):
        train(dataclasses.replace(spec, initial_weights=path))


class Spoiling(torch.optim.SGD):
    """A step too far."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                param.data.fill_(torch.inf)


def test_the_very_last_step_must_leave_finite_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one step an epoch, the loss is only ever taken of the weights before it."""
    monkeypatch.setattr(
        loop, "make_optimizers", lambda network, *_: [Spoiling(network.parameters(), lr=0.1)]
    )
    with pytest.raises(TrainingError, match=r"epoch 1: the weights `.*` are not finite"):
        train(make_spec(data, tmp_path, epochs=1, batch_size=1024))


@pytest.mark.parametrize("rate", [1e30, 1e10, 1e7])
def test_a_learning_rate_far_too_large_gives_no_model(
    data: Path, tmp_path: Path, rate: float
) -> None:
    spec = make_spec(data, tmp_path, learning_rate=rate)
    with pytest.raises(TrainingError, match=r"^training diverged, no epoch is above chance: epoch"):
        train(spec)
    assert not (tmp_path / FINAL).exists()


def test_no_validated_epoch_above_chance(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Validation, "chance", lambda _: (0.13, 0.01))
    scripted(monkeypatch, [0.1, 0.15, 0.9])
    stopping = EarlyStopping("recall@3", patience=2)
    with pytest.raises(TrainingError) as caught:
        train(make_spec(data, tmp_path, epochs=2, early_stopping=stopping))
    assert str(caught.value) == (
        "training diverged, no epoch is above chance: recall@3 of the validation split is 0.15, "
        "and a random order of the items has 0.13 with a standard error of 0.01; lower "
        "training.learning_rate or raise loss.temperature"
    )


def test_diverged_after_a_good_epoch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is that of the best epoch, without a refit; and so it is when it is resumed."""
    one = make_spec(data, tmp_path / "one", epochs=1)
    train(dataclasses.replace(one, all_path=one.fit_path))
    monkeypatch.setattr(Validation, "chance", lambda _: (0.13, 0.01))
    scripted(monkeypatch, [0.5, 0.1])
    stopping = EarlyStopping("recall@3", patience=1, refit=True)
    spec = make_spec(data, tmp_path / "x", epochs=9, early_stopping=stopping)
    progress = train(spec)
    assert (progress.diverged, progress.best_epoch, len(progress.history)) == (True, 1, 2)
    assert_equal(final(tmp_path / "x"), final(tmp_path / "one"))
    again = dataclasses.replace(spec, training=dataclasses.replace(spec.training, resume=True))
    assert train(again).diverged


def test_diverged_without_validation(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is that of the last good epoch."""
    one = make_spec(data, tmp_path / "one", epochs=1)
    train(one)
    check, calls = loop.check_network, iter(range(9))

    def second_time(*arguments: Any) -> None:
        check(*arguments)
        if next(calls):
            raise loop.DivergenceError("as the test wants")

    monkeypatch.setattr(loop, "check_network", second_time)
    spec = make_spec(data, tmp_path / "x", epochs=9)
    progress = train(spec)
    assert (progress.diverged, progress.epoch, len(progress.history)) == (True, 1, 1)
    assert_equal(final(tmp_path / "x"), final(tmp_path / "one"))


def test_a_refit_that_diverges_leaves_the_validated_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, calls = loop.check_network, iter(range(9))

    def second_time(*arguments: Any) -> None:
        check(*arguments)
        if next(calls):
            raise loop.DivergenceError("as the test wants")

    one = make_spec(data, tmp_path / "one", epochs=1)
    train(dataclasses.replace(one, all_path=one.fit_path))
    monkeypatch.setattr(loop, "check_network", second_time)
    stopping = EarlyStopping("recall@3", refit=True)
    spec = make_spec(data, tmp_path / "x", epochs=1, early_stopping=stopping)
    assert train(spec).diverged
    assert_equal(final(tmp_path / "x"), final(tmp_path / "one"))


def test_gradients_are_clipped(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of all weights but the embedding tables, together, before every step."""
    norms = []
    step = torch.optim.AdamW.step

    def record(self: torch.optim.AdamW, *arguments: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.cat([gradient.reshape(-1) for gradient in gradients]).norm().item())
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", record)
    train(make_spec(data, tmp_path / "a", epochs=1))
    free = len(norms)
    assert max(norms) > 0.01
    train(make_spec(data, tmp_path / "b", epochs=1, clip_norm=0.01))
    assert norms[free:] and max(norms[free:]) <= 0.01 + 1e-6
