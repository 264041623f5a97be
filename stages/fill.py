"""Fill: a pretrained model as a classifier without any training, by the words that it would put into a sentence.

    it = filler("model", "{text} It was [MASK].", [("great", "positive"), ("terrible", "negative")])
    probabilities(it, ["A fine film."])                                         (1, 2)

A masked model is asked how likely each word is in the place of [MASK] (Schick & Schütze 2021). A word of several pieces
is asked piece by piece from the left, those behind hidden with it (PLL-word-l2r, Kauf & Ivanova 2023), so that words of
unlike lengths are compared by their whole probability. A causal model is asked how likely the word is and all that
comes behind it. A label is as likely as its words on the mean, among the labels. `content_free` texts ("N/A") show what
the model says of nothing at all: labels are divided by that (contextual calibration, Zhao et al. 2021).

Promises: [MASK] and {text} count in the template alone, and stay text in a text; pieces are those of the whole sentence
with the word in it; what a text depends on is the template and itself. A text that is too long loses its end, a pair
that of its longer text, and is counted. Costs a forward pass a text, as many as their pieces for words of several, of a
causal model one a word. Refuses templates without one [MASK] and {text}, words that the vocabulary does not know, and
what `language_model.asked` refuses.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tundish.operators.model import measures
from tundish.operators.model.certainty import wilson
from tundish.operators.model.cloze import likely
from tundish.operators.model.likelihood import before
from tundish.operators.text.piece_offsets import Spans, spans
from tundish.stages.examples import Examples, batches, read
from tundish.stages.examples_cells import Layout, nearest
from tundish.stages.examples_windows import both
from tundish.stages.language_model import Asked, asked

SLOTS = re.compile(r"(\{text\}|\{second\}|\[MASK\])")
TEXT, SECOND, MASK = "{text}", "{second}", "[MASK]"
AT_ONCE = 256  # rows
ROUND, TINY = 6, 1e-12
Span = tuple[int, int]


@dataclass(frozen=True)
class Filler:
    """`words`: each with the number of its label in `names`. `prior` (C,): what content-free texts give, if any."""

    it: Asked
    template: tuple[str, ...]
    words: tuple[tuple[str, int], ...]
    names: tuple[str, ...]
    prior: np.ndarray | None = None


class Sentence(NamedTuple):
    """A template filled in, and the bytes at which its slots lie."""

    text: str
    slots: Mapping[str, Span]


class Filled(NamedTuple):
    """Ids with their frame; the places of the word, the first and behind the last; `cut`: pieces that were lost."""

    ids: np.ndarray
    first: int
    last: int
    cut: int


def filler(
    folder: str,
    template: str,
    words: Sequence[tuple[str, str]],
    *,
    content_free: Sequence[str] = (),
    device: str = "",
) -> Filler:
    """A model made ready. `words`: each with its label; a label may have several."""
    parts = parsed(template)
    names = tuple(dict.fromkeys(label for _, label in words))
    if len(names) < 2 or len({word for word, _ in words}) < len(words):
        told = ", ".join(f"{word}={label}" for word, label in words) or "nothing"
        raise ValueError(f"the words are {told}; give words of two labels at least, and each of them once")
    if content_free and SECOND in parts:
        raise ValueError("a pair has no content-free text; leave out what is to calibrate it")
    own = tuple((word, names.index(label)) for word, label in words)
    made = Filler(asked(folder, device=device), parts, own, names)
    prior = probabilities(made, content_free)[0].mean(0) if content_free else None
    return replace(made, prior=prior)


def parsed(template: str) -> tuple[str, ...]:
    """A template as its slots and what lies between them.

    >>> parsed("{text} It was [MASK].")
    ('{text}', ' It was ', '[MASK]', '.')
    """
    parts = tuple(part for part in SLOTS.split(template) if part)
    for slot, most in ((MASK, "one"), (TEXT, "one")):
        if parts.count(slot) != 1:
            raise ValueError(f"{template!r} has {parts.count(slot)} times {slot}; write it {most} time")
    if parts.count(SECOND) > 1:
        raise ValueError(f"{template!r} has {SECOND} more than once; write it once for pairs, else not at all")
    return parts


def sentence(template: Sequence[str], text: str, second: str, word: str) -> Sentence:
    """The template with all of its slots filled."""
    values, parts, slots, at = {TEXT: text, SECOND: second, MASK: word}, [], {}, 0
    for part in template:
        value = values.get(part, part)
        if part in values:
            slots[part] = (at, at + len(value.encode()))
        at += len(value.encode())
        parts.append(value)
    return Sentence("".join(parts), slots)


def probabilities(
    it: Filler, texts: Sequence[str], seconds: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(n, C) shares of the labels, and (n,) pieces that each text lost."""
    if seconds is None and SECOND in it.template:
        raise ValueError(f"the template has {SECOND}, and the texts stand alone; give the second of each")
    pairs = list(zip(texts, seconds or [""] * len(texts), strict=True))
    made = [sentence(it.template, *pair, word) for pair in pairs for word, _ in it.words]
    found = spans(it.it.pieces, pa.array([each.text for each in made], pa.large_string()))
    filled = [_filled(it, found, number, each) for number, each in enumerate(made)]
    nats = (_followed if it.it.causal else _hidden)(it, filled).reshape(len(texts), len(it.words))
    return _labels(it, nats), np.array([one.cut for one in filled]).reshape(nats.shape).max(1)


def _filled(it: Filler, found: Spans, number: int, one: Sentence) -> Filled:
    """A sentence as the model reads it, shortened where it must be."""
    mine = slice(int(found.bounds[number]), int(found.bounds[number + 1]))
    ids, begins, ends = found.ids[mine].astype(np.int64), found.begins[mine], found.ends[mine]
    first, last = one.slots[MASK]
    places = np.flatnonzero((ends > first) & (begins < last))
    word, specials = one.text.encode()[first:last].decode(), it.it.pieces.specials
    if not len(places) or specials["[UNK]"] in ids[places]:
        raise ValueError(f"the vocabulary does not know {word!r}; choose another word, or a template that parts it off")
    gone = _beyond(it, one, begins, ends)
    kept = np.ones(len(ids), bool)
    kept[gone] = False
    kept[places] = True
    at = int(kept[: places[0]].sum()) + 1
    framed = np.concatenate([[specials["[CLS]"]], ids[kept], [specials["[SEP]"]]])
    return Filled(framed, at, at + int(places[-1] - places[0]) + 1, int((~kept).sum()))


def _beyond(it: Filler, one: Sentence, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Numbers of the pieces that a sentence is too long by: from the ends of its texts, the longer first."""
    over = len(begins) + 2 - it.it.model.shape.length
    if over <= 0:
        return np.zeros(0, np.int64)
    inside = [
        np.flatnonzero((begins >= one.slots[slot][0]) & (ends <= one.slots[slot][1]))
        if slot in one.slots
        else np.zeros(0, np.int64)
        for slot in (TEXT, SECOND)
    ]
    sizes = [np.array([len(each)]) for each in inside]
    room = int(sizes[0][0] + sizes[1][0]) - over
    if room < 0:
        raise ValueError(
            f"the template alone has more tokens than the {it.it.model.shape.length} that the model reads; shorten it"
        )
    return np.concatenate([each[int(keep[0]) :] for each, keep in zip(inside, both(*sizes, room), strict=True)])


def _hidden(it: Filler, filled: Sequence[Filled]) -> np.ndarray:
    """(n,) nats of each sentence's word: its pieces from the left, each hidden with those behind it."""
    mask = it.it.pieces.specials[MASK]
    numbers, documents, where, pieces, owner = {}, list[np.ndarray](), [], [], []
    for whose, one in enumerate(filled):
        for place in range(one.first, one.last):
            copy = one.ids.copy()
            copy[place : one.last] = mask
            number = numbers.setdefault(copy.tobytes(), len(documents))  # words of one piece share theirs
            if number == len(documents):
                documents.append(copy)
            where.append((number, place))
            pieces.append(int(one.ids[place]))
            owner.append(whose)
    return np.bincount(owner, likely(it.it.model, documents, where, pieces), minlength=len(filled))


def _followed(it: Filler, filled: Sequence[Filled]) -> np.ndarray:
    """(n,) nats of each sentence from its word on."""
    found = before(it.it.model, [one.ids for one in filled])
    return np.array([each[one.first - 1 :].sum() for each, one in zip(found, filled, strict=True)])


def _labels(it: Filler, nats: np.ndarray) -> np.ndarray:
    """(n, C) shares of labels, of nats (n, W) of words."""
    shares = np.exp(nats - nats.max(1, keepdims=True))
    whose = np.array([label for _, label in it.words])
    means = np.stack([shares[:, whose == label].mean(1) for label in range(len(it.names))], 1)
    means = means / means.sum(1, keepdims=True)
    if it.prior is None:
        return means  # type: ignore[no-any-return]
    divided = means / np.maximum(it.prior, TINY)
    return divided / divided.sum(1, keepdims=True)  # type: ignore[no-any-return]


def fills(
    it: Filler,
    files: str | Sequence[str],
    columns: Mapping[str, Any] | None = None,
    *,
    label: str | int | None = None,
    layout: Layout | None = None,
) -> Iterator[dict[str, Any]]:
    """A dict a row, in order. `label`: the column with the true one, told as `truth`. `cut`: pieces that were lost."""
    paired = SECOND in it.template
    for some in _batches(files, dict(columns or {}), label, layout):
        seconds = some.table["second"].to_pylist() if paired else None
        if paired and None in (seconds or ()):
            raise ValueError(f"the template has {SECOND}, and the rows have no second text; name its column")
        shares, cut = probabilities(it, some.table["text"].to_pylist(), seconds)
        own = some.table.select(["file", "row", "id"]).to_pylist()
        for at, (where, row, lost) in enumerate(zip(own, shares, cut.tolist(), strict=True)):
            best = int(row.argmax())
            each = {name: round(float(share), ROUND) for name, share in zip(it.names, row, strict=True)}
            told = {"label": it.names[best], "probability": each[it.names[best]], "probabilities": each}
            told |= {"cut": lost} if lost else {}
            yield where | told | ({} if label is None else {"truth": _truth(it, some, at)})


def _batches(
    files: str | Sequence[str], columns: dict[str, Any], label: str | int | None, layout: Layout | None
) -> Iterator[Examples]:
    if label is None:
        yield from batches("classify", files, columns, size=AT_ONCE, layout=layout)
        return
    whole = read("classify", files, columns | {"label": label}, layout=layout)
    for at in range(0, len(whole), AT_ONCE):
        yield whole.take(range(at, min(len(whole), at + AT_ONCE)))


def _truth(it: Filler, some: Examples, at: int) -> str:
    name = some.names[some.table["label"][at].as_py()]
    if name in it.names:
        return name
    where, near = f"row {some.table['row'][at]} of {some.table['file'][at]}", nearest(name, it.names)
    hint = f"did you mean {near!r}?" if near else "give words for it"
    raise ValueError(f"{where} has the label {name[:60]!r}, and the words are for {', '.join(it.names)}; {hint}")


def measured(truths: Sequence[str], guesses: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Accuracy with Wilson's interval and macro F1, beside those of the most frequent label."""
    numbers = {name: number for number, name in enumerate(names)}
    truth, guess = (np.array([numbers[each] for each in one], np.int64) for one in (truths, guesses))
    common = np.full(len(truth), np.bincount(truth).argmax())
    found = wilson(int((truth == guess).sum()), len(truth))
    return {
        "rows": len(truth),
        "accuracy": found.value,
        "interval": [found.low, found.high],
        "macro_f1": float(measures.average(truth, guess, "macro").f1),
        "majority": {
            "label": names[int(common[0])],
            "accuracy": float((truth == common).mean()),
            "macro_f1": float(measures.average(truth, common, "macro").f1),
        },
    }
