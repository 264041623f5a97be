"""`python benchmarks/gpu.py`: pretraining on one GPU, from a bare checkout, beside Hugging Face's Trainer.

Needs torch, numpy and pyarrow (without numba, rows are made by numpy: `bare`); makes its own data: documents with the
lengths of web pages (tokens of a page are log-normal, median 530, sigma 1.05; longer than the context goes on in the
next segment) of tokens drawn by Zipf's law. Runs the plain training loop (`stages/pretrain_loop`), without Ray: rows
from mapped shards, masks made on the host, one step after the other as in any training. What is most important comes
first. Every result is written to --out/gpu.json when it is there. No run begins that could not end, one that takes too
long is broken off, and --seconds (480) after the start the process ends, whatever it does. Ends with 1 if something
failed or disagreed. Without a GPU it tries itself out on a tiny model.

    tokens/s      real tokens, padding not counted, over the clock on the wall, which waits for the device at both ends
    of 790        useful operations (operators/model/flops) over 790 TFLOP/s, what a large product reached on an H200
    mfu           the same over the peak in bf16 that the maker promises (989 TFLOP/s)
    waited        share of the time in which the loop waited for its batch
    recompiled    graphs that were compiled in timed steps (torch._dynamo's counter): of ours there may be none, and a
                  run with any has failed; of the peer, whose padded batches come in several widths, they are told
"""

import argparse
import contextlib
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path

START = time.monotonic()  # imports take their time as well
TOP = Path(__file__).resolve().parents[1]
if "tundish" not in sys.modules:  # a checkout that is not installed: its folders are the package
    package = types.ModuleType("tundish")
    package.__path__ = [str(TOP)]
    sys.modules["tundish"] = package
sys.path.insert(0, str(TOP / "benchmarks"))
SCRATCH = Path(tempfile.gettempdir()) / "tundish-gpu"
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(SCRATCH / "inductor"))

import bare  # noqa: E402

MISSING = bare.prepare()
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import torch  # noqa: E402
from gpu_checks import agreement  # noqa: E402
from gpu_peer import LEAST, WARM, theirs  # noqa: E402

from tundish.operators.model.presets import PRESETS  # noqa: E402
from tundish.stages.pretrain_loop import PretrainTask, pretrain  # noqa: E402
from tundish.stages.token_stream import TokenFiles  # noqa: E402

bare.install(MISSING)
IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
MEASURED = 790e12  # a bf16 product of 8192 x 8192 x 8192 on an H200
SPARE = 6.0  # seconds before the end at which what is left is broken off, so that all is told


class Enough(Exception):
    """The time that a training was given is over."""


class Late(BaseException):
    """A run did not end when it should have; no handler of errors on its way may take it for one."""


def lengths(count: int, seed: int) -> np.ndarray:
    """Tokens of web pages."""
    drawn = np.random.default_rng(seed).lognormal(np.log(530), 1.05, count)
    return np.clip(drawn, 8, 50_000).astype(np.int64)


def shard(tokens: int, vocabulary: int, seed: int = 1) -> str:
    """A token shard as Tokenize writes it; made once for all models of a vocabulary."""
    path = SCRATCH / f"tokens-{tokens}-{vocabulary}.arrow"
    if path.exists():
        return str(path)
    sizes = lengths(max(64, tokens // 800), seed)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    drawn = np.random.default_rng(seed).zipf(1.2, int(offsets[-1])) + 4
    kind = np.uint16 if vocabulary <= 1 << 16 else np.uint32
    flat = np.where(drawn < vocabulary, drawn, 5 + drawn % (vocabulary - 5)).astype(kind)
    column = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat))
    batch = pa.record_batch({"tokens": column})
    with pa.ipc.new_file(str(path) + ".part", batch.schema) as writer:
        writer.write_batch(batch)
    Path(str(path) + ".part").rename(path)
    return str(path)


def ours(name: str, seconds: float, until: float, cuda: bool, **said: object) -> dict:
    """A training of a preset: so many seconds of timed steps after the first ones, or what there is at `until`."""
    preset, folder = PRESETS[name], SCRATCH / "ours"
    shutil.rmtree(folder, ignore_errors=True)
    task = PretrainTask(
        sources=(TokenFiles("web", (shard(8_000_000 if cuda else 200_000, preset.vocabulary),)),),
        holdout=(),
        specials=IDS,
        vocabulary=preset.vocabulary,
        out=str(folder),
        model=name,
        tokens=10**12,
        checkpoint_every=10**9,
        **{**preset.recipe, "dtype": "bfloat16" if cuda else "float32", "warmup": 0.0, "decay": 0.0, **said},
    )
    start, lines, clock = time.perf_counter(), [], {}

    def tell(line: dict) -> None:
        lines.append(line)
        if len(lines) == WARM:
            clock["began"] = synchronised(cuda)
        timed = len(lines) - WARM
        if timed >= LEAST and (time.perf_counter() - clock["began"] > seconds or time.monotonic() > until):
            clock["ended"] = synchronised(cuda)
            raise Enough

    tell.every = 1  # type: ignore[attr-defined]  # the clock is looked at after every step
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(Enough):
        pretrain(task, 0, 1, tell)
    # the device is as many steps ahead of what is told at both ends, so it took as many steps between them
    passed, steady = clock["ended"] - clock["began"], lines[WARM:]
    found = {
        "tokens_per_second": (lines[-1]["tokens"] - lines[WARM - 1]["tokens"]) / passed,
        "tokens_per_second_median_step": float(np.median([line["tokens_per_second"] for line in steady])),
        "timed_seconds": passed,
    }
    useful = sum(line["tflops"] * line["seconds"] for line in steady) / passed
    found |= {"tflops": useful, "of_790": useful * 1e12 / MEASURED}
    if "mfu" in lines[-1]:
        found["mfu"] = sum(line["mfu"] * line["seconds"] for line in steady) / passed
    found["waited_share"] = sum(line["waited"] for line in steady) / passed
    found |= recompiled(steady)
    found |= {"steps": len(lines), "first_loss": lines[0]["loss"], "last_loss": lines[-1]["loss"]}
    found |= {"warm_seconds": clock["began"] - start, "rewound": sum("rewound" in line for line in lines)}
    if cuda:
        found["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def recompiled(lines: list[dict]) -> dict:
    """How often timed steps compiled something, and in which; that is a failure, whatever the speed."""
    steps = [line["step"] for line in lines if line.get("compiled")]
    found: dict = {"recompiled": sum(line.get("compiled", 0) for line in lines)}
    if steps:
        found["failed"] = f"{found['recompiled']} graphs were compiled anew in timed steps, the first in {steps[0]}"
    return found


def synchronised(cuda: bool) -> float:
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


class Results:
    """What is known so far, on disk after every result; and the end of the process, which nothing can put off."""

    def __init__(self, out: Path, seconds: float, device: str) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.path, self.end = out / "gpu.json", START + seconds
        self.told: dict = {"device": device, "torch": torch.__version__, "missing": list(MISSING), "results": {}}
        self.lock, self.running = threading.RLock(), ""
        self.seal()
        watch = threading.Timer(max(0.1, self.left()), self.over)
        watch.daemon = True
        watch.start()

    def left(self) -> float:
        return self.end - SPARE - time.monotonic()

    def add(self, name: str, found: dict) -> None:
        with self.lock:
            self.told["results"][name] = found
            self.running = ""  # not before: the clock's thread would know nothing of it
            ratio(self.told)
            self.seal()

    def seal(self) -> None:
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.told, indent=1))
        part.replace(self.path)

    def over(self) -> None:
        """From the thread of the clock: tell what there is and leave, whatever the others do."""
        with self.lock:
            if self.running:
                self.add(self.running, {"failed": "broken off at the end of the time"})
            self.leave()

    def leave(self) -> None:
        """With 1 where something failed; threads of loaders and compilers are not waited for."""
        with self.lock:  # the clock's thread may not speak as well
            print(json.dumps(self.told), flush=True)
            bad = [name for name, found in self.told["results"].items() if "failed" in found]
            sys.stderr.write(f"failed: {', '.join(bad)}\n" if bad else "")
            sys.stderr.flush()
            os._exit(bool(bad))


def alarmed(number: int, frame: object) -> None:
    raise Late


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", default=os.environ.get("OUT", "gpu-results"))
    options.add_argument("--seconds", type=float, default=480)
    options.add_argument("--each", type=float, default=30, help="seconds a training is timed for")
    options.add_argument("--only", default="", help="comma-separated names of what to run")
    said = options.parse_args()
    cuda = torch.cuda.is_available()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    device = torch.cuda.get_device_name() if cuda else "CPU: a trial of the script, its figures say nothing"
    results = Results(Path(said.out), said.seconds, device)
    signal.signal(signal.SIGALRM, alarmed)
    if cuda:
        long = {"row": 16_384, "length": 1024, "batch": 32, "at_once": 4}
        mid, square = {**long, "length": 512}, {"row": 512, "length": 512, "batch": 256, "at_once": 32}
    else:
        long = mid = square = {"row": 256, "length": 128, "batch": 4, "at_once": 2, "compiled": False}
    even: dict = {"shape": {"dropout": 0.0}}
    rows, half = (64 if cuda else 2), said.each / 2

    def mine(name: str, seconds: float, **more: object) -> Callable[[float], dict]:
        return lambda until: ours(name if cuda else "tiny", seconds, until, cuda, **more)

    def other(name: str, rows: int, length: int, *, padded: bool) -> Callable[[float], dict]:
        given = {"length": length, "rows": rows, "padded": padded, "pages": lengths(20_000 if cuda else 400, 3)}
        return lambda until: theirs(name if cuda else "tiny", said.each, until, cuda, **given)

    # seconds a run needs at least, compiling among them, and at most; a run that has not begun to be timed by then ends
    plan: list[tuple[str, float, float, Callable[[float], dict]]] = [
        ("agreement", 5, 40, lambda until: agreement(cuda)),
        ("modern-base 1024", 45, 140, mine("modern-base", said.each, **long)),
        ("HF modern-base 1024 padded", 45, 120, other("modern-base", rows, long["length"], padded=True)),
        ("bert 512", 35, 100, mine("bert", said.each, **mid, **even)),
        ("HF bert 512 padded", 35, 90, other("bert", 2 * rows, mid["length"], padded=True)),
        ("modern-small 1024", 35, 70, mine("modern-small", half, **long)),
        ("HF modern-base 1024 joined", 45, 100, other("modern-base", rows, long["length"], padded=False)),
        ("deberta-v3 512", 50, 90, mine("deberta-v3", half, **square, **even)),
        ("modern-large 1024", 60, 120, mine("modern-large", half, **{**long, "at_once": 2})),
    ]
    for name, least, most, run in plan:
        if said.only and name not in said.only.split(","):
            continue
        if results.left() < (least if cuda else 3):
            results.add(name, {"left out": f"{results.left():.0f} seconds were left and it needs {least}"})
            continue
        found = attempt(results, name, min(most, results.left()), run)
        results.add(name, found)
        gc.collect()  # a Trainer lies in circles; what it holds would be missing to the next
        torch._dynamo.reset()
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        speed = f"{found['tokens_per_second']:>12,.0f} tokens/s" if "tokens_per_second" in found else json.dumps(found)
        speed += f"   FAILED: {found['failed']}" if "failed" in found and "tokens_per_second" in found else ""
        mfu = f"   {found['of_790']:.1%} of 790 TFLOP/s" if "of_790" in found else ""
        print(f"{name:32} {speed}{mfu}   at {time.monotonic() - START:.0f} s", flush=True)
    results.leave()


def attempt(results: Results, name: str, seconds: float, run: Callable[[float], dict]) -> dict:
    """What a run found within its time, or why it did not."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    results.running = name
    try:
        return run(time.monotonic() + 0.9 * seconds)
    except ImportError as error:
        return {"left out": f"{type(error).__name__}: {error}"}
    except Late:
        return {"failed": f"broken off after {seconds:.0f} seconds"}
    except Exception as error:  # one that fails must not cost the others
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def ratio(told: dict) -> None:
    """Ours over theirs, where both are there."""
    found = told["results"]
    for mine, other in (
        ("modern-base 1024", "HF modern-base 1024 padded"),
        ("modern-base 1024", "HF modern-base 1024 joined"),
        ("bert 512", "HF bert 512 padded"),
    ):
        both = [found.get(name, {}).get("tokens_per_second") for name in (mine, other)]
        if all(both) and not any("failed" in found[name] for name in (mine, other)):
            told[f"ratio {mine} / {other}"] = round(both[0] / both[1], 2)


if __name__ == "__main__":
    main()
