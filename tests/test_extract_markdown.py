"""Markdown of a page: what a CommonMark parser makes of it is the structure the page had, word for word."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tundish.operators.web.blocks import Blocks
from tundish.operators.web.markdown import COLUMNS, markdown_of
from tundish.operators.web.outline import outline
from tundish.operators.web.render import text_of

PARSER = MarkdownIt("commonmark").enable("table")


def written(page: str, form: Any = markdown_of) -> str:
    raw = page.encode()
    blocks = Blocks(outline(raw))
    return form(blocks, np.ones(len(blocks), bool), raw)


def table(page: str) -> list[list[str]]:
    """The cells of the tables in the Markdown of a page, as a parser reads them."""
    rows: list[list[str]] = []
    for token in PARSER.parse(written(page)):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and token.level > 2:
            rows[-1].append(token.content)
    return rows


def test_light_markdown() -> None:
    page = (
        "<h1>The <i>tide</i></h1><p>Twice a <code>day</code>.<ul><li>one<li>two<ol><li>inner</ol></ul><p>after"
        "<table><tr><th>h<th>|<tr><td>1<td>2</table><pre>a\n  b</pre><blockquote>said<br>so</blockquote><h3>end</h3>"
    )
    assert written(page) == (
        "# The tide\n\nTwice a `day`.\n\n- one\n- two\n  1. inner\n\nafter\n\n| h | \\| |\n| --- | --- |\n| 1 | 2 |\n"
        "\n```\na\n  b\n```\n\n> said\n> so\n\n### end"
    )


@pytest.mark.parametrize(
    ("page", "markdown"),
    [
        ("<ol><li>first<ul><li>inner</ul><li>second</ol>", "1. first\n   - inner\n1. second"),
        ("<ul><li>a</ul><ul><li>b</ul>", "- a\n\n* b"),
        ("<ul><li>a<pre>b</pre>c</ul>", "- a\n\n  ```\n  b\n  ```\n\n  c"),
        ("<blockquote><p>a<p>b</blockquote><blockquote>c</blockquote>", "> a\n>\n> b\n\n> c"),
        ("<pre>x\n````\n</pre>", "`````\nx\n````\n`````"),
        ("<pre><div>a</div><div>b</div></pre><pre>c</pre>", "```\na\nb\n```\n\n```\nc\n```"),
        ("use<code> x </code>and<code>y</code>.", "use `x` and`y`."),
        ("<code>a<!-- c -->b</code>", "`ab`"),
        ("<li>x", "- x"),
        ("<ul><li><ul><li>x", "- - x"),
        ("<table><tr><td>alone</table>", "alone"),
        ("<ul><li><table><tr><td>a<td>b<tr><td>c<td>d</table></ul>", "- | a | b |\n  | --- | --- |\n  | c | d |"),
    ],
)
def test_what_commonmark_is_particular_about(page: str, markdown: str) -> None:
    assert written(page) == markdown


@pytest.mark.parametrize(
    ("page", "cells"),
    [
        ("<tr><th>Name<th>Jan<th>Feb<tr><td>Ann<td><td>7<tr><td>Bob<td>5<td>",
         [["Name", "Jan", "Feb"], ["Ann", "", "7"], ["Bob", "5", ""]]),
        ("<tr><th>H1<th>H2<tr><td><p>one<p>two<td>three", [["H1", "H2"], ["one two", "three"]]),
        ("<tr><td>a<td>b<tr><td>c<td>d</table><table><tr><td>e<td>f<td>g",
         [["a", "b"], ["c", "d"], ["e", "f", "g"]]),
        ("<tr><td>a<table><tr><td>x<td>y</table>after<td>b", [["a x y after", "b"]]),
        ("<tr><th colspan=2>Sea<th>Land<tr><td>1<td>2<td>3", [["Sea", "", "Land"], ["1", "2", "3"]]),
        ("<tr><td rowspan=2>a<td>b<tr><td>c<tr><td>d<td>e", [["a", "b"], ["", "c"], ["d", "e"]]),
        ("<tr><td>a<td>b<tr><td>1<td>2<td>3", [["a", "b", ""], ["1", "2", "3"]]),
        ("<tr><td colspan=999999999999>a<td colspan=x>b", [["a", "b"]]),
        (f"<tr>{'<td>x' * 60}<tr><td>y", [["x"] * 60, ["y"] + [""] * 59]),
    ],
)  # fmt: skip
def test_cells_stand_where_they_stood(page: str, cells: list[list[str]]) -> None:
    found = table(f"<table>{page}</table>")
    assert found == cells


def test_a_wide_cell_is_bounded() -> None:
    assert written("<table><tr><td colspan=30>a<td>b</table>").split("\n")[0].count("|") == 32
    assert written("<table><tr><td colspan=300>a<td>b</table>").split("\n")[0].count("|") <= COLUMNS + 1


def test_a_layout_table_reads_as_what_is_in_it() -> None:
    prose = "<p>" + "The sea rises twice a day. " * 10
    page = f"<table><tr><td><a>Home</a><td><h1>Tides</h1>{prose}{prose}<table><tr><td>1<td>2</table></table>"
    lines = written(page).split("\n\n")
    assert [lines[0], lines[1], lines[-1]] == ["Home", "# Tides", "| 1 | 2 |\n| --- | --- |"]


# Trees of a page: (tag, children); a string is a text.
WORDS = st.integers(0, 99).map(lambda n: f"word{n} and more")
LEAVES = st.one_of(WORDS.map(lambda text: ("p", text)), WORDS.map(lambda text: ("pre", text)),
                   WORDS.map(lambda text: ("h2", text)))  # fmt: skip


def inside(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    many = st.lists(children, min_size=1, max_size=4)
    lists = st.tuples(st.sampled_from(["ul", "ol"]), st.lists(many.map(lambda c: ("li", c)), min_size=1, max_size=3))
    return st.one_of(lists, st.tuples(st.just("blockquote"), many))


TREES = st.lists(st.recursive(LEAVES, inside, max_leaves=10), min_size=1, max_size=5)


def drawn(tree: list[Any]) -> str:
    return "".join(f"<{tag}>{inner if isinstance(inner, str) else drawn(inner)}</{tag}>" for tag, inner in tree)


class Numbers:
    """A number for each element, in the order of their texts."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def of(self, path: list[tuple[str, Any]]) -> tuple[tuple[str, int], ...]:
        return tuple((tag, self.known.setdefault(one, len(self.known))) for tag, one in path)


def wanted(tree: list[Any], numbers: Numbers, path: list[tuple[str, Any]]) -> Iterator[Any]:
    """(what holds it, its kind, its text) of each text."""
    for child in tree:
        tag, inner = child
        if isinstance(inner, str):
            yield numbers.of(path), tag, inner
        else:
            marks = [*path, (tag, object())]
            yield from wanted(inner, numbers, marks)


def read(markdown: str) -> Iterator[Any]:
    numbers, path, kind = Numbers(), [], "p"
    kinds = {"bullet_list": "ul", "ordered_list": "ol", "list_item": "li", "blockquote": "blockquote"}
    for token in PARSER.parse(markdown):
        name = token.type.removesuffix("_open").removesuffix("_close")
        if name in kinds and token.nesting == 1:
            path.append((kinds[name], object()))
        elif name in kinds:
            path.pop()
        elif token.type == "heading_open":
            kind = token.tag
        elif token.type == "paragraph_open":
            kind = "p"
        elif token.type == "inline":
            yield numbers.of(path), kind, token.content
        elif token.type == "fence":
            yield numbers.of(path), "pre", token.content.rstrip("\n")


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_a_parser_finds_the_structure_of_the_page(tree: list[Any]) -> None:
    assert list(read(written(drawn(tree)))) == list(wanted(tree, Numbers(), []))


PARTS = ["<table>", "</table>", "<tr>", "<td>", "<td colspan=2>", "<th rowspan=3>", "<p>", "<ul>", "<li>", "</ul>",
         "<pre>", "</pre>", "<blockquote>", "</blockquote>", "<h2>", "<caption>", "<code>", "</code>"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PARTS), st.integers(0, 99).map(str)), max_size=40))
def test_no_word_is_lost_or_said_twice(parts: list[str]) -> None:
    page = " ".join(parts)
    words = sorted(part for part in parts if part.isdigit())
    assert sorted(word for word in written(page, text_of).split() if word.isdigit()) == words
    signs = str.maketrans(dict.fromkeys("`|>#-*", " "))
    assert sorted(word for word in written(page).translate(signs).split() if word.isdigit()) == words
