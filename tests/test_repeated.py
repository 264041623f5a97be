"""Repeated: what is said again anywhere in the corpus is cut once for all, and one copy stays; counts are exact."""

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset, opened
from tundish.cluster.verbs import Cluster
from tundish.operators.text.personal import apply
from tundish.pipeline.run import Outcome, run
from tundish.stages.corpus import Corpus
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.judge import Judge
from tundish.stages.lines import Lines
from tundish.stages.mask import Mask
from tundish.stages.read import Read
from tundish.stages.refine import Refine
from tundish.stages.repeated import Repeated
from tundish.stages.sign import Sign
from tundish.stages.stage import Place, Stage

MENU, SHARE, NOTE = "Home About Contact", "Share on Facebook", "All rights reserved 2024, by the owners."


def own(number: int, lines: int = 3) -> list[str]:
    """Lines that nobody else has; without digits, whose values do not count."""
    draw = random.Random(number)
    return [" ".join("".join(draw.choices("abcdefghij", k=6)) for _ in range(8)) + "." for _ in range(lines)]


def write(folder: Path, files: dict[str, dict[str, str]]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in files.items():
        with open(folder / f"{name}.jsonl", "w") as lines:
            lines.writelines(
                json.dumps({"url": f"http://{url}.example/", "text": t}) + "\n" for url, t in texts.items()
            )
    return str(folder / "*.jsonl")


def told(
    pattern: str, root: Path, make: Callable[[Stage], Stage] = Repeated, cluster: Any = None
) -> tuple[dict[str, dict[str, Any]], Outcome]:
    """By URL: the columns, and `left`, what the edits leave."""
    documents = Read((pattern,))
    outcome = run(make(documents), cluster or Local(), str(root))
    table = outcome.datasets[documents.address].beside(outcome.dataset).table()
    left = apply(table["text"].combine_chunks(), table["edits"].combine_chunks()).to_pylist()
    rows = zip(table.select(["id", "url", "text", *Repeated.makes]).to_pylist(), left, strict=True)
    return {row["url"].split("/")[2].removesuffix(".example"): {**row, "left": text} for row, text in rows}, outcome


def first_of(rows: dict[str, dict[str, Any]], *names: str) -> str:
    """Which of these has the smallest id."""
    return min(names, key=lambda name: rows[name]["id"])


@pytest.fixture
def site() -> dict[str, dict[str, str]]:
    """Five pages in three files, with a menu, a footer and lines of their own."""
    return {
        "one": {
            "a": "\n".join([MENU, *own(1), SHARE]),
            "b": "\n".join([MENU.upper() + "!", *own(2), "Yes.", SHARE]),
        },
        "two": {"c": "\r\n".join([MENU, *own(3), "", NOTE, "Yes."]), "d": "\n".join(own(4))},
        "three": {"e": "\n".join([*own(5), "", NOTE.replace("2024", "1999"), "Yes.", SHARE + " …"])},
    }


def test_lines_repeated_in_other_files_are_cut_but_for_one_copy(site: dict, tmp_path: Path) -> None:
    rows, outcome = told(write(tmp_path / "in", site), tmp_path / "root")
    holders = {MENU: "abc", SHARE: "abe", NOTE: "ce"}
    keeper = {line: first_of(rows, *names) for line, names in holders.items()}
    for name, row in rows.items():
        kept = [line for line, names in holders.items() if name in names and keeper[line] == name]
        gone = [line for line, names in holders.items() if name in names and keeper[line] != name]
        plain = row["left"].lower()
        assert all(line.lower()[:12] in plain for line in kept)
        assert not any(line.lower()[:12] in plain for line in gone)
        assert all(line in row["left"] for line in own("abcde".index(name) + 1)), "a line of its own went"
        assert row["repeated_bytes"] == len(row["text"].encode()) - len(row["left"].encode())
        assert row["repeated_share"] == row["repeated_bytes"] / len(row["text"].encode())
        assert row["repeated_most"] == max((len(holders[line]) for line in gone), default=0)
        assert {e["reason"] for e in row["edits"]} <= {"repeated_line"}
        assert ("Yes." in row["left"]) == (name in "bce"), "short lines are protected"
    assert outcome.dataset.counts["cut:repeated_line"] == 2 + 2 + 1


def test_no_copy_stays_where_none_is_to_be_kept(site: dict, tmp_path: Path) -> None:
    rows, _ = told(write(tmp_path / "in", site), tmp_path / "root", lambda d: Repeated(d, keep="none"))
    for row in rows.values():
        assert not any(line.lower()[:12] in row["left"].lower() for line in (MENU, SHARE, NOTE))
    assert rows["a"]["left"] == "\n".join(own(1))
    assert rows["c"]["left"] == "\n".join([*own(3), "", "Yes."]), "Read has made \\n of \\r\\n"


def test_exact_compares_what_stands_there(site: dict, tmp_path: Path) -> None:
    rows, _ = told(write(tmp_path / "in", site), tmp_path / "root", lambda d: Repeated(d, normal="exact", keep="none"))
    assert rows["b"]["left"].startswith(MENU.upper() + "!")
    assert not rows["a"]["left"].startswith(MENU)
    assert "1999" in rows["e"]["left"]


@dataclass(frozen=True)
class Given(Stage):
    """Documents as they are given, two in a shard, without Read's repair."""

    texts: tuple[str | None, ...]

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        shards = []
        for start in range(0, len(self.texts), 2):
            some = self.texts[start : start + 2]
            ids = [bytes([start + n]).ljust(16) for n in range(len(some))]
            writer = out.target().writer(f"part-{start:05d}")
            writer.write(pa.table({"id": pa.array(ids, pa.binary(16)), "text": pa.array(some, pa.large_string())}))
            shards.append(writer.finish({}, {}))
        return out.target().seal(shards, **out.about)


def test_ends_of_lines_of_any_kind_and_texts_of_nothing(tmp_path: Path) -> None:
    """What is left of each text has the ends of lines it had, and no other; the first copy stays."""
    texts = (
        f"eins\r\n{MENU}\r\nzwei\r\n",
        None,
        "",
        f"{MENU}\rdrei",
        f"vier\r\n{MENU}",
        f"fünf\n{MENU}\n",
        f" {MENU} ",
    )
    documents = Given(texts)
    outcome = run(Repeated(documents), Local(), str(tmp_path / "root"))
    table = outcome.datasets[documents.address].beside(outcome.dataset).table()
    left = apply(table["text"].combine_chunks(), table["edits"].combine_chunks()).to_pylist()
    assert left == [texts[0], None, "", "drei", "vier", "fünf\n", ""]
    assert table["repeated_most"].to_pylist() == [0, 0, 0, 5, 5, 5, 5]
    assert table["repeated_share"].to_pylist()[1:3] == [0, 0]


def test_least_says_from_how_many_copies_on(site: dict, tmp_path: Path) -> None:
    rows, _ = told(write(tmp_path / "in", site), tmp_path / "root", lambda d: Repeated(d, keep="none", least=3))
    assert NOTE in rows["c"]["left"]
    assert MENU not in rows["c"]["left"]


def test_repeats_within_one_document_count(tmp_path: Path) -> None:
    text = "\n".join(["We stand here twice.", *own(1), "we stand here, twice", ""])
    rows, _ = told(write(tmp_path / "in", {"one": {"a": text}}), tmp_path / "root")
    assert rows["a"]["left"].strip() == "\n".join(["We stand here twice.", *own(1)])
    assert rows["a"]["repeated_most"] == 2


def test_paragraphs_are_compared_whole(tmp_path: Path) -> None:
    notice = "We use cookies here.\nPlease accept all of them."
    files = {
        "one": {"a": f"{own(1, 1)[0]}\n\n{notice}\n\n{own(2, 1)[0]}"},
        "two": {"b": f"{notice.upper()}\n \n{own(3, 1)[0]}", "c": "We use cookies here.\n" + own(4, 1)[0]},
    }
    rows, _ = told(
        write(tmp_path / "in", files), tmp_path / "root", lambda d: Repeated(d, unit="paragraph", keep="none")
    )
    assert rows["a"]["left"] == f"{own(1, 1)[0]}\n\n{own(2, 1)[0]}"
    assert rows["b"]["left"] == own(3, 1)[0]
    assert rows["c"]["left"] == rows["c"]["text"]
    assert rows["a"]["edits"][0]["reason"] == "repeated_paragraph"


@pytest.mark.parametrize(
    "said",
    [
        ["Der Reiher fliegt.", "Die Möwe schreit laut!", "Wer hört das noch?"],
        ["鹭在飞。", "海鸥在大声叫！", "谁还听得到？"],
        ["बगुला उड़ता है।", "चील चिल्लाती है।", "कौन सुनता है?"],
    ],
)
def test_spans_of_sentences_in_several_scripts(said: list[str], tmp_path: Path) -> None:
    join = "" if "。" in said[0] else " "
    before, behind, other, last = (own(n, 1)[0][:-1] + said[0][-1] for n in range(4))
    a = join.join([before, *said, behind])
    b = other + "\n" + "\n".join(said)
    c = join.join([*said[:2], last])
    rows, _ = told(
        write(tmp_path / "in", {"one": {"a": a}, "two": {"b": b, "c": c}}),
        tmp_path / "root",
        lambda d: Repeated(d, unit="sentences", normal="exact", keep="none"),
    )
    assert rows["a"]["left"] == join.join([before, behind])
    assert rows["b"]["left"] == other
    assert rows["c"]["left"] == c, "two sentences are no span of three"


def test_the_span_that_stays_is_not_cut_by_another(tmp_path: Path) -> None:
    """The same sentence over and over: every span of it is one and the same, and the first stays whole."""
    text = " ".join(["We say this again."] * 9)
    rows, _ = told(
        write(tmp_path / "in", {"one": {"a": text}}), tmp_path / "root", lambda d: Repeated(d, unit="sentences")
    )
    assert rows["a"]["left"] == " ".join(["We say this again."] * 3)


def corpus(files: int, documents: int = 60) -> dict[str, dict[str, str]]:
    """Documents with a few of twenty lines in common, dealt to so many files."""
    draw = random.Random(7)
    common = [" ".join(own(1000 + n, 1)) for n in range(20)]
    texts = {}
    for n in range(documents):
        lines = own(n) + draw.sample(common, draw.randrange(6))
        draw.shuffle(lines)
        texts[f"d{n}"] = draw.choice(["\n", "\r\n", "\n\n"]).join(lines)
    names = list(texts)
    draw.shuffle(names)
    return {f"file-{f}": {name: texts[name] for name in names[f::files]} for f in range(files)}


@pytest.mark.parametrize("unit", ["line", "paragraph", "sentences"])
def test_edits_depend_on_no_order_or_number_of_files(unit: str, tmp_path: Path) -> None:
    answers = []
    for files in (1, 3, 7):
        dealt = corpus(1)["file-0"]
        names = list(dealt)
        random.Random(files).shuffle(names)
        layout = {f"f{f}": {name: dealt[name] for name in names[f::files]} for f in range(files)}
        rows, _ = told(
            write(tmp_path / f"in-{files}", layout),
            tmp_path / f"root-{files}",
            lambda d: Repeated(d, unit=unit, span=2, protected={"words": 1}),  # type: ignore[arg-type]
        )
        answers.append({row["id"]: {k: row[k] for k in Repeated.makes} for row in rows.values()})
    assert answers[0] == answers[1] == answers[2]
    assert any(row["edits"] for row in answers[0].values())


def test_counts_and_copies_are_those_of_a_plain_count(tmp_path: Path) -> None:
    rows, outcome = told(write(tmp_path / "in", corpus(4)), tmp_path / "root", lambda d: Repeated(d, normal="exact"))
    before = Counter(line for row in rows.values() for line in row["text"].split())
    after = Counter(line for row in rows.values() for line in row["left"].split())
    lines = Counter(line for row in rows.values() for line in row["text"].splitlines() if line)
    left = Counter(line for row in rows.values() for line in row["left"].splitlines() if line)
    assert set(before) == set(after), "a word went with its last copy"
    assert left == Counter(dict.fromkeys(lines, 1))
    assert outcome.dataset.counts["cut:repeated_line"] == sum(lines.values()) - len(lines)
    smallest = {line: min(row["id"] for row in rows.values() if line in row["text"].splitlines()) for line in lines}
    for row in rows.values():
        assert all(smallest[line] == row["id"] for line in row["left"].splitlines() if line)


# --- the same bytes -----------------------------------------------------------------------------------------------


@dataclass
class Threads(Local):
    """So many workers in threads, whose work ends in any order."""

    workers: int = 8

    def each(self, stage: str, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(work, items[::-1])


@pytest.mark.parametrize(
    "cluster", [Threads(workers=2), Threads(workers=8), Local(workers=2)], ids=["2", "8", "spawned"]
)
def test_any_number_of_workers_writes_the_same_bytes(cluster: Local, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("tundish.stages.repeated.A_PART", 2000)
    monkeypatch.setattr("tundish.stages.repeated.ROWS_A_PART", 10)
    pattern = write(tmp_path / "in", corpus(3 if cluster.workers == 2 else 9))
    _, alone = told(pattern, tmp_path / "alone")
    assert len(steps(tmp_path / "alone")["home"].shards) > 1
    _, several = told(pattern, tmp_path / "several", cluster=cluster)
    assert several.dataset.digest == alone.dataset.digest


def steps(root: Path) -> dict[str, Any]:
    return {path.name: opened(str(path)) for path in root.glob("repeated-*/steps/*")}


class Stopped(BaseException):
    """The driver is gone."""


@dataclass
class Stopping(Local):
    """Stops before its n-th item of work."""

    left: int = 0
    seen: list[str] = field(default_factory=list)

    def each(self, stage: str, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        for item in items:
            if not self.left:
                self.stop()
            self.left -= 1
            self.seen.append(stage)
            yield work(item)

    def stop(self) -> None:
        raise Stopped


class Killing(Stopping):
    """Kills its own process instead."""

    def stop(self) -> None:
        import os

        os.kill(os.getpid(), signal.SIGKILL)


def test_stopped_at_every_item_of_work_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    pattern = write(tmp_path / "in", corpus(3, 24))
    whole = Stopping(left=1000)
    _, alone = told(pattern, tmp_path / "alone", cluster=whole)
    assert len({*whole.seen}) == 7, "Read with its cuts, and five steps"
    for item in range(3, len(whole.seen)):
        root = tmp_path / f"root-{item}"
        with pytest.raises(Stopped):
            told(pattern, root, cluster=Stopping(left=item))
        again = Stopping(left=1000)
        _, outcome = told(pattern, root, cluster=again)
        assert outcome.dataset.digest == alone.dataset.digest
        assert not list(root.glob("**/*.attempt"))


@pytest.mark.parametrize("item", [4, 6, 7, 8, 10], ids=["cut", "passages", "home cut", "home", "edits"])
def test_killed_in_a_step_it_goes_on_to_the_same_bytes(item: int, tmp_path: Path) -> None:
    """kill -9 of the process that does the work."""
    pattern = write(tmp_path / "in", corpus(3, 24))
    _, alone = told(pattern, tmp_path / "alone")
    code = "import sys, pathlib; from tests.test_repeated import Killing, told; "
    code += "told(sys.argv[1], pathlib.Path(sys.argv[2]), cluster=Killing(left=int(sys.argv[3])))"
    root = tmp_path / "root"
    place = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code, pattern, str(root), str(item)], cwd=place, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    _, outcome = told(pattern, root)
    assert outcome.dataset.digest == alone.dataset.digest


def test_a_line_in_twenty_thousand_documents_brings_a_row_a_batch(tmp_path: Path) -> None:
    documents = {f"d{n}": f"{' '.join(own(n, 1))}\n{SHARE}" for n in range(20_000)}
    names = list(documents)
    files = {f"f{f}": {name: documents[name] for name in names[f::4]} for f in range(4)}
    rows, outcome = told(write(tmp_path / "in", files), tmp_path / "root")
    met = steps(tmp_path / "root")["met"]
    batches = 4 * -(-5000 // 2048)
    assert met.counts == {"repeated": 1}
    assert 1 <= met.rows <= 4, "a row for each shard that holds it"
    assert steps(tmp_path / "root")["home"].rows == met.rows
    assert outcome.dataset.counts["cut:repeated_line"] == 20_000 - 1
    assert sum(SHARE in row["left"] for row in rows.values()) == 1
    assert SHARE in rows[first_of(rows, *rows)]["left"]
    assert {row["repeated_most"] for row in rows.values()} == {0, 20_000}
    # what travelled: each document's own line, and the hot one once a batch
    assert counted(files) == 20_000 + batches


def counted(files: dict[str, dict[str, str]]) -> int:
    """Rows that the stage's first step sends, batch by batch."""
    from tundish.cluster.verbs import BATCH, At
    from tundish.stages.repeated import Counted, Taken

    step, rows = Counted(Taken(Repeated(Read(("x.txt",))))), 0
    for texts in files.values():
        ids = [name.encode().ljust(16) for name in texts]
        table = pa.table({"id": pa.array(ids, pa.binary(16)), "text": pa.array(texts.values(), pa.large_string())})
        for start in range(0, len(table), BATCH):
            rows += len(step(table.slice(start, BATCH), At("part-00000", 0, start)))
    return rows


# --- with other stages --------------------------------------------------------------------------------------------


def test_a_page_of_boilerplate_is_dropped_when_what_remains_is_judged(tmp_path: Path) -> None:
    """Repeated -> Judge the edited view -> Refine; Corpus makes the edits once."""
    boilerplate = [f"{' '.join(own(n, 1))} and so on for all" for n in range(900, 912)]
    article = [line for n in range(30) for line in own(n, 1)]
    files = {
        "one": {"kept": "\n".join([*boilerplate[:6], *article]), "hollow": "\n".join([*boilerplate, "A few words."])},
        "two": {"other": "\n".join([*boilerplate, *own(50, 30)]), "more": "\n".join([*own(60, 30), *boilerplate])},
    }
    documents = Read((write(tmp_path / "in", files),))
    repeated = Repeated(documents, keep="none")
    decisive = {"rules": [{"signal": "words", "op": "<", "value": 50, "reason": "few_words"}]}
    dropped = {}
    for name, edits in (("as it is", None), ("edited", repeated)):
        kept = Refine(documents, quality=Judge(documents, edits=edits), keep=decisive)  # type: ignore[arg-type]
        goal = Corpus(documents, kept, edits=edits)
        outcome = run(goal, Local(), str(tmp_path / "root"))
        corpus_ = outcome.dataset.table()
        gone = opened(outcome.dataset.uri + "/dropped").table()  # type: ignore[union-attr]
        dropped[name] = dict(zip(gone["url"].to_pylist(), gone["reason"].to_pylist(), strict=True))
    assert dropped == {"as it is": {}, "edited": {"http://hollow.example/": "few_words"}}
    texts = dict(zip(corpus_["url"].to_pylist(), corpus_["text"].to_pylist(), strict=True))
    assert texts["http://kept.example/"] == "\n".join(article)
    assert texts["http://other.example/"] == "\n".join(own(50, 30))


def test_the_share_that_repeats_can_be_a_rule(tmp_path: Path) -> None:
    files = {
        "one": {"a": "\n".join([MENU, *own(1)])},
        "two": {"b": "\n".join([MENU, NOTE, SHARE]), "c": f"{NOTE}\n{SHARE}"},
    }
    documents = Read((write(tmp_path / "in", files),))
    rule = {"signal": "repeated_share", "op": ">", "value": 0.9, "reason": "repeated"}
    repeated = Repeated(documents, keep="none")
    goal = Refine(documents, scores={"repeated": repeated}, keep={"rules": [rule]}, max_loss=1.0)  # type: ignore[arg-type]
    outcome = run(goal, Local(), str(tmp_path / "root"))
    table = outcome.datasets[documents.address].beside(outcome.dataset).table()
    assert dict(zip(table["url"].to_pylist(), table["reason"].to_pylist(), strict=True)) == {
        "http://a.example/": None,
        "http://b.example/": "repeated",
        "http://c.example/": "repeated",
    }


def test_among_leaves_out_what_was_dropped(site: dict, tmp_path: Path) -> None:
    def make(documents: Stage) -> Stage:
        rule = {"signal": "words", "op": "<", "value": 20, "reason": "few_words"}
        return Repeated(documents, among=Refine(documents, quality=Judge(documents), keep={"rules": [rule]}))  # type: ignore[arg-type]

    site["two"]["f"] = f"{MENU}\n{NOTE}"
    every, _ = told(write(tmp_path / "in", site), tmp_path / "a")
    rows, _ = told(write(tmp_path / "in", site), tmp_path / "b", make)
    assert every["f"]["edits"] or any(MENU not in every[name]["left"] for name in "abc")
    assert rows["f"]["edits"] == []
    assert rows["f"]["repeated_most"] == 0
    assert sum(NOTE[:19] in rows[name]["left"] for name in "ce") == 1, "who takes no part keeps no copy for others"
    assert max(row["repeated_most"] for row in rows.values()) == 3


def test_lines_then_repeated_then_mask_are_one_list(tmp_path: Path) -> None:
    """Repeated looks at what Lines leaves; offsets are those of the text; Mask adds its own."""
    article = [line.capitalize() for line in own(1, 6)]
    files = {
        "one": {"a": "\n".join(["  Log in", *article[:3], "This line is said everywhere[1].", *article[3:]])},
        "two": {"b": "\r\n".join(["This line is said everywhere.", *map(str.capitalize, own(2, 4))])},
        "three": {"c": "\n".join([*map(str.capitalize, own(3, 4)), "Write to keeper@heron.example for it, do."])},
    }
    documents = Read((write(tmp_path / "in", files),))
    lines = Lines(documents, rules="c4")
    repeated = Repeated(documents, edits=lines, normal="exact", keep="none")
    mask = Mask(documents, edits=repeated)
    outcome = run(mask, Local(), str(tmp_path / "root"))
    table = outcome.datasets[documents.address].beside(outcome.dataset).table()
    left = apply(table["text"].combine_chunks(), table["edits"].combine_chunks()).to_pylist()
    texts = dict(zip(table["url"].to_pylist(), left, strict=True))
    reasons = {
        url: [e["reason"] for e in edits]
        for url, edits in zip(table["url"].to_pylist(), table["edits"].to_pylist(), strict=True)
    }
    assert texts["http://a.example/"] == "\n".join(article)
    assert reasons["http://a.example/"] == ["no_terminal_punct", "repeated_line"]
    assert texts["http://b.example/"] == "\n".join(map(str.capitalize, own(2, 4)))
    assert "keeper@heron.example" not in texts["http://c.example/"]
    assert "email" in reasons["http://c.example/"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"least": 1}, "least is 1"),
        ({"span": 0}, "span is 0"),
        ({"protected": {"words": -1}}, "words is -1"),
        ({"protected": {"letters": 3}}, "no key 'letters'"),
        ({"unit": "word"}, "unit cannot be 'word'"),
        ({"among": Lines(Read(("x.txt",)))}, "among is Lines"),
        ({"edits": Judge(Read(("x.txt",)))}, "gives no 'edits'"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Repeated(Read(("x.txt",)), **fields)


def test_a_document_that_is_cut_away_altogether_is_dropped_and_counted(tmp_path: Path) -> None:
    """All of it stands in another document: no empty text in the corpus."""
    line = "one and the same line of text stands in both of them and nowhere else"
    rows = [{"url": "http://a.test/", "text": f"{line}\nand more here"}, {"url": "http://b.test/", "text": line}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    documents = Read((str(tmp_path / "in.jsonl"),))
    kept = Refine(documents, keep={"rules": "none"})  # type: ignore[arg-type]
    goal = Corpus(documents, kept, edits=Repeated(documents, among=kept))
    made = run(goal, Local(), str(tmp_path / "root")).dataset
    texts = made.table()["text"].to_pylist()
    assert all(text.strip() for text in texts)
    assert sum(text.count(line) for text in texts) == 1
    if len(texts) == 1:
        assert made.counts["dropped:emptied"] == 1


def test_a_corpus_refuses_cuts_that_do_not_know_who_goes(tmp_path: Path) -> None:
    documents = Read(("x.jsonl",))
    kept = Refine(documents, keep={"rules": "none"})  # type: ignore[arg-type]
    twins = Deduplicate(documents, Sign(documents), among=kept, survivor="length")
    other = Deduplicate(documents, Sign(documents), among=kept, survivor="length desc")
    Corpus(documents, kept, twins, edits=Repeated(documents, among=kept, twins=twins))
    Corpus(documents, kept, twins, edits=Repeated(documents, keep="none"))
    for edits in (Repeated(documents), Repeated(documents, among=kept), Repeated(documents, among=kept, twins=other)):
        with pytest.raises(ValueError, match=r"does not know which: the one copy it keeps"):
            Corpus(documents, kept, twins, edits=edits)
    with pytest.raises(ValueError, match="Deduplicate does not know of it"):
        Corpus(documents, kept, Deduplicate(documents, Sign(documents), survivor="length"))
