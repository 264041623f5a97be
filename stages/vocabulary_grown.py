"""A vocabulary that is given, grown by pieces from the sample of a corpus, and the file that tells of them.

    vocabulary.model | tokenizer.json   the given file with the new pieces
    grown.json                          which file that is (SHA-256), its first new id, the old ids of each new piece,
                                        and the words and tokens of the sample before and after

Promises: the old ids of a new piece travel with the vocabulary: whoever takes the file from this folder, or from a Mix,
tells the same of it in its manifest; another file of that name has nothing told. The same bytes on any number of
workers. Costs one worker some ten seconds for ten megabytes of sample, a `tokenizer.json` the double. Refuses a
`grown.json` that does not fit its vocabulary.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tundish.cluster import store
from tundish.cluster.digests import digest_once
from tundish.cluster.shards import Dataset
from tundish.operators.text import tokenizer
from tundish.operators.text.column import large
from tundish.operators.text.grown import Grown, grown
from tundish.stages.vocabulary_sample import texts_of

GROWN = "grown.json"
LOG = logging.getLogger("tundish.tokenize")


@dataclass(frozen=True)
class Grow:
    """Learn so many pieces more from the sample, and write the file and what is told of it."""

    sample: Dataset
    given: str
    uri: str
    most: int

    def __call__(self, item: str) -> int:
        texts = texts_of(self.sample)
        made = grown(store.read(self.given), [large(chunk) for chunk in texts.chunks], self.most)
        name = tokenizer.load(made.data).file
        told = {"vocabulary": hashlib.sha256(made.data).hexdigest(), **_told(made)}
        store.write(store.join(self.uri, name), made.data)
        store.write_json(store.join(self.uri, GROWN), told)
        return len(texts)


def _told(made: Grown) -> dict[str, Any]:
    before, after = made.tokens
    return {
        "first": made.first,
        "parts": [list(own) for own in made.parts],
        "sample": {"words": made.words, "tokens_before": before, "tokens_after": after},
    }


def said(told: Mapping[str, Any]) -> str:
    """How a vocabulary grew, in a line."""
    own = told["sample"]
    before, after, words = own["tokens_before"], own["tokens_after"], own["words"] or 1
    return (
        f"{len(told['parts']):,} pieces from id {told['first']:,} on were added for this text: {before / words:.2f} -> "
        f"{after / words:.2f} tokens a word, {1 - after / (before or 1):.1%} of the tokens of the sample saved"
    )


def grown_beside(uri: str) -> dict[str, Any] | None:
    """What is told of the vocabulary in a file, where a `grown.json` lies beside it that tells of this file."""
    found = store.read_json(beside(uri))
    if not isinstance(found, Mapping) or found.get("vocabulary") != digest_once(uri):
        return None
    told = {name: found.get(name) for name in ("first", "parts", "sample")}
    first, parts, size = told["first"], told["parts"], tokenizer.load(store.read(uri)).size
    whole = isinstance(parts, list) and isinstance(first, int) and first + len(parts) == size
    if not whole or not all(own and all(0 <= one < first for one in own) for own in parts):
        raise ValueError(f"{beside(uri)} does not tell the parts of the last pieces of {uri}; restore it, or delete it")
    return told


def outside_grown(uri: str) -> dict[str, str]:
    """The digest of what is told of a vocabulary, for the `outside` of who takes the file; nothing where nothing is."""
    return {} if grown_beside(uri) is None else {"grown": digest_once(beside(uri))}


def beside(uri: str) -> str:
    return store.join(uri.rpartition("/")[0] or ".", GROWN)


def write_grown(uri: str, told: Mapping[str, Any] | None) -> None:
    """Beside the vocabulary in a file, what is told of it; where nothing is, nothing of another time stays there."""
    if told is None:
        store.remove(beside(uri))
    else:
        store.write_json(beside(uri), {"vocabulary": store.digest(uri), **told})
