"""Which columns of a file a fine-tuned model is asked by, and whether it is asked about pairs.

    classify, multilabel, regress   text, and of a model of pairs second
    tag  words or text     answer  context, question, key     write  text or source     embed  text, second if there

A role that is named is read where it is named. The others are read where they lay when the model learnt, if a file has
all of these columns, and else under their own names.

Promises: every file is looked at before the model is asked, and its first row alone. Refuses files without a row, one
text where pairs were learnt (with the columns that were), and a second text where none was.
"""

from collections.abc import Mapping, Sequence
from posixpath import basename
from typing import Any, NamedTuple

from tundish.cluster import store
from tundish.stages.examples_cells import Fault, Layout
from tundish.stages.examples_files import files_of, form_in, rows
from tundish.stages.examples_rows import DEFAULTS

SINGLE = ("classify", "multilabel", "regress")  # kinds of one text or of a pair
NEEDED = {"tag": ("words",), "answer": ("context", "question"), "embed": ("text",)}
FREE = {"answer": ("key",), "embed": ("second",)}  # taken along where a file has them
EITHER = ("text", "source")  # two names of what is written to
Columns = Mapping[str, Any]
UNKNOWN: Columns = {}


class Learnt(NamedTuple):
    """What a model learnt from. `columns`: role -> column, empty where nobody knows. `pair`: whether of two texts; None
    where nobody knows."""

    columns: Columns = UNKNOWN
    pair: bool | None = None


def learnt_in(folder: str, kind: str) -> Learnt:
    """What a folder says of that: `data.json` of a fine-tuning, or `config.json` where an export took it along."""
    data = store.read_json(store.join(folder, "data.json")) or {}
    if train := data.get("parts", {}).get("train"):
        pair = "second" in train.get("characters", {}) if kind in SINGLE else None
        return Learnt(data.get("columns", {}), pair)
    own = (store.read_json(store.join(folder, "config.json")) or {}).get("tundish")
    return Learnt({}, own.get("pair") if isinstance(own, dict) else None)


def sources(
    kind: str, learnt: Learnt, folder: str, paths: str | Sequence[str], given: Columns, layout: Layout
) -> list[tuple[str, dict[str, Any]]]:
    """The files that have rows, each with its columns. `folder`: of the model, for what is said of it."""
    if learnt.pair is False and "second" in given:
        raise ValueError(f"{folder} was fine-tuned on single texts; leave second={given['second']} out")
    needed = _needed(kind, learnt, given)
    uris = files_of(paths)
    read = {uri: _columns(kind, learnt, uri, needed, given, layout) for uri in uris}
    if short := [uri for uri, own in read.items() if own is not None and "second" in needed and "second" not in own]:
        raise _alone(learnt, folder, short[0])
    found = [(uri, own) for uri, own in read.items() if own is not None]
    if not found:
        raise ValueError(f"{', '.join(map(basename, uris[:5]))} holds no row; check the file and its form")
    return found


def _needed(kind: str, learnt: Learnt, given: Columns) -> tuple[str, ...]:
    """Roles that every file must have."""
    if kind in SINGLE:
        return ("text", "second") if learnt.pair or "second" in given else ("text",)
    return NEEDED.get(kind, ())


def _columns(
    kind: str, learnt: Learnt, uri: str, needed: Sequence[str], given: Columns, layout: Layout
) -> dict[str, Any] | None:
    """Columns of one file, as far as they are there; None where it holds no row."""
    running = kind == "tag" and "words" not in given  # a text will do, which is split into words
    form = form_in(uri, "embed" if running and "text" in given else kind, layout)
    free = [role for role in FREE.get(kind, ()) if not given or role in given or kind == "answer"]
    roles = (*(needed or EITHER), *free)
    if form == "conll":
        place = given.get("words", learnt.columns.get("words"))
        ways = [{"words": place if isinstance(place, int) else 0}]
    else:
        own = {"second": "second", **DEFAULTS[kind]}
        ways = [
            {role: given.get(role, names.get(role, own[role])) for role in roles} for names in (learnt.columns, own)
        ]
        if running:
            ways = [*([] if "text" in given else ways), {"text": given.get("text", "text")}]
    for way in ways:
        seen = _seen(uri, form, way, layout)
        if seen is None:
            return None
        if seen.issuperset(("text",) if running and "text" in way else needed) and seen:
            kept = [role for role in way if role in seen][: None if needed else 1]
            usual = DEFAULTS[kind]  # said, they would have to be in every row
            return {role: way[role] for role in kept if usual.get(role) != way[role]} | dict(given)
    return dict(given)  # what is lacking, the reading says


def _seen(uri: str, form: str, way: Columns, layout: Layout) -> set[str] | None:
    """The roles whose columns the first row has; None where there is no row."""
    try:
        for _, row in rows(uri, form, way, [], layout):
            return set(way) if isinstance(row, Fault) else set(row)
    except ValueError:  # a number behind the last column, or a file that cannot be read, which is told when it is
        return set()
    return None


def _alone(learnt: Learnt, folder: str, uri: str) -> ValueError:
    first, second = (learnt.columns.get(role, role) for role in ("text", "second"))
    return ValueError(
        f"{folder} was fine-tuned on pairs, of the columns {first!r} and {second!r}, and {basename(uri)} lacks one "
        "or both; name the two, as in --column text=premise --column second=hypothesis"
    )
