"""Read: documents a user holds as texts, one a file or a row: the forms of stages/read_forms, Hugging Face data sets.

Beside the documents lies `dropped/`: one for each row that is none, by file and number (counted from 0), as `bad_row`,
`undecodable`, `bad_compression`, `truncated` or `no_text`.

Promises: memory of one batch; one large file is cut and read by several workers, and gives the same rows however it is
cut; a row that cannot be read costs itself, and where more is lost `value` is how many rows. Refuses a file it has no
reader for, one whose first thousand rows are broken for the most part, and one where none of them has the key of the
text, with the keys they have. A row's key is its `url`, else its `id`, else the file and its number.
"""

import contextlib
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, ClassVar

import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.digests import digest_once
from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import At, Cluster, Job
from tundish.operators.text import warm
from tundish.operators.text.digest import identity, payload_digest
from tundish.operators.text.repair import repair, text_of
from tundish.operators.web import urls
from tundish.stages.documents import DOCUMENT, DROPPED, table_of
from tundish.stages.forgotten import NONE, REASON, Forgotten, forgotten, root_of
from tundish.stages.read_forms import READERS, Piece, cut, form_of, numbered, rows
from tundish.stages.read_hub import OWN, files_of
from tundish.stages.read_lines import BROKEN, Broken, lines, strictly
from tundish.stages.stage import PLACE, Place, Stage

__all__ = ["BROKEN", "READERS", "Files", "Names", "Read", "records", "split"]

NOTHING = "nothing is left of it when it is repaired"
EPOCH = 10**8  # a number from here on is seconds since 1970, from EPOCH * 1000 on milliseconds; below it is a year


@dataclass(frozen=True)
class Names:
    """Which columns hold what; `meta.url` is the key `url` inside of `meta`."""

    text: str = "text"
    url: str = "url"
    id: str = "id"
    date: str = "date"
    title: str = "title"

    @property
    def columns(self) -> list[str]:
        return [c for name in self.__dict__.values() for c in dict.fromkeys((name, name.partition(".")[0]))]


@dataclass(frozen=True)
class Read(Stage):
    """`files`: paths, folders, globs or URIs. `text` and the four after it: the columns or keys that hold them.

    `subset` and `split` choose from a Hugging Face data set (configuration and split; "all" for every split).
    """

    version: ClassVar[int] = 4
    makes: ClassVar[tuple[str, ...]] = tuple(DOCUMENT.names)

    files: tuple[str, ...] = field(metadata=PLACE)
    text: str = "text"
    url: str = "url"
    id: str = "id"
    date: str = "date"
    title: str = "title"
    subset: str | None = None
    split: str | None = None
    piece: int = 64 << 20  # stored bytes of a file that one shard takes, about
    sample: int | None = None  # rows of each file

    def check(self) -> None:
        if not self.files:
            raise ValueError("Read.files is empty; name at least one file, folder or glob")
        if self.piece < 1:
            raise ValueError(f"Read.piece is {self.piece} bytes; give 1 or more")

    def prepare(self) -> None:
        warm.repairing()

    def outside(self) -> list[dict[str, Any]]:
        return [{"file": os.path.basename(u), "size": store.size(u), "digest": digest} for u, digest in self._files()]

    def _files(self) -> list[tuple[str, str]]:
        found: dict[str, str] = {}
        for pattern in self.files:
            uris = files_of(pattern, self.subset, self.split)
            if uris is None:
                named = store.matching(pattern)
                own = OWN if len(named) > 1 else ()  # who names one file means it
                uris = [u for u in named if u.endswith(READERS) and posixpath.basename(u) not in own]
            if not uris:
                raise ValueError(f"Read.files {pattern!r} matches no {', '.join(SHOWN)} file; check the path")
            found |= {uri: digest_once(uri) for uri in uris}
        return sorted(found.items(), key=lambda f: (os.path.basename(f[0]), f[1]))

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        files = self._files()
        cuts = dict(cluster.each("Read: cut", Cut(self.piece), [(n, uri) for n, (uri, _) in enumerate(files)]))
        names = Names(self.text, self.url, self.id, self.date, self.title)
        pieces = tuple((n, piece) for n in range(len(files)) for piece in cuts[n])
        source = Files(tuple(files), self.text, self.sample, names, pieces)
        taken = partial(as_documents, gone=forgotten(root_of(out.uri)))
        job = Job(taken, (out.target(), out.target("dropped")), about={**out.about, "inside": ["dropped"]})
        [(documents, _)] = map_(cluster, "Read", [job], source)
        return documents


SHOWN = tuple(name for name in READERS if name.count(".") == 1)  # in a sentence; each of lines and cells packed too


@dataclass(frozen=True)
class Cut:
    """(number, uri) -> (number, the pieces of the file)."""

    twice: ClassVar[bool] = True  # it reads

    size: int

    def __call__(self, item: tuple[int, str]) -> tuple[int, list[Piece]]:
        return item[0], cut(item[1], self.size)


ROWS = pa.schema(
    [
        *((c, pa.large_string()) for c in ("key", "text", "title", "date", "source")),
        *((c, pa.large_string()) for c in ("reason", "detail")),  # why it is no document; null where it is one
        ("rows", pa.int64()),  # that are lost with it
    ]
)


@dataclass(frozen=True)
class Files:
    """Files as a `Source`: one shard a piece (a file, when no pieces are named), rows of `ROWS`."""

    files: tuple[tuple[str, str], ...]
    text: str
    sample: int | None
    columns: Names = Names()
    pieces: tuple[tuple[int, Piece], ...] = ()

    @property
    def _pieces(self) -> tuple[tuple[int, Piece], ...]:
        return self.pieces or tuple((n, Piece()) for n in range(len(self.files)))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"part-{n:05d}" for n in range(len(self._pieces)))

    def digests(self, name: str) -> dict[str, str]:
        number, piece = self._pieces[int(name[5:])]
        uri, digest = self.files[number]
        part = "" if piece.whole else f"[{piece.start}:{'' if piece.stop is None else piece.stop}]"
        return {os.path.basename(uri) + part: digest}

    def batches(self, name: str, rows_: int) -> Iterator[pa.Table]:
        number, piece = self._pieces[int(name[5:])]
        uri, _ = self.files[number]
        batch: list[dict[str, Any]] = []
        given = 0
        wanted = [self.text, *self.columns.columns]
        for at, row in numbered(uri, piece, wanted, "Read.text", self.sample):
            batch.append(self._row(uri, at, row))
            if len(batch) == rows_:
                yield pa.Table.from_pylist(batch, schema=ROWS)
                given, batch = given + len(batch), []
        if batch or not given:
            yield pa.Table.from_pylist(batch, schema=ROWS)

    def _row(self, uri: str, number: int, row: Mapping[str, Any] | Broken) -> dict[str, Any]:
        source = f"{os.path.basename(uri)}:{number}"
        if isinstance(row, Broken):
            told = {"reason": row.reason, "detail": storable(row.detail), "rows": row.rows}
            return {"key": source, "source": source, **told}
        text = picked(row, self.text)
        if isinstance(text, bytes):  # a binary column: what is no UTF-8 becomes U+FFFD
            text = text_of(pa.array([text], pa.large_binary()))[0][0].as_py()
        key = storable(str(picked(row, self.columns.url) or picked(row, self.columns.id) or source))
        if not isinstance(text, str):
            what = f"{self.text!r} is of the type {type(text).__name__}" if text is not None else f"no {self.text!r}"
            return {"key": key, "source": source, "reason": "no_text", "detail": what, "rows": 1}
        title, dated = titled(picked(row, self.columns.title)), spelt(picked(row, self.columns.date))
        told = {"text": text, "title": title, "date": dated, "source": source}
        return {"key": key, **{name: value and storable(value) for name, value in told.items()}}


def picked(row: Mapping[str, Any], name: str) -> Any:
    """A value by its key, or by a way of keys with dots between them; None where there is none.

    >>> picked({"a.b": 1, "a": {"b": 2, "c": 3}}, "a.b"), picked({"a": {"c": 3}}, "a.c"), picked({"a": 1}, "a.c")
    (1, 3, None)
    """
    if name in row or "." not in name:
        return row.get(name)
    first, _, rest = name.partition(".")
    inner = row.get(first)
    return picked(inner, rest) if isinstance(inner, Mapping) else None


def spelt(value: Any) -> str | None:
    """A date as a string: ISO 8601 in UTC for what is a time, the text itself for what is one, None for the rest.

    >>> spelt(datetime(2026, 11, 21, 9, 30)), spelt(1_700_000_000), spelt("May 1962"), spelt(1962), spelt([])
    ('2026-11-21T09:30:00Z', '2023-11-14T22:13:20Z', 'May 1962', '1962', None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float) and abs(value) >= EPOCH:
        try:
            value = datetime.fromtimestamp(value / (1000 if abs(value) >= EPOCH * 1000 else 1), UTC)
        except (ValueError, OverflowError, OSError):
            return None
    if isinstance(value, datetime):
        value = value if value.tzinfo is None else value.astimezone(UTC)
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, date):
        return value.isoformat()
    return str(value).strip() or None if isinstance(value, str | int | float) else None


def titled(value: Any) -> str | None:
    """A title as a string: a number is spelt, and what holds other values is none.

    >>> titled(1984), titled(["Dune"]), titled(None)
    ('1984', None, None)
    """
    return str(value) if isinstance(value, str | int | float) else None


def storable(text: str) -> str:
    """Lone surrogates, which JSON can spell and no file can hold, become U+FFFD."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def records(uri: str) -> Iterator[Mapping[str, Any] | Broken]:
    """The rows of one file."""
    yield from rows(uri, Piece())


def split(stream: Any, uri: str) -> Iterable[bytes]:
    """Lines of a text file, ended by LF alone; unpacked as its name says. Raises one of `BROKEN` where it is broken."""
    return strictly(lines(stream, form_of(uri)[1]))


def as_documents(batch: pa.Table, at: At, *, gone: Forgotten = NONE) -> tuple[pa.Table, pa.Table]:
    """Rows with a key and a text -> (documents, dropped). `gone`: what the root was told to forget; of it nothing is
    written but how many there were."""
    kept, dropped = [], []
    texts, repairs = repair(batch["text"].combine_chunks().cast(pa.large_string()))
    for row, text, done in zip(batch.to_pylist(), texts.to_pylist(), repairs.to_pylist(), strict=True):
        text = (text or "").strip()
        if gone and _forgotten(row, text, gone):
            at.tally[f"dropped:{REASON}"] += 1
            continue
        if row["reason"] is None and not text:
            row |= {"reason": "no_text", "detail": "it is blank" if not row["text"].strip() else NOTHING, "rows": 1}
        if row["reason"] is not None:
            at.tally[f"dropped:{row['reason']}"] += row["rows"]
            dropped.append(_dropped(row))
            continue
        at.tally["bytes_out"] += len(text.encode())
        at.tally["kept"] += 1
        kept.append(_document(row, text, done))
    return table_of(DOCUMENT, kept), table_of(DROPPED, dropped)


def _forgotten(row: Mapping[str, Any], text: str, gone: Forgotten) -> bool:
    """Whether a row has a forgotten address, or is a forgotten document."""
    if gone.holds(row["key"]):
        return True
    return bool(gone.ids) and identity([row["key"]], [payload_digest(text.encode())])[0].as_py() in gone.ids


def _document(row: Mapping[str, Any], text: str, repairs: list[str]) -> dict[str, Any]:
    digest, url = payload_digest(text.encode()), row["key"]
    return {
        "id": identity([url], [digest])[0].as_py(),
        "content_digest": digest,
        "url": url,
        "host": host_of(url),
        "text": text,
        "title": row["title"],
        "date": row["date"],
        "origin": "read",
        "source": row["source"],
        "mime": "text/plain",
        "how": "read",
        "repairs": repairs,
    }


def _dropped(row: Mapping[str, Any]) -> dict[str, Any]:
    url, lost = row["key"], float(row["rows"]) if row["rows"] > 1 else None
    why = {"reason": row["reason"], "detail": f"{row['source']}: {row['detail']}", "value": lost}
    return {"url": url, "host": host_of(url), "origin": "read", "source": row["source"], "stage": "read", **why}


def host_of(key: str) -> str | None:
    """The host, where the key is a URL."""
    with contextlib.suppress(ValueError):
        return urls.host(key) if "://" in key else None
    return None
