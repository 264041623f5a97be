"""URLs: one spelling, hosts and domains, traps. The web platform's vectors are in test_truth_url.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tundish.operators.web import urls


@pytest.mark.parametrize(
    ("given_url", "wanted"),
    [
        ("HTTP://Heron.Example:80/a/../b#top", "http://heron.example/b"),
        ("https://user:pw@heron.example./", "https://heron.example/"),
        ("http://heron.example./x", "http://heron.example/x"),
        ("http://heron.example.:81/x", "http://heron.example:81/x"),
        ("http://heron.example/?utm_source=a&UTM_Medium=b&q=1&gclid=2", "http://heron.example/?q=1"),
        ("http://heron.example/?fbclid=x", "http://heron.example/"),
        ("http://heron.example/?mtm_campaign=a&id=7&gad_source=1&pk_campaign=b", "http://heron.example/?id=7"),
        ("http://heron.example/?pk=7&source=a&gclid2=b", "http://heron.example/?pk=7&source=a&gclid2=b"),
        ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/"),
        ("http://XN--80AK6AA92E.com/", "http://xn--80ak6aa92e.com/"),
        ("http://heron.example/?", "http://heron.example/"),
        ("http://heron.example/a;jsessionid=0A1B?b=1", "http://heron.example/a?b=1"),
        ("http://heron.example/?b=2&a=1&b=%7e", "http://heron.example/?b=2&a=1&b=%7e"),
        ("http://heron.example/?sid=7", "http://heron.example/?sid=7"),
        ("http://heron.example/?sid=0123456789abcdef0123456789abcdef", "http://heron.example/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http:\\\\heron.example\\a", "http://heron.example/a"),
    ],
)
def test_one_spelling(given_url: str, wanted: str) -> None:
    assert urls.canonical(given_url) == wanted


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("mailto:a@heron.example", "not http"),
        ("/relative", "no URL"),
        ("http://", "no URL"),
        ("http://%2e/", "no host"),
        ("http://a..example/", "no host"),
        ("http://heron.example/\ud800", "no URL"),
        ("http://heron.example/" + "a" * 2100, "2121 bytes"),
        ("http://heron.example/" + "a" * 10_000, "10021 characters"),
        ("http://[::1/", "no URL"),
        ("http://a.xn--pokxncvks/", "punycode"),
        ("http://xn--.example:80/", "punycode"),
    ],
)
def test_what_it_refuses(bad: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        urls.canonical(bad)


PIECES = st.lists(st.sampled_from([*"aB:/?#&=;.@%+[]\\ \t~é漢", "utm_x=1", "%41", "..", "sid="]), max_size=12).map(
    "".join
)


@given(PIECES, PIECES, PIECES)
def test_a_canonical_url_is_its_own(host: str, path: str, query: str) -> None:
    try:
        found = urls.canonical(f"http://h{host}.example/{path}?{query}")
    except ValueError:
        return
    assert urls.canonical(found) == found
    assert found.isascii()
    assert "#" not in found
    assert urls.host(found)
    assert urls.authority(found).rpartition(":")[2].isdigit()


@given(st.text(max_size=40))
def test_any_string_gives_a_url_or_a_value_error(text: str) -> None:
    try:
        found = urls.canonical(text, "http://heron.example/a/b")
    except ValueError:
        return
    assert found.startswith(("http://", "https://"))


@pytest.mark.parametrize(
    ("url", "host", "authority"),
    [
        ("http://heron.example/", "heron.example", "heron.example:80"),
        ("https://Heron.example:443/x", "heron.example", "heron.example:443"),
        ("https://heron.example:8443/x", "heron.example", "heron.example:8443"),
        ("http://[::1]/", "[::1]", "[::1]:80"),
    ],
)
def test_host_and_authority(url: str, host: str, authority: str) -> None:
    assert (urls.host(url), urls.authority(url)) == (host, authority)


def test_host_refuses_what_is_no_url() -> None:
    with pytest.raises(ValueError, match="no URL"):
        urls.host("heron")


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.bbc.co.uk", "bbc.co.uk"),
        ("heron.example", "heron.example"),
        ("blog.kingfisher.example", "kingfisher.example"),
        ("shop.kingfisher.example", "kingfisher.example"),
        ("www.setun.invalid", "setun.invalid"),
        ("localhost", "localhost"),
        ("co.uk", "co.uk"),
        ("192.168.1.10", "192.168.1.10"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("a.b.xn--55qx5d.cn", "b.xn--55qx5d.cn"),
        ("WWW.Heron.COM.", "heron.com"),
    ],
)
def test_registrable(host: str, domain: str) -> None:
    assert urls.registrable(host) == domain


def test_keys_are_64_bit_and_differ() -> None:
    keys = {urls.key(f"http://heron.example/{n}") for n in range(10_000)}
    assert len(keys) == 10_000
    assert max(keys) < 2**64
    assert urls.key("http://heron.example/") == 9837540073715564223


TRAPS = [
    # a trap, and a good address of the same kind
    ("archive/older/older/older/", "archive/older/older/", "repeated_segment"),
    ("1/1/1/1/1/", "1/1/1/1/a.html", "repeated_segment"),
    ("a/b/a/b/", "a/b/a/", "repeated_path"),
    ("x/en/docs/api/en/docs/api/y", "en/docs/api/fr/docs/api/y", "repeated_path"),
    ("x/http:/k.test/a/http:/k.test/a", "2024/05/2024/05/a-heron", "repeated_path"),
    ("/".join(map(str, range(21))), "/".join(map(str, range(20))), "segments"),
    ("?" + "&".join(f"p{n}=1" for n in range(9)), "?" + "&".join(f"p{n}=1" for n in range(8)), "parameters"),
    ("?f=red&f=red&f=red", "?f=red&f=blue&f=red", "repeated_parameter"),
    ("(S(lit3py55t21z5v55vlm25s55))/home.aspx", "wiki/Heron_(bird)", "session"),
    ("(A(abcdefghij0123456789)S(abcdefghij0123456789))/x", "wiki/S(A)", "session"),
    ("sid/0123456789abcdef0123456789abcdef/x", "session/12/keynote", "session"),
    ("forum/view?t=7&PHPSESSID=a1b2c3d4e5f6a7b8c9d0", "?sid=20041", "session"),
    ("events/2031-05/", "events/2027-05/", "calendar"),
    ("calendar?year=2040&month=5", "report?year=2040", "calendar"),
    ("kalender/20310507", "news/test-des-c42-20310507", "calendar"),
    ("2031/05/", "2026/05/a-heron/", "calendar"),
    ("?date=2031-05-01", "agenda-2030/", "calendar"),
    ("cal/1975/03/", "papers/sn83030214/1898-02-16/ed-1/", "calendar"),
    ("month/2029-01", "parts/2030-05-12-b", "calendar"),
]


@pytest.mark.parametrize(("bad", "good", "reason"), TRAPS)
def test_a_trap_is_seen_and_what_looks_like_one_is_not(bad: str, good: str, reason: str) -> None:
    assert urls.trap(f"http://heron.example/{bad}", 2026) == reason
    assert urls.trap(f"http://heron.example/{good}", 2026) is None


def test_without_a_year_no_date_is_too_late() -> None:
    assert urls.trap("http://heron.example/events/2031-05/") is None
    assert urls.trap("http://heron.example/events/1931-05/") == "calendar"
    assert urls.trap("http://heron.example") is None


@given(st.text("ab/0129-?&=()S%", max_size=60), st.integers(1990, 2100))
def test_any_address_has_a_verdict(rest: str, year: int) -> None:
    found = urls.trap(f"http://heron.example/{rest}", year)
    assert found is None or found.isidentifier()
