"""Who does not want a text to be used, and for what: one vocabulary for every machine-readable opt-out.

    tdm-reservation (header|meta|tdmrep.json)     rights of text and data mining are reserved
    tdm-policy URL (header|meta|tdmrep.json)      where terms are offered, beside a reservation
    noai, noimageai (header|meta)                 of X-Robots-Tag, of a robots meta tag or one named for us
    train-ai=n, search=n, ... (header|robots.txt) Content-Usage; `bots=n but train-ai=y` if a part is allowed
    ai-train=no, ai-input=no (header|robots.txt)  Content-Signal
    disallow NAME (robots.txt)                    a crawler that gathers for training is turned away by its name

Sources: TDM Reservation Protocol, W3C Community Group Final Report of 10 May 2024 (meta over header over file, the
first rule that matches in the file); draft-ietf-aipref-attach-05 (19 August 2026) and -vocab-08 (14 September 2026);
contentsignals.org (September 2025); `noai` as DeviantArt defined it (November 2022). A licence is no opt-out, and what
speaks of search or of images alone is told, but keeps no text out of training.

Promises: the strings are stable, distinct and sorted; nothing here can raise on what a server sends; time linear in it.
Costs some 20 us a page beside the scan for meta tags. Refuses nothing.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tundish.operators.web.directives import directives
from tundish.operators.web.patterns import Pattern, compiled, normal, path_of
from tundish.operators.web.preferences import SIGNALS, allows, exceptions, statement
from tundish.operators.web.tags import pattern, tags

METAS = 100  # meta tags of a page that are kept
CONTENT = 1024  # characters of one
RULES = 10_000  # of a tdmrep.json
FILE = 1 << 20  # bytes of a tdmrep.json that are read; a longer one reserves everything
FILE_OF_SITE = "tdmrep.json"
BETWEEN = "; "  # what opt-outs are joined by in one line; none of them has it inside
HEAD = 1 << 18  # characters of a page that are searched for meta tags when nobody has looked yet

# Names in robots.txt that stand for gathering texts to train models on, by their owners' own pages (2026-11). The two
# `-extended` are no crawlers: they are there to be refused.
TRAINERS = (
    "google-extended",
    "applebot-extended",
    "gptbot",
    "ccbot",
    "claudebot",
    "anthropic-ai",
    "meta-externalagent",
    "bytespider",
    "cohere-training-data-crawler",
    "ai2bot",
)

_NAMES = ("robots", "tdm-reservation", "tdm-policy")
_META = pattern(frozenset({"meta", "body"}))
_PART = r"[a-z*][a-z0-9_.*-]*+"
_SAID = re.compile(rf"({_PART})=(?:n|no)(?: but ({_PART}=y(?:, {_PART}=y)*+))? \((?:header|robots\.txt)\)")


@dataclass(frozen=True)
class Tdm:
    """What TDMRep says of one resource. `reserved` None: nothing. `policy`: an address in printable ASCII, or empty."""

    reserved: bool | None = None
    policy: str = ""


@dataclass(frozen=True)
class Tdmrep:
    """A site's /.well-known/tdmrep.json: (pattern of a path, what holds there), in the order of the file."""

    rules: tuple[tuple[Pattern, Tdm], ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> "Tdmrep":
        """Rules of the file; what is no rule is passed over, what is no JSON has none."""
        if len(body) > FILE:
            return cls(((compiled("/"), Tdm(True)),))
        try:
            found = json.loads(body.decode("utf-8-sig", "replace"))
        except (ValueError, RecursionError):
            return cls()
        return cls(tuple(_rules(found if isinstance(found, list) else [found])))

    def of(self, url: str) -> Tdm:
        """What holds for a URL: the first rule that matches.

        >>> first, then = b'{"location": "/a/*.pdf$", "tdm-reservation": 0}', b'{"location": "/", "tdm-reservation": 1}'
        >>> site = Tdmrep.parse(b"[%b, %b]" % (first, then))
        >>> site.of("http://heron.example/a/b.pdf").reserved, site.of("http://heron.example/a/b").reserved
        (False, True)
        """
        if not self.rules:
            return Tdm()
        path = path_of(url)
        return next((said for location, said in self.rules if location.matches(path)), Tdm())


def _rules(found: Sequence[object]) -> Iterable[tuple[Pattern, Tdm]]:
    for one in found[:RULES]:
        location = one.get("location") if isinstance(one, dict) else None
        if isinstance(one, dict) and isinstance(location, str) and len(location) <= CONTENT:
            said = _tdm(one.get("tdm-reservation"), one.get("tdm-policy"))
            if said.reserved is not None:
                yield compiled(normal(location if location.startswith(("/", "*")) else f"/{location}")), said


def _tdm(reservation: object, policy: object) -> Tdm:
    """0 and 1 are all there is; other values count as not set (as the report has it)."""
    known = {"1": True, "0": False}.get(str(reservation)[:64].strip().strip('"')) if _plain(reservation) else None
    return Tdm(known, normal(policy.strip()[:CONTENT]) if known and isinstance(policy, str) else "")


def _plain(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and value in (0, 1) and not isinstance(value, bool))


def metas(page: str, token: str = "") -> tuple[tuple[str, str], ...]:
    """(name, content) of the meta tags that opt-outs and directives are in: up to the body, or 256 K characters.

    Names are in lower case. `token`: our product token; tags may be named for us.
    """
    found: list[tuple[str, str]] = []
    for name, attributes, _ in tags(page[:HEAD], _META):
        if name == "body" or len(found) == METAS:
            break
        if name == "meta" and (kept := meta(attributes, token)):
            found.append(kept)
    return tuple(found)


def meta(attributes: Mapping[str, str], token: str = "") -> tuple[str, str] | None:
    """(name, content) of a meta tag's attributes, if it is one of those that are listened to."""
    name = attributes.get("name", "").strip().lower()
    if name in _NAMES or (name and name == token.lower()):
        return name, attributes.get("content", "")[:CONTENT]
    return None


def of_site(usage: Mapping[str, bool], tdm: Tdm | None = None, refused: Iterable[str] = ()) -> tuple[str, ...]:
    """The opt-outs that the files of a site state for one URL, sorted: what `Robots.usage` says of it, what
    `Tdmrep.of` says of it, and the `TRAINERS` that `Robots.refused` names for it.

    >>> of_site({"ai-train": False, "search": True}, Tdm(True), ["gptbot"])
    ('ai-train=no (robots.txt)', 'disallow gptbot (robots.txt)', 'tdm-reservation (tdmrep.json)')
    """
    found = _refusals(usage, "robots.txt") | _reserved(tdm or Tdm(), FILE_OF_SITE)
    return tuple(sorted(found | {f"disallow {agent} (robots.txt)" for agent in refused}))


def opt_outs(
    headers: Iterable[tuple[str, str]],
    head: Iterable[tuple[str, str]] = (),
    site: Iterable[str] = (),
    *,
    token: str = "",
) -> tuple[str, ...]:
    """All opt-outs that hold for one page, sorted.

    `headers`: name and value as they came (any case). `head`: the page's meta tags, as `metas` gives them. `site`: what
    `of_site` gave when the page was fetched. `token`: our product token.

    >>> opt_outs([("TDM-Reservation", "1"), ("X-Robots-Tag", "noai")], [("robots", "noimageai")])
    ('noai (header)', 'noimageai (meta)', 'tdm-reservation (header)')
    >>> opt_outs([("TDM-Reservation", "0")], site=["tdm-reservation (tdmrep.json)"])
    ()
    """
    sent: dict[str, list[str]] = {}
    for name, value in headers:
        sent.setdefault(name.strip().lower(), []).append(value)
    told: dict[str, list[str]] = {}
    for name, value in head:
        told.setdefault(name, []).append(value)
    reserved = _tdm_of(sent, told)
    found = {one for one in site if one and (reserved is None or not one.endswith(f" ({FILE_OF_SITE})"))}
    found |= reserved or set()
    found |= {f"{word} (header)" for word in _directives(sent.get("x-robots-tag", ()), token)}
    found |= {f"{word} (meta)" for word in _directives([*told.get("robots", ()), *told.get(token.lower(), ())], token)}
    for field in ("content-usage", "content-signal"):  # one field, however often it is sent (RFC 9651 section 4.2)
        found |= _refusals(statement(", ".join(sent.get(field, ()))), "header")
    return tuple(sorted(found))


def _tdm_of(sent: Mapping[str, Sequence[str]], told: Mapping[str, Sequence[str]]) -> set[str] | None:
    """The report's section on priority: what the page says stands over its header, that over the file of the site.
    None where neither says anything."""
    for where, known in (("meta", told), ("header", sent)):
        policy = next(iter(known.get("tdm-policy", ())), "")
        values = [one for value in known.get("tdm-reservation", ()) for one in value[:CONTENT].split(",")]
        said = [one for one in (_tdm(value, policy) for value in values) if one.reserved is not None]
        if said:  # of several the one that reserves
            return _reserved(max(said, key=lambda one: bool(one.reserved)), where)
    return None


def _reserved(said: Tdm, where: str) -> set[str]:
    if not said.reserved:
        return set()
    return {f"tdm-reservation ({where})"} | ({f"tdm-policy {said.policy} ({where})"} if said.policy else set())


def _directives(values: Iterable[str], token: str) -> frozenset[str]:
    """noai and noimageai. Repeated headers may have been joined by commas, so that only what stands directly behind
    another crawler's name is surely meant for that crawler alone."""
    parts = [part for value in values for part in value[:CONTENT].split(",")]
    return directives(parts, token) & {"noai", "noimageai"}


def _refusals(stated: Mapping[str, bool], where: str) -> set[str]:
    """Every label that is refused, with the parts of it that the same statement allows."""
    found = set()
    for label in (label for label, allowed in stated.items() if not allowed):
        but = ", ".join(f"{part}=y" for part in exceptions(stated, label))
        found.add(f"{label}={'no' if label in SIGNALS else 'n'}{f' but {but}' if but else ''} ({where})")
    return found


def forbids_training(found: Iterable[str], *, by_name: bool = False) -> bool:
    """Whether these opt-outs keep a text out of the training of a model: any reservation of text and data mining, noai,
    and a refusal of training, of training generative models, or of all automated use.

    `by_name`: a crawler that gathers for training being turned away by name does, too.

    >>> forbids_training(["noimageai (meta)", "search=n (header)"]), forbids_training(["noai (meta)"])
    (False, True)
    """
    return any(_forbids(one, by_name) for one in found)


def _forbids(one: str, by_name: bool) -> bool:
    if one.startswith(("tdm-reservation ", "noai ")):
        return True
    if one.startswith("disallow "):
        return by_name
    said = _SAID.fullmatch(one)
    stated = {said[1]: False} | statement(said[2] or "") if said else {}
    return any(allows(stated, use) is False for use in ("train-ai", "train-genai"))
