"""Does the house still stand: floors, doors, sizes, the public surface."""

import ast
import doctest
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.tree import tree

TOP = Path(__file__).resolve().parents[1]
ROOMS = ("operators", "cluster", "stages", "pipeline")
FILES = sorted(p for room in ROOMS for p in (TOP / room).rglob("*.py"))
LINES = 350  # a file; longer ones are named here with their reason
LONG: dict[str, str] = {}

SURFACE = {
    "run": {"recipe", "root", "sets", "sample", "wire", "until", "on", "workers", "trainers", "metrics", "as_json"},
    "dashboard": {"grafana"},
    "plan": {
        "recipe",
        "root",
        "sets",
        "sample",
        "wire",
        "as_json",
        "probe",
        "share",
        "workers",
        "price",
        "compare",
        "trainers",
    },
    "stage": {"name", "files", "sets", "rows", "as_json"},
    "submit": {"recipe", "root", "sets", "sample", "wire", "address", "until", "trainers", "follow", "wheel"},
    "status": {"job", "address"},
    "logs": {"job", "address", "follow"},
    "stop": {"job", "address", "wait"},
    "report": {"root", "out", "against"},
    "drift": {"reference", "other", "out", "as_json"},
    "why": {"what", "root", "step", "model"},
    "stream": {
        "where",
        "length",
        "row",
        "batch",
        "tokens",
        "window",
        "seed",
        "weights",
        "rate",
        "bandwidth",
        "cache",
        "as_json",
    },
    "evaluate": {"model", "pairs", "texts", "column", "most", "causal", "as_json"},
    "export": set(),  # a group of two
    "compress": {
        "alpha",
        "as_json",
        "batch",
        "columns",
        "delimiter",
        "dev",
        "encoding",
        "epochs",
        "form",
        "gradual",
        "header",
        "heads",
        "hidden",
        "layers",
        "length",
        "lr",
        "match",
        "model",
        "out",
        "quoted",
        "scope",
        "seeds",
        "share",
        "steps",
        "student",
        "teacher",
        "temperature",
        "test",
        "threads",
        "train",
        "way",
    },
    "contaminated": {"as_json", "columns", "kind", "on", "out", "root", "run_name", "test", "workers"},
    "finetune": {
        "against",
        "aids",
        "apart",
        "as_json",
        "batch",
        "beams",
        "beside",
        "code_length",
        "columns",
        "corpus",
        "delimiter",
        "dev",
        "encoding",
        "epochs",
        "form",
        "fresh",
        "header",
        "kind",
        "length",
        "longest",
        "lr",
        "mixing",
        "model",
        "no_repeat",
        "on",
        "out",
        "pooling",
        "quoted",
        "sample",
        "search",
        "seed",
        "seeds",
        "sizes",
        "slices",
        "space",
        "splits",
        "temperature",
        "test",
        "top_p",
        "train",
        "trainers",
        "trials",
    },
    "follow": {"recipe", "root", "every", "on", "workers", "sets", "wire", "replay", "as_json"},
    "replay": {"root", "sets", "examples", "run_name", "as_json"},
    "verify": {"root", "key", "sign"},
    "vocabulary": {"what", "files", "to", "framed", "as_json"},
    "forget": {"root", "what", "reason", "dry", "as_json"},
    "page": {"what", "root", "out"},
    "predict": {
        "batch",
        "beams",
        "columns",
        "content_free",
        "delimiter",
        "device",
        "encoding",
        "files",
        "fill",
        "form",
        "header",
        "label",
        "longest",
        "model",
        "no_repeat",
        "quoted",
        "raw",
        "sample",
        "seed",
        "temperature",
        "to",
        "top_p",
        "words",
    },
    "prune": {"root", "keep", "dry"},
    "train-language": {
        "files",
        "out",
        "holdout",
        "dimension",
        "shortest",
        "longest",
        "buckets",
        "least",
        "epochs",
        "lr",
        "loss",
        "seed",
        "keep",
        "as_json",
    },
}


def module(path: Path) -> str:
    name = ".".join(path.relative_to(TOP).with_suffix("").parts)
    return "tundish." + name.removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """First words of what a file imports, anywhere in it; for ours, the full module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_the_floors_stand() -> None:
    told = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=TOP, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


def test_one_door_to_each_outside_world() -> None:
    doors = {
        "ray": {
            "cluster/on_ray.py",
            "cluster/ray_gang.py",
            "cluster/ray_board.py",
            "cluster/ray_cancel.py",
            "cluster/ray_metrics.py",
            "cluster/ray_room.py",
            "cluster/ray_search.py",
            "cluster/ray_tasks.py",
            "cluster/jobs.py",
        },
        "aiohttp": {"cluster/wire.py"},
        "asyncio.streams": set(),
    }
    for path in FILES:
        name = path.relative_to(TOP).as_posix()
        for word in imported(path):
            door = doors.get(word.split(".")[0])
            assert door is None or name in door, f"{name} imports {word}"


def test_sockets_are_opened_in_wire_alone() -> None:
    for path in FILES:
        name = path.relative_to(TOP).as_posix()
        if name in ("cluster/wire.py", "pipeline/setup.py"):  # setup fetches a model before anything runs
            continue
        called = {
            f"{n.func.value.id}.{n.func.attr}"
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and isinstance(n.func.value, ast.Name)
        }
        assert not called & {"socket.socket", "socket.create_connection", "asyncio.open_connection"}, name
        assert not imported(path) & {"urllib.request", "http.client", "requests", "httpx"}, name


def test_torch_lives_in_few_rooms() -> None:
    allowed = (
        "operators/model/",
        "cluster/checkpoint",
        "cluster/ray_board.py",
        "cluster/ray_gang.py",
        "stages/pretrain_",
        "stages/finetune_",
        "stages/compress",
        "stages/export",
        "stages/language_model.py",
        "stages/predict.py",
        "stages/fill.py",
        "stages/search",
        "stages/tuned.py",
        "stages/ranks.py",
        "stages/spread",
        "stages/blockwise.py",
        "stages/scale.py",
        "stages/hub.py",
    )
    for path in FILES:
        if any(word.split(".")[0] == "torch" for word in imported(path)):
            assert path.relative_to(TOP).as_posix().startswith(allowed), path


def test_no_file_outgrows_a_reader() -> None:
    for path in FILES:
        name, lines = path.relative_to(TOP).as_posix(), len(path.read_text().splitlines())
        assert lines <= LINES or name in LONG, f"{name} has {lines} lines"


def test_no_circles() -> None:
    known = {module(p): p for p in FILES}
    edges = {m: {i for i in imported(p) if i in known} for m, p in known.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for other in sorted(edges[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())


def test_every_package_on_disk_is_installed() -> None:
    setup = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {module(p) for p in FILES if p.name == "__init__.py"}
    assert packages == set(setup["packages"]) == set(setup["package-dir"])


def test_style() -> None:
    for check in (["check", "."], ["format", "--check", "."]):
        told = subprocess.run([Path(sys.executable).parent / "ruff", *check], cwd=TOP, capture_output=True, text=True)
        assert told.returncode == 0, told.stdout[-3000:]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(TOP).as_posix())
def test_each_module_has_a_docstring_and_its_examples_hold(path: Path) -> None:
    found = importlib.import_module(module(path))
    assert found.__doc__, path
    assert doctest.testmod(found).failed == 0


def test_the_readme_draws_the_house_as_it_is() -> None:
    """`python tests/tree.py` mends it."""
    assert tree() in (TOP / "README.md").read_text()


def test_the_readme_names_every_command() -> None:
    from tundish.pipeline.cli import cli

    text = (TOP / "README.md").read_text()
    assert all(name in text for name in cli.commands)


def test_the_command_line_grows_on_purpose_only() -> None:
    from tundish.pipeline.cli import cli

    found = {name: {p.name for p in command.params} for name, command in cli.commands.items()}
    assert found == SURFACE
    assert all(command.help for command in cli.commands.values())
