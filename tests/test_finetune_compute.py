"""What a run is made by, and what it took: fresh weights learn whole, and operations are those that torch counts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.test_finetune_mixed import other
from tests.test_finetune_runs import SHAPE, made, rows, task_of
from tests.test_search import small
from tests.writers import KIN, folder_of, sentences, turned
from tests.writers import task_of as writing_task
from tundish.operators.model import flops, measures
from tundish.operators.text import vocabulary
from tundish.pipeline.tuned_training import baseline, compute, lines
from tundish.stages import finetune_one
from tundish.stages.finetune_compute import once, operations, pretraining, spent
from tundish.stages.finetune_kinds import ranked, readied
from tundish.stages.finetune_mixed import mixed
from tundish.stages.finetune_one import begun_of, step_of, trained
from tundish.stages.finetune_runs import read, sealed
from tundish.stages.finetune_task import HOLDING, LORA, Aids, Run, TuneTask, rate_of
from tundish.stages.hub import weights_of

torch.set_num_threads(1)
FEW: dict[str, Any] = {"train": 48, "seeds": (1,), "epochs": 1}
HELD: dict[str, Any] = {"layerwise": 0.5, "mixout": 0.3, "lora": 2, "unfreeze": 1}
PLAIN = TuneTask("m", "classify", {"train": "t", "dev": "d"}, {"[PAD]": 0}, "out")
KEYS: dict[str, dict[str, Any]] = {  # of sealed runs, as they were before fresh weights went without aids
    "8d5e5648fcba": {},
    "e3d8135e6424": {"aids": Aids(rdrop=1.0)},
    "fb93a49910d9": {"aids": Aids(mixout=0.1)},
    "7d0f90eab683": {"aids": Aids(lora=8), "lr": 1e-4},
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small(tmp_path_factory.mktemp("model"))


# -- fresh weights learn whole


def test_keys_of_sealed_runs_stay_what_they_were() -> None:
    """A digest that changes makes every such run again."""
    assert [replace(PLAIN, **more).key for more in KEYS.values()] == [*KEYS]
    fresh = Run(False, 1)
    for name, value in HELD.items():
        task = replace(PLAIN, aids=Aids(**{name: value}))
        assert task.of(Run(True, 1)) is task
        assert task.of(fresh).key == PLAIN.key, "what it is made by is the plain task"
    assert PLAIN.of(fresh) is PLAIN
    assert replace(PLAIN, aids=Aids(lora=2)).key != replace(PLAIN, aids=Aids(lora=2), lr=1e-3).key


def test_only_what_holds_the_trunk_is_left_out() -> None:
    given = Aids(smoothing=0.1, rdrop=1.0, layerdrop=0.2, layerwise=0.5, mixout=0.3, unfreeze=2)
    task = TuneTask("m", "classify", {"train": "t"}, {}, "out", aids=given)
    assert given.held == {"layerwise": 0.5, "mixout": 0.3, "unfreeze": 2}
    assert task.of(Run(False, 1)).aids == Aids(smoothing=0.1, rdrop=1.0, layerdrop=0.2)
    assert set(HELD) == set(HOLDING)


@pytest.mark.parametrize("name", sorted(HELD))
def test_fresh_weights_go_without_what_holds_pretrained_ones(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    began: list[Any] = []
    monkeypatch.setattr(finetune_one, "begun_of", lambda *given: began.append(begun_of(*given)) or began[-1])
    task = task_of(model, tmp_path, "classify", **FEW, lr=0.0, scratch=True, aids=Aids(**{name: HELD[name]}))
    result = made(task)
    _, fresh = began
    assert all(weight.requires_grad for weight in fresh.parameters())
    plain = trained(replace(task, aids=Aids()), Run(False, 1), SHAPE, {}, _parts(task), CPU, lambda *_: None)[0]
    for one, two in zip(fresh.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(one, two), "the same training as without the aid, bit by bit"
    assert result["aids"] == {name: HELD[name]}
    whole = rate_of(sum(each.numel() for each in fresh.parameters()))
    assert result["baseline"] == {"without": [name], "rate": whole}
    assert result["rate"] == (LORA * whole if name == "lora" else whole)
    assert f"without {name} and at a rate of {whole:.3g}" in baseline(result)


def _parts(task: TuneTask) -> Any:
    return read(task, SHAPE.length)


def test_an_own_rate_is_kept_and_lora_has_ten_times_that_of_all_weights() -> None:
    assert rate_of(110_000_000, lora=8) == pytest.approx(3e-4)
    assert rate_of(110_000_000, lora=64) == rate_of(110_000_000, lora=1), "the best rate hardly depends on the rank"
    assert rate_of(1000, lora=1) == pytest.approx(1e-2)


def test_an_own_rate_is_every_runs(model: str, tmp_path: Path) -> None:
    result = made(task_of(model, tmp_path, "classify", **FEW, lr=2e-3, scratch=True, aids=Aids(lora=2)))
    assert result["rate"] == result["baseline"]["rate"] == 2e-3


def test_a_fresh_run_is_sealed_once_for_all_aids_that_it_goes_without(model: str, tmp_path: Path) -> None:
    plain = task_of(model, tmp_path, "classify", **FEW, scratch=True)
    made(plain)
    count = len(list((tmp_path / "out" / "runs").glob("*-fresh-1.json")))
    result = made(replace(plain, aids=Aids(layerwise=0.5)))
    assert len(list((tmp_path / "out" / "runs").glob("*-fresh-1.json"))) == count == 1
    assert len(list((tmp_path / "out" / "runs").glob("*-pretrained-1.json"))) == 2
    assert result["baseline"]["without"] == ["layerwise"]


# -- operations


@pytest.mark.parametrize(
    ("kind", "aids"),
    [
        *(("classify", Aids(**each)) for each in ({}, {"rdrop": 1.0}, {"sift": 1.0}, {"lora": 2})),
        ("classify", Aids(lora=2, sift=1.0)),
        ("embed", Aids()),
    ],
)
def test_operations_are_those_that_torch_counts(model: str, tmp_path: Path, kind: str, aids: Aids) -> None:
    task = task_of(model, tmp_path, kind, **FEW, aids=aids)
    _, weights = weights_of(model)
    train = _parts(task)["train"]
    tuned = begun_of(task, Run(True, 1), SHAPE, weights, train).train()
    counter = FlopCounterMode(display=False)
    with counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        step_of(task, Run(True, 1), tuned, train, np.arange(48), 0, None, None, torch.float32)
    assert once(task, SHAPE, train) == pytest.approx(counter.get_total_flops(), rel=0.08), "but for heads and adapters"


def test_what_is_written_is_counted_with_its_scores_of_all_tokens(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", vocabulary.train(sentences(), size=288), **KIN["decoder"])
    task = writing_task(folder, tmp_path / "rows", turned(16))
    shape, _ = weights_of(folder)
    train = readied(task, read(task, shape.length)["train"], shape)
    lengths = [len(train.prompt(row)) + int(np.diff(train.wanted[1])[row]) for row in range(len(train))]
    asked = float(np.diff(train.wanted[1]).sum() + len(train))
    wanted = flops.training(shape, lengths, asked)
    assert once(task, shape, train) == pytest.approx(wanted, rel=0.03)


def test_every_run_is_told_with_its_operations_and_its_clock(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "classify", **FEW | {"epochs": 2}, scratch=True, sizes=(24,))
    made(task)
    told = json.loads((tmp_path / "out" / "compute.json").read_text())
    assert [run["name"] for run in told["runs"]] == [run.name for run in task.runs]
    train = _parts(task)["train"]
    each = {run["name"]: run["flops"] for run in told["runs"]}
    assert each["pretrained-1"] == each["fresh-1"] == 2 * once(task, SHAPE, train)
    assert 0 < each["pretrained-1-of-24"] < each["pretrained-1"]
    assert told["flops"] == sum(each.values())
    assert all(run["seconds"] > 0 and run["device"] == "CPU, 1 thread" for run in told["runs"])
    assert (told["untimed"], told["pretraining"]) == (0, None)
    for path in (tmp_path / "out" / "took").glob("*-fresh-1.json"):
        path.unlink()
    again = spent(task, SHAPE, train, lambda run: sealed(task, run))
    assert again["untimed"] == 1
    assert again["flops"] == told["flops"], "operations are a function of what was sealed"
    shown = compute(again)
    assert shown is not None
    assert {row["name"]: row["runs"] for row in shown["rows"]} == {
        "pretrained weights": 1, "fresh weights": 1, "pretrained weights, fewer examples": 1,
        "fresh weights, fewer examples": 1,
    }  # fmt: skip
    assert next(row["clock"] for row in shown["rows"] if row["name"] == "fresh weights") == "no clock kept"
    assert shown["all"]["clock"].endswith(" of 3")
    assert lines({"compute": again})[0].startswith("4 runs took")
    made(task)
    kept = json.loads((tmp_path / "out" / "compute.json").read_text())
    assert kept["untimed"] == 1, "a run that is sealed is not made again for its clock"


def test_steps_of_other_tasks_are_counted(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "classify", **FEW)
    company = mixed(task, [other(tmp_path, "tags", "tag", 32)])
    told = {"losses": [0.5], "beside": {"tags": {"steps": 4}}}
    train = _parts(task)["train"]
    alone, both = (operations(each, Run(True, 1), told | more, SHAPE, train)
                   for each, more in ((task, {"beside": {}}), (company, {})))  # fmt: skip
    lengths = [len(row["tokens"]) + 2 for row in rows("tag", 32, 11)]
    assert both - alone == pytest.approx(flops.tuning(SHAPE, lengths) * 4 * 16 / 32)


# -- pretraining


def test_pretraining_is_told_by_the_log_or_by_the_card(tmp_path: Path) -> None:
    assert pretraining(str(tmp_path)) is None
    card = "---\ntags:\n- tundish\n---\n\n# m\n\n## Training\n\n| compute | 3.1 PFLOP in 2 hours |\n"
    (tmp_path / "README.md").write_text(card)
    assert pretraining(str(tmp_path)) == {"said": "3.1 PFLOP in 2 hours"}
    (tmp_path / "README.md").write_text(card.replace("- tundish\n", "- other\n"))
    assert pretraining(str(tmp_path)) is None, "what others write there is not ours to read"
    log = [{"step": 1, "seconds": 2.0, "tflops": 0.5}, {"step": 2, "seconds": 1.0}, {"step": 3, "seconds": 1.0,
           "tflops": 1.0}]  # fmt: skip
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    assert pretraining(str(tmp_path)) == {"flops": 2e12, "seconds": 4.0}
    told = compute({"runs": [{"name": "pretrained-1", "flops": 1e9, "seconds": 1.0, "device": "CPU, 1 thread"}],
                    "pretraining": pretraining(str(tmp_path))})  # fmt: skip
    assert told is not None
    assert told["pretraining"] == "2 TFLOP, 4.0 s"


# -- vectors that find each other, in blocks


def plainly(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All products at once, row by row in words."""
    products = np.nan_to_num(vectors[:, 0] @ vectors[:, 1].T, nan=-np.inf)
    ahead = np.array([sum(other > row[at] for other in row) for at, row in enumerate(products)])
    ties = np.array([sum(other == row[at] for other in row) - 1 for at, row in enumerate(products)])
    return ahead, ties


@pytest.mark.parametrize("numbers", [1, 23, 24, 100, 1 << 22])
def test_blocks_of_products_come_to_what_all_at_once_do(numbers: int) -> None:
    draw = np.random.default_rng(3)
    vectors = draw.integers(-2, 3, (23, 2, 5)).astype(np.float64)  # whole numbers: ties, and no rounding
    vectors[4, 1] = vectors[9, 1]
    vectors[7] = np.nan
    found = measures.found(vectors[:, 0], vectors[:, 1], numbers)
    for one, two in zip(found, plainly(vectors), strict=True):
        np.testing.assert_array_equal(one, two)
    first, rank = ranked(vectors)
    assert first.tolist() == [1 / (1 + t) if not a else 0 for a, t in zip(*plainly(vectors), strict=True)]
    assert rank.tolist() == [1 + a + t / 2 for a, t in zip(*plainly(vectors), strict=True)]


def test_memory_does_not_grow_with_the_square_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = np.nan_to_num
    monkeypatch.setattr(np, "nan_to_num", lambda products, **how: sizes.append(products.size) or plain(products, **how))
    vectors = np.random.default_rng(1).normal(size=(3000, 2, 4))
    ranked(vectors)
    assert max(sizes) <= measures.NUMBERS < 3000 * 3000
    assert sum(sizes) == 3000 * 3000
