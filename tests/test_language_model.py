"""What a language model says of pairs and of texts: against one text at a time, and what it refuses."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests import theirs, toys
from tundish.operators.model.packed import packed
from tundish.pipeline.cli import cli
from tundish.pipeline.export import export
from tundish.stages import hub
from tundish.stages import language_model as lm

PAIRS = [
    ("The herons stand in the water.", "The herons stands in the water.", "agreement"),
    ("A crane waits for the fish.", "A crane wait for the fish.", "agreement"),
    ("The same.", "The same.", "tie"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    to = tmp_path_factory.mktemp("lm") / "model"
    export(toys.trained_root(tmp_path_factory.getbasetemp()), str(to))
    return str(to)


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    rows = [{"sentence_good": good, "sentence_bad": bad, "UID": kind} for good, bad, kind in PAIRS]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "pairs.jsonl")


@torch.no_grad()
def slowly(it: lm.Asked, text: str) -> float:
    """Pseudo-log-likelihood, each piece hidden with those of its word behind it."""
    (ids,) = lm.framed(it, [text])
    total = 0.0
    for place in range(1, len(ids) - 1):
        copy, end = ids.copy(), place + 1
        while it.words is not None and end < len(ids) - 1 and not it.words[ids[end]]:
            end += 1
        copy[place:end] = it.pieces.specials["[MASK]"]
        states = it.model(torch.from_numpy(copy), packed([0, len(copy)]))
        total += float(it.model.logits(states)[place].double().log_softmax(0)[ids[place]])
    return total


def test_a_pair_is_right_where_the_acceptable_sentence_is_likelier(folder: str, pairs: str) -> None:
    it = lm.asked(folder)
    told = lm.judged(it, lm.pairs_of(pairs))
    right = [slowly(it, good) > slowly(it, bad) for good, bad, kind in PAIRS if kind != "tie"]
    assert told["by"]["agreement"]["accuracy"] == np.mean(right)
    assert told["by"]["tie"]["accuracy"] == 0
    assert told["ties"] == 1
    assert told["all"]["pairs"] == 3
    low, high = told["all"]["interval"]
    assert 0 <= low < told["all"]["accuracy"] + 1e-9 < high + 1e-9 <= 1 + 1e-9


def test_bits_of_a_byte_are_the_nats_of_all_tokens_over_the_bytes(folder: str) -> None:
    it = lm.asked(folder)
    texts = ["A heron stood still.", "Zwei Kraniche, und noch einer."]
    told = lm.coded(it, texts)
    nats = -sum(slowly(it, text) for text in texts)
    size = sum(len(text.encode()) for text in texts)
    assert told["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    tokens = sum(len(each) - 2 for each in lm.framed(it, texts))
    assert told["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert (told["tokens"], told["bytes"], told["segments"]) == (tokens, size, 2)


def test_as_a_causal_model_it_reads_from_the_left(folder: str) -> None:
    it = lm.asked(folder, causal=True)
    (ids,) = lm.framed(it, ["A heron stood still."])
    with torch.no_grad():
        states = it.model(torch.from_numpy(ids), packed([0, len(ids)]), causal=True)
        logs = it.model.logits(states).double().log_softmax(1)
    nats = -sum(float(logs[place, ids[place + 1]]) for place in range(len(ids) - 1))
    told = lm.coded(it, ["A heron stood still."])
    assert told["bits_per_byte"] == pytest.approx(nats / math.log(2) / len("A heron stood still."), rel=1e-5)
    assert told["measure"] == "code length"


def test_long_texts_are_cut_and_all_their_bytes_counted(folder: str) -> None:
    it = lm.asked(folder)
    text = "The heron stood in the shallow water and waited. " * 30
    told = lm.coded(it, [text])
    tokens = len(lm.framed(it, [text])[0]) - 2
    room = it.model.shape.length - 2
    assert told["segments"] == -(-tokens // room) > 1
    assert told["tokens"] == tokens
    assert told["bytes"] == pytest.approx(len(text.encode()), abs=1)
    few = lm.coded(it, [text], most=2)
    assert (few["segments"], few["of"]) == (2, told["segments"])


def test_the_end_of_a_segment_is_no_part_of_a_text_that_goes_on(folder: str) -> None:
    it = lm.asked(folder, causal=True)
    (document,) = lm.framed(it, [text := "The heron stood in the shallow water and waited. " * 30])
    told = lm.coded(it, [text])
    assert told["segments"] > 1
    assert told["tokens"] == len(document) - 1, "the pieces, and one end"


def test_one_segment_has_no_interval(folder: str, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("A heron stood in the water.\n")
    words = ["evaluate", folder, "--text", str(tmp_path / "one.txt")]
    (told,) = json.loads(CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False).output)["texts"].values()
    assert (told["segments"], told["interval"]) == (1, None)
    (line,) = [
        line
        for line in CliRunner().invoke(cli, words, catch_exceptions=False).output.split("\n")
        if line.startswith("one.txt")
    ]
    assert line.split()[-2] == "-"


def test_the_command_prints_both(folder: str, pairs: str, tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("A heron stood in the water.\n\nA crane flew over.\n")
    words = ["evaluate", folder, "--pairs", pairs, "--text", str(tmp_path / "held.txt")]
    shown = CliRunner().invoke(cli, words, catch_exceptions=False).output
    told = json.loads(CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False).output)
    assert "agreement" in shown
    assert f"{told['texts'][str(tmp_path / 'held.txt')]['bits_per_byte']:.3f}" in shown


def test_what_cannot_be_asked_is_named(folder: str, tmp_path: Path) -> None:
    it = lm.asked(folder)
    (tmp_path / "pairs.jsonl").write_text('{"good": "a", "bad": "b"}\n')
    with pytest.raises(ValueError, match=r"row 1 of .* lacks sentence_good or sentence_bad \(it has good, bad\)"):
        lm.pairs_of(str(tmp_path / "pairs.jsonl"))
    with pytest.raises(ValueError, match="tokens and the model reads"):
        lm.judged(it, [lm.Pair("word " * 400, "word", "")])
    with pytest.raises(ValueError, match="hold no token"):
        lm.coded(it, [])
    bare = tmp_path / "bare"
    found = hub.read(folder)
    hub.write(str(bare), found.shape, found.tensors)
    with pytest.raises(ValueError, match="holds none of"):
        lm.asked(str(bare))
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere; give"):
        lm.vocabulary_in(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"there is no device 'cuda:77' here; give one of cpu"):
        lm.asked(folder, device="cuda:77")
    assert lm.device_of("cpu").type == "cpu"
    for kind, words in (("electra-discriminator", "holds a discriminator"), ("t5", "an encoder with a decoder")):
        theirs.theirs(kind).save_pretrained(tmp_path / kind)
        with pytest.raises(ValueError, match=words):
            lm.asked(str(tmp_path / kind))
    with pytest.raises(ValueError, match="there is nothing to ask"):
        CliRunner().invoke(cli, ["evaluate", folder], catch_exceptions=False)
