"""The recipes beside the demo: each loads, has its page, and runs on a little of what it is for."""

import io
import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests import toys
from tests.test_ingest import DATE, pair
from tests.test_ingest_common_crawl import SCHEMA, listed
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset, opened
from tundish.operators.text import tokenizer_json, vocabulary
from tundish.pipeline.recipe import changed, load
from tundish.pipeline.run import Outcome, run
from tundish.stages.common_crawl_index import surt
from tundish.stages.stage import Stage

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
OWN = ("common_crawl", "documents", "adaptation", "low_resource")
STAGES = {
    "common_crawl": {"CommonCrawl", "Extract", "Vet", "Refine", "Deduplicate", "Mask", "Corpus"},
    "documents": {"Read", "Gather", "Repeated", "Mask", "Corpus", "Tokenize"},
    "adaptation": {"Read", "Gather", "Tokenize", "Pretrain"},
    "low_resource": {"CommonCrawl", "Read", "Refine", "Deduplicate", "Tokenize", "Pretrain"},
}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with copies of the recipes, in which what they name may lie."""
    for file in EXAMPLES.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    shutil.copy(EXAMPLES / "low_resource_confidence.json", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", OWN)
def test_each_loads_and_has_a_page(name: str, here: Path) -> None:
    if name == "adaptation":
        base(here / "base", [line for n in range(40) for line in toys.prose(n).split("\n")])
    goal = load(str(here / f"{name}.yaml"))
    assert {stage.name for stage in goal.walk()} >= STAGES[name]
    page = (EXAMPLES / f"{name}.md").read_text()
    assert page.startswith(f"# {name}.yaml: ")
    assert f"examples/{name}.yaml" in page


def test_no_example_asks_the_web_but_those_that_say_so() -> None:
    for name in ("documents", "adaptation"):
        assert "Crawl" not in (EXAMPLES / f"{name}.yaml").read_text()
    bases = re.findall(r"base: (\S+)", "".join((EXAMPLES / f"{n}.yaml").read_text() for n in OWN))
    assert {each.rstrip(",") for each in bases} == {"https://data.commoncrawl.org/"}


def dataset(outcome: Outcome, name: str, *inside: str) -> Dataset:
    (found,) = (d for a, d in outcome.datasets.items() if a.startswith(f"{name}-"))
    inner = opened("/".join([found.uri, *inside]))
    assert inner is not None
    return inner


def done(goal: Stage, root: Path, *sets: str, until: str | None = None) -> Outcome:
    return run(changed(goal, sets), Local(), str(root), until=until)


@pytest.mark.slow
def test_documents_become_tokens_without_addresses_and_copies(here: Path) -> None:
    inbox(here / "inbox")
    found = done(load(str(here / "documents.yaml")), here / "root", "Tokenize.vocabulary=320")
    corpus = dataset(found, "corpus").table().to_pylist()
    texts = [row["text"] for row in corpus]
    assert {row["origin"] for row in corpus} == {"tickets", "wiki", "notes"}
    assert len(corpus) == 20 + 20 + 20
    assert [text for text in texts if "@harbour" in text or "7946" in text] == []
    assert sum("reply to this address and we shall come back to you" in text for text in texts) == 1
    gone = {row["reason"] for row in dataset(found, "corpus", "dropped").table().to_pylist()}
    assert gone == {"nearly_empty", "mostly_numbers", "same_lines", "exact_duplicate"}
    assert dataset(found, "tokenize").rows > 50
    titles = {row["title"] for row in corpus if row["origin"] == "tickets"}
    assert titles - {"Ticket 3", "Ticket 20"} == {f"Ticket {n}" for n in range(20) if n != 3}, "20 is a copy of 3"


def inbox(folder: Path) -> None:
    for name in ("tickets", "wiki", "notes"):
        (folder / name).mkdir(parents=True)
    foot = "\nPlease reply to this address and we shall come back to you within the next two working days."
    tickets = [f"{toys.prose(n)}\nWrite to anna{n}@harbour.example or +44 20 7946 0958." + foot for n in range(20)]
    tickets += [tickets[3], "Thanks.", "17 23 44 18 99 00 81 22", "Again and again the same line.\n" * 9]
    rows = [
        {"ticket": {"number": n}, "subject": f"Ticket {n}", "body": text, "opened": "2026-11-01"}
        for n, text in enumerate(tickets)
    ]
    (folder / "tickets" / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wiki = {
        "text": [toys.prose(100 + n) for n in range(20)],
        "address": [f"http://wiki.example/{n}" for n in range(20)],
    }
    pq.write_table(pa.table(wiki), folder / "wiki" / "pages.parquet")
    for n in range(20):
        (folder / "notes" / f"{n}.{('txt', 'md')[n % 2]}").write_text(toys.prose(200 + n))


def sentences(data: Path, codes: set[str]) -> dict[str, list[str]]:
    """Real sentences of some languages."""
    found: dict[str, list[str]] = {code: [] for code in codes}
    packed = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(
        (data / "lid-lingua/lid.tsv.zst").open("rb")
    )
    for line in io.TextIOWrapper(packed, "utf-8", newline="\n"):
        code, kind, text = line.rstrip("\n").split("\t", 2)
        if code in codes and kind == "sentences":
            found[code].append(text)
    return found


def paragraphs(lines: list[str], count: int) -> Iterator[str]:
    """Texts of sixteen sentences each."""
    for n in range(count):
        yield "".join(f"<p>{' '.join(lines[16 * n + 4 * m : 16 * n + 4 * m + 4])}</p>\n" for m in range(4))


def miniature(top: Path, crawl: str, pages: list[tuple[str, str, str]]) -> None:
    """A crawl as Common Crawl lays it: pages of (URL, ISO 639-3, HTML of the body) in one archive and one index."""
    warc = f"crawl-data/{crawl}/segments/1736703361941.29/warc/CC-MAIN-00000.warc.gz"
    table = f"cc-index/table/cc-main/warc/crawl={crawl}/subset=warc/part-00000-5c1f.c000.gz.parquet"
    rows, body = [], b""
    for url, language, text in pages:
        html = f"<!doctype html><title>{url}</title><body><article>{text}</article>"
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html.encode()
        both = pair(url, date=DATE, request=b"GET / HTTP/1.1\r\n\r\n", response=answer)
        at = both.index(b"\x1f\x8b\x08", 10)
        rows.append(row_of(url, language) | {"warc_filename": warc, "warc_record_offset": len(body) + at})
        rows[-1]["warc_record_length"] = len(both) - at
        body += both
    rows.sort(key=lambda row: row["url_surtkey"])
    for name in (warc, table):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
    (top / warc).write_bytes(body)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), top / table, compression="gzip")
    listed(top / f"crawl-data/{crawl}/cc-index-table.paths.gz", [table])
    listed(top / f"crawl-data/{crawl}/warc.paths.gz", [warc])


def row_of(url: str, language: str) -> dict[str, Any]:
    host, path = url.split("/", 3)[2:]
    told = {"url_surtkey": f"{surt(host)})/{path}", "url": url, "url_host_name": host, "url_path": f"/{path}"}
    told |= {"url_host_tld": host.rpartition(".")[2], "url_host_registered_domain": ".".join(host.split(".")[-2:])}
    told |= {"url_protocol": "https", "fetch_time": datetime(2026, 11, 21, tzinfo=UTC).replace(tzinfo=None)}
    mime = {"content_mime_type": "text/html", "content_mime_detected": "text/html", "content_charset": "UTF-8"}
    return told | mime | {"fetch_status": 200, "content_languages": language}


@pytest.mark.slow
def test_common_crawl_finds_a_language_and_domains_once(here: Path, data: Path) -> None:
    lines = sentences(data, {"is", "da"})
    icelandic, danish = [*paragraphs(lines["is"], 30)], [*paragraphs(lines["da"], 10)]
    pages = [(f"https://www.heron.is/{n}", "isl", text) for n, text in enumerate(icelandic[:10])]
    pages += [(f"https://www.ruv.is/{n}", "isl", text) for n, text in enumerate(icelandic[10:20])]
    pages += [(f"https://hi.is/{n}", "dan", text) for n, text in enumerate(icelandic[20:])]  # the index may be wrong
    pages += [(f"https://kranich.dk/{n}", "dan", text) for n, text in enumerate(danish)]
    pages += [("https://althingi.is/da", "dan", danish[0])]
    miniature(here / "cc", "CC-MAIN-2025-05", pages)
    sets = [f"CommonCrawl.base={here}/cc/", "CommonCrawl.share=1.0", "Refine.keep.rules=gopher"]
    found = done(load(str(here / "common_crawl.yaml")), here / "root", *sets)
    corpus = dataset(found, "corpus").table().to_pylist()
    few = {row["url"] for row in corpus}
    assert few <= {url for url, _, text in pages if text in icelandic}
    assert len(few) == len(corpus) > 24, "two or three of them no rule of Gopher's lets pass"
    assert {url.split("/")[2] for url in few} == {"www.heron.is", "www.ruv.is", "hi.is"}
    gone = [(row["url"], row["reason"]) for row in dataset(found, "corpus", "dropped").table().to_pylist()]
    assert ("https://althingi.is/da", "language_not_kept") in gone
    assert sum(reason == "exact_duplicate" for _, reason in gone) == 10, "what both questions found is one document"


@pytest.mark.slow
def test_a_language_with_few_pages_and_its_relative(here: Path, data: Path) -> None:
    lines = sentences(data, {"nn", "nb"})
    nynorsk, bokmaal = [*paragraphs(lines["nn"], 40)], [*paragraphs(lines["nb"], 10)]
    winter = [(f"https://heron.no/{n}", "nno", text) for n, text in enumerate(nynorsk[:20])]
    miniature(here / "cc", "CC-MAIN-2025-05", winter)
    spring = [(f"https://heron.no/{n}", "nno", text) for n, text in enumerate(nynorsk[:30]) if n >= 10]
    miniature(here / "cc", "CC-MAIN-2025-18", spring)
    (here / "texts").mkdir()
    for name, texts in (("nynorsk", nynorsk[30:]), ("bokmaal", bokmaal)):
        rows = [{"text": re.sub(r"</?p>", "", text), "url": f"http://{name}.no/{n}"} for n, text in enumerate(texts)]
        (here / "texts" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = [f"CommonCrawl.base={here}/cc/", "Tokenize.vocabulary=600", "Refine.max_loss=1.0"]
    found = done(load(str(here / "low_resource.yaml")), here / "root", *sets, until="Tokenize")
    corpus = dataset(found, "corpus").table().to_pylist()
    assert {row["language"] for row in corpus} == {"nn", "no"}
    assert {row["origin"] for row in corpus} == {"winter", "spring", "texts", "relative"}
    both = [row for row in corpus if row["url"] in {url for url, *_ in winter} & {url for url, *_ in spring}]
    assert both
    assert {row["copies"] for row in both} == {2}
    assert {row["repeats"] for row in both} == {2}, "what stood twice counts twice"
    tokens = dataset(found, "tokenize")
    assert {name for name in tokens.about["origins"]} == {"winter", "spring", "texts", "relative"}


@pytest.mark.slow
def test_a_model_of_theirs_goes_on_with_a_grown_vocabulary(here: Path) -> None:
    general = [toys.prose(n) for n in range(40)]
    base(here / "base", [line for text in general for line in text.split("\n")])
    words = ("photosynthesis", "chlorophyll", "thylakoid", "stomata", "mitochondria", "cytoplasm")
    domain = [
        "\n".join(f"The {words[(n + m) % 6]} of {words[(n * m) % 6]} number {n * m} waits." for m in range(12))
        for n in range(40)
    ]
    (here / "texts").mkdir()
    for name, texts in (("general", general), ("domain", domain)):
        (here / "texts" / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    sets = ["Tokenize.extend=8", "Tokenize.holdout=0.15", "Pretrain.tokens=4000", "Pretrain.length=64"]
    found = done(
        load(str(here / "adaptation.yaml")), here / "root", *sets, "Pretrain.batch=8", "Deduplicate.max_loss=1.0"
    )
    result = dataset(found, "pretrain").about["result"]
    assert result["begun"]["grown"] == 8
    for source in ("domain", "general"):
        assert result["bits_per_byte"][source] < result["bits_per_byte_first"][source]


def base(folder: Path, lines: list[str]) -> None:
    """A BERT as `transformers` saves it, with the vocabulary of some lines."""
    transformers = pytest.importorskip("transformers")
    import torch

    body = tokenizer_json.export(vocabulary.train(iter(lines), size=300, kind="unigram", coverage=0.9995, specials=()))
    torch.manual_seed(1)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    config = transformers.BertConfig(vocab_size=300, pad_token_id=0, max_position_embeddings=512, **sizes)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(body)
