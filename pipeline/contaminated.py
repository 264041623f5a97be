"""Contamination of evaluation texts by a corpus that was made here, with what the ledger says of its documents.

    out/contamination.json     of each part how many examples were met, how many of them in documents that were trained
                               on, and with what weight; the most contaminated, and where they came from
    out/contaminated.jsonl     every example that was met: part, file, row, id, weight, trained_weight

Promises: an example is met where one of its grams stands in a document of the corpus (stages/contamination); trained on
is a document of which the plan of a training gave a row to one of its steps, as `why` has it: of a long document that
may be another row than the one that holds the text, which errs on the side of telling. Documents held out were never
trained on. Costs a pass over the text of the corpus, one over the ids of its tokens, and a look at the offsets of its
shard for each document that was met, of which no more than `MOST` are asked for, those with most grams first; how many
were is told. Refuses a root without a corpus.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import Cluster
from tundish.operators.model.certainty import wilson
from tundish.pipeline.funnel import Ran, ran
from tundish.pipeline.seen import Ledger
from tundish.stages.contamination import (
    FOLDER,
    WORDS,
    Documents,
    Grams,
    Part,
    Texts,
    evaluated,
    gathered,
    grams_in,
    met,
    write_examples,
)
from tundish.stages.contamination_scores import parts_of, side_by_side

FILE, LINES = "contamination.json", "contaminated.jsonl"
MOST = 20_000  # documents that the ledger is asked for
WORST, FROM, SHOWN = 20, 5, 200  # examples told in full, documents of each, characters of its text
WHOLE = 0.8  # weight from which on an example counts as met whole
GROUPS = ("clean", "contaminated", "whole", "trained", "too short")


class Training(NamedTuple):
    """One that read the tokens of a corpus. `names`: of a token shard those that it had there."""

    address: str
    ledger: Ledger
    names: Mapping[str, tuple[str, ...]]


class Met(NamedTuple):
    """What was found. `weights`, `trained` (examples,): the share of grams in any document, and in those trained on.
    `asked`: number of a document -> what the ledger says of it. `trainings`: their addresses."""

    grams: Grams
    documents: Documents
    weights: np.ndarray
    trained: np.ndarray
    asked: Mapping[int, Mapping[str, Any]]
    trainings: list[str]
    corpora: dict[str, int]  # documents of each


def looked_in(root: str, run: str | None = None) -> tuple[Ran, dict[str, Dataset]]:
    """The latest run under a root, or the named one, and its corpora."""
    past = ran(root, run)
    if not (corpora := {address: past.datasets[address] for address in past.of("Corpus")}):
        raise ValueError(f"the run {past.name} under {root!r} has no finished corpus to look in; run its recipe first")
    return past, corpora


def search(root: str, texts: Texts, out: str, cluster: Cluster, *, run: str | None = None, n: int = WORDS) -> Met:
    """Look for the grams of examples in the corpora of the latest run under a root, or of the named one."""
    past, corpora = looked_in(root, run)
    uri = store.join(store.absolute(out), FOLDER, "examples.arrow")
    digest = write_examples(uri, texts)
    found = {name: met(cluster, corpus, uri, digest, out, n=n) for name, corpus in corpora.items()}
    grams, documents = grams_in(uri, digest, n), gathered(found)
    asked, trainings = ledger_of(past, documents)
    learned = np.zeros(len(documents), bool)
    learned[[number for number, one in asked.items() if one["trained"]]] = True
    weights = grams.weights(documents.marked(grams.count))
    trained = grams.weights(documents.marked(grams.count, learned))
    sizes = {name: corpus.rows for name, corpus in corpora.items()}
    return Met(grams, documents, weights, trained, asked, trainings, sizes)


# -- the ledger


def ledger_of(past: Ran, documents: Documents) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """What the trainings of a run saw of these documents, those with most grams if they are too many; and which
    trainings there are."""
    sizes, ids = np.diff(documents.bounds), documents.table["id"].to_pylist()
    chosen = sorted(range(len(ids)), key=lambda number: (-sizes[number], ids[number]))[:MOST]
    corpora = documents.table["corpus"].to_pylist()
    found: dict[int, dict[str, Any]] = {n: {"held_out": False, "tokenized": False, "trained": {}} for n in chosen}
    known: dict[str, None] = {}
    for tokens in past.of("Tokenize"):
        mine = [number for number in chosen if corpora[number] == past.field(tokens, "corpus")]
        dataset, held = past.datasets[tokens], past.inside(tokens, "holdout")
        wanted = pa.array([ids[number] for number in mine], pa.binary(16))
        for at, _, _ in places(held, wanted) if held else ():
            found[mine[at]]["held_out"] = True
        trainings = list(trainings_of(past, dataset))
        known |= dict.fromkeys(each.address for each in trainings)
        for at, name, row in places(dataset, wanted):
            found[mine[at]]["tokenized"] = True
            for each in trainings:
                if saw := _saw(each, name, row):
                    found[mine[at]]["trained"][each.address] = saw
    return found, list(known)


def trainings_of(past: Ran, tokens: Dataset) -> Iterator[Training]:
    """Those of the run that read these token shards, themselves or in a Mix; and one that follows the root."""
    alike = {shard.name: (shard.name,) for shard in tokens.shards}
    for address in past.of("Pretrain"):
        read = past.input(address, "shards")
        if read is None:
            continue
        names = alike if read.address == tokens.address else _names(tokens, read)
        if any(names.values()):
            yield Training(address, Ledger.of(past.datasets[address], read), names)
    if (followed := Ledger.followed(past.root, tokens)) is not None:
        yield Training("follow/training", followed, alike)


def _names(tokens: Dataset, read: Dataset) -> dict[str, tuple[str, ...]]:
    """The names that token shards have in what a training reads, by their bytes."""
    by_digest: dict[str, tuple[str, ...]] = {}
    for shard in read.shards:
        by_digest[shard.digest] = (*by_digest.get(shard.digest, ()), shard.name)
    return {shard.name: by_digest.get(shard.digest, ()) for shard in tokens.shards}


def places(dataset: Dataset, ids: pa.Array) -> Iterator[tuple[int, str, int]]:
    """(number among these ids, shard, row) of those that a dataset holds; reads its ids alone."""
    for name in dataset.names if len(ids) else ():
        held = dataset.select("id").read(name)["id"]
        found = pc.index_in(held, value_set=ids).combine_chunks()
        rows = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
        yield from ((found[int(row)].as_py(), name, int(row)) for row in rows)


def _saw(training: Training, name: str, row: int) -> dict[str, int] | None:
    """In how many steps a training saw a document, the first and the last of them, and in how many rows it lies; None
    if in none."""
    each = [training.ledger.steps_of(one, row) for one in training.names[name]]
    steps = sorted({step for found, _ in each for step in found})
    rows = sum(number for _, number in each)
    return {"steps": len(steps), "rows": rows, "first": steps[0], "last": steps[-1]} if steps else None


# -- what is told


def told(root: str, parts: Mapping[str, Part], texts: Texts, found: Met) -> dict[str, Any]:
    """All that there is to say, for JSON."""
    place = {own: number for number, own in enumerate(found.grams.ids)}
    numbers = {name: np.array([place[own] for own in part.ids], np.int64) for name, part in parts.items()}
    return {
        "root": root,
        "corpora": found.corpora,
        "trainings": found.trainings,
        "words": WORDS,
        "documents": len(found.documents),
        "asked": len(found.asked),
        "parts": {name: _part(found, mine) for name, mine in numbers.items()},
        "worst": list(_worst(parts, texts, numbers, found)),
    }


def _part(found: Met, mine: np.ndarray) -> dict[str, Any]:
    """Shares are of all examples of the part, those too short to be looked for among them."""
    weights, trained, sizes = found.weights[mine], found.trained[mine], found.grams.sizes[mine]
    hit = weights[weights > 0]
    told: dict[str, Any] = {
        "examples": len(mine),
        "too_short": int((sizes == 0).sum()),
        "contaminated": _share(weights > 0),
        "whole": _share(weights >= WHOLE),
        "trained": _share(trained > 0) if found.trainings else None,
        "trained_whole": _share(trained >= WHOLE) if found.trainings else None,
    }
    if len(hit):
        quarters = dict(zip(("p25", "median", "p75"), np.quantile(hit, (0.25, 0.5, 0.75)).tolist(), strict=True))
        told["weight"] = {"mean": float(hit.mean()), **quarters}
    return told


def _share(mask: np.ndarray) -> dict[str, Any] | None:
    if not len(mask):
        return None
    found = wilson(int(mask.sum()), len(mask))
    return {"count": int(mask.sum()), "share": found.value, "interval": [found.low, found.high]}


def _worst(
    parts: Mapping[str, Part], texts: Texts, numbers: Mapping[str, np.ndarray], found: Met
) -> Iterator[dict[str, Any]]:
    """The examples with most weight, in documents trained on before others; equal texts once."""
    first: dict[int, tuple[str, int]] = {}
    for name, mine in numbers.items():
        for at, number in enumerate(mine.tolist()):
            first.setdefault(number, (name, at))
    order = sorted(first, key=lambda n: (-found.trained[n], -found.weights[n], -found.grams.sizes[n], n))
    for number in (n for n in order[:WORST] if found.weights[n] > 0):
        name, at = first[number]
        own = found.grams.ids[number]
        yield {
            "part": name,
            "file": parts[name].files[at],
            "row": parts[name].rows[at],
            "id": own,
            "text": " | ".join(texts[own])[:SHOWN],
            "grams": int(found.grams.sizes[number]),
            "weight": float(found.weights[number]),
            "trained_weight": float(found.trained[number]) if found.trainings else None,
            **_from(number, found),
        }


def _from(example: int, found: Met) -> dict[str, Any]:
    """The documents that hold grams of an example, how many they are, and those with most of them."""
    shared = found.documents.shared(found.grams.of(example), found.grams.count)
    order = np.argsort(-shared, kind="stable")[:FROM]
    table, told = found.documents.table, []
    for number in order[shared[order] > 0].tolist():
        row = table.slice(number, 1).to_pylist()[0]
        here = {"id": row["id"].hex(), "url": row["url"], "corpus": row["corpus"], "grams": int(shared[number])}
        told.append(here | dict(found.asked.get(number, {"trained": None})))
    return {"documents": int((shared > 0).sum()), "from": told}


def of_files(
    root: str, kind: str, files: Mapping[str, str], columns: Mapping[str, Any], out: str, cluster: Cluster, *,
    run: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The examples of these files, part by part, against a root; both files are written."""
    parts, texts = evaluated(kind, files, columns)
    found = search(root, texts, out, cluster, run=run)
    answer = told(root, parts, texts, found)
    write(out, answer, parts, found)
    return answer


def of_tuned(
    root: str, task: Any, files: Mapping[str, Any], columns: Mapping[str, Any], cluster: Cluster
) -> dict[str, Any]:
    """What a fine-tuning was tested on against the root its model comes from, its scores side by side; both files are
    written beside its result. `files`, `columns`: as it read them."""
    wanted = parts_of(task)
    _, texts = evaluated(task.kind, files, columns, only=frozenset(own for part in wanted.values() for own in part.ids))
    found = search(root, texts, task.out, cluster)
    answer = told(root, wanted, texts, found)
    for name, scores in side_by_side(task, groups_of(wanted, found)).items():
        answer["parts"][name]["scores"] = scores
    write(task.out, answer, wanted, found)
    return answer


def groups_of(parts: Mapping[str, Part], found: Met) -> dict[str, dict[str, frozenset[str]]]:
    """By part the ids of the examples of each group of `contamination_scores`."""
    ids = np.array(found.grams.ids, dtype=object)
    short = found.grams.sizes == 0
    masks = (~short & (found.weights == 0), found.weights > 0, found.weights >= WHOLE, found.trained > 0, short)
    own = {name: frozenset(ids[mask].tolist()) for name, mask in zip(GROUPS, masks, strict=True)}
    if not found.trainings:
        del own["trained"]
    return {name: {group: held & frozenset(part.ids) for group, held in own.items()} for name, part in parts.items()}


def write(out: str, answer: Mapping[str, Any], parts: Mapping[str, Part], found: Met) -> None:
    """Both files."""
    store.write_json(store.join(out, FILE), answer)
    store.write(store.join(out, LINES), "".join(_lines(parts, found)).encode())


def _lines(parts: Mapping[str, Part], found: Met) -> Iterable[str]:
    place = {own: number for number, own in enumerate(found.grams.ids)}
    for name, part in parts.items():
        for own, file, row in zip(*part, strict=True):
            if (weight := float(found.weights[place[own]])) > 0:
                trained = float(found.trained[place[own]]) if found.trainings else None
                line = {"part": name, "file": file, "row": row, "id": own, "weight": weight, "trained_weight": trained}
                yield json.dumps(line, ensure_ascii=False) + "\n"
