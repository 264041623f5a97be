"""URLs against the truth: the web platform's 873 vectors, and real addresses that are no traps."""

import json
from collections.abc import Iterator
from pathlib import Path

import zstandard

from tundish.operators.web import urls
from tundish.operators.web.traps import trap

YEAR = 2026
REAL = {
    "site-httpd/crawl-truth.jsonl.zst": 6406,
    "site-httpd/redirects.jsonl.zst": 18_878,
    "web-wcxb/gold.jsonl.zst": 1023,
    "web-trafilatura/gold.jsonl.zst": 531,
    "web-magic-html/gold.jsonl.zst": 151,
}


def vectors(data: Path) -> list[dict[str, str]]:
    return [c for c in json.loads((data / "url" / "urltestdata.json").read_text()) if isinstance(c, dict)]


def spelt(case: dict[str, str]) -> str | None:
    try:
        return urls.href(case["input"], case.get("base") or None)
    except ValueError:
        return None


def test_every_vector_of_the_web_platform(data: Path) -> None:
    cases = vectors(data)
    assert len(cases) == 873
    assert [case for case in cases if spelt(case) != (None if case.get("failure") else case["href"])] == []


def test_what_has_a_canonical_spelling_is_what_a_browser_reads(data: Path) -> None:
    """Beside our own policy (no fragment, user, final dot or empty query, http and https alone) nothing is changed."""
    kept = refused = 0
    for case in vectors(data):
        nowhere = case.get("host", "").startswith(".") or ".." in case.get("host", "")
        try:
            found = urls.canonical(case["input"], case.get("base") or None)
        except ValueError:
            assert case.get("failure") or case["protocol"] not in urls.PORTS or nowhere, case
            refused += 1
            continue
        host = case["host"].replace(".:", ":").removesuffix(".")
        query = case["search"] if case["search"] != "?" else ""
        assert found == f"{case['protocol']}//{host}{case['pathname']}{query}"
        assert urls.canonical(found) == found
        kept += 1
    assert (kept + refused, refused > 350) == (873, True)


def addresses(path: Path) -> Iterator[str]:
    raw = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(path.open("rb")).read()
    for line in raw.decode().split("\n"):
        if line and (url := json.loads(line).get("url")):
            yield urls.canonical(url, "http://heron.example/")


def test_no_real_address_is_a_trap(data: Path) -> None:
    seen = {name: [(url, trap(url, YEAR)) for url in addresses(data / name)] for name in REAL}
    assert {name: len(found) for name, found in seen.items()} == REAL
    assert [found for one in seen.values() for found in one if found[1]] == []
