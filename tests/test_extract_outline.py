"""The outline of a page, its blocks as text and Markdown, and what it says of itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tundish.operators.web.blocks import LINKED, WORDS, Blocks
from tundish.operators.web.elements import NAMES
from tundish.operators.web.html import extract
from tundish.operators.web.markdown import markdown_of
from tundish.operators.web.metadata import licence, metadata
from tundish.operators.web.outline import DEPTH, Outline, outline
from tundish.operators.web.render import text_of


def whole(page: str, form: str = "text") -> str:
    """All blocks of a page, written."""
    raw = page.encode()
    blocks = Blocks(outline(raw))
    return (markdown_of if form == "markdown" else text_of)(blocks, np.ones(len(blocks), bool), raw)


def drawn(made: Outline) -> str:
    """Elements as nested brackets."""
    children: dict[int, list[int]] = {}
    for one, parent in enumerate(made.parents.tolist()):
        children.setdefault(parent, []).append(one)

    def draw(one: int) -> str:
        inside = " ".join(draw(child) for child in children.get(one, []))
        return NAMES[made.tags[one]] + (f"({inside})" if inside else "")

    return draw(0)


@pytest.mark.parametrize(
    ("page", "tree"),
    [
        ("<p>a<p>b", "html(p p)"),
        ("<ul><li>a<li>b<ul><li>c</ul><li>d</ul>", "html(ul(li li(ul(li)) li))"),
        ("<table><tr><td>a<td>b<tr><td>c</table>d", "html(table(tr(td td) tr(td)))"),
        ("<dl><dt>a<dd>b<dt>c</dl>", "html(dl(dt dd dt))"),
        ("<p>a<b>b<div>c</div>", "html(p(b) div)"),
        ("<b><p>x</b>y</p>z", "html(b(p))"),
        ("<a href=1>x<a href=2>y", "html(a a)"),
        ("<div></span></div><p>", "html(div p)"),
        ("<td>x</div></td>", "html(td)"),
        ("<div><table><td></div>x</table></div><p>", "html(div(table(td)) p)"),
        ("<head><title>t</title><p>x", "html(head(title) p)"),
        ("<head><link rel=x>text<p>", "html(head(link) p)"),
        ("<script><p></script><p>", "html(script p)"),
        ("<SCRIPT></scripty></Script ><p>", "html(script p)"),
        ("<textarea><p></textarea><p>", "html(textarea p)"),
        ("<!-- <p> --><p><!--> <b><!x><?y>", "html(p(b))"),
        ("<svg><path/><path/></svg><p>", "html(svg( ) p)"),
        ("<svg><style/><p>x", "html(svg p)"),
        ("<svg><a><table>", "html(svg table)"),
        ("<svg><title><p></title></svg><title>x</title>", "html(svg(title(p)) title)"),
        ("<img><input><br><p>", "html(img input p)"),
        ("<p title='>' data-x=\"<b>\">x", "html(p)"),
        ("<p <b>x", "html(p)"),
        ("a < b <3 </ x> <p", "html"),
        ("</p></div></x>", "html"),
    ],
)
def test_elements_nest_as_in_a_browser(page: str, tree: str) -> None:
    assert drawn(outline(page.encode())) == tree


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>one <b>two</b>three<p>four", "one twothree\nfour"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<b>one</b><i>two</i>", "one two"),
        ("&lt;p&gt; &amp; &#233; &nbsp;x", "<p> & é x"),
        ("<table><tr><td>a<td>b<tr><td>c</table>", "a | b\nc"),
        ("<table><tr><td><p>a<p>b<td>c</table>", "a\nb\nc"),
        ("<table><tr><td>nav<td><h1>T</h1><p>a<p>b</table>", "nav\nT\na\nb"),
        (f"<table><tr><td>a<td>{'long ' * 50}</table>", "a\n" + ("long " * 50).strip()),
        ("<table><tr><td>a<table><tr><td>x<td>y</table>after<td>b</table>", "a\nx | y\nafter\nb"),
        ("<table><tr><td>a<td><td>b<br>c</table>", "a | b c"),
        ("<p>x</p><script>no</script><style>no</style><template><p>no</template><select><option>no</select>y", "x\ny"),
        ("<body><noscript><p>shown</noscript>", "shown"),
        ("<head><noscript><p>no</noscript></head><p>x", "x"),
        ("<pre>a\n  b\n</pre>", "a\n  b"),
        ("<p>  many \n\t blanks  </p>", "many blanks"),
        ("x" * 5, "xxxxx"),
        ("", ""),
        ("<p>東京<b>タワー</b>です</p>", "東京タワーです"),
        ("<p>a&#" + "1" * 5000 + ";b &#0000000000065;", "a\ufffdb A"),
        ("<p>a</p><svg><title>icon</title><desc>Created with Sketch.</desc><text>no</text></svg><p>b</p>", "a\nb"),
        ("<p>a</p><svg><title/><style/><script href='a.js'/><path/></svg><p>b</p>", "a\nb"),
        ("<p>a</p><svg><style>a > b {}</style><script>x</script></svg><p>b</p>", "a\nb"),
        ("<p>a</p><svg><style><![CDATA[ a > b <p>x ]]></style></svg><p>b</p>", "a\nb"),
        ("<svg><foreignObject><p>no</p><style/></style></foreignObject></svg><p>x", "x"),
        ("<math><mtext><b>no</b></mtext><annotation-xml><p>no</p></annotation-xml></math>x", "x"),
        ("<svg><svg><g><p>b</p>c", "b\nc"),
        ("<span><svg><g></span>x", "x"),
        ("<svg><g></p>x", "x"),
        ("a < b and c<d", "a < b and c"),
    ],
)
def test_text_of_all_blocks(page: str, text: str) -> None:
    assert whole(page) == text


def test_words_and_links_are_counted() -> None:
    blocks = Blocks(outline("<p>one 2 &amp; <a href=x>three four</a><p>東京都".encode()))
    assert blocks.counts[WORDS].tolist() == [4, 1]  # two characters are a word
    assert blocks.counts[LINKED].tolist() == [2, 0]


@pytest.mark.parametrize(
    "unit", ["<div>", "<b><i>", "<ul><li>", "<table><td>", "<svg>", "<a href=x>", "</p>", "<x-y>", "<"]
)
def test_a_megabyte_of_anything_is_outlined(unit: str) -> None:
    made = outline(unit.encode() * (1_000_000 // len(unit)) + b"text")
    assert made.deepest <= DEPTH
    assert made.pieces.shape[1] >= 1 or unit == "<svg>"


@given(st.text(st.sampled_from("<>/=!-'\"a bp&;#\n\u00e9\u6771"), max_size=80))
def test_any_text_has_an_outline(page: str) -> None:
    raw = page.encode()
    made = outline(raw)
    assert all(0 <= a < b <= len(raw) for a, b in made.pieces[:2].T.tolist())
    assert all(parent < one for one, parent in enumerate(made.parents.tolist()))
    assert (made.spans[0] <= made.spans[1]).all()
    whole(page, "markdown")
    metadata(made, raw)


@given(st.binary(max_size=120))
def test_no_attribute_reaches_beyond_the_page(tail: bytes) -> None:
    raw = ("<div class='" + tail.decode("utf-8", "replace")).encode()
    made = outline(raw)
    assert (made.owners < len(made.tags)).all()


HEAD = """<html lang="de-AT"><head><title> Das  Wetter </title><meta name="author" content="Imke Reiher">
<meta property="og:site_name" content="Wattpost"><link rel="canonical" href="/wetter">
<meta property="article:published_time" content="2026-03-04T05:06Z"><meta name="robots" content="noai">
</head><body><p>Text</p><footer><a rel="license" href="http://creativecommons.org/licenses/by/4.0/deed.de">CC</a>"""


def told(page: str, **more: str) -> dict[str, object]:
    raw = page.encode()
    return {name: value for name, value in vars(metadata(outline(raw), raw, **more)).items() if value}


def test_what_a_page_says_of_itself() -> None:
    assert told(HEAD) == {
        "title": "Das Wetter",
        "author": "Imke Reiher",
        "date": "2026-03-04",
        "language": "de-AT",
        "canonical": "/wetter",
        "site": "Wattpost",
        "licence": "https://creativecommons.org/licenses/by/4.0/",
        "metas": (("robots", "noai"),),
    }


@pytest.mark.parametrize(
    ("page", "name", "value"),
    [
        ('LD{"@type": "Article", "author": {"@type": "Person", "name": "A. Reed"}}</script>', "author", "A. Reed"),
        ('LD[{"@graph": [{"@type": "Recipe", "author": [{"name": "A"}, "B"]}]}]</script>', "author", "A, B"),
        ('LD{"@type": ["Thing", "WebPage"], "license": "https://x.example/l"}</script>', "licence",
         "https://x.example/l"),
        ('LD{"@type": "NewsArticle", "author": "\\ud800x"}</script>', "author", "?x"),
        ('<meta property="article:author" content="http://x.org/"><meta name="author" content="R">', "author", "R"),
        ('<meta property="og:locale" content="en_US">', "language", "en-US"),
        ('<meta http-equiv="content-language" content="fr, en">', "language", "fr"),
        ('<time pubdate datetime="2024-02-29T10:00">x</time>', "date", "2024-02-29"),
        ('<meta property="og:title" content="T &amp; U">', "title", "T & U"),
        ('<link rel="license" href="https://creativecommons.org/publicdomain/zero/1.0/">', "licence",
         "https://creativecommons.org/publicdomain/zero/1.0/"),
        ('<meta name="author" content="   ">', "author", None),
        ('<html lang="x y z">', "language", None),
        ('LD' + "[" * 100_000 + "</script>", "author", None),
        ('LD{"author": </script>', "author", None),
        ('LD{"@type": "ImageObject", "license": "https://x.example/l", "creator": "P"}</script>', "licence", None),
        ('LD{"@type": "ImageObject", "license": "https://x.example/l", "creator": "P"}</script>', "author", None),
        ('LD{"@type": "ItemList", "itemListElement": [{"@type": "Article", "author": "First"}]}</script>', "author",
         None),
        ('LD{"@type": "Article", "author": {"@id": "#a"}}</script>LD{"@type": "Person", "@id": "#a", "name": "Ann"}'
         "</script>", "author", "Ann"),
        ('LD{"@type": "Article", "author": {"@id": "https://x.example/#/schema/person/abc"}}</script>', "author", None),
        ('LD{"@type": "Article", "author": {"url": "https://x.example/ann"}}</script>', "author", None),
        ('LD{"@type": "Article", "author": ' + "[" * 900 + '"x"' + "]" * 900 + "}</script>", "author", None),
        ('LD{"@type": "Article", "author": {"name": ' + '{"name":' * 400 + '"x"' + "}" * 400 + "}}</script>", "author",
         None),
        ("<p>By <a rel=author href=/ann>Ann <b>Reed</b></a>", "author", "Ann Reed"),
        ("<a rel=author href=/ann>Ann</a><a rel=author href=/ann>View all posts by Ann</a>", "author", "Ann"),
        ("".join(f"<a rel=author href=/{n}>Name {n}</a>" for n in range(9)), "author", None),
        ("<figure><a rel=license href=http://x.example/l>CC</a></figure>", "licence", None),
        ("<a rel=license href=/a>A</a><footer><a rel=license href=/b>B</a></footer>", "licence", "/b"),
        ("<a rel=license href=/a>A</a><a rel=license href=/b>B</a>", "licence", None),
        ("<link rel=license href=/a><a rel=license href=/b>B</a>", "licence", "/a"),
        ('<meta name="og:description" content="by X, https://creativecommons.org/licenses/by/4.0/">', "licence", None),
        ('<meta name="copyright" content="https://creativecommons.org/licenses/by/4.0/">', "licence",
         "https://creativecommons.org/licenses/by/4.0/"),
        ("<base href='/deep/'><base href='/other/'>", "base", "/deep/"),
        ('<meta property="og:title" content="Real"><svg><title>Menu icon</title></svg>', "title", "Real"),
        ('<meta name="date" content="2024-02-31">', "date", None),
    ],
    ids=range(34),
)  # fmt: skip
def test_each_statement(page: str, name: str, value: str | None) -> None:
    assert told(page.replace("LD", '<script type="application/ld+json">')).get(name) == value


def test_the_header_names_a_language_where_the_page_does_not() -> None:
    assert told("<p>x", header_language="nl")["language"] == "nl"
    assert licence("https://example.org/licenses/by/4.0/") is None


@pytest.mark.parametrize("paragraphs", [1, 2, 5, 40])
def test_a_page_of_nothing_but_paragraphs_keeps_them_all(paragraphs: int) -> None:
    said = [
        f"Paragraph {n} of the tide table says that the sea rises twice a day, and falls." for n in range(paragraphs)
    ]
    for page in ("<p>" + "<p>".join(said), "<h1>Tides</h1><p>" + "</p>\n<p>".join(said), "<br><br>".join(said)):
        for how in ("fast", "best"):
            assert extract(page, how=how).text.split("\n")[-paragraphs:] == said


def test_links_of_the_text_are_told_on_request() -> None:
    page = "<nav><a href=/home>Home</a></nav><article>" + "".join(
        f"<p>Paragraph {n} of it, with <a href='/t?n={n}&amp;x=1'>a <b>source</b></a>, says that the sea rises.</p>"
        for n in range(5)
    )
    found = extract(page, links=True)
    assert [tuple(link) for link in found.links] == [(f"/t?n={n}&x=1", "a source") for n in range(5)]
    assert extract(page).links == ()


def test_words_of_links_in_links_are_told_once() -> None:
    """500 links in each other around 2,000 paragraphs: each paragraph is in one of them."""
    prose = "<p>word word word word word word word word word word</p>" * 2_000
    [found] = extract("<a href=/out><div><a href=/in><div>" * 250 + prose, links=True).links
    assert found.href == "/in"
    assert found.text.count("word") == 20_000


def test_words_that_are_not_shown_are_no_text() -> None:
    said = "".join(f"<p>Paragraph {n} says that the sea rises twice a day, and falls as often.</p>" for n in range(6))
    dirt = '<p style="display: none">Casino, the best casino of them all, plays at night.</p>'
    assert "asino" not in extract(f"<article>{said}{dirt}</article>").text
    folded = said.replace("<p>", "<p hidden>")
    assert extract(f"<article>{folded}</article>").text.count("Paragraph") == 6


def test_the_body_that_metadata_state_stands_in_for_an_empty_page() -> None:
    body = "The sea rises twice a day. " * 20
    stated = f'{{"articleBody": "{body}\\nIt&#39;s <b>so</b>."}}'
    page = f'<div id=app></div><script type="application/ld+json">{stated}</script>'
    found = extract(page)
    assert found.how == "json-ld"
    assert found.text.endswith("\nIt's so.")
