"""The vocabulary of a Tokenize: what it is learned from, what is taken as it is, and what the manifest says of both."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.test_text_tokenizer import learned as other_library
from tests.test_text_vocabulary import sentences
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset
from tundish.operators.text import tokenizer, tokenizer_json, vocabulary
from tundish.operators.text.fertility import counted, rates
from tundish.pipeline.recipe import changed, load
from tundish.pipeline.run import Outcome, run
from tundish.pipeline.verify import verify
from tundish.stages.vocabulary import tokenizer_at
from tundish.stages.vocabulary_sample import HOLDOUT_SEED, filled, rates_of, share

TOP = Path(__file__).resolve().parents[1]
ARTICLES = TOP / "examples" / "sample_web" / "articles"
RECIPE = """
web: {{Read: {{files: ["{folder}/web-*.jsonl"]}}}}
books: {{Read: {{files: ["{folder}/books-*.jsonl"]}}}}
docs: {{Gather: {{sources: {{web: web, books: books}}}}}}
lang: {{Identify: {{documents: docs}}}}
kept: {{Refine: {{documents: docs, language: lang, keep: {{rules: none}}}}}}
corpus: {{Corpus: {{documents: docs, kept: kept, language: lang}}}}
tokens: {{Tokenize: {{corpus: corpus, vocabulary: 900, holdout: 0.2, coverage: 0.98}}}}
"""


@pytest.fixture(scope="module")
def paragraphs() -> dict[str, list[str]]:
    """Paragraphs of the articles, by language: much English, little of the others."""
    found = {}
    for lang, most in (("en", 90), ("de", 30), ("ru", 10), ("ja", 10)):
        texts = [path.read_text() for path in sorted((ARTICLES / lang).glob("*.txt"))]
        found[lang] = [part for text in texts for part in text.split("\n\n") if len(part) > 80][:most]
    return found


@pytest.fixture
def folder(tmp_path: Path, paragraphs: dict[str, list[str]]) -> Path:
    return written(tmp_path / "texts", paragraphs)


def written(folder: Path, paragraphs: Mapping[str, list[str]], turned: bool = False) -> Path:
    """Every third paragraph in `books`, the others in `web`; `turned`: files and rows the other way round."""
    rows: dict[str, list[str]] = {"web": [], "books": []}
    for lang, texts in paragraphs.items():
        for number, text in enumerate(texts):
            row = json.dumps({"text": text, "url": f"http://{lang}.example/{number}"}, ensure_ascii=False)
            rows["web" if number % 3 else "books"].append(row)
    for source, own in rows.items():
        folder.mkdir(parents=True, exist_ok=True)
        parts = [own[::2], own[1::2]]
        for number, part in enumerate(reversed(parts) if turned else parts):
            (folder / f"{source}-{number}.jsonl").write_text("\n".join(reversed(part) if turned else part) + "\n")
    return folder


def made(folder: Path, *sets: str, root: str = "root", workers: int = 1) -> tuple[Outcome, Dataset]:
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(folder=folder))
    outcome = run(changed(load(str(recipe)), sets), Local(workers), str(folder / root))
    return outcome, outcome.dataset


def told(tokens: Dataset) -> dict[str, Any]:
    return dict(tokens.about["vocabulary"])


def test_learned_files_lie_beside_the_shards_and_say_what_they_are(folder: Path) -> None:
    _, tokens = made(folder)
    place = Path(tokens.uri)
    model, body = (place / "vocabulary.model").read_bytes(), (place / "tokenizer.json").read_bytes()
    assert tokenizer_json.export(model) == body
    own = told(tokens)
    assert (own["file"], own["kind"], own["size"]) == ("vocabulary.model", "sentencepiece unigram", 900)
    assert own["digest"] == vocabulary.digest(model)
    assert own["export"]["doubts"] == own["export"]["differing"] == 0
    assert own["export"]["checked"] > 100
    assert tokens.about["specials"] == vocabulary.SPECIALS
    assert verify(str(folder / "root")) == []
    (place / "tokenizer.json").write_bytes(body[:-1] + b" ")
    assert any("tokenizer" in line for line in verify(str(folder / "root")))


def test_the_sample_is_told_and_holds_no_held_out_cluster(folder: Path) -> None:
    _, tokens = made(folder)
    sample = told(tokens)["sample"]
    assert sample["documents"] == sum(one["documents"] for one in sample["languages"].values())
    assert sample["bytes"] == sum(one["bytes"] for one in sample["origins"].values())
    assert set(sample["origins"]) == {"books", "web"}
    assert {"en", "de", "ru", "ja"} <= set(sample["languages"])
    corpus = next(Path(folder / "root").glob("corpus-*"))
    from tundish.cluster.shards import opened

    whole, taken = opened(str(corpus)).table(), opened(f"{tokens.uri}/sample").table()  # type: ignore[union-attr]
    training = share(whole["cluster"].combine_chunks(), HOLDOUT_SEED) >= 0.2
    ids = [one for one, here in zip(whole["id"].to_pylist(), training, strict=True) if here]
    assert sorted(taken["id"].to_pylist()) == sorted(ids), "the budget is larger than the corpus: all but the held out"
    assert 0 < len(ids) < len(whole)


def sampled(tokens: Dataset) -> list[bytes]:
    from tundish.cluster.shards import opened

    return sorted(opened(f"{tokens.uri}/sample").table()["id"].to_pylist())  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("sets", "workers"),
    [(("Tokenize.sample=9000", "Tokenize.vocabulary=420"), 1), (("Tokenize.temperature=3.33",), 2)],
)
def test_the_same_sample_from_any_order_of_files_and_any_number_of_workers(
    folder: Path, paragraphs: dict[str, list[str]], tmp_path: Path, sets: tuple[str, ...], workers: int
) -> None:
    _, one = made(folder, *sets)
    _, other = made(written(tmp_path / "turned", paragraphs, turned=True), *sets, workers=workers)
    assert sampled(one) == sampled(other) != []
    assert told(one) == told(other)
    assert (Path(one.uri) / "vocabulary.model").read_bytes() == (Path(other.uri) / "vocabulary.model").read_bytes()


def shares(tokens: Dataset, kind: str = "languages") -> dict[str, float]:
    sample = told(tokens)["sample"]
    return {name: own["bytes"] / sample["bytes"] for name, own in sample[kind].items()}


def test_temperature_gives_small_languages_more(folder: Path) -> None:
    small = ("Tokenize.sample=16000", "Tokenize.vocabulary=500", "Tokenize.holdout=0")
    _, natural = made(folder, *small)
    _, even = made(folder, *small, "Tokenize.temperature=3.33")
    assert shares(even)["en"] < shares(natural)["en"]
    assert shares(even)["ru"] > shares(natural)["ru"]
    assert told(even)["sample"]["bytes"] == pytest.approx(16_000, rel=0.5)
    assert (Path(natural.uri) / "sizes").exists() is False, "nobody asked"


def test_weights_decide_between_sources(folder: Path) -> None:
    small = ("Tokenize.sample=16000", "Tokenize.vocabulary=450", "Tokenize.holdout=0")
    _, plain = made(folder, *small)
    _, books = made(folder, *small, "Tokenize.weights={books: 8}")
    assert shares(books, "origins")["books"] > shares(plain, "origins")["books"]
    _, none = made(folder, *small, "Tokenize.weights={books: 0}")
    assert set(shares(none, "origins")) == {"web"}
    with pytest.raises(ValueError, match="the source 'boks', which the corpus does not have; did you mean 'books'"):
        made(folder, *small, "Tokenize.weights={boks: 2}")


def test_rates() -> None:
    sizes = {("en", "web"): 80_000, ("en", "books"): 10_000, ("is", "web"): 1_000, ("none", "web"): 9_000}
    assert rates_of(sizes, 10_000, 1.0, {}) == pytest.approx(dict.fromkeys(sizes, 0.1))
    even = rates_of(sizes, 10_000, 1 / 0.3, {})
    taken = {cell: even[cell] * size for cell, size in sizes.items()}
    assert even[("is", "web")] == 1.0, "it has less than its part"
    assert sum(taken.values()) == pytest.approx(10_000)
    assert even[("en", "web")] == even[("en", "books")]
    english = taken[("en", "web")] + taken[("en", "books")]
    assert english / taken[("none", "web")] == pytest.approx((90 / 9) ** 0.3)
    assert set(rates_of(sizes, 10**9, 3.0, {}).values()) == {1.0}
    doubled = rates_of(sizes, 10_000, 1.0, {"books": 2.0})
    assert doubled[("en", "books")] == pytest.approx(2 * doubled[("en", "web")])
    assert rates_of({}, 1000, 2.0, {}) == {}
    assert filled({"a": 0.0, "b": 1.0}, {"a": 5, "b": 5}, 100) == {"a": 0.0, "b": 5.0}


def test_kinds_and_more_specials(folder: Path) -> None:
    _, tokens = made(folder, "Tokenize.kind=bpe", "Tokenize.specials=['[DOC]', '<sep2>']")
    assert told(tokens)["kind"] == "sentencepiece bpe"
    assert tokens.about["specials"] == {**vocabulary.SPECIALS, "[DOC]": 5, "<sep2>": 6}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("kind=word", "it is unigram or bpe"),
        ("vocabulary=100", "it is at least 262"),
        ("vocabulary=-1", "it is at least 262"),
        ("vocabulary=4294967297", "at most 4294967296"),
        ("temperature=0.3", "1 .as the corpus is. or more"),
        ("temperature=.nan", "1 .as the corpus is. or more"),
        ("sample=0", "at least 1 byte"),
        ("coverage=0.5", "0.98 to 1"),
        ("weights={web: -1}", "weights.web is -1"),
        ("specials=['[MASK]']", "is there already"),
        ("specials=['[A]', '[A]']", "is there already"),
        ("specials=['plain']", "letters in brackets"),
        ("specials=['<s>']", "letters in brackets"),
        ("vocabulary=/nowhere/at/all.model", "there is no file"),
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(folder: Path, setting: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        made(folder, f"Tokenize.{setting}", *(["Tokenize.coverage=0.9995"] if ".model" in setting else []))
    assert not (folder / "root").exists() or not list((folder / "root").glob("tokenize-*/*.arrow"))


def test_a_vocabulary_larger_than_the_text_allows_says_which_size_it_allows(folder: Path) -> None:
    with pytest.raises(ValueError, match="too small for a vocabulary of 30000 pieces; ask for at most"):
        made(folder, "Tokenize.vocabulary=30000")


def test_nothing_to_learn_from_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"no text is left to learn a vocabulary from; lower Tokenize\.holdout"):
        made(folder, "Tokenize.holdout=0.9999")


@pytest.mark.parametrize("kind", ["model", "json", "foreign"])
def test_a_vocabulary_that_is_given(folder: Path, kind: str) -> None:
    model = vocabulary.train(sentences(), size=400, kind="bpe")
    data = {
        "model": model,
        "json": tokenizer_json.export(model),
        "foreign": other_library("WordPiece").to_str().encode(),
    }
    path = folder / f"mine.{'model' if kind == 'model' else 'json'}"
    path.write_bytes(data[kind])
    _, tokens = made(folder, f"Tokenize.vocabulary={path}", "Tokenize.coverage=0.9995")
    name = "vocabulary.model" if kind == "model" else "tokenizer.json"
    assert (Path(tokens.uri) / name).read_bytes() == data[kind]
    assert {one.name for one in Path(tokens.uri).glob("*.[mj]*")} >= {name}
    assert told(tokens)["given"] == path.name
    found = tokenizer.load(data[kind])
    assert told(tokens)["digest"] == found.digest
    assert tokens.about["specials"] == found.specials
    assert verify(str(folder / "root")) == []
    first = tokens.digest
    moved = folder / "elsewhere" / path.name
    moved.parent.mkdir()
    shutil.move(path, moved)
    outcome, tokens = made(folder, f"Tokenize.vocabulary={moved}", "Tokenize.coverage=0.9995")
    assert outcome.seconds == {}, "the same file elsewhere is the same vocabulary"
    other = vocabulary.train(sentences(seed=3), size=400)
    moved.write_bytes(other if kind == "model" else tokenizer_json.export(other))
    outcome, tokens = made(folder, f"Tokenize.vocabulary={moved}", "Tokenize.coverage=0.9995")
    assert tokens.digest != first, "another file under the same name is another"
    assert told(tokens)["digest"] == tokenizer.load(moved.read_bytes()).digest


def test_a_given_vocabulary_by_uri_and_settings_it_has_no_use_for(folder: Path) -> None:
    path = folder / "mine.model"
    path.write_bytes(vocabulary.train(sentences(), size=400))
    _, tokens = made(folder, f"Tokenize.vocabulary=file://{path}", "Tokenize.coverage=0.9995")
    assert told(tokens)["given"] == "mine.model"
    with pytest.raises(ValueError, match=r"Tokenize\.kind tells how to learn a vocabulary"):
        made(folder, f"Tokenize.vocabulary={path}", "Tokenize.coverage=0.9995", "Tokenize.kind=bpe")
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no SentencePiece model"):
        made(folder, f"Tokenize.vocabulary={path}", "Tokenize.coverage=0.9995")


def test_fertility_of_every_language_lies_beside_the_corpus(folder: Path) -> None:
    _, tokens = made(folder)
    found = json.loads((Path(tokens.uri) / "fertility.json").read_text())
    table, loaded = tokens.table(), tokenizer_at(f"{tokens.uri}/vocabulary.model", told(tokens)["digest"])
    from tundish.cluster.shards import opened

    corpus = opened(str(next((folder / "root").glob("corpus-*")))).table()  # type: ignore[union-attr]
    texts = dict(zip(corpus["id"].to_pylist(), corpus["text"].to_pylist(), strict=True))
    import pyarrow as pa

    for lang in ("en", "ja"):
        own = table.filter(pa.compute.equal(table["language"], lang))
        column = pa.array([texts[one] for one in own["id"].to_pylist()], pa.large_string())
        rows = loaded.encode(column)
        assert rows.to_pylist() == own["tokens"].to_pylist()
        sums = {k: sum(v.to_pylist()) for k, v in counted(column, rows, loaded.odd, loaded.specials["[UNK]"]).items()}
        sums |= {"documents": len(own), "tokens": len(rows.values), "bytes": sum(own["bytes"].to_pylist())}
        assert found["language"][lang] == {**sums, **rates(sums)}
        assert sums["words"] > 100
    assert set(found["origin"]) == {"books", "web"}
    assert "words" not in table.column_names


def test_an_encoder_trained_with_a_tokenizer_json_is_tuned_and_grades_with_it(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_bytes(tokenizer_json.export(vocabulary.train(sentences(), size=400)))
    recipe = folder / "recipe.yaml"
    more = f"""
encoder: {{Pretrain: {{shards: tokens, tokens: 3k, batch: 4, length: 64}}}}
labels: {{Finetune: {{encoder: encoder, train: {TOP}/examples/sentiment.tsv, seeds: [1], epochs: 1, fresh: false}}}}
grades: {{Grade: {{documents: docs, classifier: labels, values: {{negative: 0, positive: 1}}}}}}
"""
    recipe.write_text(RECIPE.format(folder=folder) + more)
    sets = [f"Tokenize.vocabulary={path}", "Tokenize.coverage=0.9995"]
    outcome = run(changed(load(str(recipe)), sets), Local(), str(folder / "root"))
    for stage in ("pretrain", "finetune"):
        place = next((folder / "root").glob(f"{stage}-*"))
        assert (place / "tokenizer.json").read_bytes() == path.read_bytes()
        assert not (place / "vocabulary.model").exists()
    assert outcome.dataset.rows > 100
    assert verify(str(folder / "root")) == []
