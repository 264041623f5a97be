"""What a user gives and nobody can read: one sentence that names it, and exit code 2."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tundish.cluster import digests, store
from tundish.cluster.digests import digest_once
from tundish.cluster.local import Local
from tundish.operators.text.signals import signals
from tundish.pipeline import cli, cli_options
from tundish.pipeline.recipe import changed, load
from tundish.pipeline.run import run
from tundish.stages.judge import Judge
from tundish.stages.read import Files, Read, records

NOBODY = "https://127.0.0.1:1/a.warc.gz"  # nothing listens at port 1
GOOD = b'{"text": "one"}\n'


def exit_of(words: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        cli.call(words)
    return left.value.code, capfd.readouterr().err


# Places


def test_a_file_where_a_folder_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    inside = str(tmp_path / "file" / "a.json")
    assert not store.exists(inside)
    assert store.size(inside) is None
    for call in (store.read, store.read_json, store.opened, store.digest):
        with pytest.raises(ValueError, match=r"cannot read the URI '.*/a\.json' \(Not a directory\); check"):
            call(inside)
    with pytest.raises(ValueError, match=r"cannot read the URI '.*/file' \(Not a directory\); check"):
        store.listing(str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot write the URI '.*/a\.json' \(.+\); check"):
        store.write_json(inside, {})
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_is_not_there_is_told_apart(tmp_path: Path) -> None:
    assert store.read_json(str(tmp_path / "a.json")) is None
    assert store.listing(str(tmp_path / "a")) == store.matching(str(tmp_path / "a")) == []
    with pytest.raises(ValueError, match="there is no file"):
        store.read(str(tmp_path / "a"))


def test_an_error_of_the_block_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError), store.written(str(tmp_path / "a")):
        raise NotADirectoryError("mine")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_server_that_is_not_there() -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(ValueError, match=rf"cannot read the URI '{NOBODY}' \(Connection refused\); check"):
        store.matching(NOBODY)


class Denied(Exception):
    """An error as clients of stores have them: of no built-in kind."""


@pytest.mark.parametrize(
    "error", [Denied("no such bucket"), OSError("no such bucket"), pa.ArrowInvalid("no such bucket")]
)
def test_clients_errors_are_told(error: Exception) -> None:
    with pytest.raises(ValueError, match=r"cannot read the URI 's3://a/b' \(no such bucket\); check"):  # noqa: SIM117
        with store.telling("s3://a/b"):
            raise error


def test_a_mistake_of_ours_is_not_the_users() -> None:
    with pytest.raises(TypeError), store.telling("s3://a/b"):
        raise TypeError("ours")


@pytest.mark.parametrize("wish", ["lots", "10", "-5%", "%", "5 apples"])
def test_what_must_stay_free(wish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNDISH_MIN_FREE", wish)
    with pytest.raises(ValueError, match=f"TUNDISH_MIN_FREE is '{wish}'; make it a share such as 10%"):
        store.least_free(1000)


# Content


@pytest.mark.parametrize(
    ("name", "body", "sentence"),
    [
        ("a.jsonl", GOOD + b"{oops}\n" * 2, r"row 1 of a\.jsonl cannot be read \(Expecting property name.*1 more of"),
        ("a.jsonl", b"[" * 100_000, r"row 0 of a\.jsonl cannot be read \(maximum recursion"),
        ("a.jsonl.gz", GOOD, r"row 0 of a\.jsonl\.gz cannot be read \(Not a gzipped file"),
        ("a.jsonl.zst", GOOD, r"row 0 of a\.jsonl\.zst cannot be read \(.+\); mend the file, or leave it out"),
        ("a.parquet", GOOD, r"row 0 of a\.parquet cannot be read \(.+\); mend the file, or leave it out"),
        (
            "a.jsonl",
            b'{"words": "one"}\n',
            r"a\.jsonl has no 'text' \(it has words\); name the right key in Read\.text",
        ),
    ],
)
def test_bad_content_is_told_by_file_and_row(tmp_path: Path, name: str, body: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(ValueError, match=sentence):
        list(Files(((str(tmp_path / name), ""),), "text", None).batches("part-00000", 10))


def test_a_parquet_file_with_broken_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"text {n}" for n in range(5000)]})
    pq.write_table(table, path, use_dictionary=False, row_group_size=1000)
    body = bytearray(path.read_bytes())
    body[4:200] = bytes(196)
    path.write_bytes(body)
    broken, *others = records(str(path))
    assert (broken.reason, broken.rows) == ("bad_row", 1000)
    assert others == table.to_pylist()[1000:]


def test_good_content_is_read_as_before(tmp_path: Path) -> None:
    lines = '{"text": "a\u2028b\u0085"}\n\n{"text": "c"}\r\n{"text": "d"}'.encode()
    bodies = {"a.jsonl": lines, "a.jsonl.gz": gzip.compress(lines)}
    bodies["a.jsonl.zst"] = zstandard.compress(lines[:9]) + zstandard.compress(lines[9:])  # two frames
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
        assert [row["text"] for row in records(str(tmp_path / name))] == ["a\u2028b\u0085", "c", "d"], name


def test_titles_and_lone_surrogates(tmp_path: Path) -> None:
    rows = ['{"text": "x", "title": 1984}', '{"text": "x", "title": ["Dune"]}', r'{"text": "a\ud800b", "id": "\udfff"}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    [table] = Files(((str(tmp_path / "a.jsonl"), ""),), "text", None).batches("part-00000", 10)
    assert table["title"].to_pylist() == ["1984", None, None]
    assert table["text"].to_pylist() == ["x", "x", "a\ufffdb"]
    assert table["key"].to_pylist() == ["a.jsonl:0", "a.jsonl:1", "\ufffd"]


# Digests


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNDISH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "digests.json"


def test_many_digests_are_few_writes(tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrote, write = [], store.write_json
    monkeypatch.setattr(store, "write_json", lambda uri, value: (wrote.append(len(value)), write(uri, value)))
    monkeypatch.setattr(digests, "PAUSE", 60.0)
    for n in range(200):
        (tmp_path / f"{n}.txt").write_text(str(n))
        assert digest_once(str(tmp_path / f"{n}.txt")) == hashlib.sha256(str(n).encode()).hexdigest()
    assert wrote == [1]
    digests._memory(memory).write()
    digests._memory(memory).write()
    assert wrote == [1, 200]
    assert len(json.loads(memory.read_text())) == 200


def test_a_digest_is_remembered_and_a_change_is_seen(tmp_path: Path, memory: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    first = digest_once(str(path))
    stamp = os.stat(path).st_mtime_ns
    path.write_text("b")
    os.utime(path, ns=(stamp, stamp))
    assert digest_once(str(path)) == first  # the same path, size and time: not hashed again
    path.write_text("longer")
    assert digest_once(str(path)) == hashlib.sha256(b"longer").hexdigest()


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
def test_a_broken_memory_costs_only_time(tmp_path: Path, memory: Path, body: bytes) -> None:
    memory.parent.mkdir()
    memory.write_bytes(body)
    (tmp_path / "a.txt").write_text("a")
    assert digest_once(str(tmp_path / "a.txt")) == hashlib.sha256(b"a").hexdigest()
    assert len(json.loads(memory.read_text())) == 1


def test_a_memory_that_cannot_be_written_costs_only_time(tmp_path: Path, memory: Path) -> None:
    memory.parent.write_text("a file where the folder would be")
    (tmp_path / "a.txt").write_text("a")
    assert digest_once(str(tmp_path / "a.txt")) == hashlib.sha256(b"a").hexdigest()


def test_processes_side_by_side(tmp_path: Path, memory: Path) -> None:
    """Each ends with all it hashed in a whole file; one after the other they lose nothing."""
    code = "import sys; from tundish.cluster.digests import digest_once\nfor p in sys.argv[1:]: digest_once(p)"
    names = [str(tmp_path / f"{n}.txt") for n in range(40)]
    for name in names:
        Path(name).write_text(name)
    halves = [subprocess.Popen([sys.executable, "-c", code, *names[k:30:2]]) for k in (0, 1)]
    assert [p.wait() for p in halves] == [0, 0]
    held = json.loads(memory.read_text())
    subprocess.run([sys.executable, "-c", code, *names[30:]], check=True)
    now = json.loads(memory.read_text())
    assert len(held) >= 15
    assert held.items() < now.items()
    assert len(now) == len(held) + 10


# The command line


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "a.txt").write_text("a text")
    (tmp_path / "recipe.yaml").write_text(f"a: {{Read: {{files: [{tmp_path}/a.txt]}}}}\n")
    return str(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("sample", ["0", "-3"])
def test_a_sample_of_nothing(recipe: str, sample: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, said = exit_of(["plan", recipe, "--sample", sample], capfd)
    assert code == 2
    assert f"--sample {sample} takes nothing; give 1 or more" in said


@pytest.mark.parametrize("wire", ["[1]", "{oops", "7", '{"heron.example:80": 8080}'])
def test_a_wire_that_is_no_table(
    recipe: str, wire: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUNDISH_WIRE", wire)
    code, said = exit_of(["plan", recipe], capfd)
    assert code == 2
    assert f"TUNDISH_WIRE is {wire!r}; make it a JSON object" in said


def test_wire_tables() -> None:
    assert cli_options.wire_of("") == cli_options.wire_of(" ") == cli_options.wire_of("{}") == {}
    assert cli_options.wire_of('{"heron.example:80": "127.0.0.1:1"}') == {"heron.example:80": "127.0.0.1:1"}


def test_an_error_holds_no_pictures(recipe: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, said = exit_of(["plan", recipe, "--wire", "a:b:c"], capfd)
    assert code == 2
    assert "--wire 'a:b:c' is not understood" in said


def test_a_root_that_is_a_file(recipe: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = str(tmp_path / "a.txt")
    code, said = exit_of(["run", recipe, "--root", root, "--on", "local"], capfd)
    assert code == 2
    assert f"the URI '{root}/" in said
    assert "Not a directory" in said


# A day without quotes


def test_a_day_needs_no_quotes(tmp_path: Path) -> None:
    agent = "tundish-test/1 (+https://heron.example/bot)"
    text = f"a: {{Crawl: {{seeds: ['http://heron.example/'], agent: '{agent}', as_of: %s}}}}"
    (tmp_path / "bare.yaml").write_text(text % "2026-11-21")
    (tmp_path / "quoted.yaml").write_text(text % "'2026-11-21'")
    bare, quoted = load(str(tmp_path / "bare.yaml")), load(str(tmp_path / "quoted.yaml"))
    assert bare.as_of == "2026-11-21"
    assert bare.fingerprint == quoted.fingerprint
    assert changed(bare, ["Crawl.as_of=2026-11-22"]).as_of == "2026-11-22"
    (tmp_path / "bare.yaml").write_text(text % "2026-13-45")
    with pytest.raises(ValueError, match=r"Crawl\.as_of is '2026-13-45'; write the day"):
        load(str(tmp_path / "bare.yaml"))
    with pytest.raises(ValueError, match=r"the value of --set Crawl\.agent is not YAML"):
        changed(quoted, ["Crawl.agent=[a"])


def test_a_binary_column_that_is_no_utf8_is_read_and_judged(tmp_path: Path) -> None:
    """Texts as broken pages leave them: bytes that are no UTF-8, surrogates in CESU-8, NULs, nothing at all."""
    broken = [
        b"caf\xe9 \xff\xfe text",
        b"\xed\xa0\xbd\xed\xb8\x80 smile",
        b"\xed\xa0\xbd alone",
        b"a\x00b",
        b"",
        b"plain",
    ]
    pq.write_table(pa.table({"text": pa.array(broken, pa.binary())}), tmp_path / "t.parquet")
    documents = Read((str(tmp_path / "t.parquet"),))
    outcome = run(Judge(documents), Local(), str(tmp_path / "root"))
    texts = outcome.datasets[documents.address].table()["text"].to_pylist()
    assert texts == ["caf\ufffd \ufffd\ufffd text", "😀 smile", "\ufffd alone", "ab", "plain"]
    alone = signals(pa.array(texts, pa.large_string())).to_pylist()
    assert [row["score"] for row in outcome.dataset.table().to_pylist()] == [row["score"] for row in alone]
