"""Where a training begins: its own last checkpoint, or one of another training that it comes through as well.

A changed recipe writes to a folder of its own. Where the change touches later steps alone (weights from a step on, rows
that are skipped), the training before it has checkpoints that this one would make, too; the newest of them is taken.

Promises: what is taken is what training from step 0 would have given, for its key covers the task and the plan up to
its step; one that is not whole, or gone when it is looked at (a training beside this one may be running), is passed
over. Costs one reading of the checkpoint that is taken, and a look at what those of the trainings beside this one say
of themselves. Refuses a folder that holds the state of another training.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from tundish.cluster import checkpoint, store

LOGS = ("log.jsonl", "ledger.jsonl")
CHECKPOINTS = "checkpoints"
Own = Callable[[int, Mapping[str, Any]], bool]  # (step, plain values) -> whether this training comes through it
Begun = tuple[str, int, dict[str, Any]]


def beginning(out: str, uri: str, own: Own, passed: Collection[tuple[str, int]] = ()) -> Begun:
    """Folder of checkpoints, step and plain values to go on from; ("", 0, {}) for none. Read by one process. `passed`:
    folders and steps of other trainings that could not be read after all."""
    if found := _newest(uri):
        step, plain = found
        if not own(step, plain):
            raise ValueError(f"{out} holds a checkpoint of another training; give this one another folder")
        checkpoint.drop_after(uri, step)
        return uri, step, plain
    for step, folder in sorted(_beside(out), reverse=True):
        theirs = store.join(folder, CHECKPOINTS)
        if (theirs, step) in passed or not _owned(theirs, step, own):
            continue
        try:
            plain = _checked(theirs, step)
            logs = [store.read(store.join(folder, log)).splitlines(keepends=True) for log in LOGS]
        except (checkpoint.Torn, ValueError, OSError):
            continue
        for log, lines in zip(LOGS, logs, strict=True):
            store.write(store.join(out, log), b"".join(lines[:step]))
        return theirs, step, plain
    return "", 0, {}


def _beside(out: str) -> Iterator[tuple[int, str]]:
    """Steps of which trainings beside this one have something, and in which folder."""
    above, _, name = out.rstrip("/").rpartition("/")
    kind, dash, _ = name.rpartition("-")
    for other in store.listing(above) if dash and above else []:
        folder = store.join(above, other)
        if other != name and other.startswith(kind + dash) and all(store.exists(store.join(folder, x)) for x in LOGS):
            yield from ((step, folder) for step in checkpoint.steps(store.join(folder, CHECKPOINTS)))


def _owned(theirs: str, step: int, own: Own) -> bool:
    """Whether this training comes through a state, by what is said of it: its files are not read for that."""
    try:
        return own(step, checkpoint.sealed(theirs, step).plain)
    except (checkpoint.Torn, OSError):
        return False


def _newest(uri: str) -> tuple[int, dict[str, Any]] | None:
    passed = []
    for step in reversed(checkpoint.steps(uri)):
        try:
            return step, _checked(uri, step)
        except checkpoint.Torn as torn:
            passed.append(checkpoint.tell(torn))
    checkpoint.require_read(uri, passed)
    return None


def _checked(uri: str, step: int) -> dict[str, Any]:
    found = checkpoint.sealed(uri, step)
    checkpoint.check(found, found.files)
    return found.plain
