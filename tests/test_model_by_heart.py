"""What objectives can learn: 200 documents of noise by heart, what was replaced in rows never seen, to copy a span.

Noise has nothing to learn but itself, so a loss near zero is memory alone; a span of random tokens can be told from its
other copy in the document alone.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.test_model_objective import CPU, IDS, LEARNT, SHAPE, T5, documents, drawn, streamed
from tests.test_model_pretrain import files, result, shard, silent, toy
from tundish.cluster import checkpoint
from tundish.operators.model.family import Model
from tundish.operators.model.hiding import Masked
from tundish.operators.model.init import initialise
from tundish.operators.model.objective import GUESSED, TOKENS, Detection, counts_of, guess, part_of, whole
from tundish.operators.model.packed import packed
from tundish.operators.model.stream import Aim
from tundish.stages.pretrain_loop import pretrain
from tundish.stages.pretrain_model import trainee_of
from tundish.stages.pretrain_task import SENTINELS

torch.set_num_threads(1)
DOCUMENTS, SIZE, AT_ONCE = 200, 20, 50
DISCRIMINATOR = replace(SHAPE, norm="post", bias=True, final_norm=False)


def drilled(losses, weights, steps):
    """Train on batches in turn; `losses` gives the loss of batch number n, so many there are."""
    count = DOCUMENTS // AT_ONCE
    optimizer = torch.optim.Adam(weights, lr=3e-3)
    for step in range(steps):
        optimizer.zero_grad()
        losses(step % count).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()


def batches(aim, vocabulary):
    """200 documents of noise, of which the same places are asked for every time."""
    stream, places = streamed(documents(*[SIZE] * DOCUMENTS), SIZE + 4, 0.3, vocabulary)
    return [stream.batch(places.slice(at, at + AT_ONCE), aim) for at in range(0, DOCUMENTS, AT_ONCE)]


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNT)
def test_every_objective_learns_two_hundred_documents_by_heart(name):
    """Some fifteen seconds each on one idle core."""
    shape, aim, causal = LEARNT[name]
    torch.manual_seed(0)
    model = drawn(replace(shape, width=64, ff=96)).float()
    made = batches(aim, shape.vocabulary)
    parts, counts = [part_of(batch, CPU) for batch in made], [counts_of(batch) for batch in made]

    def loss(number):
        return whole(guess(model, parts[number], causal=causal, dtype=None), counts[number])

    def mean():
        with torch.no_grad():
            told = sum(float(guess(model, part, causal=causal, dtype=None)[0].total) for part in parts)
        return told / sum(count[GUESSED] for count in counts)

    first = mean()
    drilled(loss, list(model.parameters()), 320)
    # which of 200 documents it is, is told to nobody: a causal model has to be told by the first tokens
    least = DOCUMENTS * np.log(DOCUMENTS) / sum(count[GUESSED] for count in counts) if name == "causal" else 0.0
    assert first > 2.5
    assert mean() - least < 0.15


@pytest.mark.slow
def test_a_discriminator_learns_two_hundred_documents_by_heart():
    """What a generator that knows nothing filled in, and goes on filling in."""
    torch.manual_seed(0)
    shape = replace(DISCRIMINATOR, width=64, ff=96)
    both = Detection(shape, shape, sharing="none")
    for number, each in enumerate((both.generator, both.discriminator, both.detector)):
        initialise(each, shape, seed=number)
    made = batches(Aim(Masked(shares=(85, 0), sampled=True)), SHAPE.vocabulary)
    parts, counts = [part_of(batch, CPU) for batch in made], [counts_of(batch) for batch in made]
    weights = [*both.discriminator.stack.parameters(), both.discriminator.embedding.weight, *both.detector.parameters()]
    drilled(lambda number: both(parts[number])[1].total / counts[number][TOKENS], weights, 320)
    right = replaced = present = 0
    for part in parts:
        told, changed = told_of(both, part)
        right, replaced = right + int((told == changed).sum()), replaced + int(changed.sum())
        present += len(changed)
    assert 0.2 < replaced / present < 0.3
    assert right / present > 0.97


@torch.no_grad()
def told_of(both, part, generator=None):
    """What a discriminator takes for replaced, and what was: (n,) bool each, of the tokens that are no padding."""
    filler = generator or both
    filled, changed = filler.filled(filler.generator(part.tokens, part.packed)[part.places], part)
    found = both.detector(both.discriminator(filled, part.packed, table=both.table()))
    return (found > 0)[part.present], changed[part.present]


FIRST, STATES = 5, 12


def rounds(count, seed):
    """Documents that go round and round all states, but for a jump every tenth time."""
    source, found = np.random.default_rng(seed), []
    for _ in range(count):
        steps = np.where(source.random(30) < 0.1, source.integers(STATES, size=30), 1)
        found.append((np.cumsum(steps) % STATES + FIRST).astype(np.uint16))
    return found


@pytest.mark.slow
def test_telling_gets_better_on_rows_never_seen(tmp_path):
    """Some 20 seconds on one idle core. All are held against one generator, that of half way, so that the share of the
    replaced stays: at first everything is taken for the text's own, at the end much of the rest is found."""
    shape = replace(SHAPE, vocabulary=FIRST + STATES, length=32, layers=2, width=64, ff=96)
    small = replace(shape, width=16, heads=1, embedding=64, ff=24)
    told = {"model": shape, "generator": small, "objective": "rtd", "sharing": "none", "dtype": "float32"}
    told |= {"tokens": 250_000, "mask": 0.3, "lr": 3e-3, "clip": 1.0, "sigmas": 1e3}
    told |= {"vocabulary": FIRST + STATES, "holdout": (), "batch": 8, "checkpoint_every": 150, "keep": 99}
    task = toy(tmp_path, **told)
    task = replace(task, sources=(files(shard(tmp_path / "many.arrow", rounds(1500, 1))),))
    pretrain(task, 0, 1, silent)
    stream, places = streamed(rounds(80, 7), 32, 0.3, FIRST + STATES)
    part = part_of(stream.batch(places, Aim(Masked(shares=(85, 0), sampled=True))), CPU)

    def at(step):
        both = trainee_of(task, torch.float32).eval()
        both.load_state_dict(checkpoint.read(f"{task.out}/checkpoints", step)["model"])
        return both

    models = [trainee_of(task, torch.float32).eval(), *map(at, checkpoint.steps(f"{task.out}/checkpoints"))]
    assert len(models) > 5
    right = []
    for both in models:
        taken, changed = told_of(both, part, models[len(models) // 2])
        right.append(float((taken == changed).float().mean()))
    usual = float((~changed).float().mean())
    assert 0.7 < usual < 0.95
    assert max(right[:2]) < usual + 0.01
    assert right[-1] > right[len(models) // 2] > right[1]
    assert right[-1] > usual + 0.2 * (1 - usual)
    assert float(taken[changed].float().mean()) > 0.25


HALF, KINDS = 6, 40


def twice(count, seed, again=True):
    """Documents that say different random tokens, and then say them again, or others."""
    source = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        first = source.permutation(KINDS)[:HALF]
        found.append(np.concatenate([first, first if again else source.permutation(KINDS)[:HALF]]) + 5)
    return [each.astype(np.uint16) for each in found]


@pytest.mark.slow
def test_a_pair_copies_spans_from_the_context(tmp_path):
    """Under a minute on one idle core. No document comes twice, so that nothing can be learned by heart. Where a
    document has one span it is its last two tokens, for T5's noise ends a segment; they stand in its first half."""
    vocabulary, length = 5 + KINDS, 2 * HALF + 2
    shape = replace(SHAPE, **T5, vocabulary=vocabulary + SENTINELS, width=64, layers=2, heads=4, ff=128, length=length)
    shape = replace(shape, decoder=1)
    told = {"vocabulary": vocabulary, "model": shape, "objective": "spans", "mask": 0.15, "length": length}
    told |= {"batch": 64, "tokens": 1_000_000, "dtype": "float32", "lr": 4e-3, "clip": 1.0, "sigmas": 1e3}
    task = toy(tmp_path, **told, checkpoint_every=10**6)
    held = files(shard(tmp_path / "again.arrow", twice(200, 2)), name="held")
    task = replace(task, sources=(files(shard(tmp_path / "twice.arrow", twice(90_000, 1))),), holdout=(held,))
    pretrain(task, 0, 1, silent)
    assert result(task)["holdout_last"] < 0.2  # of <0>, two tokens and [SEP]; guessed, the two would take 1.8

    model = Model(shape)
    model.load_state_dict(load_file(Path(task.out) / "model.safetensors"))
    model.eval()
    with torch.no_grad():
        assert copied(model, twice(100, 3)) > 0.9
        assert copied(model, twice(100, 3, again=False)) < 0.1  # what stands nowhere else cannot be told


def copied(model, texts):
    """How often the last two tokens are put, one after the other, in place of the sentinel."""
    first = model.shape.vocabulary - 1
    right = 0
    for text in texts:
        shown, answer = torch.tensor([IDS["[CLS]"], *text[:-2].tolist(), first, IDS["[SEP]"]]), [IDS["[PAD]"], first]
        for _ in range(2):
            states = model(shown, packed([0, len(shown)]), torch.tensor(answer), packed([0, len(answer)]))
            answer.append(int(model.logits(states[-1:]).argmax()))
        right += answer[2:] == text[-2:].tolist()
    return right / len(texts)
