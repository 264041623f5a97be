"""What a bare machine lacks, as far as `gpu.py` needs it: rows and masks without numba, and no files of weights.

Where numba is missing, rows are cut and filled by numpy, a segment at a time, and tokens hidden by the operator that
does it on a GPU (`operators/model/masking`), which gives the same bits as the kernel. Nothing else is trained on:
spans, words and text to text need numba. Costs a sort a row in the thread that runs ahead of the training.
"""

import importlib.util
import sys
import types
from typing import Any

import numpy as np

LATER = {  # what files of weights and vocabularies are read and written by: nothing here does either
    "safetensors": ("safetensors", "safetensors.torch"),
    "tokenizers": ("tokenizers",),
    "sentencepiece": ("sentencepiece",),
    "numba": ("tundish.stages.pretrain_pieces",),  # compares vocabularies of folders with a corpus's
}


def prepare() -> tuple[str, ...]:
    """Before anything of tundish is imported: stand in for what is missing, and tell its names."""
    missing = tuple(name for name in LATER if not _there(name))
    if "numba" in missing:
        machine = types.ModuleType("tundish.operators.text.kernels.machine")
        machine.U64, machine.I64, machine.ONE = np.uint64, np.int64, np.uint64(1)  # type: ignore[attr-defined]
        machine.kernel = machine.inner = machine.allocating = refusing  # type: ignore[attr-defined]
        machine.sealed = lambda array: array  # type: ignore[attr-defined]
        machine.__getattr__ = later  # type: ignore[method-assign]
        sys.modules[machine.__name__] = machine
    for name in missing:
        for part in LATER.get(name, ()):
            module = types.ModuleType(part)
            module.__getattr__ = later  # type: ignore[method-assign]
            sys.modules[part] = module
    return missing


def later(wanted: str) -> Any:
    """What a module that is not there has: a function that says so when it is called."""
    if wanted.startswith("__"):
        raise AttributeError(wanted)
    return refusing(wanted)


def _there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def install(missing: tuple[str, ...]) -> None:
    """After it was imported: numpy's way in the kernels' places."""
    if "numba" in missing:
        from tundish.operators.model import hiding, kernels

        kernels.cut, kernels.fill, kernels.joined = cut, fill, joined
        hiding.hide = hide


def refusing(what: Any) -> Any:
    """A function that is not there."""
    name = what if isinstance(what, str) else what.__name__

    def refused(*given: Any, **named: Any) -> None:
        raise ModuleNotFoundError(f"{name} needs numba, safetensors or tokenizers, which are not all here")

    return refused


def cut(offsets: np.ndarray, row: int, room: int, spare: int, starts: np.ndarray) -> tuple[int, int]:
    """See `kernels.cut`."""
    rows, used, segments = 0, row, 0
    for at, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        while at < end:
            size, left = min(room, end - at), row - used
            if size + 2 > left and left > spare:
                size = left - 2
            elif size + 2 > left:
                starts[rows] = at
                rows, used = rows + 1, 0
                continue
            at, used, segments = at + size, used + size + 2, segments + 1
    starts[rows] = offsets[-1]
    return rows, segments


def fill(
    tokens: np.ndarray,
    offsets: np.ndarray,
    starts: np.ndarray,
    rows: np.ndarray,
    slots: np.ndarray,
    room: int,
    frame: np.ndarray,
    out: np.ndarray,
    bounds: np.ndarray,
    ends: np.ndarray,
    sizes: np.ndarray,
) -> None:
    """See `kernels.fill`."""
    for slot, number in zip(slots.tolist(), rows.tolist(), strict=True):
        at, end, place, segments = int(starts[number]), int(starts[number + 1]), 0, 0
        document = int(np.searchsorted(offsets, at, "right")) - 1
        while at < end:
            while offsets[document + 1] <= at:
                document += 1
            stop = min(end, int(offsets[document + 1]), at + room)
            bounds[slot, segments], segments = place, segments + 1
            out[slot, place], out[slot, place + 1 + stop - at] = frame[0], frame[1]
            out[slot, place + 1 : place + 1 + stop - at] = tokens[at:stop]
            place, at = place + 2 + stop - at, stop
        sizes[slot] = place
        if place < out.shape[1]:
            bounds[slot, segments], segments = place, segments + 1
            out[slot, place:] = frame[2]
        ends[slot] = segments


def joined(bounds: np.ndarray, ends: np.ndarray, row: int, flat: np.ndarray) -> None:
    """See `kernels.joined`."""
    each = [slot * row + bounds[slot, : ends[slot]] for slot in range(len(ends))]
    flat[:] = np.concatenate([*each, [len(ends) * row]])


def hide(tokens: np.ndarray, keys: np.ndarray, epochs: np.ndarray, hiding: Any, masked: Any, rate: float | None) -> Any:
    """See `hiding.hide`; single tokens alone."""
    import torch

    from tundish.operators.model import masking
    from tundish.operators.model.hiding import Hidden

    if masked.unit != "token":
        raise ModuleNotFoundError(f"a {masked.unit} is hidden by a kernel, which needs numba; install it")
    inputs, labels, told = masking.mask(
        torch.from_numpy(tokens).long(),
        torch.from_numpy(keys.view(np.int64)),
        torch.from_numpy(np.asarray(epochs, np.int64)),
        seed=hiding.seed,
        rate=float(next(each for each in (rate, masked.rate, hiding.rate) if each is not None)),
        vocabulary=hiding.vocabulary,
        specials=[each for each in hiding.specials.values() if each < hiding.vocabulary],
        mask_id=hiding.specials["[MASK]"],
        shares=masked.shares,
    )
    found = labels != -100
    places = found.flatten().nonzero().squeeze(1).numpy()
    digest = int(told) % 2**64
    return Hidden(inputs.int().numpy(), places, labels.flatten().numpy()[places], found.sum(1).numpy(), digest)
