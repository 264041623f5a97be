"""Web archives: real files counted against another reader, damage, cuts, and records written."""

import gzip
import io
import json
import random
import re
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import brotli
import pytest
import zstandard
from fastwarc.stream_io import Lz4Writer

from tundish.operators.web import walk
from tundish.operators.web.arc import beginning
from tundish.operators.web.message import CAP, BadCoding, message, undone
from tundish.operators.web.warc import Capture, Damage, captures, cuts
from tundish.operators.web.warc_write import member, pair, record, warcinfo, warcinfo_id

DATE = "2026-11-21T09:30:00Z"


def manifest(data: Path) -> Iterator[tuple[str, dict, bytes]]:
    for line in (data / "warc" / "manifest.jsonl").read_text().split("\n"):
        if line:
            row = json.loads(line)
            yield row["file"].removeprefix("files/"), row, (data / "warc" / row["file"]).read_bytes()


def test_bodies_are_decoded(data: Path) -> None:
    found = {name: list(captures(io.BytesIO(raw))) for name, _, raw in manifest(data)}
    for name in ("warcio/example.warc.gz", "warcio/example-iana.org-chunked.warc", "whirlwind-python/whirlwind.warc"):
        page = next(c for c in found[name] if isinstance(c, Capture))
        assert page.payload.rstrip().lower().endswith(b"</html>"), name
        assert page.status == 200
        assert not page.truncated
    clipped = found["chatnoir-resiliparse/clipped.warc.gz"][0]
    assert clipped.truncated
    assert len(clipped.payload) > 70_000
    wet = found["whirlwind-python/whirlwind.warc.wet.gz"][0]
    assert (wet.kind, wet.mime, wet.status, wet.offset > 0) == ("conversion", "text/plain", 0, True)
    assert wet.payload.decode()
    bracketed = found["warcio/example-wget-bad-target-uri.warc.gz"]
    assert [c.url for c in bracketed if isinstance(c, Capture)] == ["http://example.com/"]


PAGES = [(f"http://heron.example/{n}", b"<p>" + random.Random(n).randbytes(400).hex().encode()) for n in range(12)]


def response(body: bytes, *lines: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", "Content-Type: text/html", *lines, "", ""]).encode() + body


def fetched(url: str, body: bytes) -> bytes:
    return pair(url, date=DATE, request=b"GET / HTTP/1.1\r\n\r\n", response=response(body), ip="192.0.2.7")


FORMS = ["gzip", "plain", "zstd", "dictionary", "lz4", "arc", "arc.gz"]


def archive(form: str) -> tuple[bytes, list[int]]:
    """Twelve pages as an archive, and where their pairs start."""
    plain = [gzip.decompress(fetched(url, body)) for url, body in PAGES]
    if form.startswith("arc"):
        about = (
            b"filedesc://a.arc 0.0.0.0 20261121093000 text/plain 42\n1 0 Heron\nURL IP-address Archive-date etc.\n\n\n"
        )
        records = [about, *(arc_record(url, response(body)) for url, body in PAGES)]
        parts = [member(r) for r in records] if form == "arc.gz" else records
        return b"".join(parts), [sum(map(len, parts[: n + 1])) for n in range(len(PAGES))]
    laid, pack = packer(form, [r for p in plain for r in split(p)])
    pairs = [b"".join(pack(r) for r in split(p)) for p in plain]
    return laid + b"".join(pairs), [len(laid) + sum(map(len, pairs[:n])) for n in range(len(pairs))]


def arc_record(url: str, block: bytes) -> bytes:
    return f"{url} 192.0.2.7 20261121093000 text/html {len(block)}\n".encode() + block + b"\n"


def packer(form: str, plain: list[bytes]) -> tuple[bytes, Callable[[bytes], bytes]]:
    """What opens an archive of this form, and how its records are packed."""
    if form == "dictionary":
        known = zstandard.train_dictionary(2000, plain * 9)
        frame = zstandard.compress(known.as_bytes())
        head = b"\x5d\x2a\x4d\x18" + len(frame).to_bytes(4, "little") + frame
        return head, zstandard.ZstdCompressor(dict_data=known).compress
    return b"", {"gzip": member, "plain": bytes, "zstd": zstandard.compress, "lz4": lz4}[form]


def lz4(data: bytes) -> bytes:
    out = io.BytesIO()
    writer = Lz4Writer(out)
    writer.write(data)
    writer.close()
    return out.getvalue()


def split(plain: bytes) -> list[bytes]:
    at = plain.index(b"WARC/1.1", 10)
    return [plain[:at], plain[at:]]


@pytest.mark.parametrize("form", FORMS)
def test_written_pages_come_back(form: str) -> None:
    raw, starts = archive(form)
    assert [(c.url, c.payload) for c in captures(io.BytesIO(raw))] == PAGES
    assert {(c.date, c.status, c.mime, c.truncated) for c in captures(io.BytesIO(raw))} == {
        (DATE, 200, "text/html", False)
    }
    assert len(cuts(io.BytesIO(raw), size=(len(raw) - starts[0]) // 4)) in (3, 4, 5)


@pytest.mark.parametrize("form", FORMS)
def test_damage_costs_one_page_and_is_told(form: str) -> None:
    raw, starts = archive(form)
    broken = bytearray(raw)
    broken[starts[5] + 2 : starts[6] - 40] = bytes(starts[6] - 40 - starts[5] - 2)
    found = list(captures(io.BytesIO(bytes(broken))))
    assert [c.url for c in found if isinstance(c, Capture)] == [url for n, (url, _) in enumerate(PAGES) if n != 5]
    damage = [d for d in found if isinstance(d, Damage)]
    assert damage
    assert all(starts[4] <= d.offset < starts[6] for d in damage)
    kept = [
        c
        for start, n in cuts(io.BytesIO(bytes(broken)), size=600)
        for c in captures(io.BytesIO(bytes(broken)), start=start, records=n)
    ]
    assert kept == found


@pytest.mark.parametrize("form", FORMS)
def test_any_damage_is_told_or_harmless(form: str) -> None:
    raw, starts = archive(form)
    chance = random.Random(form)
    for _ in range(150):
        hurt = bytearray(raw)
        at, much = chance.randrange(starts[0], len(hurt)), chance.randrange(1, 900)  # without a dictionary all is lost
        match chance.randrange(4):
            case 0:
                hurt[at] ^= 0xFF
            case 1:
                del hurt[at : at + much]
            case 2:
                hurt[at:at] = chance.randbytes(much)
            case 3:
                del hurt[at:]
        found = list(captures(io.BytesIO(bytes(hurt))))
        whole = {c.url for c in found if isinstance(c, Capture) and not c.truncated and (c.url, c.payload) in PAGES}
        assert len(whole) >= 9 or len(hurt) <= at
        ranges = cuts(io.BytesIO(bytes(hurt)), size=1500)
        assert [c for s, n in ranges for c in captures(io.BytesIO(bytes(hurt)), start=s, records=n)] == found


HEADS: dict[str, Callable[[bytes], bytes]] = {
    "bytes lost": lambda raw: raw[60:],
    "zeros": lambda raw: bytes(4) + raw[4:],
    "junk": lambda raw: b"junk" + raw,
    "much junk": lambda raw: random.Random(1).randbytes(3 << 20) + raw,
    "blank lines": lambda raw: b"\n\n" + raw,
    "mark": lambda raw: b"\xef\xbb\xbf" + raw,
    "another magic": lambda raw: (b"\x28\xb5\x2f\xfd" if raw[:1] == b"\x1f" else b"\x1f\x8b\x08\0") + raw,
}


@pytest.mark.parametrize("form", [form for form in FORMS if form != "dictionary"])
@pytest.mark.parametrize("head", HEADS)
def test_damage_at_the_head_costs_the_first_record(form: str, head: str) -> None:
    """The first record is a request, of ARC the one about the file: every page is there, and the damage is one row."""
    raw = HEADS[head](archive(form)[0])
    found = list(captures(io.BytesIO(raw)))
    assert [(c.url, c.payload) for c in found if isinstance(c, Capture)] == PAGES
    damage = [d for d in found if isinstance(d, Damage)]
    assert found[: len(damage)] == damage  # told where it lies
    assert len(damage) == (head not in ("blank lines", "mark") or (form == "arc" and head == "mark"))
    assert {(d.offset, d.reason) for d in damage} <= {(0, "not_warc"), (0, "bad_compression")}
    ranges = cuts(io.BytesIO(raw), size=(len(raw) - len(HEADS[head](b""))) // 4)
    assert [c for s, n in ranges for c in captures(io.BytesIO(raw), start=s, records=n)] == found


@pytest.mark.parametrize("form", ["gzip", "zstd", "lz4", "arc.gz"])
def test_a_broken_first_record_says_nothing_about_the_others(form: str) -> None:
    """The magic is there, and what it opens is not."""
    raw = archive(form)[0]
    found = list(captures(io.BytesIO(raw[:12] + b"\xff" * 30 + raw[42:])))
    assert [(c.url, c.payload) for c in found if isinstance(c, Capture)] == PAGES
    assert any(isinstance(d, Damage) for d in found)


def test_the_length_of_what_was_lost_is_told() -> None:
    raw = archive("gzip")[0]
    lost = gzip.decompress(raw).index(b"WARC/1.1", 10)
    second = len(member(gzip.decompress(raw)[:lost]))
    [damage, *_] = captures(io.BytesIO(raw[100:]))
    assert damage == Damage(0, "not_warc", f"{second - 100} bytes before the first record cannot be read")


def test_an_arc_file_of_the_second_version_without_its_head() -> None:
    lines = [f"{url} 192.0.2.7 20261121093000 text/html 200 - - 0 a.arc" for url, _ in PAGES]
    blocks = [response(body) for _, body in PAGES]
    parts = [f"{line} {len(b)}\n".encode() + b + b"\n" for line, b in zip(lines, blocks, strict=True)]
    for raw in (b"lost\n" + b"".join(parts), b"lost" + b"".join(map(member, parts))):
        found = list(captures(io.BytesIO(raw)))
        assert [(c.url, c.payload) for c in found if isinstance(c, Capture)] == PAGES


def test_ordinary_files_have_no_beginning() -> None:
    """Nor does one take long to look through: a likely start that is none costs little, and few are opened."""
    lines = b"WARC/ http://a.example/ 192.0.2.7 20261121 text/html\nhttp://a.example/ 192.0.2.7 20261121093000 b c\n"
    archived = io.BytesIO()
    with zipfile.ZipFile(archived, "w") as held:
        held.writestr("archive/a.warc.gz", archive("gzip")[0])
    odd = [gzip.compress(lines) * 9, zstandard.compress(lines) * 9, b"\x1f\x8b\x08\x08ab" * (1 << 19)]
    for raw in (lines * 20_000, lines.replace(b"\n", b" ") * 20_000, archived.getvalue(), *odd):
        begun = time.process_time()
        assert beginning(io.BytesIO(raw)).at == 0
        assert not [c for c in captures(io.BytesIO(raw)) if isinstance(c, Capture)]
        assert time.process_time() - begun < 2 + 2 * len(raw) / (1 << 20)


@pytest.mark.parametrize(
    "raw", [b"", b"\0" * 5000, b"hello\n" * 500, gzip.compress(b"hello\n" * 500, mtime=0), b"\x1f\x8b\x08", b"WARC/1.0"]
)
def test_what_is_no_archive(raw: bytes) -> None:
    assert {d.reason for d in captures(io.BytesIO(raw))} <= {"not_warc", "bad_compression", "truncated"}
    assert cuts(io.BytesIO(raw), size=10) == [(0, None)]


@pytest.mark.parametrize("length", ["-1", "99999999999999999999", "abc", "", "18446744073709551616"])
def test_lying_lengths(length: str) -> None:
    block = response(b"<p>x")
    lying = record("response", "<urn:x>", DATE, "application/http", block, {"WARC-Target-URI": "http://a.example/"})
    lying = lying.replace(b"Content-Length: %d" % len(block), f"Content-Length: {length}".encode())
    raw = member(lying) + archive("gzip")[0]
    found = list(captures(io.BytesIO(raw)))
    assert [(c.url, c.payload) for c in found if isinstance(c, Capture)][-12:] == PAGES


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [100, 900, 50_000, 9_999_999_999])
def test_a_length_that_lies_costs_its_own_page(form: str, length: int) -> None:
    """Too short, into the next record, behind the end of the archive."""
    if form.startswith("arc"):
        plain = [arc_record(url, response(body)) for url, body in PAGES]
        plain[3] = re.sub(rb"html \d+\n", b"html %d\n" % length, plain[3], count=1)
        records = [b"filedesc://a.arc 0.0.0.0 20261121093000 text/plain 0\n", *plain]
        raw = b"".join(member(r) if form == "arc.gz" else r for r in records)
    else:
        plain = [r for url, body in PAGES for r in split(gzip.decompress(fetched(url, body)))]
        laid, pack = packer(form, plain)
        plain[7] = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % length, plain[7], count=1)
        raw = laid + b"".join(pack(r) for r in plain)
    found = list(captures(io.BytesIO(raw)))
    others = [page for n, page in enumerate(PAGES) if n != 3]
    assert [(c.url, c.payload) for c in found if isinstance(c, Capture) and c.url != PAGES[3][0]] == others
    assert any(isinstance(c, Damage) or c.truncated for c in found)
    ranges = cuts(io.BytesIO(raw), size=1500)
    assert [c for s, n in ranges for c in captures(io.BytesIO(raw), start=s, records=n)] == found


def test_a_forest_of_broken_starts_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "STARTS", 50)
    raw = member(b"WARC/nonsense\r\n\r\n") * 500
    assert [d.reason for d in captures(io.BytesIO(raw))][-1] == "gave_up"


def test_errors_of_the_stream_are_raised() -> None:
    class Cut(io.BytesIO):
        def read(self, size: int = -1) -> bytes:
            if self.tell() > 2000:
                raise OSError("the network is gone")
            return super().read(min(size, 1024) if size > 0 else size)

    with pytest.raises(OSError, match="the network is gone"):
        list(captures(Cut(archive("gzip")[0])))


def test_the_same_fetch_gives_the_same_bytes() -> None:
    assert fetched(*PAGES[0]) == fetched(*PAGES[0])
    assert fetched(*PAGES[0]) != fetched(*PAGES[1])
    about = {"software": "tundish", "format": "WARC File Format 1.1"}
    opening = gzip.decompress(warcinfo(about, date=DATE, filename="part-00000.warc.gz"))
    assert warcinfo_id(about, date=DATE, filename="part-00000.warc.gz").encode() in opening
    assert zlib.decompressobj(31).decompress(fetched(*PAGES[0])).startswith(b"WARC/1.1\r\nWARC-Type: request\r\n")


def test_another_reader_reads_and_checks_what_is_written() -> None:
    iterator = pytest.importorskip("warcio.archiveiterator").ArchiveIterator
    raw = warcinfo({"software": "tundish"}, date=DATE, filename="x") + archive("gzip")[0]
    records = iterator(io.BytesIO(raw), check_digests=True)
    kinds, ids, answers = Counter(), set(), []
    for found in records:
        kinds[found.rec_type] += 1
        ids.add(found.rec_headers["WARC-Record-ID"])
        body = found.content_stream().read()
        assert found.digest_checker.passed is not False
        if found.rec_type == "response":
            answers.append((found.rec_headers["WARC-Target-URI"], body))
        if found.rec_type == "request":
            assert found.rec_headers["WARC-Concurrent-To"].startswith("<urn:uuid:")
    assert kinds == {"warcinfo": 1, "request": 12, "response": 12}
    assert len(ids) == 25
    assert answers == PAGES


def test_header_values_hold_no_line_break() -> None:
    with pytest.raises(ValueError, match="line break"):
        pair("http://a.example/\r\nX: y", date=DATE, request=b"", response=b"")


BODY = b"<html>" + random.Random(0).randbytes(20_000).hex().encode()
CODED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY[:999]) + gzip.compress(BODY[999:]) + b"\0\0",
    "deflate": zlib.compress(BODY),
    "br": brotli.compress(BODY),
    "zstd": zstandard.compress(BODY[:5000]) + zstandard.compress(BODY[5000:]),
}


@pytest.mark.parametrize("coding", CODED)
def test_codings(coding: str) -> None:
    head = {"content-encoding": coding.upper()}
    assert undone(CODED[coding], head) == (BODY, False)
    assert undone(BODY, head) == (BODY, False)  # stored decoded, head kept
    if coding != "zstd":  # whose blocks are 128 KiB: nothing comes of a broken one
        start, cut = undone(CODED[coding][:-700], head)
        assert cut
        assert BODY.startswith(start)
        assert len(start) > 15_000
    with pytest.raises(BadCoding, match="cannot be decoded"):
        undone(b"\0\1\2\3" * 50, head)


def test_codings_combine() -> None:
    stored = gzip.compress(gzip.compress(BODY))
    chunked = b"".join(b"%x;q=1\r\n%s\r\n" % (len(p), p) for p in (stored[:700], stored[700:])) + b"0\r\n\r\n"
    head = {"content-encoding": "gzip, gzip", "transfer-encoding": "chunked"}
    assert undone(chunked, head) == (BODY, False)
    assert undone(stored, head) == (BODY, False)  # stored without its chunks
    assert undone(gzip.compress(b""), {"content-encoding": "gzip"}) == (b"", False)
    bare = zlib.compressobj(wbits=-15)
    assert undone(bare.compress(BODY) + bare.flush(), {"content-encoding": "deflate"}) == (BODY, False)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_bombs_stop_at_the_cap(coding: str) -> None:
    pack = {"gzip": gzip.compress, "br": lambda zeros: brotli.compress(zeros, quality=1), "zstd": zstandard.compress}
    body, cut = undone(pack[coding](bytes(8 * CAP)), {"content-encoding": coding})
    assert (len(body), cut) == (CAP, True)


def test_heads_are_read_leniently() -> None:
    found = message(b"HTTP/1.0 302\nLocation: /x\nX-A: 1\n  and 2\nSet-Cookie: a\nset-cookie: b\nno colon\n\nbody")
    assert (found.status, found.payload) == (302, b"body")
    assert found.headers == {"location": "/x", "x-a": "1 and 2", "set-cookie": "a, b"}
    with pytest.raises(ValueError, match="status line"):
        message(b"<html>")
