"""The verbs without Ray: what is committed stays, what is damaged is named, and any storage will do.

The toys of this file are what tests/test_ray_cluster.py runs on Ray, so that both are held to the same bytes.
"""

import json
import multiprocessing
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tundish.cluster import store
from tundish.cluster.exchange import exchange_
from tundish.cluster.local import LOST, Local
from tundish.cluster.map import map_
from tundish.cluster.shards import Damaged, Dataset, digest_of, opened, verify
from tundish.cluster.target import Target
from tundish.cluster.verbs import At, Cluster, Fn, Job, Post, Status

# -- toys: numbered rows in shards, functions of them, keepers that post to each other


@dataclass(frozen=True)
class Numbers:
    """A source of numbered rows: for each shard its name, its first number and how many follow."""

    shards: tuple[tuple[str, int, int], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _, _ in self.shards)

    def digests(self, name: str) -> dict[str, str]:
        return {f"numbers/{name}": digest_of(self._of(name))}

    def batches(self, name: str, rows: int) -> Iterator[pa.Table]:
        first, count = self._of(name)
        for start in range(first, max(first + 1, first + count), rows):
            yield numbered(range(start, min(start + rows, first + count)))

    def _of(self, name: str) -> tuple[int, int]:
        return next((first, count) for known, first, count in self.shards if known == name)


def numbered(numbers: range) -> pa.Table:
    values = np.arange(numbers.start, max(numbers.start, numbers.stop), dtype=np.int64)
    ids = [int(n).to_bytes(16, "little") for n in values]
    texts = [f"row {n} " * (n % 5) for n in values]
    return pa.table(
        {
            "id": pa.array(ids, pa.binary(16)),
            "key": values % 13,
            "number": values,
            "text": pa.array(texts, pa.large_string()),
        }
    )


def shelves(*sizes: int) -> Numbers:
    """A source of shards of these sizes, its numbers running on from shard to shard."""
    starts = np.cumsum([0, *sizes[:-1]])
    return Numbers(tuple((f"part-{i:05d}", int(s), n) for i, (s, n) in enumerate(zip(starts, sizes, strict=True))))


SOURCE = shelves(3000, 0, 17, 2048, 5000, 1)  # one batch, none, a few rows, exactly a batch, several batches


def lengths(batch: pa.Table, at: At) -> pa.Table:
    at.tally["rows"] += len(batch)
    return pa.table({"id": batch["id"], "length": pc.utf8_length(batch["text"])})


def sides(batch: pa.Table, at: At) -> tuple[pa.Table, pa.Table]:
    """Two outs: the rows whose length is even, and the others. Reads what `lengths` made in the same pass."""
    even = pc.equal(pc.bit_wise_and(batch["length"], 1), 0)
    columns = ["id", "length", "number"]
    return batch.select(columns).filter(even), batch.select(columns).filter(pc.invert(even))


def sums(part: pa.Table, at: At) -> pa.Table:
    """One row a key: how often it came and the sum of its numbers. A key is in one part only."""
    at.tally["keys"] += len(pc.unique(part["key"]))
    return part.group_by("key", use_threads=False).aggregate([("number", "sum"), ("number", "count")])


def narrowed(batch: pa.Table, at: At) -> pa.Table:
    return batch.select(["key", "number"])


@dataclass(frozen=True)
class Marked:
    """Another function, leaving a file for each time it began a shard; slow enough to be killed in between."""

    fn: Fn
    folder: str
    seconds: float = 0.0

    def __call__(self, batch: pa.Table, at: At) -> Any:
        if at.row == 0:
            Path(self.folder, f"{at.shard}.{uuid.uuid4().hex}").touch()
            time.sleep(self.seconds)
        return self.fn(batch, at)


@dataclass(frozen=True)
class Killed:
    """Another function, whose process is killed once, in the middle of a shard."""

    fn: Fn
    shard: str
    marker: str

    def __call__(self, batch: pa.Table, at: At) -> Any:
        if at.shard == self.shard and once(self.marker):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.fn(batch, at)


@dataclass(frozen=True)
class Refusing:
    """A function that refuses one shard, for as long as its marker is not there."""

    fn: Fn
    shard: str
    marker: str

    def __call__(self, batch: pa.Table, at: At) -> Any:
        if at.shard == self.shard and not Path(self.marker).exists():
            raise ValueError(f"{at.shard} holds a row that is 'crooked'; straighten it")
        return self.fn(batch, at)


def once(marker: str) -> bool:
    """Whether this is the first call for a marker, among all processes."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def began(folder: Path) -> Counter:
    """How often each shard was begun, from the marks."""
    return Counter(path.name.partition(".")[0] for path in folder.iterdir())


class Counting:
    """A keeper that has `rows` numbers to hand out, in small batches, and durably keeps those handed to it.

    Its outbox is what it has no receipt for; a batch is one file, named by its sender and id, so a batch that comes
    twice is one. Keeper 1 dies once, after it has taken a batch and before its sender hears of it.
    """

    def __init__(self, folder: str, rows: int, parts: int, die: bool, part: int) -> None:
        self.folder, self.rows, self.parts, self.die, self.part = Path(folder), rows, parts, die, part
        for name in (f"taken-{part}", f"receipts-{part}"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        Path(self.folder, f"born-{part}-{uuid.uuid4().hex}").touch()
        self.left = [b for b in self._batches() if not (self.folder / f"receipts-{part}" / b).exists()]

    def _batches(self) -> list[str]:
        return [f"{start:05d}" for start in range(0, self.rows, 10)]

    async def work(self, post: Post) -> None:
        while self.left:
            batch = self.left[0]
            start = int(batch)
            numbers = range(start, min(start + 10, self.rows))
            for part in range(self.parts):
                mine = [n * self.parts + self.part for n in numbers if n % self.parts == part]
                await post(part, batch, mine)
            (self.folder / f"receipts-{self.part}" / batch).touch()
            self.left.pop(0)

    async def receive(self, sender: int, batch: str, rows: list[Any]) -> None:
        path = self.folder / f"taken-{self.part}" / f"{sender}-{batch}.json"
        store.write(str(path), json.dumps(rows).encode())
        with open(self.folder / "calls", "a") as calls:
            calls.write(f"{self.part} {sender} {batch}\n")
        if self.die and self.part == 1 and batch == "00030" and once(str(self.folder / "died")):
            os._exit(1)

    def status(self) -> Status:
        taken = len(list((self.folder / f"taken-{self.part}").iterdir()))
        return Status(idle=not self.left, outbox=len(self.left), received=taken, done=taken)

    async def close(self) -> list[int]:
        files = sorted((self.folder / f"taken-{self.part}").glob("*.json"))
        return [n for path in files for n in json.loads(path.read_text())]


class Failing(Counting):
    """A keeper whose work goes wrong."""

    async def work(self, post: Post) -> None:
        raise ValueError("seed 'heron' has no scheme; write http://heron")


def never(statuses: list[Status]) -> bool:
    return False


def meeting(folder: str, rank: int, world: int, tell: Any) -> None:
    """A gang's work: every rank leaves its name, and they tell of one step."""
    Path(folder, f"{rank}-of-{world}").touch()
    tell({"step": 1, "steps": 2})


def refused(rank: int, world: int, tell: Any) -> None:
    raise ValueError("the shards hold 3 tokens; give more")


# -- what every cluster has to write: used on Ray as well


def mapped(cluster: Cluster, out: str, source: Any = SOURCE, first: Fn = lengths) -> dict[str, Dataset]:
    """Two jobs in one pass, the second reading what the first makes: three datasets."""
    jobs = [
        Job(first, (Target(f"{out}/lengths", "k1"),)),
        Job(sides, (Target(f"{out}/even", "k2"), Target(f"{out}/odd", "k2", "arrow")), after=(0,)),
    ]
    [(one,), (even, odd)] = map_(cluster, "Toy map", jobs, source)
    return {"lengths": one, "even": even, "odd": odd}


def met(
    cluster: Cluster, out: str, source: Any = SOURCE, *, fn: Fn = sums, parts: int = 5, files: int = 1024
) -> Dataset:
    return exchange_(
        cluster,
        "Toy exchange",
        fn,
        source,
        Target(f"{out}/sums", "k"),
        by="key",
        parts=parts,
        sort=("key", "number"),
        first=narrowed,
        files=files,
    )


def written(cluster: Cluster, out: str) -> dict[str, str]:
    """Digests of all a cluster writes from the source."""
    return {name: d.digest for name, d in mapped(cluster, out).items()} | {"sums": met(cluster, out).digest}


# -- map


def test_one_and_four_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """Of a map; the exchange below, and both of them beside Ray in tests/test_ray_cluster.py."""
    one, four = mapped(Local(), f"{tmp_path}/one"), mapped(Local(workers=4), f"{tmp_path}/four")
    assert {n: d.digest for n, d in one.items()} == {n: d.digest for n, d in four.items()}


def test_every_shard_of_a_map_lies_beside_its_source_row_by_row(tmp_path: Path) -> None:
    made = mapped(Local(), str(tmp_path))
    assert made["lengths"].names == SOURCE.names
    assert [s.rows for s in made["lengths"].shards] == [n for _, _, n in SOURCE.shards]
    assert made["lengths"].counts == {"rows": 10066}
    expected = pc.utf8_length(numbered(range(10066))["text"]).to_pylist()
    assert made["lengths"].table()["length"].to_pylist() == expected
    split = made["even"].rows + made["odd"].rows
    assert split == 10066
    assert made["even"].rows == sum(n % 2 == 0 for n in expected)
    assert verify(made["odd"]) == []


def test_a_finished_map_is_not_run_again_and_an_interrupted_one_goes_on(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    refusing = Refusing(lengths, "part-00003", str(tmp_path / "mended"))
    fn = Marked(refusing, str(marks))
    with pytest.raises(ValueError, match=r"^part-00003 holds a row that is 'crooked'; straighten it$"):
        mapped(Local(), str(tmp_path / "out"), first=fn)
    assert not opened(str(tmp_path / "out" / "lengths")), "a dataset without all its shards is none"
    assert not list(tmp_path.glob("out/**/*.attempt"))
    (tmp_path / "mended").touch()
    made = mapped(Local(), str(tmp_path / "out"), first=fn)
    assert began(marks) == Counter({name: 1 for name in SOURCE.names} | {"part-00003": 2})
    mapped(Local(), str(tmp_path / "out"), first=fn)
    assert sum(began(marks).values()) == len(SOURCE.names) + 1
    assert {n: d.digest for n, d in made.items()} == {n: d.digest for n, d in mapped(Local(), f"{tmp_path}/b").items()}


def test_a_job_that_failed_is_done_again_alone(tmp_path: Path) -> None:
    """Two jobs of one pass: what the first wrote stays as it is, although the second needs its columns once more."""
    first = mapped(Local(), str(tmp_path))["lengths"]
    before = [Path(first.path(n)).stat().st_mtime_ns for n in first.names]
    for out in ("even", "odd"):
        store.remove(str(tmp_path / out))
    again = mapped(Local(), str(tmp_path))
    assert [Path(first.path(n)).stat().st_mtime_ns for n in first.names] == before
    assert again["even"].rows + again["odd"].rows == first.rows


def test_only_shards_whose_input_or_file_changed_are_done_again(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    target = Target(str(tmp_path / "out"), "k")

    def go(source: Numbers, out: Target = target) -> Counter:
        for mark in marks.iterdir():
            mark.unlink()
        map_(Local(), "Toy", [Job(Marked(lengths, str(marks)), (out,))], source)
        return began(marks)

    assert set(go(SOURCE)) == set(SOURCE.names)
    other = Numbers((*SOURCE.shards[:2], ("part-00002", 90_000, 17), *SOURCE.shards[3:]))
    assert go(other) == Counter({"part-00002": 1})
    os.remove(tmp_path / "out" / "manifest.json")
    os.remove(tmp_path / "out" / "part-00004.parquet")
    assert go(other) == Counter({"part-00004": 1})
    assert set(go(other, replace(target, key="another"))) == set(SOURCE.names)


def test_where_a_worker_is_killed_another_does_what_it_was_at(tmp_path: Path) -> None:
    fn = Killed(lengths, "part-00004", str(tmp_path / "died"))
    made = mapped(Local(workers=2), str(tmp_path / "out"), first=fn)
    assert (tmp_path / "died").exists()
    assert not list(tmp_path.glob("out/**/*.attempt")), "what it had begun to write lies there"
    assert {n: d.digest for n, d in made.items()} == {n: d.digest for n, d in mapped(Local(), f"{tmp_path}/b").items()}


def test_a_watcher_hears_of_every_shard(tmp_path: Path) -> None:
    heard = []
    watching = Local(watch=lambda stage, done, total, told: heard.append((stage, done, total, told and told.name)))
    mapped(watching, str(tmp_path))
    assert heard == [("Toy map", n, 6, SOURCE.names[n - 1] if n else None) for n in range(7)]


# -- datasets


def test_a_flipped_byte_is_named_and_nothing_reads_the_shard(tmp_path: Path) -> None:
    made = mapped(Local(), str(tmp_path))["lengths"]
    path = Path(made.path("part-00002"))
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    with pytest.raises(Damaged, match=r"part-00002\.parquet does not match its digest"):
        map_(Local(), "After", [Job(lambda batch, at: batch, (Target(str(tmp_path / "after"), "k"),))], made)
    assert opened(str(tmp_path / "after")) is None
    assert [said for said in verify(made) if "part-00002" in said and "bytes differ" in said]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    made = mapped(Local(), str(tmp_path))["odd"]
    os.remove(made.path("part-00003"))
    with pytest.raises(Damaged, match=r"part-00003\.arrow is named in a manifest and is not there"):
        made.read("part-00003")
    assert len(verify(made)) == 1


def test_a_damaged_piece_stops_the_exchange(tmp_path: Path) -> None:
    """The pieces of an exchange that was killed between its two halves are checked like any shard."""

    def killed(part: pa.Table, at: At) -> pa.Table:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        met(Local(), str(tmp_path), fn=killed)
    piece = tmp_path / "sums" / "pieces" / "piece-00004.arrow"
    whole, parts, found = piece.read_bytes(), pieces_of(piece), 0
    for at in np.linspace(0, len(whole) - 1, 40).astype(int):
        piece.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises((Damaged, KeyboardInterrupt)) as caught:  # of the first part's rows nothing may be touched
            met(Local(), str(tmp_path), fn=killed)
        damaged = caught.type is Damaged
        assert not damaged or "piece-00004.arrow does not match its digest" in str(caught.value)
        found += damaged
    assert found > 3
    piece.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with pytest.raises(Damaged, match=r"piece-00004\.arrow does not match its digest: its end is gone"):
        met(Local(), str(tmp_path))
    for p, part in enumerate(filter(None, parts)):  # no key goes to the last
        flipped = bytearray(whole)
        flipped[whole.index(part) + 8] ^= 1
        piece.write_bytes(flipped)
        with pytest.raises(Damaged, match=rf"piece-00004\.arrow does not match its digest in part {p};"):
            met(Local(), str(tmp_path))
    piece.write_bytes(whole)
    assert met(Local(), str(tmp_path)).digest == met(Local(), str(tmp_path / "whole")).digest


def pieces_of(path: Path) -> list[bytes]:
    """The numbers of the rows of each part, as they lie in the file."""
    with pa.ipc.open_file(str(path)) as reader:
        batches = [reader.get_batch(p) for p in range(reader.num_record_batches)]
    return [batch.column("number").to_numpy().tobytes() for batch in batches]


def test_datasets_lie_beside_each_other_only_with_the_same_rows(tmp_path: Path) -> None:
    made = mapped(Local(), str(tmp_path))
    again = mapped(Local(), str(tmp_path / "again"))["lengths"]
    assert made["lengths"].beside(again).read("part-00000").column_names == ["id", "length"]
    with pytest.raises(ValueError, match=r"part-00000 of .* has other rows than that of"):
        made["lengths"].beside(made["even"])
    turned = Numbers((("part-00000", 1, 3000), *SOURCE.shards[1:]))  # as many rows, other ids
    other = mapped(Local(), str(tmp_path / "turned"), turned)["lengths"]
    with pytest.raises(ValueError, match=r"part-00000 of .* has other rows than that of"):
        made["lengths"].beside(other)
    fewer = mapped(Local(), str(tmp_path / "fewer"), Numbers(SOURCE.shards[:3]))["lengths"]
    with pytest.raises(ValueError, match="has other shards than"):
        made["lengths"].beside(fewer)


# -- exchange


def test_all_rows_with_a_key_meet_once(tmp_path: Path) -> None:
    sealed = met(Local(), str(tmp_path))
    found = sealed.table().sort_by("key")
    numbers = np.arange(10066)
    assert found["key"].to_pylist() == list(range(13))
    assert found["number_sum"].to_pylist() == [int(numbers[numbers % 13 == key].sum()) for key in range(13)]
    assert found["number_count"].to_pylist() == [int((numbers % 13 == key).sum()) for key in range(13)]
    assert sealed.counts == {"keys": 13}
    assert not (tmp_path / "sums" / "pieces").exists(), "what was on the way is not kept"


def test_the_order_of_shards_and_the_number_of_files_do_not_matter(tmp_path: Path) -> None:
    expected = met(Local(), str(tmp_path / "a")).digest
    backwards = Numbers(SOURCE.shards[::-1])
    assert met(Local(), str(tmp_path / "b"), backwards).digest == expected
    assert met(Local(), str(tmp_path / "c"), files=2).digest == expected
    assert met(Local(workers=2), str(tmp_path / "d"), backwards, files=3).digest == expected


def test_more_parts_than_rows_and_empty_shards(tmp_path: Path) -> None:
    few = shelves(0, 3, 0)
    sealed = met(Local(), str(tmp_path), few, parts=40)
    assert len(sealed.names) == 40
    assert sealed.table().sort_by("key")["number_sum"].to_pylist() == [0, 1, 2]
    empty = met(Local(), str(tmp_path / "empty"), shelves(0, 0), parts=3)
    assert (len(empty.names), empty.rows) == (3, 0)
    assert empty.table().column_names == ["key", "number_sum", "number_count"]


def test_an_interrupted_exchange_goes_on_in_either_half(tmp_path: Path) -> None:
    expected = met(Local(), str(tmp_path / "undisturbed")).digest
    marks = tmp_path / "marks"
    marks.mkdir()
    fn = Marked(Refusing(sums, "part-00002", str(tmp_path / "mended")), str(marks))
    with pytest.raises(ValueError, match="crooked"):
        met(Local(), str(tmp_path / "out"), fn=fn)
    pieces = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "sums" / "pieces").glob("*.arrow")}
    os.remove(tmp_path / "out" / "sums" / "pieces" / "commits" / "piece-00001.json")
    (tmp_path / "mended").touch()
    redone = []
    watching = Local(watch=lambda stage, done, total, told: redone.append(_fresh(pieces)) if "cut" in stage else None)
    assert met(watching, str(tmp_path / "out"), fn=fn).digest == expected
    assert redone[-1] == {"piece-00001.arrow"}
    assert began(marks) == Counter({f"part-{p:05d}": 1 + (p == 2) for p in range(5)})


def _fresh(known: dict[Path, int]) -> set[str]:
    return {path.name for path, then in known.items() if path.stat().st_mtime_ns != then}


def test_keys_are_integers_or_binaries(tmp_path: Path) -> None:
    def by_id(source: Any, out: str) -> Dataset:
        return exchange_(
            Local(), "By id", lambda part, at: part, source, Target(out, "k"), by="id", parts=3, sort=("id",)
        )

    made = by_id(SOURCE, str(tmp_path / "ids"))
    assert made.rows == 10066
    assert sorted(made.table()["number"].to_pylist()) == list(range(10066))


# -- any storage


@pytest.fixture
def bucket() -> Iterator[str]:
    """An empty place in a filesystem that is none: whole objects by URI, as in an object store."""
    name = f"bucket-{uuid.uuid4().hex}"
    yield f"memory://{name}"
    fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


def test_an_object_store_holds_the_same_bytes(bucket: str, tmp_path: Path) -> None:
    assert written(Local(), f"{bucket}/base") == written(Local(), str(tmp_path))
    made = opened(f"{bucket}/base/lengths")
    assert made is not None
    assert (
        made.read("part-00002")["length"].to_pylist() == pc.utf8_length(numbered(range(3000, 3017))["text"]).to_pylist()
    )
    assert verify(made) == []


def test_an_object_store_is_gone_on_with(bucket: str, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    fn = Marked(Refusing(lengths, "part-00003", str(tmp_path / "mended")), str(marks))
    with pytest.raises(ValueError, match="crooked"):
        mapped(Local(), bucket, first=fn)
    (tmp_path / "mended").touch()
    mapped(Local(), bucket, first=fn)
    mapped(Local(), bucket, first=fn)
    assert began(marks) == Counter({name: 1 for name in SOURCE.names} | {"part-00003": 2})


# -- attend and gang


def test_keepers_hand_each_other_every_row_once(tmp_path: Path) -> None:
    make = partial(Counting, str(tmp_path), 200, 3, False)
    told = Local().attend("Toy keepers", make, parts=3, stop=never)
    assert sorted(n for part in told for n in part) == list(range(600))
    assert all(told), "every part was handed something"


def test_keepers_go_on_from_what_they_had_committed(tmp_path: Path) -> None:
    make = partial(Counting, str(tmp_path), 200, 3, False)
    process = multiprocessing.get_context("spawn").Process(target=_attend_and_die, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == 1, "keeper 1 ends the process"
    before = (tmp_path / "calls").read_text().splitlines()
    assert 0 < len(before) < 180
    told = Local().attend("Toy keepers", make, parts=3, stop=never)
    assert sorted(n for part in told for n in part) == list(range(600))
    calls = Counter((tmp_path / "calls").read_text().splitlines())
    assert len(calls) == 180
    assert max(calls.values()) == 2, "the batch whose receipt was lost came again"


def _attend_and_die(folder: str) -> None:
    Local().attend("Toy keepers", partial(Counting, folder, 200, 3, True), parts=3, stop=never)


def test_a_budget_stops_keepers(tmp_path: Path) -> None:
    seen: list[int] = []

    def enough(statuses: list[Status]) -> bool:
        seen.append(sum(s.done for s in statuses))
        return True

    Local().attend("Toy keepers", partial(Counting, str(tmp_path), 100_000, 3, False), parts=3, stop=enough)
    assert len(seen) == 1


def test_a_keeper_that_fails_says_why_and_the_others_are_closed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^seed 'heron' has no scheme; write http://heron$"):
        Local().attend("Toy keepers", partial(Failing, str(tmp_path), 10, 2, False), parts=2, stop=never)


def test_a_gang_is_one_here_or_several_processes(tmp_path: Path) -> None:
    heard: list[Any] = []
    one = Local(watch=lambda *said: heard.append(said))
    one.gang("Alone", partial(meeting, str(tmp_path)), size=1)
    assert [(*said[:3], said[3].line) for said in heard] == [("Alone", 1, 2, {"step": 1, "steps": 2})]
    Local().gang("Two", partial(meeting, str(tmp_path)), size=2)
    assert {p.name for p in tmp_path.iterdir()} == {"0-of-1", "0-of-2", "1-of-2"}


def half_gone(rank: int, world: int, tell: object) -> None:
    """The second rank goes without a word; the first would wait for it for ever."""
    if rank == 1:
        os._exit(3)
    time.sleep(60)


def test_a_rank_that_fails_ends_the_gang() -> None:
    with pytest.raises(ValueError, match=r"^the shards hold 3 tokens; give more$"):
        Local().gang("Alone", refused, size=1)
    with pytest.raises(ValueError, match=r"^the shards hold 3 tokens; give more$"):
        Local().gang("Two", refused, size=2)
    with pytest.raises(RuntimeError, match=r"^worker Two-1 ended with exit code 3; run again"):
        Local().gang("Two", half_gone, size=2)


def number_of(item: int) -> int:
    if item < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def mortal(item: tuple[int, str]) -> int:
    """A number, from a process that is killed at every fifth of them once."""
    number, folder = item
    if not number % 5 and once(f"{folder}/{number}"):
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_each_item_is_answered_once_however_many_processes_are_lost(tmp_path: Path) -> None:
    items = [(number, str(tmp_path)) for number in range(LOST * 5)]
    assert sorted(Local(workers=2).each("mortal", mortal, items)) == [*range(LOST * 5)]
    assert len([*tmp_path.iterdir()]) == LOST


def test_processes_stay_and_lost_ones_are_replaced() -> None:
    """Work that kills every process that has it ends that map after some, however much is left; whoever is lost idle
    ends nothing."""
    cluster = Local(workers=2)
    first = {*cluster.each("one", number_of, range(20))}
    assert {*cluster.each("two", number_of, range(20))} & first
    with pytest.raises(RuntimeError, match=f"three lost a worker process {LOST + 1} times.*fewer --workers"):
        list(cluster.each("three", number_of, [1, -1, *range(200)]))
    second = {*cluster.each("four", number_of, range(20))}
    assert not second & first
    for process in second:
        os.kill(process, signal.SIGKILL)
    time.sleep(0.5)
    assert not {*cluster.each("five", number_of, range(20))} & second
