"""What a decision counts, shard by shard, and what is read from the sum: which rule fired, where, and what was lost.

Counts lie in the commits of the shards, so an interrupted run that goes on has them all, and no pass is made for them:

    kept, dropped:<reason>                  documents, by the first rule that failed
    alone:<reason>                          documents this rule would drop were it alone
    source:<name>:<reason>, language:…      the same as dropped, by where they are from; without a reason, all that came
    behind:source:<name>:<reason>, …        those it would have dropped had no other come before it

What a rule would do is asked of documents in a wanted language that nobody keeps out of training: the others are gone
whatever the rules are.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Kind = Literal["source", "language"]
KINDS: tuple[Kind, ...] = ("source", "language")
NONE, UNSURE = "none", "unsure"  # names of no source or language, and of a language the model was not sure of
SURE = 0.5  # confidence from which a document counts as of its language: noise has a language too, with little
UNWANTED = "language_not_kept"
OPTED = "opt_out"  # who published it does not want it in training
APART = (UNWANTED, OPTED)  # left out on purpose: no loss, and no rule is asked about it
LEAST = 100  # documents of a source or language; fewer say little about a share


@dataclass(frozen=True)
class Group:
    """Documents of one source or language. `drops`: reason -> documents, those of unwanted languages apart; `behind`:
    reason -> those it would have dropped had no other come before it."""

    kind: Kind
    name: str
    came: int
    drops: Mapping[str, int] = field(default_factory=dict)
    behind: Mapping[str, int] = field(default_factory=dict)

    def alone(self, reason: str) -> int:
        """Documents this rule would drop were it alone."""
        return self.drops.get(reason, 0) + self.behind.get(reason, 0)

    @property
    def share(self) -> float:
        return sum(self.drops.values()) / self.came if self.came else 0.0


def tally(
    reasons: pa.Array, failing: Mapping[str, np.ndarray], groups: Mapping[Kind, pa.Array], to: Counter[str]
) -> None:
    """Add the decisions about some documents. `reasons`: null for what stays; `failing`: reason -> rows it would drop
    alone; `groups`: where each is from."""
    for reason, count in _counted(reasons):
        to["kept" if reason is None else f"dropped:{reason}"] += count
    for reason, rows in failing.items():
        if len(rows):
            to[f"alone:{reason}"] += len(rows)
            here = pa.array(rows)
            others = here.filter(pc.not_equal(reasons.take(here), reason))
            for kind, names in groups.items():
                for name, count in _counted(names.take(others).fill_null(NONE)) if len(others) else ():
                    to[f"behind:{kind}:{name}:{reason}"] += count
    for kind, names in groups.items():
        table = pa.table({"name": names.fill_null(NONE), "reason": reasons})
        for row in table.group_by(["name", "reason"]).aggregate([([], "count_all")]).to_pylist():
            to[f"{kind}:{row['name']}:"] += row["count_all"]
            if row["reason"] is not None:
                to[f"{kind}:{row['name']}:{row['reason']}"] += row["count_all"]


def _counted(values: pa.Array) -> list[tuple[str | None, int]]:
    return [(entry["values"], entry["counts"]) for entry in values.value_counts().to_pylist()]


def certain(languages: pa.Array, confidence: pa.Array | None) -> pa.Array:
    """The languages under which documents are counted. `confidence`: in [0, 1]; None where nobody says."""
    if confidence is None:
        return languages
    known = pc.or_kleene(pc.is_null(languages), pc.greater_equal(pc.fill_null(confidence, 0), SURE))
    return pc.if_else(known, languages, UNSURE)


def groups(counts: Mapping[str, int], kind: Kind) -> list[Group]:
    """The sources or languages there were, the largest first; documents of unwanted languages, and those
    that are kept out of training, are not among them."""
    came: Counter[str] = Counter()
    drops: dict[str, dict[str, int]] = {}
    behind: dict[str, dict[str, int]] = {}
    for key, count in counts.items():
        its, _, rest = key.removeprefix("behind:").partition(":")
        name, _, reason = rest.rpartition(":")
        if its != kind:
            continue
        if key.startswith("behind:"):
            behind.setdefault(name, {})[reason] = count
        elif reason in ("", *APART):
            came[name] += count if not reason else -count
        else:
            drops.setdefault(name, {})[reason] = count
    known = ((name, count) for name, count in came.items() if count)
    found = [Group(kind, name, count, drops.get(name, {}), behind.get(name, {})) for name, count in known]
    return sorted(found, key=lambda group: (-group.came, group.name))


def refuse_losses(stage: str, counts: Mapping[str, int], most: float) -> None:
    """Refuse a decision that leaves out more than the share `most` of a source or language of `LEAST` documents."""
    for kind in KINDS:
        for group in groups(counts, kind):
            if group.came < LEAST or group.share <= most or (kind == "language" and group.name in (NONE, UNSURE)):
                continue  # what is in no language is mostly no text
            reason, count = max(group.drops.items(), key=lambda drop: (drop[1], drop[0]))
            raise ValueError(
                f"{stage} would leave out {100 * group.share:.3g} % of the {group.came:,} documents of the {kind} "
                f"{group.name!r} (most by {reason}, {count:,}), and max_loss allows {100 * most:.3g} %; loosen that "
                f"rule (tundish replay shows what would enter), or allow it with --set {stage}.max_loss=1"
            )
