"""What a training takes over from a folder of weights (`begin`): the shape, the weights, and what is begun anew.

    the folder's, whatever the recipe says    the shape, but for dropout, the experts' capacity and rotary wavelengths
    begun anew, and named                     a head that the folder lacks, the generator or last layers of a detection
    left, and named                           heads for other tasks: poolers, classifiers
    made of others                            a piece that a vocabulary grew by: the mean of the rows of its parts

Promises: before the first step the model computes what the folder's does. A detection takes its generator from the
folder that is given, from `generator.safetensors` as our own leaves it, or from a folder `generator` inside. Costs one
reading of the folder; its sizes alone to check a recipe. Refuses a trunk that is not whole, sizes that a recipe says
otherwise, and more learned positions than there are.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tundish.cluster import store
from tundish.operators.model import hub
from tundish.operators.model.family import Model
from tundish.operators.model.objective import Detection
from tundish.operators.model.presets import PRESETS
from tundish.operators.model.shape import Shape
from tundish.stages import hub as folders
from tundish.stages.pretrain_pieces import FILES
from tundish.stages.pretrain_task import SENTINELS, PretrainTask

MAY = ("dropout", "capacity", "theta", "theta_local")  # fields of a shape that weights do not depend on
FREE = {"vocabulary", "length", *MAY}
HEAD = {"transform", "head_bias", "tied", "pooler"}  # fields of what a detection's discriminator has not
TABLES = ("embedding.weight", "head.weight", "head.bias")  # a row a piece
POSITIONS = ("embedding.positions", "stack.absolute")
BARE = (folders.DISCRIMINATOR, folders.TRUNK)  # that tell replaced tokens, or nothing
RECIPES = {  # of an architecture: the preset that is trained as its source was
    "BertForMaskedLM": "bert",
    "BertForPreTraining": "bert",
    "RobertaForMaskedLM": "roberta",
    "AlbertForMaskedLM": "albert",
    "AlbertForPreTraining": "albert",
    "ElectraForMaskedLM": "bert",
    "ElectraForPreTraining": "electra-small",
    "DebertaV2ForMaskedLM": "deberta",
    "DebertaV2Model": "deberta-v3",
    "GPT2LMHeadModel": "gpt2",
    "T5ForConditionalGeneration": "t5-small",
    "SwitchTransformersForConditionalGeneration": "switch",
    "ModernBertForMaskedLM": "modern-base",
}
UNSAID = ("architectures", "model_type", "transformers_version", "_name_or_path", "torch_dtype", "dtype")


class Adopted(NamedTuple):
    """`shape`: with the head that is trained, whether it lies there or not. `settings`: what more a configuration of
    theirs says. `filler`: shape and weights of the generator beside it, and `whence` they come. `preset`: whose recipe
    our own training had, where it says so."""

    folder: str
    shape: Shape
    tensors: Mapping[str, Tensor]
    architecture: str
    settings: Mapping[str, Any]
    left: tuple[str, ...]
    filler: tuple[Shape, Mapping[str, Tensor]] | None
    whence: str
    preset: str = ""

    @property
    def recipe(self) -> str:
        """The preset whose recipe it had, or is that of its family."""
        if self.preset in PRESETS:
            return self.preset
        return RECIPES.get(self.architecture, {"decoder": "gpt2", "pair": "t5-small"}.get(self.shape.stack, "tiny"))

    def fresh(self, shape: Shape, *, detects: bool) -> list[str]:
        """Names of weights that a training of this shape begins with and the folder has not."""
        names = [name for name in hub.sizes_of(shape, detector=detects) if name not in self.tensors]
        return [name for name in names if not (detects and name.startswith("head."))]

    def told(self, shape: Shape, *, detects: bool) -> dict[str, Any]:
        """What was taken over, for the result and for going back."""
        found: dict[str, Any] = {"folder": self.folder, "architecture": self.architecture}
        found |= {"fresh": self.fresh(shape, detects=detects), "left": list(self.left)}
        return found | ({"generator": self.whence or "fresh"} if detects else {})


def adopted(folder: str, generator: str = "", *, outlined: bool = False) -> Adopted:
    """What lies in a folder. `generator`: another that holds the generator of a detection. `outlined`: sizes alone."""
    found = folders.read(folder, partial=True, outlined=outlined)
    config = store.read_json(store.join(folder, folders.CONFIG))
    ours = "shape" in config
    architecture = found.architecture or _named(found.shape)
    shape = replace(found.shape, pooler=False)
    if architecture in BARE or config.get("kind") == "detection":
        shape = replace(shape, transform=True, head_bias=True)
    if gone := [name for name in hub.sizes_of(shape) if name not in found.tensors and not name.startswith(hub.HEADS)]:
        raise ValueError(f"{gone[0]} is not among the weights of {folder!r}; give a folder whose weights fit its shape")
    settings = {} if ours else {name: each for name, each in config.items() if name not in UNSAID}
    settings |= config.get("begun", {}).get("settings", {}) if ours else {}
    settings |= {folders.PIECES: config[folders.PIECES]} if folders.PIECES in config else {}
    left = {*found.left, *(name for name in found.tensors if name.startswith(("pooler.", "follows.")))}
    left = {name for name in left if not name.startswith(hub.DETECTOR)}
    filler, whence = _filler(folder, generator, outlined)
    kept = {name: each for name, each in found.tensors.items() if name not in left}
    preset = str(config.get("preset", "")) if ours else ""
    return Adopted(folder, shape, kept, architecture, settings, tuple(sorted(left)), filler, whence, preset)


def _named(shape: Shape) -> str:
    try:
        return hub.architecture_for(shape)
    except ValueError:
        return ""  # of our own, and nowhere else


def _filler(folder: str, given: str, outlined: bool) -> tuple[tuple[Shape, Mapping[str, Tensor]] | None, str]:
    beside = store.join(folder, "generator")
    if given or store.exists(store.join(beside, folders.CONFIG)):
        found = folders.read(given or beside, partial=True, outlined=outlined)
        if bare := [name for name in (found.architecture, *(found.config.get("architectures") or ())) if name in BARE]:
            raise ValueError(
                f"{given or beside} holds a {bare[0]}, which fills in no tokens, and should be a generator; give the "
                "folder of one with a head over the vocabulary"
            )
        shape = replace(found.shape, pooler=False)
        wanted = hub.sizes_of(shape)
        return (shape, {name: found.tensors[name] for name in wanted if name in found.tensors}), given or beside
    if found := folders.generator_of(folder, outlined=outlined):
        return found, store.join(folder, folders.GENERATOR)
    return None, ""


def files_of(folder: str) -> list[str]:
    """Where everything lies that decides what is begun with: weights, configurations, vocabularies."""
    beside = store.join(folder, "generator")
    inside = [beside] if store.exists(store.join(beside, folders.CONFIG)) else []
    names = [folders.CONFIG, *folders.files_of(folder), folders.GENERATOR, *FILES]
    found = [uri for name in names if store.exists(uri := store.join(folder, name))]
    return found + [store.join(each, name) for each in inside for name in (folders.CONFIG, *folders.files_of(each))]


def spoken(found: Adopted, task: PretrainTask) -> str:
    """What a training begins with, in a line."""
    fresh = found.fresh(task.shapes[0], detects=task.detects)
    parts = sorted({".".join(name.split(".")[:2]) for name in fresh})
    if task.detects and not found.filler:
        parts.append("the generator")
    anew = f"; begun anew: {', '.join(parts)}" if parts else ""
    return f"begins from {found.folder}, a {found.architecture or 'model of ours'}, as {found.recipe}{anew}"


def fields_of(found: Adopted, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a task: the shape with what a recipe may change, and that of the generator."""
    shape = found.shape
    for name, value in changes.items():
        if name not in Shape.__dataclass_fields__ or name in ("vocabulary", "length"):
            raise ValueError(f"{name!r} is no field of a shape that can be given; of a begun one give {', '.join(MAY)}")
        if name not in MAY and getattr(shape, name) != value:
            raise ValueError(
                f"shape says {name} {value!r} and {found.folder} has {getattr(shape, name)!r}; leave it out, or begin "
                "from another folder"
            )
        if name.startswith("theta") and shape.positions != "rotary":
            raise ValueError(
                f"{name} is of rotary positions and {found.folder} has {shape.positions} ones; leave it out"
            )
    shape = replace(shape, **changes)
    return {"model": shape, "generator": found.filler[0] if found.filler else _fresh_generator(shape)}


def _fresh_generator(shape: Shape) -> Shape:
    """As the sources have it: half of DeBERTa-v3's layers, a third of ELECTRA's width."""
    if shape.positions == "disentangled":
        return replace(shape, layers=max(1, shape.layers // 2), enhanced=2)
    heads = max(1, shape.heads // 3)
    sizes = {"width": heads * shape.head_width, "heads": heads, "ff": max(1, shape.ff // 3), "head": 0}
    return replace(shape, **sizes, embedding=shape.embedded)


def begin(model: nn.Module, task: PretrainTask) -> None:
    """Give a model, or both of a detection, the weights of the task's folder. What it tells stands in `begun`."""
    found = adopted(task.begin, task.begin_generator)
    shape, generator = task.shapes
    _same(found, found.shape, shape, found.folder, HEAD if generator else set())
    told = found.told(shape, detects=generator is not None)
    with torch.no_grad():
        if isinstance(model, Detection):
            _begin_both(model, found, task)
        else:
            take(model, found.tensors, task, found.folder)
    told["grown"] = len(task.grown)
    model.begun = told | {"vocabulary": dict(task.compared), "settings": dict(found.settings)}  # type: ignore[assignment]


def _begin_both(both: Detection, found: Adopted, task: PretrainTask) -> None:
    if found.filler:
        shape, tensors = found.filler
        _same(found, shape, both.generator.shape, found.whence, set())
        take(both.generator, tensors, task, found.whence)
    last = {
        name.removeprefix(hub.DETECTOR): each for name, each in found.tensors.items() if name.startswith(hub.DETECTOR)
    }
    both.detector.load_state_dict(last or both.detector.state_dict())
    if both.sharing == "gdes":  # rows that the folder lacks are the generator's
        both.discriminator.embedding.weight.copy_(both.generator.embedding.weight)
    take(both.discriminator, found.tensors, task, found.folder)  # behind the generator: one table is this one's
    if both.sharing == "gdes":  # the generator has the table, and the discriminator a difference to it
        table, difference = both.generator.embedding.weight.data, both.discriminator.embedding.weight.data
        if not found.filler:
            table.copy_(difference)
        difference -= table


def _same(found: Adopted, theirs: Shape, ours: Shape, folder: str, besides: set[str]) -> None:
    mine, its = hub.plain(ours), hub.plain(theirs)
    names = [name for name in Shape.__dataclass_fields__ if name not in FREE | besides]
    if other := [name for name in names if getattr(its, name) != getattr(mine, name)]:
        told = ", ".join(f"{name} {getattr(theirs, name)!r} and not {getattr(ours, name)!r}" for name in other[:3])
        raise ValueError(f"{folder!r} holds a model with {told}; train one of its shape")


def take(model: Model, tensors: Mapping[str, Tensor], task: PretrainTask, folder: str) -> None:
    """Put weights of a folder into a model that has fresh ones; rows of a table that they lack stay fresh."""
    for name, weight in model.state_dict().items():
        if name not in tensors:
            continue
        given = tensors[name].to(weight.dtype)
        some = name in TABLES or (name in POSITIONS and len(given) >= len(weight))
        if given.shape[1:] != weight.shape[1:] or (len(given) != len(weight) and not some):
            raise ValueError(f"{name} of {folder!r} is of {tuple(given.shape)}, here of {tuple(weight.shape)}")
        rows = min(len(given), len(weight))
        weight[:rows].copy_(given[:rows])
        if name in TABLES:
            _grow(weight, given, task)


def _grow(weight: Tensor, given: Tensor, task: PretrainTask) -> None:
    """Rows of pieces that are new: the means of the rows of their parts; sentinels of spans lie behind them."""
    first = task.vocabulary - len(task.grown)
    if (most := max((max(parts) for parts in task.grown if parts), default=-1)) >= len(given):
        raise ValueError(
            f"a new piece is made of the {most:,}th, and the table of {task.begin} has {len(given):,} rows; give the "
            "vocabulary of its weights"
        )
    if task.grown and task.pieces > task.vocabulary:
        moved = given[first : first + SENTINELS]
        weight[task.vocabulary : task.vocabulary + len(moved)].copy_(moved)
    for piece, parts in enumerate(task.grown, first):
        if parts:
            weight[piece].copy_(given[list(parts)].double().mean(0))
