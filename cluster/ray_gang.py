"""gang on Ray Train v2: the same `fn(rank, world, tell)` that runs alone or under torchrun.

Checkpoints and resume belong to the function; Ray Train starts the workers together and, when one is lost, starts them
anew together. With `least` it takes as many as there is room for, fewer when a node goes, more when one comes.

Promises: a gang that comes further between two starts is started as often as it takes; SIGTERM (`ray job stop`) and
Ctrl-C in the driver are wishes to stop, which the workers' board hands on; so are SIGTERM in a worker, a node that
drains and a gang that is about to grow, after which the gang goes on. The driver says at once what it makes of a wish
(`answered`): workers save first; a gang that waits for room has nothing to save and ends; a second wish ends it within
`GRACE` seconds. Workers take a GPU each wherever the cluster has GPUs or some may come (cluster/ray_room), and wait for
them; the driver says what they wait for, and on what they train. Costs some 10 s a start; nothing a step. Refuses more
workers than there may be GPUs, and than four a CPU.
"""

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import ray
import ray.train
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tundish.cluster import ray_room
from tundish.cluster.ray_board import Board, Controlled, Heeding, loop
from tundish.cluster.verbs import PATIENCE, Tell, Watch, stepped
from tundish.cluster.wish import Stopped, signals

LOG = logging.getLogger("tundish.gang")
LOOK = 60.0  # seconds between looks whether an elastic gang could be larger
POLL = 0.5  # seconds between looks at the board, and at what was asked of this process
WAITS = 20.0  # seconds without workers until that is said: a start takes ten
GRACE = 5.0  # seconds for a gang that is ended; then the driver goes, and with its job all that is left of it


def share_of(size: int, cpus: int) -> float:
    """CPUs a worker asks for. One stays free: Ray Data's tasks would wait for ever if the gang held every CPU."""
    free = max(0.5, cpus - 1)
    return max(0.1, min(1.0, free / size))


def halved(share: float) -> float:
    """The power of 1/2 below a share: Ray reckons how many workers there is room for in floats, and rounds down."""
    found = 1.0
    while found > share:
        found /= 2
    return found


def scaling_of(size: int, least: int, cpus: int, gpus: int, most: int = 0) -> ray.train.ScalingConfig:
    """What to ask Ray for; `least` of `size` workers must find a place. `gpus` are there, `most` with those that may
    come: a worker takes one wherever there may be any, for a training would be on CPUs for good."""
    most = max(gpus, most)
    if most == gpus and least > 4 * cpus:  # machines that come bring CPUs
        raise ValueError(f"{least} training workers on {cpus} CPUs would starve each other; ask for at most {4 * cpus}")
    if 0 < most < least:
        raise ValueError(
            f"{least} training workers and {most} GPUs{' at most' if most > gpus else ''}: each worker takes one; ask "
            f"for {most}, or for {most}-{least} to begin with those there are"
        )
    if least == size:
        return ray.train.ScalingConfig(
            num_workers=size, use_gpu=most > 0, resources_per_worker={"CPU": share_of(size, cpus)}
        )
    return ray.train.ScalingConfig(
        num_workers=(least, size),
        use_gpu=most > 0,
        resources_per_worker={"CPU": halved(share_of(size, cpus) if most else min(1.0, cpus / least))},
        elastic_resize_monitor_interval_s=LOOK,
    )


def wanted_by(scaling: ray.train.ScalingConfig) -> str:
    """What a gang asks of the cluster, in words, such as `4 workers with a GPU and 1 CPU each`."""
    many = scaling.num_workers
    fewest, largest = many if isinstance(many, tuple) else (many, many)
    each = f"{'a GPU and ' if scaling.use_gpu else ''}{(scaling.resources_per_worker or {})['CPU']:.2g} CPU"
    if largest == 1:
        return f"a worker with {each}"
    return f"{fewest if fewest == largest else f'{fewest} to {largest}'} workers with {each} each"


def run_gang(
    stage: str, fn: Callable[[int, int, Tell], None], *, size: int, least: int, cpus: int, scratch: str, watch: Watch
) -> None:
    """Run `fn` on `size` workers, or as many from `least` on as there are; a user's ValueError comes back as itself."""
    gpus, most = ray_room.there("GPU"), ray_room.most("GPU")
    scaling = scaling_of(size, least or size, cpus, gpus, most)
    come = f", and {most} may be there once machines have come" if most > gpus else ""
    lacks = f"no workers yet: it asks for {wanted_by(scaling)}, of a cluster with {cpus} CPUs and {gpus} GPUs{come}"
    os.makedirs(scratch, exist_ok=True)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)  # a worker's may go
    board = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Board).remote()
    run = ray.train.RunConfig(
        name=f"{stage}-{os.getpid()}-{int(time.time())}",
        storage_path=scratch,
        failure_config=ray.train.FailureConfig(max_failures=-1),  # the board counts those between which nothing moves
        callbacks=[Heeding(), Controlled(board)],
    )
    config = {"fn": fn, "board": board, "threads": os.environ.get("TUNDISH_TORCH_THREADS", "")}
    trainer = TorchTrainer(loop, train_loop_config=config, scaling_config=scaling, run_config=run)
    with signals() as asked:
        failed = _fitted(stage, trainer, board, watch, asked, lacks)
    try:
        told = ray.get(board.told.remote(), timeout=5 if asked else 60)
    except ray.exceptions.RayError as error:
        told = {"mistake": "", "stopped": "", "lost": f"its board is gone: {str(error).splitlines()[0]}"}
    if told["mistake"]:
        raise ValueError(told["mistake"])
    if asked:
        raise Stopped(told["stopped"]) if told["stopped"] else KeyboardInterrupt
    if told["lost"]:
        raise RuntimeError(f"{stage} failed in a worker: {told['lost']}")
    if failed:
        raise RuntimeError(f"{stage} failed on Ray: {str(failed[0]).strip().splitlines()[-1]}") from failed[0]


class Wish(NamedTuple):
    """What was made of the wishes to stop: how many are answered, how long the workers may save, and since when the
    gang is being ended (by time.monotonic())."""

    answered: int = 0
    until: float = math.inf
    ended: float = math.inf


class Answer(NamedTuple):
    """`act`: ask (the workers, to save and leave), end (the gang, whatever it does), leave (wait no more), or nothing;
    `say`: what whoever looks on is told."""

    wish: Wish
    act: str = ""
    say: str = ""


def answered(wish: Wish, asked: int, waiting: bool, now: float) -> Answer:
    """What to do at a moment, `asked` so many times to stop. `waiting`: the gang has no workers, because it has yet to
    find room; nothing would hear, so nothing is asked."""
    if wish.ended < math.inf:
        return Answer(wish, "leave" if now >= wish.ended + GRACE else "")
    if not asked:
        return Answer(wish)
    ended = wish._replace(answered=asked, ended=now)
    if waiting:
        return Answer(ended, "end", "asked to stop, and no workers are there that would have to save: it ends now")
    if not wish.answered:  # one at a time: two that came between two looks are two
        return Answer(
            Wish(1, now + PATIENCE),
            "ask",
            f"asked to stop: the workers save first, for at most {PATIENCE / 60:.0f} minutes; asked once more it ends "
            "at once, and goes on from the last checkpoint",
        )
    if asked > wish.answered:
        return Answer(ended, "end", "asked once more: it ends now, and goes on from the last checkpoint")
    if now >= wish.until:
        return Answer(ended, "end", "the workers have not saved in time: it ends now")
    return Answer(wish)


class Heard(NamedTuple):
    """What whoever looks on has been told of the gang's place: on what it trains, and of a wait that began `since`
    (by time.monotonic()) whether it was `told`."""

    place: str = ""
    since: float = math.inf
    told: bool = False


def placed(heard: Heard, place: str, waiting: bool, lacks: str, now: float) -> tuple[Heard, str]:
    """What to say at a moment, if anything: that the gang has waited for a while for what it `lacks`, once a wait; and
    on what it trains, as often as that changes."""
    if waiting:
        heard = heard._replace(since=min(heard.since, now))
        if heard.told or now - heard.since < WAITS:
            return heard, ""
        return heard._replace(told=True), lacks
    return Heard(place), f"trains on {place}" if place and (place != heard.place or heard.told) else ""


def _fitted(stage: str, trainer: Any, board: Any, watch: Watch, asked: list[int], lacks: str) -> list[BaseException]:
    """Runs the gang in a thread of its own, because Ray Train takes Ctrl-C for itself in the main one, and looks on:
    shows the board to whoever watches, and answers what is asked of this process."""
    failed: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    wish, waiting, heard = Wish(), True, Heard()
    while thread.is_alive():
        thread.join(POLL)
        with contextlib.suppress(Exception):  # a board that is gone has nothing more to say
            row, waiting, place = ray.get(board.seen.remote(), timeout=2)
            heard, news = placed(heard, place, waiting, lacks, time.monotonic())
            _say(stage, news)
            if row:
                stepped(watch, stage, row)
        wish, act, say = answered(wish, len(asked), waiting, time.monotonic())
        _say(stage, say)
        if act == "leave":
            break
        if act:
            _asked(board, act)
    return failed


def _say(stage: str, news: str) -> None:
    if news:
        LOG.warning("%s: %s", stage, news)


def _asked(board: Any, act: str) -> None:
    """Tell the board, and end the controller where that is wanted: while it waits for room it hears nothing (Ray Train
    waits in its event loop), so it is killed; Ray ends its workers, which it owns."""
    with contextlib.suppress(Exception):
        ray.get(board.end.remote(), timeout=2)
        if act == "end" and (controller := ray.get(board.controller_of.remote(), timeout=2)) is not None:
            ray.kill(controller)
