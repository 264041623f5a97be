"""A language whose entropy is known: how near a model comes to what nobody can do better.

Tokens follow one another by a Markov chain. What may be known of a hidden token follows from its nearest visible
neighbours (Bayes), of the next one from the last: both losses can be written out, row by row, and no model can have
less, but for the luck of a sample.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.test_model_pretrain import IDS, files, shard, silent, toy
from tundish.operators.model.family import Model
from tundish.operators.model.following import Following
from tundish.operators.model.hiding import Hiding, Masked
from tundish.operators.model.objective import GUESSED, counts_of, guess, part_of
from tundish.operators.model.plan import Plan, Source, Stretch
from tundish.operators.model.rows import Layout, Shard, cut
from tundish.operators.model.shape import Shape
from tundish.operators.model.stream import Aim, Stream
from tundish.stages.pretrain_loop import pretrain
from tundish.stages.token_stream import mapped

torch.set_num_threads(1)
STATES, FIRST = 12, 5
SHAPE = Shape(vocabulary=FIRST + STATES, width=48, layers=2, heads=2, ff=64, length=32)


def chain():
    """Transition probabilities (S, S), and where documents begin (S,)."""
    source = np.random.default_rng(3)
    return source.dirichlet(np.full(STATES, 0.25), STATES) * 0.98 + 0.02 / STATES, np.full(STATES, 1 / STATES)


def texts(count, seed):
    follows, begins = chain()
    source, found = np.random.default_rng(seed), []
    for _ in range(count):
        text = [source.choice(STATES, p=begins)]
        while len(text) < 30:
            text.append(source.choice(STATES, p=follows[text[-1]]))
        found.append(np.array(text, np.uint16) + FIRST)
    return found


def held_out(folder):
    tokens, offsets = mapped(shard(folder / "held-out.arrow", texts(400, 9)))
    layout = Layout(32, 32)
    found = Shard(tokens, offsets, cut(offsets, layout))
    source = Source("held", (len(found.starts) - 1,))
    plan = Plan(1, (source,), (Stretch(0, (("held", 1),)),), ((0, 1),))
    stream = Stream(plan, layout, Hiding(SHAPE.vocabulary, IDS, 1, 0.15), lambda *_: found)
    return stream, plan.places(np.arange(source.size))


def best(batch, causal):
    """The sum of the losses of whoever knows the chain, over what a batch asks for."""
    follows, begins = chain()
    flat, truth, total = batch.inputs.ravel(), batch.inputs.ravel().copy(), 0.0
    if causal:
        for place, label in zip(batch.places, batch.labels, strict=True):
            if label >= FIRST:  # after the last token comes [SEP], always at the same place: nothing is lost there
                total -= np.log((begins if flat[place] < FIRST else follows[flat[place] - FIRST])[label - FIRST])
        return total
    truth[batch.places] = batch.labels
    hidden = np.zeros(len(flat), bool)
    hidden[batch.places] = True
    for place, label in zip(batch.places, batch.labels, strict=True):
        left, right = place - 1, place + 1
        ahead = np.eye(STATES)
        while hidden[left]:
            left, ahead = left - 1, ahead @ follows
        before = begins @ ahead if truth[left] < FIRST else (follows @ ahead)[truth[left] - FIRST]
        behind = np.eye(STATES)
        while hidden[right]:
            right, behind = right + 1, behind @ follows
        after = np.ones(STATES) if truth[right] < FIRST else (behind @ follows)[:, truth[right] - FIRST]
        chances = before * after
        total -= np.log(chances[label - FIRST] / chances.sum())
    return total


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["mlm-all", "clm"])
def test_the_loss_comes_near_what_the_language_allows(tmp_path, objective):
    causal = objective == "clm"
    shape = replace(SHAPE, stack="decoder") if causal else SHAPE
    task = toy(
        tmp_path,
        sources=(files(shard(_made(tmp_path) / "chain.arrow", texts(4000, 1))),),
        holdout=(),
        vocabulary=SHAPE.vocabulary,
        **{"model": shape, "objective": objective, "mask": 0.15, "dtype": "float32", "batch": 32},
        **{"tokens": 1_600_000 if causal else 4_000_000, "lr": 4e-3, "warmup": 0.02, "decay": 0.4},
    )
    pretrain(task, 0, 1, silent)
    model = Model(shape)
    model.load_state_dict(load_file(Path(task.out) / "model.safetensors"))
    stream, places = held_out(tmp_path)
    batch = stream.batch(places, Aim(Following()) if causal else Aim(Masked(shares=(100, 0)), 0.15))
    with torch.no_grad():
        [term] = guess(model.eval(), part_of(batch, torch.device("cpu")), causal=causal, dtype=None)
    count = counts_of(batch)[GUESSED]
    ours, bound = float(term.total) / count, best(batch, causal) / count
    uniform = np.log(STATES)
    print(f"{objective}: {ours:.4f} nats, nobody can do better than {bound:.4f}; without looking {uniform:.4f}")
    assert bound < 0.75 * uniform
    assert bound - 0.01 < ours < bound + 0.05


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder
