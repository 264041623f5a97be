"""A vocabulary that is there, grown: pieces learned from some texts behind its own, for a model that goes on with them.

    unigram     runs of its pieces that serve best (operators/text/growth); a score that makes the best path take them
    BPE         merges behind its own (operators/text/growth_merges)
    WordPiece   runs of its pieces that serve best, whole words among them; the longest that fits is taken, as ever

What is learned goes into the model of a `tokenizer.json` itself, not among the tokens the library adds to one: these
are cut out of a text before its words are, so the space before them and the pieces around them would change.

Promises: an old id keeps its piece, and a text in which the letters of no new piece stand its ids: paths and merges of
old pieces are what they were. (By BPE a new piece may be merged on, into an old one that was not reached before.) Ids
of the new are the next ones. The same texts in the same order give the same bytes. Costs three or four encodings of the
texts. Refuses what cannot grow soundly, and more pieces than the texts have.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from tundish.operators.text import fertility, grown_json, growth, tokenizer
from tundish.operators.text.exact_model import appended
from tundish.operators.text.growth import MARK, Piece, Spelling
from tundish.operators.text.growth_merges import Merges
from tundish.operators.text.sentencepiece_file import BYTE, NORMAL, UNUSED, Model, read

Rules = Sequence[tuple[str, str]]
Made = Callable[[Sequence[Piece], Rules, int], bytes]  # pieces, pairs that merge, tokens of the texts -> the file


@dataclass(frozen=True)
class Grown:
    """A vocabulary's file with its new pieces: the first has the id `first`, and `parts` are the old ids of each."""

    data: bytes
    first: int
    parts: tuple[tuple[int, ...], ...]
    tokens: tuple[int, int]  # of the texts, before and after
    words: int  # of the texts, as operators/text/fertility counts them


def grown(data: bytes, texts: Sequence[pa.LargeStringArray], most: int) -> Grown:
    """The vocabulary in a file's bytes with `most` pieces more, learned from these texts."""
    old = tokenizer.load(data)
    tokenizer.wide(old.size + most)
    if isinstance(old, tokenizer.Described):
        kind, spelling, made = grown_json.of_json(data, old)
        cut = partial(grown_json.cut, old, spelling)
    else:
        kind, spelling, made = _of_model(data)
        cut = partial(_cut, old, spelling)
    words = growth.words(*_together(map(cut, texts)))
    total = sum(len(word) * count for word, count in words.items())
    if kind == "BPE":
        learned = Merges(words, spelling, old.size)
        pieces, rules = learned.learn(most), list(learned.rules)
    else:
        pool, rules = growth.runs(words, spelling), []
        pieces = growth.chosen(pool, most, lambda some: _used(made(some, (), total), texts, old.size, len(some)))
    if len(pieces) < most:
        raise ValueError(
            f"{most} pieces that the vocabulary lacks cannot be learned from this text: {len(pieces)} can, that occur "
            "twice and make tokens fewer; ask for at most so many, or give more text"
        )
    body = made(pieces, rules, total)
    before, after = (sum(len(tokenizer.load(one).encode(text).values) for text in texts) for one in (data, body))
    counted = sum(int(fertility.words(text).sum()) for text in texts)
    return Grown(body, old.size, tuple(piece.parts for piece in pieces), (before, after), counted)


def _cut(old: tokenizer.Tokenizer, spelling: Spelling, texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the texts, and which of them begin a word."""
    rows = old.encode(texts)
    ids = rows.values.to_numpy()
    begins = np.array([name.startswith(MARK) for name in spelling.names])[ids]
    starts = rows.offsets.to_numpy()[:-1]
    begins[starts[starts < len(ids)]] = True
    return ids, begins


def _together(parts: Iterator[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    ids, begins = zip(*parts, strict=True)
    return np.concatenate([np.zeros(0, np.uint32), *ids]), np.concatenate([np.zeros(0, np.bool_), *begins])


def _used(data: bytes, texts: Sequence[pa.LargeStringArray], first: int, count: int) -> np.ndarray:
    """How often each of the new pieces occurs."""
    found = tokenizer.load(data)
    every = (np.bincount(found.encode(text).values.to_numpy(), minlength=first + count) for text in texts)
    return np.sum([*every], axis=0)[first:]


def _of_model(data: bytes) -> tuple[str, Spelling, Made]:
    """Its kind, how the pieces of a SentencePiece model are spelt, and the model with more of them."""
    model = read(data)
    if model.suffix:
        raise ValueError(
            "this SentencePiece model ends words with its mark, and new pieces would begin with it; grow another, or "
            "leave Tokenize.extend out"
        )
    if (model.types == UNUSED).any():
        raise ValueError(
            "this SentencePiece model has unused pieces, which are taken apart after new ones are found; grow another, "
            "or leave Tokenize.extend out"
        )
    normal = model.types == NORMAL
    texts = [piece.decode() for piece in model.pieces]
    names = [text if own else "" for text, own in zip(texts, normal, strict=True)]
    bytes_ = {int(at): int(texts[at][3:5], 16) for at in np.flatnonzero(model.types == BYTE)}

    def made(pieces: Sequence[Piece], rules: Rules, total: int) -> bytes:
        of_bpe = model.kind == "bpe"
        scores = _ranks(model, len(pieces)) if of_bpe else growth.scores(pieces, total, model.scores, normal)
        return appended(data, [piece.name.encode() for piece in pieces], scores)

    known = {text: number for number, text in enumerate(texts)}
    return "BPE" if model.kind == "bpe" else "Unigram", Spelling(names, known, bytes_), made


def _ranks(model: Model, count: int) -> list[float]:
    """Scores behind the old ones, each lower than the one before: what is merged first has the highest."""
    worst = float(model.scores[model.types == NORMAL].min(initial=0))
    step = max(1.0, 2 * float(np.spacing(np.float32(abs(worst) + count))))
    return [worst - step * (number + 1) for number in range(count)]
