"""Faults put into real runs of the command line, on a Ray of several nodes: what tests/test_chaos_*.py have in common.

A run is a driver of its own (`tundish run RECIPE --on ADDRESS`). A fault comes at a moment that is seen on disk (so
many shards of a stage are committed, so many steps are logged), never after so many seconds. What is killed is killed
by number: nothing here calls `ray stop`, which ends every Ray of the machine. All needs /proc (Linux).
"""

import contextlib
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.toys import prose
from tundish.cluster.shards import opened

TOP = Path(__file__).resolve().parents[1]
LIMIT = 420.0  # seconds for anything to happen: a run that takes longer hangs
FILES, ROWS = 9, 120
PAIR, UP_TO_TOKENS = ("--trainers", "2"), ("--until", "Tokenize")
ENV = {
    "RAY_AUTH_MODE": "disabled",
    "OMP_NUM_THREADS": "1",
    "TUNDISH_TORCH_THREADS": "1",  # the order of sums depends on it, and weights are compared to the last bit
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "40",  # for workers that have no place any more
}
PARTS = ("data", "training")
DATA = ("read", "identify", "judge", "mask", "sign", "refine", "deduplicate", "corpus", "tokenize")
INSIDE = ("read/dropped", "corpus/dropped", "deduplicate/quarantine", "tokenize/holdout", "tokenize/sample")
RECIPE = """
documents: {{Read: {{files: [{files}/*.jsonl]}}}}
language: {{Identify: {{documents: documents}}}}
quality: {{Judge: {{documents: documents, language: language}}}}
masked: {{Mask: {{documents: documents}}}}
kept: {{Refine: {{documents: documents, language: language, quality: quality}}}}
signatures: {{Sign: {{documents: documents}}}}
twins: {{Deduplicate: {{documents: documents, signatures: signatures, among: kept, quality: quality}}}}
corpus:
  Corpus: {{documents: documents, kept: kept, twins: twins, edits: masked, language: language, quality: quality}}
tokens: {{Tokenize: {{corpus: corpus, vocabulary: 300, holdout: 0.05}}}}
encoder:
  Pretrain: {{shards: tokens, model: tiny, shape: {{layers: 2, width: 32, heads: 2, ff: 48}}, tokens: 120k, length: 32,
    batch: 8, precision: float64, checkpoint_every: 40}}
"""


def recipe(folder: Path) -> str:
    """Nine files of prose, with near copies and texts too short among them, and the recipe that reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(FILES):
        rows = [{"url": f"http://{number}.example/{row}", "text": text(number * ROWS + row)} for row in range(ROWS)]
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(files=folder))
    return str(path)


def text(number: int) -> str:
    if number % 17 == 5:
        return "Too short to be of use."
    if number % 10 == 3:
        return prose(number * 7 % (FILES * ROWS), 30) + "\nAnd one more line of its own."
    return prose(number, 30)


def digests(root: Path) -> dict[str, str]:
    """Of every sealed dataset of rows, by the stage's name; what training leaves has the times of its steps in it."""
    found = {}
    for folder in sorted(root.glob("*-*/")):
        name = folder.name.rsplit("-", 1)[0]
        for inner in ("", *(f"/{each.partition('/')[2]}" for each in INSIDE)):
            dataset = opened(f"{folder}{inner}")
            if dataset is not None and dataset.about.get("kind") != "files":
                found[name + inner] = dataset.digest
    return found


def trained(root: Path) -> dict[str, Any]:
    """What a training must leave equal: its ledger, its losses, its weights."""
    [folder] = root.glob("pretrain-*/")
    assert opened(str(folder)) is not None
    logged = [json.loads(line) for line in (folder / "log.jsonl").read_text().split("\n") if line]
    return {
        "ledger": (folder / "ledger.jsonl").read_text(),
        "losses": [(line["step"], line["loss"]) for line in logged],
        "weights": (folder / "model.safetensors").read_bytes(),
    }


def command(path: str, root: Path, on: str, *more: str) -> list[str]:
    words = ["run", path, "--on", on, "--root", str(root), "--json", *more]
    return [sys.executable, "-m", "tundish.pipeline.cli", *words]


@functools.cache
def whole(base: Path) -> tuple[str, Path]:
    """The recipe, and the root of a run that nobody disturbed, with two trainers; made once for a folder."""
    path = recipe(base / "texts")
    undisturbed(path, base / "whole", *PAIR)
    return path, base / "whole"


def same(root: Path, expected: Path, *, trained_too: bool = True) -> None:
    """A root holds what an undisturbed one does, and nothing that a killed writer left."""
    digests_expected = digests(expected)
    assert set(digests_expected) == {*DATA, *INSIDE}
    assert digests(root) == digests_expected
    assert not trained_too or trained(root) == trained(expected)
    assert not list(root.glob("**/*.attempt"))


def begun(whole: tuple[str, Path], root: Path, part: str, on: str) -> list[str]:
    """The command of a part; for the training the root holds all that comes before it."""
    path, expected = whole
    if part == "training" and not root.exists():
        shutil.copytree(expected, root, ignore=shutil.ignore_patterns("pretrain-*", "runs", "lease*"))
    return command(path, root, on, *PAIR, *(UP_TO_TOKENS if part == "data" else ()))


def undisturbed(path: str, root: Path, *more: str) -> None:
    """The oracle: on this machine, without Ray, and nobody in its way."""
    told = subprocess.run(
        command(path, root, "local", *more), cwd=TOP, env={**os.environ, **ENV}, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr


@dataclass
class Driver:
    """A run under way. `said`: what it wrote to its standard error."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()[-3000:]

    def until(self, moment: Callable[[], Any]) -> Any:
        """Wait for a moment of the run; gives what it is true of. Fails where the run is over before it."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            if found := moment():
                return found
            assert self.process.poll() is None, f"the run was over ({self.process.returncode}): {self.said}"
            time.sleep(0.005)
        raise AssertionError(f"the moment never came: {self.said}")

    def ended(self, within: float = LIMIT) -> int:
        """The exit code. Fails where it does not end."""
        return self.process.wait(within)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        assert self.ended() == -signal.SIGKILL


@contextlib.contextmanager
def driving(words: Sequence[str], folder: Path, **env: str) -> Iterator[Driver]:
    """A driver that has ended after the block, whatever becomes of the test."""
    log = folder / f"driver-{time.monotonic_ns()}.log"
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            words, cwd=TOP, env={**os.environ, **ENV, **env}, stdout=subprocess.DEVNULL, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield Driver(process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what it began on this machine
        process.wait()


def committed(root: Path, stage: str, shards: int = 1) -> Callable[[], bool]:
    """The moment at which so many shards of a stage are committed, whatever step of it they belong to."""

    def moment() -> bool:
        with contextlib.suppress(FileNotFoundError):  # a folder that went while it was looked through
            return len(list(root.glob(f"{stage}-*/**/commits/**/*.json"))) >= shards
        return False

    return moment


def logged(root: Path, steps: int) -> Callable[[], bool]:
    """The moment at which so many steps of a training are logged."""

    def moment() -> bool:
        logs = list(root.glob("pretrain-*/log.jsonl"))
        return bool(logs) and logs[0].read_bytes().count(b"\n") >= steps

    return moment


@dataclass
class Node:
    """A node by the numbers of its processes."""

    address: str
    raylet: int
    others: list[int]
    disk: str
    killed: bool = False

    def workers(self) -> dict[int, str]:
        """Its workers by number, and what each is at; "IDLE" where at nothing."""
        found = {}
        for number, title in children(self.raylet).items():
            if title.startswith("ray::") and not title.endswith("Agent"):
                found[number] = title.removeprefix("ray::")
        return found

    def busy(self, at: str = "") -> list[int]:
        """Workers that are at something of this name."""
        return [number for number, title in self.workers().items() if not title.startswith("IDLE") and at in title]

    def kill(self) -> None:
        """The raylet and what stands beside it, with SIGKILL; its workers see that it is gone."""
        self.killed = True
        for number in (self.raylet, *self.others):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def children(parent: int) -> dict[int, str]:
    """The children of a process: number -> title."""
    found = {}
    for path in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for number in path.read_text().split():
                with contextlib.suppress(OSError):  # it is gone by now
                    title = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")[0].decode().strip()
                    found |= {int(number): title} if title else {}  # none: it is dead, and nobody has asked how it died
    return found


@dataclass
class Nodes:
    """A Ray of several nodes; the first one is its head."""

    process: subprocess.Popen[str]
    nodes: list[Node] = field(default_factory=list)

    def more(self, cpus: int = 1) -> Node:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{'node' if self.nodes else 'head'} {cpus}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "Ray did not start"
        self.nodes.append(Node(**json.loads(line)))
        return self.nodes[-1]

    @property
    def address(self) -> str:
        return self.nodes[0].address

    def workers(self) -> list[int]:
        return [number for node in self.nodes for number in node.workers()]

    def busy(self, at: str = "") -> list[int]:
        return [number for node in self.nodes for number in node.busy(at)]


@contextlib.contextmanager
def nodes(*cpus: int, **env: str) -> Iterator[Nodes]:
    """A head and nodes with so many CPUs each. The folder's path is short: Ray puts sockets there, and their names may
    be 107 bytes long."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        told = {**os.environ, **ENV, "RAY_TMPDIR": folder, **env}
        words = [sys.executable, "-m", "tests.chaos_nodes", folder]
        process = subprocess.Popen(
            words, cwd=TOP, env=told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        made = Nodes(process)
        try:
            for each in cpus:
                made.more(each)
            yield made
        finally:
            for number in made.workers():  # those that were stopped do not hear that they are to end
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            try:
                process.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()  # Ray's reapers end the rest
                process.wait()


def drawn(seed: int, stages: Sequence[str], count: int) -> list[str]:
    """So many of the stages, in their order."""
    return sorted(random.Random(seed).sample(list(stages), count), key=list(stages).index)
