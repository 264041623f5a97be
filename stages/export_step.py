"""What `tundish compress` left, when it is to be exported: which step a folder holds, and why some cannot be.

    step = step_in("small/heads+magnitude")     step.path, and what small/compressed.json says

Promises: a refusal names the step and what can be exported in its place. Costs a look at two small files. Refuses bytes
and graphs, which no class of transformers loads, and says of a trunk without some of its heads that it is one.
"""

from typing import Any, NamedTuple

from tundish.cluster import store
from tundish.operators.model.head_forms import families
from tundish.operators.model.shape import Shape
from tundish.stages.compress_learnt import SEALED
from tundish.stages.compress_read import BYTES, EXPORTED
from tundish.stages.hub import CONFIG

FORMS = {  # what a folder holds that is no float model, and what to do with it
    BYTES: "has its matrices in bytes, which no class of transformers loads; export the step or the model it was made "
    "of, or ask it by `tundish predict`",
    EXPORTED: "is a graph already, which onnxruntime runs; hand on its model.onnx and tokenizer, or export the step or "
    "the model it was made of",
}
FEWER = (
    "some heads were taken away ({heads} of width {width} stay, in a trunk {trunk} wide), which no architecture of "
    "transformers computes; export a step without `heads`, such as distil, layers or magnitude"
)


class Step(NamedTuple):
    """Its path, such as heads+int8, and what `compressed.json` above it says."""

    path: str
    told: dict[str, Any]


def step_in(folder: str) -> Step | None:
    """The step of a finished compression that a folder is; nothing where it is none."""
    above, _, path = folder.rstrip("/").rpartition("/")
    told = store.read_json(store.join(above or ".", SEALED))
    if not isinstance(told, dict) or path not in told.get("order", []) or path not in told.get("steps", {}):
        return None
    return Step(path, told)


def refuse_forms(folder: str) -> None:
    """Refuse a folder of bytes or of a graph."""
    told = store.read_json(store.join(folder, CONFIG))
    kind = told.get("kind") if isinstance(told, dict) else None
    if kind in FORMS:
        raise ValueError(f"{_called(folder)} {FORMS[kind]}")


def refusal(folder: str, shape: Shape, error: ValueError) -> ValueError:
    """Why a trunk is none of transformers': for want of heads that went, else as the `error` says."""
    if not list(families(shape)) and shape.heads * shape.head_width < shape.width:
        said = FEWER.format(heads=shape.heads, width=shape.head_width, trunk=shape.width)
        return ValueError(f"{_called(folder)} cannot be exported: {said}")
    return ValueError(f"{_called(folder)}: {error}") if step_in(folder) else error


def _called(folder: str) -> str:
    step = step_in(folder)
    return f"{folder}, the step {step.path} of a compression," if step else folder
