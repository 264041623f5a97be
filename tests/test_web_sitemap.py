"""Sitemaps: the protocol's forms, compression, damage and bombs."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tundish.operators.web.sitemap import ENTRIES, Entry, entries, same_domain, sitemap

NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
PAGES = [f"http://heron.example/{n}" for n in range(5)]
URLSET = (
    f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset {NAMESPACE}>'
    + "".join(f"<url><loc>\n {page}?a=1&amp;b=2 </loc><lastmod>2026-01-01</lastmod></url>" for page in PAGES)
    + "</urlset>"
).encode()
WANTED = [f"{page}?a=1&b=2" for page in PAGES]


@pytest.mark.parametrize(
    "body",
    [
        URLSET,
        gzip.compress(URLSET),
        gzip.compress(gzip.compress(URLSET)),
        b"\xef\xbb\xbf" + URLSET,
        URLSET.replace(NAMESPACE.encode(), b""),
        URLSET.replace(b"UTF-8", b"UTF-16").decode().encode("utf-16"),
        URLSET.replace(
            b"<url>", b"<url><image:image><image:loc>http://heron.example/i.png</image:loc></image:image>"
        ).replace(b"<urlset ", b'<urlset xmlns:image="http://www.google.com/schemas/sitemap-image/1.1" '),
        "\n".join(WANTED).encode(),
        b"\xef\xbb\xbf" + "\r\n".join([*WANTED, "", "not an address"]).encode(),
    ],
    ids=["xml", "gzip", "gzip twice", "bom", "no namespace", "utf-16", "images", "text", "text with bom"],
)
def test_pages(body: bytes) -> None:
    assert sitemap(body) == (WANTED, [])


def test_an_index() -> None:
    body = f"<sitemapindex {NAMESPACE}><sitemap><loc>http://heron.example/s1.xml.gz</loc></sitemap></sitemapindex>".encode()
    assert sitemap(body) == ([], ["http://heron.example/s1.xml.gz"])


@pytest.mark.parametrize(
    "body",
    [
        b"<rss><channel><link>http://heron.example/</link><item><title>x</title><link>http://heron.example/n</link></item></channel></rss>",
        b'<feed xmlns="http://www.w3.org/2005/Atom"><link href="http://heron.example/f"/><entry>'
        b'<link rel="edit" href="http://heron.example/e"/><link href="http://heron.example/n"/></entry></feed>',
    ],
    ids=["rss", "atom"],
)
def test_feeds(body: bytes) -> None:
    assert sitemap(body) == (["http://heron.example/n"], [])


def test_damage_keeps_what_precedes_it() -> None:
    assert sitemap(URLSET[: URLSET.index(b"/3?")])[0][:3] == WANTED[:3]
    assert sitemap(URLSET.replace(b"/2?a=1&amp;b=2 </loc>", b"/2?a=1& <loc>"))[0][:2] == WANTED[:2]
    large = URLSET + b"<!--" + bytes(range(33, 127)) * 3000 + b"-->"
    assert sitemap(gzip.compress(large)[:-30])[0] == WANTED
    assert sitemap(b"<html><body><a href=x>404</a></body></html>") == ([], [])


def test_entities_are_not_resolved_and_bombs_end() -> None:
    laughs = b"<!DOCTYPE u [<!ENTITY a0 'http://heron.example/x'>" + b"".join(
        b"<!ENTITY a%d '%s'>" % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 12)
    )
    body = laughs + b"]><urlset><url><loc>http://heron.example/0</loc></url><url><loc>&a11;</loc></url></urlset>"
    assert sitemap(body)[0] in (["http://heron.example/0"], [])
    outside = b"<!DOCTYPE u [<!ENTITY f SYSTEM 'file:///etc/hostname'>]><urlset><url><loc>http://heron.example/&f;</loc></url></urlset>"
    assert sitemap(outside)[0] in ([], ["http://heron.example/"])
    assert sitemap(gzip.compress(b"<urlset>" + b" " * (60 << 20))) == ([], [])


def test_entries_are_capped_and_distinct() -> None:
    body = (
        b"<urlset>"
        + b"".join(b"<url><loc>http://h.example/%d</loc></url>" % n for n in range(ENTRIES + 100))
        + b"</urlset>"
    )
    assert len(sitemap(body)[0]) == ENTRIES
    assert sitemap(b"<urlset>" + b"<url><loc>http://h.example/</loc></url>" * 9 + b"</urlset>") == (
        ["http://h.example/"],
        [],
    )


@given(st.binary(max_size=200))
def test_any_bytes_give_lists(body: bytes) -> None:
    for start in (b"", b"<", b"\x1f\x8b\x08\0", b"<urlset><url><loc>"):
        pages, further = sitemap(start + body)
        assert isinstance(pages, list)
        assert isinstance(further, list)


RSS = (
    b"<rss><channel><pubDate>Thu, 01 Jan 1970 09:00:00 GMT</pubDate><item><link>http://heron.example/n</link>"
    b"<pubDate>Fri, 02 Jan 1970 00:00:00 GMT</pubDate></item></channel></rss>"
)
ATOM = (
    b'<feed xmlns="http://www.w3.org/2005/Atom"><updated>1970-01-09T00:00:00Z</updated><entry>'
    b"<published>1970-01-01T00:00:00Z</published><updated>1970-01-02T00:00:00Z</updated>"
    b'<link href="http://heron.example/n"/></entry></feed>'
)
DATED = b"<urlset><url><loc>http://heron.example/n</loc><lastmod>1970-01-02T01:00:00+01:00</lastmod></url></urlset>"


@pytest.mark.parametrize("body", [RSS, ATOM, DATED], ids=["rss", "atom", "urlset"])
def test_dates_are_those_of_the_entry(body: bytes) -> None:
    assert entries(body) == ([Entry("http://heron.example/n", 86_400.0)], [])


def test_dates_of_further_sitemaps_and_of_addresses_named_twice() -> None:
    index = b"<sitemapindex><sitemap><loc>http://heron.example/s</loc><lastmod>1970-01-02</lastmod></sitemap></sitemapindex>"
    assert entries(index) == ([], [Entry("http://heron.example/s", 86_400.0)])
    body = b"".join(
        b"<url><loc>http://heron.example/n</loc><lastmod>%s</lastmod></url>" % date
        for date in (b"1970-01-02", b"1970-01-03", b"1970-01-01", b"soon")
    )
    assert entries(b"<urlset>" + body + b"</urlset>") == ([Entry("http://heron.example/n", 172_800.0)], [])
    assert entries(b"http://heron.example/n\n") == ([Entry("http://heron.example/n", None)], [])


@pytest.mark.parametrize(
    "body",
    [
        URLSET.replace(b"UTF-8", b"UTF-16"),
        URLSET.replace(b"UTF-8", b"no-such-encoding"),
        URLSET.replace(b"UTF-8", b"UTF-16").replace(b"<urlset", b"<!-- \xe9 --><urlset"),
        URLSET.replace(b"</loc>", b"</loc><video>\x01\xe9&nbsp;</video>"),
    ],
    ids=["utf-8 as utf-16", "unknown", "neither", "stray bytes and entities"],
)
def test_a_wrong_encoding_loses_no_address(body: bytes) -> None:
    assert sitemap(body)[0] == WANTED


def test_a_text_list_in_utf_16_and_with_any_line_end() -> None:
    assert sitemap("\r".join(WANTED).encode("utf-16"))[0] == WANTED


def test_entities_in_attributes_do_not_blow_up() -> None:
    head = b"<!DOCTYPE f [<!ENTITY a '" + b"x" * 50_000 + b"'>]>"
    entry = b"<entry><link href='http://heron.example/1'/></entry>"
    body = (
        head + b"<feed>" + entry + b"<entry><link href='http://heron.example/" + b"&a;" * 50_000 + b"'/></entry></feed>"
    )
    assert sitemap(body)[0] in (["http://heron.example/1"], [])


def test_deep_nesting_ends_the_file_and_nothing_else() -> None:
    body = b"<urlset><url><loc>http://heron.example/1</loc></url>" + b"<a>" * 100_000
    assert sitemap(body)[0] == ["http://heron.example/1"]


def test_only_the_domain_of_the_sitemap_is_its_business() -> None:
    given_entries = [
        Entry(f"http://{host}/x") for host in ("heron.example", "news.heron.example", "kranich.test", "heron.test")
    ]
    kept = same_domain(given_entries, "http://www.heron.example/sitemap.xml")
    assert [entry.url for entry in kept] == ["http://heron.example/x", "http://news.heron.example/x"]


BARE = b"<urlset><url><loc>http://heron.example/?a=1&b=2</loc></url><url><loc>http://heron.example/?c=1&amp;d=2</loc></url>"


def test_a_bare_ampersand_costs_no_address_its_own() -> None:
    """libxml2 goes on behind such an error, and drops every `&amp;` from there on."""
    assert sitemap(BARE + b"</urlset>")[0] == ["http://heron.example/?a=1&b=2", "http://heron.example/?c=1&d=2"]


@pytest.mark.parametrize(
    "inside",
    [
        b"<loc><![CDATA[ http://heron.example/n?a=1&b=2 ]]></loc>",
        b"<loc>http://heron.example/n?a=1&amp;b=2</loc><loc2>x</loc2>",
        b"<v></w></v><loc>http://heron.example/n?a=1&#38;b=2</loc>",
        b"<!-- <loc>http://heron.example/no</loc> --><loc>http://heron.example/n?a=1&b=2",
        b"<image><loc>http://heron.example/no</loc></image><LOC lang='a'>http://heron.example/n?a=1&amp;b=2</LOC>",
        b"<image:loc>http://heron.example/no</image:loc><loc>http://heron.example/n?a=1&amp;b=2</loc>",
    ],
)
def test_spellings_of_an_entry(inside: bytes) -> None:
    assert sitemap(b"<urlset><url>" + inside + b"</url></urlset>")[0] == ["http://heron.example/n?a=1&b=2"]


def test_a_prefix_for_the_protocol_itself() -> None:
    body = (
        b"<s:urlset xmlns:s='x'><s:url><s:loc>http://heron.example/n</s:loc><loc>http://heron.example/no</loc></s:url>"
    )
    assert sitemap(body)[0] == ["http://heron.example/n"]


def test_what_an_atom_entry_quotes_is_not_its_own() -> None:
    body = (
        b"<feed><entry><source><link href='http://heron.example/no'/><updated>1999-01-01</updated></source>"
        b"<link rel='self' href='http://heron.example/no'/><link href='http://heron.example/n?a=1&amp;b=2'/></entry></feed>"
    )
    assert entries(body) == ([Entry("http://heron.example/n?a=1&b=2", None)], [])


@pytest.mark.parametrize(
    "piece", [b"<a ", b"<link ", b"<url>", b"<url><loc>", b"<!--", b"<![CDATA[", b"</a>", b"<url><loc>&"]
)
def test_heaps_of_markup_take_linear_time(piece: bytes) -> None:
    for end in (b"", b">"):
        assert sitemap(b"<item><x>" + piece * 200_000 + end)[0] == []
