"""How many rows of a step go through a model at a time.

    copied rows of any number     all that a worker has of a step, or `at_once` of them
    shapes that stay (compiled)   as many in every step of one length of rows; what is missing to them is padding that
                                  is computed, so it is no more than the step with the fewest rows has

Promises: rows that are longer than the shortest ones of a training go through as many fewer at a time, so that the
places of a pass, and with them its memory, are bounded by `at_once`. Costs nothing. Refuses nothing; the task does.
"""

from tundish.operators.model.phases import Schedule
from tundish.operators.model.rows import Layout
from tundish.stages.pretrain_task import PretrainTask

BUSY = 1 << 14  # places that keep a GPU busy: fewer at a time are not worth it that a few places of padding are saved


def bounded(task: PretrainTask, row: int) -> int:
    """The most rows of so many places that may go through at once; 0: any number."""
    shortest = min(phase.row for phase in task.aims.phases)
    return task.at_once and max(1, task.at_once * shortest // row)


def rows_of_pass(task: PretrainTask, schedule: Schedule, layout: Layout, shares: int, *, static: bool) -> int:
    """Rows of a forward pass of a worker, where that is fixed; else 0. `shares`: workers with rows of their own."""
    most = bounded(task, layout.row)
    if not static:
        return most
    phases = [Layout(phase.row, phase.context) for phase in schedule.phases]
    sizes = [-(-leg.rows // shares) for leg in schedule.legs if phases[leg.phase] == layout]
    sizes = sizes or [-(-leg.rows // shares) for leg in schedule.legs]
    fitting = min(max(sizes), max(min(sizes), -(-BUSY // layout.row)))
    return min(most or fitting, fitting)
