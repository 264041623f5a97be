"""Whether a model can be trained as a task is set: what only its shape can say, asked before anything is laid or made.

Promises: a setting that is refused here is one that every run would end at, with the same words. Costs nothing.
"""

from tundish.operators.model.head_forms import POOLINGS
from tundish.operators.model.shape import Shape
from tundish.stages.finetune_task import Aids


def refuse(shape: Shape, aids: Aids, pooling: str = "") -> None:
    """Refuse more blocks drawn anew than there are, any of a model whose layers are one block, and a pooling that is
    none or that a decoder cannot have."""
    if aids.fresh_top and shape.shared:
        raise ValueError(
            "all layers of this model are one block, and no top of it can be drawn anew; leave fresh_top out"
        )
    if aids.fresh_top > shape.layers:
        raise ValueError(
            f"fresh_top is {aids.fresh_top}, and the model has {shape.layers} blocks; give at most as many"
        )
    if pooling and pooling not in POOLINGS:
        raise ValueError(f"states cannot be pooled by {pooling!r}; choose one of {', '.join(POOLINGS)}")
    if pooling == "cls" and shape.stack == "decoder":
        raise ValueError("a decoder's first token has seen nothing of its document; pool it by last or mean")
