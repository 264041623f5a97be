"""Tags of an HTML page, read in one pass without building a tree.

Promises: time linear in the page whatever it holds (no regular expression here can backtrack over what it has read);
comments and the insides of scripts, styles, titles and text areas give no tags. Costs about 3 ms for a page of 280 KB.
Refuses nothing: a tag that never ends is no tag, as in the WHATWG tokenizer.
"""

import html
import re
from collections.abc import Iterator

VALUE = 16 << 10  # characters of one attribute value that are kept; longer ones are data, not addresses

_ATTRIBUTE = re.compile(
    r"""[\s/]*+(?:(>)|([^\s/>][^\s/>=]*+)\s*+(?:=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>]*+)))?+)""",
)
_RAW = "script|style|title|textarea|xmp|noembed|noframes|iframe"
COMMENT_END = re.compile(r"--!?>")
RAW_END = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE | re.ASCII) for name in _RAW.split("|")}
_LONG_NUMBER = re.compile(r"&#([0-9]{9,}+)")
_FOREIGN = re.compile(r"<(/?)(?:svg|math)(?=[\s/>])", re.IGNORECASE | re.ASCII)
# Named references need their semicolon here, but for the four that pages forget it on: "&copy=1" is a parameter.
_REFERENCE = re.compile(
    r"&(?:#\d{1,7};?|#[xX][0-9a-fA-F]{1,6};?|[A-Za-z][A-Za-z0-9]{1,31};|(?:amp|lt|gt|quot)(?![=A-Za-z0-9]))"
)


def pattern(names: frozenset[str]) -> re.Pattern[str]:
    """What `tags` looks for: these start tags, and what hides tags. Compile once."""
    all_names = [*_RAW.split("|"), *sorted(names)]
    first = "".join(sorted({letter for name in all_names for letter in (name[0], name[0].upper())}))
    # most tags end at their first letter, before any name is tried
    return re.compile(rf"<(?=[!{first}])(?:(!--)|({'|'.join(all_names)})(?=[\s/>]))", re.IGNORECASE | re.ASCII)


def tags(page: str, wanted: re.Pattern[str]) -> Iterator[tuple[str, dict[str, str], int]]:
    """(name, attributes, where the tag ends) of start tags, in order. Names are lower case, the first of two attributes
    holds, character references are resolved in values that are short enough to be addresses.

    >>> list(tags('<!--<a href=x>--><A HREF="?a=1&amp;b=2" download>', pattern(frozenset({"a"}))))
    [('a', {'href': '?a=1&b=2', 'download': ''}, 49)]
    """
    at, foreign = 0, _Foreign()
    while found := wanted.search(page, at):
        if found[1]:
            end = COMMENT_END.search(page, found.start() + 2)
            if end is None:
                return
            at = end.end()
            continue
        name = found[2].lower()
        attributes, at = attributes_at(page, found.end())
        if at < 0:
            return
        yield name, attributes, at
        if name in RAW_END and not (page[at - 2] == "/" and foreign.at(page, found.start())):
            end = RAW_END[name].search(page, at)
            if end is None:
                return
            at = end.start()


class _Foreign:
    """Whether a place lies in svg or math, where `<style/>` ends itself; asked for places in order."""

    def __init__(self) -> None:
        self.read, self.inside = 0, False

    def at(self, page: str, place: int) -> bool:
        for tag in _FOREIGN.finditer(page, self.read, place):
            self.inside = not tag[1]
        self.read = place
        return self.inside


def attributes_at(page: str, at: int) -> tuple[dict[str, str], int]:
    """Attributes of the tag whose name ends at `at`, and where the tag ends; -1 if it never does."""
    found: dict[str, str] = {}
    while part := _ATTRIBUTE.match(page, at):
        at = part.end()
        if part[1]:
            return found, at
        name = part[2].lower()
        if name not in found:
            value = part[3] or part[4] or part[5] or ""
            found[name] = resolved(value) if len(value) <= VALUE else ""
    return found, -1


def resolved(value: str) -> str:
    """Character references in an attribute value, by the rules for attributes (WHATWG HTML, 13.2.5.72 on)."""
    return _REFERENCE.sub(lambda match: html.unescape(match[0]), value) if "&" in value else value


def unescaped(text: str) -> str:
    """Character references in a text resolved, by the rules for text. Never raises: html.unescape makes a number of
    what may be 5,000 digits, which Python refuses (int_max_str_digits).

    >>> unescaped("caf&eacute; &#0000000000065; &#" + "1" * 5000 + "; a&b")
    'café A \ufffd a&b'
    """
    if "&" not in text:
        return text
    if "&#" in text:
        text = _LONG_NUMBER.sub(lambda found: "&#" + (found[1].lstrip("0")[:9] or "0"), text)
    return html.unescape(text)


def title_of(page: str, end: int) -> str:
    """The text of the title element whose start tag ends at `end`, white space collapsed."""
    close = RAW_END["title"].search(page, end)
    return " ".join(unescaped(page[end : close.start() if close else end][:1000]).split())
