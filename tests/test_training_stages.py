"""Pretrain and Finetune as stages: sealed, refused when damaged, begun anew when their inputs are others."""

import json
from pathlib import Path

import pytest
import torch

from tests import sample_archive
from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.pipeline.recipe import changed, load
from tundish.pipeline.run import Outcome, run
from tundish.pipeline.verify import verify
from tundish.stages.pretrain import PRECISIONS, number

TOP = Path(__file__).resolve().parents[1]
ARTICLES = TOP / "examples" / "sample_web" / "articles" / "en"
READ = sample_archive.RECIPE.replace(
    "Extract: {{archives: {{Ingest: {{archives: {files}}}}}}}", "Read: {{files: {files}}}"
)
TRAINED = """
encoder: {Pretrain: {shards: tokens, tokens: 3k, batch: 4, length: 64, checkpoint_every: 2}}
labels: {Finetune: {encoder: encoder, train: DATA, seeds: [1], epochs: 1, fresh: false}}
"""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNDISH_TORCH_THREADS", "1")  # threads of a small model mostly wait for each other


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for path in sorted(ARTICLES.glob("*.txt"))[:8]:
        (folder / path.name).write_text(path.read_text())
    return folder


def trained(tmp_path: Path, texts: Path, *sets: str) -> Outcome:
    recipe = tmp_path / "recipe.yaml"
    lines = READ.format(files=[str(texts / "*.txt")]) + TRAINED.replace("DATA", str(TOP / "examples" / "sentiment.tsv"))
    recipe.write_text(lines)
    goal = changed(load(str(recipe)), ["Tokenize.vocabulary=600", "Tokenize.holdout=0.1", *sets])
    return run(goal, Local(), str(tmp_path / "root"))


def folder_of(outcome: Outcome, name: str) -> Path:
    (found,) = (Path(d.uri) for a, d in outcome.datasets.items() if a.startswith(f"{name}-"))
    return found


@pytest.mark.slow
def test_training_is_sealed_and_begun_anew_when_the_corpus_changes(tmp_path: Path, texts: Path) -> None:
    outcome = trained(tmp_path, texts)
    encoder = folder_of(outcome, "pretrain")
    first = json.loads((encoder / "result.json").read_text())
    assert abs(first["tokens"] - 3000) <= 4 * 64  # to a step
    assert opened(str(encoder)).about["result"]["last_loss"] == first["last_loss"]  # type: ignore[union-attr]
    assert verify(str(tmp_path / "root")) == []
    (texts / "one-more.txt").write_text(sorted(ARTICLES.glob("*.txt"))[10].read_text())
    again = trained(tmp_path, texts)
    assert folder_of(again, "pretrain") == encoder, "the recipe is the same"
    second = json.loads((encoder / "result.json").read_text())
    assert second["first_loss"] != first["first_loss"]
    assert len((encoder / "log.jsonl").read_text().splitlines()) == second["steps"]
    assert {a.split("-")[0] for a in trained(tmp_path, texts).seconds} == set()


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.model", "config.json"])
def test_a_damaged_encoder_is_named_and_not_tuned(tmp_path: Path, texts: Path, name: str) -> None:
    outcome = trained(tmp_path, texts)
    path = folder_of(outcome, "pretrain") / name
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(bytes(body))
    assert any("pretrain" in line for line in verify(str(tmp_path / "root")))
    with pytest.raises(ValueError, match=rf"{name} does not match its digest"):
        trained(tmp_path, texts, "Finetune.epochs=2")


def test_a_damaged_vocabulary_is_named_and_nothing_is_trained_with_it(tmp_path: Path, texts: Path) -> None:
    outcome = trained(tmp_path, texts)
    path = folder_of(outcome, "tokenize") / "vocabulary.model"
    body = bytearray(path.read_bytes())
    body[3000] ^= 1
    path.write_bytes(bytes(body))
    assert any("tokenize" in line for line in verify(str(tmp_path / "root")))
    from tundish.stages.vocabulary import tokenizer_at

    tokenizer_at.cache_clear()
    with pytest.raises(ValueError, match=r"vocabulary.model is not the vocabulary its manifest names"):
        trained(tmp_path, texts, "Pretrain.tokens=4k")
    path.unlink()  # what the message advises
    assert {a.split("-")[0] for a in trained(tmp_path, texts).seconds} >= {"tokenize"}
    assert verify(str(tmp_path / "root")) == []


def test_wrong_settings_are_refused_before_anything_runs(tmp_path: Path, texts: Path) -> None:
    for setting, sentence in (
        ("Pretrain.model=tinny", "it is one of tiny"),
        ("Pretrain.precision=float8", "it is one of float32"),
        ("Pretrain.tokens=lots", "is no number of tokens"),
        ("Pretrain.tokens=infM", "is no number of tokens"),
        ("Pretrain.mask=1.5", "it is the share of tokens"),
        ("Pretrain.batch=0", "it is at least 1"),
        ("Pretrain.length=2", "it is at least 3"),
        ("Pretrain.row=32", "a row holds at least one segment"),
        ("Pretrain.window=-1", "it is at least 0"),
        ("Pretrain.checkpoint_every=0", "it is at least 1"),
        ("Pretrain.skip=[[9, 5]]", "positions, ascending"),
        ("Pretrain.weights={web: -1}", "give positive numbers"),
        ("Pretrain.reweigh={5: {}}", "give positive numbers"),
        ("Pretrain.reweigh={0: {web: 1}}", "say by `weights`"),
        ("Finetune.task=guess", "is no kind of fine-tuning"),
        ("Finetune.seeds=[]", "without a seed trains nothing"),
        ("Finetune.aids={rdop: 1}", "there is no aid 'rdop'"),
        ("Finetune.test={train: x.tsv}", "use letters, digits"),
    ):
        with pytest.raises(ValueError, match=sentence):
            trained(tmp_path, texts, setting)
    assert not (tmp_path / "root").exists()


def test_the_names_known_without_torch_are_those_there_are() -> None:
    from tundish.stages.spread import precision_of

    assert {precision_of(name)[1] for name in PRECISIONS} == {
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.float64,
    }
    with pytest.raises(ValueError, match="choose one of"):
        precision_of("float8")
    assert number("1.5M") == 1_500_000


def test_a_stage_in_the_wrong_place_is_refused_at_load(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("d: {Read: {files: [x.txt]}}\nl: {Identify: {documents: d}}\nc: {Corpus: {documents: d, kept: l}}")
    with pytest.raises(ValueError, match=r"Corpus.kept is Identify, which gives no 'reason'"):
        load(str(path))
