"""Own data: the worked example of the docs, and every option and mistake by itself."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from sparkrec.columns import Columns
from sparkrec.config.load import from_json, load_config
from sparkrec.datasets.raw.sources import CsvOptions
from sparkrec.datasets.tables import PrepareOwn, prepare_own
from sparkrec.errors import ConfigError, DataError, StorageError
from sparkrec.io.tables import read_table

REPO = Path(__file__).parents[2]
COLUMNS = {"user": "u", "item": "i", "timestamp": "t"}

Run = Callable[..., dict[str, list[dict[str, Any]]]]


@pytest.fixture
def run(spark: SparkSession, tmp_path: Path) -> Run:
    """Prepare with the given `input.events`; returns the rows of the three tables."""

    def prepare(
        events: dict[str, Any], more: dict[str, Any] | None = None, **top: Any
    ) -> dict[str, list[dict[str, Any]]]:
        values = {
            "job": "prepare",
            "dataset": "own",
            "output_path": str(tmp_path / "out"),
            "input": {"events": {"columns": COLUMNS, **events}, **(more or {})},
        } | top
        config = from_json(PrepareOwn, values, "test")
        prepare.prepared = prepare_own(spark, config)  # type: ignore[attr-defined]
        tables = {}
        for name, order in (("events", "position"), ("users", "user_id"), ("items", "item_id")):
            frame = read_table(spark, str(tmp_path / "out" / name), name)
            tables[name] = [row.asDict() for row in frame.orderBy(order).collect()]
        return tables

    return prepare


def csv(tmp_path: Path, *lines: str, name: str = "e.csv", encoding: str = "utf-8") -> dict:
    (tmp_path / name).write_text("".join(line + "\n" for line in lines), encoding=encoding)
    return {"path": str(tmp_path / name), "format": "csv"}


def picked(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def test_the_example_of_the_docs(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (REPO / "docs" / "your-data.md").read_text(encoding="utf-8")
    for name, text in re.findall(r"<!-- file: (\S+) -->\n```\n(.*?)```", page, re.S):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    conf = REPO / "conf" / "prepare_example.yaml"
    assert f"```yaml\n{conf.read_text(encoding='utf-8')}```" in page
    monkeypatch.setenv("MY_S3_BUCKET", str(tmp_path))
    printed = str(prepare_own(spark, load_config(str(conf), PrepareOwn)))
    shown = re.search(r"<!-- printed -->\n```\n(.*?)```", page, re.S)
    assert shown is not None
    assert shown.group(1) in printed

    events = read_table(spark, str(tmp_path / "example" / "events"), "events")
    lines = ["| " + " | ".join(str(value) for value in row) + " |"
             for row in events.orderBy("position").collect()]  # fmt: skip
    table = f"| {' | '.join(events.columns)} |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    assert table + "\n".join(lines) in page
    items = read_table(spark, str(tmp_path / "example" / "items"), "items").collect()
    assert {row.sku: row.title for row in items} == {
        "кофе-1": "Кофе, молотый",
        "tea-7": 'Green "Sencha"',
        "pot-2": "Tea pot",
        "mug": None,
    }


@pytest.mark.slow
def test_position_does_not_depend_on_how_spark_cuts_the_input(
    run: Run, spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    lines = [f"u{n % 7},i{n},{1_000_000 - n // 400}" for n in range(2000)]
    csv(tmp_path / "in", "u,i,t", *lines[:1500], name="a.csv")
    csv(tmp_path / "in", "u,i,t", *lines[1500:], name="b.csv")
    source = {"path": str(tmp_path / "in"), "format": "csv"}
    expected = [f"i{n}" for n in sorted(range(2000), key=lambda n: (-(n // 400), n))]
    for size in ("128m", "3k"):
        spark.conf.set("spark.sql.files.maxPartitionBytes", size)
        try:
            events = run(source)["events"]
        finally:
            spark.conf.unset("spark.sql.files.maxPartitionBytes")
        assert picked(events, "item_id") == [(item,) for item in expected]
        assert picked(events, "position") == [(n,) for n in range(2000)]


@pytest.mark.slow
def test_csv_of_another_shape(run: Run, tmp_path: Path) -> None:
    source = csv(tmp_path, "2024-01-01 11:00:00\t007\tñu", "2024-01-01 10:00:00\t8\tb",
                 encoding="latin-1")  # fmt: skip
    events = run(
        source
        | {
            "csv": {"header": False, "delimiter": "\t", "encoding": "ISO-8859-1"},
            "columns": {"user": "_c2", "item": "_c1", "timestamp": "_c0"},
            "timestamp": {"format": "iso", "timezone": "Europe/Berlin"},
        }
    )["events"]
    assert picked(events, "user_id", "item_id", "timestamp", "position") == [
        ("b", "8", 1_704_099_600, 0),
        ("ñu", "007", 1_704_103_200, 1),
    ]


@pytest.mark.slow
def test_types_of_event_and_range_and_duplicates(run: Run, tmp_path: Path) -> None:
    lines = ["86400,1,a,buy,x", "86400,1,a,buy,x", "86400,1,a,see,x", "86399,1,a,buy,x"]
    lines += ["172800,1,a,buy,x", "90000,2,b,hide,y", "90000,2,b,,y"]
    source = csv(tmp_path, "t,i,u,type,s", *lines)
    wanted = {
        "columns": COLUMNS | {"session": "s"},
        "integer_ids": ["item"],
        "event_type": {"column": "type", "keep": ["buy", "see"]},
        "start": "1970-01-02",
        "end": "1970-01-03",
    }
    tables = run(source | wanted)
    assert picked(tables["events"], "user_id", "item_id", "session_id", "event_type") == [
        ("a", 1, "x", "buy"),
        ("a", 1, "x", "see"),
    ]
    assert run.prepared.left_out == {  # type: ignore[attr-defined]
        "another event type": 2,
        "outside start..end": 2,
        "duplicates": 1,
    }
    kept = run(source | wanted | {"drop_duplicates": False})["events"]
    assert picked(kept, "position", "event_type") == [(0, "buy"), (1, "buy"), (2, "see")]


def test_bad_rows(run: Run, tmp_path: Path) -> None:
    bad = {
        "no user": [",1,5,1", "  ,1,5,1"],
        "no whole number as item": ["u,NULL,5,1", "u,1.5x,5,1"],
        "timestamp is not seconds since 1970, before the year 2100": [
            "u,1,five,1",
            "u,1,1704103200123,1",
        ],
        "no number as rating": ["u,1,5,much"],
        "another number of fields than the header": ["u,1,5", "u,1,5,1,more"],
    }
    lines = [line for group in bad.values() for line in group]
    source = csv(tmp_path, "u,i,t,r", "u,1,4,1", *lines, "u,2,6,2.5")
    source |= {"columns": COLUMNS | {"rating": "r"}, "integer_ids": ["item"]}
    tables = run(source, max_bad_rows=len(lines))
    assert picked(tables["events"], "item_id", "rating") == [(1, 1.0), (2, 2.5)]
    assert run.prepared.bad_rows == {  # type: ignore[attr-defined]
        f"events: {reason}": len(group) for reason, group in bad.items()
    }
    with pytest.raises(DataError) as error:
        run(source, max_bad_rows=len(lines) - 1)
    message = str(error.value)
    assert "9 bad rows, more than max_bad_rows: 8; the first is row 2 of file:" in message
    assert '{"u":null,"i":"1","t":"5","r":"1"} (no user)' in message
    source |= csv(tmp_path, "u,i,t,r", "u,1,5", "u,1,6,1")
    with pytest.raises(DataError, match=r"row 1 of file:\S+ u,1,5 \(another number of fields"):
        run(source)


@pytest.mark.slow
def test_parquet_keeps_types_and_brings_users_and_items(
    run: Run, spark: SparkSession, tmp_path: Path
) -> None:
    spark.sql(
        "select * from values (2, 10L, timestamp'2024-01-01T10:00:00.5Z', 'x'), "
        "(1, 20L, timestamp'2024-01-01T10:00:00.25Z', 'y') as (`the user`, i, t, extra)"
    ).write.parquet(str(tmp_path / "e"))
    spark.sql("select * from values (2, 'f'), (3, 'm'), (2, 'g') as (id, gender)").coalesce(
        1
    ).write.parquet(str(tmp_path / "u"))
    items = csv(tmp_path, "colour,key", "red,20", "blue,30", "none,x", name="i.csv")
    tables = run(
        {
            "path": str(tmp_path / "e"),
            "columns": COLUMNS | {"user": "the user"},
            "keep_columns": ["extra"],
        },
        {"users": {"path": str(tmp_path / "u"), "key": "id"}, "items": items | {"key": "key"}},
        max_bad_rows=1,
    )
    assert tables["events"] == [
        {"user_id": 1, "item_id": 20, "timestamp": 1_704_103_200, "position": 0, "extra": "y"},
        {"user_id": 2, "item_id": 10, "timestamp": 1_704_103_200, "position": 1, "extra": "x"},
    ]
    assert picked(tables["users"], "user_id", "gender") == [(1, None), (2, "f"), (3, "m")]
    assert picked(tables["items"], "item_id", "colour") == [(10, None), (20, "red"), (30, "blue")]
    assert run.prepared.bad_rows == {"items: no key": 1}  # type: ignore[attr-defined]
    assert run.prepared.left_out["users: key of an earlier row"] == 1  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_table_has_an_order_of_its_columns(run: Run, spark: SparkSession) -> None:
    rows = [("b", f"i{n}", 5) for n in range(50)] + [("a", "i0", 5), ("a", "i0", 5), ("z", "i0", 4)]
    expected = [("z", "i0"), ("a", "i0"), *sorted(("b", f"i{n}") for n in range(50))]
    for order, partitions in ((rows, 1), (rows[::-1], 5)):
        frame = spark.createDataFrame(order, "u string, i string, t int").repartition(partitions)
        frame.createOrReplaceTempView("own_events")
        events = run({"table": "own_events"}, columns=vars(Columns()))["events"]
        assert picked(events, "user_id", "item_id") == expected
    spark.catalog.dropTempView("own_events")


@pytest.mark.slow
def test_where_order_by_and_what_is_doubtful(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten is after nine, cancelled orders are left out, and the figures are in the summary."""
    lines = ["u,i,t,click,n", "a,x,2024-01-01,10,1", "a,y,2024-01-01,9,2", "a,x,2024-01-01,8,-1"]
    lines += ["a,x,2024-01-01,11,1", "b,z,2024-01-01,1,", "b,z,2024-01-02,2,-3"]
    source = csv(tmp_path, *lines) | {
        "columns": COLUMNS | {"rating": "n"},
        "timestamp": {"format": "iso"},
        "where": "n > 0",
    }
    events = run(source | {"order_by": ["click"]})["events"]
    assert picked(events, "item_id", "position") == [("y", 0), ("x", 1), ("x", 2)]
    assert list(events[0]) == ["user_id", "item_id", "timestamp", "position", "rating"]
    prepared = run.prepared  # type: ignore[attr-defined]
    assert prepared.left_out == {"where is not true": 3, "duplicates": 0}
    assert "  events with a negative rating: 0.0% (0 of 3)" in str(prepared).splitlines()
    assert not caplog.records

    # Without `order_by` the two clicks on x are one, and nothing tells it from the click on y.
    run(source)
    prepared = run.prepared  # type: ignore[attr-defined]
    assert prepared.left_out == {"where is not true": 3, "duplicates": 1}
    run(source | {"where": "n is not null", "drop_duplicates": False})
    told = [record.getMessage().partition(".csv: ")[2] for record in caplog.records]
    assert [line[:60] for line in told] == [
        "100.0% (1 of 1) of the neighbouring events of a user have th",
        "33.3% (1 of 3) of the rows are equal to an earlier row in al",
        "100.0% (3 of 3) of the neighbouring events of a user have th",
        "40.0% (2 of 5) of the events have a negative rating; models ",
    ]


@pytest.mark.slow
def test_mistakes_in_where_and_order_by(run: Run, tmp_path: Path) -> None:
    source = csv(tmp_path, "u,i,t,n", "a,b,1,2", "a,b,2,1.5")
    for where, message in {
        "n >": "is not a Spark SQL condition on the raw columns: Syntax error at or near end of in",
        "m > 0": "A column, variable, or function parameter with name `m` cannot be resolved",
        "n": 'Filter expression "n" of type "STRING" is not a boolean',
        "sum(n) > 0": "",
        "n > 0": r"cannot be computed for all rows: The value '1.5' of the type .*; with try_cast",
    }.items():
        with pytest.raises(
            DataError, match=rf"^input\.events\.where: '{re.escape(where)}' .*{message}"
        ):
            run(source | {"where": where})
    assert len(run(source | {"where": "try_cast(n as double) > 1.7"})["events"]) == 1
    with pytest.raises(ConfigError, match="where must be a condition"):
        run(source | {"where": " "})
    with pytest.raises(DataError, match=r"no column `m`, which order_by\[0\] names"):
        run(source | {"order_by": ["m"]})
    with pytest.raises(DataError, match=r"1 bad row, .*\(no number as i\)"):
        run(csv(tmp_path, "u,i,t", "a,1,1", "a,b,2") | {"order_by": ["i"]})


def test_mistakes_in_the_conf(run: Run, tmp_path: Path) -> None:
    source = csv(tmp_path, "Customer,item_no,t", "a,b,1")
    wrong = {"user": "customer", "item": "item_no", "timestamp": "t"}
    with pytest.raises(DataError, match=r"no column `customer`, which columns\.user names; did "):
        run(source | {"columns": wrong})
    good = wrong | {"user": "Customer"}
    with pytest.raises(DataError, match=r"keep_columns\[0\] names; it has Customer, item_no, t"):
        run(source | {"columns": good, "keep_columns": ["zzzzzzz"]})
    with pytest.raises(DataError, match="no row is left"):
        run(source | {"columns": good, "start": "2024-01-01"})
    with pytest.raises(DataError, match=r"no row is left \(it is empty"):
        run(csv(tmp_path, "u,i,t"))
    with pytest.raises(StorageError, match=r"input\.events\.path: no such file or folder"):
        run({"path": str(tmp_path / "nothing")})
    with pytest.raises(DataError, match="Spark knows no table nothing"):
        run({"table": "nothing"})
    with pytest.raises(DataError, match=r"cannot read .*e\.csv: it is damaged, or not in"):
        run({"path": source["path"]})
    with pytest.raises(ConfigError, match=r"path must be given, or table in its place"):
        run({})
    with pytest.raises(ConfigError, match="start must be an ISO date"):
        run(source | {"start": "soon"})
    with pytest.raises(ConfigError, match="keep must list"):
        run(source | {"event_type": {"column": "t"}})


@pytest.mark.slow
def test_damaged_files(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With `max_bad_files` they are left out whole, named and counted; without, an error."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("a", "b b", "c [1]"):
        rows = [{"u": f"{name}{i}", "i": "x", "t": i} for i in range(200)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet", compression="zstd")
    (folder / "a.parquet").write_bytes(b"nothing like it")
    middle = folder / "b b.parquet"
    content = bytearray(middle.read_bytes())
    content[20:120] = bytes(100)
    middle.write_bytes(content)
    source = {"path": str(folder), "columns": {"user": "u", "item": "i", "timestamp": "t"}}
    with pytest.raises(DataError, match=r"cannot read .*/(a|b b)\.parquet: it is damaged, or not"):
        run(source, max_bad_files=1)
    tables = run(source, max_bad_files=2)
    assert len(tables["events"]) == 200
    notes = run.prepared.notes["files that cannot be read"]  # type: ignore[attr-defined]
    assert notes.startswith("2 (") and "/a.parquet" in notes and "/b b.parquet" in notes
    assert caplog.text.count("left out a file: cannot read") == 3


@pytest.mark.slow
def test_files_with_their_columns_in_another_order(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    csv(tmp_path / "in", "u,i,t", "a,b,1", name="1.csv")
    csv(tmp_path / "in", "i,u,t", "b,a,1", name="2.csv")
    with pytest.raises(DataError, match=r"its header \(.*differs from that of the other files"):
        run({"path": str(tmp_path / "in"), "format": "csv"})


# ------------------------------------------------------------------------------- encodings


def raw_csv(tmp_path: Path, content: bytes) -> dict[str, Any]:
    (tmp_path / "e.csv").write_bytes(content)
    return {"path": str(tmp_path / "e.csv"), "format": "csv"}


def test_undecodable_bytes_are_bad_rows(run: Run, tmp_path: Path) -> None:
    """Three users of a latin-1 file must not become one; U+FFFD is what became of such bytes."""
    text = "u,i,t,note\nJosé,a,1,x\nJosè,b,2,x\nJosê,c,3,x\nAnna,d,4,x\n"
    source = raw_csv(tmp_path, text.encode("latin-1") + "Jos\ufffd,e,5,x\nZoë,f,6,x\n".encode())
    with pytest.raises(DataError, match=r"4 bad rows.* row 1 of .*\(text that is not UTF-8\)$"):
        run({**source, "csv": {"multiline": True}})
    tables = run(source, max_bad_rows=4)
    assert picked(tables["events"], "user_id", "item_id") == [("Anna", "d"), ("Zoë", "f")]
    assert run.prepared.bad_rows == {"events: text that is not UTF-8": 4}  # type: ignore[attr-defined]


@pytest.mark.slow
def test_undecodable_bytes_of_columns_that_are_not_read(run: Run, tmp_path: Path) -> None:
    content = "u,i,t,note\nAnna,a,1,é\n".encode("latin-1")
    assert len(run(raw_csv(tmp_path, content))["events"]) == 1
    with pytest.raises(DataError, match="1 bad row"):
        run({**raw_csv(tmp_path, content), "keep_columns": ["note"]})


def test_undecodable_features_and_header(run: Run, tmp_path: Path) -> None:
    events = csv(tmp_path, "u,i,t", "Anna,a,1")
    (tmp_path / "items.csv").write_bytes("i,title\na,Amélie\n".encode("latin-1"))
    items = {"path": str(tmp_path / "items.csv"), "format": "csv", "key": "i"}
    with pytest.raises(DataError, match=r"input.items: .*1 bad row.*text that is not UTF-8"):
        run(events, {"items": items})
    (tmp_path / "items.csv").write_bytes("i,été\na,x\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"^input.items.csv.encoding: .* is not UTF-8: its header"):
        run(events, {"items": items})


@pytest.mark.slow
def test_text_of_parquet_that_is_not_utf8(run: Run, spark: SparkSession, tmp_path: Path) -> None:
    values = "VALUES (X'4AE9'), (X'4A') AS v(raw)"
    rows = spark.sql(f"SELECT CAST(raw AS STRING) AS u, 'a' AS i, 1L AS t FROM {values}")
    rows.write.parquet(str(tmp_path / "raw"))
    tables = run({"path": str(tmp_path / "raw")}, max_bad_rows=1)
    assert picked(tables["users"], "user_id") == [("J",)]


@pytest.mark.slow
def test_wide_encodings(run: Run, tmp_path: Path) -> None:
    encoding = "utf-16"
    source = raw_csv(tmp_path, "u,i,t\n张三,a,1\n李四,b,2\n".encode(encoding))
    tables = run({**source, "csv": {"encoding": encoding, "multiline": True}})
    assert picked(tables["events"], "user_id") == [("张三",), ("李四",)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "GBK"}, "encoding must be one of UTF-8, US-ASCII, ISO-8859-1, UTF-16, "),
        ({"encoding": "no-such"}, "encoding must be one of"),
        ({"encoding": ""}, "encoding must be one of"),
        ({"encoding": "x" * 9999}, "encoding must be one of"),
        ({"encoding": "UTF-16"}, "encoding must be one whose line break is a single byte, or mult"),
        *(
            ({"delimiter": delimiter}, "delimiter must be a sign that is not the quote, such as")
            for delimiter in ("", '"', '""', ',"', "\n", "\r\n", "ab", "a", "5", "\\", "\\n", "\0")
        ),
        ({"delimiter": ",,,,,"}, "delimiter must be"),
        ({"delimiter": "'", "quote": "'"}, "delimiter must be"),
        *(
            ({"quote": quote}, 'quote must be a single sign, or "", not ')
            for quote in ("''", "a", "\n", " ")
        ),
    ],
)
def test_csv_options_that_cannot_be(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(CsvOptions, options, "x.yaml")
    assert str(caught.value).startswith(f"x.yaml:1: {message}") and len(str(caught.value)) < 500


def test_delimiters_that_can_be() -> None:
    for delimiter in ("\t", "\\t", "||", "|", ";", "§", "~|~", "\x01", " ", "::"):
        assert CsvOptions(delimiter=delimiter).delimiter == delimiter


@pytest.mark.slow
@pytest.mark.parametrize("delimiter", ["\\t", "~|§"])
def test_delimiters_that_spark_reads_in_its_own_way(
    run: Run, tmp_path: Path, delimiter: str
) -> None:
    written = delimiter.replace("\\t", "\t")
    lines = [written.join(line) for line in (("u", "i", "t"), ("Zoë", "a,b", "1"))]
    tables = run({**csv(tmp_path, *lines), "csv": {"delimiter": delimiter}})
    assert picked(tables["events"], "user_id", "item_id") == [("Zoë", "a,b")]


# ------------------------------------------------------------------------------- column names


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("i,a.b", "the column name 'a.b' has a dot, a backtick"),
        ("i,_sr_rank", "the column name `_sr_rank` is reserved"),
        ("i,_metadata", "the column name `_metadata` is reserved"),
        ("i,Item_ID", "has a column `item_id` beside its key `i`"),
    ],
)
def test_feature_columns_that_no_stage_could_name(
    run: Run, tmp_path: Path, header: str, expected: str
) -> None:
    csv(tmp_path, header, "a,x", name="items.csv")
    items = {"path": str(tmp_path / "items.csv"), "format": "csv", "key": "i"}
    with pytest.raises(DataError) as caught:
        run(csv(tmp_path, "u,i,t", "Anna,a,1"), {"items": items})
    assert str(caught.value).startswith("input.items: ") and expected in str(caught.value)


def test_columns_to_keep_with_names_that_no_stage_could_use(run: Run, tmp_path: Path) -> None:
    source = csv(tmp_path, "u,i,t,a.b,User_Id", "Anna,a,1,x,y")
    with pytest.raises(DataError, match=r"keep_columns: the column name 'a.b' has a dot"):
        run({**source, "keep_columns": ["a.b"]})
    with pytest.raises(DataError, match="keep_columns: `User_Id` is the name of a column that is"):
        run({**source, "keep_columns": ["User_Id"]})


@pytest.mark.slow
def test_raw_columns_may_have_any_name(run: Run, tmp_path: Path) -> None:
    columns = {"user": "User.ID", "item": "артикул `1`", "timestamp": " t "}
    source = csv(tmp_path, "User.ID,артикул `1`, t ", "Anna,a,1")
    tables = run({**source, "columns": columns, "csv": {}})
    assert picked(tables["events"], "user_id", "item_id") == [("Anna", "a")]
