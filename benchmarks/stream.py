"""The stream that feeds a trainer, against MosaicML Streaming and Hugging Face datasets: ready batches a CPU-second.

Side by side in one run, each loader in a process of its own on one core, over the same tokens: documents as long as
real ones (the extracted pages of the labelled web data where it lies beside, else a log-normal of the same median and
spread, and the table says which), 32,768 ids, cut into rows of 1,024 places. A batch is 256 rows, shuffled, with 30 %
of their tokens hidden for masked-LM (80/10/10). Ours reads the token shards that Tokenize writes (documents, no rows),
packs while it reads and keeps documents apart; the others are given the rows already packed, each in its own format,
so that they have less to do, and hide by the same few lines of torch (as transformers' collator does). All read
shuffled and in the same process (no workers: it is one core that is measured): MosaicML and datasets through torch's
DataLoader, as their documents say; datasets once more by `Dataset.iter`, whole batches of rows of one length, which is
its fastest way and needs rows packed before (`datasets_whole`), and as transformers' example `run_mlm` does, with its
collator (`datasets_run_mlm`); each once more without hiding, for what reading alone
costs (`_reading`; ours always hides). A ratio is the median of ours over the median of theirs, of three turns.

Then, ours alone: rows of 16,384 places; padding on the real lengths; a corpus of 10^6 rows against one of 10^9 (4,000
shards that are one file under 4,000 names): memory of the process beyond the mapped files, and seconds from the
opening of the plan to the first batch at position 10^9.

    make bench NAME=stream                about four minutes
    make bench NAME=stream ARGS=--quick   a quarter of the tokens, one turn

Prints a table and last one line of JSON: tokens_per_second, ratio_mosaic, ratio_datasets, padding_share,
resume_seconds, and the rest. A loader that is not installed is null and named in `left_out`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from stream_peers import BATCH, RATE, ROW, SPECIALS, VOCABULARY, Batches, datasets, mosaic, run_mlm, streamed

from tundish.operators.model.plan import Plan, Stretch, weights_of
from tundish.operators.model.rows import Layout, counted
from tundish.operators.model.stream import Hiding, Stream
from tundish.stages.token_stream import Opened, TokenFiles, mapped

SHARDS, TOKENS = 8, 64_000_000
SECONDS = 12.0  # of a turn
LETTERS = 4.4  # bytes a token of English web text at this size of vocabulary
MEDIAN, SPREAD = 6.2, 1.1  # of the log-normal: exp(6.2) = 490 tokens, as the labelled pages have


def lengths(count: int) -> tuple[np.ndarray, str]:
    """Tokens of documents that come to `count`, and where their lengths are from."""
    source = np.random.default_rng(1)
    try:
        from corpora import corpus

        sizes = np.array([len(text.encode()) for text in corpus("web")["text"].to_pylist()])
        told = f"drawn from {len(sizes):,} extracted web pages"
        drawn = source.choice(np.maximum(1, (sizes / LETTERS).astype(np.int64)), count // 200)
    except ValueError:
        told = "drawn from a log-normal"
        drawn = np.maximum(1, source.lognormal(MEDIAN, SPREAD, count // 200)).astype(np.int64)
    return drawn[: int(np.searchsorted(np.cumsum(drawn), count)) + 1], told


def shard(path: Path, tokens: np.ndarray, offsets: np.ndarray) -> str:
    """A token shard as Tokenize writes them, without the columns no trainer reads."""
    column = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(tokens))
    batch = pa.record_batch({"tokens": column})
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    return str(path)


def written(folder: Path, tokens: int) -> tuple[list[str], str]:
    drawn, told = lengths(tokens)
    source, found = np.random.default_rng(2), []
    for number, part in enumerate(np.array_split(drawn, SHARDS)):
        offsets = np.concatenate([[0], np.cumsum(part)]).astype(np.int64)
        ids = source.integers(5, VOCABULARY, int(offsets[-1]), dtype=np.uint16)
        found.append(shard(folder / f"part-{number:05d}.arrow", ids, offsets))
    return found, told


def ours(folder: Path, row: int = ROW, batch: int = BATCH) -> Batches:
    stream = streamed(sorted(map(str, folder.glob("part-*.arrow"))), row, batch)
    for _, made in stream.batches(range(1 << 30)):
        yield int(made.sizes.sum())


def turn(folder: Path, name: str, seconds: float) -> dict[str, float]:
    """Tokens a CPU-second of one loader, after its first batches."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    batches = {
        "ours": lambda: ours(folder),
        "ours_16k": lambda: ours(folder, 16 * ROW, BATCH // 16),
        "mosaic": lambda: mosaic(folder),
        "datasets_run_mlm": lambda: run_mlm(folder),
        "mosaic_reading": lambda: mosaic(folder, hide=False),
        "datasets": lambda: datasets(folder),
        "datasets_reading": lambda: datasets(folder, hide=False),
        "datasets_fixed": lambda: datasets(folder, fixed=True),
        "datasets_fixed_reading": lambda: datasets(folder, hide=False, fixed=True),
        "datasets_whole": lambda: datasets(folder, whole=True, fixed=True),
        "datasets_whole_reading": lambda: datasets(folder, hide=False, whole=True, fixed=True),
    }[name]()
    for _ in range(4):
        next(batches)
    began, start, tokens, count = time.monotonic(), time.process_time(), 0, 0
    while time.monotonic() - began < seconds:
        tokens += next(batches)
        count += 1
    return {"tokens_per_second": tokens / (time.process_time() - start), "batches": count}


def apart(folder: Path, *arguments: str) -> dict[str, Any]:
    """This script in a process of its own; what it prints last."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, __file__, "--folder", str(folder), *arguments], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"{arguments} died")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def large(folder: Path, rows: int) -> dict[str, float]:
    """A corpus of so many rows: the seconds to the first batch from its last position, and memory after 200 more."""
    layout, one = Layout(128, 128), str(folder / "large.arrow")
    if not Path(one).exists():
        count = 250_000
        offsets = np.arange(count + 1, dtype=np.int64) * 126
        shard(Path(one), np.random.default_rng(3).integers(5, VOCABULARY, int(offsets[-1]), dtype=np.uint16), offsets)
        starts, _ = counted(mapped(one)[1], layout)
        index = pa.record_batch({"start": starts})
        with pa.ipc.new_file(str(folder / "large-rows.arrow"), index.schema) as writer:
            writer.write_batch(index)
    each = 250_000
    shards = max(1, rows // each)
    began = time.perf_counter()
    files = TokenFiles(
        "web", (one,) * shards, "bench", (str(folder / "large-rows.arrow"),) * shards, (each,) * shards, 1
    )
    plan = Plan(1, (files.source,), (Stretch(0, weights_of([files.source])),), ((0, BATCH),))
    stream = Stream(plan, layout, Hiding(VOCABULARY, SPECIALS, 1, RATE), Opened([files], layout))
    first = rows // BATCH - 1
    next(stream.batches([first]))
    seconds = time.perf_counter() - began
    for _ in stream.batches(range(first, first + 200)):
        pass
    return {
        "seconds": seconds,
        "private_mb": private() / 1e6,
        "index": (folder / "large-rows.arrow").stat().st_size / each,
    }


def private() -> int:
    """Bytes of this process that are no mapped file's."""
    with open("/proc/self/smaps_rollup") as lines:
        fields = dict(line.split(":", 1) for line in lines if ":" in line and "-" not in line.split(":")[0])
    return int(fields["Anonymous"].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="The stream against other loaders.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help=argparse.SUPPRESS)
    parser.add_argument("--large", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.turn:
        print(json.dumps(turn(given.folder, given.turn, given.seconds)))
    elif given.large:
        print(json.dumps(large(given.folder, given.large)))
    else:
        race(given.quick)


def race(quick: bool) -> None:
    names = ["ours", "ours_16k", "mosaic", "mosaic_reading", "datasets", "datasets_reading"]
    names += ["datasets_whole", "datasets_whole_reading", "datasets_run_mlm"]
    found: dict[str, list[float]] = {name: [] for name in names}
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shards, told = written(folder, TOKENS // 4 if quick else TOKENS)
        for _ in range(1 if quick else 3):
            for name in names:
                if name in left_out:
                    continue
                try:
                    found[name].append(
                        apart(folder, "--turn", name, "--seconds", str(SECONDS / (4 if quick else 1)))[
                            "tokens_per_second"
                        ]
                    )
                except RuntimeError as error:
                    left_out[name] = str(error)
        paddings = {row: padding(shards, row) for row in (ROW, 16 * ROW)}
        sizes = {rows: apart(folder, "--large", str(rows)) for rows in (10**6, 10**9)}
    rates = {name: median(each) if each else None for name, each in found.items()}

    print(f"documents: lengths {told}; rows of {ROW}, {BATCH} a batch, {RATE:.0%} hidden")
    for name, rate in rates.items():
        said = f"{rate / 1e6:8.2f} M tokens a CPU-second" if rate else f"left out: {left_out[name]}"
        print(f"{name:>24} {said}")
    for row, share in paddings.items():
        print(f"padding in rows of {row:>6}: {share:.3%}")
    for rows, one in sizes.items():
        told = f"first batch at the last position after {one['seconds']:.3f} s"
        print(f"{rows:>13,} rows: {told}, {one['private_mb']:.0f} MB of its own")

    def ratio(name: str) -> float | None:
        return round(rates["ours"] / rates[name], 1) if rates["ours"] and rates[name] else None

    line = {
        "tokens_per_second": round(rates["ours"] or 0),
        "tokens_per_second_16k": round(rates["ours_16k"] or 0),
        "ratio_mosaic": ratio("mosaic"),
        "ratio_datasets": ratio("datasets"),
        "ratio_mosaic_reading": ratio("mosaic_reading"),
        "ratio_datasets_reading": ratio("datasets_reading"),
        "ratio_datasets_run_mlm": ratio("datasets_run_mlm"),
        "ratio_datasets_whole": ratio("datasets_whole"),
        "ratio_datasets_whole_reading": ratio("datasets_whole_reading"),
        "padding_share": round(paddings[ROW], 5),
        "padding_share_16k": round(paddings[16 * ROW], 5),
        "resume_seconds": round(sizes[10**9]["seconds"], 4),
        "private_mb_million": round(sizes[10**6]["private_mb"]),
        "private_mb_billion": round(sizes[10**9]["private_mb"]),
        "index_bytes_a_row": round(sizes[10**9]["index"], 2),
        "left_out": left_out,
    }
    print(json.dumps(line))


def padding(shards: list[str], row: int) -> float:
    """Share of the places of an epoch that hold nothing."""
    layout = Layout(row, ROW)
    files = TokenFiles("web", tuple(shards), "bench").counted(layout)
    return 1 - files.places / (sum(files.rows) * row)


if __name__ == "__main__":
    main()
