"""Questions and their contexts as token ids: windows over long contexts, the pieces of the answer, the way back.

Every window is the question and a stretch of the context; stretches overlap, so that an answer shorter than the overlap
lies whole in one of them (Devlin et al. 2019, the SQuAD recipe). The pieces of an answer are all that hold one of its
characters.

Promises: begins and ends are characters (code points) of the context as it was read. A window learns the first of the
answers that lie in it whole. Told: `exact`, answers whose pieces give back their text; `wider`, those where a piece
goes on beyond it (a vocabulary's cut, not an error); `narrower`, those that end in what the normaliser drops, with
some `shown`; `split`, those that no window holds whole. Costs the tokenizer once a context, some 20 us a window.
Refuses a length that leaves a context no room beside a question.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tundish.operators.text.piece_offsets import characters, spans
from tundish.operators.text.tokenizer import Tokenizer
from tundish.stages.examples import Examples
from tundish.stages.examples_checks import lengths
from tundish.stages.examples_windows import stretches

NONE, UNKNOWN = -1, -100
SHOWN = 5  # of the answers that are wider, how many are told
Place = tuple[int, int]  # first piece of an answer and its last


class Context(NamedTuple):
    text: str
    ids: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


def answered(
    examples: Examples, pieces: Tokenizer, length: int | None, overlap: int | None, question: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(columns, told) of `examples_tokens.SCHEMAS["answer"]`."""
    table = examples.table
    questions = pieces.encode(table["question"].combine_chunks()).to_pylist()
    numbers, contexts = _contexts(table["context"].combine_chunks(), pieces)
    told: dict[str, Any] = dict.fromkeys(("cut_questions", "exact", "wider", "narrower", "split", "unplaced"), 0)
    told["shown"] = []
    out: dict[str, list[Any]] = {name: [] for name in (*Row._fields, "at")}
    texts, starts = table["answers"].to_pylist(), table["starts"].to_pylist()
    sizes = []
    for at, (asked, number) in enumerate(zip(questions, numbers, strict=True)):
        context = contexts[number]
        told["cut_questions"] += len(asked) > question
        places = _places(context, texts[at] or [], starts[at] or [], told)
        known = starts[at] is not None and (not starts[at] or any(places))
        sizes.append(len(asked) + len(context.ids))
        rows = _rows(context, asked[:question], places, known, length, overlap)
        told["split"] += bool(any(places) and not any(row.holds for row in rows))
        for row in rows:
            for name, value in zip(out, (*row, at), strict=True):
                out[name].append(value)
    taken = pa.array(out.pop("at"), pa.int64())
    longer = 0 if length is None else int((np.array(sizes) > length).sum())
    told |= {"length": length, "pieces": lengths(sizes), "longer": longer, "longer_share": longer / max(1, len(sizes))}
    told |= {"windows": len(taken), "windows_holding": sum(out["holds"])}
    where = {name: table[name].take(taken).combine_chunks() for name in ("key", "id", "file", "row")}
    return {**out, **where}, told


def _contexts(texts: pa.LargeStringArray, pieces: Tokenizer) -> tuple[list[int], list[Context]]:
    """(the context of each row, every context once with its pieces)."""
    coded = texts.dictionary_encode()
    every = coded.dictionary
    found = characters(every, spans(pieces, every))
    held = []
    for at, text in enumerate(every.to_pylist()):
        here = slice(found.bounds[at], found.bounds[at + 1])
        held.append(Context(text, found.ids[here], found.begins[here], found.ends[here]))
    return coded.indices.to_pylist(), held


def place_of(context: Context, start: int, stop: int) -> Place | None:
    """The pieces that hold a character from `start` to before `stop`; None where no piece does."""
    first = int(np.searchsorted(context.ends, start, side="right"))
    last = int(np.searchsorted(context.begins, stop, side="left")) - 1
    return (first, last) if first <= last else None


def _places(context: Context, texts: Sequence[str], starts: Sequence[int], told: dict[str, Any]) -> list[Place | None]:
    found = []
    for text, start in zip(texts, starts, strict=True):
        place = None if start < 0 else place_of(context, start, start + len(text))
        found.append(place)
        if place is None:
            told["unplaced"] += 1
            continue
        said = context.text[context.begins[place[0]] : context.ends[place[1]]]
        told["exact" if said == text else "wider" if text in said else "narrower"] += 1
        if said != text and len(told["shown"]) < SHOWN:
            told["shown"].append([text, said])
    return found


class Row(NamedTuple):
    tokens: np.ndarray
    second: int
    start: int
    end: int
    holds: bool
    begins: np.ndarray
    ends: np.ndarray
    window: int


def _rows(
    context: Context,
    asked: Sequence[int],
    places: Sequence[Place | None],
    known: bool,
    length: int | None,
    overlap: int | None,
) -> list[Row]:
    """The windows of one question. `known`: whether it is known where its answer is, or that there is none."""
    lead = len(asked)
    room = len(context.ids) or 1 if length is None else length - lead
    if room < 1:
        raise ValueError(
            f"a length of {length} pieces leaves no context beside a question of {lead}; give a row more, or give a "
            "question fewer"
        )
    found = []
    for number, (begin, stop) in enumerate(
        stretches(len(context.ids), room, room // 4 if overlap is None else overlap)
    ):
        inside = next((p for p in places if p and begin <= p[0] and p[1] < stop), None)
        start, end = (lead + p - begin for p in inside) if inside else (NONE, NONE) if known else (UNKNOWN, UNKNOWN)
        here = slice(begin, stop)
        tokens = np.concatenate([np.array(asked, np.int64), context.ids[here].astype(np.int64)])
        found.append(
            Row(tokens, lead, start, end, inside is not None, context.begins[here], context.ends[here], number)
        )
    return found
