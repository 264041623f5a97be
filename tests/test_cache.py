"""The node's cache of shards: what comes, what goes, and what is refused. Elsewhere is a folder (`tests/twin`)."""

import errno
import functools
import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests import twin
from tundish.cluster import cache_folder, fetch
from tundish.cluster.cache import Cache, entries, named
from tundish.cluster.fetch import Entry
from tundish.cluster.foresight import Foresight, Future, Use, next_fetch, victims
from tundish.cluster.rehearsal import rehearsal, table
from tundish.cluster.shards import Damaged
from tundish.cluster.target import Target

SIZE = 1000


@pytest.fixture(autouse=True)
def _plugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fetch, "PAUSES", (0.001, 0.001, 0.001))
    twin.plug()
    yield
    twin.plug()


def remote(folder: Path, sizes: Sequence[int], seed: int = 1) -> list[Entry]:
    """Files of random bytes in a folder, as entries that lie elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, made = random.Random(seed), []
    for number, size in enumerate(sizes):
        body = draw.randbytes(size)
        (folder / f"{number}.arrow").write_bytes(body)
        uri = f"{twin.at(folder)}/{number}.arrow"
        made.append(Entry(uri, size, hashlib.sha256(body).hexdigest()))
    return made


def planned(uses: Sequence[Use]) -> Future:
    """A future from a list of uses in order."""
    return lambda position: (use for use in uses if max(use.last, use.position) >= position)


def one_by_one(files: Sequence[int], width: int = 10) -> list[Use]:
    """One file after the other, each for `width` positions."""
    return [Use(at * width, file, at * width + width - 1) for at, file in enumerate(files)]


def whole(folder: Path) -> set[str]:
    return {e.name for e in folder.iterdir() if cache_folder.OURS.fullmatch(e.name) and e.suffix != ".part"}


def intact(path: Path) -> bool:
    """Whether a file of a cache is what its name says."""
    return hashlib.sha256(path.read_bytes()).hexdigest() == path.name.partition(".")[0]


# what comes, and when


def test_files_come_in_the_order_of_need_and_before_they_are_needed(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 8)
    uses = one_by_one([3, 1, 7, 0, 2, 5, 4, 6])
    with Cache(tmp_path / "near", 5 * SIZE, files, ahead=2 * SIZE, streams=1) as cache:
        cache.plan(planned(uses))
        assert cache.path(3, 0).read_bytes() == (tmp_path / "far" / "3.arrow").read_bytes()
        cache.settle()
        assert twin.Twin.opened == [f"{n}.arrow" for n in (3, 1, 7, 0, 2)]  # all that there is room for
        assert cache.path(1, 10).exists()
        cache.settle()
        assert twin.Twin.opened[5:] == ["5.arrow"]  # in the place of the first, which is not needed again
        assert whole(tmp_path / "near") == {named(files[n]) for n in (1, 7, 0, 2, 5)}
        for use in uses[2:]:
            assert intact(cache.path(use.file, use.position))
            cache.settle()
        assert cache.told.misses == 8
        assert cache.told.hits == 0
        assert cache.told.bytes == 8 * SIZE
        assert cache.told.waits <= 1  # for the first


def test_a_file_is_asked_for_at_every_position_and_looked_up_once(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 2)
    with Cache(tmp_path / "near", 2 * SIZE, files) as cache:
        cache.plan(planned([Use(0, 0, 999), Use(0, 1, 999), Use(1000, 0, 1999)]))
        paths = {cache.path(position % 2, position) for position in range(1000)}
        assert len(paths) == 2
        assert cache.path(0, 1500) in paths  # in use all the time: one use
        assert (cache.told.hits, cache.told.misses, cache.told.unplanned) == (0, 2, 0)


def test_large_files_come_in_ranges_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RANGE", 1000)
    files = remote(tmp_path / "far", [10_500, 0, 999])
    together = threading.Barrier(4)
    lock, seen = threading.Lock(), set()

    def trouble(file: str, at: int, body: bytes) -> bytes:
        with lock:
            first = at < 4000 and file == "0.arrow" and at not in seen
            seen.add(at)
        if first:
            together.wait(30)  # passes only when four ranges are under way at once
        return body

    twin.plug(trouble)
    with Cache(tmp_path / "near", 20_000, files, streams=4) as cache:
        cache.plan(planned(one_by_one([0, 1, 2])))
        for number, entry in enumerate(files):
            assert intact(path := cache.path(number, number * 10))
            assert path.stat().st_size == entry.size
    assert seen >= set(range(0, 10_500, 1000))


def test_shards_of_a_dataset_are_mapped_from_where_they_lie_now(tmp_path: Path) -> None:
    target = Target(twin.at(tmp_path / "far"), "key", "arrow")
    made = []
    for name, start in (("part-00000", 0), ("part-00001", 500)):
        writer = target.writer(name)
        writer.write(pa.table({"tokens": pa.array(np.arange(start, start + 500, dtype=np.uint16))}))
        made.append(writer.finish({}, {}))
    dataset = target.seal(made)
    with Cache(tmp_path / "near", 10**6, entries(dataset)) as cache:
        cache.plan(planned(one_by_one([0, 1])))
        for number in range(2):
            rows = pa.ipc.open_file(pa.memory_map(str(cache.path(number, number * 10)))).read_all()
            assert rows.equals(dataset.read(f"part-0000{number}"))


# what goes


def least_fetched(steps: Sequence[frozenset[int]], room: int) -> int:
    """The fewest files that must be fetched so that each step finds its set there, by trying everything."""

    @functools.cache
    def fewest(step: int, held: frozenset[int]) -> int:
        if step == len(steps):
            return 0
        need = steps[step]
        new, old = need - held, held - need
        keep = min(len(old), room - len(need))
        rest = (need | frozenset(kept) for kept in itertools.combinations(sorted(old), keep))
        return len(new) + min(fewest(step + 1, each) for each in rest)

    return fewest(0, frozenset())


def random_uses(draw: random.Random, files: int, width: int, count: int) -> list[Use]:
    """Spans of random files, several at a time, in order of their beginning; at every position one is in use."""
    uses, at, end = [], 0, -1
    for _ in range(count):
        at = min(at + draw.choice([0, 1, 2, 3]), end + 1)
        uses.append(Use(at, draw.randrange(files), at + draw.randrange(width)))
        end = max(end, uses[-1].last)
    return uses


def steps_of(uses: Sequence[Use]) -> list[frozenset[int]]:
    end = max(use.last for use in uses) + 1
    return [frozenset(u.file for u in uses if u.position <= at <= u.last) for at in range(end)]


@pytest.mark.parametrize("seed", range(300))
def test_what_goes_is_as_good_as_any_choice(seed: int) -> None:
    draw = random.Random(seed)
    uses = random_uses(draw, draw.randint(3, 7), draw.choice([1, 2, 4]), draw.randint(4, 16))
    steps = steps_of(uses)
    room = max(len(step) for step in steps) + draw.randint(0, 2)
    files = [Entry(f"far/{n}", SIZE, f"{n:064x}") for n in range(7)]
    told = rehearsal(
        planned(uses), files, room * SIZE, rate=1, bandwidth=float("inf"), until=len(steps), ahead=0, window=1
    )
    assert told.bytes == least_fetched(steps, room) * SIZE


def test_the_brute_force_finds_what_is_known() -> None:
    """Belady's own example of a cycle one larger than the memory: all but one of four stay."""
    cycle = [frozenset([n % 4]) for n in range(12)]
    assert least_fetched(cycle, 3) == 4 + 2  # 0 1 2 miss, then one miss in every third
    assert least_fetched(cycle, 4) == 4


@pytest.mark.parametrize("seed", range(40))
def test_nothing_goes_for_a_file_that_is_needed_later(seed: int) -> None:
    draw = random.Random(seed)
    uses = random_uses(draw, 9, 3, 60)
    names = [str(n) for n in range(9)]
    sizes = {name: draw.randint(1, 5) for name in names}
    ahead_of, there = Foresight(planned(uses), names), {}
    capacity = max(ahead_of.moment(sizes), *sizes.values()) + draw.randint(0, 8)
    for position in range(uses[-1].position + 1):
        ahead_of.move(position)
        far = ahead_of.distances()
        for _ in range(20):
            free = capacity - sum(there.values())
            arguments = {"sizes": sizes, "whole": there, "passed": (), "free": free, "ahead": draw.choice([0, 3, 9])}
            chosen = next_fetch(ahead_of, **arguments, distances=far, held=ahead_of.now)
            if chosen is None:
                break
            name, gone = chosen
            assert not set(gone) & ahead_of.now
            assert all(far.get(each, 1 << 62) > far.get(name, 0) for each in gone)
            assert all(n in there for n, away in ahead_of.upcoming() if away < far.get(name, 0))
            there = {n: s for n, s in there.items() if n not in gone} | {name: sizes[name]}
        assert ahead_of.now <= there.keys()
        assert sum(there.values()) <= capacity


def test_what_is_never_needed_again_goes_first_and_nothing_if_it_is_not_enough() -> None:
    there = {"a": 2, "b": 2, "c": 2, "d": 2}
    assert victims(there, {"d"}, {"a": 5, "b": 9}, room=1, beyond=0) == ["c"]
    assert victims(there, {"d"}, {"a": 5, "b": 9}, room=6, beyond=4) == ["c", "b", "a"]
    assert victims(there, {"d"}, {"a": 5, "b": 9}, room=6, beyond=5) == []
    assert victims(there, {"d"}, {"a": 5, "b": 9}, room=7, beyond=0) == []


# the rehearsal


def read_through(cache: Cache, uses: Sequence[Use], until: int) -> None:
    """Every file that is in use, at every position; the cache is let come to rest at each."""
    for position in range(until):
        for file in sorted({u.file for u in uses if u.position <= position <= u.last}):
            assert intact(cache.path(file, position))
        cache.settle()


@pytest.mark.parametrize("seed", range(25))
def test_a_rehearsal_counts_what_a_run_counts(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    files = remote(tmp_path / "far", [draw.randint(500, 1500) for _ in range(8)], seed)
    uses = random_uses(draw, 8, 4, 40)
    end = max(use.last for use in uses) + 1
    sizes = {entry.digest: entry.size for entry in files}
    moment = Foresight(planned(uses), [entry.digest for entry in files]).moment(sizes)
    capacity, ahead = max(moment, 1500) + draw.randint(0, 4000), draw.choice([0, 1, 2000, 10**6, None])
    told = rehearsal(planned(uses), files, capacity, rate=5, bandwidth=float("inf"), until=end, ahead=ahead, window=1)
    with Cache(tmp_path / "near", capacity, files, ahead=ahead, streams=1) as cache:
        cache.plan(planned(uses))
        read_through(cache, uses, end)
        real = cache.told
    assert (real.hits, real.misses, real.bytes, real.evictions) == (
        told.hits,
        told.misses,
        told.bytes,
        told.evictions,
    )
    assert told.stall_seconds == 0
    assert told.moment == max(moment, *sizes.values())


@pytest.mark.parametrize("seed", range(40))
def test_at_the_capacity_that_keeps_nothing_is_fetched_twice(seed: int) -> None:
    draw = random.Random(seed)
    uses = random_uses(draw, 9, 5, 50)
    files = [Entry(f"far/{n}", SIZE, f"{n:064x}") for n in range(9)]
    end = max(use.last for use in uses) + 1

    def run(capacity: int, ahead: int) -> int:
        told = rehearsal(planned(uses), files, capacity, rate=1, bandwidth=1e9, until=end, ahead=ahead, window=1)
        assert told.distinct == len({use.file for use in uses}) * SIZE
        return told.bytes - told.distinct

    for ahead in (0, 1, 3 * SIZE):
        keeping = rehearsal(
            planned(uses), files, 9 * SIZE, rate=1, bandwidth=1e9, until=end, ahead=ahead, window=1
        ).keeping
        assert run(keeping, ahead) == 0
        if ahead == 0 and keeping > max(len(step) for step in steps_of(uses)) * SIZE:
            assert run(keeping - SIZE, ahead) > 0


def test_the_rehearsals_clock() -> None:
    """Four files of 1 GB, 100 positions each, at 10 positions a second; two fit. By hand: 10 s a file."""
    files = [Entry(f"far/{n}", 10**9, f"{n:064x}") for n in range(4)]
    future, told = planned(one_by_one([0, 1, 2, 3], 100)), {}
    for bandwidth in (50e6, 100e6, 200e6):
        told[bandwidth] = rehearsal(future, files, 2 * 10**9, rate=10, bandwidth=bandwidth, until=400)
    enough = told[100e6]
    assert (enough.startup, enough.first_stall, enough.stall_seconds, enough.seconds) == (10, None, 0, 50)
    assert told[200e6].first_stall is None
    slow = told[50e6]  # 20 s a file: the second comes at 40 s and was needed at 30
    assert (slow.startup, slow.first_stall, slow.stall_seconds, slow.seconds) == (20, 10, 30, 90)
    assert enough.mean == pytest.approx(75e6)  # 3 GB after the first, in 40 s
    assert enough.worst == pytest.approx(75e6)  # all of it is less than a minute
    assert enough.steady == pytest.approx(100e6, rel=0.03)
    assert "none; 0.0 s waited" in table(enough, 2 * 10**9, 100e6)
    assert "first stall  after 10.0 s; 30.0 s waited" in table(slow, 2 * 10**9, 50e6)
    alone = rehearsal(future, files, 10**9, rate=10, bandwidth=1e12, until=400)  # no room for the next one
    assert alone.steady == float("inf")
    assert "no rate is enough" in table(alone, 10**9, 1e12)


def test_an_endless_future_is_rehearsed_to_its_end() -> None:
    def epochs(position: int) -> Iterator[tuple[int, int, int]]:
        for at in itertools.count(position // 10):
            yield at * 10, at % 5, at * 10 + 9

    files = [Entry(f"far/{n}", SIZE, f"{n:064x}") for n in range(5)]
    told = rehearsal(epochs, files, 5 * SIZE, rate=1, bandwidth=1e9, until=200, position=100)
    assert (told.hits, told.misses, told.files, told.hit_rate) == (5, 5, 5, 0.5)
    with pytest.raises(ValueError, match="nothing can be rehearsed from 100 to 100"):
        rehearsal(epochs, files, 5 * SIZE, rate=1, bandwidth=1e9, until=100, position=100)
    with pytest.raises(ValueError, match="a cache of 999 bytes is too small"):
        rehearsal(epochs, files, 999, rate=1, bandwidth=1e9, until=100)


# several processes, and their end

READER = """
import json, sys, time
from pathlib import Path
from tests import twin
from tests.test_cache import intact, one_by_one, planned, whole
from tundish.cluster.cache import Cache
from tundish.cluster.fetch import Entry
near, capacity, files, order, pause, rank = json.loads(sys.argv[1])
def trouble(file, at, body):
    time.sleep(pause)
    return body
twin.plug(trouble)
files = [Entry(*each) for each in files]
uses, most = one_by_one(order), 0
with Cache(near, capacity, files, ahead=1) as cache:
    cache.plan(planned(uses))
    print("begun", flush=True)
    for use in uses:
        path = cache.path(use.file, use.position + rank)
        assert intact(path)
        used = 0
        for each in Path(near).glob("*.arrow*"):
            try:
                used += each.stat().st_size
            except FileNotFoundError:
                pass
        most = max(most, used)
    print(json.dumps({**cache.told.__dict__, "most": most}), flush=True)
"""


def reader(
    near: Path, capacity: int, files: Sequence[Entry], order: Sequence[int], pause: float = 0.0, rank: int = 0
) -> "subprocess.Popen[str]":
    told = json.dumps([str(near), capacity, files, list(order), pause, rank])
    return subprocess.Popen([sys.executable, "-c", READER, told], stdout=subprocess.PIPE, text=True)


def finished(process: "subprocess.Popen[str]") -> dict[str, int]:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def test_processes_that_share_a_folder_bring_each_file_once(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE + n for n in range(12)])
    ranks = [reader(tmp_path / "near", 10**6, files, range(12), 0.005, rank) for rank in range(3)]
    told = [finished(each) for each in ranks]
    assert sum(each["bytes"] for each in told) == sum(entry.size for entry in files)
    assert sum(each["misses"] for each in told) == 12
    assert sum(each["hits"] for each in told) == 24
    left = {each.name for each in (tmp_path / "near").iterdir()}
    assert left == {named(entry) for entry in files} | {"lock"}


@pytest.mark.slow
def test_processes_that_share_a_small_folder_never_take_what_another_uses(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 10)
    orders = [random.Random(seed).choices(range(10), k=40) for seed in range(3)]
    ranks = [reader(tmp_path / "near", 5 * SIZE, files, order, rank=n) for n, order in enumerate(orders)]
    told = [finished(each) for each in ranks]  # each has checked every file it was given
    assert max(each["most"] for each in told) <= 5 * SIZE
    assert all(each["hits"] + each["misses"] + 40 >= 40 for each in told)
    assert sum(each["evictions"] for each in told) >= sum(each["bytes"] for each in told) // SIZE - 5


def test_a_process_killed_in_the_midst_leaves_nothing_half_and_holds_up_nobody(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 4)
    near = tmp_path / "near"
    killed = reader(near, 4 * SIZE, files, range(4), pause=3600.0)
    deadline = time.monotonic() + 60
    while not list(near.glob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(near.glob("*.part"))
    assert list(near.glob("reader-*"))
    waiting = reader(near, 4 * SIZE, files, range(4))  # and one that waits for what the other was bringing
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "begun\n"
    killed.kill()
    killed.communicate()
    assert finished(waiting)["bytes"] == 4 * SIZE
    assert {each.name for each in near.iterdir()} == {named(entry) for entry in files} | {"lock"}


@pytest.mark.slow
def test_whoever_is_killed_the_others_come_through(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 10)
    near, draw = tmp_path / "near", random.Random(9)
    orders = [draw.choices(range(10), k=30) for _ in range(5)]
    ranks = [reader(near, 7 * SIZE, files, order, 0.002, rank) for rank, order in enumerate(orders)]
    for each in ranks[:2]:
        assert each.stdout is not None
        assert each.stdout.readline() == "begun\n"
        time.sleep(draw.random() * 0.05)
        each.kill()
        each.communicate()
    assert all(finished(each)["most"] <= 7 * SIZE for each in ranks[2:])
    names = {
        each.name for each in near.iterdir() if not each.name.startswith(("lock", "reader-"))
    }  # a killed one leaves its
    assert all(intact(near / name) for name in names if not name.endswith(".part"))


def test_a_process_killed_while_it_holds_the_lock_holds_up_nobody(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE])
    holder = "import sys, time; from pathlib import Path; from tundish.cluster.cache_folder import Folder\n"
    holder += "with Folder(Path(sys.argv[1])).locked(): print('held', flush=True); time.sleep(3600)"
    near = tmp_path / "near"
    with subprocess.Popen([sys.executable, "-c", holder, near], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
    with Cache(near, SIZE, files) as cache:
        cache.plan(planned(one_by_one([0])))
        assert intact(cache.path(0, 0))


def test_a_forked_child_is_refused_and_takes_nothing_with_it(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 2)
    with Cache(tmp_path / "near", SIZE, files) as cache:
        cache.plan(planned(one_by_one([0, 1])))
        cache.path(0, 0)
        child = os.fork()
        if not child:
            try:
                cache.path(1, 10)
            except ValueError as error:
                cache.close()
                os._exit(7 if "open one in each process" in str(error) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert intact(cache.path(1, 10))
        assert list((tmp_path / "near").glob("reader-*"))


def test_what_another_reader_uses_stays_and_the_want_is_named(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 2)
    near = tmp_path / "near"
    with Cache(near, SIZE, files) as first, Cache(near, SIZE, files, patience=0.1) as second:
        first.plan(planned(one_by_one([0, 1])))
        assert intact(path := first.path(0, 0))
        second.plan(planned(one_by_one([1, 0])))
        with pytest.raises(ValueError, match=r"a cache of 1,000 bytes is too small: .* use at once have 2,000 bytes"):
            second.path(1, 0)
        assert path.exists()
        first.close()  # its process might as well be gone
        assert intact(second.path(1, 1))
        assert not path.exists()


# what is refused


def test_a_damaged_file_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 3)
    body = bytearray((tmp_path / "far" / "1.arrow").read_bytes())
    body[500] ^= 1
    (tmp_path / "far" / "1.arrow").write_bytes(body)
    (tmp_path / "far" / "2.arrow").write_bytes(body[:-1])
    with Cache(tmp_path / "near", 10**6, files) as cache:
        cache.plan(planned(one_by_one([0, 1, 2])))
        assert intact(cache.path(0, 0))
        with pytest.raises(Damaged, match=r"1\.arrow does not match its digest in the manifest"):
            cache.path(1, 10)
        with pytest.raises(Damaged, match=r"2\.arrow has 999 bytes and the manifest says 1,000"):
            cache.path(2, 20)
        assert whole(tmp_path / "near") == {named(files[0])}
        assert not list((tmp_path / "near").glob("*.part"))
        (tmp_path / "far" / "2.arrow").write_bytes(random.Random(0).randbytes(SIZE))
        with pytest.raises(Damaged, match=r"2\.arrow does not match"):  # asked again, looked at again
            cache.path(2, 20)


def test_bytes_damaged_on_their_way_are_fetched_again(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE])
    met = []

    def trouble(file: str, at: int, body: bytes) -> bytes:
        met.append(at)
        return body[:-1] + b"\0" if len(met) == 1 and body[-1:] != b"\0" else body

    twin.plug(trouble)
    with Cache(tmp_path / "near", SIZE, files) as cache:
        cache.plan(planned(one_by_one([0])))
        assert intact(cache.path(0, 0))
        assert (cache.told.retries, cache.told.bytes) == (1, SIZE)


@pytest.mark.parametrize("longer", [0, 50])
def test_a_file_replaced_under_way_is_refused(longer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RANGE", 100)
    files = remote(tmp_path / "far", [SIZE])

    def trouble(file: str, at: int, body: bytes) -> bytes:
        if at == 500:
            (tmp_path / "far" / "new").write_bytes(random.Random(5).randbytes(SIZE + longer))
            os.replace(tmp_path / "far" / "new", tmp_path / "far" / file)
        return body

    twin.plug(trouble)
    with Cache(tmp_path / "near", SIZE, files, streams=1) as cache:
        cache.plan(planned(one_by_one([0])))
        with pytest.raises(Damaged, match="1,050 bytes" if longer else "does not match its digest"):
            cache.path(0, 0)
        assert not whole(tmp_path / "near")


def failing(error: Callable[[], Exception], times: int) -> tuple[list[int], twin.Trouble]:
    met: list[int] = []

    def trouble(file: str, at: int, body: bytes) -> bytes:
        met.append(at)
        if len(met) <= times:
            raise error()
        return body

    return met, trouble


@pytest.mark.parametrize("error", [ConnectionResetError, TimeoutError, lambda: OSError(5, "odd"), EOFError])
def test_what_may_pass_is_tried_again(error: Callable[[], Exception], tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE])
    met, trouble = failing(error, 2)
    twin.plug(trouble)
    with Cache(tmp_path / "near", SIZE, files) as cache:
        cache.plan(planned(one_by_one([0])))
        assert intact(cache.path(0, 0))
        assert cache.told.retries == 2
    assert len(met) == 3


def test_a_short_answer_is_tried_again(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE])
    met: list[int] = []

    def trouble(file: str, at: int, body: bytes) -> bytes:
        met.append(at)
        if len(met) == 1:
            os.truncate(tmp_path / "far" / file, SIZE)  # as it was
            return body[:100]
        return body

    twin.plug(trouble)
    with Cache(tmp_path / "near", SIZE, files) as cache:
        cache.plan(planned(one_by_one([0])))
        assert intact(cache.path(0, 0))
        assert cache.told.retries == 1


@pytest.mark.parametrize(
    ("error", "said", "tries"),
    [
        (lambda: PermissionError(13, "no"), r"cannot read the URI .*0\.arrow' \(Permission denied\)", 1),
        (lambda: ConnectionResetError(104, "cut"), r"cannot read the URI .*0\.arrow' \(Connection reset by peer\)", 4),
    ],
)
def test_what_does_not_pass_is_named(error: Callable[[], Exception], said: str, tries: int, tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE])
    met, trouble = failing(error, 1000)
    twin.plug(trouble)
    with Cache(tmp_path / "near", SIZE, files) as cache:
        cache.plan(planned(one_by_one([0])))
        with pytest.raises(ValueError, match=said):
            cache.path(0, 0)
        assert len(met) in (tries, 2 * tries)  # twice, if it failed once before it was asked for
        assert not whole(tmp_path / "near")


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE])
    (tmp_path / "far" / "0.arrow").unlink()
    with Cache(tmp_path / "near", SIZE, files) as cache:
        cache.plan(planned(one_by_one([0])))
        with pytest.raises(Damaged, match=r"0\.arrow is named in a manifest and is not there"):
            cache.path(0, 0)


def test_a_failure_ahead_stops_nobody_before_it_is_needed(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 3)
    (tmp_path / "far" / "1.arrow").rename(tmp_path / "far" / "hidden")
    with Cache(tmp_path / "near", 10**6, files) as cache:
        cache.plan(planned(one_by_one([0, 1, 2])))
        assert intact(cache.path(0, 0))
        cache.settle()
        assert whole(tmp_path / "near") == {named(files[0]), named(files[2])}
        (tmp_path / "far" / "hidden").rename(tmp_path / "far" / "1.arrow")
        assert intact(cache.path(1, 10))  # it is there again


def test_a_cache_too_small_says_how_much_it_needs(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE, 700, 400])
    with pytest.raises(ValueError, match=r"a cache of 999 bytes is too small: the largest file has 1,000 bytes"):
        Cache(tmp_path / "near", 999, files)
    uses = [Use(0, 1, 9), Use(5, 0, 14), Use(10, 2, 30), Use(14, 1, 20)]  # 0, 1 and 2 are in use at 14
    with Cache(tmp_path / "near", 2099, files) as cache:
        with pytest.raises(ValueError, match=r"a cache of 2,099 bytes is too small: .* one moment .* 2,100 bytes"):
            cache.plan(planned(uses))
        cache.plan(planned([use for use in uses if use.position < 14]))
    with Cache(tmp_path / "near", 2100, files) as cache:
        cache.plan(planned(uses))
        read_through(cache, uses, 31)


def test_a_full_disk_is_named_and_what_is_not_needed_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = remote(tmp_path / "far", [SIZE] * 4)
    near, limit = tmp_path / "near", 2 * SIZE

    def spare(folder: Path) -> int:
        return limit - sum(each.stat().st_size for each in folder.glob("*.arrow*"))

    monkeypatch.setattr(cache_folder, "spare", spare)
    with Cache(near, 10**6, files) as cache:
        cache.plan(
            planned([Use(0, 0, 9), Use(5, 1, 19), Use(20, 2, 29), Use(25, 3, 29), Use(30, 0, 39), Use(30, 1, 39)])
        )
        for file, position in ((0, 0), (1, 5), (1, 15), (2, 20), (3, 25)):
            assert intact(cache.path(file, position))
            cache.settle()
            assert len(whole(near)) <= 2
        limit = 0
        with pytest.raises(
            ValueError, match=r"no room for the 1,000 bytes of .*\.arrow under .*: 0 may be .* lower TUNDISH_MIN_FREE"
        ):
            cache.path(0, 30)
        limit = 2 * SIZE
        assert intact(cache.path(0, 30))


def test_the_floor_of_the_disk_is_that_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNDISH_MIN_FREE", "100%")
    files = remote(tmp_path / "far", [SIZE])
    with Cache(tmp_path / "near", SIZE, files) as cache:
        cache.plan(planned(one_by_one([0])))
        with pytest.raises(ValueError, match="there is no room for the 1,000 bytes"):
            cache.path(0, 0)


def test_plans_that_are_none_are_refused(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 2)
    with Cache(tmp_path / "near", 2 * SIZE, files) as cache:
        with pytest.raises(ValueError, match="before it has a plan"):
            cache.path(0, 0)
        with pytest.raises(ValueError, match="names file 2 at position 10 after position 0, of 2 files"):
            cache.plan(planned([Use(0, 0, 9), Use(10, 2, 19)]))
        with pytest.raises(ValueError, match="names file 1 at position 5 after position 10"):
            cache.plan(planned([Use(10, 0, 19), Use(5, 1, 9)]))
        cache.plan(planned(one_by_one([0, 1])))
        with pytest.raises(ValueError, match="no file 2 among 2"):
            cache.path(2, 0)
    with pytest.raises(ValueError, match="comes with size 5 and digest 'abc'"):
        Cache(tmp_path / "near", 10, [Entry("twin:///far/a.arrow", 5, "abc")])


# the rest


def test_local_files_are_given_as_they_lie(tmp_path: Path) -> None:
    files = [Entry(e.uri.removeprefix("twin://"), e.size, e.digest) for e in remote(tmp_path / "far", [SIZE] * 2)]
    with Cache(tmp_path / "near", 0, files) as cache:
        cache.plan(planned(one_by_one([0, 1])))
        assert cache.path(0, 0) == tmp_path / "far" / "0.arrow"
        assert not (tmp_path / "near").exists()
        (tmp_path / "far" / "1.arrow").write_bytes(bytes(SIZE))
        with pytest.raises(Damaged, match=r"1\.arrow does not match its digest"):
            cache.path(1, 10)
        (tmp_path / "far" / "1.arrow").unlink()
        with pytest.raises(Damaged, match=r"1\.arrow is named in a manifest and is not there"):
            cache.path(1, 10)


def test_local_and_far_files_lie_side_by_side(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 3)
    files[1] = files[1]._replace(uri=str(tmp_path / "far" / "1.arrow"))
    with Cache(tmp_path / "near", SIZE, files) as cache:
        cache.plan(planned(one_by_one([0, 1, 2])))
        assert [cache.path(n, n * 10).parent.name for n in range(3)] == ["near", "far", "near"]


def test_what_else_lies_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 3)
    near = tmp_path / "near"
    (near / "sub").mkdir(parents=True)
    for name in ("notes.txt", "part-00000.arrow", "mine.part"):
        (near / name).write_bytes(b"mine")
    with Cache(near, SIZE, files) as cache:
        cache.plan(planned(one_by_one([0, 1, 2])))
        assert all(intact(cache.path(n, n * 10)) for n in range(3))
    assert {e.name for e in near.iterdir()} >= {"notes.txt", "part-00000.arrow", "mine.part", "sub"}


def test_what_an_earlier_run_left_is_used_and_what_was_cut_is_not(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 2)
    near = tmp_path / "near"
    with Cache(near, 2 * SIZE, files) as cache:
        cache.plan(planned(one_by_one([0, 1])))
        assert intact(cache.path(1, 10))
        cache.settle()
    assert whole(near) == {named(files[1])} | {named(files[0])} or whole(near) == {named(files[1])}
    os.truncate(near / named(files[1]), 10)
    (near / f"{named(files[0])}.0123456789ab.part").write_bytes(b"of one that was killed")
    with Cache(near, 2 * SIZE, files) as cache:
        cache.plan(planned(one_by_one([1, 0])))
        assert intact(cache.path(1, 0))
        assert intact(cache.path(0, 10))
        assert cache.told.misses >= 1
    assert not list(near.glob("*.part"))


def test_a_mapped_file_outlives_its_removal(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 2)
    with Cache(tmp_path / "near", SIZE, files) as cache:
        cache.plan(planned(one_by_one([0, 1])))
        mapped = pa.memory_map(str(path := cache.path(0, 0)))
        assert intact(cache.path(1, 10))
        assert not path.exists()
        assert hashlib.sha256(mapped.read()).hexdigest() == files[0].digest


def test_several_threads_may_be_a_little_behind(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 20)
    order = random.Random(3).choices(range(20), k=99)
    with Cache(tmp_path / "near", 8 * SIZE, files) as cache, ThreadPoolExecutor(3) as pool:
        cache.plan(planned(one_by_one(order)), slack=25)
        for at in range(0, 99, 3):  # three threads, in any order, never more than two files apart
            three = [pool.submit(lambda n: intact(cache.path(order[n], n * 10)), n) for n in range(at, at + 3)]
            assert all(each.result(60) for each in three)
        assert cache.told.unplanned == 0


def test_going_back_is_beginning_again_there(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 6)
    uses = one_by_one([0, 1, 2, 3, 4, 5])
    with Cache(tmp_path / "near", 2 * SIZE, files, ahead=0) as cache:
        cache.plan(planned(uses), 30)
        assert intact(cache.path(3, 30))
        assert intact(cache.path(5, 50))
        assert intact(cache.path(0, 3))
        assert intact(cache.path(1, 10))
        assert cache.told.unplanned == 0
        assert intact(cache.path(4, 11))  # the plan does not say so
        assert intact(cache.path(1, 11))
        assert cache.told.unplanned == 1


def test_pairs_without_an_end_are_uses_of_one_position(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 3)
    rows = [random.Random(1).randrange(3) for _ in range(60)]
    with Cache(tmp_path / "near", 2 * SIZE, files) as cache:
        cache.plan(lambda position: ((at, rows[at]) for at in range(position, 60)))
        for at, file in enumerate(rows):
            assert intact(cache.path(file, at))
        assert cache.told.unplanned == 0


def test_a_slow_store_changes_nothing_but_the_time(tmp_path: Path) -> None:
    """What is read is the same; only how long it took is not."""
    files = remote(tmp_path / "far", [SIZE] * 10)
    uses = one_by_one(random.Random(2).choices(range(10), k=30))
    seen = []
    for pause in (0.0, 0.004):
        twin.plug(lambda file, at, body, pause=pause: (time.sleep(pause), body)[1])
        with Cache(tmp_path / f"near{pause}", 4 * SIZE, files) as cache:
            cache.plan(planned(uses))
            seen.append([cache.path(use.file, use.position).name for use in uses])
            assert cache.told.hits + cache.told.misses <= 30
    assert seen[0] == seen[1] == [named(files[use.file]) for use in uses]


def test_waiting_is_counted(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE])
    twin.plug(lambda file, at, body: (time.sleep(0.05), body)[1])
    with Cache(tmp_path / "near", SIZE, files) as cache:
        cache.plan(planned(one_by_one([0])))
        cache.path(0, 0)
        assert cache.told.waits == 1
        assert cache.told.stall_seconds > 0


def test_the_speed_of_a_store_is_measured_on_its_bytes(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [50_000])
    assert fetch.speed(files[0], 2, 20_000) > 0
    (tmp_path / "far" / "0.arrow").unlink()
    with pytest.raises((ValueError, FileNotFoundError)):
        fetch.speed(files[0])


def test_a_folder_that_goes_away_is_named(tmp_path: Path) -> None:
    files = remote(tmp_path / "far", [SIZE] * 2)
    near = tmp_path / "near"
    with Cache(near, SIZE, files) as cache:
        cache.plan(planned(one_by_one([0, 1])))
        assert intact(cache.path(0, 0))
        near.rename(tmp_path / "gone")
        with pytest.raises(ValueError, match=r"cannot keep files under .*near \(No such file or directory\)"):
            cache.path(1, 10)


def test_a_write_that_fails_is_named_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(out: int, body: memoryview, at: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = remote(tmp_path / "far", [SIZE])
    monkeypatch.setattr(fetch.os, "pwrite", full)
    with Cache(tmp_path / "near", SIZE, files) as cache:
        monkeypatch.setattr(cache.folder, "tell", lambda *_: None)
        cache.plan(planned(one_by_one([0])))
        with pytest.raises(ValueError, match=r"cannot write the URI .*near' \(No space left on device\)"):
            cache.path(0, 0)
        assert cache.told.retries == 0


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot write the URI .*file/near"):
        Cache(tmp_path / "file" / "near", SIZE, remote(tmp_path / "far", [SIZE]))
