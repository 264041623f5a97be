"""Web archives, the writing side: one fetch as WARC/1.1 records (ISO 28500:2017), a gzip member or zstd frame each.

Promises: the bytes depend on the arguments alone, record ids too, so the same fetch gives the same bytes; whoever reads
them needs no other record but where a revisit says so. Costs, for a page of 80 KB, 0.3 ms as zstd (level 3), 1.5 ms as
gzip (level 4). Refuses to write a header value that holds a line break.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b, sha1
from uuid import UUID

import zstandard

IDENTICAL = "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"
NOT_MODIFIED = "http://netpreserve.org/warc/1.1/revisit/server-not-modified"
OPT_OUTS = "WARC-X-Opt-Outs"  # an extension field: what robots.txt and tdmrep.json said of this address
LEVELS = {"gz": 4, "zst": 3}
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"  # RFC 4648, section 6
_PAIRS = [one + two for one in _LETTERS for two in _LETTERS]  # base64.b32encode takes longer than the digest
EMPTY = "sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"  # the digest of no bytes
_BREAK = re.compile(r"[\r\n\0]")


def member(data: bytes, level: int = 6) -> bytes:
    """One gzip member without a time in it."""
    step = zlib.compressobj(level, wbits=31)
    return step.compress(data) + step.flush()


@cache
def packer(form: str) -> Callable[[bytes], bytes]:
    """`gz`: a gzip member a record (WARC annex D.2). `zst`: a zstd frame a record (IIPC, warc-zstd 1.0)."""
    if form == "zst":
        return zstandard.ZstdCompressor(level=LEVELS[form]).compress
    if form == "gz":
        return lambda data: member(data, LEVELS[form])
    raise ValueError(f"archives cannot be written as {form!r}; give 'zst' or 'gz'")


def unpacked(data: bytes, form: str) -> bytes:
    """The first member or frame of some bytes, decompressed."""
    if form == "zst":
        return zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj().decompress(data)
    return zlib.decompressobj(31).decompress(data)


@dataclass(frozen=True)
class Fetch:
    """One request and what was answered, as whole HTTP messages with the transfer coding undone.

    `date`: ISO 8601 in UTC, 2026-11-21T09:30:00Z. `ip`: the address that answered. `info`: the record id that
    `warcinfo_id` gives. `truncated`: length, time, disconnect or unspecified. `more`: further fields of the response.
    """

    url: str
    date: str
    request: bytes
    response: bytes
    ip: str | None = None
    info: str | None = None
    truncated: str | None = None
    more: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Earlier:
    """The capture a revisit refers to. `profile`: IDENTICAL or NOT_MODIFIED."""

    profile: str
    url: str
    date: str
    payload_digest: str  # as `digest` writes it
    record: str | None = None


def records(fetch: Fetch, earlier: Earlier | None = None) -> tuple[bytes, bytes, str]:
    """The request record, the response (or revisit) record, uncompressed, and the digest of the payload.

    A revisit holds the head of the answer alone; its payload digest is that of the capture it refers to.
    """
    head, body = _parts(fetch.response)
    payload = earlier.payload_digest if earlier else digest(body)
    kind, block = ("revisit", head) if earlier else ("response", fetch.response)
    sums = digest(fetch.request), digest(block)
    answer = record_id(kind, fetch.url, fetch.date, sums[1].encode())
    shared = {"WARC-Target-URI": fetch.url, "WARC-IP-Address": fetch.ip, "WARC-Warcinfo-ID": fetch.info}
    sent_body = _parts(fetch.request)[1]
    asked = shared | {"WARC-Concurrent-To": answer, "WARC-Payload-Digest": digest(sent_body) if sent_body else EMPTY}
    got: dict[str, str | None] = {**shared, "WARC-Payload-Digest": payload, "WARC-Truncated": fetch.truncated}
    if earlier:
        got |= {
            "WARC-Profile": earlier.profile,
            "WARC-Refers-To": earlier.record,
            "WARC-Refers-To-Target-URI": earlier.url,
            "WARC-Refers-To-Date": earlier.date,
        }
    sent = record_id("request", fetch.url, fetch.date, sums[0].encode())
    http = "application/http; msgtype="
    return (
        record("request", sent, fetch.date, http + "request", fetch.request, asked, sums[0]),
        record(kind, answer, fetch.date, http + "response", block, got | dict(fetch.more or {}), sums[1]),
        payload,
    )


def pair(
    url: str,
    *,
    date: str,
    request: bytes,
    response: bytes,
    ip: str | None = None,
    info: str | None = None,
    truncated: str | None = None,
    level: int = 6,
) -> bytes:
    """The two records of `Fetch(…)`, a gzip member each, request first."""
    asked, got, _ = records(Fetch(url, date, request, response, ip, info, truncated))
    return member(asked, level) + member(got, level)


def warcinfo(about: Mapping[str, str], *, date: str, filename: str, form: str = "gz") -> bytes:
    """The record that opens an archive: who wrote it and how (software, format, robots, operator), packed."""
    block = "".join(f"{_safe(name)}: {_safe(value)}\r\n" for name, value in about.items()).encode()
    ident = warcinfo_id(about, date=date, filename=filename)
    return packer(form)(record("warcinfo", ident, date, "application/warc-fields", block, {"WARC-Filename": filename}))


def warcinfo_id(about: Mapping[str, str], *, date: str, filename: str) -> str:
    """The record id `warcinfo` gives for these arguments."""
    return record_id("warcinfo", filename, date, repr(sorted(about.items())).encode())


def record(
    kind: str, ident: str, date: str, mime: str, block: bytes, fields: Mapping[str, str | None], known: str = ""
) -> bytes:
    """One WARC/1.1 record, uncompressed. `known`: the digest of the block, where somebody has it."""
    head: dict[str, str | None] = {"WARC-Type": kind, "WARC-Record-ID": ident, "WARC-Date": date, **fields}
    head |= {"WARC-Block-Digest": known or digest(block), "Content-Type": mime, "Content-Length": str(len(block))}
    given = {name: value for name, value in head.items() if value is not None}
    _safe("".join(given.values()))
    lines = "".join([f"{name}: {value}\r\n" for name, value in given.items()])
    return b"".join((b"WARC/1.1\r\n", lines.encode(), b"\r\n", block, b"\r\n\r\n"))


def digest(data: bytes) -> str:
    """As WARC writes digests: sha1, base32."""
    number = int.from_bytes(sha1(data, usedforsecurity=False).digest(), "big")
    return "sha1:" + "".join([_PAIRS[number >> bits & 1023] for bits in range(150, -10, -10)])


def record_id(kind: str, url: str, date: str, payload: bytes) -> str:
    """A UUID of version 8 (RFC 9562) from what is recorded, so that it needs no randomness."""
    key = "\0".join((kind, url, date)).encode() + b"\0"
    step = blake2b(key, digest_size=16)
    step.update(payload)
    bits = int.from_bytes(step.digest(), "big")
    bits = bits & ~(0xF << 76) | 8 << 76
    bits = bits & ~(0x3 << 62) | 2 << 62
    return f"<{UUID(int=bits).urn}>"


def _parts(message: bytes) -> tuple[bytes, bytes]:
    """Head with its blank line, and body."""
    end = message.find(b"\r\n\r\n")
    return (message, b"") if end < 0 else (message[: end + 4], message[end + 4 :])


def _safe(value: str) -> str:
    if _BREAK.search(value):
        raise ValueError(f"{value[:80]!r} holds a line break; header values must not")
    return value
