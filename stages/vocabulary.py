"""The vocabulary of a Tokenize: learned from a sample of the corpus, or taken as it is; whole beside the shards.

    vocabulary.model     SentencePiece, learned by one worker on one thread; or the file that was given
    tokenizer.json       the same for Hugging Face `tokenizers`; or the file that was given, alone
    grown.json           the parts of the pieces that were added to it, here or before (stages/vocabulary_grown)
    sample/  sizes/      what it was learned from (stages/vocabulary_sample)
    learned/             the commits of the files

Promises: the same corpus gives the same pieces on any number of workers and in any order of files; a vocabulary that is
given enters by the digest of its bytes, and is copied as it is. Costs a pass for the sample, then one worker for about
a second a megabyte. Refuses a corpus that leaves nothing to learn from, and a file that is no vocabulary.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.digests import digest_once
from tundish.cluster.shards import Damaged, Dataset, Shard
from tundish.cluster.target import Target
from tundish.cluster.verbs import Cluster
from tundish.operators.text import tokenizer, tokenizer_doubts, tokenizer_json, vocabulary
from tundish.operators.text.fertility import counted, rates
from tundish.operators.text.tokenizer import JSON, MODEL, Tokenizer
from tundish.stages.stage import Place
from tundish.stages.vocabulary_grown import GROWN, LOG, Grow, grown_beside, outside_grown, said, write_grown
from tundish.stages.vocabulary_sample import HOLDOUT_SEED, Balance, sampled, share, texts_of, told_of

__all__ = ["HOLDOUT_SEED", "JSON", "MODEL", "share"]
LEAST = len(vocabulary.SPECIALS) + 256 + 1  # specials, bytes, and one piece
TRIED = 1000  # lines of the sample that the exported file is compared on
SAMPLING = ("sample", "temperature", "weights")  # of use to a file that is given only where it is to grow
LEARNING = ("kind", "coverage", "specials", *SAMPLING, "extend")  # of no use to a file that is given


class Wanted(Balance, Protocol):
    """What decides a vocabulary, besides the corpus: these fields of Tokenize."""

    vocabulary: int | str
    kind: str
    coverage: float
    specials: tuple[str, ...]
    extend: int


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary at rest: where its file lies, the digest that names it, and what the manifest says of it."""

    uri: str
    digest: str
    about: Mapping[str, Any]  # `vocabulary` and `specials`, for the manifest of the shards
    inside: tuple[str, ...]  # datasets it left in the stage's folder


def check_wanted(wanted: Wanted) -> None:
    """Refuse fields of Tokenize that no vocabulary can be made by."""
    if wanted.extend < 0:
        raise ValueError(f"Tokenize.extend is {wanted.extend}; it is how many pieces to add, or 0 for none")
    if isinstance(wanted.vocabulary, str):
        _check_given(wanted)
    else:
        _check_learned(wanted)
    if not wanted.temperature >= 1:
        raise ValueError(f"Tokenize.temperature is {wanted.temperature}; it is 1 (as the corpus is) or more, as 3.33")
    if wanted.sample < 1:
        raise ValueError(f"Tokenize.sample is {wanted.sample}; make it at least 1 byte")
    for name, weight in wanted.weights.items():
        if not 0 <= weight < float("inf"):
            raise ValueError(f"Tokenize.weights.{name} is {weight}; it is 0 (never learned from) or more")


def _check_given(wanted: Wanted) -> None:
    of_use = ("extend", *SAMPLING) if wanted.extend else ()
    for f in dataclasses.fields(wanted):  # type: ignore[arg-type]
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        if f.name in LEARNING and f.name not in of_use and getattr(wanted, f.name) != default:
            more = ", or extend it (Tokenize.extend)" if f.name in SAMPLING else ""
            raise ValueError(
                f"Tokenize.{f.name} tells how to learn a vocabulary, and {wanted.vocabulary!r} is one already; "
                f"leave it out, or give vocabulary a number of pieces{more}"
            )


def _check_learned(wanted: Wanted) -> None:
    if wanted.extend:
        raise ValueError(
            f"Tokenize.extend adds {wanted.extend} pieces to a vocabulary that is there, and this one is to be "
            f"learned; give vocabulary the path of one, or ask for {wanted.vocabulary + wanted.extend} pieces"
        )
    if wanted.kind not in ("unigram", "bpe"):
        raise ValueError(f"Tokenize.kind is {wanted.kind!r}; it is unigram or bpe")
    if not LEAST + len(wanted.specials) <= wanted.vocabulary <= tokenizer.WIDEST:
        raise ValueError(
            f"Tokenize.vocabulary is {wanted.vocabulary}; it is at least {LEAST + len(wanted.specials)} (specials, "
            f"the 256 bytes, and a piece) and at most {tokenizer.WIDEST}, or the path of a .model or tokenizer.json"
        )
    if not 0.98 <= wanted.coverage <= 1:
        raise ValueError(f"Tokenize.coverage is {wanted.coverage}; SentencePiece takes 0.98 to 1")
    vocabulary.check_specials(wanted.specials)


def outside_of(wanted: Wanted) -> list[dict[str, Any]]:
    """The file it takes, if it takes one, and what is told of it: by digest, for the stage's `outside`."""
    if not isinstance(wanted.vocabulary, str):
        return []
    uri = _expanded(wanted.vocabulary)
    return [{"vocabulary": uri.rsplit("/", 1)[-1], "digest": digest_once(uri), **outside_grown(uri)}]


def _expanded(path: str) -> str:
    return str(Path(path).expanduser()) if path.startswith("~") else path


def settled(cluster: Cluster, corpus: Dataset, wanted: Wanted, out: Place) -> Vocabulary:
    """The vocabulary, whole beside the shards: learned or grown once by one worker, or copied."""
    if isinstance(wanted.vocabulary, str) and not wanted.extend:
        return _given(_expanded(wanted.vocabulary), out)
    sample = sampled(cluster, corpus, wanted, out)
    if isinstance(wanted.vocabulary, str):
        return _grown(cluster, sample, _expanded(wanted.vocabulary), wanted.extend, out)
    target, inputs = Target(store.join(out.uri, "learned"), out.key), {"sample": sample.digest}
    shards = _committed(target, (MODEL, JSON), inputs)
    if shards is None:
        learn = Learn(sample, out.uri, wanted.vocabulary, wanted.kind, wanted.coverage, wanted.specials)
        [(lines, counts)] = cluster.each("Tokenize: vocabulary", learn, ["vocabulary"])
        shards = [target.adopt(name.split(".")[0], f"../{name}", lines, inputs, counts) for name in (MODEL, JSON)]
    target.seal(shards, kind="files")  # so that verify looks at them too
    return _at_rest(out, MODEL, {"sample": told_of(sample), "export": dict(shards[1].counts)})


def _given(uri: str, out: Place) -> Vocabulary:
    data = store.read(uri)
    name = tokenizer.load(data).file
    store.write(store.join(out.uri, name), data)
    write_grown(store.join(out.uri, name), grown_beside(uri))
    seal_vocabulary(out, name)
    return _at_rest(out, name, {"given": uri.rsplit("/", 1)[-1]})


def _grown(cluster: Cluster, sample: Dataset, uri: str, most: int, out: Place) -> Vocabulary:
    name = tokenizer.load(store.read(uri)).file
    target, inputs = Target(store.join(out.uri, "learned"), out.key), {"sample": sample.digest}
    shards = _committed(target, (name, GROWN), inputs)
    if shards is None:
        [texts] = cluster.each("Tokenize: vocabulary", Grow(sample, uri, out.uri, most), ["vocabulary"])
        shards = [target.adopt(one.split(".")[0], f"../{one}", texts, inputs, {}) for one in (name, GROWN)]
    target.seal(shards, kind="files")
    found = _at_rest(out, name, {"given": uri.rsplit("/", 1)[-1], "sample": told_of(sample)})
    LOG.info("%s: %s", uri, said(found.about["vocabulary"]["grown"]))
    return found


def seal_vocabulary(out: Place, name: str) -> None:
    """Seal a vocabulary that was taken as it is, and what is told of it, so that verify looks at them too."""
    target = out.target("learned")
    files = [one for one in (name, GROWN) if store.exists(store.join(out.uri, one))]
    target.seal([target.adopt(one.split(".")[0], f"../{one}", 0, {}, {}) for one in files], kind="files")


def _at_rest(out: Place, name: str, more: Mapping[str, Any]) -> Vocabulary:
    uri = store.join(out.uri, name)
    found = tokenizer.load(store.read(uri))
    told = {"file": name, "digest": found.digest, "size": found.size, "kind": found.kind, **more}
    if grown := grown_beside(uri):
        told["grown"] = grown
    return Vocabulary(uri, found.digest, {"vocabulary": told, "specials": dict(found.specials)}, ("learned",))


def _committed(target: Target, names: tuple[str, ...], inputs: Mapping[str, str]) -> list[Shard] | None:
    found = [target.committed(name.split(".")[0], inputs) for name in names]
    return [shard for shard in found if shard] if all(found) else None


@dataclass(frozen=True)
class Learn:
    """Train on the sample, in the order of ids."""

    sample: Dataset
    uri: str
    size: int
    kind: str
    coverage: float
    specials: tuple[str, ...] = ()

    def __call__(self, item: str) -> tuple[int, dict[str, int]]:
        texts = texts_of(self.sample)
        model = vocabulary.train(
            lines(texts), size=self.size, kind=self.kind, coverage=self.coverage, specials=self.specials
        )
        body = tokenizer_json.export(model)
        store.write(store.join(self.uri, MODEL), model)
        store.write(store.join(self.uri, JSON), body)
        return len(texts), tokenizer_doubts.checked(model, body, lines(texts), TRIED)


def lines(texts: pa.ChunkedArray) -> Iterator[str]:
    """Non-empty lines: SentencePiece learns from sentences, and cuts what is longer than 4,192 bytes."""
    for text in texts:
        yield from (line for line in text.as_py().split("\n") if line.strip())


def encode(texts: pa.LargeStringArray, uri: str, digest: str) -> pa.LargeListArray:
    """Ids of every text by the vocabulary in a file; what a worker calls, batch after batch."""
    return tokenizer_at(uri, digest).encode(texts)


def measured(texts: pa.LargeStringArray, tokens: pa.LargeListArray, uri: str, digest: str) -> dict[str, pa.Array]:
    """Of each text its words, unknown pieces and bytes spelt: uint32 columns `words`, `unknown`, `spelt`."""
    found = tokenizer_at(uri, digest)
    return counted(texts, tokens, found.odd, found.specials["[UNK]"])


def write_fertility(uri: str, totals: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
    """`fertility.json` beside the shards: sums and rates of each language and source."""
    told = {kind: {name: {**sums, **rates(dict(sums))} for name, sums in own.items()} for kind, own in totals.items()}
    store.write_json(store.join(uri, "fertility.json"), told)


@functools.lru_cache(maxsize=4)
def tokenizer_at(uri: str, digest: str) -> Tokenizer:
    """The tokenizer in a file, read once a process; refused when it is not the one of this digest."""
    try:
        found = tokenizer.load(store.read(uri))
        right = found.digest == digest
    except (ValueError, RuntimeError, IndexError):
        right = False
    if not right:
        raise Damaged(f"{uri} is not the vocabulary its manifest names; restore it, or delete it and run again")
    return found


def kept_in(trained: Dataset) -> str:
    """The name of the vocabulary's file among those a training left."""
    return JSON if JSON in {shard.file for shard in trained.shards} else MODEL


def vocabulary_of(tokens: Dataset) -> tuple[str, bytes]:
    """(name, bytes) of the file of the vocabulary that token shards were written with."""
    told = tokens.about["vocabulary"]
    uri = store.join(tokens.uri, told["file"])
    tokenizer_at(uri, told["digest"])
    return told["file"], store.read(uri)
