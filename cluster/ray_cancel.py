"""Ray tasks that are ended before their time, by a driver that lives on.

Promises: tasks that are at work are killed, those that wait are taken back, those that have ended are left alone, and
none of them takes the driver along. `ray.cancel` from a thread of one's own does, where a reply comes in the same
instant: Ray 2.60 forgets that a task is at work, lets go of its lock and takes the reply afterwards; cancelled between
the two, the task is gone, and the process ends itself ("Tried to complete task that was not pending"; seen in
`NormalTaskSubmitter`, where ray-project/ray#54798 mended a part of it). On the one thread that takes the replies
nothing comes between. Costs about a millisecond a call. Refuses nothing: a Ray that is gone has nothing to be ended.
"""

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

import ray

RINGS = 10.0  # seconds within which Ray's thread takes up what is given to it; it answers within a few milliseconds


def bell() -> Any:
    """Something that is there, for `cancel` to be called back with. Made while all is well: it may need a store."""
    return ray.put(None)


def cancel(references: Sequence[Any], bell: Any) -> None:
    """End the tasks of `references`, those at work by killing their workers. Waits until Ray has been told of all."""
    told = threading.Event()

    def rung(_: Any, held: Any = bell) -> None:  # held: a bell that is let go of before it rings ends the process
        for reference in references:
            with contextlib.suppress(Exception):
                ray.cancel(reference, force=True)
        told.set()

    with contextlib.suppress(Exception):
        bell._on_completed(rung)
        told.wait(RINGS)
