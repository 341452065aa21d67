"""The petastorm adapter: it reads today's parquet, and leaves pyarrow as it was."""

from itertools import chain
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet
import pytest

from sparkrec.feed import _petastorm

ROWS_PER_GROUP = 5


def write(folder: Path, files: int = 4, groups: int = 2) -> Path:
    """`row` counts through all files; `user_1` and `user_10` tell columns from prefixes."""
    folder.mkdir(parents=True)
    rows = ROWS_PER_GROUP * groups
    for number in range(files):
        row = np.arange(number * rows, (number + 1) * rows)
        table = pa.table({"row": row, "user_1": row + 1000, "user_10": row + 2000})
        path = folder / f"part-{number:02d}.parquet"
        pyarrow.parquet.write_table(table, path, row_group_size=ROWS_PER_GROUP)
    return folder


def read(folder: Path, seed: int = 0, **options: object) -> list[list[int]]:
    """The `row` values of each row group, as they come."""
    reader = _petastorm.make_batch_reader(
        "file://" + quote(str(folder)),
        schema_fields=["row"],
        reader_pool_type="dummy",
        shuffle_row_groups=True,
        seed=seed,
        num_epochs=1,
        filesystem=pyarrow.fs.LocalFileSystem(),
        **options,
    )
    with reader:
        return [group.row.tolist() for group in reader]


def test_reads_every_row_once_and_row_groups_whole(tmp_path: Path) -> None:
    groups = read(write(tmp_path / "rows"))
    assert sorted(chain(*groups)) == list(range(40))
    assert all(group == list(range(group[0], group[0] + ROWS_PER_GROUP)) for group in groups)


def test_the_order_depends_on_the_seed_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "rows")
    assert read(folder, seed=3) == read(folder, seed=3)
    assert read(folder, seed=3) != read(folder, seed=4)


def test_shards_are_every_nth_row_group_whatever_the_seed(tmp_path: Path) -> None:
    folder = write(tmp_path / "rows")
    for seed in (1, 2):
        for shard in range(3):
            groups = read(folder, seed=seed, cur_shard=shard, shard_count=3)
            firsts = sorted(group[0] // ROWS_PER_GROUP for group in groups)
            assert firsts == list(range(8))[shard::3]


@pytest.mark.parametrize("name", ["with space", "100% of it", "a#b?c=d&e", "größe+plus"])
def test_odd_folder_names(name: str, tmp_path: Path) -> None:
    assert sorted(chain(*read(write(tmp_path / name)))) == list(range(40))


@pytest.mark.filterwarnings("error::UserWarning")
def test_only_the_columns_named_are_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "rows", files=1)
    reader = _petastorm.make_batch_reader(
        "file://" + str(folder),
        schema_fields=["user_1$"],
        reader_pool_type="dummy",
        filesystem=pyarrow.fs.LocalFileSystem(),
    )
    with reader:
        group = next(iter(reader))
    assert group._fields == ("user_1",)
    assert group.user_1.dtype == np.int64


def test_parquet_files_are_found_below_and_sorted(tmp_path: Path) -> None:
    write(tmp_path / "b", files=1)
    write(tmp_path / "a", files=2)
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "_sparkrec.json").write_text("{}")
    found = _petastorm.parquet_files(pyarrow.fs.LocalFileSystem(), str(tmp_path))
    below = [Path(path).relative_to(tmp_path).as_posix() for path in found]
    assert below == ["a/part-00.parquet", "a/part-01.parquet", "b/part-00.parquet"]


def test_pyarrow_itself_is_untouched(tmp_path: Path) -> None:
    assert pyarrow.parquet.ParquetDataset is not _petastorm.ParquetDataset
    assert pyarrow.parquet.ParquetDataset.__module__ == "pyarrow.parquet.core"
    dataset = pyarrow.parquet.ParquetDataset(str(write(tmp_path / "rows")))
    assert dataset.read().num_rows == 40
