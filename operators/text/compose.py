r"""Canonical composition (NFC, Unicode annex 15) that nobody can make slow.

`unicodedata.normalize` puts the marks on a letter in order by insertion: 64,000 of them in disorder take 4 s, a
megabyte half an hour. Long runs of marks are put in order first, by `sorted`, which is stable as the annex asks; what
is in order is composed in linear time. Same result (tests/test_text_repair.py). Refuses nothing.
"""

import re
import sys
import unicodedata
from functools import cache

_LONG = 64  # marks; insertion is faster below
_STARTERS = dict.fromkeys("\u0f73\u0f75\u0f81")  # of class 0, but made of marks: composition never gives them back


def composed(text: str) -> str:
    r"""The text in NFC.

    >>> composed("e\u0301 a\u0302\u0323") == "\u00e9 \u1ead"
    True
    """
    if unicodedata.is_normalized("NFC", text):
        return text
    if len(text) > _LONG:
        text = _runs().sub(_ordered, text)
    return unicodedata.normalize("NFC", text)


def _ordered(run: re.Match[str]) -> str:
    marks = run[0]
    for starter in _STARTERS:
        marks = marks.replace(starter, unicodedata.normalize("NFD", starter))
    return "".join(sorted(marks, key=unicodedata.combining))


@cache
def _runs() -> re.Pattern[str]:
    marks = (chr(point) for point in range(0x300, sys.maxunicode + 1) if unicodedata.combining(chr(point)))
    return re.compile(f"[{''.join([*marks, *_STARTERS])}]{{{_LONG},}}")
