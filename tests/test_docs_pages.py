"""The pages themselves: recipes in them load, Python in them imports what there is, links lead somewhere, and the
reference of the site has all that it is made of."""

import ast
import dataclasses
import functools
import importlib
import importlib.util
import re
import typing
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tests.test_docs import EVERY, FENCE, PAGES, TOP, Block
from tundish.pipeline import recipe as recipes
from tundish.pipeline.cli import cli
from tundish.stages.stage import Stage

# Names that fragments of recipes take for granted, as a whole recipe would have them.
GRANTED = """
crawl: {Crawl: {seeds: [https://example.org/], agent: "a/1 (+https://example.org/b)", as_of: "2026-11-22"}}
documents: {Read: {files: [documents.jsonl]}}
good_documents: {Read: {files: [good.jsonl]}}
bad_documents: {Read: {files: [bad.jsonl]}}
language: {Identify: {documents: documents}}
quality: {Judge: {documents: documents, language: language}}
kept: {Refine: {documents: documents, language: language, quality: quality}}
signed: {Sign: {documents: documents}}
twins: {Deduplicate: {documents: documents, signatures: signed, among: kept, quality: quality}}
corpus: {Corpus: {documents: documents, kept: kept, twins: twins, language: language, quality: quality}}
tokens: {Tokenize: {corpus: corpus}}
shards: {Tokenize: {corpus: corpus}}
web: {Tokenize: {corpus: corpus, vocabulary: 9000}}
books: {Tokenize: {corpus: corpus, vocabulary: 9001}}
encoder: {Pretrain: {shards: tokens}}
"""
YAML = [block for block in EVERY if block.kind == "yaml"]


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.name)
def test_every_recipe_loads(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fineweb-2" / "configs").mkdir(parents=True)
    (tmp_path / "fineweb-2" / "configs" / "deu_Latn.yml").write_text("language_score: 0.821\n")
    found = recipes._parsed(block.body, block.name)
    granted = yaml.safe_load(GRANTED)
    if is_recipe(found):
        value = {**granted, **{name: completed(stage, granted) for name, stage in found.items()}}
        assert isinstance(recipes.build({"goal": list(found)[-1], **value}), Stage)
        return
    tried = [kind for kind in recipes.STAGES.values() if {*found} <= {f.name for f in dataclasses.fields(kind)}]
    assert tried, f"{block.name}: no stage has the fields {', '.join(found)}"
    assert any(builds(kind.__name__, found, granted) for kind in tried)


def is_recipe(found: Any) -> bool:
    stages = [v for k, v in found.items() if k != "goal"]
    return all(
        isinstance(v, str) or (isinstance(v, dict) and len(v) == 1 and {*v} <= {*recipes.STAGES}) for v in stages
    )


def completed(stage: Any, granted: dict[str, Any]) -> Any:
    """A stage with `…` among its fields has the others as they are granted; weights that lie elsewhere are left out."""
    if not isinstance(stage, dict):
        return stage
    ((kind, fields),) = stage.items()
    fields = dict(fields)
    if "…" in fields:
        usual = next(one[kind] for one in granted.values() if kind in one)
        fields = {**usual, **{k: v for k, v in fields.items() if k != "…"}}
    if kind == "Pretrain":
        fields = {k: v for k, v in fields.items() if k not in ("begin", "begin_generator")}
    return {kind: {k: completed(v, granted) if nested(v) else v for k, v in fields.items()}}


def nested(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and {*value} <= {*recipes.STAGES}


def builds(kind: str, fields: dict[str, Any], granted: dict[str, Any]) -> bool:
    """Whether a stage takes these fields, beside those it is granted."""
    usual = next((one[kind] for one in granted.values() if kind in one), {})
    try:
        recipes.build({**granted, "tried": {kind: {**usual, **fields}}})
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("block", [b for b in EVERY if b.kind == "python"], ids=lambda block: block.name)
def test_python_compiles_and_imports_what_there_is(block: Block) -> None:
    for node in ast.walk(ast.parse(block.body.replace("…", "..."))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tundish"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def anchor(heading: str) -> str:
    """As GitHub and mkdocs name a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {anchor(found) for found in re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text()), re.M)}


MADE = re.compile(r"docs/(?:reference/[\w.]+|examples/\w+)\.md")  # pages of the site that no file holds


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(TOP).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, part = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        name = to.relative_to(TOP).as_posix()
        if MADE.fullmatch(name):
            assert name in made(), target
            continue
        assert to.exists(), target
        assert not part or part in anchors(to), target


@functools.cache
def made() -> set[str]:
    """Pages that the hook of the site makes."""
    return {f"docs/{path}" for path in load_reference().pages()}


def test_every_page_of_the_site_is_in_its_menu() -> None:
    menu = (TOP / "mkdocs.yml").read_text()
    for page in (TOP / "docs").rglob("*.md"):
        assert page.relative_to(TOP / "docs").as_posix() in menu, page.name


def test_the_reference_has_every_command_stage_and_public_function() -> None:
    reference = load_reference()
    commands, stages = reference.commands(), reference.stages()
    for path, command in reference.walked(cli, ("tundish",)):
        assert f"## {' '.join(path)}\n" in commands
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in commands
    for name, kind in recipes.STAGES.items():
        part = stages.split(f"## {name}\n")[1].split("\n## ")[0]
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            assert f"| `{field.name}` | `" in part, (name, field.name)
            assert field.name in hints
    text = reference.of_package("operators/text")
    assert "### signatures\n" in text
    assert "def signatures(" in text


def load_reference() -> Any:
    spec = importlib.util.spec_from_file_location("reference", TOP / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_recipe_that_is_wrong_is_found() -> None:
    assert not is_recipe({"a": {"Jugde": {}}})
    assert not builds("Refine", {"keep": {"rules": "gohper"}}, yaml.safe_load(GRANTED))
    assert builds("Refine", {"keep": {"rules": "gopher"}}, yaml.safe_load(GRANTED))
