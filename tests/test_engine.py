"""The engine's own work: handed out once, looked up once, asked for in few requests, and the same as the slow way."""

import json
import pickle
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.test_local_cluster import lengths, mapped, numbered
from tundish.cluster import shards as shards_module
from tundish.cluster import store
from tundish.cluster.local import AHEAD, Local
from tundish.cluster.map import dealt, map_, tasks_of
from tundish.cluster.shards import Damaged, Dataset, Shard
from tundish.cluster.target import FEW, Target, lost, manifest_of
from tundish.cluster.verbs import At, Job, Watch, unwatched

# -- handing out


@dataclass(frozen=True)
class Marking:
    """Work that leaves a file whenever a process reads it."""

    folder: str

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        Path(self.folder, f"{random.SystemRandom().random()}").touch()

    def __call__(self, item: int) -> int:
        return item * item


@dataclass
class Taken(Sequence[int]):
    """Numbers, and how many of them were asked for."""

    count: int
    asked: int = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        if index >= self.count:
            raise IndexError(index)
        self.asked = max(self.asked, index + 1)
        return index


@pytest.fixture(scope="module")
def two() -> Local:
    return Local(2)


def test_work_is_read_once_a_process_and_not_once_an_item(two: Local, tmp_path: Path) -> None:
    made = list(two.each("Squares", Marking(str(tmp_path)), range(300)))
    assert sorted(made) == [n * n for n in range(300)]
    assert 1 <= len(list(tmp_path.iterdir())) <= 2


def test_items_are_taken_as_they_are_worked(two: Local) -> None:
    items = Taken(500)
    ahead = [items.asked - done for done, _ in enumerate(two.each("Numbers", abs, items))]
    assert items.asked == 500
    assert max(ahead) <= AHEAD * 2 + AHEAD * 2  # those handed out, and those that ended and were not yet given on


@dataclass
class Kept:
    """A cluster that keeps what it is given to do, and does it here."""

    watch: Watch = unwatched
    work: Any = None
    items: list[Any] = field(default_factory=list)

    def each(self, stage: str, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        self.work, self.items = work, list(items)
        return map(work, items)


def copied(rows: pa.Table, at: At) -> pa.Table:
    return rows


def copy_of(out: str, reads: Any = None) -> Job:
    return Job(copied, (Target(out, "k"),), reads=reads)


@pytest.mark.parametrize("reads", [False, True])
def test_what_a_worker_is_sent_does_not_grow_with_the_shards(tmp_path: Path, reads: bool) -> None:
    """Neither the work, which a process holds to the end, nor an item."""
    sent = {}
    for count in (3, 12):
        made = small(tmp_path / f"{count:03d}", count)
        cluster = Kept()
        out = str(tmp_path / f"{count:03d}" / "out-0123456789")
        map_(cluster, "Copy", [copy_of(out, made.select("id") if reads else None)], made)  # type: ignore[arg-type]
        sent[count] = len(pickle.dumps(cluster.work)), max(len(pickle.dumps(item)) for item in cluster.items)
    assert sent[3] == sent[12]


def small(folder: Path, count: int) -> Dataset:
    """So many sealed shards of a few rows."""
    target, made = Target(str(folder / "read-0123456789"), "k"), []
    for number in range(count):
        writer = target.writer(f"part-{number:05d}")
        writer.write(numbered(range(number, number + 3)))
        made.append(writer.finish({}, {}))
    return target.seal(made)


def test_what_is_known_of_one_shard_reads_as_the_whole_does(tmp_path: Path) -> None:
    """Columns, what lies beside, constants, and which dataset a column is taken from: the first shard says it."""
    made = mapped(Local(), str(tmp_path))
    base = small(tmp_path, 6)
    sides = map_(Local(), "Copy", [copy_of(str(tmp_path / "copy-0123456789"))], base)[0][0]
    sides = replace(sides, shards=tuple(replace(s, constants={"origin": s.name}) for s in sides.shards))
    odd = replace(sides, shards=(*sides.shards[:-1], replace(sides.shards[-1], columns=("id",), constants={})))
    for whole in (
        made["lengths"],
        base.select("id", "text"),
        base.beside(sides).select("id", "number", "origin"),
        base.select("id").beside(odd).select("origin"),
    ):
        for name in whole.names:
            one = whole.only(name)
            assert one.digests(name) == whole.digests(name)
            assert one.read(name).equals(whole.read(name))
            assert [b.num_rows for b in one.batches(name, 2)] == [b.num_rows for b in whole.batches(name, 2)]
            assert len(one.shards) <= 2


def test_few_tasks_of_many_shards() -> None:
    assert [tasks_of(count) for count in (0, 1, 10**5, 10**5 + 1, 10**7)] == [0, 1, 10**5, 10**5, 10**5]


@pytest.mark.parametrize("count", [0, 1, 7, 10**5, 10**5 + 1, 123_457])
def test_every_shard_is_in_one_task_and_tasks_are_alike(count: int) -> None:
    groups = list(dealt(count))
    assert [number for group in groups for number in group] == list(range(count))
    assert len(groups) == tasks_of(count)
    assert len({len(group) for group in groups}) <= 2
    assert all(len(group) > 0 for group in groups)


def test_shards_stand_by_their_numbers(tmp_path: Path) -> None:
    """Also past what five digits hold: who knows a document's number knows its shard."""
    one, *_ = small(tmp_path, 1).shards
    names = [f"part-{number:05d}" for number in (3, 99_999, 100_000, 100_001, 999_999, 1_000_000)]
    names += ["piece-00001", "model"]
    target = Target(str(tmp_path / "sealed-0123456789"), "k")
    sealed = target.seal([replace(one, name=name) for name in reversed(sorted(names))])
    assert sealed.names == ("model", *names[:-1])


def test_the_first_of_two_writers_of_a_shard_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that ends later finds the commit, and leaves the file alone: who reads it may hold its digest."""
    target, inputs = Target(str(tmp_path / "read-0123456789"), "k"), {"a": "1"}
    quick, slow, other = (target.writer("part-00000") for _ in range(3))
    quick.write(numbered(range(3)))
    slow.write(numbered(range(4)))
    other.write(numbered(range(5)))
    made = quick.finish(inputs, {})
    file = tmp_path / "read-0123456789" / made.file
    before = file.stat()
    monkeypatch.setattr("tundish.cluster.target.LONG", 0.0)
    assert slow.finish(inputs, {}) == made
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert other.finish({"a": "2"}, {}).rows == 5  # of other inputs: a commit that stands is not its own
    assert [path.name for path in file.parent.iterdir() if path.is_file()] == [made.file]


# -- what lies there


@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_manifest_says_what_json_would_and_has_a_line_a_shard(tmp_path: Path, count: int) -> None:
    made = tuple(
        Shard(f"part-{n:05d}", f"part-{n:05d}.parquet", n, n, "d", "", ("id", "ß\u2028"), {"ä": '"'}, {"b": 1, "a": n})
        for n in range(count)
    )
    dataset = Dataset(str(tmp_path), made, {"key": "k", "inputs": {"x": {"z": 1, "y": [1, "\u0085"]}}})
    text = manifest_of(dataset, 12.5)
    plain = {"schema": 1, "digest": dataset.digest, "about": dataset.about, "sealed": 12.5}
    assert json.loads(text) == plain | {"shards": [shard.plain() for shard in made]}
    assert sum('"name": "part-' in line for line in text.split("\n")) == count
    assert all(line.count('"name": "part-') <= 1 for line in text.split("\n"))
    assert text == manifest_of(dataset, 12.5).encode().decode()


def test_plain_shards_come_back_as_they_were(tmp_path: Path) -> None:
    for shard in small(tmp_path, 2).shards:
        plain = json.loads(json.dumps(shard.plain()))
        assert set(plain) == set(Shard.__dataclass_fields__)
        assert Shard.of(plain) == shard


def test_lost_files_are_found_as_by_asking_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files gone, cut or grown, in the dataset's folder, in another's and at an absolute path."""
    draw = random.Random(7)
    folders = [tmp_path / "a-0123456789", tmp_path / "b-0123456789", tmp_path / "elsewhere"]
    for folder in folders:
        folder.mkdir()
    asked: Counter = Counter()
    _counted(monkeypatch, asked)
    for _ in range(25):
        made = []
        for number in range(draw.choice([1, FEW, FEW + 1, 40])):
            folder = draw.choices(folders, [10, 10, 1])[0]
            path = folder / f"part-{number:05d}.parquet"
            path.write_bytes(b"." * number)
            file = {0: path.name, 1: f"../{folder.name}/{path.name}", 2: str(path)}[folders.index(folder)]
            made.append(Shard(f"part-{number:05d}", file, 0, number, ""))
        dataset = Dataset(str(folders[0]), tuple(made))
        for shard in draw.sample(made, draw.choice([0, 0, 1, min(2, len(made))])):
            path = Path(store.resolve(dataset.at(shard))[1])
            path.unlink() if draw.random() < 0.5 else path.write_bytes(b"." * (shard.size + draw.choice([-1, 1])))
        slow = next((s.name for s in made if _size(dataset.at(s)) != s.size), None)
        asked.clear()
        assert lost(dataset) == slow
        assert asked["listings"] <= 3
        assert asked["sizes"] <= 3 * FEW
    store.remove(str(folders[0]))
    assert lost(dataset) is not None


def _size(uri: str) -> int | None:
    path = Path(store.resolve(uri)[1])
    return path.stat().st_size if path.is_file() else None


def _counted(monkeypatch: pytest.MonkeyPatch, asked: Counter) -> None:
    size, sizes = store.size, store.sizes

    def one(uri: str) -> int | None:
        asked["sizes"] += 1
        return size(uri)

    def many(uri: str) -> dict[str, int]:
        asked["listings"] += 1
        return sizes(uri)

    monkeypatch.setattr(store, "size", one)
    monkeypatch.setattr(store, "sizes", many)


# -- a store that is asked


class Asked(MemoryFileSystem):
    """A store in memory that counts what is opened, by path and mode."""

    protocol = "asked"
    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec's own way: one store for all instances
    pseudo_dirs = [""]  # noqa: RUF012
    opens: Counter = Counter()  # noqa: RUF012

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        if mode != "rb" or self.exists(path):
            self.opens[path.rpartition("0123456789/")[2], mode] += 1
        return super()._open(path, mode, **more)


@pytest.fixture
def asked() -> Iterator[Counter]:
    fsspec.register_implementation("asked", Asked, clobber=True)
    Asked.store.clear()
    Asked.opens.clear()
    store._filesystem.cache_clear()
    shards_module._known.clear()
    yield Asked.opens
    store._filesystem.cache_clear()


def test_a_shard_that_lies_elsewhere_comes_once_and_its_commit_is_not_looked_up_again(asked: Counter) -> None:
    made = mapped(Local(), "asked://store/first-0123456789")["lengths"]
    asked.clear()
    map_(Local(), "Copy", [copy_of("asked://store/copy-0123456789")], made)
    read = {path: count for (path, mode), count in asked.items() if mode == "rb"}
    assert read == {f"lengths/{name}.parquet": 1 for name in made.names}
    whole = re.compile(r"\.([^/]+)\.[0-9a-f]{12}\.attempt$")  # as it is called until it is renamed
    written = Counter({whole.sub(r"\1", path): count for (path, mode), count in asked.items() if mode == "wb"})
    files = [f"{name}.parquet" for name in made.names] + [f"commits/{name}.json" for name in made.names]
    assert written == Counter([*files, "manifest.json"])


def test_a_shard_elsewhere_is_hashed_once_a_process_and_read_as_it_lies(asked: Counter) -> None:
    made = mapped(Local(), "asked://store/first-0123456789")
    whole = {name: made[name].read("part-00004") for name in ("lengths", "odd")}  # Parquet and Arrow
    again = {name: made[name].select("id").read("part-00004") for name in ("lengths", "odd")}
    assert all(again[name].equals(whole[name].select(["id"])) for name in whole)
    assert (
        whole["lengths"]["length"].to_pylist() == lengths(numbered(range(5065, 10065)), At("", 0))["length"].to_pylist()
    )
    assert len(shards_module._known) == 2


@pytest.mark.parametrize("name", ["lengths", "odd"])
def test_a_shard_elsewhere_that_was_changed_or_is_gone_is_named(asked: Counter, name: str) -> None:
    made = mapped(Local(), "asked://store/first-0123456789")[name]
    uri = made.path("part-00004")
    body = bytearray(store.read(uri))
    body[len(body) // 2] ^= 1
    store.write(uri, bytes(body))
    with pytest.raises(Damaged, match=r"part-00004.* does not match its digest"):
        made.read("part-00004")
    store.remove(uri)
    with pytest.raises(Damaged, match=r"part-00004.* is named in a manifest and is not there"):
        made.read("part-00004")


def test_no_more_files_are_remembered_than_said(asked: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "KNOWN", 3)
    made = mapped(Local(), "asked://store/first-0123456789")["lengths"]
    for name in (*made.names, *made.names):
        made.read(name)
        assert 1 <= len(shards_module._known) <= 3
