"""Folders of models as Hugging Face lays them: read, and written so that `from_pretrained` loads them.

What pretraining leaves is read as well.

    config.json                                       what the model is
    model.safetensors                                 its weights
    model.safetensors.index.json, model-0000….safetensors     or these, where they are several files

Promises: reads and writes nothing else, runs no code that lies there, and asks no network; a written folder has its
configuration last, so one that has a configuration is whole. Costs the weights once in memory, twice while what is not
on this machine is read; of an outline 2 x 16 MB, while tables that may be one are compared where they lie. Refuses
pickles: unpacking `pytorch_model.bin` runs what lies in it.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from safetensors.torch import save as bytes_of
from torch import Tensor

from tundish.cluster import store
from tundish.operators.model import hub
from tundish.operators.model.heads import TRUNK as PART
from tundish.operators.model.hub import Found
from tundish.operators.model.shape import Shape

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
GENERATOR = "generator.safetensors"
DISCRIMINATOR, TRUNK = "ElectraForPreTraining", "DebertaV2Model"
PIECES = "pieces"  # of a configuration of ours, or written from one: ids that had a meaning, and rows of the table
KINDS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # others hold no fractions
MOST = 100_000_000  # bytes of a header, as safetensors has it
PIECE = 1 << 24  # bytes of a weight that are compared at once
SPECIALS = {  # their settings, and our tokens
    "pad_token_id": "[PAD]",
    "bos_token_id": "[CLS]",
    "eos_token_id": "[SEP]",
    "cls_token_id": "[CLS]",
    "sep_token_id": "[SEP]",
    "mask_token_id": "[MASK]",
}
T = TypeVar("T")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Lying(NamedTuple):
    """Where a weight lies in a file: bytes `first` to `last`; `kind` None: of numbers that are no fractions."""

    uri: str
    kind: torch.dtype | None
    size: tuple[int, ...]
    first: int
    last: int


def read(folder: str, *, partial: bool = False, outlined: bool = False) -> Found:
    """The model that lies in a folder. `partial`: its heads may be missing, or be for something else. `outlined`: sizes
    alone, of which nothing is read but what tells whether two tables are one."""
    config = store.read_json(store.join(folder, CONFIG))
    if not isinstance(config, dict):
        raise ValueError(f"{folder} holds no {CONFIG} of a model; give the folder that has one")
    if isinstance(config.get("shape"), dict):
        return _ours(config, folder, outlined=outlined)
    hub.architecture_of(config, partial=partial)  # refused before its weights are looked for
    return hub.read(config, _outline(config, folder, partial) if outlined else tensors_in(folder), partial=partial)


def weights_of(folder: str) -> tuple[Shape, dict[str, Tensor]]:
    """Shape and weights of the trunk in a folder, whatever its head is for."""
    found = read(folder, partial=True)
    return found.shape, found.tensors


def _ours(config: Mapping[str, Any], folder: str, *, outlined: bool = False) -> Found:
    """What pretraining left; of a detection the discriminator, which has no head over the vocabulary. Where it began
    from a folder of others, it goes back to their architecture, with their settings."""
    shape, detection = _shape(config["shape"], folder), config.get("kind") == "detection"
    if detection:
        shape = replace(shape, transform=False, head_bias=False, tied=True)
    specials, begun = config.get("specials", {}), config.get("begun", {})
    besides = {name: specials.get(token) for name, token in SPECIALS.items()} | begun.get("settings", {})
    besides |= {PIECES: config[PIECES]} if PIECES in config else {}
    if detection:
        architecture = DISCRIMINATOR if shape.positions != "disentangled" else TRUNK
    else:
        architecture = hub.architecture_for(shape, begun["architecture"]) if begun.get("architecture") else ""
    tensors, left = _sketched(_joined(folder, _lying)) if outlined else tensors_in(folder), ()
    if str(config.get("kind", "")).startswith("tuned"):
        tensors = _trunk(tensors, folder)
    if architecture == TRUNK:  # theirs has no class for what tells replaced tokens on it
        left = tuple(name for name in tensors if name.startswith(hub.DETECTOR))
    return Found(shape, tensors, architecture, besides, left)


def _trunk(tensors: Mapping[str, Tensor], folder: str) -> dict[str, Tensor]:
    """Of what was fine-tuned here all but its head; what was made smaller (`stages/compress_read`) has another form."""
    if any(name.endswith((".body", ".scale")) for name in tensors):
        raise ValueError(f"{folder} holds a model in bytes, which is not trained on; give the one it was made of")
    return {name.removeprefix(PART): each for name, each in tensors.items() if name.startswith(PART)}


def _shape(fields: Mapping[str, Any], folder: str) -> Shape:
    try:
        return Shape(**fields)
    except TypeError as error:
        raise ValueError(f"{folder}/{CONFIG} says a shape that is none here ({error}); give a folder of ours") from None


def generator_of(folder: str, *, outlined: bool = False) -> tuple[Shape, dict[str, Tensor]] | None:
    """The generator that our own detection left beside its discriminator."""
    config, uri = store.read_json(store.join(folder, CONFIG)) or {}, store.join(folder, GENERATOR)
    if not isinstance(config.get("generator"), dict) or not store.exists(uri):
        return None
    return _shape(config["generator"], folder), _sketched(_lying(uri)) if outlined else _file(uri)


def tensors_in(folder: str) -> dict[str, Tensor]:
    """All weights of a folder; one file, or those its index lists."""
    return _joined(folder, _file)


def _outline(config: Mapping[str, Any], folder: str, partial: bool) -> dict[str, Tensor]:
    """The weights of a folder by name and size, without their numbers; a copy of another one is left out."""
    found = _joined(folder, _lying)
    for copy, first in hub.copies_in(config, found, partial=partial):
        if first in found and _same(found[copy], found[first]):
            del found[copy]
    return _sketched(found)


def _sketched(found: Mapping[str, Lying]) -> dict[str, Tensor]:
    return {name: torch.empty(one.size, dtype=one.kind or torch.int8, device="meta") for name, one in found.items()}


def _same(one: Lying, other: Lying) -> bool:
    """Whether two weights are equal, a piece of both in memory at a time."""
    if one[1:3] != other[1:3]:
        return False
    kind, size = one.kind or torch.uint8, one.last - one.first
    with store.opened(one.uri) as mine, store.opened(other.uri) as its:
        for at in range(0, size, PIECE):
            read = [
                torch.frombuffer(bytearray(stream.read_at(min(PIECE, size - at), place.first + at)), dtype=kind)
                for stream, place in ((mine, one), (its, other))
            ]
            if not torch.equal(*read):
                return False
    return True


def files_of(folder: str) -> list[str]:
    """Names of the files that hold the weights of a folder."""
    if store.exists(store.join(folder, WEIGHTS)):
        return [WEIGHTS]
    index = store.read_json(store.join(folder, INDEX))
    if index is None:
        if any(store.exists(store.join(folder, name)) for name in PICKLES):
            raise ValueError(
                f"the weights in {folder} are pickled ({PICKLES[0]}), and unpacking a pickle runs what lies in it; "
                "save them as safetensors where you trust them"
            )
        raise ValueError(f"{folder} holds neither {WEIGHTS} nor {INDEX}; give a folder with the model's weights")
    names = sorted(set(index.get("weight_map", {}).values()))
    for name in names:
        if "/" in name or not store.exists(store.join(folder, name)):
            raise ValueError(f"{INDEX} lists {name!r}, which is not in {folder}; copy all files of the model")
    return names


def _joined(folder: str, one: Callable[[str], dict[str, T]]) -> dict[str, T]:
    names, found = files_of(folder), dict[str, T]()
    for name in names:
        found |= one(store.join(folder, name))
    placed = {} if names == [WEIGHTS] else store.read_json(store.join(folder, INDEX))["weight_map"]
    if missing := sorted(set(placed) - set(found)):
        raise ValueError(f"{INDEX} promises {missing[0]}, which no file of {folder} holds; copy the model anew")
    return found


def _lying(uri: str) -> dict[str, Lying]:
    """The weights of a file, as its first bytes say them."""
    try:
        with store.opened(uri) as stream:
            size = int.from_bytes(stream.read(8), "little")
            said = json.loads(stream.read(size)) if size < MOST else {}
        said.pop("__metadata__", None)
        ends = [each["data_offsets"][1] for each in said.values()]
        if not ends or 8 + size + max(ends) != store.size(uri):
            raise ValueError("its end is not where it says")
        return {name: _placed(uri, 8 + size, each) for name, each in said.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{uri} is no whole safetensors file ({error}); copy it anew") from None


def _placed(uri: str, start: int, said: Mapping[str, Any]) -> Lying:
    kind = getattr(torch, KINDS[said["dtype"]]) if said["dtype"] in KINDS else None
    first, last = said["data_offsets"]
    size = tuple(map(int, said["shape"]))
    if kind is not None and math.prod(size) * kind.itemsize != last - first:
        raise ValueError(f"{size} numbers are not where it says")
    return Lying(uri, kind, size, start + first, start + last)


def _file(uri: str) -> dict[str, Tensor]:
    path = store.local(uri)
    try:
        return load_file(path) if path else load(store.read(uri))
    except SafetensorError as error:
        raise ValueError(f"{uri} is no whole safetensors file ({error}); copy it anew") from error


def write(
    folder: str,
    shape: Shape,
    tensors: Mapping[str, Tensor],
    *,
    architecture: str = "",
    precision: str = "float32",
    besides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Lay a model into a folder for `from_pretrained`; its configuration is given back. `besides`: settings that do
    not change the numbers, such as `pad_token_id` or those of the configuration it was read from."""
    _known(precision)
    config, theirs = hub.written(shape, tensors, architecture, besides)
    return lay(folder, config, theirs, precision)


def lay(
    folder: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], precision: str, *, checked: bool = False
) -> dict[str, Any]:
    """Weights under their names and then the configuration beside them, which is given back. `checked`: the weights
    are read again and held against what was given before there is a configuration."""
    told = {name: each for name, each in config.items() if name != "torch_dtype"}  # of before version 5
    kept = {name: each.detach().to("cpu", _known(precision)).contiguous() for name, each in tensors.items()}
    store.write(store.join(folder, WEIGHTS), bytes_of(kept, metadata={"format": "pt"}))
    back = _file(store.join(folder, WEIGHTS)) if checked else kept
    if wrong := [name for name, each in kept.items() if name not in back or not torch.equal(back[name], each)]:
        raise RuntimeError(f"{wrong[0]} in {folder} is not what was given to be written; write it anew")
    store.write_json(store.join(folder, CONFIG), told | {"dtype": precision})
    return told | {"dtype": precision}


def _known(precision: str) -> torch.dtype:
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is none of weights; choose one of {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]
