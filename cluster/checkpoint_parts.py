"""The files of a checkpoint: safetensors whose tensors may be parts of larger ones.

    8 bytes          length of the header
    header           JSON: of each tensor its dtype, shape and bytes; under "__metadata__", of each part of a larger
                     tensor, where it begins and how large the whole is
    data             the tensors, one after the other, those of wide elements first, so that every one is aligned

Promises: the data lies in the file as it lies in one buffer, so a file is written in one go and a part is read without
what lies around it; any safetensors reader opens it; nothing is unpickled. Refuses dtypes that the format has not.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tundish.cluster import store

BLOCK = 1 << 24  # bytes given to a file at once
PARTS = "parts"  # in the header's metadata: {name: [offsets, shape of the whole]}
LONGEST = 100 << 20  # of a header, as safetensors has it
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Part:
    """A box of a tensor; often all of it.

    >>> Part("w", torch.float32, (4, 2), (2, 0), (2, 2)).bytes
    16
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]  # of the whole tensor
    offsets: tuple[int, ...]  # where the box begins in it
    sizes: tuple[int, ...]  # of the box

    @classmethod
    def whole(cls, name: str, tensor: Tensor) -> "Part":
        shape = tuple(tensor.shape)
        return cls(name, tensor.dtype, shape, (0,) * len(shape), shape)

    @property
    def bytes(self) -> int:
        return math.prod(self.sizes) * self.dtype.itemsize


def in_order(parts: Iterable[Part]) -> list[Part]:
    """As they lie in a file."""
    found = sorted(parts, key=lambda part: (-part.dtype.itemsize, part.name))
    assert len({part.name for part in found}) == len(found), "a rank holds one box of each tensor"
    for part in found:
        if part.dtype not in NAMES:
            raise ValueError(
                f"tensor {part.name!r} is of {part.dtype}, which safetensors has not; save it as another dtype"
            )
    return found


def total(parts: Iterable[Part]) -> int:
    return sum(part.bytes for part in parts)


def views(parts: Sequence[Part], buffer: Tensor) -> Iterator[tuple[Part, Tensor]]:
    """Each part, in order, with its place in a buffer of bytes."""
    at = 0
    for part in parts:
        yield part, buffer[at : at + part.bytes].view(part.dtype).view(part.sizes)
        at += part.bytes


def header(parts: Sequence[Part]) -> bytes:
    """What stands before the data.

    >>> header([Part("b", torch.int8, (3,), (0,), (3,))])[8:].decode().rstrip()
    '{"b":{"dtype":"I8","shape":[3],"data_offsets":[0,3]}}'
    """
    told: dict[str, Any] = {}
    boxes = {part.name: [part.offsets, part.shape] for part in parts if part.sizes != part.shape}
    if boxes:
        told["__metadata__"] = {PARTS: json.dumps(boxes)}
    at = 0
    for part in parts:
        told[part.name] = {"dtype": NAMES[part.dtype], "shape": part.sizes, "data_offsets": [at, at + part.bytes]}
        at += part.bytes
    body = json.dumps(told, separators=(",", ":")).encode()
    body += b" " * (-len(body) % 8)  # so that the data begins aligned
    return len(body).to_bytes(8, "little") + body


def write(uri: str, parts: Sequence[Part], buffer: Tensor) -> store.Written:
    """Publish a file of parts that lie in a buffer, in order."""
    with store.written(uri) as (stream, told):
        stream.write(header(parts))
        body = memoryview(buffer.numpy())
        for at in range(0, total(parts), BLOCK):
            stream.write(body[at : min(at + BLOCK, total(parts))])
    return told


def read_header(stream: Any) -> list[tuple[Part, int]]:
    """The parts of an open file, and where in it each begins. For files whose digest was checked."""
    stream.seek(0)
    length = int.from_bytes(stream.read(8), "little")
    assert 0 < length < LONGEST, "the digest of the file was checked"
    told = json.loads(stream.read(length))
    boxes = json.loads(told.pop("__metadata__", {}).get(PARTS, "{}"))
    found = []
    for name, one in told.items():
        sizes = tuple(one["shape"])
        offsets, shape = boxes.get(name, [(0,) * len(sizes), sizes])
        part = Part(name, DTYPES[one["dtype"]], tuple(shape), tuple(offsets), sizes)
        found.append((part, 8 + length + one["data_offsets"][0]))
    return found


def read_box(stream: Any, part: Part, begin: int, offsets: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """A box inside a part; reads the rows it needs and no others."""
    if math.prod(sizes) == 0:
        return torch.empty(tuple(sizes), dtype=part.dtype)
    first, rows = (offsets[0], sizes[0]) if sizes else (0, 1)
    row = part.bytes // part.sizes[0] if sizes else part.bytes
    body = bytearray(rows * row)
    stream.seek(begin + first * row)
    filled, place = 0, memoryview(body)
    while filled < len(body):
        got = stream.readinto(place[filled:])
        if not got:
            raise ValueError(f"the file of tensor {part.name!r} ended early; look at the disk and run again")
        filled += got
    found = torch.frombuffer(body, dtype=torch.uint8).view(part.dtype).view((rows, *part.sizes[1:]) if sizes else ())
    for dim in range(1, len(sizes)):
        found = found.narrow(dim, offsets[dim], sizes[dim])
    return found
