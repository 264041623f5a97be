"""Extract as a stage: documents, what is dropped, what pages say of themselves; hostile pages cost themselves."""

import json
from pathlib import Path
from typing import Any

import pytest

from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset
from tundish.cluster.shards import opened as opened_dataset
from tundish.operators.web.opt_outs import BETWEEN
from tundish.operators.web.warc_write import OPT_OUTS, Fetch, member, pair, records
from tundish.stages.extract import Extract
from tundish.stages.extract_page import Extraction
from tundish.stages.ingest import Ingest
from tundish.stages.stage import Place

DATE = "2026-11-21T09:30:00Z"
ASKED = b"GET / HTTP/1.1\r\nHost: heron.example\r\n\r\n"
GOOD = (
    "<title>Tide {n}</title><meta name=author content=Imke><html lang=en><article>"
    + "".join(
        f"<p>Paragraph {n} says that the sea comes twice a day, that the <a href=/harbour>port</a> waits for it.</p>"
        for n in range(4)
    )
    + "</article>"
)


def answer(body: bytes, *headers: str, mime: str = "text/html; charset=utf-8") -> bytes:
    head = "\r\n".join(["HTTP/1.1 200 OK", f"Content-Type: {mime}", *headers])
    return head.encode() + b"\r\n\r\n" + body


def archive(folder: Path, answers: list[bytes]) -> Ingest:
    file = folder / "pages.warc.gz"
    urls = [f"http://heron.example/{n}" for n in range(len(answers))]
    file.write_bytes(
        b"".join(pair(url, date=DATE, request=ASKED, response=one) for url, one in zip(urls, answers, strict=True))
    )
    return Ingest((str(file),))


def extracted(folder: Path, ingest: Ingest, **fields: Any) -> tuple[list[dict], list[dict], list[dict]]:
    """(documents, dropped, pages)"""
    stage = Extract(ingest, **fields)
    captured = ingest.run(Local(1), {}, Place(str(folder / "in"), "key"))
    made = stage.run(Local(1), {"archives": captured}, Place(str(folder / "out"), "key"))
    inside = [opened_dataset(str(folder / "out" / name)) for name in ("dropped", "pages")]
    return tuple(rows(one) for one in (made, *inside))


def rows(dataset: Dataset) -> list[dict]:
    return [row for shard in dataset.shards for row in dataset.read(shard.name).to_pylist()]


def test_documents_and_what_pages_say_of_themselves(tmp_path: Path) -> None:
    licensed = GOOD.format(n=1) + "<a rel=license href=https://creativecommons.org/licenses/by-sa/4.0/>CC</a>"
    answers = [
        answer(GOOD.format(n=0).encode(), "TDM-Reservation: 1", "Content-Language: de"),
        answer(licensed.encode()),
        answer(b"Plain  words, as they are.\r\n", mime="text/plain"),
        answer(GOOD.format(n=3).encode(), "X-Robots-Tag: noindex"),
        answer(b"<meta name=robots content='none'>" + GOOD.format(n=4).encode()),
        answer(b"<meta name=robots content='unavailable_after: 2020-01-01'>" + GOOD.format(n=5).encode()),
        answer(b"\x89PNG", mime="image/png"),
        answer(b"<script>x</script>"),
    ]
    documents, dropped, pages = extracted(tmp_path, archive(tmp_path, answers), links=True)
    assert [d["url"][-1] for d in documents] == ["0", "1", "2"]
    assert [(d["url"][-1], d["reason"]) for d in dropped] == [
        ("3", "noindex"), ("4", "noindex"), ("5", "noindex"), ("6", "not_text"), ("7", "no_text"),
    ]  # fmt: skip
    assert [d["how"] for d in documents] == ["first", "first", "plain"]
    assert documents[0]["opt_outs"] == ["tdm-reservation (header)"]
    assert documents[2]["text"] == "Plain  words, as they are."
    assert documents[2]["repairs"] == ["line_endings"]
    assert [p["id"] for p in pages] == [d["id"] for d in documents]
    assert (pages[0]["author"], pages[0]["said_language"]) == ("Imke", "en")
    assert pages[1]["licence"] == "https://creativecommons.org/licenses/by-sa/4.0/"
    assert pages[0]["links"][0] == {"url": "http://heron.example/harbour", "text": "port"}
    assert pages[2]["links"] == []
    assert 0 < pages[0]["expected"] <= 1.1


def test_what_the_site_said_of_its_use_reaches_the_document(tmp_path: Path) -> None:
    site = BETWEEN.join(["ai-train=no (robots.txt)", "disallow gptbot (robots.txt)"])
    fetch = Fetch("http://heron.example/0", DATE, ASKED, answer(GOOD.encode()), more={OPT_OUTS: site})
    file = tmp_path / "pages.warc.gz"
    file.write_bytes(b"".join(member(one) for one in records(fetch)[:2]))
    [document], _, _ = extracted(tmp_path, Ingest((str(file),)))
    assert document["opt_outs"] == site.split(BETWEEN)


def test_markdown_on_request(tmp_path: Path) -> None:
    items = "".join(f"<li>Item {n} of the list says when the harbour is open, and for whom it is." for n in range(3))
    page = GOOD.format(n=0).replace("</article>", "") + f"<ul>{items}</ul></article>"
    [document], _, _ = extracted(tmp_path, archive(tmp_path, [answer(page.encode())]), format="markdown")
    assert "waits for it.\n\nParagraph 1" in document["text"]
    assert "\n\n- Item 0 of the list" in document["text"]
    assert "for whom it is.\n- Item 2" in document["text"]


def test_a_page_that_takes_too_long_or_too_much_costs_itself(tmp_path: Path) -> None:
    """Flat markup passes every count, and is read by trafilatura for seconds."""
    slow = "<div>" + "<p>x <b>y</b> z</p>" * 4_900
    answers = [answer(page.encode()) for page in (GOOD.format(n=0), slow, GOOD.format(n=2), slow, GOOD.format(n=4))]
    documents, dropped, pages = extracted(tmp_path, archive(tmp_path, answers), how="best", seconds=0.25)
    assert [d["url"][-1] for d in documents] == ["0", "2", "4"]
    assert [(d["url"][-1], d["reason"]) for d in dropped] == [("1", "extract_timeout"), ("3", "extract_timeout")]
    assert len(pages) == 3


def test_a_page_that_eats_memory_costs_itself(tmp_path: Path) -> None:
    """Its 95,000 blocks take a kilobyte each."""
    large = "<p>word</p>" * 95_000
    answers = [answer(page.encode()) for page in (GOOD.format(n=0), large, GOOD.format(n=2))]
    documents, dropped, _ = extracted(tmp_path, archive(tmp_path, answers), how="fast", memory=64 << 20)
    assert [d["url"][-1] for d in documents] == ["0", "2"]
    assert [d["reason"] for d in dropped] == ["extract_memory"]


def test_a_process_of_its_own_changes_nothing(tmp_path: Path) -> None:
    """The same rows as the function gives here."""
    ingest = archive(tmp_path, [answer(GOOD.format(n=n).encode()) for n in range(3)])
    documents, _, _ = extracted(tmp_path, ingest)
    work = Extraction("cascade", "text", False)
    for n, document in enumerate(documents):
        capture = {
            "url": f"http://heron.example/{n}", "date": DATE, "status": 200, "mime": "text/html", "truncated": False,
            "headers": json.dumps({"content-type": "text/html; charset=utf-8"}), "opted": None, "damage": None,
            "payload": GOOD.format(n=n).encode(), "source": document["source"],
        }  # fmt: skip
        here = work(capture)
        assert {name: document[name] for name in ("content_digest", "url", "text", "title", "how")} == {
            name: here[name] for name in ("content_digest", "url", "text", "title", "how")
        }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"how": "fastest"}, "did you mean 'fast'"),
        ({"format": "html"}, "format"),
        ({"seconds": 0.0}, "give between 0.1 and 3600"),
        ({"memory": 1000}, "at least 67108864"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Extract(Ingest(("a.warc.gz",)), **fields)
