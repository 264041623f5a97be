"""The reference of the site, made of the code as it is: commands, stages, modules; and the examples as pages.

A hook of mkdocs (`hooks` in mkdocs.yml), so nothing is written beside the pages. Promises: every command and option
that click knows, every stage and field that a recipe knows, every public function and class with its docstring.
Modules are read and not imported; commands and stages are. Costs a second. Refuses nothing: what has no docstring has
none here.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

TOP = Path(__file__).resolve().parents[1]
PACKAGES = ("operators/web", "operators/text", "operators/model", "cluster", "stages", "pipeline")


def pages() -> dict[str, str]:
    """Path in the site -> Markdown, of every page that is made."""
    found = {"reference/commands.md": commands(), "reference/stages.md": stages(), "reference/modules.md": modules()}
    for package in PACKAGES:
        name = "stages_modules" if package == "stages" else package.replace("/", ".")
        found[f"reference/{name}.md"] = of_package(package)
    return found | dict(examples())


def on_files(files: Any, config: Any) -> Any:
    """What mkdocs asks of a hook."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def commands() -> str:
    """Every command with click's own help."""
    from tundish.pipeline.cli import cli

    parts = ["# Commands", "`tundish COMMAND --help` says the same. Errors are one sentence; exit code 2 is bad input."]
    for path, command in walked(cli, ("tundish",)):
        context = click.Context(command, info_name=" ".join(path), max_content_width=110, terminal_width=110)
        parts += [f"## {' '.join(path)}", f"```text\n{command.get_help(context)}\n```"]
    return "\n\n".join(parts) + "\n"


def walked(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Commands below a group, groups among them, by name."""
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield (*path, name), inner
        yield from walked(inner, (*path, name))


def stages() -> str:
    """Every stage of a recipe: what it is, what it reads and writes, its fields."""
    from tundish.pipeline.recipe import STAGES

    parts = [
        "# Stages",
        "What a recipe may name. A field without a default has to be given; a field that takes a stage",
    ]
    parts[-1] += " takes the name of another key."
    for name, kind in STAGES.items():
        source = Path(inspect.getfile(kind))
        parts += [f"## {name}", f"`{source.relative_to(TOP).as_posix()}`", plain(_docstring(source))]
        parts += [plain(inspect.cleandoc(kind.__doc__ or ""))]
        parts += ["\n".join(["| field | type | default | |", "|---|---|---|---|", *_fields(source, name)])]
        makes = getattr(kind, "makes", ())
        if isinstance(makes, tuple) and makes:
            parts += ["Writes: " + ", ".join(f"`{column}`" for column in makes)]
    return "\n\n".join(parts) + "\n"


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def _fields(path: Path, name: str) -> Iterator[str]:
    """Rows of a table: the annotated names of a class, with the comment behind each."""
    text = path.read_text()
    lines = text.split("\n")
    (found,) = (n for n in ast.parse(text).body if isinstance(n, ast.ClassDef) and n.name == name)
    for node in found.body:
        if not isinstance(node, ast.AnnAssign) or "ClassVar" in (kind := ast.unparse(node.annotation)):
            continue
        default = "" if node.value is None else _default(ast.unparse(node.value))
        said = lines[node.end_lineno - 1].partition("  # ")[2] if node.end_lineno else ""
        cells = (f"`{ast.unparse(node.target)}`", f"`{kind}`", f"`{default}`" if default else "", plain(said))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(written: str) -> str:
    """What stands for nothing, said shortly."""
    made = re.fullmatch(r"field\((.*)\)", written)
    if made is None:
        return written
    given = re.search(r"default=(.+?)(?:, metadata=\w+)?$", made[1])
    return given[1] if given else "nothing" if "default_factory" in written else ""


def modules() -> str:
    """The tree: each file with the first sentence of its docstring."""
    parts = ["# Modules", "Imports run downwards only: `pipeline -> stages -> {operators, cluster}`."]
    for package in PACKAGES:
        name = "stages_modules" if package == "stages" else package.replace("/", ".")
        rows = [f"| `{path.stem}` | {plain(first(_docstring(path)))} |".replace("\n", " ") for path in files(package)]
        parts += [f"## [{package}]({name}.md)", "\n".join(["| file | |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def files(package: str) -> list[Path]:
    folder = TOP / package
    kernels = sorted((folder / "kernels").glob("*.py")) if (folder / "kernels").is_dir() else []
    return [path for path in [*sorted(folder.glob("*.py")), *kernels] if path.stem != "__init__"]


def first(text: str) -> str:
    """The first paragraph, in one line, where `|` may stand in a table."""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


def of_package(package: str) -> str:
    """Each file with its docstring, and its public functions and classes with theirs."""
    parts = [f"# {package}"]
    for path in files(package):
        tree = ast.parse(path.read_text())
        parts += [f"## {path.relative_to(TOP / package).with_suffix('').as_posix()}"]
        parts += [plain(ast.get_docstring(tree) or "")]
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) and node.name[0] != "_":
                parts += [
                    f"### {node.name}",
                    f"```python\n{signature(node)}\n```",
                    plain(ast.get_docstring(node) or ""),
                ]
    return "\n\n".join(part for part in parts if part) + "\n"


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    """The head of a definition as it would be written."""
    if isinstance(node, ast.ClassDef):
        named = [ast.unparse(one) for one in [*node.bases, *node.keywords]]
        return f"class {node.name}" + (f"({', '.join(named)})" if named else "")
    ending = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"def {node.name}({ast.unparse(node.args)}){ending}"


def plain(text: str) -> str:
    """A docstring as Markdown: examples as code, and no HTML by accident."""
    blocks = []
    for block in text.split("\n\n"):
        if block.startswith(">>> "):
            blocks.append(f"```pycon\n{block}\n```")
        elif block.startswith("    "):
            blocks.append(block)
        else:
            parts = re.split(r"(`+[^`]*`+)", block)
            kept = [p if n % 2 else p.replace("<", "&lt;").replace("*", "\\*") for n, p in enumerate(parts)]
            blocks.append("".join(kept).replace("[", "\\["))
    return "\n\n".join(blocks)


def examples() -> Iterator[tuple[str, str]]:
    """Pages of `examples/`, with the recipe each is about."""
    for path in sorted((TOP / "examples").glob("*.md")):
        text = path.read_text().replace("](../docs/", "](../")
        recipe = path.with_suffix(".yaml")
        if recipe.exists():
            text += f"\n## The recipe\n\n```yaml\n{recipe.read_text()}```\n"
        yield f"examples/{'index' if path.stem == 'README' else path.stem}.md", _inside(text)


def _inside(text: str) -> str:
    """Links to files that are no pages become their names."""
    return re.sub(
        r"\[([^\]]+)\]\((?![a-z]+:|#|\.\./)([^)#]*)\)", lambda m: m[0] if m[2].endswith(".md") else m[1], text
    )
