"""A SentencePiece model (`.model`, a protocol buffer) as plain values: pieces, scores, types, and how it was trained.

Promises: what decides the ids of a text, field for field, with SentencePiece's own defaults where a field is absent;
nothing else of the file is kept. Costs some milliseconds for 32,000 pieces. Refuses what is no model, ends early, or
breaks SentencePiece's own rules for one (no pieces, one twice, an empty one, byte fallback without the 256 bytes), and
model types other than unigram and BPE.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # types of pieces
KINDS: dict[int, Literal["unigram", "bpe"]] = {1: "unigram", 2: "bpe"}
OTHERS = {3: "word", 4: "char"}
SPACE = "\u2581".encode()  # what SentencePiece writes for a space
LONGEST = 8000  # bytes a piece must be shorter than
UNIT = 1024  # bytes: the trie of a charsmap is a multiple of this

Field = int | bytes


@dataclass(frozen=True, eq=False)
class Model:
    """`unknown`: id of the unknown piece, -1 for none; `suffix`: white space ends a word instead of beginning it;
    `charsmap`: the compiled rules of normalisation, empty for none; `strip`: extra white space is removed; `escape`: a
    space becomes U+2581; `samples`: the model's own tests, texts and their pieces."""

    pieces: tuple[bytes, ...]
    scores: np.ndarray  # (pieces,) float32
    types: np.ndarray  # (pieces,) uint8
    kind: Literal["unigram", "bpe"]
    unknown: int
    byte_fallback: bool
    suffix: bool
    charsmap: bytes
    dummy_prefix: bool
    strip: bool
    escape: bool
    samples: tuple[tuple[str, str], ...]


def fields(message: bytes) -> Iterator[tuple[int, Field]]:
    """(number, value) of a message in order: a number for varints, raw bytes for all else."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
                continue
            case 1:
                end = at + 8
            case 2:
                size, at = _varint(message, at)
                end = at + size
            case 5:
                end = at + 4
            case wire:
                raise ValueError(f"it has a field of wire type {wire}")
        if end > len(message):
            raise ValueError("it ends early")
        yield tag >> 3, message[at:end]
        at = end


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("it ends early")


def read(model: bytes) -> Model:
    """The model in these bytes. Raises ValueError for what is none."""
    try:
        return _read(model)
    except (ValueError, TypeError, AttributeError, struct.error) as error:  # a number where bytes belong, or bytes
        raise ValueError(
            f"these {len(model)} bytes are no SentencePiece model that can be used here ({error}); "
            "give a .model file of type unigram or bpe"
        ) from None


def _read(model: bytes) -> Model:
    pieces, scores, types = [], [], []
    trainer: dict[int, Field] = {}
    normalizer: dict[int, Field] = {}
    samples: list[tuple[str, str]] = []
    for number, value in fields(model):
        match number:
            case 1:
                own = dict(fields(value))
                pieces.append(own.get(1, b""))
                scores.append(struct.unpack("<f", own[2])[0] if 2 in own else 0.0)
                types.append(own.get(3, NORMAL))
            case 2:
                trainer |= dict(fields(value))
            case 3:
                normalizer |= dict(fields(value))
            case 4:
                samples += [_sample(body) for inner, body in fields(value) if inner == 1]
    kind = trainer.get(3, 1)
    if kind not in KINDS:
        raise ValueError(f"its type is {OTHERS.get(kind, kind)}")
    found = Model(
        tuple(pieces),
        np.array(scores, np.float32),
        np.array(types, np.uint8),
        KINDS[kind],
        types.index(UNKNOWN) if UNKNOWN in types else -1,
        bool(trainer.get(35, 0)),
        bool(trainer.get(24, 0)),
        bytes(normalizer.get(2, b"")),
        bool(normalizer.get(3, 1)),
        bool(normalizer.get(4, 1)),
        bool(normalizer.get(5, 1)),
        tuple(samples),
    )
    _check(found)
    return found


def _sample(body: bytes) -> tuple[str, str]:
    own = dict(fields(body))
    return own.get(1, b"").decode(), own.get(2, b"").decode()


def _check(model: Model) -> None:
    """SentencePiece's own conditions, and that every piece is text."""
    if not model.pieces:
        raise ValueError("it holds no pieces")
    if b"" in model.pieces or max(map(len, model.pieces)) >= LONGEST:
        raise ValueError(f"a piece is empty or of {LONGEST} bytes and more")
    nul = [piece for piece in model.pieces if b"\0" in piece]
    if nul and not (model.byte_fallback and set(nul) == {b"\0"}):  # left there by some converters, and never used
        raise ValueError("a piece holds a NUL")
    if len(set(model.pieces)) < len(model.pieces) - max(0, len(nul) - 1):
        raise ValueError("a piece is there twice")
    if (model.types == UNKNOWN).sum() > 1 or (model.unknown < 0 and not model.byte_fallback):
        raise ValueError("it has no unknown piece, or more than one")
    if not np.isfinite(model.scores).all():
        raise ValueError("a score is no finite number")
    said = {model.pieces[place] for place in np.flatnonzero(model.types == BYTE)}
    if said != ({byte_piece(byte) for byte in range(256)} if model.byte_fallback else set()):
        raise ValueError("its pieces for bytes are not the 256 of byte fallback")
    b"".join(model.pieces).decode()
    if model.charsmap:
        rules(model.charsmap)


def byte_piece(byte: int) -> bytes:
    return b"<0x%02X>" % byte


def rules(charsmap: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Compiled rules of normalisation as (units of a darts-clone trie over bytes, uint32; what its values point into,
    strings that each end with a NUL, uint8)."""
    size = int.from_bytes(charsmap[:4], "little")
    texts = charsmap[4 + size :]
    if not UNIT <= size < len(charsmap) - 4 or size % UNIT or texts[-1:] != b"\0":
        raise ValueError("its rules of normalisation are broken")
    texts.decode()
    return np.frombuffer(charsmap[4 : 4 + size], "<u4"), np.frombuffer(texts, np.uint8)
