"""Read: every form of table and text, cut anywhere, gives the same documents."""

import bz2
import csv
import gzip
import io
import json
import lzma
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.pipeline.report import report
from tundish.pipeline.run import run
from tundish.pipeline.why import why
from tundish.stages import ingest_streams, read_forms
from tundish.stages.read import Names, Read, records
from tundish.stages.read_forms import Piece, cut, rows

ODD = 'A line\u2028of \u0085 odd, "quoted"\ttext number'
ROWS = [
    {"text": f"{ODD} {n} stands here.", "url": f"http://heron.example/{n}", "date": "2026-11-21"} for n in range(200)
]


def jsonl(made: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=n % 2 == 0).encode() + b"\n" for n, row in enumerate(made))


def tsv(made: list[dict[str, Any]]) -> bytes:
    lines = ["\t".join(made[0])] + ["\t".join(str(v).replace("\t", " ") for v in row.values()) for row in made]
    return "\n".join(lines).encode()


def commas(made: list[dict[str, Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(made[0]))
    writer.writeheader()
    writer.writerows(made)
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def parquet(made: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(made), out, row_group_size=9)
    return out.getvalue()


def arrow(made: list[dict[str, Any]], new: Callable[..., Any] = pa.ipc.new_file) -> bytes:
    out = io.BytesIO()
    table = pa.Table.from_pylist(made)
    with new(out, table.schema) as sink:
        sink.write_table(table, max_chunksize=9)
    return out.getvalue()


def frames(body: bytes) -> bytes:
    """Frames of ten lines, a frame that ends inside of a line, and an empty one."""
    lines = [line if line.endswith(b"\n") else line + b"\n" for line in body.split(b"\n") if line]
    parts = [b"".join(lines[at : at + 10]) for at in range(0, len(lines), 10)]
    parts[3:5] = [parts[3][:-5], b"", parts[3][-5:] + parts[4]]
    return b"".join(zstandard.compress(part) for part in parts)


FORMS: dict[str, bytes] = {
    "a.jsonl": jsonl(ROWS),
    "a.ndjson.gz": gzip.compress(jsonl(ROWS)),
    "a.json.bz2": bz2.compress(jsonl(ROWS)),
    "a.jsonl.xz": lzma.compress(jsonl(ROWS)),
    "a.jsonl.zst": frames(jsonl(ROWS)),
    "a.csv": commas(ROWS),
    "a.csv.gz": gzip.compress(commas(ROWS)),
    "a.tsv": tsv(ROWS),
    "a.tsv.zst": frames(tsv(ROWS)),
    "a.parquet": parquet(ROWS),
    "a.arrow": arrow(ROWS),
    "a.feather": arrow(ROWS, pa.ipc.new_stream),
}
CUT = {"a.jsonl", "a.jsonl.zst", "a.tsv", "a.tsv.zst", "a.parquet", "a.arrow"}


@pytest.mark.parametrize("name", FORMS)
def test_each_form_cut_anywhere_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FORMS[name])
    wanted = [row | {"text": row["text"].replace("\t", " ")} for row in ROWS] if ".tsv" in name else ROWS
    assert list(records(str(path))) == wanted
    most = 0
    for size in (1, 100, 777, 5_000):
        pieces = cut(str(path), size)
        most = max(most, len(pieces))
        assert [row for piece in pieces for row in rows(str(path), piece)] == wanted
        assert [piece.row for piece in pieces] == sorted(piece.row for piece in pieces)
    assert (most > 5) == (name in CUT)


@pytest.mark.parametrize("name", sorted(CUT))
def test_documents_do_not_depend_on_the_cut(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMS[name])
    tables = []
    for piece in (64 << 20, 300):
        made = run(Read((str(tmp_path / name),), piece=piece), Local(), str(tmp_path / f"root{piece}")).dataset
        tables.append(made.table().combine_chunks())
        assert (len(made.shards) > 1) == (piece == 300)
    assert tables[0].equals(tables[1])
    assert tables[0]["date"].to_pylist() == ["2026-11-21"] * 200
    assert tables[0]["source"].to_pylist()[150] == f"{name}:150"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=30), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_lines_are_cut_between_rows(tmp_path_factory: pytest.TempPathFactory, texts: list[str], size: int) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    blank = [b"", b"\r\n", b"\n", b" \n"]
    body = [json.dumps({"text": t}, ensure_ascii=False).encode() + b"\n" + blank[n % 4] for n, t in enumerate(texts)]
    path.write_bytes(b"".join(body))
    pieces = cut(str(path), size)
    found = [(at, row["text"]) for piece in pieces for at, row in enumerate(rows(str(path), piece), piece.row)]
    assert found == list(enumerate(texts))


def test_a_bomb_is_cut_in_little_memory(tmp_path: Path) -> None:
    """A frame of 50 MB in a few kilobytes: what is not valid is told, and nothing is read at once."""
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(b" " * (50 << 20)) + zstandard.compress(jsonl(ROWS[:3])))
    pieces = cut(str(tmp_path / "a.jsonl.zst"), 10)
    assert len([row for piece in pieces for row in rows(str(tmp_path / "a.jsonl.zst"), piece)]) == 3


def test_columns_are_named_by_who_reads(tmp_path: Path) -> None:
    made = [
        {
            "content": "One heron stands here.",
            "meta": {"link": "http://heron.example/1", "when": 1_700_000_000, "head": "Herons"},
        },
        {"content": "Two herons stand here.", "meta": {"link": None, "when": None, "head": None}},
    ]
    (tmp_path / "a.jsonl").write_bytes(jsonl(made))
    pq.write_table(pa.Table.from_pylist(made), tmp_path / "b.parquet")
    asked = dict(text="content", url="meta.link", date="meta.when", title="meta.head", id="meta.none")
    for name in ("a.jsonl", "b.parquet"):
        table = run(Read((str(tmp_path / name),), **asked), Local(), str(tmp_path / "root")).dataset.table()
        assert table["url"].to_pylist() == ["http://heron.example/1", f"{name}:1"]
        assert table["date"].to_pylist() == ["2023-11-14T22:13:20Z", None]
        assert table["title"].to_pylist() == ["Herons", None]


def test_only_wanted_columns_of_parquet_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "embedding": [[0.5] * 9], "url": ["u"]}), tmp_path / "a.parquet")
    assert list(rows(str(tmp_path / "a.parquet"), Piece(), ["text", *Names().columns])) == [{"text": "a", "url": "u"}]


def test_texts_and_cells(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Ein Reiher am Flußufer.".encode("cp1252"))
    (tmp_path / "b.md.gz").write_bytes(gzip.compress(b"# A heron"))
    (tmp_path / "c.csv").write_bytes(b'text,n\n"two\nlines, one cell",1\n\n"' + b"x" * 200_000 + b'",2\n')
    (tmp_path / "d.tsv").write_bytes('text\tn\n"Quotes" are \u2028 text.\t1\r\n'.encode())
    found = [row["text"] for name in ("a.txt", "b.md.gz", "c.csv", "d.tsv") for row in records(str(tmp_path / name))]
    assert found == [
        "Ein Reiher am Flußufer.",
        "# A heron",
        "two\nlines, one cell",
        "x" * 200_000,
        '"Quotes" are \u2028 text.',
    ]


@pytest.mark.parametrize(
    ("name", "body", "sentence"),
    [
        ("a.csv", b'text\n"open', r"row 0 of a\.csv cannot be read \(unexpected end of data"),
        (
            "a.csv",
            b"text,n\none\ntwo\n",
            r"row 0 of a\.csv cannot be read \(it has 1 cells, and the first line names 2",
        ),
        ("a.csv", b"text;n\none;1\n", r"a\.csv has no 'text' \(it has text;n\); name the right key in Read\.text"),
        ("a.tsv", b"text\tn\none\n", r"row 0 of a\.tsv cannot be read \(it has 1 cells"),
        ("a.csv", b"", r"no document is left"),
        ("a.jsonl", b'{"text": null}\n', r"no document is left after Read \(top reasons: no_text 1\)"),
        ("a.jsonl.xz", b"\xfd7zXZ\x00 no", r"row 0 of a\.jsonl\.xz cannot be read"),
        ("a.jsonl.bz2", bz2.compress(b"{}")[:-4], r"row 0 of a\.jsonl\.bz2 cannot be read"),
        ("a.jsonl.zst", zstandard.compress(jsonl(ROWS))[:9], r"row 0 of a\.jsonl\.zst cannot be read"),
        ("a.txt.gz", b"no gzip", r"no document is left after Read \(top reasons: bad_compression 1\)"),
        ("a.arrow", b"ARROW1\0\0 no", r"row 0 of a\.arrow cannot be read"),
        ("a.arrow", b"", r"row 0 of a\.arrow cannot be read"),
        ("a.parquet", parquet(ROWS)[:-9], r"row 0 of a\.parquet cannot be read"),
        ("a.json", b'[{"text": "one"}]', r"row 0 of a\.json cannot be read \(it is of the type list"),
        (
            "a.jsonl",
            b'{"text": "one"}\n' * 400 + b"no\n" * 600,
            r"row 400 of a.* and so are 599 more of the first 1000;",
        ),
        ("a.warc", b"", r"matches no .*\.parquet.* file; check the path"),
    ],
)
def test_files_of_which_nothing_comes_are_told_by_name(tmp_path: Path, name: str, body: bytes, sentence: str) -> None:
    """And those broken for the most part; the verdict is the same for every cut."""
    (tmp_path / name).write_bytes(body)
    for piece in (4, 700, 64 << 20):
        with pytest.raises(ValueError, match=sentence):
            run(Read((str(tmp_path / name),), piece=piece), Local(), str(tmp_path / "root"))


# What is broken costs itself

PLAIN = [{"text": f"A heron of number {n} stands here.", "url": f"http://heron.example/{n}"} for n in range(200)]


def read(tmp_path: Path, name: str, body: bytes, **asked: Any) -> tuple[list[str], list[tuple[str, str]]]:
    """Texts, and (row, reason) of what is none; the same for every cut, and counted."""
    (tmp_path / name).write_bytes(body)
    found = []
    for piece in (64 << 20, 2000, 50):
        stage = Read((str(tmp_path / name),), piece=piece, **asked)
        made = run(stage, Local(), str(tmp_path / f"root{piece}")).dataset
        dropped = opened(made.uri + "/dropped").table()
        assert set(dropped["origin"].to_pylist()) | set(dropped["stage"].to_pylist()) <= {"read"}
        told = list(zip(dropped["url"].to_pylist(), dropped["reason"].to_pylist(), strict=True))
        lost = sum(int(value or 1) for value in dropped["value"].to_pylist())
        assert sum(n for key, n in made.counts.items() if key.startswith("dropped:")) == lost
        sources = made.table()["source"].to_pylist()
        found.append((made.table()["text"].to_pylist(), told, sources, dropped["detail"].to_pylist()))
    assert found[0] == found[1] == found[2]
    return found[0][:2]


def test_a_line_that_is_no_row_costs_itself(tmp_path: Path) -> None:
    made = jsonl(PLAIN).split(b"\n")
    bad = [
        b"{broken",
        b'{"text": null}',
        b'{"text": " "}',
        b'{"text": "\xff"}',
        b'["one"]',
        b'{"other": 1}',
        b'{"text": 7}',
    ]
    bad += [b"[" * 100_000, b'{"text": "x", "n": ' + b"1" * 5000 + b"}", "\u2028".encode()]
    for n, line in enumerate(bad):
        made[20 * n + 5 : 20 * n + 5] = [line, b"", b" \r"]
    reasons = ["bad_row", "no_text", "no_text", "undecodable", "bad_row", "no_text", "no_text", *["bad_row"] * 3]
    for name, body in (("a.jsonl", b"\xef\xbb\xbf" + b"\n".join(made)), ("a.jsonl.zst", frames(b"\n".join(made)))):
        texts, dropped = read(tmp_path, name, body)
        assert texts == [row["text"] for row in PLAIN]
        assert [reason for _, reason in dropped] == reasons
        assert [url for url, _ in dropped] == [f"{name}:{18 * n + 5}" for n in range(10)]


@pytest.mark.parametrize("pack", [".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_file_gives_what_is_before_damage_and_behind_it(tmp_path: Path, pack: str) -> None:
    packed = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}[pack]
    parts = [packed(jsonl(PLAIN[at : at + 20])) for at in range(0, 200, 20)]
    texts = [row["text"] for row in PLAIN]
    whole = packed(jsonl(PLAIN) * 150)
    found, dropped = read(tmp_path, f"a.jsonl{pack}", whole[: -len(whole) // 150])
    assert found == (texts * 150)[: len(found)]
    assert len(found) > 9000
    assert dropped == [(f"a.jsonl{pack}:{len(found)}", "truncated")]
    for hurt in (
        b"junk" * 10,
        parts[4][:9] + b"\xff" * 40 + parts[4][49:],
        parts[4][: len(parts[4]) // 2],
        parts[4][40:],
    ):
        found, dropped = read(tmp_path, f"b.jsonl{pack}", b"".join([*parts[:4], hurt, *parts[5:]]))
        assert [*texts[:80], *texts[100:]] == [text for text in found if text in (texts[:80] + texts[100:])]
        assert {reason for _, reason in dropped} <= {"bad_compression", "bad_row", "truncated"}
        assert 1 <= len(dropped) <= 2


@pytest.mark.parametrize("pack", [".gz", ".xz", ".zst"])
def test_rows_before_damage_in_the_same_block_are_kept(tmp_path: Path, pack: str) -> None:
    """Little is unpacked at once where it breaks: a reader that fails forgets what it had unpacked."""
    texts = [random.Random(n).randbytes(600).hex() for n in range(200)]
    packed = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}[pack]
    whole = bytearray(packed(jsonl([{"text": text} for text in texts])))
    at = len(whole) * 8 // 10
    whole[at : at + 60] = b"\xff" * 60
    (tmp_path / f"a.jsonl{pack}").write_bytes(whole)
    found = [row["text"] for row in records(str(tmp_path / f"a.jsonl{pack}")) if isinstance(row, dict)]
    least = 100 if pack == ".zst" else 150  # whose blocks are 128 KiB: nothing comes of a broken one
    assert found[:least] == texts[:least]


def test_a_row_of_cells_costs_itself(tmp_path: Path) -> None:
    rows_ = [f'"a ""q"" and\nnewline, {n}",{n}' for n in range(40)]
    rows_[3:3] = ["short", 'too,"many",cells', 'stray "quote" is text,1', '"x"y,2', '"never closed,3', "fine,4"]
    texts, dropped = read(tmp_path, "a.csv", ("text,n\n" + "\n".join(rows_)).encode())
    assert [text for text in texts if "newline" not in text] == ['stray "quote" is text', "fine"]
    assert len(texts) == 42
    assert [reason for _, reason in dropped] == ["bad_row"] * 4
    texts, dropped = read(
        tmp_path, "b.csv", ("text,n\n" + "\n".join(rows_[:9]) + '\n"open to the end,1\nlast,2\n').encode()
    )
    assert texts[-1] == "last"
    lines_ = [f"text {n}\t{n}" for n in range(50)]
    texts, dropped = read(
        tmp_path, "a.tsv", "\n".join(["text\tn", *lines_[:9], "one", "a\tb\tc", *lines_[9:]]).encode()
    )
    assert (len(texts), dropped) == (50, [("a.tsv:9", "bad_row"), ("a.tsv:10", "bad_row")])


@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_cells_in_other_encodings_are_decoded(tmp_path: Path, form: str) -> None:
    mark = {"csv": ",", "tsv": "\t"}[form]
    made = ["Der Reiher steht am Flußufer.", "Le héron est là, dit-on à l’été.".replace(",", ""), "Чапля стоит у реки."]
    cases = {"utf-8-sig": made, "utf-16": made, "cp1252": made[:2], "koi8-r": made[2:]}
    for codec, texts in cases.items():
        body = f"text{mark}n\n" + "".join(f"{text}{mark}{n}\n" for n, text in enumerate(texts * 30))
        assert read(tmp_path, f"{codec}.{form}", body.encode(codec)) == (texts * 30, []), codec
    body = (
        f"text{mark}n\n".encode()
        + made[2].encode()
        + mark.encode()
        + b"1\n"
        + made[0].encode("cp1252")
        + mark.encode()
        + b"2"
    )
    assert read(tmp_path, f"mixed.{form}", body)[0] == [made[2], made[0]]


def test_a_broken_row_group_is_passed_over(tmp_path: Path) -> None:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(PLAIN), out, row_group_size=20, compression="zstd")
    column = pq.ParquetFile(out).metadata.row_group(3).column(0)
    body = bytearray(out.getvalue())
    body[column.dictionary_page_offset : column.dictionary_page_offset + 60] = b"\xff" * 60
    texts, dropped = read(tmp_path, "a.parquet", bytes(body))
    assert texts == [row["text"] for n, row in enumerate(PLAIN) if n // 20 != 3]
    assert dropped == [("a.parquet:60", "bad_row")]
    made = opened(str(next((tmp_path / "root50").glob("read-*"))))
    assert made.counts["dropped:bad_row"] == 20


def test_a_value_that_is_no_text_costs_its_row(tmp_path: Path) -> None:
    values = [b"A heron.", b"caf\xe9", None, b"", b"Two herons."] + [b"Three herons."] * 20
    array = pa.Array.from_buffers(pa.string(), 25, pa.array(values, pa.binary()).buffers())
    out, streamed = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"text": array}), out)
    with pa.ipc.new_file(streamed, pa.schema([("text", pa.string())])) as sink:
        sink.write_batch(pa.record_batch({"text": array}))
    for name, body in (("a.parquet", out.getvalue()), ("a.arrow", streamed.getvalue())):
        texts, dropped = read(tmp_path, name, body)
        assert texts == ["A heron.", "Two herons."] + ["Three herons."] * 20
        assert dropped == [(f"{name}:1", "undecodable"), (f"{name}:2", "no_text"), (f"{name}:3", "no_text")]


def test_broken_batches_are_passed_over(tmp_path: Path) -> None:
    """Offsets that lead nowhere are addresses in memory: they are looked at before they are followed."""
    texts = [row["text"] for row in PLAIN]
    body = bytearray(arrow(PLAIN))
    offsets = np.cumsum([0, *(len(row["text"]) for row in PLAIN[45:54])], dtype=np.int32).tobytes()  # of batch 5
    at = next(
        at
        for at in range(body.index(texts[45].encode()) - len(offsets) - 64, len(body))
        if body[at:].startswith(offsets)
    )
    body[at + 8 : at + 12] = b"\xff\xff\xff\x7f"
    found, dropped = read(tmp_path, "a.arrow", bytes(body))
    assert found == [*texts[:46], *texts[48:]]
    assert dropped == [("a.arrow:46", "bad_row"), ("a.arrow:47", "bad_row")]
    for name, whole in (("b.feather", arrow(PLAIN, pa.ipc.new_stream)), ("b.arrow", arrow(PLAIN))):
        found, dropped = read(tmp_path, name, whole[: len(whole) // 2])
        assert found == texts[: len(found)]
        assert len(found) > 50
        assert dropped == [(f"{name}:{len(found)}", "truncated")]


def test_of_plain_texts_a_broken_one_costs_itself(tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / f"{n}.txt.gz").write_bytes(gzip.compress(f"Heron number {n}.".encode())[: 12 if n == 3 else None])
    (tmp_path / "5.txt").write_bytes(b" \n")
    made = run(Read((str(tmp_path / "*.txt*"),)), Local(), str(tmp_path / "root")).dataset
    dropped = opened(made.uri + "/dropped").table().to_pylist()
    assert made.rows == 4
    assert [(row["url"], row["reason"]) for row in dropped] == [("3.txt.gz:0", "truncated"), ("5.txt:0", "no_text")]


def test_no_text_is_in_what_was_dropped_and_why_knows_it(tmp_path: Path) -> None:
    body = jsonl(PLAIN[:5]) + b'{"text": "SECRET", broken\n{"text": ["SECRET"], "url": "http://heron.example/odd"}\n'
    (tmp_path / "a.jsonl").write_bytes(body)
    made = run(Read((str(tmp_path / "a.jsonl"),)), Local(), str(tmp_path / "root")).dataset
    assert "SECRET" not in str(opened(made.uri + "/dropped").table().to_pylist())
    for asked, reason in (("a.jsonl:5", "bad_row"), ("http://heron.example/odd", "no_text")):
        [event] = why(str(tmp_path / "root"), asked)
        assert (event.stage, event.what) == ("Read", f"dropped: {reason}")
        assert f"a.jsonl:{5 + (reason == 'no_text')}" in event.facts["detail"]
    assert "no_text" in Path(report(str(tmp_path / "root"))).read_text()


def test_errors_of_a_network_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is lost ends the run: what lies behind it is not broken."""

    def fetched(uri: str, start: int, size: int) -> bytes:
        body = Path(uri).read_bytes()
        if size > 8 and start + size > len(body) // 2 and start < len(body) - 4096:
            raise ValueError("the network is gone")
        return body[start : start + size]

    monkeypatch.setattr(ingest_streams, "range_of", fetched)
    monkeypatch.setattr(ingest_streams, "BLOCK", 2048)
    monkeypatch.setattr(ingest_streams, "LITTLE", 1024)
    monkeypatch.setattr(read_forms, "opened", ingest_streams.Patient)
    bodies = {"a.jsonl": jsonl(ROWS), "a.csv": commas(ROWS), "a.tsv": tsv(ROWS), "a.parquet": parquet(ROWS * 20)}
    bodies |= {"a.arrow": arrow(ROWS), "a.feather": arrow(ROWS, pa.ipc.new_stream), "a.txt": jsonl(ROWS)}
    bodies |= {"a.jsonl.gz": gzip.compress(random.Random(0).randbytes(20_000).hex().encode())}
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
        with pytest.raises(ValueError, match="the network is gone"):
            list(rows(str(tmp_path / name), Piece()))


# Data sets of the hub


def shard(path: Path, *texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    body = [{"text": text} for text in texts]
    if path.suffix == ".arrow":
        path.write_bytes(arrow(body, pa.ipc.new_stream))
    else:
        pq.write_table(pa.Table.from_pylist(body), path)


def texts(tmp_path: Path, folder: Path, **asked: Any) -> list[str]:
    made = run(Read((str(folder),), **asked), Local(), str(tmp_path / "root")).dataset
    return sorted(made.table()["text"].to_pylist())


README = """---
license: cc0-1.0
configs:
- config_name: en
  data_files:
  - split: train
    path: en/train-*
  - split: test
    path: [en/test.parquet]
- config_name: de
  data_files: "de/*.parquet"
---
# Herons
"""


def test_a_repository_with_configurations(tmp_path: Path) -> None:
    folder = tmp_path / "herons"
    shard(folder / "en" / "train-00000-of-00002.parquet", "one")
    shard(folder / "en" / "train-00001-of-00002.parquet", "two")
    shard(folder / "en" / "test.parquet", "held out")
    shard(folder / "de" / "a.parquet", "drei")
    (folder / "README.md").write_text(README)
    assert texts(tmp_path, folder, subset="en", split="train") == ["one", "two"]
    assert texts(tmp_path, folder, subset="en", split="all") == ["held out", "one", "two"]
    assert texts(tmp_path, folder, subset="de") == ["drei"]
    for asked, sentence in (
        ({}, r"has several configurations; choose with Read\.subset \(there are de, en\)"),
        ({"subset": "fr"}, r"has no configuration 'fr'; choose with Read\.subset"),
        ({"subset": "en"}, r"has several splits; choose with Read\.split \(there are test, train, or all\)"),
        ({"subset": "en", "split": "dev"}, r"has no split 'dev'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            texts(tmp_path, folder, **asked)


def test_a_repository_without_configurations(tmp_path: Path) -> None:
    folder = tmp_path / "herons"
    shard(folder / "data" / "train-00000-of-00001.parquet", "one")
    shard(folder / "data" / "validation-00000-of-00001.parquet", "two")
    (folder / "dataset_infos.json").write_text("{}")
    (folder / "README.md").write_text("# Herons\n")
    (folder / "data" / "README.md").write_text("# Herons\n")
    assert texts(tmp_path, folder, split="validation") == ["two"]
    assert texts(tmp_path, folder / "data") == ["one", "two"]
    assert texts(tmp_path, folder / "data" / "README.md") == ["# Herons"]


def test_saved_data_sets(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    for split, text in (("train", "one"), ("test", "two")):
        shard(folder / split / "data-00000-of-00001.arrow", text)
        shard(folder / split / "cache-0123.arrow", "left over")
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
        (folder / split / "state.json").write_text(json.dumps(state))
        (folder / split / "dataset_info.json").write_text("{}")
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert texts(tmp_path, folder, split="train") == ["one"]
    assert texts(tmp_path, folder, split="all") == ["one", "two"]
    assert texts(tmp_path, folder / "test") == ["two"]
    with pytest.raises(ValueError, match="has several splits"):
        texts(tmp_path, folder)


@pytest.mark.parametrize(
    ("name", "body", "sentence"),
    [
        ("state.json", "{", r"state\.json is not JSON"),
        ("state.json", "[]", r"state\.json holds no object"),
        ("state.json", '{"_data_files": [{"filename": "../a.arrow"}]}', r"lists no files of its folder"),
        ("dataset_dict.json", '{"splits": []}', r"has no split 'train'|has several splits"),
        ("README.md", "---\nconfigs:\n- data_files: ../*\n---\n", r"names '\.\./\*', which lies outside"),
        ("README.md", "---\nconfigs: [\n---\n", r"matches no .* file|no document"),
    ],
)
def test_broken_data_sets(tmp_path: Path, name: str, body: str, sentence: str) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / name).write_text(body)
    if name == "README.md" and "[" in body:
        (folder / name).unlink()
    with pytest.raises(ValueError, match=sentence):
        texts(tmp_path, folder)


def test_dates_are_spelt_in_utc(tmp_path: Path) -> None:
    times = pa.array([datetime(2026, 11, 21, 9, 30, tzinfo=UTC)], pa.timestamp("us", "Europe/Vienna"))
    pq.write_table(pa.table({"text": ["A heron."], "date": times}), tmp_path / "a.parquet")
    table = run(Read((str(tmp_path / "a.parquet"),)), Local(), str(tmp_path / "root")).dataset.table()
    assert table["date"].to_pylist() == ["2026-11-21T09:30:00Z"]
