"""Which pieces of a vocabulary begin a word: what whole words are hidden by.

A word is what white space parts: a piece begins one where it carries the space before it (U+2581 of SentencePiece and
Metaspace, `Ġ` of byte-level BPE), or where it does not carry the prefix of what continues a word (`##` of WordPiece).
Scripts that part no words by spaces (Han, kana, Thai, Lao, Khmer, Burmese) begin a word with every piece, as BERT takes
Chinese characters; else a sentence would be one word. Single bytes that a character is spelt in never begin one: the
piece before them carries the space.

Promises: a function of the file's bytes. Costs some microseconds a piece. Refuses vocabularies whose pieces tell where
a word ends instead (`</w>`, SentencePiece with white space as suffix): what begins one depends on the piece before.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tundish.operators.text.sentencepiece_file import BYTE, NORMAL, SPACE, USER_DEFINED, read
from tundish.operators.text.tokenizer import entries

MARK = SPACE.decode()
BYTES = re.compile(r"<0x[0-9A-F]{2}>")
UNSPACED = re.compile(  # Thai and Lao, Burmese, Khmer, kana, Han
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
WHITE = "ĠĊĉč"  # byte-level BPE's signs for a space, the ends of lines and a tab


def begins(data: bytes) -> np.ndarray:
    """(V,) uint8: 1 for each piece of a SentencePiece model or a `tokenizer.json` that begins a word. Special pieces
    count as beginnings."""
    return _described(json.loads(data)) if data[:64].lstrip()[:1] == b"{" else _model(data)


def _model(data: bytes) -> np.ndarray:
    model = read(data)
    if model.suffix:
        raise _ends("SentencePiece with white space as suffix")
    found = np.ones(len(model.pieces), np.uint8)
    for number, piece in enumerate(model.pieces):
        if model.types[number] == BYTE:
            found[number] = 0
        elif model.types[number] in (NORMAL, USER_DEFINED):
            found[number] = _opens(piece.decode())
    return found


def _opens(piece: str) -> bool:
    return piece.startswith(MARK) or bool(UNSPACED.match(piece))


def _described(said: Mapping[str, Any]) -> np.ndarray:
    names = dict(entries(said))
    model, kind = said["model"], said["model"].get("type", "BPE")
    special = {token["content"] for token in said.get("added_tokens") or () if token.get("special")}
    if model.get("end_of_word_suffix"):
        raise _ends(f"the suffix {model['end_of_word_suffix']!r}")
    if kind == "WordLevel":
        opening = set(names)
    elif kind == "WordPiece" or model.get("continuing_subword_prefix"):
        prefix = model.get("continuing_subword_prefix") or "##"
        opening = {name for name in names if not name.startswith(prefix)}
        opening |= {name for name in names if name.startswith(prefix) and UNSPACED.match(name[len(prefix) :])}
    elif '"ByteLevel"' in json.dumps([said.get("pre_tokenizer"), said.get("decoder")]):
        opening = _of_bytes(names)
    else:
        opening = {name for name in names if _opens(name) and not BYTES.fullmatch(name)}
    found = np.zeros(max(names.values(), default=-1) + 1, np.uint8)
    found[[number for name, number in names.items() if name in opening or name in special]] = 1
    return found


def _of_bytes(names: Iterable[str]) -> set[str]:
    """Of byte-level pieces those that begin with white space, or whose first whole character needs none before it."""
    byte_of = signs()
    found = set()
    for name in names:
        spelt = bytes(byte_of[sign] for sign in name if sign in byte_of).decode(errors="replace")
        if name[:1] in WHITE or UNSPACED.match(spelt):
            found.add(name)
    return found - {""}


def signs() -> dict[str, int]:
    """The byte that each sign of byte-level BPE stands for."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # bytes that stand for themselves
    others = (byte for byte in range(256) if byte not in printed)
    return {chr(byte): byte for byte in printed} | {chr(256 + each): byte for each, byte in enumerate(others)}


def _ends(what: str) -> ValueError:
    return ValueError(
        f"pieces of this vocabulary tell where a word ends ({what}), and not where one begins; hide tokens or spans"
    )
