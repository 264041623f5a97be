"""A training state at rest: whole or not at all.

    <uri>/step-000000400/model.safetensors       each mapping of tensors of the state
    <uri>/step-000000400/optimizer.safetensors
    <uri>/step-000000400/whole.json              step, every plain value, size and SHA-256 of each file; written last

Promises: a checkpoint whose last file is missing, or whose bytes are not those it was sealed with, is passed over and
the one before it is used; nothing is unpickled. Costs one write, and one reading to check, of each file. Refuses
values that are neither tensors nor JSON.
"""

from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

from tundish.cluster import store

SCHEMA = 1
WHOLE = "whole.json"


def _folder(uri: str, step: int) -> str:
    return store.join(uri, f"step-{step:09d}")


def steps(uri: str) -> list[int]:
    """Steps of which something lies here, whole or torn, ascending."""
    numbers = (name.removeprefix("step-") for name in store.listing(uri) if name.startswith("step-"))
    return sorted(int(number) for number in numbers if number.isdigit())


def save(state: Mapping[str, Any], uri: str, step: int, *, keep: int = 2) -> None:
    """Write a state under its step, then forget all but the newest `keep`.

    A value is a mapping of names to tensors (any device, any dtype, shapes kept) or plain JSON.
    """
    if keep < 1:
        raise ValueError(f"keeping {keep} checkpoints keeps none; keep at least 1")
    folder = _folder(uri, step)
    store.remove(folder)
    files, plain = {}, {}
    for name, value in state.items():
        if not _is_tensors(value):
            plain[name] = value
            continue
        body = bytes_of({key: _still(tensor) for key, tensor in value.items()})
        told = store.write(store.join(folder, f"{name}.safetensors"), body)
        files[name] = {"size": told.size, "digest": told.digest}
    store.write_json(store.join(folder, WHOLE), {"schema": SCHEMA, "step": step, "files": files, "plain": plain})
    before = [each for each in steps(uri) if each < step]
    kept = [each for each in before if store.exists(store.join(_folder(uri, each), WHOLE))][::-1][: keep - 1]
    for old in set(before) - set(kept):
        store.remove(_folder(uri, old))


def _is_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(each, torch.Tensor) for each in value.values())


def _still(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous()


def restore(uri: str) -> tuple[int, dict[str, Any]] | None:
    """Step and state of the newest whole checkpoint, tensors on the CPU; None when there is none."""
    for step in reversed(steps(uri)):
        if (state := _read(_folder(uri, step))) is not None:
            return step, state
    return None


def read(uri: str, step: int) -> dict[str, Any] | None:
    """The state of one step; None where it is not whole."""
    return _read(_folder(uri, step))


def latest(uri: str) -> int | None:
    """Step of the newest whole checkpoint; reads and checks its bytes."""
    found = restore(uri)
    return found[0] if found else None


def _read(folder: str) -> dict[str, Any] | None:
    """The state in a folder; None when anything of it is missing or changed."""
    try:
        whole = store.read_json(store.join(folder, WHOLE))
        if not isinstance(whole, dict) or whole.get("schema") != SCHEMA:
            return None
        return dict(whole["plain"]) | {name: _checked(folder, name, told) for name, told in whole["files"].items()}
    except (ValueError, KeyError, OSError):  # torn: half a JSON, a file gone, bytes that changed
        return None


def _checked(folder: str, name: str, told: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    file = store.join(folder, f"{name}.safetensors")
    if store.size(file) != told["size"] or store.digest(file) != told["digest"]:
        raise ValueError(f"{file} is not what was sealed; the checkpoint before it is used")
    return tensors_of(store.read(file))
