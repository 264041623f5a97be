"""Tokenize with `extend`: a given vocabulary grows by this corpus, and what is told of it goes where its file goes."""

import json
import shutil
from pathlib import Path

import pytest

from tests.test_vocabulary_command import said
from tests.test_vocabulary_stage import ARTICLES, written
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset, opened
from tundish.operators.text import tokenizer, tokenizer_json, vocabulary
from tundish.pipeline.generation import recipe_of
from tundish.pipeline.report import report
from tundish.pipeline.run import run
from tundish.pipeline.verify import verify
from tundish.stages.corpus import Corpus
from tundish.stages.gather import Gather
from tundish.stages.mix import Mix
from tundish.stages.read import Read
from tundish.stages.refine import Refine
from tundish.stages.tokenize import Tokenize
from tundish.stages.vocabulary import vocabulary_of
from tundish.stages.vocabulary_grown import grown_beside


def corpus_of(folder: Path, name: str, texts: list[str]) -> Corpus:
    """A corpus of all of these, from the origin of this name."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.jsonl"
    file.write_text(
        "".join(json.dumps({"text": text, "url": f"http://x.org/{n}"}) + "\n" for n, text in enumerate(texts))
    )
    docs = Gather({name: Read((str(file),))})
    return Corpus(docs, Refine(docs, keep={"rules": "none"}))


def paragraphs(lang: str) -> list[str]:
    texts = [path.read_text() for path in sorted((ARTICLES / lang).glob("*.txt"))]
    return [part for text in texts for part in text.split("\n\n") if len(part) > 80][:60]


@pytest.fixture(scope="module")
def texts() -> dict[str, list[str]]:
    return {lang: paragraphs(lang) for lang in ("en", "de")}


@pytest.fixture(scope="module")
def model(texts: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary of English, which spells the letters of German in bytes."""
    path = tmp_path_factory.mktemp("given") / "english.model"
    path.write_bytes(vocabulary.train(texts["en"], size=700))
    return path


def made(folder: Path, name: str, texts: list[str], root: str = "root", workers: int = 1, **fields: object) -> Dataset:
    stage = Tokenize(corpus_of(folder, name, texts), holdout=0.1, **fields)
    return run(stage, Local(workers), str(folder / root)).dataset


def grown_of(tokens: Dataset) -> dict:
    return dict(tokens.about["vocabulary"]["grown"])


def files(tokens: Dataset) -> list[bytes]:
    place = Path(tokens.uri)
    return [(place / name).read_bytes() for name in ("vocabulary.model", "grown.json", "part-00000.arrow")]


@pytest.fixture(scope="module")
def german(model: Path, texts: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    folder = tmp_path_factory.mktemp("grown")
    return folder, made(folder, "german", texts["de"], vocabulary=str(model), extend=80)


def test_it_grows_by_its_own_corpus(german: tuple[Path, Dataset], model: Path, texts: dict[str, list[str]]) -> None:
    folder, tokens = german
    told, own = tokens.about["vocabulary"], grown_of(tokens)
    assert (own["first"], len(own["parts"]), told["size"], told["given"]) == (700, 80, 780, "english.model")
    assert told["digest"] == vocabulary.digest((Path(tokens.uri) / "vocabulary.model").read_bytes())
    assert told["sample"]["origins"].keys() == {"german"}
    pieces = [vocabulary.load((Path(tokens.uri) / "vocabulary.model").read_bytes()).id_to_piece(n) for n in range(780)]
    for number, parts in enumerate(own["parts"], 700):
        spelt = b"".join(
            bytes([int(pieces[one][3:5], 16)]) if pieces[one].startswith("<0x") else pieces[one].encode()
            for one in parts
        )
        assert spelt.decode() == pieces[number]
    plain = made(folder, "german", texts["de"], vocabulary=str(model))
    assert "grown" not in plain.about["vocabulary"]
    assert not (Path(plain.uri) / "grown.json").exists()
    sums = [one.about["totals"]["origin"]["german"]["tokens"] for one in (plain, tokens)]
    assert sums[1] < 0.9 * sums[0]
    sample = own["sample"]
    assert (sample["tokens_before"], sample["tokens_after"]) == (sums[0], sums[1]), "the sample is all but the held out"
    assert opened(f"{tokens.uri}/holdout").about["vocabulary"] == told  # type: ignore[union-attr]
    assert verify(str(folder / "root")) == []


def test_it_is_told(german: tuple[Path, Dataset], model: Path, texts: dict[str, list[str]], tmp_path: Path) -> None:
    folder, tokens = german
    line = "80 pieces from id 700 on were added for this text"
    assert line in said(f"{tokens.uri}/vocabulary.model")
    assert line not in said(model)
    made(folder, "german", texts["de"], vocabulary=str(model), extend=80)  # so that it is the latest run
    root = shutil.copytree(folder / "root", tmp_path / "root")
    assert line in said(root)
    assert line in Path(report(str(root))).read_text()
    (root / tokens.address / "grown.json").write_text("{}")
    assert any("grown" in one for one in verify(str(root)))


def test_the_same_bytes_on_two_workers_and_in_any_order(
    model: Path, texts: dict[str, list[str]], tmp_path: Path
) -> None:
    from tundish.pipeline.recipe import changed, load

    recipe = """
docs: {{Read: {{files: ["{folder}/*.jsonl"]}}}}
lang: {{Identify: {{documents: docs}}}}
kept: {{Refine: {{documents: docs, language: lang, keep: {{rules: none}}}}}}
corpus: {{Corpus: {{documents: docs, kept: kept, language: lang}}}}
tokens: {{Tokenize: {{corpus: corpus, vocabulary: {model}, extend: 60, temperature: 3.33, sample: 20000}}}}
"""
    found = []
    for number, turned in enumerate((False, True)):
        folder = written(tmp_path / str(number), texts, turned=turned)
        (folder / "recipe.yaml").write_text(recipe.format(folder=folder, model=model))
        outcome = run(changed(load(str(folder / "recipe.yaml")), ()), Local(1 + number), str(folder / "root"))
        found.append(outcome.dataset)
    assert files(found[0])[:2] == files(found[1])[:2]
    assert found[0].about["vocabulary"] == found[1].about["vocabulary"]
    assert 0 < found[0].about["vocabulary"]["sample"]["bytes"] < 40_000


@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
@pytest.mark.parametrize("lost", [False, True])
def test_a_second_corpus_takes_it_and_a_mix_knows_it(
    german: tuple[Path, Dataset], texts: dict[str, list[str]], tmp_path: Path, order: tuple[str, str], lost: bool
) -> None:
    _, tokens = german
    given = Path(tokens.uri) / "vocabulary.model"
    if lost:  # a copy of the file alone
        given = Path(shutil.copy(given, tmp_path))
    old = made(tmp_path, "english", texts["en"], vocabulary=str(given))
    assert old.about["vocabulary"]["digest"] == tokens.about["vocabulary"]["digest"]
    assert ("grown" in old.about["vocabulary"]) is not lost
    corpora = {"old": old.uri, "new": tokens.uri}
    mix = run(Mix(elsewhere={name: corpora[name] for name in order}), Local(), str(tmp_path / "root")).dataset
    assert grown_of(mix) == grown_of(tokens)
    assert grown_beside(f"{mix.uri}/vocabulary.model") == grown_of(tokens)
    assert vocabulary_of(mix)[0] == "vocabulary.model"
    assert verify(str(tmp_path / "root")) == []
    third = made(tmp_path, "more", texts["en"][:30], vocabulary=f"{mix.uri}/vocabulary.model")
    assert grown_of(third) == grown_of(tokens)


def test_a_mix_refuses_two_tellings(german: tuple[Path, Dataset], texts: dict[str, list[str]], tmp_path: Path) -> None:
    _, tokens = german
    for name in ("vocabulary.model", "grown.json"):
        shutil.copy(Path(tokens.uri) / name, tmp_path)
    told = json.loads((tmp_path / "grown.json").read_text())
    told["parts"][0] = [6, 7]
    (tmp_path / "grown.json").write_text(json.dumps(told))
    other = made(tmp_path, "english", texts["en"], vocabulary=str(tmp_path / "vocabulary.model"))
    with pytest.raises(ValueError, match="'a' and 'b' have one vocabulary and tell differently which pieces"):
        run(Mix(elsewhere={"a": tokens.uri, "b": other.uri}), Local(), str(tmp_path / "root"))
    told["parts"][0] = [701]
    (tmp_path / "grown.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="does not tell the parts of the last pieces"):
        made(tmp_path, "english", texts["en"], vocabulary=str(tmp_path / "vocabulary.model"))
    told["vocabulary"] = "0" * 64
    (tmp_path / "grown.json").write_text(json.dumps(told))
    plain = made(tmp_path, "english", texts["en"], vocabulary=str(tmp_path / "vocabulary.model"))
    assert "grown" not in plain.about["vocabulary"], "it tells of another file"


def test_a_tokenizer_json_grows_too(model: Path, texts: dict[str, list[str]], tmp_path: Path) -> None:
    path = tmp_path / "english.json"
    path.write_bytes(tokenizer_json.export(model.read_bytes()))
    tokens = made(tmp_path, "german", texts["de"], vocabulary=str(path), extend=40)
    assert (grown_of(tokens)["first"], tokens.about["vocabulary"]["size"]) == (700, 740)
    body = (Path(tokens.uri) / "tokenizer.json").read_bytes()
    assert tokenizer.load(body).size == 740
    assert grown_beside(f"{tokens.uri}/tokenizer.json") == grown_of(tokens)


def test_refusals(model: Path, texts: dict[str, list[str]], tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, "german", texts["de"])
    with pytest.raises(ValueError, match=r"Tokenize\.extend adds 50 pieces to a vocabulary that is there.*350 pieces"):
        Tokenize(corpus, vocabulary=300, extend=50)
    with pytest.raises(ValueError, match=r"Tokenize\.extend is -1"):
        Tokenize(corpus, vocabulary=str(model), extend=-1)
    with pytest.raises(ValueError, match=r"Tokenize\.kind tells how to learn"):
        Tokenize(corpus, vocabulary=str(model), extend=50, kind="bpe")
    with pytest.raises(ValueError, match=r"Tokenize\.sample tells how to learn .* or extend it \(Tokenize\.extend\)"):
        Tokenize(corpus, vocabulary=str(model), sample=1000)
    with pytest.raises(ValueError, match=r"Tokenize\.temperature is 0\.5"):
        Tokenize(corpus, vocabulary=str(model), extend=50, temperature=0.5)
    with pytest.raises(ValueError, match=r"100000 pieces that the vocabulary lacks .* \d+ can"):
        made(tmp_path, "german", texts["de"], vocabulary=str(model), extend=100_000)
    with pytest.raises(ValueError, match="no text is left to learn a vocabulary from"):
        run(Tokenize(corpus, vocabulary=str(model), extend=5, holdout=0.9999), Local(), str(tmp_path / "root"))


def test_a_later_generation_takes_what_the_first_has_grown(tmp_path: Path, model: Path) -> None:
    stage = Tokenize(corpus_of(tmp_path, "german", ["a"]), vocabulary=str(model), extend=50, sample=9_000)
    first, _ = recipe_of(stage, 0, "/r/gen-0000/archives", [], "")
    later, _ = recipe_of(stage, 1, "/r/gen-0001/archives", [], "/r/gen-0000/t/vocabulary.model")
    assert (first.extend, first.sample) == (50, 9_000)
    assert (later.vocabulary, later.extend, later.sample) == ("/r/gen-0000/t/vocabulary.model", 0, Tokenize.sample)
