"""Training on a corpus that is still being written, and once more on the list of what came.

Promises: begins with the first generation and takes in the others as they are listed; the plan it leaves names the
position at which each joined, so that `replay` has the same ledger and, in one process, the same weights. Costs what
Pretrain costs. Refuses weights of origins, which generations would change.
"""

import time

from tundish.cluster import store
from tundish.stages.generations import LIST
from tundish.stages.generations_list import arrived
from tundish.stages.pretrain import Pretrain
from tundish.stages.pretrain_feed import PATIENCE
from tundish.stages.pretrain_loop import PretrainTask, Tell, pretrain
from tundish.stages.token_stream import files_of


def train(list_uri: str, out: str, wanted: Pretrain, tell: Tell = lambda line: None) -> None:
    """Train as `wanted` says on the generations of a list, from its last checkpoint in `out` if there is one."""
    while not arrived(list_uri, 0)[0]:
        if arrived(list_uri, 0)[1]:
            raise ValueError(f"{list_uri} ends without a generation that brought tokens; widen the recipe's sources")
        time.sleep(PATIENCE)
    pretrain(task_of(list_uri, out, wanted, follow=list_uri), 0, 1, tell)


def replay(plan_uri: str, out: str, wanted: Pretrain, tell: Tell = lambda line: None) -> None:
    """Train again by the plan an earlier training left in `ROOT/follow/training`, on the generations beside it."""
    list_uri = store.join(plan_uri.rsplit("/", 2)[0], LIST)
    pretrain(task_of(list_uri, out, wanted, replay=plan_uri), 0, 1, tell)


def task_of(list_uri: str, out: str, wanted: Pretrain, *, follow: str = "", replay: str = "") -> PretrainTask:
    if wanted.weights or wanted.reweigh:
        raise ValueError("Pretrain.weights and a corpus that is followed do not go together; leave the weights out")
    generations, _ = arrived(list_uri, 0)
    first = generations[0].tokens()
    sources = ()
    if replay:
        sources = tuple(file for one in generations for file in files_of(one.tokens(), suffix=f"@{one.number}"))
    told = wanted.given(first) | wanted.recipe() | {"weights": {}}
    return PretrainTask(sources=sources, out=out, follow=follow, replay=replay, **told)
