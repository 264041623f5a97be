"""A corpus handed over: Parquet files of a stated size, and a data set card, in a folder as the Hub lays one.

    DIR/README.md            the card; its header names the files: what `datasets` loads is what it names
    DIR/data-3fa9c1d2e0/     part-00000.parquet …, and a manifest.json: rows, bytes, SHA-256 and counts of each
    DIR/export.json          which corpus lies here
    DIR/.export-lease/       while one export is at work: who it is

Promises: whole or not at all: files are written in a hidden folder, commit by commit, and come under their name
together; then the card changes over to them in one rename, and only then the files of an earlier export go. An export
that was stopped goes on behind its last committed file; the same corpus, columns and size give the same bytes; one that
is whole already is left as it is. One export at a time works on a folder. Costs one pass over the corpus, a shard of it
in memory. Refuses a folder that holds anything else or that another export writes into, one with another corpus unless
it is told to replace it, to write what was forgotten meanwhile, and a corpus of which a stage that it stands on is gone
or is another by now: its card would tell other numbers.
"""

import contextlib
import difflib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tundish.cluster import store
from tundish.cluster.shards import digest_of, total
from tundish.pipeline.export_corpus_card import card
from tundish.pipeline.export_corpus_rows import USUAL, Leaving
from tundish.pipeline.funnel import Ran, ran
from tundish.pipeline.lease import Lease, alive
from tundish.pipeline.promised import refuse_other
from tundish.stages.forget_swap import refuse_unfinished
from tundish.stages.forgotten import forgotten

VERSION = 2  # raised when the same corpus would give other bytes
CARD, RECORD, MANIFEST, DATA, HIDDEN = "README.md", "export.json", "manifest.json", "data-", ".export-"
LEASE = f"{HIDDEN}lease"  # a folder, which goes at the end
BESIDE = (".git", ".gitattributes", ".gitignore")  # what a clone of a repository has
GROUP = 32 << 20  # bytes of a row group before compression
LEAST = 10_000  # bytes of a file
PARQUET = {"compression": "zstd", "compression_level": 6, "use_dictionary": ["language", "origin", "licence"]}


class Group(NamedTuple):
    """Rows that are written together; where those behind them begin; what was counted on the way to them."""

    rows: pa.Table
    then: tuple[int, int]  # shard of the corpus, row of what leaves of it
    counts: Mapping[str, int]


def export_corpus(
    root: str,
    to: str,
    *,
    corpus: str | None = None,
    columns: tuple[str, ...] = USUAL,
    size: int = 256_000_000,
    name: str = "",
    licence: str = "",
    contact: str = "",
    replace: bool = False,
    say: Callable[[int, int], None] = lambda done, rows: None,
) -> dict[str, Any]:
    """Write the folder, and say what lies there: {to, data, corpus, rows, bytes, files, left}. `size`: bytes from which
    a file is closed; `say`: called after each file with the rows so far and those of the corpus."""
    if size < LEAST:
        raise ValueError(f"a file of {size} bytes would hold next to nothing; give at least {LEAST}, such as 256MB")
    refuse_unfinished(root)
    told, to = ran(root), store.absolute(to)
    leaving = Leaving(told, _chosen(told, corpus), columns, forgotten(root))
    refuse_other(told, leaving.address)
    data = DATA + _plan(leaving, size)
    _refuse_strange(to, leaving.address, replace)  # before anything is written there
    with _held(to) as lease:
        _begun(to, leaving.address, replace)
        lease.check()
        manifest = _whole(to, data) or _written(leaving, to, data, size, say, lease.check)
        if forgotten(root) != leaving.gone:
            raise ValueError(f"{root} was told to forget something meanwhile; export again, and it stays out")
        words = card(leaving, manifest, data=data, name=name, licence=licence, contact=contact)
        lease.check()
        store.write(store.join(to, CARD), words.encode())
        store.write_json(store.join(to, RECORD), {"corpus": leaving.address, "data": data, "run": told.name})
        _swept(to, data)
    counts = manifest["counts"]
    left = {name.removeprefix("left:"): n for name, n in counts.items() if name.startswith("left:")}
    files = {store.join(data, one["file"]): one["size"] for one in manifest["files"]}
    return {"to": to, "corpus": leaving.address, "rows": counts["documents"], "bytes": counts["bytes"]} | {
        "files": files,
        "left": left,
    }


def _chosen(told: Ran, corpus: str | None) -> str:
    known = told.of("Corpus")
    if not known:
        raise ValueError(f"the latest run under {told.root!r} has no Corpus that is done; run its recipe first")
    if corpus is not None and corpus not in known:
        near = difflib.get_close_matches(corpus, known, 1, 0.0)[0]
        raise ValueError(f"{corpus!r} is no finished Corpus under {told.root!r}; did you mean {near!r}?")
    return corpus or known[-1]


def _plan(leaving: Leaving, size: int) -> str:
    """What decides the bytes of the files, in ten digits."""
    content = [leaving.corpus.digest, leaving.beside.digest, *(one.digest for one in leaving.beside.others)]
    wish = [VERSION, leaving.chosen, size, leaving.gone.plain]
    return digest_of([content, wish])[:10]


@contextlib.contextmanager
def _held(to: str) -> Iterator[Lease]:
    """The folder, for one export alone; what says so goes at the end, for all that lies in the folder is published."""
    place = store.join(to, LEASE)
    lease = Lease(place)
    try:
        with contextlib.ExitStack() as stack:
            _taken(lease, to, stack)
            yield lease
    except BaseException:
        with contextlib.suppress(ValueError, OSError):  # what the export has to say would be lost behind it
            _given_back(lease, place)
        raise
    _given_back(lease, place)


def _taken(lease: Lease, to: str, stack: contextlib.ExitStack) -> None:
    try:
        stack.enter_context(lease)
    except ValueError:
        held = store.read_json(lease.uri)
        if not held or not alive(held):
            raise
        by = f"process {held['process']} on {held['machine']}"
        raise ValueError(
            f"another export writes into {to} ({by}); wait until it ends, or choose another folder"
        ) from None


def _given_back(lease: Lease, place: str) -> None:
    held = store.read_json(lease.uri)
    if held and held["name"] == lease.name:
        store.remove(place)


def _refuse_strange(to: str, address: str, replace: bool) -> bool:
    """Refuse a folder that is not empty and holds no export of this corpus; nor of another, to `replace` it. Whether
    an export was begun there."""
    held = store.read_json(store.join(to, RECORD))
    if held is not None and held.get("corpus") != address and not replace:
        raise ValueError(
            f"{to} holds an export of {held.get('corpus')}, and this one is of {address}; choose another folder, or "
            "replace it (--replace)"
        )
    ours = (CARD, RECORD) if held is not None else ()
    there = [name for name in store.listing(to) if name not in (*ours, *BESIDE, LEASE)]
    strange = [n for n in there if not n.startswith((DATA, HIDDEN))] or ([] if held is not None else there)
    if strange:
        raise ValueError(f"{to} holds {strange[0]!r}, which is of no export of a corpus; choose an empty folder")
    return held is not None


def _begun(to: str, address: str, replace: bool) -> None:
    """Take the folder."""
    if not _refuse_strange(to, address, replace):
        store.write_json(store.join(to, RECORD), {"corpus": address, "data": None})


def _whole(to: str, data: str) -> dict[str, Any] | None:
    """The manifest of files that are all there; what is there in part goes."""
    manifest: dict[str, Any] | None = store.read_json(store.join(to, data, MANIFEST))
    if manifest and all(store.size(store.join(to, data, one["file"])) == one["size"] for one in manifest["files"]):
        return manifest
    store.remove(store.join(to, data))
    return None


def _written(
    leaving: Leaving, to: str, data: str, size: int, say: Callable[[int, int], None], check: Callable[[], None]
) -> dict[str, Any]:
    """The files, brought under their name when all are there; their manifest. `check`: raises once another export has
    taken the folder over."""
    hidden = store.join(to, HIDDEN + data.removeprefix(DATA))
    store.sweep(hidden)
    commits = list(_committed(hidden))
    at, done = tuple(commits[-1]["then"]) if commits else (0, 0), sum(one["rows"] for one in commits)
    while at[0] < len(leaving.corpus.shards):
        check()
        commits.append(_file(leaving, hidden, f"part-{len(commits):05d}", at, size))
        at, done = commits[-1]["then"], done + commits[-1]["rows"]
        say(done, leaving.corpus.rows)
    if not done:
        raise ValueError(f"nothing of {leaving.address} may leave: all of it is opted out or forgotten; see its report")
    files = [{k: one[k] for k in ("file", "rows", "size", "digest")} for one in commits if one["rows"]]
    counts = total(one["counts"] for one in commits)
    manifest = {"corpus": leaving.address, "digest": leaving.corpus.digest, "files": files, "counts": counts}
    manifest["columns"] = [[field.name, str(field.type)] for field in _schema(leaving)]
    _moved(hidden, store.join(to, data), manifest, check)
    return manifest


def _schema(leaving: Leaving) -> pa.Schema:
    return leaving.rows(leaving.corpus.names[0])[0].schema


def _committed(hidden: str) -> Iterator[dict[str, Any]]:
    """Files that an export which was stopped has committed, up to the first that is not as it was."""
    for name in store.listing(store.join(hidden, "commits")):
        one = store.read_json(store.join(hidden, "commits", name)) if name.startswith("part-") else None
        if one is None or (one["rows"] and store.size(store.join(hidden, one["file"])) != one["size"]):
            return
        yield one


def _file(leaving: Leaving, hidden: str, name: str, at: tuple[int, ...], size: int) -> dict[str, Any]:
    """Write one file and commit it; one without rows, at the end, is no file."""
    uri, rows, counts, told, writer = store.join(hidden, f"{name}.parquet"), 0, Counter[str](), store.Written(), None
    with contextlib.ExitStack() as stack:
        for group in _groups(leaving, at, min(size, GROUP)):
            at, rows = group.then, rows + len(group.rows)
            counts.update(group.counts)
            if not len(group.rows):
                continue
            if writer is None:
                stream, told = stack.enter_context(store.written(uri))
                writer = stack.enter_context(pq.ParquetWriter(stream, group.rows.schema, **PARQUET))
            writer.write_table(group.rows)
            if stream.tell() >= size:
                break
    one = {"file": f"{name}.parquet", "rows": rows, "size": told.size, "digest": told.digest}
    one |= {"then": list(at), "counts": dict(sorted(counts.items()))}
    store.write_json(store.join(hidden, "commits", f"{name}.json"), one)
    return one


def _groups(leaving: Leaving, at: tuple[int, ...], size: int) -> Iterator[Group]:
    """What leaves from a place on, in tables of about `size` bytes; counts of a shard come with its first rows."""
    for number in range(at[0], len(leaving.corpus.shards)):
        rows, counts = leaving.rows(leaving.corpus.names[number])
        start = at[1] if number == at[0] else 0
        step = max(1, int(size * len(rows) / max(1, rows.nbytes)))
        for first in range(start, max(1, len(rows)), step):
            end = first + step
            then = (number, end) if end < len(rows) else (number + 1, 0)
            yield Group(rows.slice(first, step), then, {} if first else counts)


def _moved(hidden: str, to: str, manifest: Mapping[str, Any], check: Callable[[], None]) -> None:
    """All files under their own name: by one rename on a disk; elsewhere one after the other, the manifest last."""
    own, place = store.local(hidden), store.local(to)
    check()
    if own is not None and place is not None:
        store.write_json(store.join(hidden, MANIFEST), manifest)
        os.rename(own, place)
    else:
        for one in manifest["files"]:
            check()
            store.move(store.join(hidden, one["file"]), store.join(to, one["file"]))
        store.write_json(store.join(to, MANIFEST), manifest)
    store.remove(store.join(to, "commits"))


def _swept(to: str, data: str) -> None:
    """What earlier exports left goes, now that nothing names it."""
    for name in store.listing(to):
        if name.startswith((DATA, HIDDEN)) and name not in (data, LEASE):
            store.remove(store.join(to, name))


def bytes_of(words: str) -> int:
    """A size as people write it.

    >>> bytes_of("256MB"), bytes_of("1.5 GB")
    (256000000, 1500000000)
    """
    said = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]B)\s*", words, re.IGNORECASE)
    if said is None:
        raise ValueError(f"{words!r} is no size; write a number and KB, MB, GB or TB, such as 256MB")
    return int(float(said[1]) * store.UNITS[said[2].upper()])
