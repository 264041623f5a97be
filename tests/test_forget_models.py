"""Forgetting where models were trained: which steps and checkpoints saw it, and that the others' steps stay known."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import forget_root as made
from tests.forget_root import HERON, KRANICH, SORA, holding, rows, secret
from tests.test_forget import address, because
from tundish.pipeline.cli import call
from tundish.pipeline.forget import forget
from tundish.pipeline.funnel import ran
from tundish.pipeline.seen import Ledger, ids_at
from tundish.pipeline.verify import verify
from tundish.stages.mix import Mix
from tundish.stages.pretrain import Pretrain

pytestmark = pytest.mark.slow  # whole roots, again and again


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("models")
    made.sources(folder)
    goal = made.trained(folder)
    with made.web() as site:
        made.go(goal, folder / "root", site)
    return folder / "root", goal


@pytest.fixture
def root(origin: tuple[Path, Any], tmp_path: Path) -> Path:
    shutil.copytree(origin[0], tmp_path / "root")
    return tmp_path / "root"


def ledger(root: Path) -> Ledger:
    """Of the training of the latest run."""
    past = ran(str(root))
    [model] = past.of("Pretrain")
    return Ledger.of(past.datasets[model], past.datasets[past.field(model, "shards")])


def seen(root: Path) -> dict[bytes, list[int]]:
    """The steps that saw each document of the token shards, asked of each document."""
    book = ledger(root)
    places = [(name, row) for name in book.tokens.names for row in range(book.tokens.shard(name).rows)]
    return {own: book.steps_of(*place)[0] for own, place in zip(ids_at(book.tokens, places), places, strict=True)}


def batches(root: Path) -> list[set[bytes]]:
    """The documents that each step saw, asked of each step."""
    book = ledger(root)
    return [set(ids_at(book.tokens, list(book.documents(step)))) for step in range(book.steps)]


def trained_on(root: Path) -> list[tuple[str, bytes]]:
    """(URL, id) of the documents in the token shards, held-out ones apart."""
    there = {row["id"] for row in rows(root, address(root, "tokenize"), "tokens")}
    return [(row["url"], row["id"]) for row in rows(root, address(root, "corpus"), "text") if row["id"] in there]


def test_the_answer_names_the_steps_and_the_checkpoints_that_saw_it(origin: tuple[Path, Any], root: Path) -> None:
    url, own = next(one for one in trained_on(root) if one[0].startswith(HERON))
    wanted = [step for step, batch in enumerate(batches(root)) if own in batch]
    assert wanted
    pretrain, finetune = address(root, "pretrain"), address(root, "finetune")
    answer = forget(str(root), [url])
    [one, other] = answer["models"]
    assert (one["model"], one["documents"], one["steps"]) == (pretrain, 1, wanted)
    there = sorted(path.name for path in (root / pretrain / "checkpoints").iterdir())
    assert there
    since = [f"checkpoints/{name}" for name in there if int(name.removeprefix("step-")) > wanted[0]]
    assert one["checkpoints"] == [*since, "model.safetensors"]
    assert other == {"model": finetune, "stands_on": pretrain}
    assert "weights are not unlearned" in answer["weights"]
    assert [one["file"] for one in answer["learned"]] == [f"{address(root, 'tokenize')}/vocabulary.model"]
    assert holding(root, secret(url)) == []
    assert (verify(str(root)), because(origin[1], root)) == ([], {}), "no model is trained anew unasked"


def test_the_steps_of_all_others_stay_known(root: Path) -> None:
    """Token shards lose rows, and the rows of training were cut from the shards as they were."""
    before, then = seen(root), batches(root)
    known = trained_on(root)
    gone: set[bytes] = set()
    for url, own in (known[0], known[len(known) // 2], known[-1]):  # one after the other: numbers move each time
        forget(str(root), [url])
        gone.add(own)
        assert seen(root) == {each: steps for each, steps in before.items() if each not in gone}
        assert batches(root) == [batch - gone for batch in then]


def test_a_held_out_document_was_in_no_step(root: Path) -> None:
    held = rows(root, f"{address(root, 'tokenize')}/holdout", "tokens")
    assert held, "else this test says nothing"
    answer = forget(str(root), [held[0]["id"].hex()])
    assert [one for one in answer["models"] if one.get("steps")] == []
    assert any(one["dataset"].endswith("/holdout") for one in answer["lost"])


def test_a_dry_run_names_the_same_steps(root: Path) -> None:
    what = [url for url, _ in trained_on(root) if url.startswith((SORA, KRANICH))][:3]
    dry = forget(str(root), what, dry=True)
    assert dry["models"] == forget(str(root), what)["models"]
    assert dry["models"][0]["documents"] == 3


def test_a_training_that_was_not_finished_is_named(root: Path) -> None:
    """It begins anew: its shards are others."""
    pretrain = root / address(root, "pretrain")
    (pretrain / "manifest.json").unlink()
    shutil.rmtree(root / address(root, "finetune"))
    url, _ = trained_on(root)[0]
    [one] = forget(str(root), [url])["models"]
    assert one["unfinished"]
    assert any(name.startswith("checkpoints/step-") for name in one["checkpoints"])


def test_a_mixture_of_shards_is_one_of_the_same_rows(origin: tuple[Path, Any], root: Path) -> None:
    """A Mix takes shards in by reference: the model that read it saw what they held."""
    mixed = Mix({"all": origin[1].encoder.shards})
    goal = Pretrain(mixed, tokens=2_000, length=64, batch=4, checkpoint_every=20)
    with made.web() as site:
        made.go(goal, root, site)
    before, then = seen(root), batches(root)
    url, own = next(one for one in trained_on(root) if before[one[1]])
    answer = forget(str(root), [url])
    steps = {one["model"]: one["steps"] for one in answer["models"] if "steps" in one}
    assert steps[goal.address] == before[own]
    assert len(steps) == 2, "the one that read the shards themselves, too"
    assert (verify(str(root)), because(goal, root)) == ([], {})
    assert seen(root) == {each: steps for each, steps in before.items() if each != own}
    assert batches(root) == [batch - {own} for batch in then]


def test_the_command_says_it_in_words(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, _ = trained_on(root)[0]
    call(["forget", str(root), url, "--dry-run", "--json"])
    steps = json.loads(capsys.readouterr().out)["models"][0]["steps"]
    call(["forget", str(root), url])
    said = capsys.readouterr().out
    assert f"in {len(steps)} step" in said
    assert f"the first of them {steps[0]}" in said
    assert "written since: checkpoints/step-" in said
    assert "began with the weights of" in said
    assert "weights are not unlearned" in said
