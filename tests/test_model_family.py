"""Does a row of documents compute what each would alone, whatever the model is made of, by every way of attention?"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tundish.operators.model import sight
from tundish.operators.model.attention import attend
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.packed import packed
from tundish.operators.model.shape import Shape
from tundish.operators.model.sight import sights

torch.set_num_threads(1)
LENGTHS = (7, 1, 0, 21, 19, 12, 17, 0, 0)  # two rows of 48 with what fills them: 7 + 1 + 21 + 19, 12 + 17 + 19
FILLED = (*LENGTHS, 19)
ANSWERS = (5, 3, 0, 8, 8, 1, 11, 0, 0, 12)  # two rows of 24
TIGHT = {"atol": 1e-10, "rtol": 1e-10}

LAID = ("groups", "rows", "band", "band for windows")  # the ways that a CPU has


@pytest.fixture
def laid(request, monkeypatch):
    """How documents are packed, and what makes attention go by a way that it would not take with documents so short."""
    monkeypatch.setattr(sight, "DENSE", 0 if request.param == "band" else math.inf)
    monkeypatch.setattr(sight, "WORTH", 0.0 if request.param == "band for windows" else math.inf)
    return request.param


BASE = Shape(vocabulary=61, width=24, layers=4, heads=3, ff=20, length=32)
POST = {"norm": "post", "bias": True, "gated": False, "final_norm": False}
LEARNED = POST | {"positions": "learned", "types": 2}
FAR = POST | {"positions": "disentangled", "buckets": 4, "distance": 12}
PAIR = {
    "stack": "pair",
    "decoder": 3,
    "positions": "buckets",
    "buckets": 8,
    "distance": 12,
    "rms": True,
    "scaled": False,
}
PAIR |= {"embedding_norm": False, "first_norm": True, "transform": False, "head_bias": False, "head": 6}
SHAPES = {
    "modern": replace(BASE, window=3, theta=160_000.0),
    "modern, every second, normed queries": replace(BASE, window=5, every=2, qk_norm=True, rms=True),
    "bert": replace(BASE, **LEARNED, pooler=True),
    "roberta": replace(BASE, **LEARNED, offset=2),
    "albert": replace(BASE, **LEARNED, shared=True, embedding=12),
    "gpt": replace(
        BASE, stack="decoder", positions="learned", bias=True, gated=False, embedding_norm=False, first_norm=True
    ),
    "windows behind only": replace(BASE, stack="decoder", window=4),
    "alibi": replace(BASE, **POST, positions="alibi"),
    "no positions": replace(BASE, positions="none"),
    "deberta": replace(BASE, **FAR),
    "deberta with its decoder": replace(BASE, **FAR, enhanced=2),
    "deberta-xlarge": replace(BASE, **FAR, span=3, absolute=True, far_own=True, far_norm=False),
    "deberta, distances as they are": replace(BASE, **FAR | {"buckets": 6, "distance": 0}),
    "t5": replace(BASE, **PAIR, act="relu", gated=False, shrunk=True),
    "t5 1.1": replace(BASE, **PAIR, act="gelu_tanh", tied=False),
    "switch": replace(BASE, **PAIR, act="relu", gated=False, experts=3, sparse=2),
    "switch without room": replace(BASE, **PAIR, act="relu", gated=False, experts=3, sparse=1, capacity=0.6),
}


def drawn(shape):
    model = Model(shape).double().eval()
    initialise(model, shape, seed=5)
    wide = 6 if shape.scaled else 1.5  # T5's begin wide: products of 6 times that would blow rounding up 100,000 times
    with torch.no_grad():
        for weight in model.parameters():  # wide enough that a neighbour's word would show
            weight.mul_(wide) if weight.dim() > 1 else weight.add_(torch.randn_like(weight) * 0.1)
    return model


def bounds_of(lengths):
    return np.concatenate([[0], np.cumsum(lengths)])


def tokens_of(lengths, seed):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, BASE.vocabulary, sum(lengths)))


def weighed(model, logits, layout, states):
    """A number that hangs on every logit, and on every first state where those are asked."""
    draw = torch.Generator().manual_seed(7)
    total = (logits * torch.randn(logits.shape, generator=draw, dtype=logits.dtype)).mean()
    return total + model.following(states, layout)[torch.tensor(FILLED) > 0].sin().sum() if model.pooler else total


def gradients(model, total):
    for weight in model.parameters():
        weight.grad = None
    total.backward()
    return {name: weight.grad for name, weight in model.named_parameters()}


def together(model, shape, *, row=False, prefixes=None, causal=None):
    """Logits of all documents in one pass, and the gradient."""
    layout = packed(bounds_of(FILLED), row=48 if row else 0, grouped=not row, prefixes=prefixes)
    more = ()
    if shape.decoder:
        more = tokens_of(ANSWERS, 2), packed(bounds_of(ANSWERS), row=24 if row else 0, grouped=not row)
    states = model(tokens_of(FILLED, 1), layout, *more, causal=causal)
    logits = model.logits(states)
    return logits.detach(), gradients(model, weighed(model, logits, layout, states))


def alone(model, shape, *, prefixes=None, causal=None):
    """The same, one document a pass."""
    tokens, answers, found, firsts = tokens_of(FILLED, 1), tokens_of(ANSWERS, 2), [], []
    mine, its = bounds_of(FILLED), bounds_of(ANSWERS)
    for number, size in enumerate(FILLED):
        if not size:
            continue
        more = ()
        if shape.decoder:
            more = answers[its[number] : its[number + 1]], packed([0, ANSWERS[number]])
        layout = packed([0, size], prefixes=None if prefixes is None else prefixes[number : number + 1])
        states = model(tokens[mine[number] : mine[number + 1]], layout, *more, causal=causal)
        found.append(model.logits(states))
        firsts.append(model.following(states, layout) if model.pooler else None)
    logits = torch.cat(found)
    draw = torch.Generator().manual_seed(7)
    total = (logits * torch.randn(logits.shape, generator=draw, dtype=logits.dtype)).mean()
    if model.pooler:
        total = total + torch.cat(firsts).sin().sum()
    return logits.detach(), gradients(model, total)


@pytest.mark.parametrize("laid", LAID, indirect=True)
@pytest.mark.parametrize("name", SHAPES)
def test_documents_compute_alone_what_they_do_together(name, laid):
    shape = SHAPES[name]
    model = drawn(shape)
    expected, slopes = alone(model, shape)
    assert expected.std() > 0.05
    found, steps = together(model, shape, row=laid in ("rows", "band"))
    torch.testing.assert_close(found, expected, **TIGHT)
    same(steps, slopes)


def same(steps, slopes):
    for name, slope in slopes.items():
        assert (slope is None) == (steps[name] is None), name
        if slope is not None:
            size = slope.abs().max().clamp(min=1e-3)
            torch.testing.assert_close(steps[name] / size, slope / size, atol=1e-9, rtol=1e-9, msg=name)


@pytest.mark.parametrize("laid", LAID, indirect=True)
@pytest.mark.parametrize("name", ["modern", "bert", "deberta", "alibi"])
def test_an_encoder_made_causal_and_one_with_prefixes(name, laid):
    """Causal language models and prefix language models of an encoder's weights."""
    shape = SHAPES[name]
    model = drawn(shape)
    prefixes = np.array([3, 1, 0, 0, 19, 5, 2, 0, 0, 1])
    plain, _ = together(model, shape)
    for given in (None, prefixes):
        expected, slopes = alone(model, shape, causal=True, prefixes=given)
        found, steps = together(model, shape, row=laid in ("rows", "band"), causal=True, prefixes=given)
        torch.testing.assert_close(found, expected, **TIGHT)
        same(steps, slopes)
        assert not torch.allclose(expected, plain)


def test_nothing_of_a_document_reaches_another():
    """Change one document's words: no other logit moves by a bit's worth."""
    for name, shape in SHAPES.items():
        model = drawn(shape)
        layout, tokens = packed(bounds_of(FILLED)), tokens_of(FILLED, 1)
        more = (tokens_of(ANSWERS, 2), packed(bounds_of(ANSWERS))) if shape.decoder else ()
        which = more[1].documents if more else layout.documents
        changed = tokens.clone()
        changed[8:29] = (changed[8:29] + 7) % BASE.vocabulary  # document 3
        with torch.no_grad():
            before, after = (model.logits(model(each, layout, *more)) for each in (tokens, changed))
        torch.testing.assert_close(before[which != 3], after[which != 3], **TIGHT)
        assert (before - after)[which == 3].abs().max() > 1e-3, name


def test_a_causal_place_knows_nothing_of_what_follows():
    for name in ("gpt", "windows behind only"):
        model = drawn(SHAPES[name])
        tokens, layout = tokens_of((20,), 3), packed([0, 20])
        changed = tokens.clone()
        changed[11:] = (changed[11:] + 7) % BASE.vocabulary
        with torch.no_grad():
            before, after = (model.logits(model(each, layout)) for each in (tokens, changed))
        torch.testing.assert_close(before[:11], after[:11], **TIGHT)
        assert (before[11:] - after[11:]).abs().max() > 1e-2


WAYS = {
    "whole": {},
    "window": {"window": 2},
    "wide window": {"window": 40},
    "causal": {"causal": True},
    "causal window": {"causal": True, "window": 3},
    "scaled": {"scale": 0.7},
    "prefixes": {"causal": True, "prefixes": True},
    "bias": {"bias": True},
    "bias, causal": {"bias": True, "causal": True},
    "bias, window": {"bias": True, "window": 2},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("laid", [*LAID, "band without rows"], indirect=True)
def test_attention_is_that_of_a_loop(way, laid):
    given = dict(WAYS[way])
    prefixes = np.array([2, 0, 0, 9, 19, 5, 40, 0, 0, 1]) if given.pop("prefixes", False) else None
    row, grouped = 48 if laid in ("rows", "band") else 0, laid in ("groups", "band for windows")
    layout = packed(bounds_of(FILLED), row=row, grouped=grouped, prefixes=prefixes)
    draw = torch.Generator().manual_seed(11)
    q, k, v = (torch.randn(96, 3, 4, generator=draw, dtype=torch.float64) for _ in "qkv")
    biased = by_distance if given.pop("bias", False) else None
    named = {name: given[name] for name in ("window", "causal") if name in given}
    seen = sights(layout, like=q, bias=biased, **named)
    narrow = laid == "band for windows" and "window" in named
    assert seen.way == ("band" if narrow else "groups" if grouped else laid[:4])
    expected = torch.full_like(q, float("nan"))
    for number, (start, size) in enumerate(zip(bounds_of(FILLED), FILLED, strict=False)):
        for at in range(size):
            sees = [
                key for key in range(size) if is_seen(at, key, given, None if prefixes is None else prefixes[number])
            ]
            for head in range(3):
                scores = [
                    float(q[start + at, head] @ k[start + key, head]) * given.get("scale", 0.5)
                    + ((key - at) * 0.1 * (head + 1) if biased else 0.0)
                    for key in sees
                ]
                shares = torch.tensor(scores, dtype=torch.float64).softmax(0)
                expected[start + at, head] = sum(
                    share * v[start + key, head] for share, key in zip(shares, sees, strict=True)
                )
    torch.testing.assert_close(attend(q, k, v, layout, **given, seen=seen), expected, atol=1e-12, rtol=1e-12)
    if not biased:
        torch.testing.assert_close(attend(q, k, v, layout, **given), expected, atol=1e-12, rtol=1e-12)


def is_seen(at, key, given, prefix):
    if given.get("causal") and key > at and not (prefix is not None and key < prefix):
        return False
    return not given.get("window") or abs(key - at) <= given["window"]


def by_distance(ahead):
    """A bias of the distance, another for each head."""
    return (ahead.double() * 0.1) * torch.arange(1, 4, dtype=torch.float64).view(1, 3, 1, 1)


@pytest.mark.parametrize("row", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_attention_across_is_that_of_a_loop(row, given):
    keys = bounds_of(FILLED) if given else None
    mine = packed(bounds_of(ANSWERS), row=24 if row else 0, grouped=not row, keys=keys)
    its = packed(bounds_of(FILLED), row=48 if row else 0, grouped=not row)
    draw = torch.Generator().manual_seed(13)
    q = torch.randn(sum(ANSWERS), 3, 4, generator=draw, dtype=torch.float64)
    k, v = (torch.randn(96, 3, 4, generator=draw, dtype=torch.float64) for _ in "kv")
    found = attend(q, k, v, mine, its)
    starts = bounds_of(FILLED)
    for place, number in enumerate(mine.documents.tolist()):
        here = slice(starts[number], starts[number + 1])
        for head in range(3):
            shares = (k[here, head] @ q[place, head] / 2).softmax(0)
            torch.testing.assert_close(found[place, head], shares @ v[here, head], atol=1e-12, rtol=1e-12)


def test_an_answer_to_nothing_is_no_number_elsewhere():
    """An empty text with an answer: whatever that answer sees, the others stay what they are."""
    shape = SHAPES["t5"]
    model = drawn(shape)
    layout, answers = packed([0, 4, 4, 9]), packed([0, 3, 5, 8])
    tokens, words = tokens_of((9,), 1), tokens_of((8,), 2)
    states = model(tokens, layout, words, answers)
    assert torch.isfinite(states).all()
    states.sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)
    first = model(tokens[:4], packed([0, 4]), words[:3], packed([0, 3]))
    torch.testing.assert_close(states[:3], first, **TIGHT)


def test_a_document_beyond_the_positions_is_refused():
    for name in ("bert", "deberta with its decoder", "deberta-xlarge"):
        with pytest.raises(ValueError, match="33 tokens is longer than the model's 32"):
            drawn(SHAPES[name])(tokens_of((33,), 1), packed([0, 33]))
    with pytest.raises(ValueError, match="needs answers"):
        drawn(SHAPES["t5"])(tokens_of((5,), 1), packed([0, 5]))
    with pytest.raises(ValueError, match="cross rows"):
        packed([0, 30, 96], row=48)
    with pytest.raises(ValueError, match="looked at by groups or by rows"):
        drawn(SHAPES["t5"])(tokens_of((5,), 1), packed([0, 5]), tokens_of((5,), 1), packed([0, 5], grouped=False))


@pytest.mark.parametrize("positions", ["alibi", "buckets", "disentangled", "none"])
def test_memory_of_the_band_grows_with_the_places(positions):
    """What is added to scores, and kept for the way back: twice the documents, twice as much, whatever a row is."""
    shape = replace(BASE, **POST, positions=positions, layers=2, window=0, buckets=8, distance=12)
    model = drawn(shape)

    def kept(rows):
        found = {}

        def note(tensor):
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        size = rows * 3 * BASE.length
        layout = packed(np.arange(0, size + 1, BASE.length), row=size, longest=BASE.length, grouped=False)
        own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            states = model(torch.zeros(size, dtype=torch.long), layout, causal=False)
        assert states.requires_grad
        return sum(each for place, each in found.items() if place not in own)

    small, large, larger = (kept(rows) for rows in (4, 8, 16))
    assert larger - large == pytest.approx(2 * (large - small), rel=0.02)


@pytest.mark.parametrize("act", ["gelu", "gelu_tanh"])
def test_what_is_written_out_for_a_cpu_is_the_formula(act, monkeypatch):
    """Rotations, and gates: values and gradients with and without the functions written for them."""
    model, found = drawn(replace(BASE, act=act, window=3)), []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda compiling=compiling: compiling)
        found.append(together(model, model.shape))
    torch.testing.assert_close(*(logits for logits, _ in found), **TIGHT)
    same(*(steps for _, steps in found))
