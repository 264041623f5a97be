"""What a compression is: its steps, how each is done, and what decides its bytes; plain values.

    heads            from the model itself
    layers+int8      int8 of what `layers` left
    onnx+int8        the exported graph with its products in bytes
    recovery         the training of the others alone: nothing is taken away

A step begins at the model itself, or at what stands before its last `+`, which is then a step of its own. What has
learnt is told beside what has learnt as often and lost nothing, its reference; that is a step as well.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from tundish.cluster.shards import digest_of
from tundish.operators.model.pruning import SCOPES, WAYS
from tundish.stages.finetune_task import HEADS

RECOVERY = "recovery"
TRAINED = ("distil", "heads", "layers", "magnitude", RECOVERY)
STEPS = (*TRAINED, "int8", "onnx")
LAST = ("onnx", "int8")  # behind int8 comes nothing, behind onnx int8 alone
KINDS = tuple(kind for kind, head in HEADS.items() if head != "write")
DECIDES = {  # fields of `Means` by step
    "distil": ("layers", "way", "alpha", "temperature", "hidden", "match"),
    "heads": ("heads",),
    "layers": ("layers", "way"),
    "magnitude": ("share", "scope", "gradual"),
    RECOVERY: (),
    "int8": (),
    "onnx": (),
}
VERSION = 3  # raised when the code changes what a step leaves


@dataclass(frozen=True)
class Means:
    """How steps are done. `layers`, of distillation the student's, and `heads` of a layer to keep; 0: half of them.
    `way` layers go (`operators/model/pruning.WAYS`). `share` of weights that become zero, ranked by `scope`, at once or
    gradually. `teacher`: a folder; the model itself, where there is none. `student`: a folder to begin from, in place
    of the model's own layers. `alpha`: share of the soft loss at a `temperature`; `hidden`: weight of the states' loss,
    of layers as they `match`."""

    layers: int = 0
    way: str = "alternate"
    heads: int = 0
    share: float = 0.5
    scope: str = "global"
    gradual: bool = False
    teacher: str = ""
    student: str = ""
    alpha: float = 0.5
    temperature: float = 2.0
    hidden: float = 0.0
    match: str = "uniform"

    def __post_init__(self) -> None:
        for name in ("layers", "heads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} to keep are {getattr(self, name)}; give at least 1, or 0 for half of them")
        for name, known in (("way", WAYS), ("scope", SCOPES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(known)}")
        if not 0 < self.share < 1:
            raise ValueError(f"a share of {self.share} of the weights cannot be taken; give one between 0 and 1")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; it is the teacher's share of the loss, from 0 to 1")
        if self.temperature <= 0 or self.hidden < 0:
            raise ValueError(
                f"the temperature is {self.temperature} and the weight of hidden states {self.hidden}; the first is "
                "above 0, the second at least 0"
            )

    def deciding(self, step: str) -> dict[str, Any]:
        """The fields that decide what a step does."""
        own = asdict(self)
        return {name: own[name] for name in DECIDES[step]}


def expanded(paths: Iterable[str]) -> tuple[str, ...]:
    """Every step once, what another begins from before it.

    >>> expanded(["heads", "layers+int8"])
    ('heads', 'layers', 'layers+int8')
    """
    found: dict[str, None] = {}
    for path in paths:
        words = path.split("+")
        for word in words:
            if word not in STEPS:
                raise ValueError(f"{word!r} is no step of a compression; choose of {', '.join(STEPS)}, joined by +")
        _ordered(path, words)
        found |= dict.fromkeys("+".join(words[: at + 1]) for at in range(len(words)))
    if not found:
        raise ValueError(f"a compression without a step does nothing; give some of {', '.join(STEPS)}")
    return tuple(found)


def learns(path: str) -> int:
    """How many trainings lie behind what a path leaves, beside the model's own."""
    return sum(word in TRAINED for word in path.split("+"))


def reference_of(path: str) -> str:
    """What has learnt as often as a path and lost nothing; empty where that is the model itself, or the path.

    >>> reference_of("heads+int8"), reference_of("heads+magnitude"), reference_of("int8"), reference_of("recovery")
    ('recovery', 'recovery+recovery', '', '')
    """
    found = "+".join([RECOVERY] * learns(path))
    return "" if found == path else found


def referred(paths: Iterable[str]) -> tuple[str, ...]:
    """What the paths are told beside, before them.

    >>> referred(["heads", "heads+magnitude", "int8"])
    ('recovery', 'recovery+recovery', 'heads', 'heads+magnitude', 'int8')
    """
    paths = tuple(paths)
    most = max((learns(path) for path in paths), default=0)
    return tuple(dict.fromkeys(["+".join([RECOVERY] * (at + 1)) for at in range(most)] + list(paths)))


def _ordered(path: str, words: list[str]) -> None:
    for first, second in pairwise(words):
        if first == "int8" or (first == "onnx" and second != "int8"):
            raise ValueError(
                f"in {path!r} {second} would begin from {first}, which is no model that learns; let {first} be the last"
            )
    once = [word for word in words if word != RECOVERY]
    if len(set(once)) < len(once):
        raise ValueError(f"{path!r} has a step twice; name each once")


def key_of(before: str, step: str, means: Means, training: Any, folders: Any) -> str:
    """Digest of what decides a step's bytes: what it begins from, how it is done, and where it trains on what."""
    said = {"version": VERSION, "before": before, "step": step, "means": means.deciding(step)}
    said |= {"training": training} if step in TRAINED else {}
    said |= {"folders": folders} if step == "distil" else {}
    return digest_of(said)[:12]
