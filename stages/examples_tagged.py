"""Sentences of tagged words as token ids: a label at the first piece of each word, and the way back to the words.

Promises: pieces are those of the running text, words with a space between, so a model sees what it was trained on; a
sentence in which a piece goes across words, or a word has none, is taken word by word instead, and a word that has no
piece even so is the one piece [UNK]. Each word is predicted in exactly one window (stages/examples_windows). Costs some
30 us a sentence beside the tokenizer. Counts what it did: `by_word`, `unknown_words`, `cut_words`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tundish.operators.text.piece_offsets import spans
from tundish.operators.text.tokenizer import Tokenizer
from tundish.stages.examples import Examples
from tundish.stages.examples_checks import lengths
from tundish.stages.examples_windows import predicted, word_windows

UNLABELLED = -100


class Sentence(NamedTuple):
    ids: np.ndarray  # (pieces,)
    owners: np.ndarray  # (pieces,) number of the word each belongs to, rising; white space to the word behind it
    firsts: np.ndarray  # (words,) the piece each is predicted at


def tagged(
    examples: Examples, pieces: Tokenizer, length: int | None, overlap: int | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(columns, told) of `examples_tokens.SCHEMAS["tag"]`."""
    words = examples.table["words"].to_pylist()
    told = {"by_word": 0, "unknown_words": 0, "cut_words": 0, "windows": 0}
    found = _sentences(words, pieces, told)
    sizes = np.array([len(one.ids) for one in found])
    longer = 0 if length is None else int((sizes > length).sum())
    out: dict[str, list[Any]] = {name: [] for name in ("tokens", "labels", "firsts", "words", "window", "at")}
    for at, (sentence, tags) in enumerate(zip(found, examples.table["tags"].to_pylist(), strict=True)):
        for window in _windows(sentence, tags, length, overlap, told):
            for name, value in zip(out, (*window, at), strict=True):
                out[name].append(value)
    rows = np.array(out.pop("at"))
    told |= {"length": length, "pieces": lengths(sizes), "longer": longer, "longer_share": longer / max(1, len(sizes))}
    where = {name: examples.table[name].take(pa.array(rows)).combine_chunks() for name in ("id", "file", "row")}
    return {**out, **where}, told | {"windows": len(rows)}


def _sentences(words: Sequence[Sequence[str]], pieces: Tokenizer, told: dict[str, int]) -> list[Sentence]:
    texts = spans(pieces, pa.array([" ".join(each) for each in words], pa.large_string()))
    found = []
    for at, each in enumerate(words):
        here = slice(texts.bounds[at], texts.bounds[at + 1])
        one = _aligned(texts.ids[here], texts.begins[here], texts.ends[here], each)
        if one is None:
            one = _by_word(each, pieces, told)
            told["by_word"] += 1
        found.append(one)
    return found


def _aligned(ids: np.ndarray, begins: np.ndarray, ends: np.ndarray, words: Sequence[str]) -> Sentence | None:
    """The words of pieces of a text with single spaces between words; None where a word has none of its own."""
    sizes = np.array([len(word.encode()) for word in words])
    stops = np.cumsum(sizes + 1) - 1
    owners = np.minimum(np.searchsorted(stops, begins, side="right"), len(words) - 1)
    inside = np.flatnonzero((ends > (stops - sizes)[owners]) & (begins < stops[owners]))
    across = (ends[inside] > stops[owners[inside]]).any()
    mine, first = np.unique(owners[inside], return_index=True)
    return None if across or len(mine) < len(words) else Sentence(ids, owners, inside[first])


def _by_word(words: Sequence[str], pieces: Tokenizer, told: dict[str, int]) -> Sentence:
    unknown = pieces.specials["[UNK]"]
    spaced = [" " * (number > 0) + word for number, word in enumerate(words)]
    each = pieces.encode(pa.array(spaced, pa.large_string())).to_pylist()
    told["unknown_words"] += sum(not ids for ids in each)
    each = [ids or [unknown] for ids in each]
    sizes = np.array([len(ids) for ids in each])
    owners = np.repeat(np.arange(len(words)), sizes)
    return Sentence(np.concatenate([np.array(ids) for ids in each]), owners, np.cumsum(sizes) - sizes)


def _windows(
    sentence: Sentence, tags: Sequence[int] | None, length: int | None, overlap: int | None, told: dict[str, int]
) -> Iterator[tuple[Any, ...]]:
    """(tokens, labels, firsts, words, number) of each window."""
    if length is not None and len(sentence.ids) > length:
        sentence = _fitting(sentence, length, told)
    many = len(sentence.firsts)
    counts = np.bincount(sentence.owners, minlength=many)
    most = length or int(counts.sum())
    windows = word_windows(counts.tolist(), most, most // 4 if overlap is None else overlap)
    ends = np.concatenate([[0], np.cumsum(counts)])
    chosen = predicted(counts.tolist(), windows)
    for number, (begin, stop) in enumerate(windows):
        words = np.flatnonzero(chosen == number)
        firsts = sentence.firsts[words] - ends[begin]
        labels = np.full(ends[stop] - ends[begin], UNLABELLED)
        if tags is not None:
            labels[firsts] = np.array(tags)[words]
        yield sentence.ids[ends[begin] : ends[stop]].astype(np.int64), labels, firsts, words, number


def _fitting(sentence: Sentence, length: int, told: dict[str, int]) -> Sentence:
    """Without what words have beyond a window's length, from the piece each is predicted at on."""
    sizes = np.bincount(sentence.owners)
    long = np.flatnonzero(sizes > length)
    if not len(long):
        return sentence
    told["cut_words"] += len(long)
    behind = np.arange(len(sentence.ids)) - sentence.firsts[sentence.owners]
    kept = ~np.isin(sentence.owners, long) | ((behind >= 0) & (behind < length))
    places = np.cumsum(kept) - 1
    return Sentence(sentence.ids[kept], sentence.owners[kept], places[sentence.firsts])
