"""A file in a store with folders is whole or not there, whatever ends its writer; what is on its way leaves nothing."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.s3_server import S3, serving
from tundish.cluster import put, retry, store

BEFORE, AFTER = b"before", os.urandom(3 << 20)


class Shelf(LocalFileSystem):
    """fsspec's own local files, under a scheme of the test's, which fail as they are told to."""

    protocol = "shelf"
    refuse: Callable[[str], None] = staticmethod(lambda deed: None)
    renames = "over"  # what is there; or "refused", or "silently not"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(path.removeprefix("shelf://") if isinstance(path, str) else path)

    def open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        type(self).refuse(f"open {mode}")
        stream = super().open(path, mode, **more)
        if mode != "wb":
            return stream
        write = stream.write

        def half_and_half(body: Any) -> int:
            told = bytes(body)
            write(told[: len(told) // 2])
            stream.flush()
            type(self).refuse("write")
            write(told[len(told) // 2 :])
            return len(told)

        stream.write = half_and_half
        return stream

    def mv(self, path1: str, path2: str, **more: Any) -> None:
        type(self).refuse("mv")
        if type(self).renames != "over" and os.path.exists(self._strip_protocol(path2)):
            if type(self).renames == "refused":
                raise OSError("a file is there")
            return
        super().mv(path1, path2, **more)


fsspec.register_implementation("shelf", Shelf, clobber=True)


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(retry, "PAUSES", (0.01,))
    store._filesystem.cache_clear()
    yield
    store._filesystem.cache_clear()


def at(folder: Path) -> str:
    (folder / "manifest.json").write_bytes(BEFORE)
    return f"shelf://{folder}/manifest.json"


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@pytest.mark.parametrize("renames", ["over", "refused", "silently not"])
def test_a_put_takes_the_place_of_what_was_there(tmp_path: Path, monkeypatch: Any, renames: str) -> None:
    monkeypatch.setattr(Shelf, "renames", renames)
    uri = at(tmp_path)
    told = store.write(uri, AFTER)
    assert (tmp_path / "manifest.json").read_bytes() == AFTER
    assert (told.size, told.digest) == (len(AFTER), store.digest(uri))
    assert names(tmp_path) == ["manifest.json"]


@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("deed", ["open wb", "write", "mv"])
def test_a_put_that_is_refused_leaves_what_was_there(
    tmp_path: Path, monkeypatch: Any, deed: str, error: BaseException
) -> None:
    def refuse(asked: str) -> None:
        if asked == deed:
            raise error

    uri = at(tmp_path)
    monkeypatch.setattr(Shelf, "refuse", staticmethod(refuse))
    with pytest.raises((ValueError, KeyboardInterrupt)):
        store.write(uri, AFTER)
    assert (tmp_path / "manifest.json").read_bytes() == BEFORE
    assert names(tmp_path) == ["manifest.json"]


def test_where_the_second_rename_fails_what_was_there_is_put_back(tmp_path: Path, monkeypatch: Any) -> None:
    uri, asked = at(tmp_path), list[str]()

    def refuse(deed: str) -> None:
        asked.append(deed)
        if deed == "mv" and asked.count("mv") % 4 == 3:  # over it, it aside, and then into its place; and back
            raise OSError("not now")

    monkeypatch.setattr(Shelf, "renames", "refused")
    monkeypatch.setattr(Shelf, "refuse", staticmethod(refuse))
    with pytest.raises(ValueError, match="not now"):
        store.write(uri, AFTER)
    assert (tmp_path / "manifest.json").read_bytes() == BEFORE
    assert names(tmp_path) == ["manifest.json"]


KILLED = """
import sys, os, signal
import tests.test_store_whole as t
from tundish.cluster import store
told, t.Shelf.renames = sys.argv[2].split(","), sys.argv[3]
asked = []
def refuse(deed):
    asked.append(deed)
    if deed == told[0] and asked.count(deed) == int(told[1]):
        os.kill(os.getpid(), signal.SIGKILL)
t.Shelf.refuse = staticmethod(refuse)
store.write(sys.argv[1], bytes(3 << 20))
"""


@pytest.mark.parametrize(
    ("moment", "renames", "left"),
    [("write,1", "over", "attempt"), ("mv,1", "over", "attempt"), ("mv,3", "refused", "before")],
)
def test_a_writer_that_is_killed_leaves_what_was_there_or_lets_it_be_brought_back(
    tmp_path: Path, moment: str, renames: str, left: str
) -> None:
    uri = at(tmp_path)
    killed = subprocess.run([sys.executable, "-c", KILLED, uri, moment, renames], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "manifest.json").exists() == (left == "attempt")
    assert any(name.endswith(left) for name in names(tmp_path))
    store.sweep(f"shelf://{tmp_path}")
    assert (tmp_path / "manifest.json").read_bytes() == BEFORE
    assert names(tmp_path) == ["manifest.json"]


def test_the_sweep_takes_leftovers_alone_and_looks_among_the_commits(tmp_path: Path) -> None:
    (tmp_path / "commits").mkdir()
    kept = ["a.parquet", ".a.attempt", ".hidden", "b.attempt", ".a.parquet.0123456789ab.kept"]
    for name in [*kept, ".a.parquet.0123456789ab.attempt", ".a.parquet.0123456789ab.before", "commits/x.json"]:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "commits/.x.json.0123456789ab.attempt").write_bytes(b"x")
    store.sweep(f"shelf://{tmp_path}")
    assert names(tmp_path) == sorted([*kept, "commits"])
    assert names(tmp_path / "commits") == ["x.json"]
    store.sweep(f"shelf://{tmp_path}/nowhere")


def test_hadoop_is_never_asked_to_rename_over_a_file(tmp_path: Path) -> None:
    """pyarrow's client would remove it first, and then rename."""

    over = list[str]()

    class Hadoop(pafs.FSSpecHandler):
        def get_type_name(self) -> str:
            return "hdfs"

        def move(self, src: str, dest: str) -> None:
            over.extend([dest] if os.path.exists(dest) else [])
            os.replace(src, dest)

    at(tmp_path)
    put.put(pa.py_buffer(AFTER), pafs.PyFileSystem(Hadoop(LocalFileSystem())), f"{tmp_path}/manifest.json")
    assert over == []
    assert (tmp_path / "manifest.json").read_bytes() == AFTER
    assert names(tmp_path) == ["manifest.json"]


def test_a_file_that_is_moved_is_whole_under_its_new_name(tmp_path: Path, monkeypatch: Any) -> None:
    uri = at(tmp_path)
    (tmp_path / "new").write_bytes(AFTER)
    seen = list[str]()
    monkeypatch.setattr(Shelf, "refuse", staticmethod(lambda deed: seen.append(deed)))
    store.move(f"shelf://{tmp_path}/new", uri)
    assert (tmp_path / "manifest.json").read_bytes() == AFTER
    assert names(tmp_path) == ["manifest.json"]
    assert "mv" in seen


# -- what is on its way


@pytest.fixture
def s3() -> Iterator[S3]:
    with serving() as server:
        yield server


def test_an_object_takes_one_request_and_no_file(s3: S3, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "away"))  # which is not there
    store.write("s3://corpora/a.bin", AFTER)
    store.sweep("s3://corpora")
    assert [each.method for each in s3.asked] == ["PUT"]
    assert s3.objects == {"a.bin": AFTER}


def test_a_writer_that_is_killed_leaves_nothing_in_the_temporary_folder(s3: S3, tmp_path: Path) -> None:
    program = (
        "import os, signal\nfrom tundish.cluster import store\n"
        "with store.written('s3://corpora/a.bin') as (stream, told):\n"
        "    for _ in range(12): stream.write(bytes(1 << 20))\n"
        "    stream.flush(); print('12', flush=True); signal.pause()\n"
    )
    env = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"12\n"
        held = [os.readlink(f"/proc/{writer.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{writer.pid}/fd")]
        writer.kill()
    assert any(path.startswith(str(tmp_path)) for path in held)  # it was on the disk
    assert names(tmp_path) == []


def test_room_is_asked_for_what_does_not_go_in_one_request(s3: S3, monkeypatch: Any) -> None:
    monkeypatch.setenv("TUNDISH_MIN_FREE", "99.99%")
    store.write("s3://corpora/commit.json", b"{}")
    said = rf"are free under {tempfile.gettempdir()} .* set TMPDIR to a folder of another disk, or lower"
    with pytest.raises(ValueError, match=said):
        store.write("s3://corpora/a.bin", bytes(9 << 20))
    assert set(s3.objects) == {"commit.json"}


def test_what_was_spooled_on_the_disk_arrives(s3: S3) -> None:
    body = AFTER * 4
    with store.written("s3://corpora/a.bin") as (stream, told):
        for start in range(0, len(body), 1 << 20):
            stream.write(body[start : start + (1 << 20)])
    assert s3.objects == {"a.bin": body}
    assert told.size == len(body)
    assert store.digest("s3://corpora/a.bin") == told.digest


def test_an_error_of_the_writer_puts_nothing(s3: S3) -> None:
    def half() -> None:
        with store.written("s3://corpora/a.bin") as (stream, _):
            stream.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert s3.asked == []
