"""How often each rule fired in a run: as the first to fail, and were it alone; in all, by source and by language.

Read from the counts in the manifests, so it costs nothing whatever the corpus weighs, and a run that was interrupted
counts every document once. Warns of rules that never fire (a misspelt signal, a threshold nobody reaches), in all or in
a source or language where the others do, and of those that alone would drop more than `OFTEN` of everything, of a
source or of a language. Documents of unwanted languages are no part of any share but that of their own refusal.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from tundish.pipeline.decisions import refined
from tundish.pipeline.funnel import Ran, number
from tundish.stages.fired import APART, KINDS, LEAST, NONE, UNSURE, Group, Kind, groups

OFTEN = 0.5  # a rule that drops a larger share than this is worth a look
EXPECTED = 20  # documents a rule should have met in a source or language before its silence is odd
NAMED = 5  # rules in a warning
LISTED = 8  # sources or languages in a terminal


@dataclass(frozen=True)
class Row:
    """One rule. `fired`: documents it was the first to drop; `alone`: those it would drop were there no other."""

    reason: str
    fired: int
    alone: int
    where: dict[Kind, dict[str, int]] = field(default_factory=dict)  # kind -> name -> fired


@dataclass(frozen=True)
class Firing:
    """The rules of one Refine in their order, and the sources and languages they met. `came`: documents in a wanted
    language; `unwanted`: the others, and those whose publishers keep them out of training."""

    address: str
    came: int
    unwanted: int
    rows: list[Row]
    groups: dict[Kind, list[Group]]

    def asked(self, row: Row) -> int:
        """Documents a rule is asked of."""
        return self.came + (self.unwanted if row.reason in APART else 0)

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        rows = [
            {"reason": r.reason, "fired": r.fired, "alone": r.alone, "share": round(_share(r.alone, self.asked(r)), 6)}
            | {kind: r.where.get(kind, {}) for kind in KINDS}
            for r in self.rows
        ]
        found = {
            kind: [{"name": g.name, "documents": g.came, "lost": sum(g.drops.values())} for g in self.groups[kind]]
            for kind in KINDS
        }
        documents = {"documents": self.came + self.unwanted, "wanted": self.came}
        return {**documents, "rules": rows, "groups": found, "warnings": list(warnings(self))}


def firing(told: Ran, address: str) -> Firing:
    """The counts of the Refine at this address."""
    counts = told.datasets[address].counts
    reasons = [rule.reason for rule in refined(told, address).decisive]
    asked = [r for r in (*APART, "language_unsure") if f"alone:{r}" in counts]
    by = {kind: groups(counts, kind) for kind in KINDS}
    rows = [
        Row(
            reason,
            counts.get(f"dropped:{reason}", 0),
            counts.get(f"alone:{reason}", 0),
            {kind: _where(counts, kind, reason) for kind in KINDS},
        )
        for reason in (*asked, *reasons)
    ]
    unwanted = sum(counts.get(f"dropped:{reason}", 0) for reason in APART)
    return Firing(address, told.datasets[address].rows - unwanted, unwanted, rows, by)


def _where(counts: dict[str, int], kind: Kind, reason: str) -> dict[str, int]:
    """Name -> documents of it that fell to this rule, the most first."""
    first, last = f"{kind}:", f":{reason}"
    found = {k[len(first) : -len(last)]: n for k, n in counts.items() if k.startswith(first) and k.endswith(last)}
    return dict(sorted(found.items(), key=lambda kv: (-kv[1], kv[0])))


def warnings(told: Firing) -> Iterator[str]:
    """One sentence each."""
    never = [row.reason for row in told.rows if not row.alone]
    if never and told.came >= LEAST:
        yield f"{len(never)} of {len(told.rows)} rules never fire: {', '.join(never)}"
    common = {row.reason for row in told.rows if row.alone > OFTEN * told.came and row.reason not in APART}
    for row in told.rows if told.came >= LEAST else ():
        if row.reason in common:
            whole = "all documents" + (" in a wanted language" if told.unwanted else "")
            yield f"{row.reason} alone would drop {_percent(row.alone, told.came)} of {whole}"
    for kind in KINDS:
        for group in told.groups[kind]:
            if group.came >= LEAST and group.name not in (NONE, UNSURE):
                yield from _of_group(told, group, common)


def _of_group(told: Firing, group: Group, common: Collection[str]) -> Iterator[str]:
    """What is odd in one source or language and not in all of them. A rule is silent there if it drops nothing where
    `EXPECTED` documents would go at the share it takes elsewhere."""
    where = f"of the {group.came:,} documents of the {group.kind} {group.name!r}"
    silent, elsewhere = [], told.came - group.came
    for row in told.rows:
        alone = group.alone(row.reason)
        if row.reason in APART or row.reason in common:
            continue
        if alone > OFTEN * group.came:
            yield f"{row.reason} alone would drop {_percent(alone, group.came)} {where}"
        if not alone and elsewhere >= LEAST and row.alone / elsewhere * group.came >= EXPECTED:
            silent.append(row.reason)
    if silent:
        told_of = f"{', '.join(silent[:NAMED])}{f' and {len(silent) - NAMED} more' if len(silent) > NAMED else ''}"
        yield f"never {'fires' if len(silent) == 1 else 'fire'} on any {where}: {told_of}"


def _share(part: int, whole: int) -> float:
    return part / max(1, whole)


def _percent(part: int, whole: int) -> str:
    return f"{100 * _share(part, whole):.1f} %"


def table(told: Firing) -> Table:
    """The rules that fire, for a terminal of 80 columns."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("rule", no_wrap=True)
    for name in ("fired", "alone", "of all"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("most in", overflow="fold")
    for row in told.rows:
        if row.alone:
            most, share = ", ".join(_most(told, row)), _percent(row.alone, told.asked(row))
            shown.add_row(row.reason, number(row.fired), number(row.alone), share, most)
    return shown


def _most(told: Firing, row: Row) -> Iterator[str]:
    """The source and the language that lose the largest share to a rule, where there are several."""
    for kind in KINDS:
        hit = [group for group in told.groups[kind] if row.reason in group.drops and group.came >= LEAST]
        if len(told.groups[kind]) > 1 and hit:
            worst = max(hit, key=lambda group: (group.drops[row.reason] / group.came, group.name))
            yield f"{worst.name} {_percent(worst.drops[row.reason], worst.came)}"


def by_group(told: Firing) -> Table | None:
    """What each source and language lost, for a terminal; None where there is but one of each."""
    if all(len(told.groups[kind]) < 2 for kind in KINDS):
        return None
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("of", no_wrap=True)
    for name in ("documents", "dropped", "share"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("most by", overflow="fold")
    for kind in KINDS:
        for group in told.groups[kind][:LISTED] if len(told.groups[kind]) > 1 else ():
            lost, most = sum(group.drops.values()), max(group.drops, key=group.drops.__getitem__, default="")
            share = _percent(lost, group.came)
            shown.add_row(f"{kind} {group.name}", number(group.came), number(lost), share, most)
    return shown
