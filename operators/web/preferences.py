"""What may be done with a content, as its server says: `Content-Usage` and `Content-Signal`, in a header or robots.txt.

    train-ai=n, search=y            Content-Usage (draft-ietf-aipref-attach-05, August 2026; -vocab-08, September 2026)
    search=yes, ai-train=no         Content-Signal (contentsignals.org, September 2025)

Promises: a label that is stated is told as it was written, with True (may be) or False (may not be); what cannot be
read states nothing. Costs one pass. Refuses nothing.

Refusals are read more widely than the drafts ask, permissions are not. `train-ai=no`, `TRAIN-AI=n` and the other
vocabulary's `ai-train=n` mean no, whoever writes them; so do the labels of earlier drafts, which spoke of all automated
use (`tdm`, `all`, `bots`) and of kinds of training inside of training.
"""

import re
from collections.abc import Iterable, Mapping

LONGEST = 4096  # characters of one statement
# Narrower -> wider, by the drafts that had both (-01 to -04); what is said of the wider holds for the narrower.
CATEGORIES = {"train-genai": "train-ai", "train-ai": "bots", "ai-use": "bots", "search": "bots"}
SAME = {
    **{"tdm": "bots", "all": "bots", "ai": "train-ai", "genai": "train-genai"},
    **{"inference": "ai-use", "ai-output": "ai-use"},
}
SIGNALS = {"ai-train": "train-ai", "ai-input": "ai-use"}  # labels only Content-Signal has, and what they come near to

_QUOTED = re.compile(r'"[^"]*+"?+')
_LABEL = re.compile(r"[a-z*][a-z0-9_.*-]{0,63}")
_YES, _NO = frozenset({"y", "yes"}), frozenset({"n", "no", "?0"})


def statement(text: str) -> dict[str, bool]:
    """Labels of a statement, True where the use is allowed. Of a label that is repeated the last holds (RFC 9651).

    >>> statement("train-ai=n;x=1, search=y, bots=maybe")
    {'train-ai': False, 'search': True}
    """
    found: dict[str, bool | None] = {}
    for part in _QUOTED.sub('""', text[:LONGEST]).split(","):
        label, _, value = part.partition(";")[0].partition("=")
        label, value = label.strip().lower(), value.strip().lower()
        if _LABEL.fullmatch(label):
            found[label] = True if value in _YES else False if value in _NO else None
    return {label: allowed for label, allowed in found.items() if allowed is not None}


def strictest(statements: Iterable[Mapping[str, bool]]) -> dict[str, bool]:
    """Several statements as one: a label that any of them refuses is refused (draft-ietf-aipref-vocab, section 5.1).

    >>> strictest([{"search": True, "train-ai": True}, {"train-ai": False}])
    {'search': True, 'train-ai': False}
    """
    found: dict[str, bool] = {}
    for one in statements:
        for label, allowed in one.items():
            found[label] = found.get(label, True) and allowed
    return found


def allows(stated: Mapping[str, bool], category: str) -> bool | None:
    """Whether a use is allowed: by what is said of it, else of what it is a part of; None where nothing is said.

    The labels of the two vocabularies count each by themselves, and the stricter of both answers holds.

    >>> allows({"bots": False, "train-ai": True}, "train-genai"), allows({"search": False}, "train-ai")
    (True, None)
    >>> allows({"train-ai": True, "ai-train": False}, "train-ai")
    False
    """
    usage = strictest({SAME.get(label, label): allowed} for label, allowed in stated.items() if label not in SIGNALS)
    signals = {SIGNALS[label]: allowed for label, allowed in stated.items() if label in SIGNALS}
    answers = (_by_width(known, category) for known in (usage, signals))
    return min((answer for answer in answers if answer is not None), default=None)


def _by_width(known: Mapping[str, bool], category: str) -> bool | None:
    at: str | None = category
    while at is not None:
        if at in known:
            return known[at]
        at = CATEGORIES.get(at)
    return None


def exceptions(stated: Mapping[str, bool], label: str) -> tuple[str, ...]:
    """The labels of a statement that allow a part of what it refuses by `label`, sorted.

    >>> exceptions({"bots": False, "train-ai": True, "ai-train": True}, "bots")
    ('train-ai',)
    """
    wide = SAME.get(label, label)
    allowed = [one for one, yes in stated.items() if yes and one not in SIGNALS]
    return tuple(sorted(one for one in allowed if _inside(SAME.get(one, one), wide)))


def _inside(category: str, wide: str) -> bool:
    at = CATEGORIES.get(category)
    return at is not None and (at == wide or _inside(at, wide))
