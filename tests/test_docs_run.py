"""Blocks of the pages that say so are run, as they stand, one page after the other in a folder of its own.

A line `<!-- run -->` before a block of `sh` marks it; blocks of a page share a shell. The sample web lies beside them
as `examples/`, and `tundish` is the one of this checkout.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs import EVERY, TOP, Block
from tests.test_docs_pages import load_reference

SLOW = ("docs/tutorial.md",)
SHIM = """#!{python}
import sys
sys.path.insert(0, {top!r})
from tests.test_docs import hooked
from tundish.pipeline import cli
hooked()
cli.main()
"""


def pages() -> dict[str, list[Block]]:
    found: dict[str, list[Block]] = {}
    for block in EVERY:
        if block.runs:
            found.setdefault(block.page.relative_to(TOP).as_posix(), []).append(block)
    return found


def test_what_is_marked_can_be_run() -> None:
    assert {*SLOW} < {*pages()}
    assert all(block.kind == "sh" for each in pages().values() for block in each)


@pytest.mark.parametrize("page", [pytest.param(p, marks=pytest.mark.slow) if p in SLOW else p for p in pages()])
def test_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tundish").write_text(SHIM.format(python=sys.executable, top=str(TOP)))
    (tmp_path / "bin" / "tundish").chmod(0o755)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "examples").symlink_to(TOP / "examples")
    script = "set -e\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n" + "\n".join(b.body for b in pages()[page])
    paths = [str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path / "here", env=os.environ | {"PATH": ":".join(paths)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "tundish: " not in done.stderr
    if page == "docs/tutorial.md":
        left = {path.name for path in (tmp_path / "here").iterdir()}
        assert {"demo", "demo-corpus", "demo-model", "demo-tuned"} <= left
        assert "was left out" not in done.stderr
        assert (tmp_path / "here" / "demo" / "report.html").stat().st_size > 10_000
        assert (tmp_path / "here" / "demo-tuned" / "result.json").exists()


@pytest.mark.slow
def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=TOP, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for page in ("index.html", "tutorial/index.html", "reference/commands/index.html", "examples/documents/index.html"):
        assert (tmp_path / "site" / page).stat().st_size > 1000, page
    assert "reference/stages.md" in load_reference().pages()
