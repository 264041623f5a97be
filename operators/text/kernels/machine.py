"""What every kernel stands on: how it is compiled and cached, wide loads and masks, a hash of bytes, UTF-8.

`kernel` compiles a function to machine code that releases the GIL and is kept on disk. numba asks only the file of the
outermost function whether its cached code is stale, so a change in a function it calls would go unnoticed: the folder
of the cache is therefore named by a digest of its source and of all of ours that it imports. The first process of a
version compiles (some 20 s for all kernels), every other loads (well under a second). `TUNDISH_CACHE` names another
place than `~/.cache/tundish`.

Wide operations look at 64 bytes at once. They may read up to `PAD` bytes behind the last byte of interest, never
write there, and mask what they read; who calls them hands in arrays that are that much longer (see `padded`).
All arithmetic on hashes is modulo 2^64; equal bytes have equal hashes on every machine.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic

PAD = 80  # bytes a kernel may read behind the end: one wide load and a word
U64, I64 = np.uint64, np.int64
ONE, ALL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)
SMALL = np.uint64(0x2020202020202020)  # the bit of a small ASCII letter in each of eight bytes

# The odd constants of wyhash (Wang Yi, public domain): what is asked of them is that their bits are irregular.
K0, K1 = np.uint64(0xA0761D6478BD642F), np.uint64(0xE7037ED1A0B428DB)
K2, K3 = np.uint64(0x8EBC6AF09C88C6E3), np.uint64(0x589965CC75374CC3)


_OURS = re.compile(r"^\s*(?:from|import) +tundish\.operators\.([\w.]+)(?: +import +(.+))?", re.MULTILINE)
_OPERATORS = Path(__file__).parents[2]


@lru_cache(maxsize=256)
def _reached(path: Path) -> frozenset[Path]:
    """This source and those of ours that it imports, and they, and so on: what a kernel in it can be made of."""
    found, left = {path}, [path]
    while left:
        for module, names in _OURS.findall(left.pop().read_text()):
            inside = [f"{module}.{name.strip(' (')}" for name in names.split(" as ")[0].split(",")]
            for name in (module, *inside):
                source = _OPERATORS.joinpath(*name.split(".")).with_suffix(".py")
                if source not in found and source.is_file():
                    found.add(source)
                    left.append(source)
    return frozenset(found)


@lru_cache(maxsize=256)
def _folder(source: str) -> str:
    """Where the kernels of a source are kept: its name, and a digest of all they are made of."""
    told = hashlib.blake2b(f"{numba.__version__} {unicodedata.unidata_version}".encode(), digest_size=8)
    for path in sorted(_reached(Path(source))):
        told.update(path.read_bytes())
    home = Path(os.environ.get("TUNDISH_CACHE") or Path.home() / ".cache" / "tundish")
    return str(home / "kernels" / f"{Path(source).stem}-{told.hexdigest()}")


def _compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    # numba reads the setting when a function is decorated, so it is ours alone
    before, config.CACHE_DIR = config.CACHE_DIR, _folder(function.__code__.co_filename)
    try:
        return njit(nogil=True, cache=True, error_model="numpy", boundscheck=False, **options)(function)
    finally:
        config.CACHE_DIR = before


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call; without the GIL, kept on disk.

    It can make no array: without numba's own memory it counts no references to those it is given, which took a fifth
    of the time of all kernels, and four fifths of the English splitter's.
    """
    return _compiled(function, _nrt=False)


def inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `kernel`, and always inlined where it is called: for what is called once a word or more often."""
    return _compiled(function, forceinline=True, _nrt=False)


def allocating(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `kernel`, for one that makes arrays of its own, and for who calls it."""
    return _compiled(function)


def padded(data: np.ndarray, start: int, end: int) -> np.ndarray:
    """(end - start + PAD,) uint8: a copy of these bytes with room behind them."""
    out = np.zeros(end - start + PAD, np.uint8)
    out[: end - start] = data[start:end]
    return sealed(out)


def sealed(array: np.ndarray) -> np.ndarray:
    """The array read-only, as Arrow's buffers are: a kernel compiles once for either."""
    out = array.view()
    out.flags.writeable = False
    return out


@intrinsic
def load64(typing, array, at):  # type: ignore[no-untyped-def]
    """Eight bytes at `array[at]` as one little-endian number."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        base = context.make_array(signature.args[0])(context, builder, arguments[0])
        where = builder.bitcast(builder.gep(base.data, [arguments[1]]), ir.IntType(64).as_pointer())
        value = builder.load(where)
        value.align = 1
        return value

    return types.uint64(array, types.int64), code


@intrinsic
def store64(typing, array, at, value):  # type: ignore[no-untyped-def]
    """Eight bytes of `value` to `array[at]`, little-endian."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        base = context.make_array(signature.args[0])(context, builder, arguments[0])
        where = builder.bitcast(builder.gep(base.data, [arguments[1]]), ir.IntType(64).as_pointer())
        done = builder.store(arguments[2], where)
        done.align = 1
        return context.get_dummy_value()

    return types.void(array, types.int64, types.uint64), code


@intrinsic
def folded(typing, left, right):  # type: ignore[no-untyped-def]
    """The two halves of the 128-bit product, one over the other (xor)."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        wide, word = ir.IntType(128), ir.IntType(64)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), word)
        return builder.xor(builder.trunc(product, word), high)

    return types.uint64(types.uint64, types.uint64), code


@intrinsic
def trailing(typing, value):  # type: ignore[no-untyped-def]
    """Number of zero bits below the lowest set bit; 64 without one."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), code


@intrinsic
def ones(typing, value):  # type: ignore[no-untyped-def]
    """Number of set bits."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), code


@intrinsic
def find_byte(typing, array, start, byte, length):  # type: ignore[no-untyped-def]
    """Where `byte` stands first in `array[start : start + length]`, as an index into the array; -1 if nowhere.

    The C library's memchr, found in the process itself.
    """

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        base = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer, word = ir.IntType(8).as_pointer(), ir.IntType(64)
        kind = ir.FunctionType(pointer, [pointer, ir.IntType(32), word])
        memchr = cgutils.get_or_insert_function(builder.module, kind, "memchr")
        first = builder.gep(base.data, [arguments[1]])
        found = builder.call(memchr, [first, builder.trunc(arguments[2], ir.IntType(32)), arguments[3]])
        at, zero = builder.ptrtoint(found, word), builder.ptrtoint(base.data, word)
        none = builder.icmp_unsigned("==", at, ir.Constant(word, 0))
        return builder.select(none, ir.Constant(word, -1), builder.sub(at, zero))

    return types.int64(array, types.int64, types.int64, types.int64), code


BYTES = ir.VectorType(ir.IntType(8), 64)


def load_bytes(context, builder, kind, array, at):  # type: ignore[no-untyped-def]
    """For the code of an intrinsic: the 64 bytes at `array[at]` as a vector."""
    base = context.make_array(kind)(context, builder, array)
    where = builder.bitcast(builder.gep(base.data, [at]), BYTES.as_pointer())
    value = builder.load(where)
    value.align = 1
    return value


def every(byte: int) -> ir.Constant:
    """For the code of an intrinsic: a vector of 64 times this byte."""
    return ir.Constant(BYTES, [byte] * 64)


def between(builder, value, low: int, high: int):  # type: ignore[no-untyped-def]
    """For the code of an intrinsic: which bytes lie in low..high."""
    return builder.icmp_unsigned("<=", builder.sub(value, every(low)), every(high - low))


def equal(builder, value, byte: int):  # type: ignore[no-untyped-def]
    """For the code of an intrinsic: which bytes are this one."""
    return builder.icmp_unsigned("==", value, every(byte))


def as_mask(builder, value):  # type: ignore[no-untyped-def]
    """For the code of an intrinsic: 64 truths as the bits of one number, the first byte lowest."""
    return builder.bitcast(value, ir.IntType(64))


@inner
def hashed(data, start, length):
    """64-bit hash of `length` bytes, never 0 (which tables keep for an empty place). Reads up to 8 bytes further."""
    return _hash(data, start, length, U64(0))


@inner
def hashed_lower(data, start, length):
    """The hash of ASCII letters as if they were all small."""
    return _hash(data, start, length, SMALL)


@inner
def _hash(data, start, length, bits):
    """The hash of these bytes with some bits set in each."""
    seed = K0 ^ (U64(length) * K3)
    if length <= 8:
        word = load64(data, start) | bits
        if length < 8:
            word = word & ((ONE << U64(8 * length)) - ONE)
        mixed = folded(word ^ K1, seed)
        mixed = mixed ^ (mixed >> U64(29))
    else:
        at = I64(0)
        while length - at > 16:
            seed = folded((load64(data, start + at) | bits) ^ K1, (load64(data, start + at + 8) | bits) ^ seed)
            at += 16
        left = (load64(data, start + length - 16) if length >= 16 else load64(data, start)) | bits
        mixed = folded(left ^ K1, (load64(data, start + length - 8) | bits) ^ seed)
        mixed = folded(mixed ^ K2, seed ^ K3)
    return mixed if mixed != 0 else ONE


@inner
def decoded(data, at):
    """(code point, bytes it takes) of the character at `at`; the text is UTF-8, as Arrow promises of a string."""
    first = I64(data[at])
    if first < 0x80:
        return first, I64(1)
    if first < 0xE0:
        return ((first & 0x1F) << 6) | (I64(data[at + 1]) & 0x3F), I64(2)
    if first < 0xF0:
        return ((first & 0x0F) << 12) | ((I64(data[at + 1]) & 0x3F) << 6) | (I64(data[at + 2]) & 0x3F), I64(3)
    high = ((first & 0x07) << 18) | ((I64(data[at + 1]) & 0x3F) << 12)
    return high | ((I64(data[at + 2]) & 0x3F) << 6) | (I64(data[at + 3]) & 0x3F), I64(4)


@inner
def encoded(code, out, at):
    """Write a code point as UTF-8 to `out` at `at`; returns where the next one goes."""
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at] = 0xC0 | (code >> 6)
    elif code < 0x10000:
        out[at] = 0xE0 | (code >> 12)
    else:
        out[at] = 0xF0 | (code >> 18)
        at += 1
        out[at] = 0x80 | ((code >> 12) & 0x3F)
    if code >= 0x800:
        at += 1
        out[at] = 0x80 | ((code >> 6) & 0x3F)
    out[at + 1] = 0x80 | (code & 0x3F)
    return at + 2


@inner
def last_character(data, start, end):
    """(code point, bytes it takes) of the character that ends at `end`; `start` < `end`."""
    at = end - 1
    while at > start and (data[at] & 0xC0) == 0x80:
        at -= 1
    return decoded(data, at)
