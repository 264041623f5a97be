"""A student learns from a teacher, whatever the kind of task; a teacher is asked of a text once."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_finetune_runs import IDS, SHAPE, task_of
from tests.test_finetune_runs import model as model  # a fixture
from tundish.operators.model.distil import mixed
from tundish.operators.model.heads import begun
from tundish.operators.model.pruning import bare
from tundish.stages import compress_steps
from tundish.stages.compress_distil import Taught, require_alike, soft_of, teaching
from tundish.stages.compress_steps import Room
from tundish.stages.compress_task import Means
from tundish.stages.finetune_kinds import loss_of
from tundish.stages.finetune_one import Besides, trained
from tundish.stages.finetune_runs import read
from tundish.stages.finetune_task import HEADS, Run
from tundish.stages.predict import Predictor

torch.set_num_threads(1)
KINDS = ("classify", "multilabel", "regress", "tag", "answer", "embed")
CPU = torch.device("cpu")


def room_of(model: str, folder: Path, kind: str, means: Means, **more) -> Room:
    """With a whole model that nothing trained: what it says is as good as anything to learn from."""
    task = task_of(model, folder, kind, seeds=(1,), **({"train": 48, "epochs": 2} | more))
    parts = read(task, SHAPE.length)
    whole = bare(begun(SHAPE, HEADS[kind], parts["train"].classes, seed=7))
    with torch.no_grad():
        for weight in whole.parameters():
            weight.mul_(3.0 if weight.dim() > 1 else 1.0)
    return Room(task, means, parts, CPU, Predictor(task, whole.eval(), None, parts["train"].names, 1.0, CPU))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_nearer_to_its_teacher(model: str, tmp_path: Path, kind: str) -> None:
    """By what it says of texts it never saw, where only the teacher counts."""
    means = Means(layers=1, alpha=1.0, hidden=0.1 if kind != "embed" else 0.0)
    room = room_of(model, tmp_path, kind, means, train=64, epochs=6, lr=7e-3)
    student = bare(begun(replace(SHAPE, layers=1), HEADS[kind], room.parts["train"].classes, seed=9))
    test = room.parts["test"]
    batch = test.batch(range(len(test)), CPU)

    def apart(student: torch.nn.Module) -> float:
        said = [compress_steps._outputs(room, one.eval(), batch) for one in (student, room.whole.model)]
        with torch.no_grad():
            return float(soft_of(room.task, means, *said, batch).mean)

    before = apart(student)
    made = compress_steps.distil(room, student, 1)
    assert apart(made.model) < 0.8 * before
    assert apart(student) == before, "the given one is left as it is"
    assert not hasattr(made.model, "fit")
    assert not room.whole.model.training


def test_a_student_is_some_of_the_layers_of_the_model(model: str, tmp_path: Path) -> None:
    room = room_of(model, tmp_path, "classify", Means(layers=1, way="bottom"), epochs=1)
    made = compress_steps.distil(room, room.whole.model, 1)
    assert made.model.encoder.shape.layers == 1
    assert made.told == "layers 2 of 2, from the model"
    start = compress_steps._student(room, room.whole.model, 1)[0].encoder.stack.blocks[0]
    for mine, whole in zip(start.parameters(), room.whole.model.encoder.stack.blocks[1].parameters(), strict=True):
        assert torch.equal(mine, whole)


@pytest.mark.parametrize(("most", "times"), [(1 << 20, 1), (0, 2)])
def test_a_teacher_is_asked_of_a_text_once_where_there_is_room(
    model: str, tmp_path: Path, most: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = Means(layers=1, hidden=1.0)
    room = room_of(model, tmp_path, "classify", means)
    taken: list[Taught] = []
    own = Taught.__init__
    monkeypatch.setattr(Taught, "__init__", lambda self, *given: taken.append(self) or own(self, *given, most))
    losses = compress_steps.distil(room, room.whole.model, 1).outcome.losses
    tokens, offsets = room.parts["train"].tokens
    texts = {tokens[a:b].tobytes() for a, b in pairwise(offsets)}
    assert taken[0].asked == times * len(texts)
    monkeypatch.setattr(Taught, "__init__", own)
    again = compress_steps.distil(room, room.whole.model, 1).outcome.losses
    assert losses == pytest.approx(again, abs=1e-5), "what is kept is what would be said again"


def test_answers_are_those_of_the_teacher_in_their_places(model: str, tmp_path: Path) -> None:
    room = room_of(model, tmp_path, "tag", Means())
    taught = Taught(room.whole.model, (0, 1), torch.float32)
    rows = room.parts["train"]
    taught.of(rows.batch([3, 1], CPU))
    for some in ([1, 2, 3, 3, 0], [5, 1]):
        batch = rows.batch(some, CPU)
        answer = taught.of(batch)
        with torch.no_grad():
            torch.testing.assert_close(answer.said, room.whole.model(batch.tokens, batch.packed, batch.types))
        assert [each.shape for each in answer.states] == [(len(batch.tokens), SHAPE.width)] * 2
    assert taught.asked == len({3, 1, 2, 0, 5})


def test_the_loss_is_mixed_of_both(model: str, tmp_path: Path) -> None:
    room = room_of(model, tmp_path, "classify", Means(alpha=0.3, temperature=3.0))
    student = begun(replace(SHAPE, layers=1), "sequence", 2, seed=3)
    batch = room.parts["train"].batch(range(9), CPU)
    taught = Taught(room.whole.model, (), torch.float32)
    found = student(batch.tokens, batch.packed, batch.types)
    own = loss_of(room.task, found, batch, None)
    with teaching(room.task, room.means, student, taught, (), 1) as loss:
        total = loss(student, batch, found, own)
    soft = soft_of(room.task, room.means, found, room.whole.model(batch.tokens, batch.packed, batch.types), batch)
    torch.testing.assert_close(total.mean, mixed(own, soft, 0.3).mean)
    assert total.count == own.count


def test_a_student_of_another_width_learns_a_map_that_leaves_with_the_run(model: str, tmp_path: Path) -> None:
    means = Means(alpha=0.0, hidden=1.0)
    room = room_of(model, tmp_path, "classify", means, epochs=6, lr=1e-2)
    student = bare(begun(replace(SHAPE, width=16, heads=2, layers=1), "sequence", 2, seed=3))
    taught = Taught(room.whole.model, (1,), torch.float32)
    seen = []
    with teaching(room.task, means, student, taught, ((0, 1),), 1) as loss:
        first = student.fit.weight.detach().clone()
        assert first.shape == (SHAPE.width, 16)
        noted = lambda *given: seen.append(loss(*given)) or seen[-1]  # noqa: E731
        trained(
            room.task, Run(True, 1), student.encoder.shape, {}, room.parts, CPU, lambda *_: None,
            Besides(start=student, loss=noted),
        )  # fmt: skip
        assert not torch.equal(student.fit.weight, first), "it learns"
    assert not any(name.startswith("fit") for name in student.state_dict())
    means_of = [float(each.mean.detach()) for each in seen]
    assert np.mean(means_of[-3:]) < 0.8 * np.mean(means_of[:3])


def test_teachers_that_cannot_teach_are_refused() -> None:
    class Pieces:
        def __init__(self, digest: str) -> None:
            self.digest, self.content = digest, digest

    def one(digest: str, kind: str, names: tuple[str, ...]) -> Predictor:
        task = compress_steps.TuneTask("x", kind, {"train": ""}, IDS, "x")
        return Predictor(task, None, Pieces(digest), names, 1.0, CPU)

    mine = one("a", "classify", ("no", "yes"))
    require_alike(mine, one("a", "classify", ("no", "yes")), "there")
    with pytest.raises(ValueError, match="the teacher in there reads other pieces"):
        require_alike(mine, one("b", "classify", ("no", "yes")), "there")
    for other in (one("a", "classify", ("yes", "no")), one("a", "tag", ("no", "yes"))):
        with pytest.raises(ValueError, match="same task"):
            require_alike(mine, other, "there")


@pytest.mark.parametrize(
    ("kind", "step"), [("embed", "heads"), ("tag", "heads"), ("embed", "layers"), ("answer", "magnitude")]
)
def test_every_kind_can_be_pruned(model: str, tmp_path: Path, kind: str, step: str) -> None:
    room = room_of(model, tmp_path, kind, Means(way="contribution", gradual=True), epochs=1, train=32)
    before = {name: each.clone() for name, each in room.whole.model.state_dict().items()}
    made = compress_steps.STEPS[step](room, room.whole.model, 1)
    assert set(made.before) == {"dev", "test"}
    assert np.isfinite(made.outcome.losses).all()
    for name, each in room.whole.model.state_dict().items():
        assert torch.equal(each, before[name]), "the given model is left as it is"
    if step == "magnitude":
        blocks = [each for name, each in made.model.named_parameters() if ".blocks." in name and each.dim() == 2]
        none, of = sum(int((each == 0).sum()) for each in blocks), sum(each.numel() for each in blocks)
        assert none == round(0.5 * of)
