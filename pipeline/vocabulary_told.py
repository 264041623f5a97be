"""`tundish vocabulary`: a vocabulary as it lies in a file or under a root, told, measured, and exported.

Promises: what it says of a file is what Tokenize would do with it, since the same reader reads it. An export that is
not exact by construction says why, and on how many of the given texts ids differ. Refuses what is no vocabulary.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tundish.cluster import store
from tundish.cluster.shards import Dataset
from tundish.operators.text import tokenizer, tokenizer_doubts, tokenizer_json
from tundish.operators.text.tokenizer import MODEL
from tundish.pipeline import fertility
from tundish.pipeline.funnel import ran
from tundish.stages.read import picked, records
from tundish.stages.read_lines import Broken
from tundish.stages.vocabulary import vocabulary_of
from tundish.stages.vocabulary_grown import grown_beside, said

HARD = (
    "[MASK]",
    "<0x41>",
    "a\u0301e\u0308",
    "\u1112\u1161\u11ab",
    "ﬁ Ａ①½",
    "👩\u200d🚀 🇩🇪",
    "\0\x01\x0b",
    "\u2581 \u2581",
    "---- ....",
)


def told(what: str, files: Sequence[str]) -> dict[str, Any]:
    """What the vocabulary is, and its fertility: on the files, else on the corpus it lies beside."""
    name, data, tokens = _found(what)
    found = tokenizer.load(data)
    grown = tokens.about["vocabulary"].get("grown") if tokens else grown_beside(what)
    sums, broken = fertility.of_files(found, files) if files else (fertility.of_corpus(tokens), {})
    return {
        "file": name,
        "kind": found.kind,
        "size": found.size,
        "type": tokenizer.wide(found.size).__name__,
        "digest": found.digest,
        "specials": dict(found.specials),
        "grown": said(grown) if grown else None,
        "languages": fertility.shown(sums) if sums else None,
        "broken": dict(broken),
    }


def _found(what: str) -> tuple[str, bytes, Dataset | None]:
    """(name, bytes, token shards it lies beside) of a file, or of a root's latest run."""
    if store.info(what).is_file:
        return what.rsplit("/", 1)[-1], store.read(what), None
    if not store.exists(what):
        raise ValueError(f"there is nothing at {what!r}; give a .model, a tokenizer.json, or a root")
    run = ran(what)
    if not run.of("Tokenize"):
        raise ValueError(f"the latest run of {what!r} has no Tokenize that is done; give a file, or run it")
    tokens = run.datasets[run.of("Tokenize")[-1]]
    return *vocabulary_of(tokens), tokens


def exported(what: str, to: str, files: Sequence[str], *, framed: bool, most: int) -> dict[str, Any]:
    """Write the tokenizer.json; where it is not proven, and where files are given, ids are compared."""
    _, data, _ = _found(what)
    if tokenizer.load(data).file != MODEL:
        raise ValueError(f"{what!r} is a tokenizer.json already; copy it")
    body = tokenizer_json.export(data, framed=framed)
    texts = [*HARD, *itertools.islice(_lines(files), most), *tokenizer_doubts.runs(tokenizer_json.Known(data))]
    differing = tokenizer_doubts.differing(data, tokenizer_json.export(data), texts)
    store.write(to, body)
    return {
        "file": to,
        "bytes": len(body),
        "doubts": tokenizer_doubts.doubts(data),
        "checked": len(texts),
        "differing": len(differing),
    }


def _lines(files: Iterable[str]) -> Iterator[str]:
    for uri in (one for pattern in files for one in store.matching(pattern)):
        for row in records(uri):
            text = None if isinstance(row, Broken) else picked(row, "text")
            yield from (line for line in text.split("\n") if line.strip()) if isinstance(text, str) else ()
