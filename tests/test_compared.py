"""Two runs side by side: what differs in the recipe, in the funnel, in the scores; and the page of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests import toys
from tests.test_report import Page
from tundish.cluster.local import Local
from tundish.pipeline.cli import cli
from tundish.pipeline.compared import Changed, Pair, Score, changed, compared, paired, scores
from tundish.pipeline.compared_page import compared_page, points
from tundish.pipeline.funnel import Line, funnel, ran
from tundish.pipeline.run import run


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("compared")
    run(toys.recipe(), Local(), str(folder / "before"))
    goal = toys.recipe(short=225).corpus
    run(replace(goal, edits=None), Local(), str(folder / "after"))  # type: ignore[type-var]
    return str(folder / "before"), str(folder / "after")


def test_fields_that_differ_are_told_and_no_address_is(roots: tuple[str, str]) -> None:
    found = list(changed(ran(roots[0]), ran(roots[1])))
    assert found == [
        Changed("Refine", "rules.gopher_short_doc", 50.0, 225.0),
        Changed("Corpus", "edits", "Mask", None),
        Changed("Mask", "", "there", None),
        Changed("Tokenize", "", "there", None),
    ]
    assert not list(changed(ran(roots[0]), ran(roots[0])))
    back = list(changed(ran(roots[1]), ran(roots[0])))
    assert Changed("Tokenize", "", None, "there") in back


def test_funnels_are_paired_line_by_line(roots: tuple[str, str]) -> None:
    before, after = funnel(roots[0]), funnel(roots[1])
    pairs = paired(before, after)
    assert [pair.after for pair in pairs if pair.after] == after
    assert {pair.stage for pair in pairs if pair.after is None} == {"Mask", "Tokenize"}
    refine = next(pair for pair in pairs if pair.stage == "Refine")
    assert refine.before in before
    assert refine.reasons[0] == ("gopher_short_doc", 0, 22)
    assert points(refine, 0, 22) == f"{100 * 22 / 27:+.1f}"
    assert points(refine, 5, 5) == "0"
    twice = paired([Line("Refine", "a", 4, 2), Line("Refine", "b", 2, 1)], [Line("Refine", "c", 4, 1)])
    assert [(pair.before and pair.before.address, pair.after and pair.after.address) for pair in twice] == [
        ("a", "c"),
        ("b", None),
    ]


def test_scores_stand_beside_each_other_where_both_trained(tmp_path_factory: pytest.TempPathFactory) -> None:
    past = ran(toys.trained_root(tmp_path_factory.getbasetemp()))
    found = {(one.stage, one.name): one for one in scores(past, past)}
    result = past.datasets[past.of("Pretrain")[0]].about["result"]
    held = found["Pretrain", "held-out loss"]
    assert held.before == held.after == result["holdout_last"]
    assert held.better is None
    assert any(stage == "Finetune" for stage, _ in found)
    assert Score("x", "loss", 2.0, 1.0, True).better
    assert not Score("x", "F1", 2.0, 1.0, False).better
    assert Score("x", "F1", None, 1.0, False).better is None


def test_shares_are_of_what_came_in() -> None:
    pair = Pair("X", Line("X", "x", 50, 40, drops={"a": 10}), None)
    assert pair.share(10, 0) == 0.2
    assert pair.share(0, 1) == 0
    assert pair.reasons == [("a", 10, 0)]


def test_the_page_is_whole_fetches_nothing_and_says_what_differs(roots: tuple[str, str], tmp_path: Path) -> None:
    out = str(tmp_path / "page.html")
    text = Path(compared_page(roots[1], roots[0], out)).read_text()
    found = Page(text)
    assert found.open == []
    assert found.fetched == []
    assert len(found.ids) == len({*found.ids})
    assert found.links <= {*found.ids}
    assert found.headings == ["What differs in the recipe", "Funnel", "Drift"]
    assert "rules.gopher_short_doc" in text
    row = text[text.index('<th scope="row"><code>gopher_short_doc</code>') :].split("</tr>")[0]
    assert ">22<" in row
    assert f"{100 * 22 / 27:+.1f}" in row
    assert 'aria-label="Refine: reasons"' in text
    assert text == Path(compared_page(roots[1], roots[0], str(tmp_path / "again.html"))).read_text()


def test_the_report_takes_another_root(roots: tuple[str, str]) -> None:
    told = CliRunner().invoke(cli, ["report", roots[1], "--against", roots[0]], catch_exceptions=False)
    assert told.stdout.strip() == f"{roots[1]}/compared.html"
    assert "Two runs compared" in Path(told.stdout.strip()).read_text()


def test_runs_that_share_no_column_are_compared_all_the_same(roots: tuple[str, str], tmp_path: Path) -> None:
    run(toys.Crawl((f"{toys.HERON}/",)), Local(), str(tmp_path / "root"))
    found = compared(roots[0], str(tmp_path / "root"))
    assert found.drift == []
    assert "no stage in common" in found.why
    assert found.why.split(";")[0] in Path(compared_page(str(tmp_path / "root"), roots[0])).read_text().replace(
        "&#39;", "'"
    )
