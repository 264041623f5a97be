"""How many examples of a class, or entities of a type, each part of a fine-tuning has: for terminal, page and card.

Promises: counts are those of `data.json`; the commonest of train first, equal ones by name; what is not listed is
counted. Costs nothing. Nothing is told of data without classes.
"""

from collections.abc import Mapping
from typing import Any

SHOWN = 8  # classes of a line
Told = Mapping[str, Any]


def counts(part: Told) -> dict[str, int]:
    """
    >>> counts({"classes": {"no": {"count": 3, "share": 1.0}}}), counts({"entities": {"PER": 2, "by": {}}}), counts({})
    ({'no': 3}, {'PER': 2}, {})
    """
    if "entities" in part:
        return {str(name): int(count) for name, count in part["entities"].items() if isinstance(count, int)}
    return {name: each["count"] for name, each in part.get("classes", {}).items()}


def balance(data: Told, most: int) -> dict[str, Any]:
    """Names of the parts, train first, (label, counts of each part) of at most so many, and how many are `more`."""
    parts = sorted(data.get("parts", {}), key=lambda each: (each != "train", each))
    found = {part: counts(data["parts"][part]) for part in parts}
    labels = sorted({label for each in found.values() for label in each})
    ranked = sorted(labels, key=lambda each: (-found[parts[0]].get(each, 0), each))
    rows = [(label, [f"{found[part].get(label, 0):,}" for part in parts]) for label in ranked[:most]]
    return {"parts": parts, "rows": rows, "more": len(ranked) - len(rows)} if rows else {}


def line(data: Told) -> str:
    """The classes of train, for a terminal.

    >>> line({"parts": {"train": {"classes": {"no": {"count": 3}, "yes": {"count": 1200}}}}})
    'classes of train: yes 1,200, no 3'
    """
    train = data.get("parts", {}).get("train", {})
    ranked = sorted(counts(train).items(), key=lambda each: (-each[1], each[0]))
    if not ranked:
        return ""
    said = [f"{name} {count:,}" for name, count in ranked[:SHOWN]]
    if rest := ranked[SHOWN:]:
        said.append(f"and {len(rest):,} more with {sum(count for _, count in rest):,} together")
    return f"{'entities' if 'entities' in train else 'classes'} of train: {', '.join(said)}"
