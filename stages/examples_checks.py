"""Parts of labelled examples side by side: the classes of one for all, texts that are in two, and a report for JSON.

Promises: labels mean the same in every part; one that train does not know (of tags: a type) is refused by row, with
the nearest. Equal texts are told with counts: in train and another part or in dev and a test, exactly and when white
space and case are left aside; in one with different labels. Nothing is removed unless `without` is asked. Costs a hash
table of the texts. Refuses a part to train on with one class, one value or nothing in it.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.stages.examples import IDENTITY, NAMED, Examples, key_of, read
from tundish.stages.examples_tags import OUTSIDE, entities, ordered, parted

TRAIN, DEV = "train", "dev"
BESIDE = ("title", "lead")  # texts that are not what is learned from
SPREADS = (0.05, 20.0)  # of values that are learned well, standard deviations
QUANTILES = {"least": 0.0, "p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "most": 1.0}


def parts(
    kind: str, files: Mapping[str, str | Sequence[str]], columns: Mapping[str, Any] | None = None, **options: Any
) -> dict[str, Examples]:
    """Read `train` and the other parts under its classes; of tags a part may have other prefixes (E- for I-) of the
    types that train knows. `options`: as `read` takes them; where files of the parts differ, read each with `names`
    instead."""
    if TRAIN not in files:
        raise ValueError(f"the parts are {', '.join(files)}; name one of them {TRAIN!r}")
    ordered = bool(options.get("names"))
    found = {TRAIN: read(kind, files[TRAIN], columns, **options)}
    if kind == "tag" and not options.get("names"):
        each = [
            found[TRAIN],
            *(read(kind, paths, columns, **options) for name, paths in files.items() if name != TRAIN),
        ]
        options = {**options, "names": _tags(found[TRAIN].names, {name for one in each for name in one.names})}
        found = {TRAIN: read(kind, files[TRAIN], columns, **options)}
    # numbers count classes that somebody has put in order, and not those that were found in train and sorted
    options = {**options, "names": found[TRAIN].names, "by_number": ordered}
    return found | {name: read(kind, paths, columns, **options) for name, paths in files.items() if name != TRAIN}


def _tags(own: Sequence[str], every: set[str]) -> tuple[str, ...]:
    """The tags of all parts that can be learned from train's own: those, O, and other prefixes of their types.

    >>> _tags(["O", "B-LOC", "I-LOC"], {"O", "B-LOC", "I-LOC", "E-LOC", "B-ORG", "LOC"})
    ('O', 'B-LOC', 'I-LOC', 'E-LOC')
    """
    types = {kind for prefix, kind in map(parted, own) if prefix}
    return ordered(name for name in every if name in (*own, OUTSIDE) or (parted(name)[0] and parted(name)[1] in types))


def checked(found: Mapping[str, Examples]) -> list[str]:
    """What is odd about parts that belong together, a sentence each. Raises ValueError where nothing can be learned,
    or where parts do not go together."""
    train = found.get(TRAIN)
    if train is None:
        raise ValueError(f"the parts are {', '.join(found)}; name one of them {TRAIN!r}")
    for name, one in found.items():
        if (one.kind, one.names) != (train.kind, train.names):
            raise ValueError(
                f"{name} has the kind {one.kind!r} and {len(one.names)} classes, and {TRAIN} {train.kind!r} and "
                f"{len(train.names)}; read it with the names of {TRAIN}"
            )
    _learnable(train)
    told = [f"{name}: {sentence}" for name, one in found.items() for sentence in one.told]
    told += [sentence for name, one in found.items() for sentence in _balance(name, one)]
    told += _scaled(train)
    told += [sentence for name, one in found.items() for sentence in _at_odds(name, one)]
    told += [sentence for name, one in found.items() if name != TRAIN for sentence in _shared(name, train, one)]
    tests = [] if DEV not in found else [name for name in found if name not in (TRAIN, DEV)]
    return told + [sentence for name in tests for sentence in _chosen_on(name, found[DEV], found[name])]


def _learnable(train: Examples) -> None:
    if train.kind == "classify":
        classes = [name for name, many in classes_of(train).items() if many]
        if len(classes) < 2:
            what = f"one label, {classes[0]!r}" if classes else "no label"
            raise ValueError(f"{_every(train)} {what}; give examples of at least two classes")
    if train.kind == "multilabel" and not any(classes_of(train).values()):
        raise ValueError(f"none of the {len(train)} rows of {TRAIN} has a label; check the column, or the separator")
    if train.kind == "tag" and set(classes_of(train)) <= {"O"}:
        raise ValueError(f"all words of the {len(train)} rows of {TRAIN} are outside (O); give some that are tagged")
    if train.kind == "regress":
        values = train.table["value"].drop_null().unique()
        if len(values) < 2:
            raise ValueError(
                f"{_every(train)} the value {values[0] if len(values) else None}; there is nothing to learn"
            )


def _scaled(train: Examples) -> list[str]:
    """That values are of a size at which little is learned: targets are learned as they are, at rates for losses of
    about 1."""
    if train.kind != "regress":
        return []
    spread = float(np.std(train.table["value"].drop_null().to_numpy()))
    if SPREADS[0] <= spread <= SPREADS[1]:
        return []
    return [f"the values of {TRAIN} have a standard deviation of {spread:.3g}, and little is learned of values so "
            f"{'close together' if spread < 1 else 'far apart'}; divide them by it in every file"]  # fmt: skip


def _every(train: Examples) -> str:
    return f"all {len(train)} rows of {TRAIN} have" if len(train) != 1 else f"the only row of {TRAIN} has"


def classes_of(one: Examples) -> dict[str, int]:
    """How many examples each class has, in the order of the names; of tags, how many words."""
    if one.kind not in NAMED:
        return {}
    column = one.table[NAMED[one.kind]]
    flat = column if one.kind == "classify" else pc.list_flatten(column)
    counts = np.bincount(flat.drop_null().to_numpy(), minlength=len(one.names))
    return dict(zip(one.names, counts.tolist(), strict=True))


def _balance(name: str, one: Examples) -> list[str]:
    absent = [label for label, many in classes_of(one).items() if not many]
    if not absent or (len(absent) == len(one.names) and name != TRAIN):  # a part without labels
        return []
    listed = ", ".join(map(repr, absent[:12])) + (", …" if len(absent) > 12 else "")
    what = "no example to learn from" if name == TRAIN else "no example, so its score says nothing of them"
    return [f"{name}: of {len(one.names)} classes {len(absent)} have {what}: {listed}"]


def keys(one: Examples) -> list[str]:
    """What makes examples the same but for their labels, of each row."""
    names = IDENTITY.get(one.kind, ("text", "second"))
    columns = [one.table[name].to_pylist() for name in names]
    return [key_of(one.kind, dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def folded(key: str) -> str:
    """White space and case left aside.

    >>> folded(" The  Cat ") == folded("the cat")
    True
    """
    return " ".join(key.split()).casefold()


def _labels(one: Examples) -> list[Any]:
    names = {"regress": "value", "answer": "answers", "write": "targets", "embed": "score"}
    found = one.table[NAMED.get(one.kind) or names[one.kind]].to_pylist()
    return [tuple(label) if isinstance(label, list) else label for label in found]


def repeats(one: Examples) -> dict[str, int]:
    """`repeated`: rows that are there before, text and label; `conflicting`: texts with more than one label, and
    `conflicting_rows` of them."""
    seen: dict[str, Counter[Any]] = defaultdict(Counter)
    for key, label in zip(keys(one), _labels(one), strict=True):
        seen[key][label] += 1
    odd = [labels for labels in seen.values() if len(labels) > 1]
    return {
        "repeated": sum(many - 1 for labels in seen.values() for many in labels.values()),
        "conflicting": len(odd),
        "conflicting_rows": sum(labels.total() for labels in odd),
    }


def _at_odds(name: str, one: Examples) -> list[str]:
    if one.kind not in ("classify", "multilabel", "regress", "tag"):
        return []  # a text may have several answers, summaries or neighbours
    found = repeats(one)
    told = [f"{name}: {found['repeated']} rows are there before with the same label"] if found["repeated"] else []
    if found["conflicting"]:
        told.append(
            f"{name}: {found['conflicting']} texts have different labels ({found['conflicting_rows']} rows); no model "
            "gets all of them right"
        )
    return told


def shared(train: Examples, other: Examples) -> dict[str, int]:
    """Rows of `other` whose text train has: `exact`, and `alike` when white space and case are left aside (those
    among them)."""
    mine, theirs = keys(train), keys(other)
    exact, alike = set(mine), set(map(folded, mine))
    return {"exact": sum(key in exact for key in theirs), "alike": sum(folded(key) in alike for key in theirs)}


def _shared(name: str, train: Examples, one: Examples) -> list[str]:
    why = "its score is too high by what was learned by heart (--apart takes them out of train)"
    return in_both(name, one, TRAIN, shared(train, one), why)


def _chosen_on(name: str, dev: Examples, one: Examples) -> list[str]:
    why = f"settings, epochs and a temperature that {DEV} chooses are chosen on them; leave --dev out, or give another"
    return in_both(name, one, DEV, shared(dev, one), why)


def in_both(name: str, one: Examples, other: str, found: Mapping[str, int], why: str) -> list[str]:
    """How many texts of a part another has, and why that matters; nothing where it has none."""
    if not found["alike"]:
        return []
    exact = f"{found['exact']} of {len(one)} texts of {name} are in {other} too"
    return [f"{exact}, {found['alike']} when white space and case are left aside; {why}"]


def without(train: Examples, *others: Examples, alike: bool = True) -> tuple[Examples, int]:
    """(train without the texts of the others, how many rows that were). `alike`: white space and case left aside."""
    same = folded if alike else str
    gone = {same(key) for one in others for key in keys(one)}
    kept = [at for at, key in enumerate(keys(train)) if same(key) not in gone]
    if not kept:
        raise ValueError(f"every row of {TRAIN} has a text of another part; give other files")
    return train.take(kept), len(train) - len(kept)


def lengths(sizes: Any) -> dict[str, float]:
    """Quantiles and mean of some numbers, as a dict for JSON; empty for none."""
    sizes = np.asarray(sizes, np.float64)
    if not len(sizes):
        return {}
    found = {name: float(np.quantile(sizes, share)) for name, share in QUANTILES.items()}
    return found | {"mean": float(sizes.mean())}


def report(found: Mapping[str, Examples], tokens: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All that is known of some parts, for JSON. `tokens`: what `examples_tokens.tokenized` gave of them, by part."""
    train = found.get(TRAIN)
    told: dict[str, Any] = {"kind": next(iter(found.values())).kind, "parts": {}}
    for name, one in found.items():
        said: dict[str, Any] = {"rows": len(one), "counts": dict(one.counts), "characters": _characters(one)}
        if counts := classes_of(one):
            whole = sum(counts.values()) if one.kind != "multilabel" else len(one)
            said["classes"] = {label: {"count": n, "share": n / max(1, whole)} for label, n in counts.items()}
        if one.kind == "tag":
            said |= {
                "scheme": one.scheme,
                "entities": entities((r or () for r in one.table["tags"].to_pylist()), one.names),
            }
        if one.kind == "regress":
            said["values"] = lengths(one.table["value"].drop_null().to_numpy())
        if one.kind == "answer":
            starts = one.table["starts"].to_pylist()
            said["unanswerable"] = sum(starts_ is not None and not starts_ for starts_ in starts)
        said |= repeats(one)
        if train is not None and name != TRAIN:
            said["shared"] = shared(train, one)
        if name not in (TRAIN, DEV) and DEV in found:
            said["shared_with_dev"] = shared(found[DEV], one)
        if tokens and name in tokens:
            said["pieces"] = dict(tokens[name].told)
        told["parts"][name] = said
    told["told"] = checked(found) if train is not None else [t for one in found.values() for t in one.told]
    return told


def _characters(one: Examples) -> dict[str, dict[str, float]]:
    """Lengths of each text column, in characters; of words, joined by spaces."""
    found = {}
    for name in one.table.column_names:
        column = one.table[name]
        if name == "words":
            found[name] = lengths([len(" ".join(words)) for words in column.to_pylist()])
        elif pa.types.is_large_string(column.type) and name not in BESIDE and column.null_count < len(column):
            found[name] = lengths(pc.utf8_length(column.drop_null()).to_numpy())
    return found
