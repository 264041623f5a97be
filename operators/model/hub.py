"""Models as Hugging Face's transformers keep them: their configuration and weights as ours, and back.

    found = read(config, tensors)                  found.shape, found.tensors: for `Model(shape).load_state_dict`
    config, tensors = written(shape, tensors)      for `from_pretrained`

Promises: the same logits either way (what would change them is refused by name); reading and writing again gives the
same bits; vocabularies keep their size; what was not used is told. Knows no disk. Costs what joining queries, keys and
values costs. Refuses architectures it has no map for, and weights that are missing, unknown or of another size.

A discriminator's last layers come as `detector.…`, for `Detector(shape)`.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import MISSING, fields, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from tundish.operators.model import hub_bert, hub_deberta, hub_gpt, hub_modernbert, hub_t5
from tundish.operators.model.family import Detector, Model
from tundish.operators.model.hub_kin import IDS, Kin, Settings, joined, parted
from tundish.operators.model.shape import Shape

V = TypeVar("V")
KINS: dict[str, Kin] = {
    name: kin for each in (hub_bert, hub_deberta, hub_t5, hub_gpt, hub_modernbert) for name, kin in each.KINS.items()
}
USUAL = {}  # what a configuration without architectures is taken for: the first of its family
for _name, _kin in KINS.items():
    USUAL.setdefault(_kin.family, _name)
OLDER = {"T5WithLMHeadModel": "T5ForConditionalGeneration"}  # what the first checkpoints of T5 call it
DETECTOR = "detector."
HEADS = ("head.", DETECTOR, "pooler.", "follows.")  # parts that may be begun anew; all else is the trunk
TRUNKS = {"electra": "ElectraForPreTraining"}  # what a trunk alone is of, where that is not the usual
BARE = {"DebertaV2Model"}  # that are written as a trunk alone; a head is put on what is read
PREFIXES = {  # how names of a trunk begin
    "bert": ("bert.",),
    "roberta": ("roberta.",),
    "electra": ("electra.",),
    "albert": ("albert.",),
    "deberta-v2": ("deberta.",),
    "gpt2": ("transformer.",),
    "modernbert": ("model.",),
    "t5": ("shared.", "encoder.", "decoder."),
    "switch_transformers": ("shared.", "encoder.", "decoder."),
}


class Found(NamedTuple):
    """`shape` and `tensors` by our names, in the precision they came in. `architecture` and `config` as they were.
    `left`: weights this model has no use for; `unread`: settings nobody asked for; `lacking`: what is not there."""

    shape: Shape
    tensors: dict[str, Tensor]
    architecture: str
    config: dict[str, Any]
    left: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()


def architecture_of(config: Mapping[str, Any], *, partial: bool = False) -> str:
    """The architecture a configuration is of; `partial`: or that whose trunk it has, whatever its head is for."""
    for name, empty in (("auto_map", {}), ("quantization_config", {}), ("pruned_heads", {})):
        if config.get(name) not in (None, empty):
            raise ValueError(f"{name} is {config[name]!r}, which changes the model; give one without it")
    listed = [OLDER.get(each, each) for each in config.get("architectures") or []]
    family = config.get("model_type")
    usual = TRUNKS.get(str(family)) or USUAL.get(str(family)) if partial and listed else USUAL.get(str(family))
    known = [each for each in listed if each in KINS and not (partial and each in BARE)]
    name = next(iter(known), None if listed and not partial else usual)
    if name is None or family not in (None, KINS[name].family):
        said = f"architectures {listed} of model_type {family!r}"
        raise ValueError(f"{said} are none that tundish knows; give one of {', '.join(KINS)}")
    return name


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape a configuration says; whether the vocabulary's table is tied only as far as it says that too."""
    return KINS[architecture_of(config)].shape(Settings(config))


def read(config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, partial: bool = False) -> Found:
    """From a configuration and the weights beside it. `partial`: heads may be missing, or be for something else; a
    trunk may not."""
    name = architecture_of(config, partial=partial)
    kin, settings = KINS[name], Settings(config)
    shape, now = kin.shape(settings), _as_now(kin, _prefixed(kin, tensors) if partial else tensors)
    theirs, tied = _without_copies(kin, now)
    if kin.copies and not kin.detector:
        apart = partial and kin.copies[0][0] not in now and config.get("tie_word_embeddings") is False
        shape = replace(shape, tied=tied and not apart)
    legacy = not any(each.startswith(hub_deberta.NEW) for each in theirs)
    weights = kin.weights(shape, {**config, "legacy": legacy})
    lacking = tuple(each.ours for each in weights if partial and not set(each.theirs) <= theirs.keys())
    if gone := [each for each in weights if each.ours in lacking and not each.ours.startswith(HEADS)]:
        names = [one for each in gone for one in each.theirs if one not in theirs]
        raise ValueError(f"{_some(names)} missing from the trunk's weights; give a folder that holds a whole {name}")
    wanted = [one for each in weights if each.ours not in lacking for one in each.theirs]
    _complete(wanted, theirs, kin, partial=partial)
    ours = {
        each.ours: joined(each, [theirs[one] for one in each.theirs]) for each in weights if each.ours not in lacking
    }
    _fitting(shape, kin, ours, lacking)
    left = tuple(sorted(set(theirs) - set(wanted)))
    return Found(shape, ours, name, dict(config), left, settings.unread(), lacking)


def copies_in(config: Mapping[str, Any], names: Iterable[str], *, partial: bool = False) -> list[tuple[str, str]]:
    """Pairs of these names of weights, each a copy and what it may be a copy of. Whoever gives `read` an outline
    (weights on the meta device) leaves out those copies that are equal; there, two that are left are two."""
    kin = KINS[architecture_of(config, partial=partial)]
    given = {name: name for name in names}
    now = _as_now(kin, _prefixed(kin, given) if partial else given)
    return [(now[copy], now[first]) for copy, first in kin.copies if copy in now and first in now]


def _prefixed(kin: Kin, tensors: Mapping[str, V]) -> Mapping[str, V]:
    """A trunk that was saved by itself, under the names it has below a head."""
    first, *others = PREFIXES[kin.family]
    if others or any(name.startswith(first) for name in tensors):
        return tensors
    return {first + name: tensor for name, tensor in tensors.items()}


def _as_now(kin: Kin, tensors: Mapping[str, V]) -> dict[str, V]:
    """By the names of today."""
    found = {}
    for name, tensor in tensors.items():
        for older, now in kin.older:
            name = name.replace(older, now)
        found[name] = tensor
    return found


def _without_copies(kin: Kin, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Without what is held twice, and whether the vocabulary's table was."""
    found, tied = dict(tensors), True
    for place, (copy, first) in enumerate(kin.copies):
        if copy not in found:
            continue
        if first not in found or _equal(found[first], found[copy]):
            found[first] = found.pop(copy)
        elif place == 0:
            tied = False
        elif copy.endswith(".bias"):  # two weights where the table is not tied, and this is the one that is added
            found[first] = found.pop(copy)
        else:
            raise ValueError(f"{copy} and {first} are two different weights and one here; give a model that ties them")
    return found, tied


def _equal(one: Tensor, other: Tensor) -> bool:
    return not one.is_meta and torch.equal(one, other)  # of an outline: see `copies_in`


def _complete(wanted: list[str], theirs: Mapping[str, Tensor], kin: Kin, *, partial: bool) -> None:
    missing = [each for each in wanted if each not in theirs]
    if missing:
        raise ValueError(
            f"{_some(missing)} missing from the weights; give a folder whose weights fit its configuration"
        )
    known = set(wanted)
    unknown = [each for each in theirs if each not in known and not any(part in f".{each}" for part in _left(kin))]
    if partial:  # what lies on the trunk may be for any task
        unknown = [each for each in unknown if each.startswith(PREFIXES[kin.family])]
    if unknown:
        raise ValueError(f"{_some(unknown)} among the weights and in no place of the model; give a folder that fits")


def _left(kin: Kin) -> tuple[str, ...]:
    """Parts of names, each beginning where a name of a part begins."""
    return tuple(each if each.startswith(".") else f".{each}" for each in kin.left)


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more are' if len(names) > 3 else ' is'}"


def _fitting(shape: Shape, kin: Kin, ours: Mapping[str, Tensor], lacking: Container[str] = ()) -> None:
    """Whether these are the weights of a model of the shape."""
    sizes = sizes_of(shape, detector=kin.detector)
    if missing := [name for name in sizes if name not in ours and name not in lacking]:
        raise ValueError(f"{_some(missing)} missing from the weights; give those of a model of this shape")
    for name, tensor in ours.items():
        if name not in sizes or tuple(tensor.shape) != sizes[name]:
            known = sizes.get(name, "no weight of the model")
            raise ValueError(f"{name} is {tuple(tensor.shape)} and should be {known}; give weights and shape that fit")
        if not tensor.is_floating_point():
            raise ValueError(f"{name} holds {tensor.dtype} and no fractions; give weights that are not quantised")


def sizes_of(shape: Shape, *, detector: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and sizes of all weights of a model, and of a discriminator's last layers; nothing is allocated."""
    with torch.device("meta"):
        found = dict(Model(shape).state_dict())
        if detector:
            found |= {DETECTOR + name: each for name, each in Detector(shape).state_dict().items()}
    return {name: tuple(each.shape) for name, each in found.items()}


def written(
    shape: Shape, tensors: Mapping[str, Tensor], architecture: str = "", besides: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights of theirs. `architecture`: the first that computes what the shape says, if not given;
    `besides`: settings that do not change the numbers (numbers of special tokens, an earlier configuration)."""
    name = architecture or architecture_for(shape)
    if name not in KINS:
        raise ValueError(f"{name!r} is no architecture tundish writes; choose one of {', '.join(KINS)}")
    config = config_of(shape, name, besides or {})
    if name in BARE:
        tensors = {each: tensor for each, tensor in tensors.items() if not each.startswith(HEADS)}
    if differs := _differing(shape, KINS[name].shape(Settings(config))):
        raise ValueError(f"a {name} has no place for {differs}; give another architecture or shape")
    _fitting(shape, KINS[name], tensors)
    found = {}
    for weight in KINS[name].weights(shape, config):
        found |= dict(zip(weight.theirs, parted(weight, tensors[weight.ours]), strict=True))
    if not shape.tied and not KINS[name].bound:
        found |= {copy: found[first].clone() for copy, first in KINS[name].copies[1:] if first in found}
    return config, found


def config_of(shape: Shape, architecture: str, besides: Mapping[str, Any]) -> dict[str, Any]:
    """Their configuration. Numbers of special tokens are nothing unless told: their defaults may lie beyond the
    vocabulary."""
    kin = KINS[architecture]
    mine = kin.config(shape)
    kept = {key: value for key, value in besides.items() if key not in mine or mine[key] is None}
    named = {"architectures": [architecture], "model_type": kin.family}
    return dict.fromkeys(IDS) | mine | kept | named


def architecture_for(shape: Shape, wish: str = "") -> str:
    """The first architecture that computes what a shape says; the one wished for, if it does."""
    nearest = {}
    for name, kin in sorted(KINS.items(), key=lambda each: each[0] != wish):
        try:
            back = kin.shape(Settings(config_of(shape, name, {})))
        except (ValueError, KeyError, StopIteration):
            continue
        if not (differs := _differing(shape, back)):
            return name
        nearest[name] = differs
    name = min(nearest, key=lambda each: nearest[each].count(","), default="")
    least = f"; nearest is {name}, which has no place for {nearest[name]}" if name else ""
    raise ValueError(f"no architecture of theirs computes what this shape says{least}; give another shape")


def _differing(shape: Shape, back: Shape) -> str:
    """Which of a shape's choices were lost on the way, in words; nothing if none."""
    mine, its = plain(shape), plain(back)
    lost = [each.name for each in fields(Shape) if getattr(mine, each.name) != getattr(its, each.name)]
    return ", ".join(f"{name} {getattr(shape, name)!r}" for name in lost)


def plain(shape: Shape) -> Shape:
    """A shape without what does not tell in its numbers: sizes of parts it has not, and what only training knows."""
    quiet = {"dropout", "capacity"}
    if shape.positions != "rotary":
        quiet |= {"theta", "theta_local"}
    if not any(shape.local(layer) for layer in range(shape.layers)):
        quiet |= {"window", "theta_local", "every"}
    if shape.positions not in ("buckets", "disentangled"):
        quiet |= {"buckets", "distance"}
    if shape.positions != "disentangled":
        quiet |= {"far_norm"}
    if shape.positions != "learned" and not shape.absolute:
        quiet |= {"offset"}
    if shape.norm == "post":
        quiet |= {"first_norm"}
    if not shape.experts:
        quiet |= {"sparse"}
    usual = {each.name: each.default for each in fields(Shape) if each.default is not MISSING}
    found: dict[str, Any] = {name: usual[name] for name in quiet}
    if shape.every > shape.layers and "every" not in quiet:
        found["every"] = shape.layers
    if shape.embedding == shape.width:
        found["embedding"] = 0
    if shape.head * shape.heads == shape.width:
        found["head"] = 0
    return replace(shape, **found)
