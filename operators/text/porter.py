"""Stems of English words by Porter's algorithm (Program 14(3), 1980) with the changes NLTK makes to it by default.

A word is a row of consonants and vowels; its measure m is the number of times a consonant follows a vowel. NLTK's own:
a list of irregular words; -ies and -ied of four letters become -ie; y becomes i behind a consonant alone; -alli before
the rest of step 2, and -bli for -abli, -fulli, -logi; two letters vowel and consonant count as a short syllable; words
of one or two letters stay.

Promises: the stem that `nltk.stem.porter.PorterStemmer()` gives a word in small letters. Costs some 10 us a word.
Refuses nothing: a word in other letters is a row of consonants.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise

IRREGULAR = {
    "sky": "sky", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "news": "news",
    "innings": "inning", "inning": "inning", "outings": "outing", "outing": "outing", "cannings": "canning",
    "canning": "canning", "howe": "howe", "proceed": "proceed", "exceed": "exceed", "succeed": "succeed",
}  # fmt: skip
SECOND = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "bli": "ble", "alli": "al",
    "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al",
    "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble",
    "fulli": "ful",
}  # fmt: skip
THIRD = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
FOURTH = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
)  # fmt: skip


def stem(word: str) -> str:
    """The stem of one word in small letters.

    >>> [stem(word) for word in ("relational", "hopefulness", "flies", "sky")]
    ['relat', 'hope', 'fli', 'sky']
    """
    if word in IRREGULAR or len(word) <= 2:
        return IRREGULAR.get(word, word)
    for step in (_plurals, _past, _y, _second, _third, _fourth, _final_e):
        word = step(word)
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


def _consonants(word: str) -> list[bool]:
    """Of each letter; y is one at the beginning and behind a vowel."""
    found: list[bool] = []
    for letter in word:
        found.append(letter not in "aeiou" and not (letter == "y" and found != [] and found[-1]))
    return found


def _measure(word: str) -> int:
    found = _consonants(word)
    return sum(here and not before for before, here in pairwise(found))


def _short(word: str) -> bool:
    """Ends with consonant, vowel, consonant, the last not w, x or y; or is vowel and consonant."""
    match _consonants(word)[-3:]:
        case [True, False, True]:
            return word[-1] not in "wxy"
        case [False, True]:
            return True
    return False


def _replaced(word: str, rules: Iterable[tuple[str, str]], allowed: Callable[[str], bool]) -> str:
    """By the rule of the longest ending there is, where what is before it allows that; no other is tried."""
    fitting = [rule for rule in rules if word.endswith(rule[0])]
    if not fitting:
        return word
    ending, instead = max(fitting, key=lambda rule: len(rule[0]))
    before = word[: len(word) - len(ending)]
    return before + instead if allowed(before) else word


def _measured(word: str) -> bool:
    return _measure(word) > 0


def _plurals(word: str) -> str:
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measured(word[:-3]) else word
    before = next((word[: -len(each)] for each in ("ed", "ing") if word.endswith(each)), "")
    return word if all(_consonants(before)) else _mended(before)


def _mended(word: str) -> str:
    """What lost its -ed or -ing, such that it can stand alone."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if word[-1:] == word[-2:-1] and _consonants(word)[-1]:
        return word if word[-1] in "lsz" else word[:-1]
    return word + "e" if _measure(word) == 1 and _short(word) else word


def _y(word: str) -> str:
    turns = word.endswith("y") and len(word) > 2 and _consonants(word[:-1])[-1]
    return word[:-1] + "i" if turns else word


def _second(word: str) -> str:
    if word.endswith("alli") and _measured(word[:-4]):
        return _second(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if _measured(word[:-3]) else word  # its l counts, so that geologi has a measure
    return _replaced(word, SECOND.items(), _measured)


def _third(word: str) -> str:
    return _replaced(word, THIRD.items(), _measured)


def _fourth(word: str) -> str:
    def allowed(before: str) -> bool:
        return _measure(before) > 1 and (not word.endswith("ion") or before[-1] in "st")

    return _replaced(word, ((each, "") for each in FOURTH), allowed)


def _final_e(word: str) -> str:
    before = word[:-1]
    if not word.endswith("e"):
        return word
    return before if _measure(before) > 1 or (_measure(before) == 1 and not _short(before)) else word
