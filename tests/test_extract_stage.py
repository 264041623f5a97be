"""Extract as a stage: documents, what is dropped, what pages say of themselves; hostile pages cost themselves."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset
from tundish.cluster.shards import opened as opened_dataset
from tundish.operators.web.opt_outs import BETWEEN
from tundish.operators.web.warc_write import OPT_OUTS, Fetch, member, pair, records
from tundish.stages.extract import Extract, Health
from tundish.stages.extract_page import Dropped, Extraction
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
    assert 0 < pages[0]["expected"] <= 1


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
    slow = "<div>" + "<div><p>x y z words of it</p></div>" * 4_900
    answers = [answer(page.encode()) for page in (GOOD.format(n=0), slow, GOOD.format(n=2), slow, GOOD.format(n=4))]
    documents, dropped, pages = extracted(tmp_path, archive(tmp_path, answers), how="best", seconds=0.25)
    assert [d["url"][-1] for d in documents] == ["0", "2", "4"]
    assert [(d["url"][-1], d["reason"]) for d in dropped] == [("1", "extract_timeout"), ("3", "extract_timeout")]
    assert len(pages) == 3


NEST = 700
HOSTILE = {
    "authors in authors": '<script type="application/ld+json">{"@type": "Article", "author": '
    + "[" * NEST + '"x"' + "]" * NEST + "}</script>",
    "names in names": '<script type="application/ld+json">{"@type": "Article", "author": '
    + '{"name": ' * NEST + '"x"' + "}" * NEST + "}</script>",
    "a number of 5,000 digits": "<title>&#" + "1" * 5000 + ";</title><p>&#" + "1" * 5000 + "; words of a page",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_that_once_ended_the_run_is_read(name: str) -> None:
    body = (HOSTILE[name] + GOOD.format(n=0)).encode()
    for how in ("fast", "best"):
        for form in ("text", "markdown"):
            made = Extraction(how, form, True)(capture(body))
            assert isinstance(made, dict), made
            assert "the sea comes twice a day" in made["text"]


def capture(body: bytes, **more: Any) -> dict[str, Any]:
    return {
        "url": "http://heron.example/0", "date": DATE, "status": 200, "mime": "text/html", "truncated": False,
        "headers": json.dumps({"content-type": "text/html; charset=utf-8"}), "opted": None, "damage": None,
        "payload": body, "source": "a.warc.gz:0", **more,
    }  # fmt: skip


PIECES = st.sampled_from(
    ["<svg>", "</svg>", "<title>", "<title/>", "<style/>", "<math>", "<table>", "<td colspan=99>", "<tr>", "<li>",
     "<p>", "<a rel=author href=/x>", "<a rel=license href=//>", "</a>", "<base href='http://['>", "\0", "\x1e",
     "<link rel=canonical href=[>",
     "<html lang=\ud800>", "<meta name=author content='&#xD800;'>", "<meta name=date content=2024-99-99>", "<pre>",
     "<meta charset=utf-7>", "<meta name=robots content='unavailable_after: 99999-99-99'>", "<time pubdate datetime=x>",
     '<script type="application/ld+json">', '{"@type": "Article", "author": ', '{"@id": "#a", "name": ', "[" * 300,
     '"articleBody": "x\\ud800', "</script>", "<![CDATA[", "]]>", "&#" + "9" * 4400, ";", "&#xFFFFFFFFFFF;",
     "\x1f", "\ufeff", "words of a page ", "<plaintext>", "<template>", "<" * 40, "<!--", "-->", "\u2028"],
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=25), st.sampled_from(["text", "markdown"]), st.binary(max_size=8))
def test_no_page_raises(pieces: list[str], form: str, tail: bytes) -> None:
    """Nothing that strangers write is an `extract_error`, and what comes of it is a row."""
    made = Extraction("fast", form, True)(capture("".join(pieces).encode("utf-8", "surrogatepass") + tail))
    if isinstance(made, Dropped):
        assert made.reason in ("no_text", "empty", "noindex", "undecodable"), made
    else:
        pa.Table.from_pylist([made])


def test_an_error_nobody_foresaw_is_the_page_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("nobody\nforesaw \ud800 it")

    monkeypatch.setattr("tundish.operators.web.html.extract", fail)
    assert Extraction("fast", "text", False)(capture(b"<p>x")) == Dropped(
        "extract_error", "KeyError: 'nobody\\nforesaw \\ud800 it'"
    )
    monkeypatch.setattr("tundish.operators.web.html.extract", lambda *_, **__: bytearray(1 << 60))
    with pytest.raises(MemoryError):  # the process's, and killable's to tell
        Extraction("fast", "text", False)(capture(b"<p>x"))


def test_a_fault_that_hits_all_pages_is_no_page_s() -> None:
    error, refused, page = Dropped("extract_error", "KeyError: 'x'"), Dropped("not_text", "image/png"), {"text": "x"}
    with pytest.raises(RuntimeError, match=r"20 of the first 20 pages .* the last one, http://a/: KeyError: 'x'"):
        hear([refused] * 50 + [error] * 20)
    hear([error] * 19 + [page] + [error] * 100)
    with pytest.raises(RuntimeError, match="101 of the first 200 pages"):
        hear([page] * 99 + [error] * 101)
    hear([page] * 100 + [error] * 99 + [page])


def hear(answers: list[Any]) -> None:
    health = Health()
    for answer in answers:
        health.heard("http://a/", answer)


@pytest.mark.parametrize(
    ("mime", "body", "reason"),
    [
        ("", b" \n<!DOCTYPE html><p>Words of a page.", None),
        ("", b"\xef\xbb\xbf<?xml version='1.0'?>\n<html ><p>Words of a page.", None),
        ("unknown/unknown", b"<!-- x --><p>Words of a page.", None),
        ("", b"Words of no page.", "not_text"),
        ("", b"<paragraph>Words", "not_text"),
        ("application/octet-stream", b"<html><p>Words of a page.", "not_text"),
    ],
)
def test_a_page_without_a_type_is_known_by_how_it_begins(mime: str, body: bytes, reason: str | None) -> None:
    made = Extraction("fast", "text", False)(capture(body, mime=mime, headers="{}"))
    assert (made.reason if isinstance(made, Dropped) else None) == reason
    assert reason or made["mime"] == "text/html"


def test_addresses_of_a_page_are_resolved_against_its_base() -> None:
    page = "<base href=/deep/sub/><link rel=canonical href=c.html>" + GOOD.format(n=0).replace("/harbour", "x.html")
    made = Extraction("fast", "text", True)(capture(page.encode()))
    assert made["canonical"] == "http://heron.example/deep/sub/c.html"
    assert made["links"][0]["url"] == "http://heron.example/deep/sub/x.html"


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
