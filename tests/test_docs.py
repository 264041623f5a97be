"""What the README, the pages and the examples tell people to type: every command is known, with its options and what
it names. What can be run is run by test_docs_run.py; recipes, Python and links are looked at by test_docs_pages.py."""

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from tundish.pipeline import recipe as recipes
from tundish.pipeline.cli import cli
from tundish.pipeline.cli_export_corpus import export_of
from tundish.pipeline.sample import STATIONS

TOP = Path(__file__).resolve().parents[1]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md")), *sorted((TOP / "examples").glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.M | re.S)
OURS = ("tundish", "make", "python", ".venv/bin/python")
# Programs of others that pages name: what they take is for them to say.
OTHERS = ("ray", "export", "source", "printf", "ls", "cp", "wget", "wb-manager", "wayback", "until")


class Block(NamedTuple):
    """A fenced block. `runs`: whether the line before it says that it is run."""

    page: Path
    line: int
    kind: str
    body: str
    runs: bool

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(TOP).as_posix()}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()].rstrip().rpartition("\n")[2].strip()
        body = "\n".join(line.removeprefix(match[1]) for line in match[3].split("\n"))
        found.append(Block(page, text.count("\n", 0, match.start()) + 1, match[2], body, before == "<!-- run -->"))
    return found


EVERY = [block for page in PAGES for block in blocks(page)]


class Said(NamedTuple):
    """A command as a page spells it."""

    where: str
    words: str


def lines_of(block: Block) -> Iterator[tuple[int, str]]:
    """Lines that are typed, with those that a backslash goes on to: all of `sh`, of others those with a prompt or
    with a program of ours at their head."""
    whole = re.sub(r" *\\\n *", " ", block.body)
    for number, line in enumerate(whole.split("\n")):
        prompted = line.startswith("$ ")
        bare = line.removeprefix("$ ").strip()
        ours = re.match(rf"(?:[A-Z_]+=\S+ )*(?:{'|'.join(map(re.escape, OURS))}) ", line)
        if bare and not bare.startswith("#") and (block.kind == "sh" or prompted or (not block.kind and ours)):
            yield number, bare


def indented(page: Path) -> Iterator[str]:
    """Commands in blocks that are told by four spaces."""
    for line in FENCE.sub("", page.read_text()).split("\n"):
        if re.match(r" {4}(?:\$ )?tundish [a-z]", line):
            yield line.strip().removeprefix("$ ")


def said() -> list[Said]:
    found = [Said(f"{b.name}+{n}", line) for b in EVERY if b.kind in ("", "sh", "console") for n, line in lines_of(b)]
    found += [Said(page.relative_to(TOP).as_posix(), line) for page in PAGES for line in indented(page)]
    return found


COMMANDS = said()


def hooked() -> click.Group:
    """The command line with both exports, as `pipeline/cli.py` is to have it."""
    if not isinstance(cli.commands["export"], click.Group):
        cli.commands["export"] = export_of(cli.commands["export"])
    return cli


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> click.Group:
    monkeypatch.setattr(cli, "commands", dict(cli.commands))
    return hooked()


def test_there_is_something_to_look_at() -> None:
    assert len(COMMANDS) > 100
    assert len([block for block in EVERY if block.kind == "yaml"]) > 25


@pytest.mark.parametrize("one", COMMANDS, ids=lambda one: f"{one.where} {one.words[:40]}")
def test_every_command_is_known(one: Said, whole: click.Group) -> None:
    words = re.sub(r"^(?:[A-Z_]+=(?:'[^']*'|\S+) )+", "", one.words)
    program = words.split()[0]
    if program == "make":
        target = re.split(r"\s{2,}|\s#", words)[0].split()[1].rstrip(",;")
        assert re.search(rf"^{re.escape(target)}:", (TOP / "Makefile").read_text(), re.M), target
    elif program in ("python", ".venv/bin/python"):
        script = re.split(r"\s", words)[1]
        assert script in ("-c", "-m") or (TOP / script).exists(), script
    elif program == "tundish":
        for each in spread(words):
            check(whole, each)
    else:
        assert program in OTHERS, f"{program!r} is neither ours nor known; say in OTHERS whose it is"


def spread(words: str) -> list[str]:
    """`tundish status | logs | stop JOB` is three; a pipe into another program ends a command."""
    many = re.match(r"tundish ((?:[a-z-]+ \| )+[a-z-]+)\b(.*)", words)
    if many and all(name in cli.commands for name in many[1].split(" | ")):
        return [f"tundish {name} {many[2]}" for name in many[1].split(" | ")]
    return [re.split(r" \| (?=[a-z])", words)[0]]


def check(group: click.Group, words: str) -> None:
    """A command parses: its options exist and have values of their kind. What stands behind two spaces may be what it
    does, in words, but no option is lost with it."""
    words = re.sub(r"\s#.*$", "", words).replace("[", "").replace("]", "")
    parts = re.split(r"\s{2,}", words)
    spelt = [
        " ".join(parts[:count]) for count in range(len(parts), 0, -1) if " --" not in " ".join(["", *parts[count:]])
    ]
    wrong: list[Exception] = []
    for each in spelt:
        try:
            _, *given = shlex.split(each)
            values = parsed(
                group, [w for w, before in zip(given, ["", *given], strict=False) if w != "…" or before[:2] == "--"]
            )
        except (click.ClickException, ValueError) as error:
            wrong.append(error)
            continue
        assert "files" not in values or values.get("name", "NAME") in ("NAME", *STATIONS), values["name"]
        settings(values.get("sets") or ())
        named(values.get("recipe"), values.get("sets") or ())
        return
    raise AssertionError(f"{words!r}: {wrong[0]}")


def parsed(group: click.Group, given: list[str]) -> dict[str, Any]:
    """The values of a command's parameters. Raises what click says of words that are none."""
    context: click.Context = click.Context(group, info_name="tundish")
    command: click.Command = group
    while isinstance(command, click.Group):
        context = command.make_context(command.name, given, parent=context)
        name, found, given = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None, name
        command = found
    return command.make_context(command.name, given, parent=context).params


def settings(sets: tuple[str, ...]) -> None:
    """Each names a field of a stage."""
    for one in sets:
        stage, _, rest = one.partition("=")[0].partition(".")
        if "…" in one or not stage.isascii() or stage == "STAGE":
            continue
        known = {field.name for field in dataclasses.fields(recipes.STAGES[stage])}
        assert rest.split(".")[0] in known, f"{stage} has no {rest!r}"


def named(recipe: str | None, sets: tuple[str, ...]) -> None:
    """A recipe of this project is there, and takes what is set in it."""
    if recipe and recipe.startswith("examples/"):
        assert (TOP / recipe).exists(), recipe
        if recipe != "examples/adaptation.yaml":  # wants a folder of weights; tests/test_examples_recipes.py has one
            recipes.changed(recipes.load(str(TOP / recipe)), sets)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(TOP).as_posix())
def test_commands_within_sentences_are_known(page: Path, whole: click.Group) -> None:
    for words in re.findall(r"`(tundish [a-z-][^`]*)`", FENCE.sub("", page.read_text())):
        command: click.Command = whole
        given = words.split()[1:]
        while isinstance(command, click.Group) and given and given[0] in command.commands:
            command = command.commands[given.pop(0)]
        assert command is not whole, f"{words}: no such command"
        tried = [command, *getattr(command, "commands", {}).values()]
        options = {name for one in tried for parameter in one.params for name in (*parameter.opts, "--help")}
        for word in given:
            if word.startswith("--"):
                assert word.partition("=")[0] in options, f"{words}: {word}"


def test_a_page_that_tells_something_wrong_is_found(whole: click.Group) -> None:
    """The looks above, held against what they are to find."""
    for words in (
        "tundish rnu recipe.yaml",
        "tundish run recipe.yaml --untill Corpus",
        "tundish run recipe.yaml  --bogus 3",
        "tundish run recipe.yaml --workers many",
        "tundish verify",
        "tundish export corpus ROOT",
        "tundish replay ROOT --set Refine.rulez.a=1",
        "tundish run examples/none.yaml",
        "tundish stage Read a.jsonl",
    ):
        with pytest.raises((AssertionError, KeyError)):
            check(whole, words)
    check(whole, "tundish run   recipe.yaml --sample 200      a small sample, in words")
