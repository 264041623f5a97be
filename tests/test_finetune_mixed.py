"""Fine-tuning in company: whose batch comes when, what others learn on the trunk, what is sealed, told and refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests import toys, writers
from tests.test_finetune_runs import IDS, SHAPE, made, model, part, rows, task_of  # noqa: F401 - `model` is a fixture
from tundish.operators.model.heads import begun
from tundish.operators.model.order import keyed, shuffled
from tundish.operators.model.schedules import warm_linear
from tundish.operators.model.tasks import HOWS, Tasks
from tundish.operators.text import vocabulary
from tundish.pipeline.cli import cli
from tundish.pipeline.export import export
from tundish.stages import finetune_one, finetune_runs
from tundish.stages.finetune_kinds import loss_of, outputs, scored
from tundish.stages.finetune_mixed import BESIDE, MixedTask, Mixing, Other, alone, mixed, planned
from tundish.stages.finetune_mixed import told as told_of
from tundish.stages.finetune_one import Besides, trained
from tundish.stages.finetune_others import mixing_of, others_of
from tundish.stages.finetune_rows import rows_of
from tundish.stages.finetune_runs import found, read
from tundish.stages.finetune_task import Aids, Run, TuneTask
from tundish.stages.hub import weights_of

torch.set_num_threads(1)
CPU = torch.device("cpu")
FEW = {"seeds": (1,), "epochs": 2, "batch": 16}


def other(folder: Path, name: str, kind: str, train: int, *, seed: int = 11, digest: str = "") -> Other:
    (folder / name).mkdir()
    parts = [
        part(folder / name, which, kind, rows(kind, n, s)) for which, n, s in (("train", train, seed), ("dev", 30, 12))
    ]
    return Other(name, kind, parts[0], parts[1], digest or name, "IOB2" if kind == "tag" else "")


def run_of(task: TuneTask, besides: Besides | None = None) -> tuple[Any, finetune_one.Outcome]:
    shape, weights = weights_of(task.model)
    given = (besides,) if besides else ()
    return trained(task, task.runs[0], shape, weights, read(task, shape.length), CPU, lambda *_: None, *given)


def mixed_made(task: MixedTask) -> dict:
    return made(task) | told_of(task)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("turns", [1, 7, 40])
def test_an_epoch_is_the_first_tasks_and_the_others_come_by_their_shares(how: str, turns: int) -> None:
    tasks = Tasks((40, 400, 15), how=how, epochs=3, temperature=3.0)
    for epoch in range(3):
        line, shares = tasks.led(epoch, turns), tasks.shares(epoch)
        assert (line == 0).sum() == turns
        assert line[-1] == 0
        for number in (1, 2):
            for end in range(1, len(line) + 1):
                assert abs((line[:end] == number).sum() - shares[number] * end) < 4
    with pytest.raises(ValueError, match="comes 0 times"):
        tasks.led(0, 0)


@pytest.mark.parametrize("how", ["proportional", "equal", "annealed"])
def test_its_own_batches_are_those_it_has_alone(model: str, tmp_path: Path, how: str) -> None:  # noqa: F811
    plain = task_of(model, tmp_path, "classify", train=50, **FEW)
    company = mixed(plain, [other(tmp_path, "more", "tag", 90)], Mixing(how))
    seen: list[list[list[int]]] = []
    for task in (plain, company):
        seen.append([])

        def loss(model: Any, batch: Any, found: Any, own: Any) -> Any:
            seen[-1].append(batch.tokens.tolist())
            return own

        outcome = run_of(task, Besides(loss=loss))[1]
    assert seen[0] == seen[1]
    assert outcome.steps == 8 + outcome.beside["more"]["steps"]
    assert len(seen[1]) == 8


def test_a_step_is_one_batch_of_one_task_on_one_trunk(model: str, tmp_path: Path) -> None:  # noqa: F811
    """Against a loop that says it slowly: no dropout, so that nothing is drawn but the order."""
    plain = task_of(model, tmp_path, "classify", train=40, **FEW)
    task = mixed(plain, [other(tmp_path, "tags", "tag", 25), other(tmp_path, "value", "regress", 60)])
    tuned, outcome = run_of(task)
    shape, weights = weights_of(model)
    parts = [read(plain, 48)["train"], *(rows_of(each.train, IDS, 48) for each in task.others)]
    tasks = [plain, replace(plain, kind="tag"), replace(plain, kind="regress")]
    seeds = [1, keyed(1, BESIDE, 0) >> 33, keyed(1, BESIDE, 1) >> 33]
    heads = [("sequence", 2), ("tokens", 2), ("sequence", 1)]
    models = [begun(shape, *h, seed=s, weights=weights, dropout=0.0) for h, s in zip(heads, seeds, strict=True)]
    torch.nn.init.constant_(models[2].chooser.bias, float(np.mean(parts[2].targets)))
    for one in models[1:]:
        one.encoder = models[0].encoder
    every = {id(w): w for one in models for w in one.parameters()}.values()
    decayed = [[w for w in every if w.dim() > 1], [w for w in every if w.dim() <= 1]]
    adam = torch.optim.AdamW(
        [{"params": decayed[0], "weight_decay": 0.01}, {"params": decayed[1], "weight_decay": 0.0}]
    )
    order = Tasks((40, 25, 60), epochs=2)
    line = [int(each) for epoch in range(2) for each in order.led(epoch, 3)]
    turns = [0, 0, 0]
    for step, number in enumerate(line):
        size = len(parts[number])
        epoch, at = divmod(turns[number], -(-size // 16))
        turns[number] += 1
        places = np.arange(at * 16, min(size, at * 16 + 16))
        batch = parts[number].batch(shuffled(places, size=size, key=keyed(seeds[number], epoch)), CPU)
        mean = loss_of(tasks[number], outputs(models[number].train(), batch, {}, dtype=torch.float32), batch, None)
        (mean.total / mean.count).backward()
        torch.nn.utils.clip_grad_norm_([w for w in models[number].parameters() if w.grad is not None], 1.0)
        for group in adam.param_groups:
            group["lr"] = 3e-3 * warm_linear(step, steps=len(line), warm=0.1)
        adam.step()
        adam.zero_grad()
    assert [outcome.beside[name]["steps"] for name in ("tags", "value")] == turns[1:] == [*planned(task).values()]
    for (name, mine), theirs in zip(tuned.state_dict().items(), models[0].state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4, msg=name)


def test_what_others_learn_is_of_use_and_the_gain_is_told(model: str, tmp_path: Path) -> None:  # noqa: F811
    """Little of a task, and much of one that asks the same."""
    plain = task_of(model, tmp_path, "classify", train=24, seeds=(1, 2), epochs=4)
    task = mixed(plain, [other(tmp_path, "same", "classify", 320)], Mixing("proportional"))
    assert mixed_made(task)["gain"] == {}, "nothing is there to compare with"
    before, result = made(plain), mixed_made(task)
    two = [each["parts"]["test"]["pretrained"]["accuracy"] for each in (before, result)]
    told = result["gain"]["test"]["accuracy"]
    assert told["mean"] == pytest.approx(two[1]["mean"] - two[0]["mean"], abs=1e-9)
    assert told["seeds"] == pytest.approx(np.subtract(two[1]["seeds"], two[0]["seeds"]).tolist(), abs=2e-6)
    assert told["mean"] > 0.1
    assert told["interval"][0] <= told["mean"] <= told["interval"][1]
    learned = result["beside"]["same"]
    assert (learned["task"], learned["examples"], learned["steps"]) == ("classify", 320, 107)
    assert learned["dev"]["accuracy"]["mean"] > 0.75
    assert result["mixing"]["how"] == "proportional"


def test_first_the_others_and_then_the_task_from_their_trunk(model: str, tmp_path: Path) -> None:  # noqa: F811
    plain = task_of(model, tmp_path, "classify", train=30, **FEW)
    one = other(tmp_path, "tags", "tag", 60)
    tuned, outcome = run_of(mixed(plain, [one], Mixing("first", epochs=3)))
    own = alone(plain, kind="tag", parts={"train": one.train, "dev": one.dev}, scheme="IOB2", epochs=3)
    shape, weights = weights_of(model)
    run = Run(True, keyed(1, BESIDE, 0) >> 33)
    taught, earlier = trained(own, run, shape, weights, read(own, 48), CPU, lambda *_: None)
    trunk = taught.encoder.state_dict()
    again, later = trained(plain, Run(True, 1), shape, trunk, read(plain, 48), CPU, lambda *_: None)
    assert outcome.losses == later.losses
    for mine, theirs in zip(tuned.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    dev = read(own, 48)["dev"]
    assert outcome.beside["tags"]["dev"] == scored(own, dev, earlier.said["dev"])
    assert outcome.beside["tags"]["steps"] == earlier.steps == 12


def test_several_that_come_first_are_mixed_among_themselves(model: str, tmp_path: Path) -> None:  # noqa: F811
    plain = task_of(model, tmp_path, "classify", train=20, **FEW)
    task = mixed(plain, [other(tmp_path, "a", "regress", 32), other(tmp_path, "b", "tag", 64)], Mixing("first"))
    outcome = run_of(task)[1]
    steps = {name: each["steps"] for name, each in outcome.beside.items()}
    assert steps == planned(task) == {"a": 4, "b": pytest.approx(8, abs=2)}
    assert outcome.steps == 4


@pytest.mark.parametrize("how", ["equal", "first"])
@pytest.mark.parametrize("aids", [Aids(mixout=0.2, layerdrop=0.3), Aids(lora=2), Aids(unfreeze=1, layerwise=0.7)])
def test_company_and_aids(model: str, tmp_path: Path, how: str, aids: Aids) -> None:  # noqa: F811
    """A function of the seed, whatever torch's own stream; fresh weights have company as well."""
    plain = task_of(model, tmp_path, "classify", train=40, aids=aids, **(FEW | {"dropout": 0.1, "epochs": 3}))
    task = mixed(plain, [other(tmp_path, "tags", "tag", 30)], Mixing(how))
    shape, weights = weights_of(model)
    parts = read(task, 48)
    for run in (Run(True, 1), Run(False, 1)):
        ends = []
        for seed in (5, 6):
            torch.manual_seed(seed)
            tuned, outcome = trained(task, run, shape, weights, parts, CPU, lambda *_: None)
            ends.append((outcome.losses, outcome.beside, outcome.said["test"]["logits"].tolist()))
        assert ends[0] == ends[1]
        assert set(outcome.beside) == {"tags"}
        assert not any("lora" in name for name in tuned.state_dict())


def test_a_trunk_that_is_thawed_has_no_company_without_a_head(model: str, tmp_path: Path) -> None:  # noqa: F811
    """In the first epoch a task of vectors would have no weight to learn with; ahead of it the trunk is whole."""
    plain = task_of(model, tmp_path, "classify", train=20, aids=Aids(unfreeze=1), **FEW)
    pairs = other(tmp_path, "pairs", "embed", 20)
    with pytest.raises(ValueError, match="pairs beside is a task of embed, which learns nothing while unfreeze"):
        mixed(plain, [pairs], Mixing("equal"))
    task = mixed(plain, [pairs], Mixing("first"))
    assert run_of(task)[1].beside["pairs"]["steps"] == planned(task)["pairs"] == 4


@pytest.mark.parametrize("how", ["equal", "first"])
def test_who_writes_has_company_that_does_not(tmp_path: Path, how: str) -> None:
    """On one trunk; how texts are chosen is a matter of those that are written."""
    body = vocabulary.train(writers.sentences(), size=288)
    folder = writers.folder_of(tmp_path / "model", body, **writers.KIN["decoder"])
    task = writers.task_of(folder, tmp_path, writers.turned(20), epochs=2)
    texts = [f"{'ab'[n % 2]}\t{n} {text}" for n, text in enumerate(writers.sentences()[:20])]
    (tmp_path / "c.tsv").write_text("\n".join(["label\ttext", *texts]) + "\n")
    rows = [json.dumps({"source": one, "target": one}) + "\n" for one in writers.sentences()[:12]]
    (tmp_path / "w.jsonl").write_text("".join(rows))
    written = {"c": {"train": str(tmp_path / "c.tsv")}, "w": {"task": "write", "train": str(tmp_path / "w.jsonl")}}
    outcome = run_of(mixed(task, others_of(folder, written, str(tmp_path))[0], Mixing(how)))[1]
    assert "accuracy" in outcome.beside["c"]["dev"]
    assert "rouge_l" in outcome.beside["w"]["dev"]
    assert not outcome.failed
    assert outcome.losses[-1] < outcome.losses[0]


def test_with_patience_the_heads_of_others_are_of_the_best_epoch_too(model: str, tmp_path: Path) -> None:  # noqa: F811
    """As they are in a run that is stopped there."""
    given = FEW | {"epochs": 6, "lr": 2e-2, "dropout": 0.0}
    plain = task_of(model, tmp_path, "classify", train=40, **given)
    task = mixed(plain, [other(tmp_path, "value", "regress", 40)], Mixing("equal"))
    outcome = run_of(replace(task, aids=Aids(patience=2)))[1]
    best = int(np.argmax(outcome.dev))
    assert best + 1 < len(outcome.dev), "else nothing is shown"
    stopped = run_of(task, Besides(watch=lambda epochs, score: epochs == best + 1))[1]
    assert stopped.dev == outcome.dev[: best + 1]
    assert outcome.beside["value"]["dev"] == stopped.beside["value"]["dev"]
    assert outcome.said["test"]["logits"].tolist() == stopped.said["test"]["logits"].tolist()


def test_the_key_holds_the_company_and_runs_are_not_made_again(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    plain = task_of(model, tmp_path, "classify", train=32, **FEW)
    one = other(tmp_path, "tags", "tag", 20)
    task = mixed(plain, [one])
    keys = {plain.key, task.key, mixed(plain, [replace(one, digest="x")]).key, mixed(plain, [one], Mixing("equal")).key}
    assert len(keys) == 4
    assert mixed(plain, [replace(one, train="elsewhere", dev="there")]).key == task.key
    assert mixed(plain, []).key == plain.key
    assert alone(task) == plain
    result = mixed_made(task)
    again: list[Run] = []
    monkeypatch.setattr(finetune_runs, "trained", lambda *given: again.append(given[1]))
    assert mixed_made(task) == result
    assert again == []
    told = found(task, task.runs[0])[0]
    assert result["beside"]["tags"]["dev"]["span_f1"]["mean"] == told["beside"]["tags"]["dev"]["span_f1"]
    assert result["parts"]["test"]["pretrained"]["accuracy"]["seeds"] == [
        pytest.approx(told["scores"]["test"]["accuracy"], abs=1e-6)
    ]


def test_a_run_on_fewer_examples_has_company_by_its_own_size(model: str, tmp_path: Path) -> None:  # noqa: F811
    plain = task_of(model, tmp_path, "classify", train=64, sizes=(16,), **FEW)
    task = mixed(plain, [other(tmp_path, "tags", "tag", 64)])
    shape, weights = weights_of(model)
    steps = []
    for run in (Run(True, 1), Run(True, 1, 16)):
        steps.append(trained(task, run, shape, weights, read(task, 48), CPU, lambda *_: None)[1].steps)
    assert steps[0] == pytest.approx(16, abs=2)
    assert steps[1] == pytest.approx(10, abs=3), "four examples of the other for each of its own"


def test_what_is_no_mixture_or_no_task_is_named(tmp_path: Path) -> None:
    assert mixing_of("proportional=500") == Mixing("proportional", limit=500)
    for given, words in (
        ("luck", "cannot be mixed by 'luck'"),
        ("equal=3", "has no number"),
        ("first=x", "epochs of a mixture is 'x'"),
        ("temperature=0", "temperature 0.0"),
    ):
        with pytest.raises(ValueError, match=words):
            mixing_of(given)
    for written, words in (
        ({}, "no task beside"),
        ({"nli": "nli.tsv"}, "write it as {task"),
        ({"nli": {"task": "classify"}}, "nothing to train on"),
        ({"nli": {"task": "sort", "train": "x"}}, "is a 'sort'"),
        ({"nli": {"trian": "x"}}, "did you mean 'train'"),
        ({"a/b": {"train": "x"}}, "cannot be called 'a/b'"),
    ):
        with pytest.raises(ValueError, match=words):
            others_of("model", written, str(tmp_path))


def test_the_command_takes_tasks_beside_from_a_file(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = toys.trained_root(tmp_path_factory.getbasetemp())
    export(root, str(tmp_path / "model"))
    draw = np.random.default_rng(3)
    words = ("heron", "crane", "water", "stone", "night", "river")
    lines = [f"{('sad', 'glad')[n % 2]}\t{n} {' '.join(draw.choice(words, 5))}" for n in range(60)]
    (tmp_path / "a.tsv").write_text("\n".join(["label\tsentence", *lines]) + "\n")
    asked = [
        {"context": f"Number {n} stood by the river.", "question": "Where?", "answers": ["the river"], "id": f"q{n}"}
        for n in range(40)
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    beside = f"mood: {{train: {tmp_path}/a.tsv, columns: {{text: sentence}}}}\n"
    beside += f"where: {{task: answer, train: {tmp_path}/q.jsonl}}\n"
    (tmp_path / "tasks.yaml").write_text(beside)
    out = str(tmp_path / "out")
    given = ["finetune", str(tmp_path / "model"), "--train", str(tmp_path / "a.tsv"), "--column", "text=sentence"]
    given += ["--out", out, "--seeds", "1", "--epochs", "1", "--no-fresh", "--length", "40"]
    CliRunner().invoke(cli, given, catch_exceptions=False)
    given += ["--beside", str(tmp_path / "tasks.yaml"), "--mixing", "equal"]
    shown = CliRunner().invoke(cli, given, catch_exceptions=False).output
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert {name: each["task"] for name, each in result["beside"].items()} == {"mood": "classify", "where": "answer"}
    assert set(result["beside"]["where"]["dev"]) >= {"f1", "exact"}
    assert "beside, mood: accuracy" in shown
    assert "beside its own steps a run takes" in shown
    assert "gain over the same training alone, test: accuracy" in shown
    (tmp_path / "tasks.yaml").write_text("- mood")
    with pytest.raises(ValueError, match=r"tasks\.yaml"):
        CliRunner().invoke(cli, given, catch_exceptions=False)
