"""Decontaminate: which documents hold evaluation text, of which file and row, and where; Corpus leaves them out.

    contaminated          the file with most matching grams, null with fewer than `least`
    contaminated_grams    int32: at how many words of the document a gram of that file begins
    contaminated_start    int64: bytes of the longest run of grams that overlap in the text: the offending span
    contaminated_end
    contaminated_item     int64: the first row of the file that the span's first gram is of
    contaminated_rows     list<struct<file, row>>: every row of every file with `least` grams in the document

What a gram is and what is set aside is said in operators/text/overlap. Tallies: `contaminated:FILE` and `grams:FILE` of
every file, `items:FILE` and `ignored:FILE` (rows of fewer than eight words) once. Costs some 8 ns a byte, and in each
worker 60 bytes a distinct gram. Grams that many documents share are not excused, as GPT-3 excuses them: to count them
takes the whole corpus before the first decision.
"""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.shards import Dataset, total
from tundish.cluster.verbs import At
from tundish.operators.text.overlap import SHORTEST, Benchmarks, Finder, Overlaps, benchmarks
from tundish.stages.evaluation_texts import File, files_of, items
from tundish.stages.finetune import Finetune
from tundish.stages.stage import PLACE, Columns, Stage

LABELLED = "labelled"  # among `against`: the labelled files of the recipe
ROWS = pa.list_(pa.struct([("file", pa.string()), ("row", pa.int64())]))
GRADERS: tuple[type[Stage], ...] = (Finetune,)  # stages that score a model on the files they name

_FINDERS = threading.local()  # one belongs to one thread; its table of chunks makes every next shard quicker
_READING = threading.Lock()  # files are read once a process, whichever thread comes first


@dataclass(frozen=True)
class Decontaminate(Columns):
    """`against`: paths, folders, globs or URIs of evaluation files, and the word `labelled` for those that the recipe
    fine-tunes on. `n`: words a gram. `least`: grams of one file that a document must hold. `texts`: the columns that
    hold text, all strings when none are named; not asked of labelled files. `labelled`: filled in by the recipe
    (`covering`).
    """

    needs: ClassVar[tuple[str, ...]] = ("text",)
    makes: ClassVar[tuple[str, ...]] = (
        "contaminated",
        "contaminated_grams",
        "contaminated_start",
        "contaminated_end",
        "contaminated_item",
        "contaminated_rows",
    )
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"documents": ("id", "text")}

    documents: Stage
    against: tuple[str, ...] = field(default=(LABELLED,), metadata=PLACE)
    n: int = 13
    least: int = 1
    texts: tuple[str, ...] = ()
    labelled: tuple[str, ...] = field(default=(), metadata=PLACE)

    def check(self) -> None:
        if self.n < SHORTEST - 3 or self.least < 1:
            raise ValueError(
                f"Decontaminate.n is {self.n} and least {self.least}; make n at least {SHORTEST - 3}, for fewer words "
                "stand in half the web, and least at least 1"
            )
        if not self.against:
            raise ValueError(f"Decontaminate.against is empty; name evaluation files, or {LABELLED}")
        labelled = self.labelled if LABELLED in self.against else ()
        for name, paths in (("against", self.against), ("labelled", labelled)):  # workers stand elsewhere
            found = tuple(path if path == LABELLED else store.absolute(path) for path in paths)
            object.__setattr__(self, name, found)

    def prepare(self) -> None:
        Finder(self._loaded(), self.least).find(pa.array(["Warm text, once more."], pa.large_string()))

    def outside(self) -> list[dict[str, Any]]:
        """Every file with its digest. Reads them all, so that one that cannot be used stops the run at its start."""
        self._loaded()
        return [{"file": name, "digest": digest} for name, _, digest in self._files()]

    def notes(self) -> str:
        known = self._loaded()
        return "\n".join(
            f"{name}: {count} items, {ignored} of fewer than {min(SHORTEST, self.n)} words are not looked for"
            for name, count, ignored in zip(known.names, known.items.tolist(), known.ignored.tolist(), strict=True)
        )

    def _files(self) -> tuple[File, ...]:
        patterns = [*(path for path in self.against if path != LABELLED), *self.labelled]
        if not patterns:
            raise ValueError(
                f"Decontaminate.against names the {LABELLED} files, and the recipe fine-tunes on none; name files, or "
                "leave the stage out"
            )
        return files_of(patterns, "Decontaminate.against")

    def _loaded(self) -> Benchmarks:
        files = tuple((file, () if file[1] in self.labelled else self.texts) for file in self._files())
        with _READING:
            return _benchmarks(files, self.n)

    def _finder(self) -> Finder:
        known = _FINDERS.__dict__
        against = self._loaded()
        if known.get("for") != (id(against), self.least):
            known["finder"], known["for"] = Finder(against, self.least), (id(against), self.least)
        return known["finder"]

    def columns(self, batch: pa.Table, at: At) -> pa.Table:
        finder = self._finder()
        found = finder.find(batch["text"].combine_chunks())
        self._tally(finder.against, found, at)
        return table_of(finder.against, found, self.least)

    def _tally(self, against: Benchmarks, found: Overlaps, at: At) -> None:
        for name, (documents, grams) in zip(against.names, found.sums.tolist(), strict=True):
            if documents:
                at.tally[f"contaminated:{name}"] += documents
                at.tally[f"grams:{name}"] += grams
        if at.index == at.row == 0:  # once a dataset, for tallies are sums
            for name, count, ignored in zip(
                against.names, against.items.tolist(), against.ignored.tolist(), strict=True
            ):
                at.tally[f"items:{name}"] += count
                at.tally[f"ignored:{name}"] += ignored


@lru_cache(maxsize=2)
def _benchmarks(files: tuple[tuple[File, tuple[str, ...]], ...], n: int) -> Benchmarks:
    """The items of files, read once a process."""
    return benchmarks({file[0]: items(file, columns) for file, columns in files}, n=n)


def table_of(against: Benchmarks, found: Overlaps, least: int) -> pa.Table:
    """What is told of each document."""
    none = found.grams == 0
    names = pa.array([*against.names, None], pa.string())
    winner = pa.array(np.where(found.grams >= least, found.benchmark, len(against.names)))
    return pa.table(
        {
            "contaminated": names.take(winner),
            "contaminated_grams": pa.array(found.grams.astype(np.int32)),
            "contaminated_start": pa.array(found.starts, mask=none),
            "contaminated_end": pa.array(found.ends, mask=none),
            "contaminated_item": pa.array(found.rows, mask=none),
            "contaminated_rows": _rows(against, found),
        }
    )


def _rows(against: Benchmarks, found: Overlaps) -> pa.ListArray:
    """The rows of files that each document holds, null for none."""
    texts, item = found.seen[np.lexsort((found.seen[:, 1], found.seen[:, 0]))].T
    bounds = np.searchsorted(texts, np.arange(len(found.grams) + 1)).astype(np.int32)
    files = pa.array(against.names, pa.string()).take(pa.array(against.owners[item]))
    told = pa.StructArray.from_arrays([files, pa.array(against.rows[item])], fields=list(ROWS.value_type))
    return pa.ListArray.from_arrays(pa.array(bounds), told, ROWS, mask=pa.array(bounds[1:] == bounds[:-1]))


@dataclass(frozen=True)
class Seen:
    """Of one file: documents that hold it, grams in them, rows met in any, rows it has, rows too short to be met."""

    file: str
    documents: int
    grams: int
    seen: int
    items: int
    ignored: int

    def __str__(self) -> str:
        return f"{self.file}: {self.documents} documents, {self.seen} of {self.items} items seen"


def seen(made: Dataset) -> tuple[Seen, ...]:
    """What a Decontaminate found, file by file. Reads one column, which is empty but where a document holds something.

    >>> str(Seen("sst2.tsv", 12, 40, 9, 872, 64))
    'sst2.tsv: 12 documents, 9 of 872 items seen'
    """
    counts = total(shard.counts for shard in made.shards)
    met: dict[str, set[int]] = {}
    for name in made.names:
        rows = made.select("contaminated_rows").read(name)["contaminated_rows"].combine_chunks().flatten()
        told = pa.Table.from_arrays(rows.flatten(), ["file", "row"]).group_by(["file", "row"]).aggregate([])
        for file, row in zip(told["file"].to_pylist(), told["row"].to_pylist(), strict=True):
            met.setdefault(file, set()).add(row)
    files = sorted(key.removeprefix("items:") for key in counts if key.startswith("items:"))
    return tuple(
        Seen(
            file,
            counts.get(f"contaminated:{file}", 0),
            counts.get(f"grams:{file}", 0),
            len(met.get(file, ())),
            counts[f"items:{file}"],
            counts.get(f"ignored:{file}", 0),
        )
        for file in files
    )


def labelled_files(goal: Stage) -> tuple[str, ...]:
    """Every file that stages of a recipe fine-tune and score on, sorted. Reads no disk.

    Teach learns to tell good documents from bad, and Grade scores with what Finetune made: neither evaluates on a file.
    """
    graders = (stage for stage in goal.walk() if isinstance(stage, GRADERS))
    return tuple(sorted({path for stage in graders for path in _places(stage)}))


def _places(stage: Stage) -> list[str]:
    """The paths in its fields, absolute."""
    values = [getattr(stage, f.name) for f in fields(stage) if f.metadata.get("place")]
    values = [one for value in values for one in (value.values() if isinstance(value, Mapping) else [value])]
    paths = [path for value in values for path in (value if isinstance(value, list | tuple) else [value])]
    return [store.absolute(path) for path in paths if path]


def covering(stage: Stage, labelled: tuple[str, ...]) -> Stage:
    """The stage with the labelled files of its recipe, where it is a Decontaminate that is against them."""
    asked = isinstance(stage, Decontaminate) and LABELLED in stage.against
    return replace(stage, labelled=labelled) if asked else stage


def uncovered(goal: Stage) -> tuple[str, ...]:
    """Labelled files that no Decontaminate below who fine-tunes on them is against, though there is one; sorted."""
    found = set()
    for stage in goal.walk():
        if isinstance(stage, GRADERS):
            below = [one for one in stage.walk() if isinstance(one, Decontaminate)]
            found |= {path for path in _places(stage) if below and not any(_covers(one, path) for one in below)}
    return tuple(sorted(found))


def _covers(stage: Decontaminate, path: str) -> bool:
    patterns = [*stage.against, *stage.labelled]
    inside = any(path == pattern or path.startswith(pattern.rstrip("/") + "/") for pattern in patterns)
    return inside or any(re.fullmatch(store.glob_rule(pattern), path) for pattern in patterns)
