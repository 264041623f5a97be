"""Whether the ids of a corpus mean to a folder of weights what they mean to its tokenizer.

    pieces     where the folder holds a vocabulary, its piece of every id must be the corpus's, and have a row
    specials   where it holds none, the ids its configuration names must be those of the corpus's [PAD], [CLS], …
    rows       there, of pieces by which the corpus's vocabulary grew: a model that our training left, or that was
               written from one, says how many it knows; another knows all, if its table has rows for them and more
               than the old vocabulary would be rounded up to

Promises: a corpus of another vocabulary is refused before a step is made of it, with the first piece that differs; of
pieces by which the vocabulary grew it is told whether the folder knows them already. Costs reading two vocabularies.
Where a folder has neither vocabulary nor named ids, sizes alone are compared, and that is told.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tundish.cluster import store
from tundish.operators.text import sentencepiece_file
from tundish.operators.text.tokenizer import JSON, MODEL, NAMES, entries
from tundish.stages.hub import PIECES

FILES = (JSON, MODEL, "spiece.model", "spm.model", "tokenizer.model", "vocab.json", "vocab.txt")  # the first that lies
CONFIGURED = {  # settings of theirs that name the id of a special; the first that does
    "[PAD]": ("pad_token_id",),
    "[CLS]": ("cls_token_id", "bos_token_id"),
    "[SEP]": ("sep_token_id", "eos_token_id"),
    "[MASK]": ("mask_token_id",),
}
ROUNDED = 64  # rows of a table are usually a multiple of it
SENTINEL = "<extra_id_"  # T5's, which lie behind its pieces and move
Parts = tuple[tuple[int, ...], ...]


class Corpus(NamedTuple):
    """The vocabulary of a corpus: its file, its ids, and of the last so many of them the parts they are made of."""

    name: str
    body: bytes
    size: int
    specials: Mapping[str, int]
    grown: Parts = ()


class Compared(NamedTuple):
    """`grown`: of the last ids, which the folder has no rows for, the parts whose mean they begin as; () begins fresh.
    `told`: by what was compared, for the result."""

    grown: Parts
    told: dict[str, Any]


def grown_of(vocabulary: Mapping[str, Any]) -> Parts:
    """The parts of the last pieces of a corpus's vocabulary, as its manifest has them; () where it did not grow."""
    told = vocabulary.get("grown")
    if not told:
        return ()
    first, parts = told["first"], tuple(tuple(each) for each in told["parts"])
    if first + len(parts) != vocabulary["size"] or not all(each and max(each) < first for each in parts):
        raise ValueError(
            f"the manifest of the shards says that {len(parts)} pieces from {first} on are new, and its vocabulary has "
            f"{vocabulary['size']}; tokenize again"
        )
    return parts


def compared(folder: str, rows: int, settings: Mapping[str, Any], corpus: Corpus) -> Compared:
    """Hold a corpus's ids against a folder whose table has so many rows. `settings`: of its configuration."""
    mine = _pieces(corpus.name, corpus.body)
    name = next((each for each in FILES if store.exists(store.join(folder, each))), "")
    first = corpus.size - len(corpus.grown)
    if not name:
        told = {"compared": _by_ids(folder, settings, corpus), "file": ""}
        known = _known(rows, settings, corpus)
        if first > known:
            raise ValueError(
                f"the corpus has {first:,} pieces and the table of {folder} {known:,} rows for some, so it was "
                "tokenized with another vocabulary; tokenize it with that of the folder (Tokenize.vocabulary takes its "
                "path)"
            )
        return Compared(corpus.grown[known - first :], told | ({"known": known - first} if known > first else {}))
    theirs = _pieces(name, store.read(store.join(folder, name)))
    theirs = {each: piece for each, piece in theirs.items() if each < first or not piece.startswith(SENTINEL)}
    _require_rows(theirs, rows, corpus, folder, name)
    odd = [each for each in range(corpus.size) if each in theirs and theirs[each] != mine.get(each, theirs[each])]
    lacking = [each for each in mine if each not in theirs]
    told = {"compared": "pieces", "file": name}
    if odd:
        raise ValueError(_other(odd[0], theirs, mine, folder, name))
    if not odd and not lacking:  # it was trained with the grown vocabulary before
        return Compared((), told)
    early = sorted(each for each in lacking if each < first)
    added = [each for each in early if each in corpus.specials.values() and each >= min(rows, max(theirs) + 1)]
    if early != added:
        piece = next(each for each in early if each not in added)
        raise ValueError(_other(piece, theirs, mine, folder, name))
    parts = _with_specials(corpus, first, added, settings)
    start = corpus.size - len(parts)
    known = {each for each in theirs if each >= first}  # rows that it has learned stay
    return Compared(tuple(() if start + number in known else each for number, each in enumerate(parts)), told)


def _known(rows: int, settings: Mapping[str, Any], corpus: Corpus) -> int:
    """For how many ids of a corpus a folder without a vocabulary has rows that mean something."""
    match settings.get(PIECES):
        case [int(pieces), int(of)] if of == rows:  # else it was changed since
            return min(pieces, corpus.size)
    first = corpus.size - len(corpus.grown)
    rounded = -(-first // ROUNDED) * ROUNDED
    return corpus.size if rows >= corpus.size and rows > rounded else min(first, rows)


def _require_rows(theirs: Mapping[int, str], rows: int, corpus: Corpus, folder: str, name: str) -> None:
    """Each piece that the corpus has and the folder names must have a row there. Specials may begin fresh."""
    special = {*corpus.specials.values()}
    if short := [each for each in theirs if rows <= each < corpus.size and each not in special]:
        raise ValueError(
            f"{store.join(folder, name)} names piece {short[0]:,} ({theirs[short[0]]!r}) and the table of the weights "
            f"beside it has {rows:,} rows, so they are of two models; put the vocabulary of the weights there"
        )


def _other(piece: int, theirs: Mapping[int, str], mine: Mapping[int, str], folder: str, name: str) -> str:
    there = repr(theirs[piece]) if piece in theirs else "none"
    return (
        f"the corpus was tokenized with another vocabulary than {folder}'s (piece {piece:,} is {there} there and "
        f"{mine.get(piece)!r} here); give Tokenize `vocabulary: {store.join(folder, name)}`"
    )


def _with_specials(corpus: Corpus, first: int, added: Sequence[int], settings: Mapping[str, Any]) -> Parts:
    """Specials that were added for us begin as what the folder has for the same: GPT-2 ends and begins alike."""
    if not added:
        return corpus.grown
    alike = {corpus.specials[special]: _configured(settings, special) for special in CONFIGURED}
    own = [(there,) if (there := alike.get(each)) is not None else () for each in range(min(added), first)]
    return (*own, *corpus.grown)


def _by_ids(folder: str, settings: Mapping[str, Any], corpus: Corpus) -> str:
    """Which specials were compared by their ids; refuses those that differ."""
    found = {special: _configured(settings, special) for special in CONFIGURED}
    named = {special: number for special, number in found.items() if number is not None}
    for special, number in named.items():
        if corpus.specials[special] != number:
            raise ValueError(
                f"{special} is {corpus.specials[special]} in the corpus and {number} in {folder}, so they have "
                "different vocabularies; tokenize the corpus with the folder's (Tokenize.vocabulary takes its path)"
            )
    return f"the ids of {', '.join(named)}" if named else "sizes"


def _configured(settings: Mapping[str, Any], special: str) -> int | None:
    found = next((settings[name] for name in CONFIGURED.get(special, ()) if settings.get(name) is not None), None)
    return found if isinstance(found, int) else None


def _pieces(name: str, body: bytes) -> dict[int, str]:
    """Ids to pieces, the five specials by our names for them, of any file that holds a vocabulary."""
    ours = {spelt: special for special, spellings in NAMES.items() for spelt in spellings}
    if name.endswith(".model"):
        listed = enumerate(piece.decode() for piece in sentencepiece_file.read(body).pieces)
        return {number: ours.get(piece, piece) for number, piece in listed}
    if name.endswith(".txt"):
        lines = body.decode().split("\n")
        return {number: ours.get(line, line) for number, line in enumerate(lines[:-1] if not lines[-1] else lines)}
    said = json.loads(body)
    named = said.items() if "model" not in said else entries(said)
    return {number: ours.get(piece, piece) for piece, number in named}
