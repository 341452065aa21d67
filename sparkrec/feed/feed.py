"""Reads encoded parquet through petastorm and yields batches of int64 tensors.

Weights, if rows have any, are float64.

One background thread reads the rows with petastorm's batch reader and its dummy pool, so the order
of rows depends only on (seed, epoch). The next rows are read while the network trains. Training
rows are written in random order (see `encoding.encode`), so it is enough to shuffle within a few
row groups. Data that fits into `cache_bytes` is read once and shuffled as a whole in later epochs.

petastorm can end an epoch early without an error, so the rows of every epoch are compared with the
numbers in the parquet footers.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparkrec.errors import DataError, TrainingError
from sparkrec.feed import _petastorm
from sparkrec.feed.prefetch import ahead
from sparkrec.feed.share import Share
from sparkrec.io import s3, storage

# Number of batches whose rows are sorted by length together.
_BATCHES_SORTED = 16

Array = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class FeedSettings:
    """Where the rows are and how they become batches.

    Attributes
    ----------
    path
        Folder of encoded parquet.
    fields
        Name of each tensor and its width; a field of width 0 is one scalar column.
    batch_size
        Number of rows in a batch of this rank.
    seed
        Seed of the order of rows.
    rank, world
        Number of this process, and number of processes.
    shuffle_rows
        Number of rows that are shuffled together during the first epoch, and in every epoch if the
        data is not cached.
    cache_bytes
        Data up to this size is held in memory after the first epoch.
    batches_by_length
        Name of a field that is padded with zeros at the end. Rows of similar length are put into
        the same batch, within a few batches, so that a batch has little padding. None mixes rows at
        random.
    """

    path: str
    fields: Mapping[str, int]
    batch_size: int
    seed: int = 0
    rank: int = 0
    world: int = 1
    shuffle_rows: int = 262_144
    cache_bytes: int = 1 << 30
    batches_by_length: str | None = None


class Feed:
    """Batches of one rank, epoch by epoch; every rank yields the same number of them.

    Raises
    ------
    DataError
        There are no rows, or a file that cannot be read.
    StorageError
        S3 cannot be reached, or refuses.
    """

    def __init__(self, settings: FeedSettings) -> None:
        self.settings = settings
        filesystem, folder = storage.arrow_filesystem(settings.path)
        with s3.arrow_errors(settings.path):
            groups = _petastorm.row_counts(filesystem, folder)
        if not sum(groups):
            raise DataError(f"{settings.path} has no training rows")
        shares = [Share.of(rank, settings.world, groups) for rank in range(settings.world)]
        self._share = shares[settings.rank]
        self.rows = self._share.rows
        self.rows_all_ranks = sum(groups)
        self._target = max(share.rows for share in shares)
        self.steps = -(-self._target // settings.batch_size)
        self.waited_seconds = 0.0
        columns = sum(width or 1 for width in settings.fields.values())
        self._cacheable = self.rows * columns * 8 <= settings.cache_bytes
        self._cached: Arrays | None = None

    def epoch(self, epoch: int) -> Generator[dict[str, Tensor], None, None]:
        """Yield the batches of an epoch (1, 2, ...), the same ones for the same seed and epoch.

        A rank with fewer rows than the others repeats some of its rows, so that all ranks have the
        same number of batches and no row is dropped. Time spent waiting for data is added to
        `waited_seconds`.

        Raises
        ------
        TrainingError
            The reader returned another number of rows than the files have.
        """
        if self._cacheable and epoch > 1:
            if self._cached is None:
                # In a resumed run: the rows that the first epoch would have cached, in its order.
                self._cached = _concatenate(list(self._row_groups(1)))
            source = self._cached_windows(self._cached, epoch)
        else:
            source = self._windows(epoch)
        batches = self._batches(ahead(source))
        if self.settings.batches_by_length is not None:
            batches = self._by_length(batches, epoch)
        yield from batches

    def _row_groups(self, epoch: int) -> Iterator[Arrays]:
        """Yield the row groups in an order that depends on (seed, epoch), and count their rows."""
        settings = self.settings
        filesystem, folder = storage.arrow_filesystem(settings.path)
        seen = 0
        with s3.arrow_errors(settings.path):
            reader = _petastorm.make_batch_reader(
                # petastorm checks the scheme even if it is given a file system; see the adapter.
                "file:///" + quote(folder.lstrip("/")),
                reader_pool_type="dummy",
                # These are patterns; without the `$`, petastorm warns that `user_1` matches
                # `user_10`.
                schema_fields=[
                    f"{name}$"
                    for field, width in settings.fields.items()
                    for name in column_names(field, width)
                ],
                shuffle_row_groups=True,
                seed=_seed32(settings.seed, epoch),
                num_epochs=1,
                cur_shard=self._share.shard,
                shard_count=self._share.shards,
                filesystem=filesystem,
            )
            with reader:
                for group in reader:
                    arrays = {
                        field: _collect(group, field, width)[self._share.start :: self._share.step]
                        for field, width in settings.fields.items()
                    }
                    seen += len(next(iter(arrays.values())))
                    yield arrays
        if seen != self.rows:
            raise TrainingError(
                f"petastorm read {seen} rows of {settings.path} in epoch {epoch}, but the files "
                f"hold {self.rows} for this worker"
            )

    def _windows(self, epoch: int) -> Iterator[Arrays]:
        kept: list[Arrays] = []
        window: list[Arrays] = []
        rows, number = 0, 0
        for group in self._row_groups(epoch):
            if self._cacheable:
                kept.append(group)
            window.append(group)
            rows += len(next(iter(group.values())))
            # The first window is one row group, so that training starts at once.
            if rows >= self.settings.shuffle_rows or number == 0:
                yield self._shuffled(_concatenate(window), epoch, number)
                window, rows, number = [], 0, number + 1
        if window:
            yield self._shuffled(_concatenate(window), epoch, number)
        if self._cacheable:
            self._cached = _concatenate(kept)

    def _shuffled(self, arrays: Arrays, epoch: int, window: int) -> Arrays:
        order = self._order(len(next(iter(arrays.values()))), epoch, window)
        return {name: array[order] for name, array in arrays.items()}

    def _cached_windows(self, arrays: Arrays, epoch: int) -> Iterator[Arrays]:
        """Yield all rows in one random order, in pieces, while the network trains."""
        order = self._order(len(next(iter(arrays.values()))), epoch, 0)
        for start in range(0, len(order), 65_536):
            piece = order[start : start + 65_536]
            yield {name: array[piece] for name, array in arrays.items()}

    def _order(self, rows: int, epoch: int, window: int) -> npt.NDArray[np.int64]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, epoch, settings.rank, window])
        return rng.permutation(rows)

    def _batches(self, windows: Iterator[Arrays]) -> Iterator[dict[str, Tensor]]:
        size = self.settings.batch_size
        short = self._target - self.rows
        head: list[Arrays] = []
        rest: Arrays | None = None
        for window in self._waiting(windows):
            if short > sum(len(next(iter(part.values()))) for part in head):
                head.append(window)
            if rest is not None:
                window = _concatenate([rest, window])
            rows = len(next(iter(window.values())))
            whole = rows - rows % size
            for start in range(0, whole, size):
                yield _tensors(window, start, start + size)
            rest = {name: array[whole:] for name, array in window.items()} if whole < rows else None
        if short:
            again = _concatenate(head)
            rows = len(next(iter(again.values())))
            take = np.arange(short) % rows
            tail = {name: array[take] for name, array in again.items()}
            rest = tail if rest is None else _concatenate([rest, tail])
        if rest is not None:
            rows = len(next(iter(rest.values())))
            for start in range(0, rows, size):
                yield _tensors(rest, start, min(start + size, rows))

    def _by_length(
        self, batches: Iterator[dict[str, Tensor]], epoch: int
    ) -> Iterator[dict[str, Tensor]]:
        """Sort the rows of every few batches by length, and yield the batches shuffled."""
        settings = self.settings
        assert settings.batches_by_length is not None
        rng = np.random.default_rng([settings.seed, epoch, settings.rank])
        while some := list(islice(batches, _BATCHES_SORTED)):
            rows = {name: torch.cat([batch[name] for batch in some]) for name in some[0]}
            lengths = (rows[settings.batches_by_length] != 0).sum(dim=1)
            order = torch.argsort(lengths, stable=True)
            sizes = [len(batch[settings.batches_by_length]) for batch in some]
            dealt = order.split(sizes)
            for number in rng.permutation(len(dealt)):
                yield {name: values[dealt[number]] for name, values in rows.items()}

    def _waiting(self, windows: Iterator[Arrays]) -> Iterator[Arrays]:
        while True:
            start = perf_counter()
            window = next(windows, None)
            self.waited_seconds += perf_counter() - start
            if window is None:
                return
            yield window


def column_names(field: str, width: int) -> list[str]:
    """The parquet columns of a field: `user_0`, `user_1`, ...; the bare name for width 0.

    petastorm reads one int64 column per number fastest: with a list column it makes a small numpy
    array for every row.
    """
    return [field] if width == 0 else [f"{field}_{i}" for i in range(width)]


def _collect(group: Any, field: str, width: int) -> Array:
    columns = [getattr(group, name) for name in column_names(field, width)]
    return np.stack(columns, axis=1) if width else np.asarray(columns[0])


def _concatenate(parts: list[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _tensors(arrays: Arrays, start: int, stop: int) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array[start:stop]) for name, array in arrays.items()}


def _seed32(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
