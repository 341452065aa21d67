"""Strategies: confs, schema files, saved models and tables with something odd about them."""

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from layouts import MANIFEST

ODD_NUMBERS = (0, -1, 1, 2, 10**26, 2**31, 1e30, 1e-30, -0.5, float("nan"), float("inf"))
ODD_TEXTS = (
    "", " ", "x", "null", "~", "1:30", "010", "0x10", "1e3", "yes", "true", "2024-01-01", "é\u202e",
    "a.b", "a`b", "a b", "`", "__order", "x" * 300, "x" * 5000, "\0", "\n", "${HOME}", "$", "%s",
    "HNSW0", "HNSW1", "IVF0,Flat", "IVF4,Flat", "PQ0", "Flat,", "user_id", "movie_id", "USER_ID",
)  # fmt: skip
ODD_PATHS = (
    "", ".", "..", "/", "~", "/dev/null", "hdfs://x", "file:/x", "S3://x", "s3://", "file.txt",
    "${MY_S3_BUCKET}", "${MY_S3_BUCKET}/movielens", "${MY_S3_BUCKET}/movielens/1m",
    "${MY_S3_BUCKET}/movielens/1m/last_3", "${MY_S3_BUCKET}/movielens/1m/last_3/train",
    "${MY_S3_BUCKET}/movielens/1m/last_3/train/", "${MY_S3_BUCKET}/movielens/1m/events",
    "${MY_S3_BUCKET}/raw", "${MY_S3_BUCKET}/raw/events.parquet", "${MY_S3_BUCKET}/none",
    "${MY_S3_BUCKET}/a\0b", "${MY_S3_BUCKET}/" + "a" * 300, "${MY_S3_BUCKET}/x/../movielens/1m",
    "${MY_S3_BUCKET}/movielens/1m/runs/gru4rec_ce_ml_1m/model",
)  # fmt: skip
ODD_VALUES = (
    *ODD_NUMBERS,
    *ODD_TEXTS,
    None,
    True,
    False,
    [],
    {},
    [1],
    ["a", "a"],
    {"a": 1},
    [[[]]],
)
# Odd in the text, not in the values.
ODD_LINES = (
    "\ttab: 1", "a: &x [1]\nb: *x", "<<: {seed: 3}", "? [a, b]\n: 1", "!!python/object:os.x {}",
    "--- {}", "seed: 1\nseed: 2", "'open: 1", "x: " + "[" * 60 + "]" * 60, "x: " + "{a: " * 3000,
    "\ufeff", "%YAML 9", "seed: !!int abc", "seed: !!binary x", "- 1", "x: |\n y\n  z", "\x07",
    "seed: 1_000", "seed: 0b11", "columns: {user: a, user: b}", "${NOT_SET}", "seed: ${SEED",
    "é: 1",
)  # fmt: skip

# Not tried: jobs that read another data set, or that start no job of the package.
_UNFIT = ("show", "session_text", "sessionize", "prepare_ml_1m")
_SMALL: dict[str, Any] = {"epochs": 1, "early_stopping": None, "batch_size": 64}


def fit_confs(tree: Path) -> list[Path]:
    """The confs of a tree that run on the small data set."""
    confs = sorted((tree / "conf").glob("*_ml_1m.yaml"))
    return [
        conf
        for conf in confs
        if not conf.name.startswith(_UNFIT) and "neg100" not in conf.read_text(encoding="utf-8")
    ]


def leaves(block: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all keys and list entries of a conf."""
    pairs = block.items() if isinstance(block, dict) else enumerate(block)
    found = []
    for key, child in pairs:
        found.append((*at, key))
        if isinstance(child, dict | list):
            found += leaves(child, (*at, key))
    return found


@st.composite
def confs(draw: Any, tree: Path) -> tuple[str, str, str]:
    """(job, text of a conf, what was done to it); the conf is one of the tree's, and small."""
    path = draw(st.sampled_from(fit_confs(tree)))
    conf = yaml.safe_load(path.read_text(encoding="utf-8"))
    job = str(conf["job"])
    if "training" in conf:
        conf["training"] |= _SMALL
    conf["output_path"] = "${MY_S3_BUCKET}/movielens/1m/out"
    done = [path.name]
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        conf, what = draw(_changed(conf))
        done.append(what)
    text = yaml.safe_dump(conf, allow_unicode=True, sort_keys=False)
    if draw(st.integers(0, 4)) == 0:
        line = draw(st.sampled_from(ODD_LINES))
        number = draw(st.integers(0, text.count("\n")))
        lines = text.split("\n")
        text = "\n".join([*lines[:number], line, *lines[number:]])
        done.append(f"line {number}: {line[:30]!r}")
    return job, _harmless(text), "; ".join(done)


@st.composite
def _changed(draw: Any, conf: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A conf with one change, and the change in words."""
    conf = copy.deepcopy(conf)
    place = draw(st.sampled_from([p for p in leaves(conf) if p != ("job",)] or [("x",)]))
    block: Any = conf
    for key in place[:-1]:
        block = block[key]
    key, name = place[-1], ".".join(map(str, place))
    if isinstance(block, list):
        block[key] = draw(st.sampled_from(ODD_VALUES))
        return conf, f"{name}={block[key]!r:.40}"
    how = draw(st.sampled_from(("set", "set", "set", "set", "drop", "rename", "nest", "add")))
    if how == "drop":
        block.pop(key, None)
        return conf, f"without {name}"
    if how == "rename":
        new = draw(st.sampled_from((f"{key}x", str(key).upper(), f" {key}", "", 1, None, "é")))
        block[new] = block.pop(key, None)
        return conf, f"{name} renamed {new!r}"
    if how == "nest":
        block[key] = {key: block.get(key)}
        return conf, f"{name} nested"
    if how == "add":
        where, new = draw(st.sampled_from(_ADDED))
        target = conf if where is None else conf.setdefault(where, {})
        value = draw(st.sampled_from(ODD_VALUES))
        if not isinstance(target, dict):
            return conf, "nothing"
        target[new] = value
        return conf, f"{where}.{new}={value!r:.40}"
    is_path = isinstance(block.get(key), str) and "/" in block[key]
    block[key] = draw(st.sampled_from(ODD_PATHS if is_path else ODD_VALUES))
    return conf, f"{name}={block[key]!r:.60}"


_ADDED = (
    ("training", "batch_size"), ("training", "learning_rate"), ("training", "workers"),
    ("training", "resume"), ("training", "model_in_path"), ("retrieval", "exclude_seen"),
    ("training", "save_checkpoint_interval"), ("retrieval", "index"), ("retrieval", "k"),
    ("model", "embedding_dim"), ("model", "max_len"), ("model", "hidden"), ("model", "dropout"),
    ("loss", "temperature"), ("loss", "name"), ("loss", "negatives"), ("retrieval", "index"),
    ("evaluation", "rating_above"), ("evaluation", "protocol"), ("spark", "spark.master"),
    ("spark", "sql.shuffle.partitions"),
    ("columns", "user"), ("columns", "item"), ("columns", "timestamp"), ("columns", "position"),
    (None, "seed"), (None, "overwrite"), (None, "mode"), (None, "init_model_path"), (None, "spark"),
)  # fmt: skip


def _harmless(text: str) -> str:
    """Never replace a folder outside the data root: versions that are tried may empty it."""
    inside = re.search(r"^output_path: \${MY_S3_BUCKET}/(?!x/\.\.)", text, re.M)
    return text if inside else re.sub(r"(?m)^overwrite:.*$", "overwrite: false", text)


@st.composite
def schema_files(draw: Any, folder: Path) -> tuple[str, str]:
    """(name, new text) of one of the schema files of a folder."""
    path = draw(st.sampled_from(sorted(folder.glob("*_schema"))))
    lines = path.read_text(encoding="utf-8").splitlines()
    odd = st.sampled_from(
        ("", " ", "#", "a#b", "user_id#movie_id", "genres#genres", "#x", "x#", "x##y", "none",
         "a@b", "user_id@u", "user_id@", "@x", "0 user_id", "1 0 x", "-1 x", "x 0", "0\tuser_id",
         "genres",
         "\ufeffuser_id", "user_id ", "é", "a.b", "`a`", "\0", "user_id\r", "x" * 400, "timestamp")
    )  # fmt: skip
    at = draw(st.integers(0, len(lines)))
    how = draw(st.sampled_from(("insert", "replace", "drop", "double", "empty", "crlf")))
    if how == "insert":
        lines.insert(at, draw(odd))
    elif how == "replace" and at < len(lines):
        lines[at] = draw(odd)
    elif how == "drop":
        lines = lines[:at]
    elif how == "double":
        lines += lines[at:]
    elif how == "empty":
        lines = []
    end = "\r\n" if how == "crlf" else "\n"
    return path.name, end.join(lines) + draw(st.sampled_from((end, "")))


@st.composite
def damages(draw: Any, folder: Path, others: list[Path]) -> list[Any]:
    """A description of what is to be done to a saved model, for `damage`."""
    files = sorted(
        str(p.relative_to(folder))
        for p in folder.rglob("*")
        if p.is_file() and not p.name.startswith(".")
    )
    name = draw(st.sampled_from(files))
    how = draw(st.sampled_from(("cut", "flip", "flip", "remove", "swap", "append", "zero", "json")))
    if how == "json" and not name.endswith(".json"):
        name = "model.json"
    place = draw(st.floats(0, 1, allow_nan=False, exclude_max=True))
    if how == "swap":
        found = sorted(
            str(p) for other in others for p in other.rglob("*")
            if p.is_file() and p.suffix == Path(name).suffix and p.name != MANIFEST
        )  # fmt: skip
        return [how, name, draw(st.sampled_from(found)) if found else str(folder / name)]
    if how == "json":
        return [how, name, place, draw(st.sampled_from(ODD_VALUES))]
    if how == "flip":
        return [how, name, place, draw(st.integers(1, 255))]
    return [how, name, place]


def damage(folder: Path, how: str, name: str, *arguments: Any) -> None:
    """Do to a saved model what `damages` drew."""
    file = folder / name
    if how == "remove":
        file.unlink()
        return
    if how == "swap":
        shutil.copyfile(arguments[0], file)
        return
    content = file.read_bytes()
    at = int(arguments[0] * len(content))
    if how == "cut":
        content = content[:at]
    elif how == "flip" and content:
        content = content[:at] + bytes([content[at] ^ arguments[1]]) + content[at + 1 :]
    elif how == "append":
        content += content[:at] or b"x"
    elif how == "zero":
        content = content[:at] + bytes(len(content) - at)
    elif how == "json":
        value = json.loads(content)
        places = leaves(value)
        place = places[int(arguments[0] * len(places))]
        block: Any = value
        for key in place[:-1]:
            block = block[key]
        block[place[-1]] = arguments[1]
        content = json.dumps(value).encode()
    file.write_bytes(content)


_IDS = {
    "int": st.integers(-3, 6),
    "huge": st.sampled_from((-(2**63), 2**63 - 1, 0, 2**53 + 1, 2**53)),
    "text": st.sampled_from(("a", "A", "1", "01", "1.0", "é", "e\u0301", "", " ", " a", "null", "ß",
                             "İ", "i", "\U0001f600", "a;b", 'q"x', "a\nb", "\0", "x" * 200)),
    "float": st.sampled_from((1.0, 2.5, float("nan"), -0.0)),
    "bool": st.booleans(),
}  # fmt: skip
_TIMES = st.one_of(st.integers(1_600_000_000, 1_600_000_003), st.sampled_from((0, 1_600_000_000)))


@st.composite
def tables(draw: Any) -> list[dict[str, Any]]:
    """Raw events: ids of any type, nulls, duplicates, equal times; perhaps one row, or none."""
    kinds = ("int",) * 4 + ("text",) * 6 + ("huge",) * 3 + ("float", "bool")
    nulls = draw(st.sampled_from(((), (), (None,))))

    def column(ids: Any, most: int) -> Any:
        return st.sampled_from((*draw(st.lists(ids, min_size=1, max_size=most)), *nulls))

    row = st.fixed_dictionaries(
        {
            "user": column(_IDS[draw(st.sampled_from(kinds))], 4),
            "item": column(_IDS[draw(st.sampled_from(kinds))], 8),
            "when": column(_TIMES, 20),
        }
    )
    least = draw(st.sampled_from((0, 1, 8, 8, 20)))
    rows: list[dict[str, Any]] = draw(st.lists(row, min_size=least, max_size=least + 10))
    return rows
