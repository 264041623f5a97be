"""forget: documents leave a root, wherever it holds them, and no source takes them again.

Promises: what is asked for is a domain with all its hosts, a URL with those that redirects make one with it, or a
document by its id and its URL. The answer says what every dataset and archive lost, which files outside the root still
hold it, which copies stay under other addresses, which steps and checkpoints saw it, and that weights are not
unlearned. Killed at any point, the root is as it was or is brought to its end by the next `tundish forget`. Costs a
look at every dataset (stages/forget). Refuses what nothing under the root is of, and a root that a run holds.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tundish.cluster import store
from tundish.operators.web import urls
from tundish.pipeline.forget_seen import learned, models
from tundish.pipeline.funnel import Ran, ran, runs
from tundish.pipeline.lease import Lease, refuse_held
from tundish.pipeline.why import redirects
from tundish.stages import forget_swap as swap
from tundish.stages.forget import Laying, Lost, refuse_unreached
from tundish.stages.forget_find import met, others, outside
from tundish.stages.forget_rows import Piece, hits, is_table, pieces
from tundish.stages.forgotten import NONE, Forgotten, domain_key, forgotten, url_key

UNLEARNED = (
    "weights are not unlearned: what a model took from these documents stays in it until it is trained anew from a "
    "point before the first of those steps"
)
ID = 32  # hex digits


@dataclass(frozen=True)
class Asked:
    """What somebody typed, read: exactly one of the three."""

    what: str
    url: str = ""
    domain: str = ""
    id: str = ""

    @property
    def forgotten(self) -> Forgotten:
        if self.id:
            return Forgotten(ids=frozenset([bytes.fromhex(self.id)]))
        if self.url:
            return Forgotten(urls=frozenset([url_key(self.url)]))
        return Forgotten(domains=frozenset([domain_key(self.domain)]))


def asked(what: str) -> Asked:
    """A document's id, a URL or a domain. Raises ValueError for what is none of them.

    >>> asked("HTTP://Heron.example/a/../b#c").url, asked("Heron.example").domain
    ('http://heron.example/b', 'heron.example')
    """
    digits = what.strip()
    if digits and all(letter in "0123456789abcdefABCDEF" for letter in digits):
        if len(digits) != ID:
            raise ValueError(f"{what!r} has {len(digits)} hex digits and an id has {ID}; copy it whole")
        return Asked(what, id=digits.lower())
    if "://" in what:
        try:
            return Asked(what, url=urls.canonical(what))
        except ValueError as error:
            raise ValueError(f"{what!r} is no address of a page ({error}); mend it") from None
    return Asked(what, domain=_domain(what))


def _domain(what: str) -> str:
    try:
        host = urls.host(f"http://{what}/") if not set("/?#@: ") & set(what) else ""
    except ValueError:
        host = ""
    if "." not in host:
        raise ValueError(
            f"{what!r} is neither a domain, nor a URL with http:// or https://, nor an id of {ID} hex digits; give one "
            "of the three"
        )
    if urls.registrable(f"any.{host}") == f"any.{host}" and not host.rpartition(".")[2].isdigit():
        raise ValueError(f"{what!r} is a suffix under which everybody has domains; name the domains themselves")
    return host


def forget(root: str, what: Sequence[str], *, reason: str = "", dry: bool = False) -> dict[str, Any]:
    """Forget, or (`dry`) say what that would be. Without `what`: bring an interrupted forgetting to its end."""
    root = store.absolute(root)
    found = [asked(one) for one in what]
    if next(pieces(root), None) is None and swap.asked(root) is None:
        raise ValueError(f"nothing was run under {root!r}; check the path, or run a recipe with --root {root}")
    if not found and swap.asked(root) is None:
        raise ValueError("nothing is named to be forgotten, and nothing was interrupted; name a domain, a URL or an id")
    if dry:
        swap.refuse_unfinished(root)
        refuse_unreached(root)
        refuse_held(root)
        return _dry(root, found, reason)
    with Lease(root) as lease:
        answer = _finished(root, lease) if swap.asked(root) is not None else None
        if not found:
            assert answer is not None
            return answer
        refuse_unreached(root)
        entry = _entry(root, found, reason)
        swap.begin(root, entry)
        return _done(root, entry, lease)


def _finished(root: str, lease: Lease) -> dict[str, Any]:
    """What was interrupted: forward from where all was laid, else from the beginning."""
    if swap.ready(root) is not None:
        return swap.forward(root)
    entry = swap.asked(root)
    assert entry is not None
    swap.begin(root, entry)
    return _done(root, entry, lease)


def _done(root: str, entry: dict[str, Any], lease: Lease) -> dict[str, Any]:
    gone = Forgotten.of(entry)
    try:
        laying = Laying(root, gone, entry["time"], dry=False)
        lost = laying.run()
        answer = _answer(root, entry, laying, lost)
        if gone != gone & forgotten(root):
            laying.ledger({**entry, "rows": answer["documents"]})
        lease.check()
    except Exception:  # a damaged shard, a full disk: nothing has changed yet, and nothing has to wait for it
        swap.drop(root)
        raise
    swap.settle(root, answer, laying.changes.remove)
    return swap.forward(root)


def _dry(root: str, found: Sequence[Asked], reason: str) -> dict[str, Any]:
    entry = _entry(root, found, reason)
    laying = Laying(root, Forgotten.of(entry), entry["time"], dry=True)
    return {**_answer(root, entry, laying, laying.run()), "dry": True}


def _entry(root: str, found: Sequence[Asked], reason: str) -> dict[str, Any]:
    """The line of the ledger: everything that what was typed means here."""
    there, known = list(pieces(root)), forgotten(root)
    for one in found:
        if one.forgotten != one.forgotten & known and not _meets(there, one.forgotten):
            raise ValueError(
                f"nothing under {root!r} is of {one.what!r}; check the spelling: a domain stands for all its hosts, a "
                "URL for itself and its redirects"
            )
    wanted = _union(one.forgotten for one in found)
    _, named = met(there, Forgotten(ids=wanted.ids))
    chain = redirects(everything(root), {one.url for one in found if one.url} | set(_canonical(named)))
    whole = Forgotten(wanted.ids, wanted.urls | {url_key(url) for url in chain}, wanted.domains)
    gone, _ = met(there, whole)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"time": stamp, "reason": reason, **gone.plain}


def _meets(there: list[Piece], one: Forgotten) -> bool:
    """Whether a document, or an address that became none, is of it."""
    return bool(met(there, one)[0].ids - one.ids) or any(
        hits(p, shard, one).any() for p in there for shard in p.own if is_table(shard)
    )


def _union(each: Iterable[Forgotten]) -> Forgotten:
    found = NONE
    for one in each:
        found |= one
    return found


def _canonical(keys: Iterable[str]) -> Iterable[str]:
    """Those that are URLs; a document of a file is forgotten by its id alone."""
    for key in keys:
        try:
            yield urls.canonical(key)
        except ValueError:
            continue


def everything(root: str) -> Ran:
    """All runs under a root as if they were one: every stage that any of them names."""
    each = [ran(root, name) for name in runs(root)]
    recipe = {address: stage for one in each for address, stage in one.recipe.items()}
    last = each[-1] if each else None
    return Ran(root, last.name if last else "", last.goal if last else "", recipe, "done", 0.0, {})


def _answer(root: str, entry: dict[str, Any], laying: Laying, lost: list[Lost]) -> dict[str, Any]:
    """What was done, as plain values."""
    gone, past = Forgotten.of(entry), everything(root)
    ids = {value for one in lost if one.documents is not None for value in one.documents["id"].to_pylist() if value}
    told = [{"dataset": one.path, "kind": one.kind, "rows": one.rows, "bytes": one.bytes} for one in lost]
    return {
        "time": entry["time"],
        "reason": entry["reason"],
        "documents": len(ids),
        "addresses": len(gone.urls),
        "lost": told,
        "outside": outside(laying.found, lost),
        "copies": others(laying.found, gone),
        "models": models(past, laying),
        "learned": learned(lost),
        "redo": [{"stage": stage, "because": because} for stage, because in sorted(laying.changes.redo.items())],
        "weights": UNLEARNED,
    }
