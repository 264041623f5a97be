"""What is known of each block and what trees make of it, held against plain definitions."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tundish.operators.web.blocks import LINKED, PRICES, STOPS, WORDS, Blocks
from tundish.operators.web.elements import BLOCK, KINDS, NAMES
from tundish.operators.web.features import GROUPS, Values, features, shifted, surroundings, window
from tundish.operators.web.forest import LEAVES, ROWS, Forest, likelihoods, summed
from tundish.operators.web.outline import outline

NOTHING = Values.of(np.empty(0, np.uint32), np.empty(0))
PROSE = " ".join(["word"] * 20) + ". "
PIECES = (
    "<p>", "<div>", "</div>", "<ul class=menu>", "<li>", "</ul>", "<a href=x>", "</a>", "<h1>", "<h2>", "</h2>", "<b>",
    "</b>", "<article class='post body'>", "</article>", "<div hidden>", "<nav id=menu>", "</nav>", "<table><tr><td>",
    "</table>", "<br>", "<img>", "one ", "Two words. ", "$5, 20! ", "\u6771\u4eac\u3002", "-", PROSE, PROSE, "end:",
)  # fmt: skip


def table(hashes: np.ndarray) -> tuple[Values, dict[int, float]]:
    """Values for two of three hashes, in both directions."""
    told = {int(key): (n % 7 - 3) * 64 + n % 5 for n, key in enumerate(np.unique(hashes)) if n % 3}
    made = Values.of(np.array(list(told), np.uint32), np.array(list(told.values())))
    return made, {key: value / 256 for key, value in told.items()}


def share(part: float, whole: float) -> float:
    return part / max(whole, 1)


class Plain:
    """The features of a page by their definitions, one block and one feature at a time."""

    def __init__(self, blocks: Blocks, named: dict[int, float], said: dict[int, float]) -> None:
        tree = self.tree = blocks.outline
        self.blocks, self.n = blocks, len(blocks)
        self.parents, self.tags = tree.parents.tolist(), [NAMES[tag] for tag in tree.tags]
        self.named, self.said = [0.0] * len(self.tags), [0.0] * blocks.by_piece.shape[1]
        for key, e in zip(tree.tokens.tolist(), tree.owners.tolist(), strict=True):
            self.named[e] += named.get(key, 0)
        for key, piece in zip(blocks.hashes.tolist(), blocks.owners.tolist(), strict=True):
            self.said[piece] += said.get(key, 0)
        self.known = sum(key in said for key in blocks.hashes.tolist())
        self.words, self.linked, self.stops = (blocks.by_piece[row].tolist() for row in (WORDS, LINKED, STOPS))
        self.pieces = [[p for p, b in enumerate(blocks.of_piece) if b == one] for one in range(self.n)]

    def path(self, e: int) -> list[int]:
        return [e, *self.path(self.parents[e])] if self.parents[e] >= 0 else [e]

    def boxes(self, b: int) -> list[int]:
        """The innermost first; the outermost is its own."""
        found = [e for e in self.path(int(self.blocks.element[b])) if self.parents[e] < 0 or self.is_box(e)]
        return found + [found[-1]] * 6

    def is_box(self, e: int) -> bool:
        return bool(KINDS[self.tree.tags[e]] & BLOCK)

    def within(self, e: int, group: str) -> bool:
        return any(self.tags[up] in group.split() for up in self.path(e))

    def of(self, b: int, values: list[float]) -> float:
        return sum(values[p] for p in self.pieces[b])

    def prose(self, b: int) -> bool:
        return self.of(b, self.words) >= 15 and self.of(b, self.linked) < 0.3 * self.of(b, self.words)

    def look(self, b: int) -> tuple[Any, ...]:
        boxes = self.boxes(b)
        return tuple(self.tags[e] for e in boxes[:5]), len(self.path(boxes[0]))

    def own(self, b: int) -> dict[str, float]:
        e, words, path = int(self.blocks.element[b]), self.of(b, self.words), self.path(int(self.blocks.element[b]))
        named = [self.named[up] for up in path]
        return {
            "words": words,
            "link share": share(self.of(b, self.linked), words),
            "words a stop": words / (self.of(b, self.stops) + 1),
            "least named": min(0, *named),
            "most named": max(0, *named),
            "all named": sum(named),
            "depth": len(path) - 1,
            "tag": self.tree.tags[self.boxes(b)[0]],
            "said": self.of(b, self.said),
            "said a word": share(self.of(b, self.said), words),
            **{group: float(self.within(e, group)) for group in GROUPS},
        }

    def around(self, b: int) -> dict[str, float]:
        made = {}
        for step, box in enumerate(self.boxes(b)[1:6], 1):
            inside = [p for p, e in enumerate(self.tree.pieces[2].tolist()) if box in self.path(e)]
            words = sum(self.words[p] for p in inside)
            begun = sum(min(pieces) in inside for pieces in self.pieces)
            made |= {
                f"box {step} words": words,
                f"box {step} link share": share(sum(self.linked[p] for p in inside), words),
                f"box {step} blocks": begun,
                f"box {step} words a block": share(words, begun),
            }
            if step != 4:
                of_p = sum(self.words[p] for p in inside if self.within(self.tree.pieces[2, p], "p"))
                made |= {
                    f"box {step} stops": share(sum(self.stops[p] for p in inside), words),
                    f"box {step} share": share(words, sum(self.words)),
                    f"box {step} p share": share(of_p, words),
                    f"box {step} said": share(sum(self.said[p] for p in inside), words),
                    f"box {step} tag": self.tree.tags[box],
                }
        return made

    def order(self, b: int) -> dict[str, float]:
        every = range(self.n)
        tops = [x for x in every if self.within(int(self.blocks.element[x]), "h1")]
        heads = [x for x in every if self.within(int(self.blocks.element[x]), "h1 h2 h3 h4 h5 h6") and x <= b]
        prose, before = [x for x in every if self.prose(x)], sum(self.of(x, self.words) for x in range(b))
        return {
            "place": b / self.n,
            "words before": before,
            "share before": share(before, sum(self.words)),
            "from h1": b - tops[0] if tops else -9999,
            "from heading": b - heads[-1] if heads else 999,
            "from prose": min([999, *(b - x for x in prose if x <= b)]),
            "to prose": min([999, *(x - b for x in prose if x >= b)]),
            "prose before": sum(x <= b for x in prose),
            "prose after": sum(x > b for x in prose),
        }

    def page(self, b: int) -> dict[str, float]:
        every, everything = range(self.n), max(1, sum(self.words))
        like = [x for x in every if self.look(x) == self.look(b)]
        words, linked = (sum(self.of(x, v) for x in like) for v in (self.words, self.linked))
        prose = [x for x in every if self.prose(x)]
        within = {
            group: sum(self.of(x, self.words) for x in every if self.within(int(self.blocks.element[x]), group))
            for group in ("article", "main", "h1", "form fieldset", "table", "li", "p")
        }
        return {
            "alike": len(like),
            "alike words": words,
            "alike words each": words / len(like),
            "alike link share": share(linked, words),
            "alike share": words / everything,
            "page words": everything,
            "page blocks": self.n,
            "page link share": sum(self.linked) / everything,
            "page prose words": sum(self.of(x, self.words) for x in prose),
            "page prose": len(prose),
            "page prices": self.blocks.by_piece[PRICES].sum(),
            "page known": share(self.known, len(self.blocks.hashes)),
            "page said": sum(self.said) / everything,
            **{f"page in {group}": count / everything for group, count in within.items()},
            **{f"page {name} elements": self.tags.count(name) for name in ("article", "form", "img", "p")},
        }


NESTED = "<div><div>end: <div><p>Two words. <a href=x>one</a></div></div>$5, 20!</div>"


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
@example(f"<article>{NESTED}</article><nav id=menu>{NESTED}</nav><p>{PROSE}<h2>one</h2>{NESTED}")
def test_features_are_what_they_are_called(page: str) -> None:
    blocks = Blocks(outline(page.encode()))
    (named, names), (said, words) = table(blocks.outline.tokens), table(blocks.hashes)
    rows, called = features(blocks, surroundings(blocks, named), said)
    assert (rows.shape, rows.dtype) == ((len(called), len(blocks)), np.float32)
    assert np.isfinite(rows).all()
    told, plain = dict(zip(called, rows, strict=True)), Plain(blocks, names, words)
    for b in range(len(blocks)):
        own = plain.own(b) | plain.around(b) | plain.order(b) | plain.page(b)
        assert {name: float(told[name][b]) for name in own} == pytest.approx(own, rel=1e-6, abs=1e-6)
    for by in (1, 2, -1, -2):
        for what in ("words", "link share", "tag", "all named"):
            assert (told[f"{what} {by}"] == shifted(told[what], by)).all()
        assert (told[f"depth {by}"] == shifted(told["depth"], by) - told["depth"]).all()
        assert (told[f"said {by}"] == shifted(told["said a word"], by)).all()
    for reach in (3, 8, 20):
        near = np.maximum(window(told["words"], reach), 1)
        assert (told[f"near {reach} words"] == near.astype(np.float32)).all()
        for name, what in (("link share", "linked"), ("said", "said")):
            expected = (window(told[what], reach) / near).astype(np.float32)
            assert (told[f"near {reach} {name}"] == expected).all()


def test_features_of_a_small_page() -> None:
    page = '<h1>Tides</h1><p>The sea, it "rises" twice!<p hidden>A <a>link here</a>:<ul aria-hidden=true><li>$ 5 X'
    blocks = Blocks(outline(page.encode()))
    rows, called = features(blocks, surroundings(blocks, NOTHING), NOTHING)
    assert len(called) == len(set(called)) == 155
    expected = {
        "words": [1, 5, 3, 2],
        "linked": [0, 0, 2, 0],
        "commas": [0, 1, 0, 0],
        "prices": [0, 0, 0, 1],
        "stops": [0, 1, 0, 0],
        "capital share": [1, 1 / 5, 1 / 3, 1 / 2],
        "digit share": [0, 0, 0, 1 / 2],
        "ends": [0, 1, 2, 0],
        "begins": [1, 1, 1, -2],
        "hidden": [0, 0, 1, 0],
        "aria-hidden": [0, 0, 0, 1],
        "li": [0, 0, 0, 1],
        "from h1": [0, 1, 2, 3],
        "from heading": [0, 1, 2, 3],
        "from prose": [999] * 4,
        "words -1": [5, 3, 2, -1],
        "words 2": [-1, -1, 1, 5],
        "alike": [1, 2, 2, 1],
        "alike words": [1, 8, 8, 2],
        "page in p": [8 / 11] * 4,
    }
    told = dict(zip(called, rows.tolist(), strict=True))
    assert {name: told[name] for name in expected} == {name: pytest.approx(row) for name, row in expected.items()}


@pytest.mark.parametrize("page", ["", " ", "<p>", "<script>x</script>"])
def test_a_page_without_text_has_no_features(page: str) -> None:
    blocks = Blocks(outline(page.encode()))
    assert features(blocks, surroundings(blocks, NOTHING), NOTHING)[0].shape == (155, 0)


NUMBERS = st.sampled_from([-2.5, -1.0, 0.0, 0.1, 1.0, 3.0]).map(np.float32).map(float)


def trees(deep: int = 5) -> st.SearchStrategy[Any]:
    """Nested lists as `Forest.of` takes them, of up to 2^deep leaves."""
    leaf = st.floats(-2, 2, width=32)
    if not deep:
        return leaf
    return st.one_of(leaf, st.tuples(st.integers(0, 3), NUMBERS, trees(deep - 1), trees(deep - 1)).map(list))


def walked(tree: Any, row: np.ndarray) -> float:
    while isinstance(tree, list):
        tree = tree[3] if row[tree[0]] > tree[1] else tree[2]
    return tree


@settings(deadline=None)
@given(st.lists(trees(), min_size=1, max_size=8), st.lists(st.tuples(*[NUMBERS] * 4), max_size=40))
def test_trees_say_what_a_walk_from_the_root_finds(forest: list[Any], blocks: list[tuple[float, ...]]) -> None:
    rows = np.ascontiguousarray(np.array(blocks, np.float32).reshape(-1, 4).T)
    expected = [0.0] * len(blocks)
    for tree in forest:
        expected = [so_far + walked(tree, row) for so_far, row in zip(expected, rows.T, strict=True)]
    assert summed(Forest.of(forest), rows).tolist() == expected


def test_a_full_tree_of_many_blocks() -> None:
    def grown(low: int, high: int) -> Any:
        middle = (low + high) // 2
        return float(low) if high - low == 1 else [0, middle - 0.5, grown(low, middle), grown(middle, high)]

    places = np.random.default_rng(1).integers(0, LEAVES, ROWS * 2 + 7)
    rows = places[None].astype(np.float32)
    assert (summed(Forest.of([grown(0, LEAVES)] * 2), rows) == 2 * places).all()
    with pytest.raises(ValueError, match="33 leaves"):
        Forest.of([grown(0, LEAVES + 1)])


def test_likelihoods_are_logistic_and_coarse() -> None:
    found = likelihoods(Forest.of([0.5, [0, 1.0, -0.5, 1.5]]), np.array([[1.0, 1.5]], np.float32))
    assert found.tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-2))], abs=2**-17)
    assert (found * 65536 == np.round(found * 65536)).all()
