"""Read: every form of table and text, cut anywhere, gives the same documents."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tundish.cluster.local import Local
from tundish.pipeline.run import run
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
            b"text,n\none,1\ntwo\n",
            r"row 1 of a\.csv cannot be read \(it has 1 cells, and the first line names 2",
        ),
        ("a.csv", b"text\ncaf\xe9\n", r"row 0 of a\.csv cannot be read \('utf-8' codec"),
        ("a.tsv", b"text\tn\none\n", r"row 0 of a\.tsv cannot be read \(it has 1 cells"),
        ("a.csv", b"", r"no document is left|has no 'text'"),
        ("a.jsonl.xz", b"\xfd7zXZ\x00 no", r"row 0 of a\.jsonl\.xz cannot be read"),
        ("a.jsonl.bz2", bz2.compress(b"{}")[:-4], r"row 0 of a\.jsonl\.bz2 cannot be read"),
        ("a.txt.gz", b"no gzip", r"a\.txt\.gz cannot be unpacked"),
        ("a.arrow", b"ARROW1\0\0 no", r"row 0 of a\.arrow cannot be read"),
        ("a.arrow", b"", r"row 0 of a\.arrow cannot be read"),
        ("a.json", b'[{"text": "one"}]', r"row 0 of a\.json cannot be read \(it is of the type list"),
        ("a.warc", b"", r"matches no .*\.parquet.* file; check the path"),
    ],
)
def test_bad_files_are_told_by_name_and_row(tmp_path: Path, name: str, body: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(ValueError, match=sentence):
        run(Read((str(tmp_path / name),), piece=4), Local(), str(tmp_path / "root"))


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
