"""Contamination of evaluation texts by a root's corpus: planted ones are told with their documents, and with the steps
of the training that saw them; scores of the clean and the contaminated stand side by side."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests import toys
from tests.test_finetune_runs import made, model, rows, task_of  # noqa: F401 - `model` is a fixture
from tests.toys import HERON, KRANICH, pages
from tundish.cluster.local import Local
from tundish.operators.model import certainty
from tundish.pipeline import cli_company
from tundish.pipeline.cli import cli
from tundish.pipeline.contaminated import groups_of, of_files, search, told
from tundish.pipeline.export import export
from tundish.pipeline.funnel import ran, runs
from tundish.pipeline.run import run
from tundish.pipeline.seen import Ledger, ids_at
from tundish.stages.contamination import Part
from tundish.stages.contamination_scores import apart, difference, parts_of, side_by_side
from tundish.stages.finetune_rows import rows_of
from tundish.stages.finetune_runs import found, read
from tundish.stages.mix import Mix
from tundish.stages.pretrain import Pretrain

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tokens, and a training on a Mix of them that is so short that it sees some of the documents."""
    place = str(tmp_path_factory.mktemp("contaminated") / "root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNDISH_TORCH_THREADS", "1")
        run(toys.recipe(), Local(), place)
        mix = Mix({"again": toys.recipe()})
        run(Pretrain(mix, tokens=1_100, length=128, batch=4, checkpoint_every=1000), Local(), place)
    return place


@pytest.fixture(scope="module")
def steps(root: str) -> dict[str, list[int]]:
    """By URL the steps that saw a document, asked of each step; empty for one that is in none."""
    past = ran(root)
    tokens, corpus = (past.datasets[past.of(name)[0]] for name in ("Mix", "Corpus"))
    url = dict(zip(*(corpus.table()[name].to_pylist() for name in ("id", "url")), strict=True))
    book = Ledger.of(past.datasets[past.of("Pretrain")[0]], tokens)
    saw: dict[str, list[int]] = {one: [] for one in url.values()}
    for step in range(book.steps):
        for own in dict.fromkeys(ids_at(tokens, list(book.documents(step)))):
            saw[url[own]].append(step)
    return saw


@pytest.fixture(scope="module")
def held(root: str) -> list[str]:
    past = ran(root)
    corpus, side = past.datasets[past.of("Corpus")[0]], past.inside(past.of("Tokenize")[0], "holdout")
    url = dict(zip(*(corpus.table()[name].to_pylist() for name in ("id", "url")), strict=True))
    return [url[own] for own in side.table()["id"].to_pylist()]


def piece(url: str, first: int = 30, words: int = 20) -> str:
    return " ".join(pages()[url].split()[first : first + words])


@pytest.fixture(scope="module")
def chosen(steps: dict[str, list[int]], held: list[str]) -> dict[str, str]:
    """A page that was trained on, one that no step saw, and one held out."""
    plain = [f"{HERON if n % 2 else KRANICH}/page/{n}" for n in range(2, 20)]
    unseen = [url for url in plain if steps.get(url) == [] and url not in held]
    return {
        "trained": max((url for url in plain if steps.get(url)), key=lambda url: len(steps[url])),
        "unseen": unseen[0],
        "held": next(url for url in plain if url in held),
    }


@pytest.fixture
def planted(tmp_path: Path, chosen: dict[str, str]) -> str:
    """Three of twenty texts are in the corpus."""
    fresh = [toys.prose(1000 + n, 2).replace("\n", " ") for n in range(15)]
    near = " ".join(pages()[chosen["trained"]].split()[60:72]) + " and then nothing of it any more"
    texts = [
        piece(chosen["trained"]).upper().replace(" THE ", " — the, ") + " and eight words of its own behind them",
        piece(chosen["unseen"]),
        piece(chosen["held"]),
        near,
        "Too short to tell.",
        *fresh,
    ]
    lines = [f"{('sad', 'glad')[n % 2]}\t{text}" for n, text in enumerate(texts)]
    (tmp_path / "test.tsv").write_text("\n".join(["label\tsentence", *lines]) + "\n")
    return str(tmp_path / "test.tsv")


def asked(root: str, planted: str, out: Path) -> dict[str, Any]:
    return of_files(root, "classify", {"test": planted}, {"text": "sentence"}, str(out), Local())


def test_planted_texts_are_told_with_their_documents_and_steps(
    root: str, planted: str, chosen: dict[str, str], steps: dict[str, list[int]], tmp_path: Path
) -> None:
    answer = asked(root, planted, tmp_path / "out")
    part = answer["parts"]["test"]
    assert (part["examples"], part["too_short"]) == (20, 1)
    assert [part[name]["count"] for name in ("contaminated", "whole", "trained", "trained_whole")] == [3, 2, 1, 0]
    low, high = certainty.wilson(3, 20)[1:]
    assert part["contaminated"]["interval"] == pytest.approx([low, high])
    assert part["weight"]["mean"] == pytest.approx(2.5 / 3)
    past = ran(root)
    [pretrain] = past.of("Pretrain")
    assert answer["trainings"] == [pretrain]
    worst = {one["row"]: one for one in answer["worst"]}
    assert sorted(worst) == [1, 2, 3]
    assert answer["worst"][0]["row"] == 1, "what was trained on comes first"
    for row, name in ((1, "trained"), (2, "unseen"), (3, "held")):
        one = worst[row]
        [document] = one["from"]
        assert (one["weight"], one["grams"], one["documents"]) == ((0.5, 16, 1) if row == 1 else (1.0, 8, 1))
        assert (document["url"], document["grams"]) == (chosen[name], 8)
        assert document["held_out"] == (name == "held")
        assert document["tokenized"] == (name != "held")
        assert one["trained_weight"] == (0.5 if name == "trained" else 0.0)
    saw = steps[chosen["trained"]]
    document = worst[1]["from"][0]
    assert document["trained"][pretrain] == {"steps": len(saw), "rows": 7, "first": saw[0], "last": saw[-1]}
    assert worst[2]["from"][0]["trained"] == {}
    assert json.loads((tmp_path / "out" / "contamination.json").read_text()) == answer
    lines = [json.loads(line) for line in (tmp_path / "out" / "contaminated.jsonl").read_text().split("\n") if line]
    assert [(one["file"], one["row"], one["trained_weight"]) for one in lines] == [
        ("test.tsv", 1, 0.5),
        ("test.tsv", 2, 0.0),
        ("test.tsv", 3, 0.0),
    ]


def test_every_document_has_the_steps_that_the_ledger_says(root: str, steps: dict[str, list[int]]) -> None:
    texts = {str(n): (piece(url),) for n, url in enumerate(steps)}
    past = ran(root)
    [pretrain] = past.of("Pretrain")
    met = search(root, texts, str(Path(root).parent / "all"), Local())
    urls = met.documents.table["url"].to_pylist()
    assert set(urls) == set(steps)
    saw = {url: met.asked[number]["trained"] for number, url in enumerate(urls)}
    assert {url: one[pretrain]["steps"] if one else 0 for url, one in saw.items()} == {
        url: len(each) for url, each in steps.items()
    }
    assert any(steps.values())
    assert not all(steps.values())


def test_documents_that_too_many_hold_are_asked_for_by_their_grams(
    root: str, planted: str, chosen: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tundish.pipeline.contaminated.MOST", 2)
    answer = asked(root, planted, tmp_path / "out")
    assert (answer["documents"], answer["asked"]) == (3, 2)
    unknown = [one["from"][0] for one in answer["worst"] if one["from"][0]["trained"] is None]
    assert len(unknown) == 1


def test_the_command_tells_it_and_names_what_it_cannot_do(root: str, planted: str, tmp_path: Path) -> None:
    words = ["contaminated", root, "--test", f"mine={planted}", "--column", "text=sentence"]
    words += ["--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(cli, words, catch_exceptions=False).output
    assert "3 (15.0%)" in shown
    assert "test.tsv row 1: 50% in http" in shown
    assert "trained on by pretrain-" in shown
    assert "held out" in shown
    again = CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False).output
    assert json.loads(again[again.index("{") :])["parts"]["mine"]["contaminated"]["count"] == 3
    run(toys.recipe().corpus.inputs["documents"], Local(), str(tmp_path / "young"))
    words[1] = str(tmp_path / "young")
    with pytest.raises(ValueError, match="has no finished corpus"):
        CliRunner().invoke(cli, words, catch_exceptions=False)
    with pytest.raises(ValueError, match="there is no run under 'nowhere'"):
        cli_company.joined(None, cli_company.Wanted(corpus="nowhere"), {})


def test_a_fine_tuning_tells_what_its_tests_share_with_the_corpus(
    planted: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The training of this root reads the tokens themselves, and sees all of them."""
    root = toys.trained_root(tmp_path_factory.getbasetemp())
    export(root, str(tmp_path / "model"))
    draw = np.random.default_rng(3)
    lines = [f"{('sad', 'glad')[n % 2]}\t{n} {' '.join(draw.choice(toys.NOUNS, 5))}" for n in range(40)]
    (tmp_path / "train.tsv").write_text("\n".join(["label\tsentence", *lines]) + "\n")
    out = tmp_path / "out"
    words = ["finetune", str(tmp_path / "model"), "--train", str(tmp_path / "train.tsv"), "--test", planted]
    words += ["--column", "text=sentence", "--out", str(out), "--seeds", "2", "--epochs", "1", "--no-fresh"]
    shown = CliRunner().invoke(cli, [*words, "--length", "64", "--corpus", root], catch_exceptions=False).output
    result = json.loads((out / "result.json").read_text())
    shared = result["contamination"]
    assert shared == json.loads((out / "contamination.json").read_text())
    scores = shared["parts"]["test"]["scores"]
    assert shared["parts"]["test"]["trained"]["count"] == 2, "all but the one that was held out"
    assert {name: one["n"] for name, one in scores["groups"].items()} == {
        "clean": 16,
        "contaminated": 3,
        "whole": 2,
        "trained": 2,
        "too short": 1,
    }
    whole = result["parts"]["test"]["pretrained"]["accuracy"]["mean"]
    each = [scores["groups"][name] for name in ("clean", "contaminated", "too short")]
    assert sum(one["n"] * one["score"] for one in each) / 20 == pytest.approx(whole)
    assert "test: 3 of 20 examples stand in the corpus" in shown
    assert "test, accuracy: clean 0." in shown


# -- scores of parts


def test_scores_of_groups_are_those_of_their_examples(model: str, tmp_path: Path) -> None:  # noqa: F811
    task = task_of(model, tmp_path, "classify", train=48, seeds=(1, 2), epochs=2)
    made(task)
    own = [row["id"] for row in rows("classify", 60, 3)]
    groups = {"clean": frozenset(own[20:]), "contaminated": frozenset(own[:20]), "whole": frozenset[str]()}
    got = side_by_side(task, {"test": groups})["test"]
    truth = np.asarray(read(task, 48)["test"].targets)
    right = np.mean([found(task, run)[1]["test"]["logits"].argmax(1) == truth for run in task.runs], 0)
    for name, here in (("clean", slice(20, 60)), ("contaminated", slice(0, 20))):
        assert got["groups"][name]["score"] == pytest.approx(right[here].mean())
        low, high = got["groups"][name]["interval"]
        assert low <= right[here].mean() <= high
    assert got["groups"]["whole"] == {"n": 0, "score": None, "interval": None}
    assert got["difference"]["value"] == pytest.approx(right[:20].mean() - right[20:].mean())
    low, high = got["difference"]["interval"]
    assert low < got["difference"]["value"] < high
    assert parts_of(task) == {"test": Part(own, ["toy"] * 60, list(range(1, 61)))}


@pytest.mark.parametrize("kind", ["tag", "answer", "regress", "multilabel"])
def test_every_kind_is_scored_apart(model: str, tmp_path: Path, kind: str) -> None:  # noqa: F811
    task = task_of(model, tmp_path, kind, train=40, seeds=(1,), epochs=2)
    made(task)
    own = [row["id"] for row in rows(kind, 60, 3)]
    whole, part = ({"all": frozenset(own[:end])} for end in (60, 25))
    logits = [found(task, task.runs[0])[1]["test"]["logits"]]
    held = rows_of(task.parts["test"], task.specials, 48)
    every = apart(task, held, logits, task.truth.get("test"), whole)["groups"]["all"]
    some = apart(task, held, logits, task.truth.get("test"), part)["groups"]["all"]
    assert (every["n"], some["n"]) == (60, 25)
    first = replace(held, table=held.table.slice(0, 25))
    sizes = {"tag": lambda row: len(row["firsts"]), "answer": lambda row: len(row["tokens"]) + 3}
    end = sum(sizes.get(kind, lambda row: 1)(row) for row in rows(kind, 60, 3)[:25])
    truth = dict(list(task.truth["test"].items())[:25]) if kind == "answer" else None
    alone = apart(task, first, [logits[0][:end]], truth, part)["groups"]["all"]
    assert some["score"] == pytest.approx(alone["score"])


def test_the_difference_of_two_groups_has_an_interval_that_holds() -> None:
    """As often as it says, where both are drawn from one population and from two."""
    draw = np.random.default_rng(5)
    for shares in ((0.8, 0.8), (0.9, 0.6)):
        held = 0
        for _ in range(400):
            two = []
            for share, count in zip(shares, (25, 30), strict=True):
                right = int(draw.binomial(count, share))
                two.append({"score": right / count, "interval": list(certainty.wilson(right, count)[1:])})
            low, high = difference(*two)["interval"]
            held += low <= shares[0] - shares[1] <= high
        assert 0.92 <= held / 400 <= 0.99
    there, back = difference(*two), difference(*two[::-1])
    assert there["interval"] == pytest.approx([-end for end in back["interval"][::-1]])
    assert difference(two[0], {"score": None, "interval": None}) is None
    assert difference(None, two[0]) is None


def test_a_run_that_trained_nothing_says_so(root: str, tmp_path: Path) -> None:
    texts = {"a": (piece(f"{KRANICH}/page/4"),), "b": (toys.prose(500, 1),)}
    met = search(root, texts, str(tmp_path / "out"), Local(), run=runs(root)[0])
    assert met.trainings == []
    assert [one["trained"] for one in met.asked.values()] == [{}]
    part = {"test": Part(["a", "b"], ["f", "f"], [1, 2])}
    groups = groups_of(part, met)["test"]
    assert groups == {"clean": {"b"}, "contaminated": {"a"}, "whole": {"a"}, "too short": frozenset()}
    answer = told(root, part, texts, met)
    assert (answer["parts"]["test"]["trained"], answer["worst"][0]["trained_weight"]) == (None, None)
