"""html5lib's conformance data: broken markup never breaks the outline, its text is that of the tree browsers build, and
the prescan finds the encoding they would choose."""

import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zstandard

from tundish.operators.web.blocks import Blocks
from tundish.operators.web.encoding import decode
from tundish.operators.web.html import Unextractable, extract
from tundish.operators.web.labels import codec
from tundish.operators.web.links import links
from tundish.operators.web.outline import outline
from tundish.operators.web.render import text_of

UNSHOWN = {
    "script", "style", "title", "template", "select", "textarea", "iframe", "noembed", "noframes", "xmp", "svg", "math",
    "head", "object", "video", "audio", "canvas", "applet", "rp", "datalist",
}  # fmt: skip


def members(data: Path, folder: str, end: str) -> Iterator[tuple[str, bytes]]:
    packed = (data / "html5lib" / "tests.tar.zst").open("rb")
    raw = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(packed).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        for member in tar:
            if member.isfile() and folder in member.name and member.name.endswith(end):
                yield member.name, tar.extractfile(member).read()


def cases(data: Path) -> Iterator[tuple[str, str]]:
    """(page, the tree browsers build, in html5lib's notation) of whole documents that run no script."""
    for _, raw in members(data, "tree-construction", ".dat"):
        for case in raw.decode("utf-8", "replace").split("#data\n")[1:]:
            page = case.partition("\n#errors")[0]
            tree = case.partition("#document\n")[2].rstrip("\n")
            if "#document-fragment" not in case and "#script-on" not in case:
                yield page, tree


def shown(tree: str) -> str:
    """The characters of a tree that a reader sees, without white space, in order."""
    out: list[str] = []
    above: list[str] = []
    text: list[str] | None = None
    for line in tree.split("\n"):
        if text is not None:  # a text of several lines
            text.append(line)
        else:
            found = re.match(r"\| ( *)(.*)", line)
            if not found:
                continue
            depth, what = len(found[1]) // 2, found[2]
            del above[depth:]
            if what.startswith("<") and not what.startswith(("<!", "<?")):
                above += [""] * (depth - len(above)) + [what.strip("<>").split()[0]]
                continue
            if not what.startswith('"'):
                continue
            text = [what[1:]]
        if text[-1].endswith('"'):
            if not UNSHOWN & set(above):
                out.append("\n".join(text)[:-1])
            text = None
    return re.sub(r"\s+", "", "".join(out))


def ours(page: str) -> str:
    raw = page.encode("utf-8", "replace")
    blocks = Blocks(outline(raw))
    return re.sub(r"[\s\0]+", "", text_of(blocks, np.ones(len(blocks), bool), raw).replace(" | ", ""))


def test_text_is_that_of_the_tree_browsers_build(data: Path) -> None:
    """Where it is not: entities without semicolon at odd places, frameset pages, text that browsers move out of tables,
    plaintext, and markup cut off inside a tag."""
    told = Counter()
    for page, tree in cases(data):
        wanted, found = shown(tree), ours(page)
        told["same" if found == wanted else "moved" if Counter(found) == Counter(wanted) else "other"] += 1
    assert sum(told.values()) > 1300
    assert told["same"] / sum(told.values()) > 0.9, told
    assert (told["same"] + told["moved"]) / sum(told.values()) > 0.93, told


def outcome(page: str) -> str:
    try:
        return "text" if extract(page, how="fast").text else "nothing"
    except Unextractable as refused:
        return refused.reason


def test_broken_markup_breaks_nothing(data: Path) -> None:
    reasons = Counter()
    for _, raw in members(data, "tree-construction", ".dat"):
        for case in raw.decode("utf-8", "replace").split("#data\n")[1:]:
            page = case.partition("\n#errors")[0]
            links(page, "http://heron.example/")
            reasons[outcome(page)] += 1
    assert sum(reasons.values()) > 1500
    assert reasons.keys() <= {"text", "no_text", "empty"}


@pytest.mark.parametrize("file", ["tests1.dat", "tests2.dat"])
def test_the_prescan_chooses_as_browsers_do(data: Path, file: str) -> None:
    """Labels inside script and style are none here (browsers take them for the sake of speed), and what browsers leave
    at windows-1252 goes on to the detector."""
    seen, wrong = 0, []
    for name, raw in members(data, "encoding/", ".dat"):
        if not name.endswith("/" + file):
            continue
        for case in raw.split(b"#data\n")[1:]:
            body, _, answer = case.partition(b"\n#encoding\n")
            wanted = codec(answer.split(b"\n")[0].decode().strip())
            if wanted == "cp1252" or b"<script" in body or b"<style" in body:
                continue
            seen += 1
            found = decode(body)
            if found.encoding != wanted and found.text != body.decode(wanted, "replace"):
                wrong.append((body[:80], wanted, found.encoding))
    assert seen > 0
    assert wrong == []
