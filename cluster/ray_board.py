"""What a gang on Ray has in common: the board its workers, its controller and its driver speak through.

    driver          -> end, seen            what was asked of it; how far the gang is, and whether it waits for room
    controller      -> Controlled           has a healthy gang save before it is started anew with more workers
    worker, rank 0  -> begin, put, left     how far it is; whether it is to begin at all; that it has saved and left
                       trains               on what the workers compute
    any worker      -> refuse, failed       what a user has to mend; what went wrong

Promises: all workers of a start begin, or none; a wish reaches rank 0 within a second, and through the loop all; every
step counts as one further, but for those of a killed worker's last second. Costs one small actor, and two calls a
second, however short steps are. Ray Train's callbacks are its developers' interface: Ray is held at one minor
version, and tests/test_ray_gang.py stands on it.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import ray
import ray.train
import torch
import torch.distributed
from ray.train.collective import broadcast_from_rank_zero
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerCallback
from ray.train.v2._internal.execution.context import get_train_context

from tundish.cluster.verbs import PATIENCE
from tundish.cluster.wish import Stopped, heed, wish

RESTARTS = 2  # of the whole gang after a worker was lost, without coming further in between
POLL = 1.0  # seconds between looks at the board
WAITS = ("InitializingState", "SchedulingState", "ReschedulingState", "RestartingState")  # of a gang without workers


class Board:
    """An actor, of which there is one a gang; whoever speaks through it has its handle."""

    def __init__(self) -> None:
        self.line: dict[str, Any] = {}
        self.furthest = self.before = -1  # steps: that a worker told of, now and at the last start
        self.fruitless = self.starts = 0
        self.mistake = self.stopped = self.lost = self.cause = self.place = ""
        self.ending = self.moving = self.gone = self.past = False
        self.waiting = True
        self.controller: Any = None

    def begin(self) -> bool:
        """Whether a start is to be made: not after a mistake, a wish to end, or too many that came to nothing."""
        if self.mistake or self.ending:
            return False
        further = self.furthest > self.before or self.gone or not self.starts
        self.fruitless = 0 if further else self.fruitless + 1
        if self.fruitless > RESTARTS:
            self.lost = f"{self.cause or 'it was killed'} ({self.fruitless} starts came no further)"
            return False
        self.starts, self.before = self.starts + 1, self.furthest
        self.cause, self.moving, self.gone, self.past = "", False, False, False
        return True

    def put(self, row: dict[str, Any]) -> None:
        self.line, self.furthest = row, max(self.furthest, int(row.get("step", 0)))

    def seen(self) -> tuple[dict[str, Any], bool, str]:
        """The last line, whether the gang waits for room, and on what it trains; "" until that is known."""
        return self.line, self.waiting, self.place

    def waits(self, waiting: bool) -> None:
        self.waiting, self.place = waiting, "" if waiting else self.place

    def trains(self, place: str) -> None:
        self.waiting, self.place = False, place

    def refuse(self, mistake: str) -> None:
        """Keeps the first mistake of a user that a worker found, so that no restart tries it again."""
        self.mistake = self.mistake or mistake

    def failed(self, cause: str) -> None:
        """Keeps what a worker said first in this start; others fail because it did."""
        self.cause = self.cause or cause

    def end(self) -> None:
        """The driver was asked to stop."""
        self.ending = True

    def move(self) -> None:
        """The gang is to save and leave, and will be started anew."""
        self.moving = True

    def wished(self) -> str:
        return "end" if self.ending else "move" if self.moving else ""

    def left(self, sentence: str) -> bool:
        """All have saved and left, or have nothing to save (""). Whether that was the end."""
        self.stopped, self.gone = sentence, True
        return self.ending

    def over(self) -> None:
        """A worker's part of a start has ended, well or not."""
        self.past = True

    def has_left(self) -> bool:
        return self.gone or self.past

    def controlled(self, controller: Any) -> None:
        self.controller = controller

    def controller_of(self) -> Any:
        return self.controller

    def told(self) -> dict[str, str]:
        return {"mistake": self.mistake, "stopped": self.stopped, "lost": self.lost}


class Heeding(WorkerCallback):
    """SIGTERM to a worker is a wish, once its loop listens. Ray calls this in the worker's main thread."""

    def after_init_train_context(self) -> None:
        heed()


class Telling:
    """What rank 0 tells of each of its steps: put on the board once a second, and at the end."""

    every = 1

    def __init__(self, put: Callable[[dict[str, Any]], Any]) -> None:
        self.put, self.row, self.due = put, dict[str, Any](), 0.0

    def __call__(self, row: dict[str, Any]) -> None:
        self.row = row
        if time.monotonic() >= self.due:
            self.due = time.monotonic() + POLL
            self.put(row)

    def last(self) -> None:
        if self.row:
            self.put(self.row)


class Controlled(ControllerCallback):
    """In Ray Train's controller: says whether the gang waits for room; one whose size is to change saves first."""

    def __init__(self, board: Any) -> None:
        self.board = board

    def after_controller_start(self, train_run_context: Any) -> None:
        ray.get(self.board.controlled.remote(ray.get_runtime_context().current_actor))

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        state = type(current_state).__name__
        self.board.waits.remote(state in WAITS)
        if state != "ResizingState":  # which only a gang in good health comes to
            return
        until = time.monotonic() + PATIENCE
        ray.get(self.board.move.remote())
        while time.monotonic() < until and not ray.get(self.board.has_left.remote()):
            time.sleep(0.2)


def threads_here(context: Any) -> int:
    """Threads for a worker: its part of the node's CPUs."""
    node = ray.get_runtime_context().get_node_id()
    cpus = sum(each["Resources"].get("CPU", 0) for each in ray.nodes() if each["NodeID"] == node)
    return max(1, int(cpus) // max(1, context.get_local_world_size()))


def place_of(world: int) -> str:
    """On what `world` workers compute that are like this one: as stages/ranks decides."""
    gpu = torch.cuda.is_available() and (world == 1 or "nccl" in torch.distributed.get_backend())
    many = "s" if world > 1 else ""
    return f"{world} GPU{many} ({torch.cuda.get_device_name()})" if gpu else f"CPUs, in {world} worker{many}"


def loop(config: dict[str, Any]) -> None:
    """What a worker runs, in a thread that Ray Train makes for it."""
    context, board = ray.train.get_context(), config["board"]
    rank, world = context.get_world_rank(), context.get_world_size()
    os.environ["TUNDISH_TORCH_THREADS"] = config["threads"] or str(threads_here(context))
    begins = ray.get(board.begin.remote()) if rank == 0 else None
    if not broadcast_from_rank_zero(begins):
        return
    if rank == 0:
        board.trains.remote(place_of(world))

    tell = Telling(board.put.remote if rank == 0 else lambda row: None)
    with _looking(board) if rank == 0 else contextlib.nullcontext():
        try:
            config["fn"](rank, world, tell)
        except ValueError as error:
            # A gang whose groups Ray has torn down, because another worker is lost, hears that by ValueErrors of torch.
            tell_board = board.refuse if torch.distributed.is_initialized() else board.failed
            ray.get(tell_board.remote(str(error)))
            raise
        except Stopped as stop:  # all ranks have saved
            ends = ray.get(board.left.remote(str(stop))) if rank == 0 else None
            if not broadcast_from_rank_zero(ends):
                raise RuntimeError(str(stop)) from None  # it goes on, here or elsewhere
        except Exception as error:
            ray.get(board.failed.remote(f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]))
            raise
        finally:
            tell.last()
            board.over.remote()


@contextlib.contextmanager
def _looking(board: Any) -> Iterator[None]:
    """Looks for wishes that come from elsewhere, from a thread, until the block ends."""
    done, preempted = threading.Event(), get_train_context().preemption_context

    def look() -> None:
        while not done.wait(POLL):
            asked = ""
            with contextlib.suppress(Exception):
                asked = ray.get(board.wished.remote(), timeout=30)
            if not asked and preempted.preemption_info is None:
                continue
            if wish(asked or "a node is taken away"):
                return
            if asked:  # nobody here can save
                with contextlib.suppress(Exception):
                    ray.get(board.left.remote(""), timeout=30)
            if asked == "end":
                os._exit(1)  # the gang fails, is started anew, and told not to begin

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
