"""Recipes: YAML and Python spell the same value; mistakes are refused with the nearest name."""

from pathlib import Path

import pytest

from tundish.pipeline.recipe import build, changed, load, sampled
from tundish.stages.corpus import Corpus
from tundish.stages.crawl import Crawl
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.extract import Extract
from tundish.stages.gather import Gather
from tundish.stages.identify import Identify
from tundish.stages.ingest import Ingest
from tundish.stages.judge import Judge
from tundish.stages.read import Read
from tundish.stages.refine import Refine
from tundish.stages.sign import Sign

AGENT = "tundish-test/1 (+https://heron.example/bot)"
YAML = f"""
web:
  Extract:
    archives:
      Crawl: {{seeds: ["http://heron.example/"], agent: "{AGENT}", as_of: "2026-11-21", delays: {{heron.example: 0}}}}
documents:
  Gather: {{sources: {{web: web, archives: {{Extract: {{archives: {{Ingest: {{archives: ["a/*.warc.gz"]}}}}}}}}}}}}
language:
  Identify: {{documents: documents}}
quality:
  Judge: {{documents: documents, language: language}}
kept:
  Refine:
    {{documents: documents, language: language, quality: quality, keep: {{language: [en, de], rules: gopher}}}}
twins:
  Deduplicate:
    {{documents: documents, signatures: {{Sign: {{documents: documents}}}}, among: kept, quality: quality}}
corpus:
  Corpus: {{documents: documents, kept: kept, twins: twins, language: language}}
"""
PYTHON = f"""
from tundish.stages.corpus import Corpus
from tundish.stages.crawl import Crawl
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.extract import Extract
from tundish.stages.gather import Gather
from tundish.stages.identify import Identify
from tundish.stages.ingest import Ingest
from tundish.stages.judge import Judge
from tundish.stages.read import Read
from tundish.stages.refine import Refine
from tundish.stages.sign import Sign


def recipe():
    web = Extract(Crawl(("http://heron.example/",), agent="{AGENT}", as_of="2026-11-21", delays={{"heron.example": 0}}))
    documents = Gather({{"web": web, "archives": Extract(Ingest(["a/*.warc.gz"]))}})
    language = Identify(documents)
    quality = Judge(documents, language=language)
    kept = Refine(documents, language=language, quality=quality, keep={{"language": ["en", "de"], "rules": "gopher"}})
    twins = Deduplicate(documents, signatures=Sign(documents), among=kept, quality=quality)
    return Corpus(documents, kept, twins, language=language)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(YAML)
    (tmp_path / "recipe.py").write_text(PYTHON)
    return tmp_path


def test_yaml_and_python_load_to_the_same_value(folder: Path) -> None:
    one, two = load(str(folder / "recipe.yaml")), load(str(folder / "recipe.py"))
    assert one == two
    assert one.address == two.address
    kinds = [type(stage) for stage in one.walk()]
    assert kinds == [Crawl, Extract, Ingest, Extract, Gather, Identify, Judge, Refine, Sign, Deduplicate, Corpus]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: {Judge: {documants: b}}", r"Judge has no key 'documants'; did you mean 'documents'\?"),
        ("a: {Juge: {}}", r"a asks for a stage 'Juge', which there is not; did you mean 'Judge'\?"),
        ("a: {Judge: {documents: documnts}}\ndocuments: {Read: {files: [x.txt]}}", r"did you mean 'documents'\?"),
        ("a: {Judge: {documents: b}}\nb: {Sign: {documents: a}}", "goes in a circle: a -> b -> a"),
        ("a: {Judge: {}}", "Judge needs 'documents'"),
        ("a: {Read: {files: [x.txt]}}\nb: {Sign: {documents: a, bands: many}}", r"Sign.bands cannot be 'many'"),
        (
            "a: {Read: {files: [x.txt]}}\nb: {Refine: {documents: a, keep: {langage: [en]}}}",
            r"did you mean 'language'\?",
        ),
        ("a: {Read: {files: [x.txt]}}\nb: {Refine: {documents: a, keep: {rules: gofer}}}", "gopher"),
        (
            "a: {Read: {files: [x.txt]}}\n"
            "b: {Refine: {documents: a, keep: {rules: [c4, {signal: words, op: '<', value: 1, reasn: x}]}}}",
            r"Refine.keep.rules\[1\] has no key 'reasn'; did you mean 'reason'\?$",
        ),
        (
            "a: {Read: {files: [x.txt]}}\n"
            "b: {Refine: {documents: a, keep: {rules: [{signal: words, op: '<', value: few, reason: x}]}}}",
            r"^Refine.keep.rules\[0\].value cannot be 'few': Expected `float`, got `str`$",
        ),
        (
            "a: {Read: {files: [x.txt]}}\nb: {Refine: {documents: a, keep: {rules: [{signal: words, op: '<'}]}}}",
            r"Refine.keep.rules\[0\] needs 'value'; add it",
        ),
        (
            "a: {Read: {files: [x.txt]}}\nb: {Judge: {documents: a, splitter: spacy_en}}",
            r"Judge.splitter cannot be 'spacy_en'; did you mean 'spacy-en'\?",
        ),
        (
            "a: {Read: {files: [x.txt]}}\nb: {Judge: {documents: a, semantics: [foo]}}",
            r"Judge.semantics\[0\] cannot be 'foo'; it is one of dclm, dolma, paper$",
        ),
        ("a: {Read: {files: [x.txt]}}\nb: {Sign: {documents: zebra}}", r"does not define; it is one of a, b$"),
        ("goal: b\na: {Read: {files: [x.txt]}}", "goal names 'b', which the recipe does not define"),
        ("- a", "is a mapping of names to stages"),
        ("a: {", "is not YAML"),
        ("{}", "the recipe is empty"),
    ],
)
def test_a_mistake_is_refused_with_the_nearest_name(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=sentence) as error:
        load(str(tmp_path / "bad.yaml"))
    assert "\n" not in str(error.value)


def test_a_recipe_that_is_not_there_or_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no recipe"):
        load(str(tmp_path / "none.yaml"))
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="defines no `recipe`"):
        load(str(tmp_path / "empty.py"))


def test_set_changes_every_stage_of_that_name_and_no_other(folder: Path) -> None:
    before = load(str(folder / "recipe.yaml"))
    after = changed(before, ["Refine.keep.language=[fr]", "Sign.bands=20"])
    kinds = {type(s).__name__: s for s in after.walk()}
    assert kinds["Refine"].keep.language == ("fr",)  # type: ignore[attr-defined]
    assert kinds["Refine"].keep.rules == "gopher"  # type: ignore[attr-defined]
    assert kinds["Sign"].bands == 20  # type: ignore[attr-defined]
    same = {s.address for s in before.walk()} & {s.address for s in after.walk()}
    assert {a.split("-")[0] for a in same} == {"crawl", "extract", "ingest", "gather", "identify", "judge"}
    with pytest.raises(ValueError, match=r"'Refin', which the recipe does not use; did you mean 'Refine'"):
        changed(before, ["Refin.keep=1"])
    with pytest.raises(ValueError, match=r"Sign\.documents is what another stage gives, not 'x'; name a stage"):
        changed(before, ["Sign.documents=x"])
    with pytest.raises(ValueError, match=r"Refine has no key 'kep'; did you mean 'keep'"):
        changed(before, ["Refine.kep=1"])
    with pytest.raises(ValueError, match="is not understood"):
        changed(before, ["Refine"])


def test_sample_reaches_the_sources(folder: Path) -> None:
    after = sampled(load(str(folder / "recipe.yaml")), 7)
    assert {s.sample for s in after.walk() if isinstance(s, Crawl | Ingest)} == {7}


def test_paths_that_begin_with_a_dot_lie_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("a: {Read: {files: [./texts/*.txt]}}")
    assert load(str(tmp_path / "recipe.yaml")).files == (str(tmp_path / "texts" / "*.txt"),)  # type: ignore[attr-defined]


def test_a_stage_named_twice_is_one_stage() -> None:
    goal = build(
        {
            "texts": {"Read": {"files": ["x.txt"]}},
            "kept": {
                "Refine": {
                    "documents": "texts",
                    "language": {"Identify": {"documents": "texts"}},
                    "quality": {"Judge": {"documents": "texts"}},
                }
            },
        }
    )
    assert [s.name for s in goal.walk()] == ["Read", "Identify", "Judge", "Refine"]
    assert Identify(goal.inputs["documents"]) == goal.inputs["language"]
    assert Judge(goal.inputs["documents"]) in list(goal.walk())
    assert Refine(goal.inputs["documents"], goal.inputs["language"], goal.inputs["quality"]) == goal


def test_two_sources_that_differ_in_their_folders_alone_are_refused():
    """Only names enter an address, so that a moved file is the same file; two of a name would stand for each other."""
    good, bad = Read(("good/part.jsonl",)), Read(("bad/part.jsonl",))
    with pytest.raises(ValueError, match=r"bad/part\.jsonl.*good/part\.jsonl.*different names"):
        list(Gather({"good": good, "bad": bad}).walk())
    assert len(list(Gather({"good": good, "bad": Read(("bad/other.jsonl",))}).walk())) == 3
    assert len(list(Gather({"one": good, "again": Read(("good/part.jsonl",))}).walk())) == 2
