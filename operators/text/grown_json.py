"""A `tokenizer.json` with more pieces in its own model: how its pieces are spelt, and where new ones are written.

Ids of added tokens that the model does not hold are given by the library in the order of the list, from the model's
size on; so where the model grows they are written into it too, under the ids they have. No text becomes one by that:
special ones are hidden (operators/text/tokenizer), others are found before the model is asked.

Promises: words are cut as the file's own normaliser and pre-tokeniser cut them. Costs what the library costs, about 3
MB a second. Refuses word-level models (a word is one token, known or not), and unigram models whose ids have a hole.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tundish.operators.text import growth
from tundish.operators.text.growth import MARK, Piece, Spelling
from tundish.operators.text.tokenizer import Described, entries
from tundish.operators.text.word_begins import BYTES, signs

Rules = Sequence[tuple[str, str]]


def of_json(data: bytes, old: Described) -> tuple[str, Spelling, Callable[[Sequence[Piece], Rules, int], bytes]]:
    """Its kind, how its pieces are spelt, and the file with more of them."""
    said = json.loads(data)
    model, kind = said["model"], said["model"].get("type", "BPE")
    if kind == "WordLevel":
        raise ValueError(
            "this tokenizer.json is of type WordLevel, where a word is one token, known or not: more pieces make none "
            "fewer; grow a vocabulary of type WordPiece, BPE or Unigram"
        )
    known = dict(entries(said))
    apart = {token["content"] for token in said.get("added_tokens") or ()} | {*old.specials}
    spelt = {number: int(name[3:5], 16) for name, number in known.items() if BYTES.fullmatch(name)}
    names = [""] * old.size
    for name, number in known.items():
        if name not in apart and number not in spelt and not old.odd[number]:
            names[number] = name
    level = '"ByteLevel"' in json.dumps([said.get("pre_tokenizer"), said.get("decoder")])
    spelling = Spelling(
        names,
        known,
        spelt if model.get("byte_fallback") else {},
        model.get("continuing_subword_prefix") or ("##" if kind == "WordPiece" else ""),
        model.get("end_of_word_suffix") or "",
        signs() if level else None,
    )

    def made(pieces: Sequence[Piece], rules: Rules, total: int) -> bytes:
        own = {**model, **_held(model, kind, known, old.size)}
        if kind == "Unigram":
            scores = np.array([score for _, score in own["vocab"]])
            normal = np.array([name != "" for name in names])
            own["vocab"] = [*own["vocab"], *_scored(pieces, growth.scores(pieces, total, scores, normal))]
        else:
            own["vocab"] = own["vocab"] | {piece.name: old.size + at for at, piece in enumerate(pieces)}
        if kind == "BPE":
            merges = model.get("merges") or []
            flat = bool(merges) and isinstance(merges[0], str)  # as files of old have them
            own["merges"] = [*merges, *(" ".join(pair) if flat else [*pair] for pair in rules)]
        return json.dumps({**said, "model": own}, ensure_ascii=False, separators=(",", ":")).encode()

    return kind, spelling, made


def _scored(pieces: Sequence[Piece], scores: Sequence[float]) -> list[list[Any]]:
    return [[piece.name, score] for piece, score in zip(pieces, scores, strict=True)]


def _held(model: dict[str, Any], kind: str, known: dict[str, int], size: int) -> dict[str, Any]:
    """Its entries with the added tokens among them."""
    if kind != "Unigram":
        return {"vocab": dict(sorted(known.items(), key=lambda each: each[1]))}
    vocab = list(model["vocab"])
    lowest = min(score for _, score in vocab)
    by_id = {number: name for name, number in known.items()}
    for number in range(len(vocab), size):
        if number not in by_id:
            raise ValueError(
                f"this tokenizer.json has no entry for the id {number}, and its unigram model counts entries; add one, "
                "or leave Tokenize.extend out"
            )
        vocab.append([by_id[number], lowest])
    return {"vocab": vocab}


def cut(old: Described, spelling: Spelling, texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the texts, and which of them begin a word: where the pre-tokeniser cuts, and at a mark."""
    ids: list[int] = []
    begins: list[bool] = []
    for text in texts.to_pylist():
        found = old.runs.encode(text or "", add_special_tokens=False)
        own, words = found.ids, found.word_ids
        ids += own
        begins += [not at or words[at] is None or words[at] != words[at - 1] for at in range(len(own))]
    flat = np.array(ids, np.uint32)
    marked = np.array([name.startswith(MARK) for name in spelling.names])
    return flat, np.array(begins, np.bool_) | marked[flat]
