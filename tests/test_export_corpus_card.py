"""The card of an exported corpus, what `datasets` makes of the folder, and the command."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.test_export_corpus import LICENCES, LITTLE, _card, recipe, table
from tundish.cluster.local import Local
from tundish.pipeline.cli_export import export_command
from tundish.pipeline.cli_export_corpus import export_of
from tundish.pipeline.export_corpus import export_corpus
from tundish.pipeline.funnel import funnel, ran
from tundish.pipeline.run import run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = str(tmp_path_factory.mktemp("carded") / "root")
    run(recipe(), Local(), made)
    return made


def header(to: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((to / "README.md").read_text().split("---\n")[1])
    return found


def test_datasets_loads_what_the_card_says(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    told = export_corpus(root, str(tmp_path / "out"), size=LITTLE, licence="cc-by-4.0", name='A "small" one: of two')
    head = header(tmp_path / "out")
    found = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(found) == told["rows"] == head["dataset_info"]["splits"][0]["num_examples"]
    assert found["text"][:] == table(tmp_path / "out")["text"].to_pylist()
    assert head["size_categories"] == ["n<1K"]
    assert (head["license"], head["pretty_name"], head["language"]) == ("cc-by-4.0", 'A "small" one: of two', ["en"])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"columns": ("text", "langage")}, "did you mean 'language'"),
        ({"columns": ("text", "edits")}, "no column 'edits'"),
        ({"corpus": "corpus-none"}, "no finished Corpus"),
        ({"size": 10}, "next to nothing"),
        ({"licence": "mine: all of it"}, "as the Hub spells it"),
    ],
)
def test_what_cannot_be_exported_is_named(root: str, tmp_path: Path, more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        export_corpus(root, str(tmp_path / "out"), **more)
    assert not (tmp_path / "out" / "README.md").exists()
    assert not list((tmp_path / "out").glob("data-*")) or "licence" in more


def test_the_card_tells_what_the_manifests_tell(root: str, tmp_path: Path) -> None:
    told = export_corpus(root, str(tmp_path / "out"), contact="someone@heron.example")
    text, rows = _card(tmp_path), table(tmp_path / "out").to_pylist()
    size = sum(len(row["text"].encode()) for row in rows)
    assert told["bytes"] == size
    assert header(tmp_path / "out")["dataset_info"]["splits"][0]["num_bytes"] == size
    for line in funnel(root):
        if line.drops:
            assert f"| {line.stage} | {line.documents_in} | {line.documents_out} |" in text
    reasons = Counter(ran(root).datasets[ran(root).of("Refine")[0]].table()["reason"].to_pylist())
    short = 40 + 2 * len(range(3, 40, 7))
    assert 0 < reasons["gopher_short_doc"] <= short
    assert f"| gopher_short_doc | words &lt; 50 | {reasons['gopher_short_doc']} | {short} |" in text
    origins = Counter(row["origin"] for row in rows)
    for origin, count in origins.items():
        assert f"| {origin} | {count} |" in text
    licences = Counter(row["licence"] or "none stated" for row in rows)
    assert f"| {LICENCES[0]} | {licences[LICENCES[0]]} |" in text
    assert f"| none stated | {licences['none stated']} |" in text
    assert f"| said in words | {licences[LICENCES[2]]} |" in text
    assert "write to someone@heron.example" in text
    assert "from 2026-10, in 1 Parquet" in text
    assert str(root) not in text, "no path of this machine"
    assert not re.search(r"\{[{%]|None|nan\b", text), "nothing unfilled"


def test_one_command_exports_a_model_or_a_corpus(root: str, tmp_path: Path) -> None:
    both, words = export_of(export_command), ["--to", str(tmp_path / "out")]
    done = CliRunner().invoke(both, ["corpus", root, *words, "--columns", "id, text", "--json"], catch_exceptions=False)
    assert json.loads(done.output)["rows"] == len(table(tmp_path / "out"))
    assert table(tmp_path / "out").column_names == ["id", "text"]
    for way in (["model", root, *words], [root, *words]):
        failed = CliRunner().invoke(both, way)
        assert isinstance(failed.exception, ValueError)
        assert "no training that is done" in str(failed.exception)
    told = CliRunner().invoke(both, ["--help"]).output
    assert "corpus" in told
    assert "model" in told
    assert CliRunner().invoke(both, ["corpus", root]).exit_code == 2
