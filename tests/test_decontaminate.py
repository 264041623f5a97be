"""Decontaminate: planted evaluation text is found wherever it lies, told with file, row and span, and counted."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.toys import digests
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset
from tundish.pipeline.recipe import replaced
from tundish.pipeline.run import run
from tundish.stages.decontaminate import Decontaminate, covering, labelled_files, seen, uncovered
from tundish.stages.evaluation_texts import files_of, items, names
from tundish.stages.finetune import Finetune
from tundish.stages.pretrain import Pretrain
from tundish.stages.read import Read
from tundish.stages.tokenize import Tokenize

WORDS = [a + b for c in "bdkl" for a in (c + v for v in "aeiou") for b in "nsrtm"]
DATA = Path(__file__).parents[2] / "shared" / "data"


def prose(seed: int, words: int = 60) -> str:
    chosen = random.Random(seed)
    return " ".join(chosen.choice(WORDS) + str(chosen.randrange(40)) for _ in range(words))


def pages(folder: Path, texts: list[str], shards: int = 2) -> Read:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(shards):
        rows = [json.dumps({"url": f"u{n}", "text": t}) + "\n" for n, t in enumerate(texts) if n % shards == number]
        (folder / f"shard-{number}.jsonl").write_text("".join(rows))
    return Read((str(folder / "*.jsonl"),))


def decontaminated(goal: Decontaminate, root: Path, workers: int = 1) -> tuple[dict[str, dict], Dataset]:
    """URL -> what was told of it."""
    outcome = run(goal, Local(workers), str(root))
    told = outcome.datasets[goal.documents.address].beside(outcome.dataset).table().to_pylist()
    return {row["url"]: row for row in told}, outcome.dataset


def span(row: dict) -> str:
    return row["text"].encode()[row["contaminated_start"] : row["contaminated_end"]].decode()


@pytest.fixture
def labels(tmp_path: Path) -> str:
    path = tmp_path / "sentiment.tsv"
    rows = [f"{prose(n, 20)}\t{'glad' if n % 2 else 'sad'}" for n in range(1000, 1010)]
    path.write_text("\n".join(["text\tlabel", *rows, "too short\tsad", ""]))
    return str(path)


def test_planted_items_are_told_with_file_row_and_span(tmp_path: Path, labels: str) -> None:
    item = prose(1003, 20)
    shouted = item.upper().replace(" ", ", ", 3).replace(" ", "\n", 5)
    texts = [
        prose(1),
        f"{prose(2)} {item} {prose(3)}",
        f"{prose(4)} “{shouted}” {prose(5)}",
        " ".join(item.split()[:12]) + f" and {prose(6)}",
        f"{prose(1005, 20)} {prose(7)} {prose(1006, 20)[:40]}",
    ]
    goal = Decontaminate(pages(tmp_path / "in", texts), (labels,))
    rows, made = decontaminated(goal, tmp_path / "root")
    assert [rows[f"u{n}"]["contaminated"] for n in range(5)] == [
        None,
        "sentiment.tsv",
        "sentiment.tsv",
        None,
        "sentiment.tsv",
    ]
    assert [rows[f"u{n}"]["contaminated_grams"] for n in range(5)] == [0, 8, 8, 0, 8]
    assert [rows[f"u{n}"]["contaminated_item"] for n in range(5)] == [None, 3, 3, None, 5]
    assert [span(rows[f"u{n}"]) for n in (1, 2)] == [item, shouted]
    assert rows["u0"]["contaminated_start"] is rows["u0"]["contaminated_rows"] is None
    assert rows["u4"]["contaminated_rows"] == [{"file": "sentiment.tsv", "row": 5}]
    (told,) = seen(made)
    assert (told.documents, told.grams, told.seen, told.items, told.ignored) == (3, 24, 2, 11, 1)
    assert str(told) == "sentiment.tsv: 3 documents, 2 of 11 items seen"


def test_a_document_of_two_files_is_told_by_the_one_with_more(tmp_path: Path) -> None:
    for name, seed, size in (("a.txt", 50, 14), ("b.txt", 51, 20)):
        (tmp_path / name).write_text(prose(seed, size) + "\n")
    goal = Decontaminate(
        pages(tmp_path / "in", [f"{prose(50, 14)} {prose(51, 20)}"]), (str(tmp_path / "*.txt"),), least=3
    )
    rows, made = decontaminated(goal, tmp_path / "root")
    assert (rows["u0"]["contaminated"], rows["u0"]["contaminated_grams"]) == ("b.txt", 8)
    assert [(told.file, told.documents, told.seen) for told in seen(made)] == [("a.txt", 0, 0), ("b.txt", 1, 1)]


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path, labels: str) -> None:
    texts = [prose(n, 50) + (f" {prose(1000 + n % 10, 20)} " if n % 4 == 1 else "") for n in range(300)]
    documents = pages(tmp_path / "in", texts, shards=5)
    made = []
    for workers in (1, 4):
        run(Decontaminate(documents, (labels,)), Local(workers), str(tmp_path / f"root{workers}"))
        files = digests(str(tmp_path / f"root{workers}"))
        made.append({name: digest for name, digest in files.items() if name.endswith(".parquet")})
    assert made[0] == made[1]
    assert any("decontaminate" in name for name in made[0])


def test_a_changed_file_is_looked_for_anew(tmp_path: Path, labels: str) -> None:
    goal = Decontaminate(pages(tmp_path / "in", [prose(70)]), (labels,))
    assert decontaminated(goal, tmp_path / "root")[0]["u0"]["contaminated"] is None
    Path(labels).write_text(f"text\tlabel\n{prose(70, 30)}\tglad\n")
    rows, made = decontaminated(goal, tmp_path / "root")
    assert rows["u0"]["contaminated"] == "sentiment.tsv"
    assert (seen(made)[0].items, seen(made)[0].seen) == (1, 1)


# --- the files --------------------------------------------------------------------------------------------------------

ROWS = [
    {"question": 'who\u2028is "that"', "context": "over,\u0085there", "answer": "me", "n": 3},
    {"question": "q", "context": "c", "answer": "a", "n": 4},
]
TEXTS = [[row["question"], row["context"], row["answer"]] for row in ROWS]


def tsv() -> bytes:
    return "\n".join(["question\tcontext\tanswer", *("\t".join(row) for row in TEXTS), ""]).encode()


def quoted() -> bytes:
    cells = [[cell.replace('"', '""') for cell in row] for row in TEXTS]
    return "\r\n".join(["question,context,answer", *(",".join(f'"{c}"' for c in row) for row in cells), ""]).encode()


def lines() -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def text() -> bytes:
    return "".join("\t".join(row) + "\n" for row in TEXTS).encode()


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue().to_pybytes()


def arrow() -> bytes:
    sink, table = pa.BufferOutputStream(), pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def array() -> bytes:
    return json.dumps({"version": "1", "data": ROWS}).encode()


FORMS = [(".tsv", tsv), (".csv", quoted), (".jsonl", lines), (".txt", text), (".parquet", parquet)]
FORMS += [(".arrow", arrow), (".json", array)]


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize(("ending", "body"), FORMS)
def test_every_layout_gives_the_same_rows(tmp_path: Path, ending: str, body: Callable[[], bytes], packed: str) -> None:
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[packed]
    path = tmp_path / f"set{ending}{packed}"
    path.write_bytes(pack(body()))
    (file,) = files_of((str(path),), "here")
    assert list(items(file)) == list(enumerate(TEXTS))
    if ending != ".txt":
        assert list(items(file, ("answer", "absent"))) == [(n, [row[2]]) for n, row in enumerate(TEXTS)]
    with pytest.raises(ValueError, match="no column 'absent'"):
        list(items(file, ("absent",)))


def test_nested_strings_are_texts_of_their_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"q": "one", "a": ["two", {"b": ["three"]}], "n": 1}, ["four", None], "five", 6]
    path.write_text("\n" + "\n\n".join(map(json.dumps, rows)) + '\n{"q": "\\ud800x"}')
    (file,) = files_of((str(path),), "here")
    assert list(items(file)) == [(1, ["one", "two", "three"]), (3, ["four"]), (5, ["five"]), (7, []), (8, ["?x"])]


def test_paragraphs_and_sentences_are_rows(tmp_path: Path) -> None:
    question = {"question": "who?", "id": "7", "answers": [{"text": "me", "answer_start": 0}]}
    article = {
        "title": "One",
        "paragraphs": [{"context": "me too", "qas": [question]}, {"context": "alone", "qas": []}],
    }
    (tmp_path / "a.json").write_text(json.dumps({"data": [article]}))
    (tmp_path / "b.conll").write_text("# id = 7 of 9\nThe\tO\nheron\tB-X\n\n\n#tag\tO\nsings\tO")
    (tmp_path / "c.conllu").write_text("# text = a\n1\tHe\the\n2\tflew\tfly\n\n")
    squad, words, trees = files_of((str(tmp_path),), "here")
    assert list(items(squad)) == [(0, ["me too", "who?", "7", "me"]), (1, ["alone"])]
    assert list(items(words)) == [(0, ["The heron"]), (1, ["#tag sings"])]
    assert list(items(trees)) == [(0, ["He flew"])]


def test_a_first_line_of_many_words_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"{prose(1, 9)}\tWorld\n{prose(2, 9)}\tSports\n")
    (file,) = files_of((str(path),), "here")
    assert list(items(file)) == [(0, [prose(1, 9), "World"]), (1, [prose(2, 9), "Sports"])]


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("rte", "sst2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "dev.tsv").write_text(f"text\n{prose(len(folder), 20)}\n")
    (tmp_path / "note.pdf").write_text("")
    assert [file[0] for file in files_of((str(tmp_path),), "here")] == ["rte/dev.tsv", "sst2/dev.tsv"]
    assert list(names({"s3://b/dev.tsv": 0, "/b/dev.tsv": 0}).values()) == ["s3://b/dev.tsv", "/b/dev.tsv"]
    goal = Decontaminate(pages(tmp_path / "in", [prose(4, 30)]), (str(tmp_path / "*" / "*.tsv"),))
    assert decontaminated(goal, tmp_path / "root")[0]["u0"]["contaminated"] == "sst2/dev.tsv"


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a"', "cannot be read after row 0"),
        ("a.tsv", b"text\n\xff\xfe\n", "cannot be read at its start"),
        ("a.csv", b'a,b\n1,2,3\n', "Expected 2 columns, got 3"),
        ("a.parquet", b"PAR1 not", "cannot be read at its start"),
        ("a.tsv.gz", b"text", "Not a gzipped file"),
        ("a.arrow", b"ARROW1 not", "cannot be read at its start"),
        ("a.json", b'{"data": [', "cannot be read at its start"),
        ("a.json", b"[]", "has no rows"),
        ("a.conll", b"\n\n", "has no rows"),
        ("a.txt", b"\n", "has no rows"),
        ("a.pdf", b"", "names no .tsv"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_stops_the_run_at_its_start(tmp_path: Path, name: str, body: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(body)
    goal = Decontaminate(Read((str(tmp_path / "nothing-yet.jsonl"),)), (str(tmp_path / name),))
    with pytest.raises(ValueError, match=said):
        goal.outside()


# --- the labelled sets of the recipe ----------------------------------------------------------------------------------


def finetuned(documents: Read, labels: str, **fields: object) -> Finetune:
    clean = Decontaminate(documents, **fields)  # type: ignore[arg-type]
    return Finetune(Pretrain(Tokenize(clean)), labels)  # type: ignore[arg-type]


def cover(goal: Finetune) -> Finetune:
    files = labelled_files(goal)
    return replaced(goal, lambda stage: covering(stage, files), {})  # type: ignore[return-value]


def below(goal: Finetune) -> Decontaminate:
    return next(stage for stage in goal.walk() if isinstance(stage, Decontaminate))


def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokenize wants a corpus; here what it reads does not matter."""
    monkeypatch.setattr(Tokenize, "wants", {})


def test_labelled_files_of_a_recipe_are_covered(tmp_path: Path, labels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted(monkeypatch)
    documents = Read((str(tmp_path / "*.jsonl"),))
    assert labelled_files(documents) == ()
    bare = finetuned(documents, labels)
    assert labelled_files(bare) == uncovered(bare) == (labels,)
    full = cover(bare)
    assert uncovered(full) == ()
    assert [entry["file"] for entry in below(full).outside()] == ["sentiment.tsv"]
    assert cover(full).fingerprint == full.fingerprint != bare.fingerprint
    before = below(full).outside()
    Path(labels).write_text(Path(labels).read_text() + prose(5) + "\tglad\n")
    assert below(full).outside() != before


def test_what_no_decontaminate_is_against_is_named(
    tmp_path: Path, labels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted(monkeypatch)
    documents = Read((str(tmp_path / "*.jsonl"),))
    (tmp_path / "other.txt").write_text(prose(1))
    partial = finetuned(documents, labels, against=(str(tmp_path / "other.txt"),))
    assert uncovered(cover(partial)) == (labels,)
    assert (
        below(finetuned(documents, labels, against=(str(tmp_path / "other.txt"),), labelled=(labels,))).labelled == ()
    )
    for pattern in (labels, str(tmp_path), str(tmp_path / "*.tsv")):
        assert uncovered(finetuned(documents, labels, against=(pattern,))) == ()
    none = Finetune(Pretrain(Tokenize(documents)), labels)
    assert uncovered(none) == ()


def test_fields_that_make_no_sense_are_refused(tmp_path: Path, labels: str) -> None:
    documents = Read((str(tmp_path / "*.jsonl"),))
    for fields, said in (
        ({"n": 2}, "n is 2"),
        ({"least": 0}, "least 0"),
        ({"against": ()}, "against is empty"),
    ):
        with pytest.raises(ValueError, match=said):
            Decontaminate(documents, **fields)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fine-tunes on none"):
        Decontaminate(documents).outside()


def test_what_is_said_before_a_run(tmp_path: Path, labels: str) -> None:
    goal = Decontaminate(Read((str(tmp_path / "*.jsonl"),)), (labels,))
    assert goal.notes() == "sentiment.tsv: 11 items, 1 of fewer than 8 words are not looked for"


# --- real files -------------------------------------------------------------------------------------------------------


def unpacked(path: Path) -> str:
    with open(path, "rb") as file:
        return zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file).read().decode()


@pytest.mark.skipif(not (DATA / "neardup-httpd").exists(), reason="no data")
def test_fifty_real_items_planted_in_real_pages_are_all_found(tmp_path: Path) -> None:
    """Documents of a web server's manual hold no film reviews, news or captions of their own."""
    draw = random.Random(7)
    files = ("sent-sst2/test.tsv.zst", "topic-agnews/test.tsv.zst", "nli-sick/SICK_test_annotated.txt.zst")
    known = [
        (name, cell)
        for name in files
        for line in unpacked(DATA / name).split("\n")[1:]
        if len((cell := max(line.split("\t"), key=len)).split()) >= 15
    ]
    texts = [
        json.loads(line)["text"] for line in unpacked(DATA / "neardup-httpd" / "docs.jsonl.zst").split("\n") if line
    ]
    texts = texts[::5]
    planted = {}
    for place, (name, item) in zip(draw.sample(range(len(texts)), 50), draw.sample(known, 50), strict=True):
        words = texts[place].split(" ")
        at = draw.randrange(len(words) + 1)
        texts[place] = " ".join([*words[:at], item.upper() if place % 2 else item, *words[at:]])
        planted[f"u{place}"] = (name, item)
    goal = Decontaminate(pages(tmp_path / "in", texts), tuple(str(DATA / name) for name in files))
    rows, _ = decontaminated(goal, tmp_path / "root")
    hit = {url for url, row in rows.items() if row["contaminated"]}
    assert set(planted) == hit
    for url, (name, item) in planted.items():
        assert name.endswith(rows[url]["contaminated"])
        assert item.casefold().strip(" .") in span(rows[url]).casefold() + " "
