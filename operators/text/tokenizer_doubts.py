"""Whether an exported `tokenizer.json` gives a SentencePiece model's ids for every text: proof, doubts, and samples.

Promises: where `doubts` finds none, the two programs compute the same thing (operators/text/tokenizer_json says why of
each part); where it finds some, each is a sentence, and `differing` shows what comes of them on texts. Costs a second
for 32,768 pieces, half of it the loading of the exported file.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from tundish.operators.text import vocabulary
from tundish.operators.text.exact_model import STEP
from tundish.operators.text.sentencepiece_file import UNUSED, USER_DEFINED
from tundish.operators.text.tokenizer_json import Known, cut_of, halves, repeats

LONGEST = 80  # times a piece is repeated in `runs`
AROUND = ("", " ", "a", ".", "1", "中", "\U0010ffff")


def doubts(model: bytes) -> list[str]:
    """Why ids might differ, a sentence each; none for what is learned here."""
    known = Known(model)
    return [*_of_text(known), *(_of_unigram(known) if known.model.kind == "unigram" else _of_bpe(known))]


def _of_text(known: Known) -> Iterator[str]:
    if known.model.charsmap and not known.ours:
        yield (
            "it normalises by a table of its own (such as nmt_nfkc), which tokenizers applies to a whole character "
            "with its marks, and SentencePiece to the longest prefix: texts with combining marks may differ"
        )
    if some := known.named(USER_DEFINED):
        yield f"it has {len(some)} user-defined pieces, such as {some[0][1]!r}: tokenizers takes them first"
    if some := known.named(UNUSED):
        yield f"it has {len(some)} unused pieces, such as {some[0][1]!r}, which tokenizers uses"


def _of_unigram(known: Known) -> Iterator[str]:
    scores = known.model.scores[list(known.normal.values())].astype(np.float64) / STEP
    if (scores != np.round(scores)).any():
        yield "its scores are no multiples of 1/64: equal choices differ in the last bits of their sums"
    open_ = [text for text in known.unspoken() if len(text) > 1 and not cut_of(text, known.joined)]
    if open_:
        yield f"a text that spells {open_[0]!r} may get the entry of that name (so for {len(open_)} entries)"


def _of_bpe(known: Known) -> Iterator[str]:
    scores = known.model.scores[list(known.normal.values())]
    if len(np.unique(scores)) < len(scores):
        yield "some pieces have the same score: SentencePiece merges the first in the text, tokenizers the first piece"
    alone = {text for text in known.normal if len(text) == 1}
    if some := next((text for text in known.normal if not alone.issuperset(text)), None):
        yield f"the piece {some!r} has a character that is no piece, and tokenizers cannot merge what is none"


def turned(known: Known) -> list[str]:
    """Pieces of a BPE model that two parts make in both orders, as `------` of 2 + 4 and 4 + 2.

    Only where the shorter part stands on both sides of the longer would the order of merges tell; merging from the
    left, which leaves the longer parts on the left, makes no such place in a run. `runs` asks both programs.
    """
    return [
        text
        for text in known.normal
        for at in halves(text, known.normal)
        if 2 * at < len(text) and repeats(text, at) and repeats(text, len(text) - at)
    ]


def runs(known: Known) -> Iterator[str]:
    """Texts of the repeated part of such pieces, of every length and between other characters."""
    roots = {text[: math.gcd(len(text), _period(text))] for text in turned(known)}
    for root in sorted(roots):
        for count in range(2, LONGEST):
            for before in AROUND:
                yield before + root.replace("\u2581", " ") * count + before


def _period(text: str) -> int:
    return next(at for at in range(1, len(text) + 1) if at == len(text) or repeats(text, at))


def differing(model: bytes, body: bytes, texts: Sequence[str]) -> list[int]:
    """Which texts get other ids from the exported file than from the model."""
    one, other = vocabulary.load(model), Tokenizer.from_str(body.decode())
    pairs = ((one.encode(text), other.encode(text, add_special_tokens=False).ids) for text in texts)
    return [number for number, (mine, theirs) in enumerate(pairs) if mine != theirs]


def checked(model: bytes, body: bytes, lines: Iterable[str], most: int) -> dict[str, int]:
    """How many doubts there are, on how many texts the two were compared (some lines, all `runs`), and differed."""
    known = Known(model)
    texts = [*itertools.islice(lines, most), *(runs(known) if known.model.kind == "bpe" else ())]
    return {"doubts": len(doubts(model)), "checked": len(texts), "differing": len(differing(model, body, texts))}
