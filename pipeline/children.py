"""Work in a process beside this one, that ends when this one does: a crawl, a training.

Promises: what the child prints, and why it ended, stands in its log, which is sent whole where that lies in a
store: when its parent asks for it, and when the child has ended; Ctrl-C in a terminal reaches the parent alone,
which then stops its children as Ctrl-C would; a parent that is killed takes them with it. Costs a Python start. Refuses
nothing: what goes wrong in a child is said by `sentence`.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from tundish.cluster import store
from tundish.cluster.credentials import redacted
from tundish.pipeline.lease import Lease, alive

GRACE = 60.0  # seconds to end in, once told to
FREE = 30.0  # seconds in which a child whose parent was killed lets go of its lease


class Child:
    """`work(*given)` in a process of its own; what it prints is appended to `log`, a path or another URI."""

    def __init__(self, name: str, log: str, work: Callable[..., None], *given: Any) -> None:
        self.name, self.log, self.sent = name, log, -1
        if (path := store.local(log)) is None:
            self.folder = tempfile.TemporaryDirectory(prefix="tundish-")  # lives as long as this
            path = Path(self.folder.name) / "log"
            path.write_bytes(store.read(log) if store.exists(log) else b"")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written = path
        self.process = multiprocessing.get_context("spawn").Process(
            target=_lived, args=(str(path), work, given), name=f"tundish {name}"
        )
        self.process.start()

    def ended(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, after so many seconds at most."""
        self.process.join(max(0.0, seconds))
        if self.process.exitcode is None:
            return False
        self.keep()
        return True

    def keep(self) -> None:
        """Send what it said to where its log is to lie. A store that is away takes nothing from its work."""
        if store.local(self.log) is not None or not self.written.exists():
            return
        said = self.written.read_bytes()
        if len(said) != self.sent:
            with contextlib.suppress(OSError, ValueError):
                store.write(self.log, said)
                self.sent = len(said)

    @property
    def code(self) -> int:
        return self.process.exitcode or 0

    def sentence(self) -> str:
        """The last thing it said."""
        said = self.written.read_text(errors="replace").strip() if self.written.exists() else ""
        return said.splitlines()[-1] if said else f"the {self.name} ended with exit code {self.code}"

    def check(self) -> None:
        """Raise what ended it, if it was not the end of its work."""
        if self.code == 0:
            return
        kind = ValueError if self.code == 2 else RuntimeError
        raise kind(f"the {self.name} ended: {self.sentence()} (all it said: {self.log})")

    def stop(self) -> None:
        """End it as Ctrl-C does, or, when that takes too long, at once."""
        if self.ended() or self.process.pid is None:
            return
        os.kill(self.process.pid, signal.SIGINT)
        if not self.ended(GRACE):
            self.process.kill()
            self.process.join()


def _lived(log: str, work: Callable[..., None], given: tuple[Any, ...]) -> None:
    """The life of a child."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    threading.Thread(target=_orphaned, daemon=True).start()
    try:
        work(*given)
    except KeyboardInterrupt:
        _end("stopped", 130)
    except ValueError as error:
        _end(str(error), 2)
    except Exception as error:
        print(redacted(traceback.format_exc()), file=sys.stderr)
        _end(f"{type(error).__name__}: {(str(error).strip() or 'no more is known').splitlines()[0]}", 1)


def _end(sentence: str, code: int) -> None:
    print(redacted(sentence), file=sys.stderr, flush=True)
    sys.exit(code)


def _orphaned() -> None:
    """End when the parent is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a child has a parent"
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE)
    os._exit(1)


def freed(root: str) -> None:
    """Wait, for a moment, until a run that just lost its parent has let go of a root."""
    until = time.monotonic() + FREE
    while time.monotonic() < until and (held := store.read_json(store.join(root, "lease.json"))) and alive(held):
        time.sleep(0.1)


def crawled(recipe: str, sets: tuple[str, ...], wire: tuple[str, ...], root: str, on: str, workers: int | None) -> None:
    """What `tundish run RECIPE --until Crawl` does."""
    from tundish.pipeline.cli_options import cluster_of, loaded, settings_of
    from tundish.pipeline.progress import Progressed
    from tundish.pipeline.run import run

    freed(root)
    with Progressed() as shown, cluster_of(on, workers, shown.watch) as bring:
        run(loaded(recipe, sets, None), bring, root, settings=settings_of(wire), until="Crawl", say=shown.say)


def trained(listed: str, out: str, pretrain: Any) -> None:
    """Train on the generations of a list, until the tokens are done."""
    from tundish.stages.follow_train import train

    freed(out)
    with Lease(out):
        train(listed, out, pretrain)
