"""A training state at rest: whole or not at all.

    <uri>/step-000000400/model.safetensors                   each mapping of tensors of the state (checkpoint_parts),
    <uri>/step-000000400/model-00001-of-00003.safetensors    or what one of several ranks held of it
    <uri>/step-000000400/whole.json                          step, every plain value, size and SHA-256 of each file, and
                                                             of all this; written last

Promises: a checkpoint whose last file is missing, or whose bytes are not those it was sealed with, is passed over and
the one before it is used, which is said; what is whole stays until what replaces it is whole; nothing is unpickled.
Costs one write, and one reading to check, of each file. Refuses values that are neither tensors nor JSON, and to begin
anew because checkpoints cannot be read.

Here a state is saved and read by one process, all of it. `checkpoint_save.Saver` writes in the background and from
several ranks, each its share; `checkpoint_load.load` reads into tensors that are spread over any number of ranks.
"""

import hashlib
import json
import logging
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tundish.cluster import store
from tundish.cluster.checkpoint_parts import Part, in_order, read_box, read_header, total, views
from tundish.cluster.checkpoint_parts import write as write_parts

LOG = logging.getLogger("tundish.checkpoint")
SCHEMA = 2  # 1: one file per mapping, named by it; no digest of whole.json itself
WHOLE = "whole.json"

Groups = dict[str, Mapping[str, Tensor]]


class Torn(ValueError):
    """A checkpoint that is not used, and why; `unread` when it is not known what lies there."""

    def __init__(self, said: str, unread: bool = False) -> None:
        super().__init__(said, unread)
        self.said, self.unread = said, unread

    def __str__(self) -> str:
        return self.said


@dataclass(frozen=True)
class Sealed:
    """What `whole.json` says: by file its group, size and SHA-256, and the plain values."""

    folder: str
    step: int
    files: dict[str, dict[str, Any]]
    plain: dict[str, Any]


def folder_of(uri: str, step: int) -> str:
    return store.join(uri, f"step-{step:09d}")


def steps(uri: str) -> list[int]:
    """Steps of which something lies here, whole or torn, ascending."""
    numbers = (name.removeprefix("step-") for name in store.listing(uri) if name.startswith("step-"))
    return sorted(int(number) for number in numbers if number.isdigit())


def save(state: Mapping[str, Any], uri: str, step: int, *, keep: int = 2) -> None:
    """Write a state under its step, then forget all but the newest `keep`.

    A value is a mapping of names to tensors (any device, shapes kept) or plain JSON.
    """
    require_keep(keep)
    groups, plain = split(state)
    folder = folder_of(uri, step)
    mark, files = fresh(folder), {}
    for group, tensors in groups.items():
        parts = in_order(Part.whole(name, tensor) for name, tensor in tensors.items())
        buffer = torch.empty(total(parts), dtype=torch.uint8)
        for part, place in views(parts, buffer):
            place.copy_(tensors[part.name].detach())
        told = write_parts(store.join(folder, f"{group}{mark}.safetensors"), parts, buffer)
        files[f"{group}{mark}.safetensors"] = {"group": group, "size": told.size, "digest": told.digest}
    seal(folder, step, files, plain)
    prune(uri, step, keep)


def require_keep(keep: int) -> None:
    if keep < 1:
        raise ValueError(f"keeping {keep} checkpoints keeps none; keep at least 1")


def split(state: Mapping[str, Any]) -> tuple[Groups, str]:
    """The mappings of tensors of a state, and the rest as JSON: what is plain is taken as it is now."""
    groups: Groups = {}
    plain: dict[str, Any] = {}
    for name, value in state.items():
        if not re.fullmatch(r"\w[\w-]*", name):
            raise ValueError(f"{name!r} cannot name a part of a checkpoint; use letters, digits, _ and -")
        found = [isinstance(each, Tensor) for each in value.values()] if isinstance(value, Mapping) else []
        if any(found) and not all(found):
            raise ValueError(f"{name!r} mixes tensors with other values; put these under a name of their own")
        (groups if found and all(found) else plain)[name] = value
    try:
        return groups, json.dumps(plain)
    except TypeError as error:
        raise ValueError(
            f"of {', '.join(map(repr, plain))} not all is JSON ({error}); save numbers, texts, lists, mappings, or "
            "mappings of names to tensors"
        ) from error


def fresh(folder: str) -> str:
    """What files of a new attempt are named by, so that they lie beside those of a checkpoint of the same step."""
    return f"-{uuid.uuid4().hex[:8]}" if store.listing(folder) else ""


def seal(folder: str, step: int, files: Mapping[str, Mapping[str, Any]], plain: str) -> None:
    """Say that a checkpoint is whole, then remove what lay there before it."""
    for name, told in files.items():
        if (size := store.size(store.join(folder, name))) != told["size"]:
            raise ValueError(
                f"{store.join(folder, name)} has {size} bytes for the rank that seals and {told['size']} for the rank "
                "that wrote it; use a folder that all nodes share"
            )
    said = {"schema": SCHEMA, "step": step, "files": files, "plain": json.loads(plain)}
    store.write_json(store.join(folder, WHOLE), said | {"digest": _digest(said)})
    try:
        for name in set(store.listing(folder)) - {WHOLE, *files}:
            store.remove(store.join(folder, name))
    except (OSError, ValueError) as error:  # it is whole all the same
        LOG.warning("what lay in %s before it was sealed stays (%s)", folder, error)


def _digest(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def prune(uri: str, step: int, keep: int) -> None:
    """Of the checkpoints before a step that is whole, leave the `keep` - 1 newest that are sealed."""
    before = [each for each in steps(uri) if each < step]
    kept = [each for each in before if store.exists(store.join(folder_of(uri, each), WHOLE))][::-1][: keep - 1]
    for old in set(before) - set(kept):
        store.remove(folder_of(uri, old))


def drop_after(uri: str, step: int) -> None:
    """Remove the checkpoints after a step: they are of a course that is not gone on with."""
    for later in steps(uri)[::-1]:
        if later > step:
            store.remove(folder_of(uri, later))


def restore(uri: str) -> tuple[int, dict[str, Any]] | None:
    """Step and state of the newest whole checkpoint, tensors on the CPU; None when there is none."""
    passed = []
    for step in reversed(steps(uri)):
        try:
            return step, _state(sealed(uri, step))
        except Torn as torn:
            passed.append(tell(torn))
    require_read(uri, passed)
    return None


def read(uri: str, step: int) -> dict[str, Any] | None:
    """The state of one step; None where it is not whole."""
    try:
        return _state(sealed(uri, step))
    except Torn:
        return None


def latest(uri: str) -> int | None:
    """Step of the newest whole checkpoint; reads and checks its bytes."""
    found = restore(uri)
    return found[0] if found else None


def tell(torn: Torn) -> Torn:
    LOG.warning("a checkpoint is passed over: %s", torn)
    return torn


def require_read(uri: str, passed: Iterable[Torn]) -> None:
    """None of these was whole. Where one could not even be read, that is no reason to begin anew."""
    if unread := [torn for torn in passed if torn.unread]:
        raise ValueError(f"no checkpoint under {uri!r} can be used ({unread[0]}); mend that, or give another folder")


def sealed(uri: str, step: int) -> Sealed:
    """What a checkpoint says of itself; its files are not looked at yet."""
    folder = folder_of(uri, step)
    whole = store.join(folder, WHOLE)
    try:
        said = store.read_json(whole)
    except ValueError as error:
        half = isinstance(error, (json.JSONDecodeError, UnicodeDecodeError))
        raise Torn(f"{whole} is not whole" if half else str(error), unread=not half) from error
    if said is None:
        raise Torn(f"{whole} was never written")
    schema = said.get("schema") if isinstance(said, dict) else None
    if schema not in (1, SCHEMA):
        raise Torn(f"{whole} is of schema {schema!r}, and {SCHEMA} is known")
    if schema == SCHEMA and said.pop("digest", None) != _digest(said):
        raise Torn(f"{whole} is not what was sealed")
    files = said["files"]
    if schema == 1:  # by group
        files = {f"{group}.safetensors": {"group": group, **told} for group, told in files.items()}
    return Sealed(folder, step, files, said["plain"])


def check(found: Sealed, names: Iterable[str]) -> None:
    """Whether files of a checkpoint are what was sealed; costs a reading of each."""
    for name in names:
        file, told = store.join(found.folder, name), found.files[name]
        try:
            size = store.size(file)
            if size is None:
                raise Torn(f"{file} is gone")
            if size != told["size"]:
                raise Torn(f"{file} has {size} bytes and was sealed with {told['size']}")
            if store.digest(file) != told["digest"]:
                raise Torn(f"the bytes of {file} changed after it was sealed")
        except Torn:
            raise
        except ValueError as error:
            raise Torn(str(error), unread=True) from error


def _state(found: Sealed) -> dict[str, Any]:
    check(found, found.files)
    state: dict[str, Any] = dict(found.plain)
    for name, told in found.files.items():
        tensors = state.setdefault(told["group"], {})
        with store.opened(store.join(found.folder, name)) as stream:
            for part, begin in read_header(stream):
                box = read_box(stream, part, begin, (0,) * len(part.sizes), part.sizes)
                if part.sizes == part.shape:
                    tensors[part.name] = box
                    continue
                target = tensors.setdefault(part.name, torch.empty(part.shape, dtype=part.dtype))
                target[tuple(slice(at, at + size) for at, size in zip(part.offsets, part.sizes, strict=True))] = box
    return state
