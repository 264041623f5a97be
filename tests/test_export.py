"""A model that is handed over: what `transformers` loads is what lies here, and its card tells the run's numbers."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from click.testing import CliRunner

from tests import theirs, toys
from tundish.operators.text import tokenizer
from tundish.pipeline.card import cell
from tundish.pipeline.cli import cli
from tundish.pipeline.export import export
from tundish.pipeline.funnel import ran
from tundish.stages import hub
from tundish.stages.export import exported

TEXTS = [
    "A heron stood in the shallow water.",
    "Two, three [MASK] and more",
    "",
    "ein Kranich, 鶴, an emoji \U0001f600",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toys.trained_root(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def folder(root: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("handed") / "over"
    export(root, str(to), licence="cc-by-4.0")
    return to


def model_folder(root: str) -> Path:
    told = ran(root)
    return Path(told.datasets[told.of("Pretrain")[-1]].uri)


def ids_of(folder: Path) -> list[list[int]]:
    body = next(folder.glob("vocabulary.model")).read_bytes()
    pieces = tokenizer.load(body)
    found = pieces.encode(pa.array(TEXTS, pa.large_string())).to_pylist()
    return [[pieces.specials["[CLS]"], *ids, pieces.specials["[SEP]"]] for ids in found]


def test_transformers_gives_the_logits_and_ids_that_we_give(root: str, folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model, told = transformers.AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    words = transformers.AutoTokenizer.from_pretrained(folder)
    documents = ids_of(model_folder(root))
    assert [words(text).input_ids for text in TEXTS[:1] + TEXTS[2:]] == documents[:1] + documents[2:]
    assert words.mask_token_id in words(TEXTS[1]).input_ids, "there a text may ask with its mask"
    ours = theirs.ours(hub.read(str(model_folder(root))))
    with torch.no_grad():
        expected, _ = theirs.our_logits(ours, [np.array(each) for each in documents])
        found = torch.cat([model(torch.tensor([each])).logits[0] for each in documents])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_card_tells_what_the_manifests_tell(root: str, folder: Path) -> None:
    text = (folder / "README.md").read_text()
    head, body = text.split("---\n")[1], text.split("---\n", 2)[2]
    about = yaml.safe_load(head)
    assert about["license"] == "cc-by-4.0"
    assert about["pipeline_tag"] == "fill-mask"
    told = ran(root)
    trained = told.datasets[told.of("Pretrain")[-1]].about["result"]
    totals = told.datasets[told.of("Tokenize")[-1]].about["totals"]["language"]
    assert f"{trained['parameters']:,} parameters" in body
    assert f"| {trained['steps']:,} |" in body
    assert f"| {trained['holdout_last']:.3f} |" in body
    for language, sums in totals.items():
        assert f"| {language} | {sums['documents']:,} | {sums['tokens']:,} |" in body
    tuned = told.datasets[told.of("Finetune")[-1]].about["result"]
    part = tuned["parts"][tuned["tested"][0]]
    row = next(line for line in body.split("\n") if line.startswith("| fine-tuned, accuracy on test"))
    assert f"| {part['pretrained']['accuracy']['mean']:.3f}" in row
    assert f"{part['majority']['accuracy']:.3f} by the most frequent answer" in row
    assert not re.search(r"\{[{%]|None|nan", body), "nothing unfilled"


def test_half_precision_is_written_and_read_back(root: str, tmp_path: Path) -> None:
    told = export(root, str(tmp_path / "half"), precision="bfloat16")
    assert told["precision"] == "bfloat16"
    half, whole = hub.read(str(tmp_path / "half")).tensors, hub.read(str(model_folder(root))).tensors
    assert half.keys() == whole.keys()
    for name, each in whole.items():
        assert torch.equal(half[name], each.bfloat16())


def test_the_command_says_what_it_wrote(root: str, tmp_path: Path) -> None:
    to = tmp_path / "by-command"
    done = CliRunner().invoke(cli, ["export", root, "--to", str(to), "--json"], catch_exceptions=False)
    told = json.loads(done.output)
    assert {name: (to / name).stat().st_size for name in told["files"]} == told["files"]
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= set(told["files"])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"model": "pretrain-none"}, "is no finished training"),
        ({"generator": True}, "holds no generator"),
    ],
)
def test_what_cannot_be_exported_is_named(root: str, tmp_path: Path, more: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        export(root, str(tmp_path / "none"), **more)  # type: ignore[arg-type]
    assert not (tmp_path / "none" / "config.json").exists()


def test_a_model_that_lies_there_is_not_written_over(root: str, folder: Path) -> None:
    before = (folder / "config.json").read_bytes()
    with pytest.raises(ValueError, match="holds a model already"):
        export(root, str(folder))
    assert (folder / "config.json").read_bytes() == before


def test_a_vocabulary_that_is_not_the_models_is_refused(root: str, tmp_path: Path) -> None:
    where = model_folder(root)
    found = hub.read(str(where))
    small = tmp_path / "small"
    kept = {name: each[:16] if name.startswith("embedding.weight") else each for name, each in found.tensors.items()}
    kept |= {name: each[:16] for name, each in kept.items() if each.shape[:1] == (found.shape.vocabulary,)}
    hub.write(str(small), replace(found.shape, vocabulary=16), kept)
    with pytest.raises(ValueError, match=r"the vocabulary has \d+ pieces and the model's table 16"):
        exported(str(small), (where / "vocabulary.model").read_bytes(), str(tmp_path / "to"), card="")


def test_words_of_pages_stay_in_their_cell() -> None:
    assert cell("x|y\n<img src=x>`z`") == "x\\|y &lt;img src=x> z"
    assert len(cell("w" * 500)) == 120
