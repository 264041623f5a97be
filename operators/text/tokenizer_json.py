"""A SentencePiece model as the `tokenizer.json` that Hugging Face `tokenizers` loads.

Promises: for a model this project learned, the same ids for every text (operators/text/tokenizer_doubts finds each
condition of the proof in the model). For a foreign one, the same as far as the format can say it, and the reasons why
not. No special token is listed as "added", so that a text that spells `[MASK]` gets ordinary pieces here too; with
`framed` they are, and [CLS] and [SEP] are put around a text, as libraries of models expect.

How each part is spelt, and why it is exact:

* White space: one `Replace` by a class of characters and a `Strip`; the char map of `exact_model` does the same.
* Unigram: both take, of paths with the best sum, the one whose last piece is longest; sums are exact (`exact_model`).
* BPE: both merge the pair of the best rank, and of equals the first. SentencePiece ranks what a pair makes, tokenizers
  the pair, so pairs that make the same piece are ordered such that of two that overlap the left one wins.
* `tokenizers` finds any entry of a unigram vocabulary in a text, `<0x41>` and `[MASK]` too; SentencePiece does not.
  Texts are cut within such spellings before, where no piece goes across: at digits, else behind the bracket.

Costs about 0.1 s for 8,000 pieces, most of it to write JSON.
"""

import base64
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from tundish.operators.text.exact_model import CHARSMAP, MARK, SPACES
from tundish.operators.text.sentencepiece_file import CONTROL, NORMAL, UNKNOWN, USER_DEFINED, read

DIGIT = "[0-9]"
WHITE = "[" + "".join(SPACES) + "]+"
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


class Known:
    """A SentencePiece model, and what export asks of it."""

    def __init__(self, model: bytes) -> None:
        self.model = read(model)
        self.texts = [piece.decode() for piece in self.model.pieces]
        self.types = self.model.types.tolist()

    @cached_property
    def normal(self) -> dict[str, int]:
        return {text: number for number, text in enumerate(self.texts) if self.types[number] == NORMAL}

    @cached_property
    def joined(self) -> set[str]:
        """Every two neighbours in a piece."""
        return {a + b for text in self.normal for a, b in itertools.pairwise(text)}

    @cached_property
    def whole(self) -> bool:
        """No piece holds a mark but at its beginning, so words can be taken one by one."""
        return not any(MARK in text[1:] for text in self.normal)

    @cached_property
    def digits_alone(self) -> bool:
        return not any(re.search(DIGIT, text) for text in self.normal if len(text) > 1)

    @property
    def ours(self) -> bool:
        """Whether white space, and nothing else, is normalised."""
        return self.model.charsmap == CHARSMAP

    def named(self, *types: int) -> list[tuple[int, str]]:
        return [(number, text) for number, text in enumerate(self.texts) if self.types[number] in types]

    def unspoken(self) -> list[str]:
        """Entries that a text could spell and SentencePiece would not find in it."""
        hidden = (text for number, text in enumerate(self.texts) if self.types[number] not in (NORMAL, USER_DEFINED))
        return [text for text in hidden if not (self.digits_alone and len(text) > 1 and re.search(DIGIT, text))]


def cut_of(text: str, joined: set[str]) -> int:
    """A place in a spelling that no piece goes across; 0 for none."""
    return next((at for at in range(1, len(text)) if text[at - 1 : at + 1] not in joined), 0)


def cutting(spellings: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """The step that cuts a text within each of these spellings."""
    pattern = "|".join(f"{_escaped(text[:at])}(?={_escaped(text[at:])})" for text, at in spellings)
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "MergedWithPrevious", "invert": False}


def _escaped(text: str) -> str:
    """As a pattern means it in every engine: Python's own `escape` writes `\\<`, which is a word's edge in some."""
    return re.sub(r"[\\^$.|?*+()\[\]{}-]", r"\\\g<0>", text)


def export(model: bytes, *, framed: bool = False, second: int = 0) -> bytes:
    """The `tokenizer.json`. `framed`: special tokens are found in texts, and [CLS] and [SEP] put around them; `second`:
    the token type of the second text of a pair."""
    known = Known(model)
    if not known.model.escape or known.model.suffix:
        raise ValueError(
            "this SentencePiece model keeps spaces as they are, or ends words with its mark; a tokenizer.json cannot "
            "say so, use the .model file itself"
        )
    if known.model.unknown < 0:
        raise ValueError("this SentencePiece model has no unknown piece; use the .model file itself")
    said: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": text, **FLAGS, "special": known.types[number] != USER_DEFINED}
            for number, text in known.named(*((UNKNOWN, CONTROL) if framed else ()), USER_DEFINED)
        ],
        "normalizer": _sequence("normalizers", list(_normalizers(known))),
        "pre_tokenizer": _sequence("pretokenizers", list(_cuts(known))),
        "post_processor": _frame(known, second) if framed else None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": MARK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": _unigram(known) if known.model.kind == "unigram" else _bpe(known),
    }
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def _sequence(name: str, steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    return {"type": "Sequence", name: steps} if steps else None


def _normalizers(known: Known) -> Iterator[dict[str, Any]]:
    model = known.model
    if known.ours:
        yield _replaced(WHITE, " ")
    elif model.charsmap:
        yield {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(model.charsmap).decode()}
    if model.strip and not known.ours:
        yield _replaced(" {2,}", " ")
        yield _replaced(rf"\A +|[ {MARK}]+\z", "")  # a mark at the end goes too, whoever wrote it
    elif model.strip:
        yield {"type": "Strip", "strip_left": True, "strip_right": True}
    if not known.whole:  # else Metaspace does both, and cuts the words apart
        if model.dummy_prefix:
            yield {"type": "Prepend", "prepend": MARK}
        yield {"type": "Replace", "pattern": {"String": " "}, "content": MARK}


def _replaced(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _cuts(known: Known) -> Iterator[dict[str, Any]]:
    """Where texts are cut before the model sees them: never where a piece could go across."""
    if known.whole:
        several = bool(known.named(USER_DEFINED))  # they come out of a text first; what is behind begins no word
        prefix = ("first" if several else "always") if known.model.dummy_prefix else "never"
        yield {"type": "Metaspace", "replacement": MARK, "prepend_scheme": prefix, "split": True}
    if known.digits_alone:
        yield {"type": "Split", "pattern": {"Regex": DIGIT}, "behavior": "Isolated", "invert": False}
    found = [(text, cut_of(text, known.joined)) for text in known.unspoken()]
    if known.model.kind == "unigram" and (able := [(text, at) for text, at in found if at]):
        yield cutting(able)


def _unigram(known: Known) -> dict[str, Any]:
    vocab = list(map(list, zip(known.texts, known.model.scores.astype(float).tolist(), strict=True)))
    return {
        "type": "Unigram",
        "unk_id": known.model.unknown,
        "vocab": vocab,
        "byte_fallback": known.model.byte_fallback,
    }


def _bpe(known: Known) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": known.texts[known.model.unknown],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": known.model.byte_fallback,
        "ignore_merges": False,
        "vocab": {text: number for number, text in enumerate(known.texts)},
        "merges": [[text[:at], text[at:]] for text, at in merges(known)],
    }


def merges(known: Known) -> Iterator[tuple[str, int]]:
    """(piece, where its two parts meet), in the order of their ranks."""
    scores = known.model.scores
    for text in sorted(known.normal, key=lambda t: (-scores[known.normal[t]], known.normal[t])):
        for at in leftmost(text, halves(text, known.normal)):
            yield text, at


def halves(text: str, normal: dict[str, int]) -> list[int]:
    """Where a piece falls into two pieces."""
    return [at for at in range(1, len(text)) if text[:at] in normal and text[at:] in normal]


def leftmost(text: str, cuts: list[int]) -> list[int]:
    """The pairs that make a piece, in an order such that of two that overlap in a text the left one comes first.

    (x, y) overlaps (y, z) where x + y = y + z is the piece: it then has the period |x|, and the other cut lies as far
    from the end. A piece with both periods (`------` as 2 + 4 and as 4 + 2) has no order that serves every text;
    merging from the left leaves the longer part on the left, so that comes first.

    >>> leftmost("aba", [1, 2]), leftmost("------", [2, 4])
    ([2, 1], [4, 2])
    """
    return sorted(cuts, key=lambda at: (not repeats(text, at) or repeats(text, len(text) - at), -at))


def repeats(text: str, period: int) -> bool:
    """
    >>> repeats("ababa", 2), repeats("ababa", 3)
    (True, False)
    """
    return text[period:] == text[:-period]


def _frame(known: Known, second: int) -> dict[str, Any]:
    ids = {text: number for number, text in known.named(UNKNOWN, CONTROL, USER_DEFINED)}
    names = [next((n for n in pair if n in ids), "") for pair in (("[CLS]", "<s>"), ("[SEP]", "</s>"))]
    if "" in names:
        raise ValueError("this SentencePiece model has no [CLS] and [SEP], nor <s> and </s>, to frame a text with")
    first, last = ({"SpecialToken": {"id": name, "type_id": 0}} for name in names)
    end = {"SpecialToken": {"id": names[1], "type_id": second}}
    one, two = ({"Sequence": {"id": name, "type_id": kind}} for name, kind in (("A", 0), ("B", second)))
    return {
        "type": "TemplateProcessing",
        "single": [first, one, last],
        "pair": [first, one, last, two, end],
        "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in names},
    }
