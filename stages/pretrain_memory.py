"""Where a training does not fit into the device's memory: which part of it, what that part takes, what to lower.

    with within(FORWARD, rows): …     whatever runs out of memory inside is known to be a forward pass of so many rows

Promises: the innermost part that is named counts; allocations are refused where they are asked for, on a GPU as well,
so that is the part it was. What passes keep is counted on the task's own model (`pretrain_count.way_back`), what the
optimiser needs in passing and what gathering takes is a bound. Costs nothing until memory runs out, then some seconds.
Refuses nothing.
"""

import contextlib
from collections.abc import Iterator

import torch

from tundish.operators.model.phases import Phase
from tundish.operators.model.stacks import stacked
from tundish.stages.pretrain_count import amount, bare, counted, sliced, way_back
from tundish.stages.pretrain_passes import bounded
from tundish.stages.pretrain_task import PretrainTask
from tundish.stages.spread import precision_of

FORWARD, BACKWARD = "a forward pass", "a backward pass"
START, MOVING = "what every step needs", "moving the weights"
HELD, KEPT = "an evaluation", "gathering the state of a checkpoint"
LARGEST = 2 << 30  # parameters of a model that is built in host memory only to count what it keeps
PASSING = 4  # numbers in passing for each of the largest stack of weights, as operators/model/descent has it


@contextlib.contextmanager
def within(place: str, rows: int = 0, row: int = 0) -> Iterator[None]:
    """A part of a training, and of how many rows at once of how many places each, where that is known."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        if not hasattr(error, "place"):
            error.place, error.rows, error.row = place, rows, row  # type: ignore[attr-defined]
        raise


def too_large(task: PretrainTask, shares: int, error: torch.OutOfMemoryError) -> str:
    """What to lower where a part of a training does not fit, and what that part takes."""
    place, rows = getattr(error, "place", FORWARD), getattr(error, "rows", 0)
    row = getattr(error, "row", 0)
    phase = max(task.aims.phases, key=lambda phase: (phase.row == row, phase.row))
    rows = rows or bounded(task, phase.row) or -(-max(phase.batch) // shares)
    own = counted(task, shares * task.tensor)
    sizes = f"{amount(sum(own.memory.values()))}B of {', '.join(own.memory)}"
    deed, told = place, ""
    if place in (FORWARD, BACKWARD, HELD):
        deed = f"{place} of {rows} rows of {phase.row} places" + (" at once" if place == HELD else "")
        if own.parameters <= LARGEST:
            told = f": {_passes(task, phase, place, rows)}, beside {sizes}"
    elif place == MOVING:
        told = f": about {amount(_passing(task, shares))}B in passing, beside {sizes}"
    elif place == KEPT:
        told = f": up to {amount(_gathered(task))}B at a time, beside {sizes}"
    else:
        told = f": {sizes}"
    cause = str(error).splitlines()[0][:200] if str(error) else "out of memory"
    return (
        f"{deed} does not fit into the device's memory ({cause}){told}; {_way(task, place, rows, phase.row)}. "
        "`tundish plan --probe` says beforehand what a worker needs"
    )


def _passes(task: PretrainTask, phase: Phase, place: str, rows: int) -> str:
    """What a pass keeps at these rows, and at half of them. Without gradients that is one block's share at a time."""
    base, each = way_back(task, phase)
    blocks = 1 if place != HELD else max(1, task.shapes[0].layers + task.shapes[0].decoder)
    sizes = [amount((base + each * some) / blocks) for some in (rows, rows // 2)]
    half = f", {sizes[1]}B at {rows // 2} rows" if rows > 1 else ""
    return f"about {sizes[0]}B are {'kept for the way back' if place != HELD else 'there at a time'}{half}"


def _passing(task: PretrainTask, shares: int) -> int:
    """Bytes that an optimiser needs while it moves the largest stack of weights of one shape."""
    model = bare(sliced(task), precision_of(task.dtype)[0])
    largest = max(stack.zeros().nbytes for stack in stacked(model.named_parameters()))
    return PASSING * -(-largest // (shares if task.spread == "sharded" else 1))


def _gathered(task: PretrainTask) -> int:
    """Bytes of the largest weight, which comes together whole; of slices that of all that are cut into pieces."""
    sizes = [weight.nbytes for weight in bare(task, precision_of(task.dtype)[0]).parameters()]
    return sum(sizes) if task.tensor > 1 else max(sizes)


def _way(task: PretrainTask, place: str, rows: int, row: int) -> str:
    """What to lower: rows where passes are too large, else what a worker holds of the model."""
    if place in (FORWARD, BACKWARD, HELD):
        if rows > 1:
            return f"give at_once: {rows // 2 * row // min(each.row for each in task.aims.phases)}"
        if place != HELD and not task.recompute:
            return "give recompute: 1, or shorter rows"
    if task.spread == "sharded" or task.tensor > 1:
        return "take more workers, or a smaller model"
    return "give spread: sharded with several workers, or a smaller model"
