"""Where a training begins: its own last checkpoint, or one of another training that it comes through as well.

A changed recipe writes to a folder of its own. Where the change touches later steps alone (weights from a step on, rows
that are skipped), the training before it has checkpoints that this one would make, too; the newest of them is taken.

Promises: what is taken is what training from step 0 would have given, for its key covers the task and the plan up to
its step. Costs a look at the trainings beside this one. Refuses a folder that holds the state of another training.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tundish.cluster import checkpoint, store

LOGS = ("log.jsonl", "ledger.jsonl")
Own = Callable[[int, Mapping[str, Any]], bool]  # (step, state) -> whether this training comes through it


def beginning(out: str, own: Own) -> tuple[int, dict[str, Any]]:
    """Step and state to go on from; (0, {}) for none."""
    if found := checkpoint.restore(store.join(out, "checkpoints")):
        if not own(*found):
            raise ValueError(f"{out} holds a checkpoint of another training; give this one another folder")
        return found
    above, _, name = out.rstrip("/").rpartition("/")
    kind, dash, _ = name.rpartition("-")
    beside = [n for n in store.listing(above) if n != name and n.startswith(kind + dash)] if dash and above else []
    best: tuple[int, dict[str, Any]] = (0, {})
    for other in beside:
        uri = store.join(above, other)
        if not all(store.exists(store.join(uri, log)) for log in LOGS):
            continue
        for step in checkpoint.steps(store.join(uri, "checkpoints")):
            state = checkpoint.read(store.join(uri, "checkpoints"), step) if step > best[0] else None
            if state is not None and "plan" in state and own(step, state):
                best = step, state
                for log in LOGS:
                    store.write(store.join(out, log), store.read(store.join(uri, log)))
    return best
