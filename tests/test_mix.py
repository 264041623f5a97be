"""Token shards of several roots as one dataset: weighed, asked where a document went, trained on from far away."""

import json
import shutil
from pathlib import Path

import pytest

from tests.toys import pages
from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.pipeline.run import run
from tundish.pipeline.verify import verify
from tundish.pipeline.why import why
from tundish.stages.corpus import Corpus
from tundish.stages.gather import Gather
from tundish.stages.judge import Judge
from tundish.stages.mix import Mix
from tundish.stages.pretrain import Pretrain
from tundish.stages.read import Read
from tundish.stages.refine import Refine
from tundish.stages.tokenize import Tokenize


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNDISH_TORCH_THREADS", "1")


def corpus_of(folder: Path, name: str, texts: list[str]) -> Corpus:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.jsonl"
    file.write_text(
        "".join(json.dumps({"text": text, "url": f"http://{name}.example/{n}"}) + "\n" for n, text in enumerate(texts))
    )
    docs = Gather({name: Read((str(file),))})
    return Corpus(docs, Refine(docs, quality=Judge(docs), rules={}))


@pytest.fixture(scope="module")
def tokenized(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tokenize, Tokenize]:
    folder = tmp_path_factory.mktemp("mix")
    texts = list(pages().values())
    web = Tokenize(corpus_of(folder, "web", texts[:17]), vocabulary=312, holdout=0.2)
    made = run(web, Local(), str(folder / "root"))
    model = str(Path(made.datasets[web.address].uri) / "vocabulary.model")
    books = Tokenize(corpus_of(folder, "books", texts[17:]), vocabulary=model, holdout=0.2)
    run(books, Local(), str(folder / "elsewhere"))
    return folder, web, books


def test_shards_of_two_roots_are_weighed_and_trained_on(
    tokenized: tuple[Path, Tokenize, Tokenize], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, web, books = tokenized
    far = str(folder / "elsewhere" / books.address)
    mix = Mix({"web": web}, {"books": far})
    model = Pretrain(mix, tokens=6_000, length=64, batch=8, weights={"web": 1, "books": 3})
    outcome = run(model, Local(), str(folder / "root"))
    mixed, trained = outcome.datasets[mix.address], outcome.datasets[model.address]
    assert mixed.rows == outcome.datasets[web.address].rows + opened(far).rows  # type: ignore[union-attr]
    assert not [*(Path(mixed.uri)).glob("*.arrow")]
    assert list(mixed.about["origins"]) == ["web", "books"]
    plan = json.loads((Path(trained.uri) / "plan.json").read_text())["plan"]
    assert [[name, share] for name, share in plan["stretches"][0]["weights"]] == [["web", 250_000], ["books", 750_000]]
    assert verify(str(folder / "root")) == []
    assert run(model, Local(), str(folder / "root")).seconds == {}
    # a document of this root is followed into the training, wherever the root lies by now and however it is named
    shutil.copytree(folder / "root", folder / "moved")
    assert verify(str(folder / "moved")) == []
    monkeypatch.chdir(folder)
    ways = [why("moved", f"http://web.example/{n}") for n in range(17)]
    told = [event for way in ways for event in way if event.stage == "Pretrain"]
    assert told
    assert any(event.facts["steps"] for event in told)


def test_another_vocabulary_and_what_is_no_shards_are_refused(tokenized: tuple[Path, Tokenize, Tokenize]) -> None:
    folder, web, books = tokenized
    other = Tokenize(web.corpus, vocabulary=305, holdout=0.2)
    run(other, Local(), str(folder / "root"))
    for mix, said in (
        (Mix({"web": web, "other": other}), "'other' was written with the vocabulary"),
        (Mix({"web": web}, {"x": str(folder / "nowhere")}), "there is no manifest in"),
        (Mix({"web": web}, {"x": str(folder / "root" / web.corpus.address)}), "holds no token shards"),
    ):
        with pytest.raises(ValueError, match=said):
            run(mix, Local(), str(folder / "root"))
    twice = Mix(
        {"web": web},
        {"both": str(Path(run(Mix({"web": web, "other": web}), Local(), str(folder / "root")).dataset.uri))},
    )
    clash = Mix({"both/web": web}, dict(twice.elsewhere))
    assert set(run(twice, Local(), str(folder / "root")).dataset.about["origins"]) == {"web", "both/web", "both/other"}
    nested = Mix({"in": Mix({"web": web}, {"far": str(folder / "elsewhere" / books.address)})})
    again = run(nested, Local(), str(folder / "root")).dataset
    assert list(again.about["origins"]) == ["in/web", "in/far"]
    assert again.table().num_rows == again.rows
    with pytest.raises(ValueError, match="two sources of a Mix would be called 'both/web'"):
        run(clash, Local(), str(folder / "root"))
    with pytest.raises(ValueError, match="Mix has no corpora"):
        Mix()
    with pytest.raises(ValueError, match="two corpora called 'web'"):
        Mix({"web": web}, {"web": "s3://x/y"})
    weighed = Pretrain(web, tokens=3_000, length=64, batch=8, weights={"wiki": 1})
    with pytest.raises(ValueError, match="weight for 'wiki', which has no rows; the sources are web"):
        run(weighed, Local(), str(folder / "root"))


def test_an_altered_and_a_cut_shard_are_named_before_training(tokenized: tuple[Path, Tokenize, Tokenize]) -> None:
    """Those of another root: a shard of this one is written anew from the corpus when its file is cut."""
    folder, web, books = tokenized
    far = folder / "elsewhere" / books.address
    path = far / "part-00000.arrow"
    body, half = path.read_bytes(), path.stat().st_size // 2
    goal = Pretrain(Mix({"web": web}, {"books": str(far)}), tokens=3_000, length=64, batch=8)
    try:
        for broken in (
            body[:-100],
            body[:half] + bytes(each ^ 255 for each in body[half : half + 3]) + body[half + 3 :],
        ):
            path.write_bytes(broken)
            with pytest.raises(ValueError, match=r"part-00000.arrow does not match its digest"):
                run(goal, Local(), str(folder / "root"))
    finally:
        path.write_bytes(body)
    run(goal, Local(), str(folder / "root"))
