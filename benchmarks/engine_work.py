"""The work of one shard, for benchmarks/engine: by the project's own map, and by a bare pool of processes beside it.

Promises: both read the same Parquet file, hand the same batches to the same function and write files of the same bytes,
whose SHA-256 both tell. The bare one does nothing else; `promised`, it also does what the project promises of a shard:
the input's digest first, an attempt's name, fsync of file and folder. Processes are started and warm before any time.
What only some of them need is imported where it is needed: each of many processes would pay for it.
"""

import functools
import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tundish.cluster.shards import Dataset, Shard
from tundish.cluster.target import ROW_GROUP, Target
from tundish.cluster.verbs import BATCH, At

Rows = Callable[[pa.Table], pa.Table]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def judged(rows: pa.Table) -> pa.Table:
    """With the reason FineWeb's chain drops a text for: work of a core, some 60 MB of text a second."""
    from tundish.operators.text import chain

    reasons = chain.fineweb(rows["text"].combine_chunks(), meter=_meter())
    return rows.append_column("reason", reasons.cast(pa.string()))


def sifted(rows: pa.Table) -> pa.Table:
    """Those of at least 200 bytes: next to no work, so that what remains is the carrying."""
    return rows.filter(pc.greater_equal(pc.binary_length(rows["text"]), 200))


@functools.cache
def _meter():  # type: ignore[no-untyped-def]
    from tundish.operators.text.signals import meter_of

    return meter_of("unicode")


@dataclass(frozen=True)
class Carried:
    """The function as a map takes it."""

    fn: Rows

    def __call__(self, rows: pa.Table, at: At) -> pa.Table:
        return self.fn(rows)


def shards(folder: Path, count: int, size: int, data: Path = DATA) -> Dataset:
    """So many shards of `size` bytes of text each: chapters of novels, in another order in every shard."""
    from corpora import corpus

    texts = corpus("prose", data)["text"].combine_chunks()
    target, made = Target(str(folder / "read-0123456789"), "engine"), []
    for number in range(count):
        made.append(_shard(target, f"part-{number:05d}", texts, size, number))
    return target.seal(made)


def _shard(target: Target, name: str, texts: pa.Array, size: int, seed: int) -> Shard:
    order = np.random.default_rng(seed).permutation(np.tile(np.arange(len(texts)), 1 + size // max(1, texts.nbytes)))
    lengths = pc.binary_length(texts).to_numpy()[order]
    kept = order[: int(np.searchsorted(np.cumsum(lengths), size)) + 1]
    ids = [hashlib.blake2b(f"{seed} {place}".encode(), digest_size=16).digest() for place in range(len(kept))]
    writer = target.writer(name)
    for start in range(0, len(kept), BATCH):
        part = slice(start, start + BATCH)
        text = texts.take(pa.array(kept[part]))
        writer.write(pa.table({"id": pa.array(ids[part], pa.binary(16)), "text": text}))
    return writer.finish({}, {})


def bare(source: str, out: str, fn: Rows, digest: str | None = None) -> str:
    """A shard read, worked on and written, without the project; SHA-256 of what it wrote. With the `digest` of the
    source: also what is promised of a shard."""
    if digest and _digest(source) != digest:
        raise ValueError(f"{source} is not what was written; run again")
    table = pq.read_table(source)
    attempt = f"{out}.attempt" if digest else out
    with open(attempt, "wb") as stream:
        sink = None
        for start in range(0, max(1, len(table)), BATCH):
            rows = fn(table.slice(start, BATCH))
            sink = sink or pq.ParquetWriter(
                stream, rows.schema, compression="zstd", compression_level=1, use_dictionary=False
            )
            sink.write_table(rows, row_group_size=ROW_GROUP)
        assert sink is not None
        sink.close()
        stream.flush()
        if digest:
            os.fsync(stream.fileno())
    if digest:
        _named(attempt, out)
    return _digest(out)


def _named(attempt: str, out: str) -> None:
    os.replace(attempt, out)
    folder = os.open(os.path.dirname(out), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _digest(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def warm(number: int) -> int:
    """One of the calls that bring every process of a pool to work; says which process it was."""
    judged(pa.table({"text": pa.array(["A text to begin with."], pa.large_string())}))
    time.sleep(0.3)  # so that each process gets one
    return os.getpid()


@dataclass
class Pool:
    """Bare processes, started and warm; for one worker this one, as the project's own does it."""

    workers: int
    held: ProcessPoolExecutor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.workers > 1:
            self.held = ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context("spawn"))
            list(self.held.map(warm, range(4 * self.workers)))

    def run(self, source: Dataset, out: Path, fn: Rows, promised: bool) -> list[str]:
        """Digests of what was written, in the order of the shards."""
        out.mkdir(parents=True)
        asked = [(source.at(one), str(out / one.file), fn, one.digest if promised else None) for one in source.shards]
        if self.held is None:
            return [bare(*each) for each in asked]
        return [told.result() for told in [self.held.submit(bare, *each) for each in asked]]


def busy(seconds: float) -> None:
    """So many CPU-seconds of nothing."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def room() -> float:
    """How many times as much two processes get done as one, here and now: 2 on a machine that is free."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(busy, [0.1] * 4, 1)
        begun = time.perf_counter()
        pool.map(busy, [1.0], 1)
        alone = time.perf_counter() - begun
        pool.map(busy, [1.0, 1.0], 1)
        return 2 * alone / (time.perf_counter() - begun - alone)


def cpu_seconds() -> float:
    """CPU-seconds of this process and of every process it started that still runs (Linux; elsewhere its own)."""
    ticks = os.sysconf("SC_CLK_TCK")
    spent = time.process_time()
    for child in multiprocessing.active_children():
        try:
            fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        spent += (int(fields[11]) + int(fields[12])) / ticks
    return spent
