"""Words filled in as classes: against transformers, against one sentence at a time, and better than the majority."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers

from tests.theirs import transformers
from tundish.operators.model.cloze import likely
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.likelihood import choices
from tundish.operators.model.packed import packed
from tundish.operators.model.shape import Shape
from tundish.operators.text import tokenizer, vocabulary
from tundish.pipeline.cli import cli
from tundish.stages.fill import filler, fills, measured, parsed, probabilities

torch.set_num_threads(1)
GOOD, BAD = ("bright", "warm", "clear"), ("dull", "cold", "muddy")
THINGS = ("heron", "crane", "water", "stone", "night", "river", "feather", "wind")
TEMPLATE = "{text} It was [MASK]."
WORDS = [("great", "positive"), ("terrible", "negative")]
PIECES = [*tokenizer.NAMES, ".", "it", "was", "great", "ter", "##rib", "##le", "the", "a", "film", "and", "[", "]"]
PIECES += ["mask", "n", "/", "##ice", "good", "##ly"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def wordpiece(to: Path) -> None:
    made = Library(models.WordPiece({name: at for at, name in enumerate(PIECES)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(list(tokenizer.NAMES))
    made.save(str(to / "tokenizer.json"))


def ids(*names: str) -> list[int]:
    return [PIECES.index(name) for name in names]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """A folder of theirs with random weights, and the model itself."""
    to = tmp_path_factory.mktemp("bert")
    torch.manual_seed(3)
    config = transformers.BertConfig(vocab_size=len(PIECES), max_position_embeddings=32, **SIZES)
    model = transformers.BertForMaskedLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0 if weight.dim() > 1 else 1.0)
    model.save_pretrained(to)
    wordpiece(to)
    return str(to), model


@torch.no_grad()
def their_nats(model: Any, frame: list[str], pieces: list[str]) -> float:
    """A word's pieces from the left in the place of `?`, those that are not said yet hidden."""
    at, total = frame.index("?"), 0.0
    for said in range(len(pieces)):
        here = [*frame[:at], *pieces[:said], *["[MASK]"] * (len(pieces) - said), *frame[at + 1 :]]
        logits = model(torch.tensor([ids(*here)])).logits[0, at + said].double()
        total += float(logits.log_softmax(0)[PIECES.index(pieces[said])])
    return total


FRAMES = {
    "the film": ["[CLS]", "the", "film", "it", "was", "?", ".", "[SEP]"],
    "a [MASK] nice": ["[CLS]", "a", "[", "mask", "]", "n", "##ice", "it", "was", "?", ".", "[SEP]"],
}
SPELT = {"great": ["great"], "terrible": ["ter", "##rib", "##le"], "goodly": ["good", "##ly"], "good": ["good"]}


def softmax(nats: list[float]) -> np.ndarray:
    shares = np.exp(np.array(nats) - max(nats))
    return shares / shares.sum()


def test_words_are_as_likely_as_transformers_finds_them(bert: Any) -> None:
    folder, model = bert
    it = filler(folder, TEMPLATE, WORDS)
    found, cut = probabilities(it, list(FRAMES))
    for row, frame in zip(found, FRAMES.values(), strict=True):
        wanted = softmax([their_nats(model, frame, SPELT[word]) for word, _ in WORDS])
        np.testing.assert_allclose(row, wanted, rtol=1e-4)
    assert cut.tolist() == [0, 0]


def test_a_label_is_as_likely_as_its_words_on_the_mean(bert: Any) -> None:
    folder, model = bert
    words = [("great", "up"), ("terrible", "down"), ("goodly", "up"), ("good", "up")]
    found, _ = probabilities(filler(folder, TEMPLATE, words), ["the film"])
    nats = np.exp([their_nats(model, FRAMES["the film"], SPELT[word]) for word, _ in words])
    means = np.array([nats[[0, 2, 3]].mean(), nats[1]])
    np.testing.assert_allclose(found[0], means / means.sum(), rtol=1e-4)


def test_labels_are_divided_by_what_nothing_gives(bert: Any) -> None:
    folder, _ = bert
    plain = filler(folder, TEMPLATE, WORDS)
    it = filler(folder, TEMPLATE, WORDS, content_free=("n / a", ""))
    prior = probabilities(plain, ["n / a", ""])[0].mean(0)
    divided = probabilities(plain, ["the film"])[0][0] / prior
    np.testing.assert_allclose(probabilities(it, ["the film"])[0][0], divided / divided.sum(), atol=1e-9)
    one = filler(folder, TEMPLATE, WORDS, content_free=("a film",))
    np.testing.assert_allclose(probabilities(one, ["a film"])[0][0], [0.5, 0.5], atol=1e-9)


def test_a_text_may_spell_what_a_template_is_made_of(bert: Any) -> None:
    """A mask, a slot, a brace in a text are text, and the word stands where the template has it."""
    it = filler(bert[0], "[MASK] it was: {text}", WORDS)
    alone = probabilities(it, ["a [MASK] {text} film"])[0]
    whole = probabilities(it, ["a [ mask ] { text } film", "the [MASK]", "a [MASK] {text} film"])[0]
    np.testing.assert_allclose(alone[0], whole[0], atol=1e-9)
    np.testing.assert_allclose(alone[0], whole[2], atol=1e-9)


def test_long_texts_lose_their_end(bert: Any) -> None:
    it = filler(bert[0], TEMPLATE, WORDS)  # great: 6 beside the text, terrible: 8, of 32
    found, cut = probabilities(it, ["the film " * 40, "the film " * 12, "the film"])
    assert cut.tolist() == [80 - 24, 0, 0]
    shorter = filler(bert[0], TEMPLATE, [("great", "a"), ("good", "b")])
    same = probabilities(shorter, ["the film " * 40, "the film " * 13])
    np.testing.assert_allclose(same[0][0], same[0][1], atol=1e-9)
    paired = filler(bert[0], "{text} and {second} it was [MASK].", [("great", "a"), ("good", "b")])
    left = 32 - 7
    found, cut = probabilities(paired, ["the " * 40, "the " * 13], ["film " * 12, "film " * 12])
    assert cut.tolist() == [52 - left, 0]
    np.testing.assert_allclose(found[0], found[1], atol=1e-9)


def test_places_are_asked_as_choices_asks_them(bert: Any) -> None:
    it = filler(bert[0], TEMPLATE, WORDS).it
    mask = PIECES.index("[MASK]")
    documents = [np.array(ids("[CLS]", "a", *["film"] * size, "[MASK]", ".", "[SEP]")) for size in (1, 7, 0)]
    wanted = choices(it.model, documents, mask=mask, pieces=[7, 9])
    where = [(number, int(np.argmax(documents[number] == mask))) for number in (2, 0, 1, 0)]
    found = likely(it.model, documents, where, [9, 7, 7, 9], at_once=9)
    np.testing.assert_allclose(found, [wanted[2, 1], wanted[0, 0], wanted[1, 0], wanted[0, 1]], atol=1e-6)


def test_a_causal_model_is_asked_for_the_word_and_what_follows(tmp_path: Path) -> None:
    torch.manual_seed(4)
    config = transformers.GPT2Config(vocab_size=len(PIECES), n_embd=32, n_layer=2, n_head=4, n_positions=32)
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0 if weight.dim() > 1 else 1.0)
    model.save_pretrained(tmp_path)
    wordpiece(tmp_path)
    found, _ = probabilities(filler(str(tmp_path), TEMPLATE, WORDS), ["the film"])
    nats = []
    for word, _ in WORDS:
        frame = FRAMES["the film"]
        at = frame.index("?")
        tokens = torch.tensor(ids(*frame[:at], *SPELT[word], *frame[at + 1 :]))
        with torch.no_grad():
            logs = model(tokens[None]).logits[0].double().log_softmax(1)
        nats.append(sum(float(logs[place - 1, tokens[place]]) for place in range(at, len(tokens))))
    np.testing.assert_allclose(found[0], softmax(nats), rtol=1e-4)


def said(count: int, seed: int) -> list[dict[str, str]]:
    """Two things, and by what they are like whether they please; a third of them does not."""
    draw, made = np.random.default_rng(seed), []
    for _ in range(count):
        label = "negative" if draw.random() < 0.35 else "positive"
        words = draw.choice(GOOD if label == "positive" else BAD, 2)
        things = draw.choice(THINGS, 2)
        made.append({"text": f"The {words[0]} {things[0]} and the {words[1]} {things[1]}.", "label": label})
    return made


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small encoder that has learnt 200 sentences with their word hidden, some tokens more of each with it."""
    to = tmp_path_factory.mktemp("taught")
    word = {label: word for word, label in WORDS}
    sentences = [f"{row['text']} It was {word[row['label']]}." for row in said(200, 1)]
    body = vocabulary.train(sentences * 3, size=300)
    pieces = tokenizer.load(body)
    shape = Shape(vocabulary=pieces.size, width=32, layers=2, heads=2, ff=48, length=64)
    model = Model(shape)
    initialise(model, shape, seed=1)
    cls, sep, mask = (pieces.specials[name] for name in ("[CLS]", "[SEP]", "[MASK]"))
    held = [np.array([cls, *one, sep]) for one in pieces.encode(vocabulary_array(sentences)).to_pylist()]
    (ends,) = pieces.encode(vocabulary_array([" great."])).to_pylist()
    optimizer, draw = torch.optim.AdamW(model.parameters(), lr=3e-3), np.random.default_rng(2)
    for _ in range(130):
        some = [held[number] for number in draw.choice(len(held), 32)]
        flat = np.concatenate(some)
        hidden = draw.random(len(flat)) < 0.15
        bounds = np.cumsum([0, *map(len, some)])
        for end in bounds[1:]:
            hidden[end - 1 - len(ends) : end - 2] = True  # the word: of one piece or several
        hidden &= (flat != cls) & (flat != sep)
        given = torch.from_numpy(np.where(hidden, mask, flat))
        states = model(given, packed(bounds))[torch.from_numpy(hidden)]
        loss = torch.nn.functional.cross_entropy(model.logits(states), torch.from_numpy(flat[hidden]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    save_file({name: each.contiguous() for name, each in model.state_dict().items()}, to / "model.safetensors")
    (to / "config.json").write_text(json.dumps({"shape": asdict(shape), "specials": dict(pieces.specials)}))
    (to / pieces.file).write_bytes(body)
    return str(to)


def vocabulary_array(texts: list[str]) -> Any:
    import pyarrow as pa

    return pa.array(texts, pa.large_string())


def file_of(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_taught_model_is_better_than_the_majority(taught: str, tmp_path: Path) -> None:
    rows = said(300, 7)
    file = file_of(tmp_path / "new.jsonl", rows)
    given = ["predict", taught, file, "--fill", TEMPLATE, "--label", "label"]
    given += [part for word, label in WORDS for part in ("--word", f"{word}={label}")]
    done = CliRunner().invoke(cli, given, catch_exceptions=False)
    lines = [json.loads(line) for line in done.stdout.split("\n") if line]
    assert [(one["row"], one["truth"]) for one in lines] == [(at, row["label"]) for at, row in enumerate(rows, 1)]
    right = np.mean([one["label"] == one["truth"] for one in lines])
    common = max(np.mean([row["label"] == label for row in rows]) for _, label in WORDS)
    assert right > common + 0.1
    assert f"accuracy {right:.3f} (" in done.stderr
    assert f"always 'positive': {common:.3f}" in done.stderr
    for one in lines[:20]:
        assert one["probability"] == max(one["probabilities"].values()) == one["probabilities"][one["label"]]
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    plain = filler(taught, TEMPLATE, WORDS)
    assert [one["probabilities"] for one in fills(plain, file)] == [one["probabilities"] for one in lines]
    tabs = "".join(f"{row['text']};{row['label']}\n" for row in rows).encode()
    apart = ["--form", "csv", "--delimiter", ";", "--column", "text=0", "--label", "1", "--no-header"]
    for words, piped in ((["--form", "jsonl"], Path(file).read_bytes()), (apart, tabs)):
        done = CliRunner().invoke(cli, [*given[:2], "-", *given[3:], *words], input=piped, catch_exceptions=False)
        found = [json.loads(line) for line in done.stdout.split("\n") if line]
        assert [{**one, "file": "new.jsonl"} for one in found] == lines
    divided = filler(taught, TEMPLATE, WORDS, content_free=["N/A"])
    done = CliRunner().invoke(cli, [*given, "--content-free", "N/A", "--to", str(tmp_path / "to.jsonl")])
    assert "300 rows" in done.stdout
    again = [json.loads(line)["probabilities"] for line in (tmp_path / "to.jsonl").read_text().split("\n") if line]
    assert again == [one["probabilities"] for one in fills(divided, file)]
    assert again != [one["probabilities"] for one in lines]


def test_measures_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, f1_score

    truth, guess = ["a", "b", "a", "c", "a"], ["a", "a", "a", "c", "b"]
    found = measured(truth, guess, ["c", "b", "a"])
    assert found["accuracy"] == accuracy_score(truth, guess)
    assert found["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro"))
    assert found["majority"]["label"] == "a"
    assert found["majority"]["macro_f1"] == pytest.approx(f1_score(truth, ["a"] * 5, average="macro", zero_division=0))


def test_what_is_no_template_or_word_is_named(bert: Any, tmp_path: Path) -> None:
    folder = bert[0]
    for template, told in {
        "{text} It was": r"0 times \[MASK\]",
        "[MASK] It was": r"0 times \{text\}",
        "{text} [MASK] [MASK]": r"2 times \[MASK\]",
        "{second} {text} {second} [MASK]": "more than once",
    }.items():
        with pytest.raises(ValueError, match=told):
            parsed(template)
    for words in ([], [("great", "a")], [("great", "a"), ("great", "b")]):
        with pytest.raises(ValueError, match="give words of two labels"):
            filler(folder, TEMPLATE, words)
    with pytest.raises(ValueError, match="does not know 'zebra'"):
        probabilities(filler(folder, TEMPLATE, [("zebra", "a"), ("great", "b")]), ["the film"])
    with pytest.raises(ValueError, match="the template alone has more tokens than the 32"):
        probabilities(filler(folder, "the " * 40 + TEMPLATE, WORDS), ["the film"])
    wrong = file_of(tmp_path / "wrong.jsonl", [{"text": "the film", "label": "positve"}])
    with pytest.raises(ValueError, match=r"row 1 of wrong\.jsonl has the label 'positve'.*did you mean 'positive'"):
        list(fills(filler(folder, TEMPLATE, WORDS), wrong, label="label"))
    with pytest.raises(ValueError, match="no second text"):
        list(fills(filler(folder, "{text} and {second} [MASK]", WORDS), wrong))
    for given, told in {
        ("--word", "a=b"): "are of --fill",
        ("--fill", TEMPLATE, "--beams", "2"): "leave the options of these out",
        ("--fill", TEMPLATE, "--word", "great"): "write it as word=label",
    }.items():
        done = CliRunner().invoke(cli, ["predict", folder, wrong, *given])
        assert told in str(done.exception or done.output)
