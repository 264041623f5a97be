"""What a user says of a pretraining must be used: a setting that changes the address alone trains everything anew.

Promises: what a preset brings along, and the other settings of its recipe make useless, is nobody's wish and passes.
Costs nothing. Refuses `warmup`, `decay` and `floor` that the schedule does not have, and shares of what is hidden
where nothing is.
"""

from collections.abc import Mapping
from typing import Any

from tundish.operators.model.schedules import parameters

PARTS = {"warmup": "warm", "decay": "decay", "floor": "floor"}  # settings -> as schedules have them
SEEN = ("clm",)  # objectives that hide nothing
OF_HIDDEN = ("mask", "shares")


def require_used(said: Any, recipe: Mapping[str, Any]) -> None:
    """`said`: a Pretrain, whose fields are None where nothing was said; `recipe`: that of its preset."""
    name = said.schedule or recipe.get("schedule", "warm-stable-decay")
    known = parameters(name)
    for each, part in PARTS.items():
        if getattr(said, each) is not None and part not in known:
            has = [one for one, part in PARTS.items() if part in known]
            raise ValueError(
                f"Pretrain.{each} is {getattr(said, each)}, and the schedule {name} has none; leave it out, or give "
                f"what that has: {', '.join(has)}"
            )
    objective = said.objective or recipe.get("objective", "mlm")
    for each in OF_HIDDEN if objective in SEEN and not said.curriculum else ():
        if getattr(said, each) is not None:
            raise ValueError(
                f"Pretrain.{each} is {getattr(said, each)}, and {objective} hides nothing; leave it out, or choose "
                "another objective"
            )
