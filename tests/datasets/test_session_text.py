"""Sessions as lines of text, read and written."""

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkrec.datasets.session_text import SessionText, SessionTextInput, convert
from sparkrec.errors import DataError, StorageError
from sparkrec.io.outputs import resolve
from sparkrec.io.tables import load_table, write_table


def run(spark: SparkSession, target: Path, source: SessionTextInput, bad: int = 0) -> str:
    config = SessionText(
        job="session_text", dataset="mine", input=source, output_path=str(target), max_bad_rows=bad
    )
    return convert(spark, config)


def events_of(spark: SparkSession, path: Path) -> list[tuple]:
    frame = load_table(spark, str(path)).orderBy("position")
    return [tuple(row) for row in frame.collect()]


def test_lines_to_events(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "lines"
    folder.mkdir()
    (folder / "a.txt").write_text("2 0 2\r\n1\n")
    (folder / "b.txt").write_text("0\t1 ")
    (folder / "_SUCCESS").write_text("")
    said = run(spark, tmp_path / "plain", SessionTextInput(sessions=str(folder)))
    assert said.endswith("6 events of 3 sessions")
    wanted = [(0, 2, 0, 0), (0, 0, 1, 1), (0, 2, 2, 2), (1, 1, 0, 3), (2, 0, 0, 4), (2, 1, 1, 5)]
    assert events_of(spark, tmp_path / "plain") == wanted
    (tmp_path / "vocab.txt").write_text("apple\npear juice\nfig\n")
    source = SessionTextInput(sessions=str(folder), vocabulary=str(tmp_path / "vocab.txt"))
    run(spark, tmp_path / "named", source)
    names = ["apple", "pear juice", "fig"]
    assert events_of(spark, tmp_path / "named") == [(s, names[i], t, p) for s, i, t, p in wanted]


def test_there_and_back(spark: SparkSession, tmp_path: Path) -> None:
    """Items come back by the vocabulary; sessions are in the order of their ids."""
    rows = [(9, 50, 5, 1), (9, 40, 5, 0), (3, 70, 1, 2), (3, 50, 2, 3), (3, 50, 3, 4)]
    frame = spark.createDataFrame(rows, "session_id int, item_id int, timestamp int, position int")
    write_table(frame, str(tmp_path / "events"), "test")
    said = run(spark, tmp_path / "text", SessionTextInput(events=str(tmp_path / "events")))
    assert "2 sessions, 3 items, 0 events of unknown items left out" in said
    files = sorted(Path(resolve(str(tmp_path / "text")), "sessions").glob("part-*"))
    assert "".join(file.read_text() for file in files) == "2 1 1\n0 1\n"
    assert Path(resolve(str(tmp_path / "text" / "vocab.txt"))).read_text() == "40\n50\n70\n"
    back = SessionTextInput(
        sessions=str(tmp_path / "text" / "sessions"),
        vocabulary=str(tmp_path / "text" / "vocab.txt"),
    )
    run(spark, tmp_path / "back", back)
    found = [(row[0], int(row[1])) for row in events_of(spark, tmp_path / "back")]
    assert found == [(0, 70), (0, 50), (0, 50), (1, 40), (1, 50)]


@pytest.mark.parametrize(("kind", "items"), [("string", ["a", "b", "c"]), ("long", [1, 2, 3])])
def test_a_given_vocabulary_leaves_others_out(
    spark: SparkSession, tmp_path: Path, kind: str, items: list[Any]
) -> None:
    rows = [(1, items[0], 0, 0), (1, items[1], 1, 1), (2, items[2], 2, 2)]
    schema = f"session_id int, item_id {kind}, timestamp int, position int"
    frame = spark.createDataFrame(rows, schema)
    write_table(frame, str(tmp_path / "events"), "test")
    (tmp_path / "vocab.txt").write_text(f"z\n{items[1]}\n")  # z is no whole number
    source = SessionTextInput(
        events=str(tmp_path / "events"), vocabulary=str(tmp_path / "vocab.txt")
    )
    said = run(spark, tmp_path / "text", source)
    assert "1 sessions, 2 items, 2 events of unknown items left out" in said
    files = sorted(Path(resolve(str(tmp_path / "text")), "sessions").glob("part-*"))
    assert "".join(file.read_text() for file in files) == "1\n"


def test_mistakes(spark: SparkSession, tmp_path: Path) -> None:
    for wrong in ({}, {"sessions": "a", "events": "b"}):
        with pytest.raises(ValueError, match="sessions or events must be given"):
            SessionTextInput(**wrong)
    lines, vocabulary = tmp_path / "lines.txt", tmp_path / "vocab.txt"
    with pytest.raises(StorageError, match=r"lines\.txt"):
        run(spark, tmp_path / "out", SessionTextInput(sessions=str(lines)))
    lines.write_text("0 1\n0 x\n5 0\n")
    with pytest.raises(DataError, match=r"1 bad row.*session 2: '0 x'"):
        run(spark, tmp_path / "out", SessionTextInput(sessions=str(lines)))
    vocabulary.write_text("a\nb\n")
    source = SessionTextInput(sessions=str(lines), vocabulary=str(vocabulary))
    with pytest.raises(DataError, match=r"2 bad rows"):
        run(spark, tmp_path / "out", source)
    assert not (tmp_path / "out").exists()
    run(spark, tmp_path / "out", source, bad=2)
    assert [row[:2] for row in events_of(spark, tmp_path / "out")] == [(0, "a"), (0, "b")]
    lines.write_text("\n \n")
    with pytest.raises(DataError, match="has no session"):
        run(spark, tmp_path / "none", SessionTextInput(sessions=str(lines)))
    vocabulary.write_text("a\na\n")
    with pytest.raises(DataError, match="names an item twice"):
        run(spark, tmp_path / "none", source)
    lines.write_bytes(b"0 1\n1\xff 0\n")
    with pytest.raises(DataError, match=r"1 bad row.*session 2: '1\ufffd 0'"):
        run(spark, tmp_path / "none", SessionTextInput(sessions=str(lines)))
    vocabulary.write_bytes(b"a\n\xff\n")
    with pytest.raises(DataError, match=r"vocab\.txt is not UTF-8 text"):
        run(spark, tmp_path / "none", source)
