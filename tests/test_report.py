"""The funnel and the report: what a run did, in a table and on one page."""

import base64
import hashlib
import html
import io
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from tests import toys
from tests.toys import HERON, KRANICH, MAIL, pages
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.pipeline import funnel as funnels
from tundish.pipeline.examples import excerpt
from tundish.pipeline.figures import drawn
from tundish.pipeline.funnel import Line, funnel, ran, reasons, runs, spelt
from tundish.pipeline.plan import spelt as recorded
from tundish.pipeline.report import report
from tundish.pipeline.run import run
from tundish.pipeline.table import listed, table
from tundish.stages.gather import Gather
from tundish.stages.judge import Judge
from tundish.stages.refine import Refine
from tundish.stages.stage import Stage

VOID = {"meta", "br", "hr", "img", "link", "input", "col"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toys.small_root(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toys.trained_root(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def page(trained: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return Path(report(trained, str(tmp_path_factory.mktemp("page") / "page.html"))).read_text()


def by_stage(lines: list[Line]) -> dict[str, Line]:
    return {line.stage: line for line in lines}


class Page(HTMLParser):
    """Tags that stay open, ids, links, and everything that would fetch something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.fetched: list[str] = []
        self.headings: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            self.ids += [value or ""] if name == "id" else []
            if name in ("href", "xlink:href", "src", "srcset", "action", "data"):
                assert value is not None
                (self.links.add(value[1:]) if value.startswith("#") else self.fetched.append(value))
            assert not name.startswith("on"), f"{tag} has a script in {name}"
        if tag in ("script", "iframe", "object", "embed", "link", "img", "base"):
            self.fetched.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def test_the_funnel_follows_the_documents_from_stage_to_stage(root: str) -> None:
    lines = by_stage(funnel(root))
    order = list(lines)
    assert order.index("Crawl") < order.index("Extract") < order.index("Gather") < order.index("Judge")
    assert order.index("Judge") < order.index("Refine") < order.index("Deduplicate") < order.index("Corpus")
    assert order[-1] == "Tokenize"

    assert lines["Crawl"].drops == {"error": 1, "forbidden": 1, "redirect": 1}
    assert lines["Extract"].drops == {"empty": 1, "not_text": 1}
    assert lines["Refine"].drops == {"top_2_gram": 2, "dup_line_frac": 1}
    assert lines["Deduplicate"].drops == {"exact_duplicate": 2, "near_duplicate": 1}
    for before, after in (
        ("Crawl", "Extract"),
        ("Extract", "Gather"),
        ("Refine", "Deduplicate"),
        ("Corpus", "Tokenize"),
    ):
        assert lines[after].documents_in == lines[before].documents_out
    for line in lines.values():
        assert line.documents_in is not None
        assert line.documents_out == line.documents_in - sum(line.drops.values()), line
    assert lines["Deduplicate"].documents_out == lines["Corpus"].documents_in == lines["Corpus"].documents_out == 21


def test_the_bytes_are_those_of_the_texts_that_are_left(root: str) -> None:
    lines, texts = by_stage(funnel(root)), pages()
    sizes = {url: len(text.encode()) for url, text in texts.items()}
    refused = [f"{HERON}/markup", f"{KRANICH}/short", f"{KRANICH}/again"]
    assert lines["Extract"].bytes_out == lines["Judge"].bytes_out == lines["Refine"].bytes_in == sum(sizes.values())
    assert lines["Refine"].bytes_out == sum(sizes.values()) - sum(sizes[url] for url in refused)
    past = ran(root)
    corpus = past.datasets[past.of("Corpus")[0]].select("text", "url").table()
    assert lines["Corpus"].bytes_out == sum(len(text.encode()) for text in corpus["text"].to_pylist())
    assert lines["Corpus"].bytes_in == sum(sizes[url] for url in corpus["url"].to_pylist())
    assert lines["Deduplicate"].bytes_out == lines["Corpus"].bytes_in


def test_large_texts_are_not_read_for_a_number(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(funnels, "MEASURED", 10)
    lines = by_stage(funnel(root))
    assert lines["Refine"].bytes_in is not None
    assert lines["Refine"].bytes_out is lines["Deduplicate"].bytes_out is lines["Corpus"].bytes_in is None
    assert lines["Refine"].documents_out == 24


def test_the_table_says_what_dropped_nothing_what_did_not_run_and_how_many_more(root: str, tmp_path: Path) -> None:
    lines = funnel(root)
    paper = io.StringIO()
    Console(file=paper, width=160).print(table([*lines, Line("Later", "later-0123456789", ran=False)]))
    printed = [" ".join(line.split()) for line in paper.getvalue().splitlines() if line.strip()]
    rows = {line.split()[0]: line for line in printed}
    assert rows["Judge"].endswith("nothing")
    assert rows["Later"] == "Later not run"
    assert rows["Refine"].endswith("2 top_2_gram")
    assert printed[printed.index(rows["Refine"]) + 1] == "1 dup_line_frac"
    ten = Line("X", "x-0", 9, 1, drops=dict.fromkeys("abcdefghij", 2))
    assert listed(ten)[-1].strip() == "4 for 2 other reasons"
    many = Line("X", "x-0", 9_000, 100, drops={"a": 5_000, "b": 2_000, "c": 1_000, "d": 500, "e": 400})
    assert reasons(many) == "a 5,000, b 2,000, c 1,000 and 900 more"


def test_an_unfinished_run_shows_what_was_not_run(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    run(toys.recipe(), Local(), root, until="Refine")
    lines = by_stage(funnel(root))
    assert lines["Refine"].ran
    assert not lines["Corpus"].ran
    assert not lines["Tokenize"].ran
    text = Path(report(root)).read_text()
    headings = Page(text).headings
    assert "Quality" in headings
    assert "Hosts" in headings
    assert not {"Tokens", "Training", "Fine-tuning", "Duplicates"} & {*headings}
    assert "not run" in text


def test_seconds_are_those_of_the_run_that_did_the_work(tmp_path: Path) -> None:
    root = toys.small_root(tmp_path)
    first = by_stage(funnel(root))
    run(toys.recipe(short=60), Local(), root)
    later, again = by_stage(funnel(root)), by_stage(funnel(root, runs(root)[0]))
    assert later["Judge"].address == first["Judge"].address
    assert later["Judge"].seconds == first["Judge"].seconds
    assert later["Refine"].address != first["Refine"].address
    assert again == first


def test_no_run_and_an_unknown_run_are_refused(root: str, tmp_path: Path) -> None:
    for ask in (funnel, report):
        with pytest.raises(ValueError, match="no run under"):
            ask(str(tmp_path))
    with pytest.raises(ValueError, match=f"did you mean '{runs(root)[0]}'"):
        funnel(root, "20200101T000000-000001")


def test_the_page_is_whole_and_fetches_nothing(page: str) -> None:
    found = Page(page)
    assert found.open == []
    assert found.fetched == ["script"], "the search, and nothing from elsewhere"
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; ")
    assert f"script-src 'sha256-{digest}';" in policy, "no other script may run"
    assert page.index("Content-Security-Policy") < page.index("<style")
    assert len(found.ids) == len({*found.ids}), "ids are unique, across figures too"
    assert found.links <= {*found.ids}
    assert not re.search(r"url\((?!#)|@import|<script(?!>)|innerHTML|eval\(|fetch\(", page)
    assert found.headings == [
        "Funnel", "What was dropped, and why", "Rules", "Languages", "Quality", "Duplicates", "Hosts", "Crawl",
        "Tokens", "Training", "Fine-tuning", "Find a document", "Recipe", "Addresses and digests",
    ]  # fmt: skip


def test_every_figure_is_svg_that_follows_the_page(page: str) -> None:
    figures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(figures) >= 6
    for figure in figures:
        drawn = ET.fromstring(figure.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))
        assert drawn.get("role") == "img"
        assert drawn.get("aria-label")
        assert "currentColor" in figure
        assert not re.search(r"#0102|#000000|#ffffff", figure), "a colour that would not change with the page"
    assert "var(--first)" in page
    assert "prefers-color-scheme: dark" in page


def test_the_same_root_gives_the_same_bytes(trained: str, tmp_path: Path) -> None:
    first, second = (Path(report(trained, str(tmp_path / name))).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_examples_are_escaped_cut_masked_and_measured(page: str) -> None:
    assert "&lt;script&gt;alert(&#39;no&#39;)&lt;/script&gt; &amp; so on" in page
    assert MAIL not in page
    again = page[page.index(f">{KRANICH}/again<") :][:1500]
    assert "measured 0.9355, threshold 0.3" in again
    quoted = re.search(r"<blockquote[^>]*>(.*?)</blockquote>", again, re.DOTALL)
    assert quoted is not None
    assert html.unescape(quoted[1]) == pages()[f"{KRANICH}/again"][:200] + "…"


def rule_of(page: str, reason: str) -> str:
    return page[page.index(f'<details id="rule-{reason}">') :].split("</details>")[0]


def test_each_rule_shows_its_signal_what_it_dropped_and_what_it_nearly_did(page: str, trained: str) -> None:
    told = ran(trained)
    refine = told.datasets[told.of("Refine")[0]]
    judge = told.datasets[told.of("Judge")[0]]
    shown = rule_of(page, "top_2_gram")
    assert "top_2gram &gt; 0.2; Rae et al., arXiv 2112.11446, table A1" in shown
    figure = re.findall(r"<svg.*?</svg>", shown, re.DOTALL)
    assert len(figure) == 1
    assert 'aria-label="Documents by top_2gram"' in figure[0]
    assert "threshold 0.2" in figure[0]
    dropped, misses = shown.split("<h3>Kept, nearest to the threshold</h3>")
    rows = judge.beside(refine).select("reason", "top_2gram").table().to_pylist()
    assert len(re.findall('class="url"', dropped)) == sum(row["reason"] == "top_2_gram" for row in rows) == 2
    nearest = sorted((row["top_2gram"] for row in rows if row["reason"] is None), reverse=True)[:10]
    measured = [float(value) for value in re.findall(r"measured ([\d.]+), threshold 0.2, margin", misses)]
    assert measured == pytest.approx(nearest, rel=1e-3)
    assert len(measured) == 10


def test_the_table_of_the_rules_counts_what_refine_counted(page: str, trained: str) -> None:
    counts = ran(trained).datasets[ran(trained).of("Refine")[0]].counts
    section = page[page.index('<h2 id="rules">') :].split("</section>")[0]
    for key, count in counts.items():
        if key.startswith("alone:"):
            reason = key.removeprefix("alone:")
            row = section[section.index(f'href="#rule-{reason}"') :].split("</tr>")[0]
            first = counts.get(f"dropped:{reason}", 0)
            assert f'<td class="n">{first}</td><td class="n">{count}</td>' in row
    assert 'href="#rule-gopher_long_doc"' not in section, "the table has those that fire"


def test_a_rule_that_never_fires_shows_what_it_nearly_dropped(page: str, trained: str) -> None:
    told = ran(trained)
    rows = told.datasets[told.of("Judge")[0]].beside(told.datasets[told.of("Refine")[0]]).table().to_pylist()
    shown = rule_of(page, "gopher_long_doc")
    assert "It never fired." in shown
    assert "threshold 100,000" in shown
    most = sorted((row["words"] for row in rows if row["reason"] is None), reverse=True)[:10]
    assert [float(value) for value in re.findall(r"measured ([\d.]+), threshold", shown)] == most, "however far it is"


def test_a_rule_that_others_always_came_before_shows_what_it_would_drop(page: str, trained: str) -> None:
    told = ran(trained)
    counts = told.datasets[told.of("Refine")[0]].counts
    behind = [k[6:] for k in counts if k.startswith("alone:") and f"dropped:{k[6:]}" not in counts]
    assert "dup_line_char_frac" in behind
    shown = rule_of(page, "dup_line_char_frac").split("<h3>Kept")[0]
    assert "It would drop alone, at random" in shown
    assert "left out for <code>dup_line_frac</code>" in shown
    (value,) = re.findall(r"measured ([\d.]+), threshold 0.2, margin -", shown)
    assert float(value) > 0.2


def test_a_recipe_that_ends_at_refine_says_what_each_language_keeps(tmp_path: Path) -> None:
    docs = Gather({"web": toys.Extract(toys.Crawl((f"{HERON}/",)))})
    language = toys.Identify(docs)
    run(Refine(docs, language, Judge(docs, language)), Local(), str(tmp_path))
    page = Path(report(str(tmp_path))).read_text()
    section = page[page.index('<h2 id="languages">') :].split("</section>")[0]
    assert '<th scope="row">en</th><td class="n">27</td><td class="n">24</td>' in section
    assert "in the corpus" not in section


def test_an_excerpt_hides_personal_data_even_across_its_end() -> None:
    text = "x " * 95 + f"{MAIL} and more to come"
    assert "keeper" not in excerpt(text)
    assert len(excerpt(text)) == 201
    assert excerpt("short") == "short"


def test_duplicates_name_their_survivor(page: str) -> None:
    same = {f"{KRANICH}/page/0", f"{HERON}/copy", f"{HERON}/copy/again"}
    entry = page[page.index("<code>exact_duplicate</code>") :].split("</details>")[0]
    urls = set(re.findall(r'class="url">([^<]+)<', entry))
    assert urls == same
    largest = page[page.index("<h3>The largest</h3>") :].split("</section>")[0]
    assert re.findall(r"stands for (\d+) documents", largest) == ["3", "2"]


def test_the_numbers_of_training_and_tuning_are_those_of_their_results(trained: str, page: str) -> None:
    past = ran(trained)
    result = past.datasets[past.of("Pretrain")[0]].about["result"]
    training = page[page.index('id="training"') :].split("</section>")[0]
    for name in ("first_loss", "last_loss", "holdout_last", "unigram_entropy"):
        assert f"{result[name]:.4g}" in training, name
    assert f"{result['parameters']:,} parameters" in training
    address = past.of("Finetune")[0]
    score = past.datasets[address].about["result"]
    tuning = page[page.index(f'id="{address}-scores"') :].split("</section>")[0]
    for part in score["tested"]:
        for measure, one in score["parts"][part]["pretrained"].items():
            if "mean" in one:
                assert f">{one['mean']:.3f}<" in tuning
                assert f">{score['parts'][part]['majority'][measure]:.3f}<" in tuning


def test_the_recipe_on_the_page_is_the_recipe_of_the_run(root: str) -> None:
    """Built back from YAML by the classes of the toys, it has the same addresses."""
    value = yaml.safe_load(spelt(ran(root)))
    kinds = {kind.__name__: kind for kind in vars(toys).values() if isinstance(kind, type) and issubclass(kind, Stage)}
    goal = built(value, kinds, value["goal"])
    assert json.loads(json.dumps(recorded(goal))) == ran(root).recipe


def built(value: dict, kinds: dict[str, type[Stage]], name: str) -> Stage:
    ((kind, fields),) = value[name].items()

    def stages(given: object) -> object:
        if isinstance(given, dict):
            return {k: stages(v) for k, v in given.items()}
        return built(value, kinds, given) if isinstance(given, str) and given in value else given

    return kinds[kind](**{k: stages(v) for k, v in fields.items()})


def test_figures_keep_their_text_and_escape_it() -> None:
    figure = drawn("x", "a & b", 1.0, lambda axes: axes.plot([1, 2], label="<b> $5$ & c"))
    assert "&lt;b&gt; $5$ &amp; c" in figure
    assert 'aria-label="a &amp; b"' in figure
    ET.fromstring(figure.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))


def test_a_report_of_an_unfinished_record_says_so(tmp_path: Path) -> None:
    root = toys.small_root(tmp_path)
    uri = store.join(root, "runs", f"{runs(root)[0]}.json")
    store.write_json(uri, {**store.read_json(uri), "outcome": "failed: <no> disk"})
    assert "This run is not finished: failed: &lt;no&gt; disk." in Path(report(root)).read_text()
