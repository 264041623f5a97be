"""How many rows go through a model at once, and settings of a pretraining that would do nothing or are of no use."""

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.test_model_pretrain import IDS, VOCABULARY, losses, silent, toy
from tundish.operators.model import presets
from tundish.operators.model.batch import Batch
from tundish.operators.model.objective import ROUND, part_of
from tundish.operators.model.rows import Layout
from tundish.operators.model.stream import Aim
from tundish.pipeline.recipe import build
from tundish.stages import pretrain_log, ranks
from tundish.stages.pretrain import Pretrain
from tundish.stages.pretrain_feed import Feed
from tundish.stages.pretrain_loop import pretrain
from tundish.stages.pretrain_passes import BUSY, bounded, rows_of_pass
from tundish.stages.pretrain_task import PretrainTask
from tundish.stages.ranks import joined
from tundish.stages.tokenize import Tokenize

LONG = [
    {"tokens": [0, "50%"], "batch": 64, "row": 1024, "context": 1024},
    {"tokens": ["50%", "100%"], "batch": 8, "row": 8192, "context": 1024},
]


def asked(**other: object) -> PretrainTask:
    told = {"length": 1024, "tokens": 10_000_000, "model": "tiny", "curriculum": None} | other
    return PretrainTask(sources=(), holdout=(), specials=IDS, vocabulary=VOCABULARY, out="", **told)  # type: ignore


def passes(task: PretrainTask, shares: int = 1, *, static: bool = True) -> dict[int, int]:
    """Rows of a pass by rows' length."""
    schedule = task.aims.schedule(lambda phase: 0.9 * phase.row)
    layouts = {Layout(phase.row, phase.context) for phase in task.aims.phases}
    return {layout.row: rows_of_pass(task, schedule, layout, shares, static=static) for layout in layouts}


def test_what_is_compiled_computes_little_padding() -> None:
    """The rows of a pass are those of the step with the fewest, so that a batch that grows is not filled up to its end,
    and those of its own length, so that a phase of long rows has few of them."""
    assert passes(asked(batch=256)) == {1024: 256}
    assert passes(asked(batch=256), 4) == {1024: 64}
    assert passes(asked(batch=(64, 256))) == {1024: 64}
    assert passes(asked(curriculum=LONG)) == {1024: 64, 8192: 8}
    assert passes(asked(curriculum=LONG), static=False) == {1024: 0, 8192: 0}
    assert passes(asked(batch=(1, 256))) == {1024: BUSY // 1024}, "passes of one row leave a GPU idle"


def test_a_bound_is_one_of_places() -> None:
    task = asked(curriculum=LONG, at_once=32)
    assert (bounded(task, 1024), bounded(task, 8192), bounded(asked(), 1024)) == (32, 4, 0)
    for static in (False, True):
        assert passes(task, static=static) == {1024: 32, 8192: 4}
    assert passes(replace(task, at_once=2)) == {1024: 2, 8192: 1}
    assert passes(replace(task, at_once=500)) == {1024: 64, 8192: 8}, "more than there are is not filled up to"


@pytest.mark.parametrize("batch", [(4, 16), 16])
def test_the_places_of_a_training_whose_shapes_stay(tmp_path: Path, batch: object) -> None:
    """By the feed itself: every pass of a length of rows has one shape, and hardly more places than rows."""
    task = toy(tmp_path, batch=batch, tokens=8000, at_once=0)
    with joined(0, 1) as alone:
        feed = Feed(task, alone)
        feed.static = True
        steps = list(feed.batches(0))
        feed.close()
    shapes = {part.inputs.shape for step in steps for part in step.batches}
    assert len(shapes) == 1
    rows = sum(len(part.inputs) for step in steps for part in step.batches)
    own = sum(int((part.sizes > 0).sum()) for step in steps for part in step.batches)
    whole = steps[-1].setting.rows if batch == 16 else 16
    assert own <= rows < own + whole * len(steps)
    if batch == 16:
        assert rows == own


def test_numbers_of_documents_are_few() -> None:
    """Each is compiled for anew, and how many documents there are differs from batch to batch."""
    source = np.random.default_rng(4)
    seen = set()
    for _ in range(60):
        number = int(source.integers(1, 4 * ROUND))
        bounds = np.linspace(0, 8 * ROUND, number + 1).astype(np.int32)
        tokens = np.zeros((1, 8 * ROUND), np.int32)
        none = np.zeros(0, np.int64)
        batch = Batch(tokens, bounds, np.array([8 * ROUND]), none, none, np.array([0]), 0)
        part = part_of(batch, torch.device("cpu"), longest=8 * ROUND, static=True)
        assert torch.equal(part.packed.bounds[: number + 1], torch.from_numpy(bounds))
        seen.add(len(part.packed.bounds) - 1)
    assert seen == {ROUND, 2 * ROUND, 4 * ROUND}


@pytest.mark.parametrize("mask", [0.15, 0.5, 0.75, 0.8, 0.9, 0.99])
def test_answers_are_no_longer_than_documents_may_be(tmp_path: Path, mask: float) -> None:
    """However much is hidden: a token at least is between two spans. Kernels are told that nothing is longer."""
    task = toy(tmp_path, model="t5-small", objective="spans", mask=mask)
    with joined(0, 1) as alone:
        feed = Feed(task, alone)
        stream = feed.stream(0)
        batch = stream.batch(stream.plan.places(np.arange(40)), Aim(task.aims.objectives["spans"], mask))
        feed.close()
    part = part_of(batch, torch.device("cpu"), longest=task.length)
    assert part.packed_answers is not None
    for each in (part.packed, part.packed_answers):
        assert 2 < int(each.bounds.diff().max()) <= each.longest == task.length


def test_spans_are_learnt_alone(tmp_path: Path) -> None:
    for model in ("tiny", "t5-small"):
        with pytest.raises(ValueError, match=r"spans are for an encoder with a decoder .* for spans alone"):
            toy(tmp_path, model=model, objective={"mlm": 1, "spans": 1})


def test_an_objective_has_its_own_rate_where_no_phase_says_one(tmp_path: Path) -> None:
    own = {"ours": {"kind": "masked", "unit": "span", "lengths": [1.0], "rate": 0.6}}
    half = [{"tokens": [0, "50%"], "objective": "ours"}, {"tokens": ["50%", "100%"], "objective": "mlm"}]
    task = toy(tmp_path, mask=(0.3, 0.15), curriculum={"objectives": own, "phases": half})
    first, second = task.aims.phases
    assert first.rate is None
    assert task.aims.objectives["ours"].rate == 0.6  # type: ignore[union-attr]
    assert second.rate == pytest.approx((0.225, 0.15))
    mixed = [{"tokens": [0, "100%"], "objective": {"ours": 1, "mlm": 1}}]
    [phase] = toy(tmp_path, mask=0.3, curriculum={"objectives": own, "phases": mixed}).aims.phases
    assert phase.rate == (0.3, 0.3), "one of both says nothing"
    with pytest.raises(ValueError, match=r"has the keys .'phase'."):
        toy(tmp_path, curriculum={"phase": half})
    for wrong in ([], ["ours"], {"ours": None}, {"ours": 5}):
        with pytest.raises(ValueError, match="objective"):
            toy(tmp_path, curriculum={"objectives": wrong, "phases": [{"tokens": [0, "100%"], "objective": "ours"}]})
    pretrain(task, 0, 1, silent)
    assert losses(task)[-1] < losses(task)[0]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"schedule": "warm-linear", "decay": 0.3}, "schedule warm-linear has none; .* what that has: warmup, floor"),
        ({"schedule": "triangle", "warmup": 0.3}, "schedule triangle has none; .* what that has: decay"),
        ({"floor": 0.1}, "schedule warm-stable-decay has none; .* warmup, decay"),
        ({"objective": "clm", "mask": 0.2}, "clm hides nothing"),
        ({"model": "gpt2", "shares": (80, 10)}, "clm hides nothing"),
    ],
)
def test_what_would_do_nothing_is_refused(said: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^Pretrain.*{sentence}"):
        Pretrain(shards=Tokenize(corpus=None), **said).check()  # type: ignore[arg-type]


def test_every_preset_passes_what_it_brings_along() -> None:
    for model in presets.PRESETS:
        Pretrain(shards=Tokenize(corpus=None), model=model, tokens="500M").check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989), ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362), ("NVIDIA L4", 121), ("NVIDIA GeForce RTX 4090", 165), ("NVIDIA B200", 2250),
        ("NVIDIA A1000", 0), ("Tesla T4", 0),
    ],
)  # fmt: skip
def test_a_peak_is_that_of_the_whole_name(name: str, peak: int) -> None:
    assert pretrain_log.peak_named(name) == peak * 1e12


def test_a_rank_names_its_gpu_as_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that are recorded without a device are of the current one, and ranks of a plain torchrun choose none."""
    chosen: list[int] = []
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 4, set_device=chosen.append)
    monkeypatch.setattr(ranks.torch, "cuda", cuda)
    monkeypatch.setenv("LOCAL_RANK", "3")
    with joined(0, 1) as here:
        assert (chosen, here.device) == ([3], torch.device("cuda", 3))


def test_float32_on_a_gpu_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(pretrain_log, "peak_of", lambda device: 0.0)
    for device, told in (("cpu", 0), ("cuda", 1)):
        where = SimpleNamespace(device=torch.device(device), rank=0, world=1)
        task = replace(toy(tmp_path), dtype="float32")
        Path(task.out).mkdir(exist_ok=True)
        pretrain_log.Log(task, SimpleNamespace(), where, silent, 0, 0).close()  # type: ignore[arg-type]
        assert len([each for each in caplog.messages if "say precision: bfloat16" in each]) == told


def test_a_mapping_of_phases_and_objectives_is_read_from_a_recipe() -> None:
    own = {"ours": {"kind": "masked", "unit": "span", "lengths": [1.0], "rate": 0.6}}
    said = {"objectives": own, "phases": [{"tokens": [0, "100%"], "objective": "ours"}]}
    names = {
        "documents": {"Read": {"files": ["a.txt"]}},
        "language": {"Identify": {"documents": "documents"}},
        "quality": {"Judge": {"documents": "documents", "language": "language"}},
        "kept": {"Refine": {"documents": "documents", "language": "language", "quality": "quality"}},
        "signs": {"Sign": {"documents": "documents"}},
        "twins": {
            "Deduplicate": {"documents": "documents", "signatures": "signs", "among": "kept", "quality": "quality"}
        },
        "corpus": {"Corpus": {"documents": "documents", "kept": "kept", "twins": "twins"}},
        "tokens": {"Tokenize": {"corpus": "corpus"}},
    }
    goal, other = (
        build({**names, "model": {"Pretrain": {"shards": "tokens", "tokens": "1M"} | more}})
        for more in ({"curriculum": said}, {})
    )
    [phase] = goal._example().aims.phases  # type: ignore[attr-defined]
    assert phase.mixture == (("ours", 1),)
    assert phase.rate is None
    assert goal.fingerprint != other.fingerprint
