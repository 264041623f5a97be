"""A model goes on with another domain, by recipe: before and after by source, replay, new pieces, back to theirs."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests import theirs as their
from tests.test_model_pretrain import sentences
from tests.theirs import transformers
from tundish.cluster.local import Local
from tundish.pipeline.plan import plan
from tundish.pipeline.run import run
from tundish.stages import hub as folders
from tundish.stages.corpus import Corpus
from tundish.stages.gather import Gather
from tundish.stages.judge import Judge
from tundish.stages.mix import Mix
from tundish.stages.pretrain import Pretrain
from tundish.stages.read import Read
from tundish.stages.refine import Keep, Refine
from tundish.stages.stage import Stage
from tundish.stages.tokenize import Tokenize

pytestmark = pytest.mark.slow  # five trainings; a folder is gone on with in tests/test_adapt_begin.py
SMALL = {"width": 32, "layers": 2, "heads": 2, "ff": 48}
FAST = {"length": 48, "batch": 4, "lr": 3e-3, "checkpoint_every": 50, "window": 0}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNDISH_TORCH_THREADS", "1")


def spoken(seed: int, words: list[str]) -> list[str]:
    """Texts of a toy language in words of its own."""
    return [
        " ".join(words[each % len(words)] for each in text) + f" {number}"
        for number, text in enumerate(sentences(60, seed))
    ]


def corpus_of(folder: Path, name: str, texts: list[str]) -> Corpus:
    file = folder / f"{name}.jsonl"
    file.write_text(
        "".join(json.dumps({"text": t, "url": f"http://{name}.example/{n}"}) + "\n" for n, t in enumerate(texts))
    )
    docs = Gather({name: Read((str(file),))})
    return Corpus(docs, Refine(docs, quality=Judge(docs), keep=Keep(rules="none")))


OLD = [
    "warm",
    "room",
    "kettle",
    "sings",
    "rain",
    "roof",
    "letter",
    "came",
    "bread",
    "butter",
    "hills",
    "lamp",
    "stair",
    "coat",
]
NEW = [
    "enzyme",
    "ligand",
    "substrate",
    "kinase",
    "inhibitor",
    "plasma",
    "receptor",
    "genome",
    "peptide",
    "assay",
    "titration",
]


def folder_of(goal: Stage, root: Path) -> Path:
    return Path(run(goal, Local(), str(root)).datasets[goal.address].uri)


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tokenize, Tokenize, Path]:
    """A root with a model of the old domain, and both domains in the old one's vocabulary."""
    folder = tmp_path_factory.mktemp("adapt")
    old = Tokenize(corpus_of(folder, "old", spoken(1, OLD)), vocabulary=300, holdout=0.2)
    pieces = str(folder_of(old, folder / "root") / "vocabulary.model")
    new = Tokenize(corpus_of(folder, "new", spoken(2, NEW)), vocabulary=pieces, holdout=0.2)
    began = Pretrain(old, model="gpt2", shape={**SMALL, "dropout": 0.0}, tokens="30k", **FAST)
    return folder, old, new, folder_of(began, folder / "root")


def test_replay_keeps_more_of_the_old_domain(made: tuple[Path, Tokenize, Tokenize, Path]) -> None:
    folder, old, new, begin = made
    mix = Mix({"old": old, "new": new})
    shares = {"alone": {"old": 1e-9, "new": 1}, "replay": {"old": 0.3, "new": 0.7}}
    found = {
        name: result(folder_of(Pretrain(mix, begin=str(begin), tokens="12k", weights=weights, **FAST), folder / "root"))
        for name, weights in shares.items()
    }
    for each in found.values():
        before, after = each["bits_per_byte_first"], each["bits_per_byte"]
        assert before["old"] == pytest.approx(result(begin)["bits_per_byte"]["old"], rel=1e-5)  # before any step
        assert after["new"] < before["new"] - 0.3
        assert each["begun"]["vocabulary"] == {"compared": "pieces", "file": "vocabulary.model"}
    lost = {name: each["bits_per_byte"]["old"] - each["bits_per_byte_first"]["old"] for name, each in found.items()}
    assert lost["alone"] > lost["replay"] + 0.1


def test_another_folder_under_the_same_name_is_trained_from_anew(
    made: tuple[Path, Tokenize, Tokenize, Path], tmp_path: Path
) -> None:
    folder, _, new, begin = made
    shutil.copytree(begin, tmp_path / "one" / "model")
    goal = Pretrain(new, begin=str(tmp_path / "one" / "model"), tokens="1k", **FAST)
    first = result(folder_of(goal, folder / "root"))
    shutil.move(tmp_path / "one", tmp_path / "two")  # a moved folder is the same folder
    moved = Pretrain(new, begin=str(tmp_path / "two" / "model"), tokens="1k", **FAST)
    assert moved.address == goal.address
    assert all(step.current for step in plan(moved, str(folder / "root")))
    weights = tmp_path / "two" / "model" / "model.safetensors"
    body = bytearray(weights.read_bytes())
    body[-2] ^= 0x40  # half of a weight
    weights.write_bytes(body)
    [step] = [step for step in plan(moved, str(folder / "root")) if not step.current]
    assert "begin/model.safetensors" in step.because
    assert result(folder_of(moved, folder / "root"))["first_loss"] != first["first_loss"]


def test_new_pieces_are_means_of_old_ones_and_it_goes_back(
    made: tuple[Path, Tokenize, Tokenize, Path], tmp_path: Path
) -> None:
    folder, old, new, begin = made
    more = Tokenize(new.corpus, vocabulary=new.vocabulary, extend=8, holdout=0.2)
    wide = folder_of(more, folder / "root")
    mix = Mix({"old": Tokenize(old.corpus, vocabulary=str(wide / "vocabulary.model"), holdout=0.2), "new": more})
    goal = Pretrain(mix, begin=str(begin), tokens="8k", weights={"old": 0.1, "new": 0.9}, **FAST)
    found = folder_of(goal, folder / "root")
    told = result(found)
    assert told["begun"]["grown"] == 8
    assert told["bits_per_byte"]["new"] < told["bits_per_byte_first"]["new"]

    read = folders.read(str(found))
    config = folders.write(
        str(tmp_path / "theirs"), read.shape, read.tensors, architecture=read.architecture, besides=read.config
    )
    assert (config["architectures"], config["vocab_size"]) == (["GPT2LMHeadModel"], 320)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs").eval()
    documents = [each % 308 for each in their.texts()]
    with torch.no_grad():
        logits, _ = their.their_logits(again, documents)
        mine, _ = their.our_logits(their.ours(read), documents)
    torch.testing.assert_close(logits, mine, atol=1e-5, rtol=1e-5)

    # what has learned the new pieces goes on with what it learned
    third = result(folder_of(Pretrain(mix, begin=str(found), tokens="1k", **FAST), folder / "root"))
    assert third["begun"]["grown"] == 0
    assert third["bits_per_byte_first"]["new"] == pytest.approx(told["bits_per_byte"]["new"], rel=1e-5)


def test_a_recipe_is_refused_before_anything_is_read(
    made: tuple[Path, Tokenize, Tokenize, Path], tmp_path: Path
) -> None:
    folder, old, new, begin = made
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        Pretrain(new, begin=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="shape says layers 9"):
        Pretrain(new, begin=str(begin), shape={"layers": 9})
    with pytest.raises(ValueError, match="has 48 learned positions"):
        Pretrain(new, begin=str(begin), length=64)
    with pytest.raises(ValueError, match="a decoder sees nothing behind a hidden token"):
        Pretrain(new, begin=str(begin), model="bert")
    with pytest.raises(ValueError, match="begin_generator goes with begin"):
        Pretrain(new, begin_generator=str(begin))
    assert Pretrain(new, begin=str(begin)).recipe()["objective"] == "clm"
    assert "GPT2LMHeadModel" in Pretrain(new, begin=str(begin)).notes()
    other = Tokenize(new.corpus, vocabulary=292, holdout=0.2)
    with pytest.raises(ValueError, match=r"tokenized with another vocabulary than .*give Tokenize `vocabulary: "):
        run(Pretrain(other, begin=str(begin), tokens="2k", **FAST), Local(), str(folder / "root"))
    assert old.vocabulary == 300
