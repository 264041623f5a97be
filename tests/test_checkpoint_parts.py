"""The files of checkpoints: any safetensors reader opens them, ours reads any, and a box is what slicing gives."""

import io

import pytest
import torch
from safetensors.torch import load as theirs
from safetensors.torch import save as by_them

from tundish.cluster import store
from tundish.cluster.checkpoint_parts import DTYPES, Part, header, in_order, read_box, read_header, total, views, write


def drawn(dtype, shape, seed=0):
    """Any bytes make a tensor, but for booleans."""
    torch.manual_seed(seed)
    size = torch.empty(shape, dtype=dtype).nbytes
    top = 2 if dtype == torch.bool else 256
    return torch.randint(0, top, (size,), dtype=torch.uint8).view(dtype).view(shape)


def many():
    shapes = [(), (0,), (3,), (5, 2), (2, 3, 4), (0, 3)]
    return {
        f"{name}.{shape}": drawn(dtype, shape, seed)
        for seed, (name, dtype) in enumerate(DTYPES.items())
        for shape in shapes
    }


def bits(tensor):
    return tensor.dtype, tuple(tensor.shape), tensor.contiguous().view(-1).view(torch.uint8).tolist()


def written(path, tensors):
    parts = in_order(Part.whole(name, tensor) for name, tensor in tensors.items())
    buffer = torch.empty(total(parts), dtype=torch.uint8)
    for part, place in views(parts, buffer):
        place.copy_(tensors[part.name])
    return write(str(path), parts, buffer)


def test_safetensors_reads_ours(tmp_path):
    tensors = many()
    told = written(tmp_path / "a.safetensors", tensors)
    body = (tmp_path / "a.safetensors").read_bytes()
    assert (told.size, told.digest) == (len(body), store.digest(str(tmp_path / "a.safetensors")))
    found = theirs(body)
    assert {name: bits(tensor) for name, tensor in found.items()} == {name: bits(t) for name, t in tensors.items()}


def test_we_read_what_safetensors_wrote():
    tensors = many()
    stream = io.BytesIO(by_them(tensors, {"format": "pt"}))
    found = {part.name: read_box(stream, part, at, part.offsets, part.sizes) for part, at in read_header(stream)}
    assert {name: bits(tensor) for name, tensor in found.items()} == {name: bits(t) for name, t in tensors.items()}


def test_a_box_is_what_slicing_gives(tmp_path):
    """A part of a larger tensor, and boxes inside it."""
    whole = drawn(torch.int32, (7, 5, 3))
    part = Part("w", torch.int32, (7, 5, 3), (2, 1, 0), (4, 3, 3))
    inside = whole[2:6, 1:4]
    path = str(tmp_path / "w.safetensors")
    write(path, [part], inside.contiguous().view(-1).view(torch.uint8))
    with store.opened(path) as stream:
        ((found, begin),) = read_header(stream)
        assert found == part
        for seed in range(60):
            torch.manual_seed(seed)
            at = [int(torch.randint(0, size + 1, ())) for size in part.sizes]
            size = [int(torch.randint(0, s - a + 1, ())) for s, a in zip(part.sizes, at, strict=True)]
            wanted = inside[tuple(slice(a, a + s) for a, s in zip(at, size, strict=True))]
            assert torch.equal(read_box(stream, found, begin, at, size), wanted)


def test_the_data_begins_aligned():
    for length in range(1, 20):
        assert len(header([Part("n" * length, torch.int8, (3,), (0,), (3,))])) % 8 == 0


def test_a_dtype_that_the_format_has_not_is_refused():
    with pytest.raises(ValueError, match=r"'x' is of torch\.complex128.*another dtype"):
        in_order([Part.whole("x", torch.zeros(2, dtype=torch.complex128))])


def test_a_file_that_ends_early_is_told():
    part = Part("x", torch.int64, (4,), (0,), (4,))
    with pytest.raises(ValueError, match="'x' ended early"):
        read_box(io.BytesIO(header([part]) + b"\0" * 9), part, len(header([part])), (0,), (4,))
