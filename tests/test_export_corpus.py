"""A corpus that is handed over: the rows its recipe let through and no other, files whole or not at all, a card whose
numbers are those of `datasets`."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import toys
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset, opened
from tundish.cluster.verbs import Cluster
from tundish.operators.text.digest import identity, payload_digest
from tundish.operators.web.opt_outs import forbids_training
from tundish.pipeline.export_corpus import export_corpus
from tundish.pipeline.forget import forget
from tundish.pipeline.funnel import ran
from tundish.pipeline.run import run
from tundish.stages.corpus import Corpus
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.documents import DOCUMENT, table_of
from tundish.stages.extract import PAGE
from tundish.stages.forgotten import LEDGER, Forgotten, spelt, url_key
from tundish.stages.gather import Gather
from tundish.stages.judge import Judge
from tundish.stages.mask import Mask
from tundish.stages.refine import Refine
from tundish.stages.sign import Sign
from tundish.stages.stage import Place, Stage

LITTLE = 10_000  # bytes of a file
FEW = ("id", "url", "text", "language", "confidence", "score", "words", "licence", "source")
SAID = ["tdm-reservation (header)", None, "noai (meta)", "disallow gptbot (robots.txt)", None, "search=no (header)"]
LICENCES = ["https://creativecommons.org/licenses/by/4.0/", None, "© us | <b>all</b> rights"]


@dataclass(frozen=True)
class Pages(Stage):
    """Documents in two shards, beside them what their pages say: some are kept out of training, some have a licence."""

    host: str
    paged: bool = True
    short: bool = False  # so that no document stays, and its shards of the corpus are empty

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        told = {True: (out.target(), DOCUMENT), False: (out.target("pages"), PAGE)}
        shards: dict[bool, list[Any]] = {True: [], False: []}
        for number in range(2):
            rows = [self.row(n) for n in range(number * 20, number * 20 + 20)]
            for kind, (target, schema) in told.items() if self.paged else [(True, told[True])]:
                writer = target.writer(f"part-{number:05d}")
                writer.write(table_of(schema, rows))
                shards[kind].append(writer.finish({}, {}))
        if self.paged:
            told[False][0].seal(shards[False], **out.about)
        return told[True][0].seal(shards[True], **out.about)

    def row(self, n: int) -> dict[str, Any]:
        sentences = 2 if self.short or n % 7 == 3 else 14  # some go, so that rows of the corpus lie elsewhere
        url, text = f"http://{self.host}/{n}", toys.prose(1000 + n + 100 * len(self.host), sentences)
        digest = payload_digest(text.encode())
        said, known = SAID[n % len(SAID)], {"url": url, "host": self.host, "text": text, "origin": "pages"}
        found = {"id": identity([url], [digest])[0].as_py(), "content_digest": digest, "licence": LICENCES[n % 3]}
        return known | found | {"opt_outs": [said] if said else [], "source": f"a.warc.gz:{n}", "date": "2026-10-03"}


def recipe(opt_outs: str = "ignore", short: float = 50.0) -> Corpus:
    docs = Gather(
        {"a": Pages("heron.example"), "b": Pages("ibis.example", short=True), "c": Pages("kranich.test", paged=False)}
    )
    language = toys.Identify(docs)
    quality = Judge(docs, language)
    kept = Refine(docs, language, quality, rules={"gopher_short_doc": short}, opt_outs=opt_outs)  # type: ignore[arg-type]
    twins = Deduplicate(docs, Sign(docs), kept, quality)
    return Corpus(docs, kept, twins, Mask(docs), language, quality)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = str(tmp_path_factory.mktemp("corpus") / "root")
    run(recipe(), Local(), made)
    return made


@pytest.fixture
def own(root: str, tmp_path: Path) -> str:
    """A root that a test may change."""
    return str(shutil.copytree(root, tmp_path / "root"))


def table(to: Path) -> pa.Table:
    (data,) = to.glob("data-*")
    return pa.concat_tables([pq.read_table(file) for file in sorted(data.glob("*.parquet"))])


def twin(root: str) -> list[dict[str, Any]]:
    """The slow way: every dataset as rows by id, joined one document at a time."""
    told = ran(root)

    def rows(stage: str, *inside: str) -> dict[bytes, dict[str, Any]]:
        found = [opened("/".join([told.root, address, *inside])) for address in told.of(stage)]
        return {row["id"]: row for one in found if one for row in one.table().to_pylist()}

    documents, languages = rows("Gather"), rows("Identify")
    signals, pages = rows("Judge"), rows("Pages", "pages")
    wanted = []
    for own, row in rows("Corpus").items():
        if not forbids_training(documents[own]["opt_outs"]):
            page, language = pages.get(own, {}), languages[own]
            row |= {"id": own.hex(), "confidence": language["confidence"], "words": signals[own]["words"]}
            wanted.append({name: row.get(name, page.get(name)) for name in FEW})
    return wanted


def test_what_leaves_is_what_the_slow_way_gives(root: str, tmp_path: Path) -> None:
    told = export_corpus(root, str(tmp_path / "out"), columns=FEW)
    expected = twin(root)
    assert table(tmp_path / "out").to_pylist() == expected
    assert told["rows"] == len(expected) > 30
    assert {row["licence"] for row in expected} == {*LICENCES}


def test_who_opted_out_never_leaves_whatever_the_recipe_says(root: str, tmp_path: Path) -> None:
    told = export_corpus(root, str(tmp_path / "out"))
    said = {row["url"]: row["opt_outs"] for row in ran(root).datasets[ran(root).of("Gather")[0]].table().to_pylist()}
    corpus = ran(root).datasets[ran(root).of("Corpus")[0]].table()["url"].to_pylist()
    left = table(tmp_path / "out")["url"].to_pylist()
    assert {tuple(said[url]) for url in left} == {(), ("disallow gptbot (robots.txt)",), ("search=no (header)",)}
    assert told["left"] == {"opted_out": len(corpus) - len(left)}
    assert f"| this export | {len(corpus)} | {len(left)} | opted_out {len(corpus) - len(left)} |" in _card(tmp_path)


def test_names_in_robots_txt_count_where_the_recipe_counts_them(tmp_path: Path) -> None:
    run(recipe("by_name"), Local(), str(tmp_path / "root"))
    export_corpus(str(tmp_path / "root"), str(tmp_path / "out"))
    left = {int(url.rsplit("/", 1)[1]) % len(SAID) for url in table(tmp_path / "out")["url"].to_pylist()}
    assert left == {1, 4, 5}
    assert "by name is one as well" in _card(tmp_path)


def _card(folder: Path) -> str:
    return (folder / "out" / "README.md").read_text()


def test_what_was_forgotten_does_not_leave(own: str, tmp_path: Path) -> None:
    before = export_corpus(own, str(tmp_path / "out"))["rows"]
    forget(own, ["http://heron.example/1"], reason="asked")
    assert export_corpus(own, str(tmp_path / "out"))["rows"] == before - 1
    assert "http://heron.example/1" not in table(tmp_path / "out")["url"].to_pylist()
    assert len(list((tmp_path / "out").glob("data-*"))) == 1, "the files that held it are gone"


def test_the_ledger_is_asked_even_where_the_corpus_holds_it_still(own: str, tmp_path: Path) -> None:
    line = {"time": "2026-11-22T00:00:00Z", **Forgotten(urls=frozenset({url_key("http://kranich.test/4")})).plain}
    store.write(f"{own}/{LEDGER}", spelt([line]))
    told = export_corpus(own, str(tmp_path / "out"))
    assert told["left"]["forgotten"] == 1
    assert "http://kranich.test/4" not in table(tmp_path / "out")["url"].to_pylist()


def test_nothing_is_published_that_was_forgotten_meanwhile(own: str, tmp_path: Path) -> None:
    line = {"time": "2026-11-22T00:00:00Z", **Forgotten(urls=frozenset({url_key("http://kranich.test/4")})).plain}
    with pytest.raises(ValueError, match="export again"):
        export_corpus(
            own, str(tmp_path / "out"), say=lambda done, rows: store.write(f"{own}/{LEDGER}", spelt([line])) and None
        )
    assert not (tmp_path / "out" / "README.md").exists()
    export_corpus(own, str(tmp_path / "out"))
    assert "http://kranich.test/4" not in table(tmp_path / "out")["url"].to_pylist()


def test_files_are_closed_at_their_size_and_are_the_same_twice(root: str, tmp_path: Path) -> None:
    told = [export_corpus(root, str(tmp_path / name), columns=FEW, size=LITTLE) for name in ("out", "again")]
    assert list(told[0]["files"].values()) == list(told[1]["files"].values())
    assert toys.digests(str(tmp_path / "out")) == toys.digests(str(tmp_path / "again"))
    *full, _ = told[0]["files"].values()
    assert len(full) >= 2
    assert all(LITTLE <= size < 3 * LITTLE for size in full)
    whole = export_corpus(root, str(tmp_path / "whole"), columns=FEW)
    assert len(whole["files"]) == 1
    assert table(tmp_path / "whole").equals(table(tmp_path / "out"))


class Stopped(Exception):
    """What stands for a kill between two files."""


def test_an_export_that_was_stopped_shows_nothing_and_goes_on(root: str, tmp_path: Path) -> None:
    to, seen = tmp_path / "out", []

    def stop(done: int, rows: int) -> None:
        seen.append(done)
        if len(seen) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        export_corpus(root, str(to), columns=FEW, size=LITTLE, say=stop)
    assert not list(to.glob("data-*"))
    assert not (to / "README.md").exists()
    written = {path.name: path.stat().st_mtime_ns for path in to.glob(".export-*/*.parquet")}
    assert len(written) == 2
    export_corpus(root, str(to), columns=FEW, size=LITTLE)
    export_corpus(root, str(tmp_path / "undisturbed"), columns=FEW, size=LITTLE)
    assert toys.digests(str(to)) == toys.digests(str(tmp_path / "undisturbed"))
    after = {path.name: path.stat().st_mtime_ns for path in to.glob("data-*/*.parquet")}
    assert {name: after[name] for name in written} == written, "what was committed is not written again"


def test_a_cut_file_of_a_stopped_export_is_written_again(root: str, tmp_path: Path) -> None:
    to = tmp_path / "out"
    with pytest.raises(Stopped):
        export_corpus(root, str(to), columns=FEW, size=LITTLE, say=lambda done, rows: _raise())
    (cut,) = to.glob(".export-*/*.parquet")
    cut.write_bytes(cut.read_bytes()[:-1])
    export_corpus(root, str(to), columns=FEW, size=LITTLE)
    assert table(to).to_pylist() == twin(root)


def _raise() -> None:
    raise Stopped


def test_an_export_stays_as_it_is_until_the_next_is_whole(own: str, tmp_path: Path) -> None:
    to = tmp_path / "out"
    export_corpus(own, str(to), columns=FEW)
    before = toys.digests(str(to))
    forget(own, ["kranich.test"], reason="asked")
    with pytest.raises(Stopped):
        export_corpus(own, str(to), columns=FEW, say=lambda done, rows: _raise())
    assert {k: v for k, v in toys.digests(str(to)).items() if not k.startswith(".export-")} == before
    export_corpus(own, str(to), columns=FEW)
    assert {row["url"].split("/")[2] for row in table(to).to_pylist()} == {"heron.example"}
    assert {path.name.split("-")[0] for path in to.iterdir()} == {"README.md", "data", "export.json"}


def test_one_that_is_whole_is_left_and_one_that_lost_a_file_is_not(root: str, tmp_path: Path) -> None:
    to = tmp_path / "out"
    export_corpus(root, str(to), columns=FEW, size=LITTLE)
    stamps, before = [p.stat().st_mtime_ns for p in sorted(to.glob("data-*/*.parquet"))], toys.digests(str(to))
    export_corpus(root, str(to), columns=FEW, size=LITTLE)
    assert [p.stat().st_mtime_ns for p in sorted(to.glob("data-*/*.parquet"))] == stamps
    next(to.glob("data-*/part-00001.parquet")).unlink()
    export_corpus(root, str(to), columns=FEW, size=LITTLE)
    assert toys.digests(str(to)) == before


def test_elsewhere_than_on_a_disk_too(root: str, tmp_path: Path) -> None:
    to = f"memory://{tmp_path.name}/out"
    told = export_corpus(root, to, columns=FEW, size=LITTLE)
    held = {name: store.read(f"{to}/{name}") for name in told["files"]}
    export_corpus(root, str(tmp_path / "out"), columns=FEW, size=LITTLE)
    assert held == {name: (tmp_path / "out" / name).read_bytes() for name in told["files"]}
    assert sorted(store.listing(to)) == sorted(p.name for p in (tmp_path / "out").iterdir())


def test_another_export_and_other_files_are_not_written_over(root: str, tmp_path: Path) -> None:
    other, to = str(tmp_path / "other"), tmp_path / "out"
    run(recipe(short=60.0), Local(), other)
    export_corpus(other, str(to), columns=FEW)
    before = toys.digests(str(to))
    with pytest.raises(ValueError, match=r"holds an export of corpus-.*--replace"):
        export_corpus(root, str(to), columns=FEW)
    assert toys.digests(str(to)) == before
    export_corpus(root, str(to), columns=FEW, replace=True)
    assert table(to).to_pylist() == twin(root)
    for name in ("model.safetensors", "README.md", "data-0123456789"):
        folder = tmp_path / name.split(".")[0] / "out"
        folder.mkdir(parents=True)
        (folder / name).write_text("mine")
        with pytest.raises(ValueError, match=f"holds '{name}'"):
            export_corpus(root, str(folder), columns=FEW, replace=True)
        assert [path.name for path in folder.iterdir()] == [name]


def test_the_toy_root_leaves_whole(tmp_path: Path) -> None:
    """Documents of another extraction, masks applied, duplicates gone."""
    made = toys.small_root(tmp_path)
    told = export_corpus(made, str(tmp_path / "out"))
    corpus = ran(made).datasets[ran(made).of("Corpus")[0]].table()
    assert told["rows"] == len(corpus)
    assert sorted(table(tmp_path / "out")["text"].to_pylist()) == sorted(corpus["text"].to_pylist())
    assert not any(toys.MAIL in text for text in corpus["text"].to_pylist())


def test_a_corpus_without_its_documents_does_not_leave(own: str, tmp_path: Path) -> None:
    store.remove(f"{own}/{ran(own).of('Gather')[0]}")
    with pytest.raises(
        ValueError, match=r"^gather-\w+, which corpus-\w+ stands on, is not sealed .*run the recipe again$"
    ):
        export_corpus(own, str(tmp_path / "out"))
