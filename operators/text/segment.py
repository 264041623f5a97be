"""Words where none are marked: text of scripts written without spaces, cut by function words and script.

The rule of `words` makes every letter of Han, Kana, Thai, Lao, Khmer and Myanmar a word of its own; counts and n-grams
made for words then mean something else. Here a *run* (such letters with nothing between them) is cut so:

1. its script is told by its letters: any Kana makes it Japanese, else the script of its first letter;
2. letters that are one written syllable stay together: a vowel that stands before its consonant (เ, ໃ), one that stands
   behind it (า), a consonant under another (្) or that ends a syllable (်, ์; a bare one before เ or at the end):
   `AHEAD`, `BEHIND`, `BEFORE` and `FINAL`;
3. from left to right, the longest **function word** of that script that begins and ends where syllables do is a word
   (的, という, และ);
4. what lies between two of them is cut, separately for each kind of letter, into **pieces**: syllables until there are
   `PIECE` letters (marks ride along). A stretch of Katakana is one piece up to 20;
5. a full stop behind a Thai or Lao letter is a part of the word (ผอ.): there it abbreviates, and ends no sentence.

So the words of a run follow from its code points alone: no dictionary, no model, the same on every machine. Words come
out as long, on average, as those of real segmenters, and a repeated phrase is cut alike each time from its first
function word, sign or change of script on.

Measured (benchmarks/segment.py): beside jieba, MeCab (UniDic) and PyThaiNLP (newmm) it finds 1.04, 1.07 and 0.99 times
as many words, and Gopher's repetition rules decide alike on 98.5, 97.8 and 97.5 % of 400 texts, half of them with
phrases planted again and again (with ICU's dictionaries 99.8, 97.8, 98.5 %), and on 99.1 and 99.0 % of Chinese and
Japanese tutorials (ICU 98.4, 98.8; a word a character and n-grams of 2n: 84.0, 84.2). Lao, Khmer and Burmese were
compared with nothing but the length of ICU's words. Of the cuts in Thai sentences 80 % are newmm's, and 81 % of newmm's
are here: single words are often wrong, and syllables of two consonants are cut (เปลี่ยน); nothing is meant for reading.
Costs about 1.5 us a letter. Refuses nothing.
"""

import itertools
from collections.abc import Sequence

from tundish.operators.text.words import is_character, pattern_for, words

# The scripts that are told apart, by their blocks; unspaced letters outside of them are Han.
BLOCKS = {
    "Thai": ((0x0E00, 0x0E7F),),
    "Lao": ((0x0E80, 0x0EFF),),
    "Myanmar": ((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),
    "Khmer": ((0x1780, 0x17FF), (0x19E0, 0x19FF)),
    "Hiragana": ((0x3031, 0x3035), (0x3041, 0x309F), (0x1B001, 0x1B11F), (0x1B132, 0x1B152)),
    "Katakana": ((0x30A0, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B000), (0x1B120, 0x1B122)),
}
KANA = {"Hiragana", "Katakana"}
# Letters a piece, from the mean length of a word: two of Han or Hiragana, three to six (with marks) of the others.
PIECE = {"Han": 2, "Hiragana": 2, "Katakana": 20, "Thai": 6, "Lao": 5, "Khmer": 3, "Myanmar": 3}
# Inside a written syllable: behind a letter with one of AHEAD, and before one with one of BEHIND. Of the character
# clusters of Theeramunkong et al., IRAL 2000, those that leave no doubt, and the like of the neighbouring scripts.
BEFORE = frozenset("เแโใไເແໂໃໄ")  # vowels that begin a syllable
AHEAD = BEFORE | frozenset("\u0e31\u0e37\u0eb1\u0ebb\u17d2\u1039")
BEHIND = frozenset("ะาำๅ\u0e4cະາຳຽ\u0ecc\u103a")
LEAD, DRAWN = "เ", "\u0e35"  # behind which ย is a part of the vowel: เสียง
FINAL = frozenset(map(chr, (*range(0xE01, 0xE2F), *range(0xE81, 0xEAF), *range(0x1780, 0x17A3))))  # consonants
ABBREVIATED = {"Thai", "Lao"}  # scripts where a full stop behind a letter is a part of the word

# Words that join other words; Chinese in both spellings. Letters that are as often a part of another word are left out.
FUNCTION_WORDS: dict[str, frozenset[str]] = {
    script: frozenset(text.split())
    for script, text in {
        "Han": "的 了 在 是 和 也 就 都 与 與 及 或 而 这 這 不 对 對 "
        "我们 我們 他们 他們 一个 一個 可以 没有 沒有 因为 因為 所以 如果 但是",
        "Japanese": "の に は を が と で も から まで です ます でした ました する した して される いる ある ない "
        "こと これ それ この その ため よう など として について という",
        "Thai": "ที่ ของ และ ใน เป็น การ มี ได้ ให้ ไม่ ว่า จะ กับ จาก ความ ก็ แต่ นี้ หรือ โดย คน ไป มา อยู่ แล้ว ซึ่ง กัน ต้อง "
        "ผู้ เพื่อ ถึง ยัง นั้น เรา",
        "Lao": "ທີ່ ຂອງ ແລະ ໃນ ເປັນ ການ ມີ ໄດ້ ໃຫ້ ບໍ່ ວ່າ ຈະ ກັບ ຈາກ ກໍ່ ແຕ່ ນີ້ ຫຼື ໂດຍ ໄປ ມາ ຢູ່ ແລ້ວ ຊຶ່ງ ຕ້ອງ ຜູ້ ເພື່ອ ເຖິງ ຍັງ ນັ້ນ",
        "Khmer": "និង ជា បាន នៅ ដែល ក្នុង ការ មាន ពី ទៅ នេះ របស់ ដោយ ឲ្យ ឱ្យ មិន គឺ នឹង ដើម្បី លើ ឬ សម្រាប់ ទេ",
        "Myanmar": "သည် ကို မှာ များ တွင် နှင့် ဖြင့် အတွက် သော မှ လည်း ရန် ဖြစ် ခဲ့ ပါ နေ တယ် မည် ဟု",
    }.items()
}


# What a letter is; no entry means Han.
_KIND = {chr(code): name for name, blocks in BLOCKS.items() for low, high in blocks for code in range(low, high + 1)}
_LONGEST = {script: max(map(len, known)) for script, known in FUNCTION_WORDS.items()}  # at most so many letters


def script_of(run: str) -> str:
    """Han, Japanese, Thai, Lao, Khmer or Myanmar: whose function words cut a run.

    >>> script_of("東京都"), script_of("東京へ"), script_of("ไทย")
    ('Han', 'Japanese', 'Thai')
    """
    kinds = {_KIND.get(letter, "Han") for letter in run}
    if kinds & KANA:
        return "Japanese"
    return _KIND.get(run[:1], "Han")


def segment(run: str, script: str | None = None) -> list[str]:
    """The words of a run of unspaced letters; `script` is that of `script_of` unless given.

    >>> segment("我们在北京大学学习汉语")
    ['我们', '在', '北京', '大学', '学习', '汉语']
    """
    syllables = _syllables(words(run))
    script = script or script_of(run)
    found: list[str] = []
    begun = at = 0
    while at < len(syllables):
        length = _function_word(syllables, at, script)
        if length:
            found += _pieces(syllables[begun:at])
            found.append("".join(map("".join, syllables[at : at + length])))
            begun = at + length
        at += length or 1
    return found + _pieces(syllables[begun:])


def _syllables(letters: Sequence[str]) -> list[list[str]]:
    """Letters, each with the marks upon it, that nothing may come between."""
    found: list[list[str]] = []
    ahead = led = False
    for letter, after in itertools.zip_longest(letters, letters[1:], fillvalue=""):
        ends = letter in FINAL and (not after or after[0] in BEFORE)
        if found and (ahead or ends or not BEHIND.isdisjoint(letter)):
            found[-1].append(letter)
        else:
            found.append([letter])
        ahead = not AHEAD.isdisjoint(letter) or (led and DRAWN in letter)
        led = letter == LEAD
    return found


def _function_word(syllables: Sequence[Sequence[str]], at: int, script: str) -> int:
    """Syllables of the longest function word that begins here; 0 without one."""
    known = FUNCTION_WORDS[script]
    for length in range(min(_LONGEST[script], len(syllables) - at), 0, -1):
        if "".join(map("".join, syllables[at : at + length])) in known:
            return length
    return 0


def _pieces(syllables: Sequence[Sequence[str]]) -> list[str]:
    """Syllables of one kind together, until there are so many letters."""
    found: list[str] = []
    kind, held = "", 0
    for syllable in syllables:
        now = _KIND.get(syllable[0][0], "Han")
        if now == kind and held < PIECE[kind]:
            found[-1] += "".join(syllable)
            held += len(syllable)
        else:
            found.append("".join(syllable))
            kind, held = now, len(syllable)
    return found


def segmented(text: str) -> list[str]:
    """The tokens of `words`, but runs of unspaced letters cut into words.

    A space, a sign, a control or a format character (a zero-width space is one) ends a run.

    >>> segmented("WebAssembly是一种 二进制格式。")
    ['WebAssembly', '是', '一种', '二进', '制格', '式', '。']
    """
    found: list[str] = []
    begun = end = 0  # of the run so far
    for match in pattern_for(text).token.finditer(text):
        token, goes_on = match[0], is_character(match[0])
        if begun < end and (match.start() != end or not goes_on):
            found += segment(text[begun:end])
            if match.start() == end and _abbreviates(text[begun:end], token):
                found[-1] += "."
                token = token[1:]
            end = begun
        if not goes_on:
            found += [token] if token else []
            continue
        begun, end = (begun if begun < end else match.start()), match.end()
    return found + segment(text[begun:end])


def _abbreviates(run: str, token: str) -> bool:
    """Whether the token behind a run begins with a full stop (not the first of several) that is a part of its word."""
    last = words(run)[-1][0]
    return token.startswith(".") and not token.startswith("..") and _KIND.get(last) in ABBREVIATED
