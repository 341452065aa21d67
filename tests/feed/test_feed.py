"""The feed: every row once an epoch, the same batches for the same seed, and loud failures."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from s3_gate import Gate
from torch import Tensor

from sparkrec.errors import DataError, StorageError, TrainingError
from sparkrec.feed import _petastorm, feed
from sparkrec.feed.feed import Feed, FeedSettings, column_names
from sparkrec.io import storage

FIELDS = {"user": 2, "item": 0, "negatives": 11}
UNCACHED = 0


def write(folder: Path, groups: list[int]) -> str:
    """One file a row group; the columns of row r are r, r + 0.1 million, r + 0.2 million, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for field, width in FIELDS.items() for name in column_names(field, width)]
    start = 0
    for number, rows in enumerate(groups):
        ids = np.arange(start, start + rows)
        table = pa.table({name: ids + 100_000 * i for i, name in enumerate(names)})
        pyarrow.parquet.write_table(table, folder / f"part-{number:03d}.parquet")
        start += rows
    return str(folder)


def settings(path: str, **changes: Any) -> FeedSettings:
    return FeedSettings(**{"path": path, "fields": FIELDS, "batch_size": 8, "seed": 5, **changes})


def run(source: Feed, epoch: int) -> list[dict[str, Tensor]]:
    return list(source.epoch(epoch))


def rows_of(batches: list[dict[str, Tensor]]) -> list[int]:
    return [int(row) for batch in batches for row in batch["user"][:, 0]]


def feed_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sparkrec-feed"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write(tmp_path / "rows", [13, 7, 20, 1, 9])


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("cache_bytes", [UNCACHED, 1 << 20])
def test_every_row_is_read_once_and_whole(path: str, cache_bytes: int) -> None:
    source = Feed(settings(path, cache_bytes=cache_bytes))
    assert (source.rows, source.rows_all_ranks, source.steps) == (50, 50, 7)
    for epoch in (1, 2, 3):
        batches = run(source, epoch)
        assert [len(batch["item"]) for batch in batches] == [8] * 6 + [2]
        assert sorted(rows_of(batches)) == list(range(50))
        for batch in batches:
            assert {name: batch[name].dtype for name in FIELDS} == dict.fromkeys(
                FIELDS, torch.int64
            )
            rows = batch["user"][:, 0]
            columns = torch.cat([batch["user"], batch["item"][:, None], batch["negatives"]], dim=1)
            expected = rows[:, None] + 100_000 * torch.arange(2 + 1 + 11)
            assert torch.equal(columns, expected)


# There are 5 row groups: 7 ranks have to divide the rows of some.
@pytest.mark.parametrize("world", [2, 3, 5, 7])
@pytest.mark.parametrize("cache_bytes", [UNCACHED, 1 << 20])
@pytest.mark.parametrize("shuffle_rows", [4, 262_144])
def test_ranks_share_the_rows_and_step_together(
    path: str, world: int, cache_bytes: int, shuffle_rows: int
) -> None:
    feeds = [
        Feed(
            settings(
                path, rank=rank, world=world, cache_bytes=cache_bytes, shuffle_rows=shuffle_rows
            )
        )
        for rank in range(world)
    ]
    assert sum(source.rows for source in feeds) == 50
    for epoch in (1, 2):
        epochs = [run(source, epoch) for source in feeds]
        sizes = [[len(batch["item"]) for batch in batches] for batches in epochs]
        assert all(size == sizes[0] for size in sizes)
        assert {len(batches) for batches in epochs} == {source.steps for source in feeds}
        given = [rows_of(batches) for batches in epochs]
        assert set().union(*given) == set(range(50))
        for rank, (source, rows) in enumerate(zip(feeds, given, strict=True)):
            # A short rank goes round: no row of it is left out, none is another rank's.
            assert len(set(rows)) == source.rows
            counts = np.bincount(rows)
            assert counts[counts > 0].max() - counts[counts > 0].min() <= 1
            for other in given[rank + 1 :]:
                assert not set(rows) & set(other)


@pytest.mark.parametrize("cache_bytes", [UNCACHED, 1 << 20])
def test_an_epoch_is_a_function_of_seed_and_epoch(path: str, cache_bytes: int) -> None:
    first = Feed(settings(path, cache_bytes=cache_bytes))
    second = Feed(settings(path, cache_bytes=cache_bytes))
    orders = [rows_of(run(first, epoch)) for epoch in (1, 2, 3)]
    assert orders == [rows_of(run(second, epoch)) for epoch in (1, 2, 3)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    other = Feed(settings(path, cache_bytes=cache_bytes, seed=6))
    assert rows_of(run(other, 1)) != orders[0]
    assert rows_of(run(other, 2)) != orders[1]


@pytest.mark.parametrize("cache_bytes", [UNCACHED, 1 << 20])
@pytest.mark.parametrize("world", [1, 2])
def test_a_resumed_feed_goes_on_as_the_old_one(path: str, cache_bytes: int, world: int) -> None:
    options = {"cache_bytes": cache_bytes, "world": world}
    old = Feed(settings(path, **options))
    run(old, 1)
    expected = [rows_of(run(old, epoch)) for epoch in (2, 3)]
    resumed = Feed(settings(path, **options))
    assert [rows_of(run(resumed, epoch)) for epoch in (2, 3)] == expected
    # An epoch that was broken off changes nothing.
    broken = Feed(settings(path, **options))
    with closing(broken.epoch(1)) as batches:
        next(batches)
    assert rows_of(run(broken, 2)) == expected[0]


def test_the_cache_is_read_once_and_streaming_every_time(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    make = _petastorm.make_batch_reader

    def counting(*args: Any, **kwargs: Any) -> Any:
        made.append(args)
        return make(*args, **kwargs)

    monkeypatch.setattr(_petastorm, "make_batch_reader", counting)
    for cache_bytes, readers in ((1 << 20, 1), (UNCACHED, 3)):
        made.clear()
        source = Feed(settings(path, cache_bytes=cache_bytes))
        for epoch in (1, 2, 3):
            run(source, epoch)
        assert len(made) == readers


def test_windows_mix_the_row_groups_after_the_first(tmp_path: Path) -> None:
    path = write(tmp_path / "many", [10] * 8)
    order = rows_of(run(Feed(settings(path, batch_size=10, cache_bytes=UNCACHED)), 1))
    assert len({row // 10 for row in order[:10]}) == 1
    assert len({row // 10 for row in order[10:20]}) > 2
    narrow = settings(path, batch_size=10, cache_bytes=UNCACHED, shuffle_rows=1)
    order = rows_of(run(Feed(narrow), 1))
    assert [len({row // 10 for row in order[i : i + 10]}) for i in range(0, 80, 10)] == [1] * 8


def test_a_lost_row_group_is_an_error(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make = _petastorm.make_batch_reader

    class Losing:
        def __init__(self, reader: Any) -> None:
            self.reader = reader

        def __enter__(self) -> "Losing":
            return self

        def __exit__(self, *error: object) -> None:
            self.reader.stop()
            self.reader.join()

        def __iter__(self) -> Iterator[Any]:
            groups = list(self.reader)
            return iter(groups[:-1])

    monkeypatch.setattr(_petastorm, "make_batch_reader", lambda *a, **k: Losing(make(*a, **k)))
    for cache_bytes in (UNCACHED, 1 << 20):
        with pytest.raises(TrainingError, match=r"petastorm read \d+ rows .* hold 50"):
            run(Feed(settings(path, cache_bytes=cache_bytes)), 1)
    assert not feed_threads()


def test_the_rows_come_through_petastorm(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no petastorm today")

    monkeypatch.setattr(_petastorm, "make_batch_reader", broken)
    with pytest.raises(RuntimeError, match="no petastorm today"):
        run(Feed(settings(path)), 1)


def test_an_exception_of_the_reading_thread_is_raised_here(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Feed, epoch: int) -> Iterator[Any]:
        yield from list(read(self, epoch))[:2]
        raise OSError("the disk is gone")

    read = Feed._row_groups
    monkeypatch.setattr(Feed, "_row_groups", failing)
    with pytest.raises(OSError, match="the disk is gone"):
        run(Feed(settings(path, cache_bytes=UNCACHED)), 1)
    assert not feed_threads()


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_closing_early_leaves_no_thread(path: str, taken: int) -> None:
    source = Feed(settings(path, batch_size=2, cache_bytes=UNCACHED, shuffle_rows=1))
    batches = source.epoch(1)
    for _ in range(taken):
        next(batches)
    batches.close()
    assert not feed_threads()


def test_a_failing_consumer_leaves_no_thread(path: str) -> None:
    source = Feed(settings(path, batch_size=2, cache_bytes=UNCACHED, shuffle_rows=1))
    with pytest.raises(ZeroDivisionError), closing(source.epoch(1)) as batches:
        for _ in batches:
            1 / 0  # noqa: B018
    assert not feed_threads()


def test_fewer_rows_than_ranks(tmp_path: Path) -> None:
    """Some rows are read by several ranks, so that every rank has as many batches."""
    path = write(tmp_path / "two", [1, 1])
    feeds = [Feed(settings(path, rank=rank, world=5)) for rank in range(5)]
    assert [rows_of(run(source, 1)) for source in feeds] == [[0], [1], [0], [1], [0]]


@pytest.mark.slow
@pytest.mark.parametrize("begun", [False, True])
def test_keys_that_expire(path: str, s3: str, begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file does not count as damaged."""
    storage.copy_folder(path, f"{s3}/rows")
    with Gate(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
        source = Feed(settings(f"{s3}/rows")) if begun else None
        fault = gate.when("(GET|HEAD) /test/.*rows", "expire")
        with pytest.raises(StorageError, match=f"^{s3}/rows: .*session token.* expired.* get new"):
            list((source or Feed(settings(f"{s3}/rows"))).epoch(1))
        assert fault.came.is_set()


def test_no_rows(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="has no training rows"):
        Feed(settings(str(tmp_path / "nothing")))
    with pytest.raises(DataError, match="has no training rows"):
        Feed(settings(write(tmp_path / "empty", [0, 0])))


def test_a_folder_with_a_space(tmp_path: Path) -> None:
    path = write(tmp_path / "my rows 100%", [3, 4])
    assert sorted(rows_of(run(Feed(settings(path)), 1))) == list(range(7))


def test_several_row_groups_in_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    write(folder, [40])
    table = pyarrow.parquet.read_table(folder / "part-000.parquet")
    pyarrow.parquet.write_table(table, folder / "part-000.parquet", row_group_size=9)
    feeds = [Feed(settings(str(folder), rank=rank, world=2)) for rank in range(2)]
    assert [source.rows for source in feeds] == [9 + 9 + 4, 9 + 9]
    assert {row for source in feeds for row in rows_of(run(source, 1))} == set(range(40))


def test_time_spent_waiting_is_counted(path: str) -> None:
    source = Feed(settings(path))
    run(source, 1)
    once = source.waited_seconds
    assert once > 0
    run(source, 2)
    assert source.waited_seconds > once


def test_column_names() -> None:
    assert column_names("item", 0) == ["item"]
    assert column_names("user", 3) == ["user_0", "user_1", "user_2"]
    assert feed.column_names("user", 1) == ["user_0"]


# ------------------------------------------------------------------- rows of like length together

LENGTHS = [1 + 7 * row % 50 for row in range(300)]


@pytest.fixture
def padded(tmp_path: Path) -> str:
    """300 rows of 50 columns; row r holds r + 1 as often as LENGTHS says, and zeros behind."""
    matrix = np.zeros((300, 50), np.int64)
    for row, length in enumerate(LENGTHS):
        matrix[row, :length] = row + 1
    table = pa.table({f"items_{i}": matrix[:, i] for i in range(50)})
    pyarrow.parquet.write_table(table, tmp_path / "part.parquet")
    return str(tmp_path)


def test_rows_of_like_length_share_a_batch(padded: str) -> None:
    choices = {"fields": {"items": 50}, "batch_size": 16}
    plain = Feed(settings(padded, **choices))
    dealt = Feed(settings(padded, batches_by_length="items", **choices))

    def padding(batches: list[dict[str, Tensor]]) -> float:
        used = sum(int((batch["items"] != 0).sum()) for batch in batches)
        shape = [(batch["items"] != 0).sum(dim=1) for batch in batches]
        return 1 - used / sum(len(lengths) * int(lengths.max()) for lengths in shape)

    for epoch in (1, 2):
        batches = run(dealt, epoch)
        assert sorted(len(batch["items"]) for batch in batches) == [12] + [16] * 18
        rows = [int(row) for batch in batches for row in batch["items"][:, 0]]
        assert sorted(rows) == list(range(1, 301))
        assert padding(batches) < 0.15 < 0.4 < padding(run(plain, epoch))


def test_batches_by_length_come_in_random_but_fixed_order(padded: str) -> None:
    choices = {"fields": {"items": 50}, "batch_size": 16, "batches_by_length": "items"}
    first, second = Feed(settings(padded, **choices)), Feed(settings(padded, **choices))
    for epoch in (1, 2):
        one, two = run(first, epoch), run(second, epoch)
        equal = [torch.equal(a["items"], b["items"]) for a, b in zip(one, two, strict=True)]
        assert all(equal)
        longest = [int((batch["items"] != 0).sum(dim=1).max()) for batch in one]
        assert longest != sorted(longest)


def test_closing_early_leaves_no_thread_by_length_either(padded: str) -> None:
    source = Feed(settings(padded, fields={"items": 50}, batch_size=16, batches_by_length="items"))
    with closing(source.epoch(1)) as batches:
        next(batches)
    assert not feed_threads()
