"""What HTML says of its elements: which are blocks, void, raw; which start tag ends which open element.

Source: WHATWG HTML (2026-11), 13.1.2 (kinds of elements, optional tags), 13.2.6.4 (implied ends), 15.3 (what is shown
as a block). Promises nothing but tables of constants.
"""

import numpy as np

# fmt: off
NAMES = (
    "", "html", "head", "body", "title", "base", "link", "meta", "style", "script", "noscript", "template",
    "article", "section", "nav", "aside", "h1", "h2", "h3", "h4", "h5", "h6", "hgroup", "header", "footer", "address",
    "main", "search", "p", "hr", "pre", "blockquote", "ol", "ul", "menu", "li", "dl", "dt", "dd", "figure",
    "figcaption", "div", "center", "table", "caption", "colgroup", "col", "tbody", "thead", "tfoot", "tr", "td", "th",
    "form", "fieldset", "legend", "label", "input", "button", "select", "datalist", "optgroup", "option", "textarea",
    "details", "summary", "dialog", "a", "em", "strong", "b", "i", "u", "s", "small", "big", "tt", "font", "code",
    "kbd", "samp", "var", "sub", "sup", "span", "time", "q", "cite", "abbr", "mark", "del", "ins", "br", "wbr", "img",
    "picture", "source", "track", "video", "audio", "iframe", "embed", "object", "param", "area", "map", "svg", "math",
    "canvas", "xmp", "noembed", "noframes", "frame", "frameset", "nobr", "ruby", "rt", "rp", "dir", "applet", "marquee",
    "strike", "bdi", "bdo", "data", "dfn", "output", "progress", "meter", "slot",
    "foreignobject", "desc", "annotation-xml", "mi", "mo", "mn", "ms", "mtext",
)
# fmt: on
TAG = {name: number for number, name in enumerate(NAMES)}

BLOCK, VOID, RAW, SILENT, CELL, NOTED, STOP = 1, 2, 4, 8, 16, 32, 64


def _kinds() -> np.ndarray:
    """(256,) uint8: what is known of each tag."""
    kinds = np.zeros(256, np.uint8)

    def mark(bit: int, names: str) -> None:
        for name in names.split():
            kinds[TAG[name]] |= bit

    mark(
        BLOCK,
        "html head body article section nav aside h1 h2 h3 h4 h5 h6 hgroup header footer address main search p hr pre "
        "blockquote ol ul menu li dl dt dd figure figcaption div center table caption tbody thead tfoot tr td th form "
        "fieldset legend button select option optgroup details summary dialog noscript template svg math object video "
        "audio dir marquee applet frameset canvas textarea title",
    )
    mark(VOID, "base link meta hr input br wbr img source track embed param area col frame")
    mark(RAW, "title style script textarea xmp noembed noframes iframe")  # and noscript, in a head
    mark(SILENT, "head template select datalist svg math object video audio canvas applet rp")
    mark(CELL, "td th caption")
    mark(NOTED, "html base link meta title time")
    mark(STOP, "table td th caption object applet marquee template")
    return kinds


def _key(name: bytes) -> int:
    """Up to eight letters and the length as one number; distinct for all names above."""
    return int.from_bytes(name[:8].ljust(8, b"\0"), "little") ^ (len(name) * 0x9E3779B97F4A7C15 & (1 << 64) - 1)


def _places() -> tuple[np.ndarray, np.ndarray]:
    """A table of 1,024 places with open addressing: key of a name, its number; key 0 is a free place."""
    keys, numbers = np.zeros(1024, np.uint64), np.zeros(1024, np.uint8)
    for name, number in TAG.items():
        if name:
            at = (_key(name.encode()) * 0xD1B54A32D192ED03 >> 40) & 1023
            while keys[at]:
                at = (at + 1) & 1023
            keys[at], numbers[at] = _key(name.encode()), number
    return keys, numbers


KINDS = _kinds()
KEYS, NUMBERS = _places()

HIDDEN, ARIA_HIDDEN, TOLD = 1, 2, 4  # marks of an element: not shown; aria-hidden; it has a rel
NONE, SPACE, LINE, PART = 0, 1, 2, 3  # what parts a piece from the one before it: PART begins a block

_NAMED = "html head body title script noscript a br p table tr tbody thead tfoot svg math"
HTML, HEAD, BODY, TITLE, SCRIPT, NOSCRIPT, A, BR, P, TABLE, TR, TBODY, THEAD, TFOOT, SVG, MATH = (
    TAG[name] for name in _NAMED.split()
)


FROM_SELECT = 9  # row of what ends a select, whatever is open in it
ENDS_SELECT = ("input", "textarea", "select", "table", "caption", "tbody", "thead", "tfoot", "tr", "td", "th")


def _implied() -> tuple[np.ndarray, np.ndarray]:
    """Which open element a start tag ends. (256,) row of a tag; (rows, 256): 1 that one, 2 look no further, 0 pass."""
    rows, table = np.zeros(256, np.uint8), np.zeros((FROM_SELECT + 1, 256), np.uint8)
    blocks = np.flatnonzero(KINDS & BLOCK)

    def rule(row: int, starts: str, ended: str, fence: str = "") -> None:
        table[row, blocks] = 2 if not fence else 0
        for name in fence.split():
            table[row, TAG[name]] = 2
        for name in ended.split():
            table[row, TAG[name]] = 1
        for name in starts.split():
            rows[TAG[name]] = row

    rule(1, "", "p")
    rule(2, "li", "li", "ul ol menu dir table td th body")
    rule(3, "dt dd", "dt dd", "dl table td th body")
    rule(4, "tr", "tr", "table template body")
    rule(5, "td th", "td th", "tr table template body")
    rule(6, "tbody thead tfoot", "tbody thead tfoot caption", "table template body")
    rule(7, "option optgroup", "option", "select datalist body")
    rule(8, "a", "a")
    rule(FROM_SELECT, "", "select", "body")
    return rows, table


ROWS, IMPLIED = _implied()
LEAVES_SELECT = np.zeros(256, bool)
LEAVES_SELECT[[TAG[name] for name in ENDS_SELECT]] = True
HEADISH = np.zeros(256, bool)  # elements that a head may hold
HEADISH[
    [TAG[name] for name in ["head", "meta", "link", "base", "title", "script", "style", "noscript", "template"]]
] = True

# What tags are inside svg and math: BREAKS_OUT of them, or is KNOWN there; all others are names without a meaning. In
# the known ones but svg and math, HTML begins again (13.2.6.5, 13.2.6.1: integration points).
BREAKS_OUT, KNOWN = 1, 2


def _in_foreign() -> np.ndarray:
    table = np.zeros(256, np.uint8)
    out = (
        "b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li menu meta nobr "
        "ol p pre ruby s small span strong strike sub sup table tt u ul var"
    )
    table[[TAG[name] for name in out.split()]] = BREAKS_OUT
    known = "svg math foreignobject desc title annotation-xml mi mo mn ms mtext"
    table[[TAG[name] for name in known.split()]] = KNOWN
    return table


IN_FOREIGN = _in_foreign()

TABLES = (KEYS, NUMBERS, KINDS, ROWS, IMPLIED, HEADISH, LEAVES_SELECT, IN_FOREIGN)
