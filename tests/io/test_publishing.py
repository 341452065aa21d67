"""Outputs and run folders that appear as a whole or not at all, on the disk and on S3 alike."""

from pathlib import Path
from typing import Any

import pytest

from sparkrec import __version__
from sparkrec.errors import StorageError
from sparkrec.io import storage
from sparkrec.io.publishing import claim, finish, is_published, publish, read_manifest
from sparkrec.io.s3 import locate


def names(path: str) -> list[str]:
    return [file.name for file in storage.list_files(path)]


def put(path: str, made_by: str = "job", content: bytes = b"new", **options: Any) -> None:
    with publish(path, made_by, **options) as staging:
        storage.write_bytes(storage.join(staging, "part-0"), content)


def test_publish(place: str) -> None:
    path = storage.join(place, "out")
    about: dict[str, Any] = {"rows": 3}
    with publish(path, "job", about=about) as staging:
        storage.write_bytes(storage.join(staging, "part-0"), b"1234")
        storage.write_bytes(storage.join(staging, "sub/part-1"), b"")
        about["later"] = "yes"
        assert not storage.exists(path)
        with pytest.raises(StorageError, match="no such path"):
            read_manifest(path)
    assert read_manifest(path) == {
        "made_by": "job",
        "sparkrec": __version__,
        "rows": 3,
        "later": "yes",
        "files": [{"name": "part-0", "size": 4}, {"name": "sub/part-1", "size": 0}],
    }
    assert names(place) == ["out/_sparkrec.json", "out/part-0", "out/sub/part-1"]


def test_spaces_and_other_alphabets(place: str) -> None:
    path = storage.join(place, "my data", "été [1] 数据 100%", "out put")
    put(path)
    put(path, content=b"again")
    assert storage.read_bytes(storage.join(path, "part-0")) == b"again"
    assert names(path) == ["_sparkrec.json", "part-0"]


@pytest.mark.slow
def test_s3_markers_of_empty_folders_are_left_behind(s3: str) -> None:
    client, bucket, key = locate(s3)
    with publish(f"{s3}/out", "job") as staging:
        client.put_object(Bucket=bucket, Key=staging.removeprefix("s3://test/") + "/", Body=b"")
        storage.write_bytes(f"{staging}/x", b"1")
    found = client.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"]
    assert [entry["Key"].removeprefix(key) for entry in found] == ["/out/_sparkrec.json", "/out/x"]


def test_a_folder_that_cannot_be_made_is_found_out_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(StorageError, match=r"cannot write .*file/x"),
        publish(str(tmp_path / "file" / "x"), "job"),
    ):
        pytest.fail("the block ran")


def test_publish_nothing_on_failure(place: str) -> None:
    path = storage.join(place, "out")
    with pytest.raises(KeyError), publish(path, "job") as staging:
        storage.write_bytes(storage.join(staging, "x"), b"1")
        raise KeyError
    with pytest.raises(StorageError, match=r"nothing was written for .*out"), publish(path, "job"):
        pass
    assert names(place) == []


def test_a_failed_run_keeps_the_old_output(place: str) -> None:
    path = storage.join(place, "out")
    put(path, content=b"old")
    with pytest.raises(KeyError), publish(path, "job") as staging:
        storage.write_bytes(storage.join(staging, "part-1"), b"new")
        assert storage.read_bytes(storage.join(path, "part-0")) == b"old"
        assert is_published(path)
        raise KeyError
    assert storage.read_bytes(storage.join(path, "part-0")) == b"old"
    with publish(path, "job") as staging:
        storage.write_bytes(storage.join(staging, "part-1"), b"new")
        assert storage.read_bytes(storage.join(path, "part-0")) == b"old"
    assert names(place) == ["out/_sparkrec.json", "out/part-1"]


def test_refuses_what_is_not_ours(place: str) -> None:
    path = storage.join(place, "out")
    storage.write_bytes(storage.join(path, "thesis.txt"), b"precious")
    message = r"out exists and is not an output of sparkrec \(it holds thesis\.txt\).*overwrite"
    with pytest.raises(StorageError, match=message):
        put(path)
    with pytest.raises(StorageError, match=message):
        claim(path, "job")
    with pytest.raises(StorageError, match=r"is not a finished sparkrec output"):
        read_manifest(path)
    assert names(place) == ["out/thesis.txt"]
    put(path, overwrite=True)
    assert names(place) == ["out/_sparkrec.json", "out/part-0"]


def test_refuses_a_file_that_is_not_ours(place: str) -> None:
    path = storage.join(place, "out")
    storage.write_bytes(path, b"precious")
    for write in (put, claim):
        with pytest.raises(StorageError, match=r"out exists and is not an output of sparkrec"):
            write(path, "job")
    assert storage.read_bytes(path) == b"precious"


def test_overwrites_a_local_file_when_told(tmp_path: Path) -> None:
    for write in (put, claim):
        path = tmp_path / "out"
        storage.remove(str(path))
        path.write_bytes(b"x")
        write(str(path), "job", overwrite=True)
        assert path.is_dir()
        assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_refuses_another_jobs_output(place: str) -> None:
    path = storage.join(place, "out")
    put(path, "first")
    message = r"was made by `first`, not by `second`; .* overwrite: true"
    with pytest.raises(StorageError, match=message):
        put(path, "second")
    put(path, "second", overwrite=True)
    assert read_manifest(path)["made_by"] == "second"
    storage.remove(path)
    claim(path, "first")
    with pytest.raises(StorageError, match=message):
        claim(path, "second")
    claim(path, "second", overwrite=True)
    claim(path, "second")


# ------------------------------------------------------------------------------- run folders


def test_claim_and_finish(place: str) -> None:
    path = storage.join(place, "run")
    claim(path, "job")
    assert storage.exists(path) and not is_published(path)
    put(storage.join(path, "model"))
    with pytest.raises(StorageError, match="is not a finished sparkrec output"):
        read_manifest(path)
    finish(path, "job", {"dataset": "d"})
    manifest = read_manifest(path)
    assert (manifest["made_by"], manifest["dataset"]) == ("job", "d")
    assert [f["name"] for f in manifest["files"]] == ["model/_sparkrec.json", "model/part-0"]
    assert names(path) == ["_sparkrec.json", "model/_sparkrec.json", "model/part-0"]


def test_claim_again(place: str) -> None:
    path = storage.join(place, "run")
    for finished in (False, True):
        claim(path, "job")
        storage.write_bytes(storage.join(path, "work", "x"), b"1")
        if finished:
            finish(path, "job", {})
        claim(path, "job", keep=True)
        assert not is_published(path)
        assert names(storage.join(path, "work")) == ["x"]
        claim(path, "job")
        assert not storage.exists(storage.join(path, "work"))


def test_killed_while_it_takes_an_old_run_away(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = storage.join(place, "run")
    claim(path, "job")
    storage.write_bytes(storage.join(path, "work", "x"), b"1")
    finish(path, "job", {})
    removed: list[str] = []
    remove = storage.remove

    def killed(name: str) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(name)
        remove(name)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(storage, "remove", killed)
        if storage.is_s3(place):
            patched.setattr("sparkrec.io.s3.delete", lambda *_: killed(""))
            removed.append("")
        claim(path, "job")
    claim(path, "job")
    finish(path, "job", {})
    assert names(path) == ["_sparkrec.json"]


# ------------------------------------------------------------------------------- killed writers


def test_leftovers_of_a_killed_writer(place: str) -> None:
    path = storage.join(place, "out")
    put(path, content=b"old")
    for left in (".out.staging-1/_temporary/x", ".out.staging-2/y", ".outer.staging-1/z"):
        storage.write_bytes(storage.join(place, left), b"")
    put(path)
    assert names(place) == [".outer.staging-1/z", "out/_sparkrec.json", "out/part-0"]


def test_killed_between_the_two_renames(tmp_path: Path) -> None:
    path = tmp_path / "o[u]t"
    put(str(path), content=b"old")
    path.rename(tmp_path / ".o[u]t.replaced-1")
    (tmp_path / ".o[u]t.staging-1").mkdir()
    with pytest.raises(KeyError), publish(str(path), "job"):
        assert (path / "part-0").read_bytes() == b"old"
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["o[u]t"]
    (tmp_path / ".o[u]t.replaced-2").write_text("a file that was replaced")
    put(str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["o[u]t"]


def test_killed_between_the_two_renames_of_anothers(tmp_path: Path) -> None:
    path = tmp_path / "out"
    put(str(path), "first")
    path.rename(tmp_path / ".out.replaced-1")
    with pytest.raises(StorageError, match="made by `first`"):
        put(str(path), "second")
    assert read_manifest(str(path))["made_by"] == "first"


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["client.copy", "write_json"])
def test_killed_while_it_moves_on_s3(s3: str, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{s3}/out"
    put(path, content=b"old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    client, _, _ = locate(s3)
    write_json = storage.write_json
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if moment == "client.copy":
            patched.setattr(client, "copy", killed)
        else:
            patched.setattr(
                storage,
                "write_json",
                lambda name, value: (killed if "files" in value else write_json)(name, value),
            )
        put(path)
    assert not is_published(path)
    put(path)
    assert names(s3) == ["out/_sparkrec.json", "out/part-0"]
