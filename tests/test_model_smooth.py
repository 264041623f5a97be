"""Is the divergence the formula, the search a search, and everything else left as it was?"""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.tuned import SHAPE, SHAPES, TIGHT, batch, draws, model_of, widened
from tundish.operators.model import head_losses, heads, mixout, smooth

torch.set_num_threads(1)
STEP = {"seed": 3, "step": 5}


def kl(p, q):
    return (p * (p / q).log()).sum()


def test_divergence_of_classes_is_both_ways_of_kl():
    first, second = draws(5, 4), draws(5, 4, seed=1)
    expected = sum(kl(p, q) + kl(q, p) for p, q in zip(first.softmax(1), second.softmax(1), strict=True))
    found = smooth.divergence(first, second, "classes")
    torch.testing.assert_close(found.total, expected)
    assert float(found.count) == 5
    torch.testing.assert_close(smooth.rdrop(first, second, "classes").total, expected / 2)


def test_divergence_of_labels_is_that_of_each_as_two_classes():
    first, second = draws(5, 3), draws(5, 3, seed=1)
    pairs = [torch.stack([each, 1 - each], -1) for each in (first.sigmoid(), second.sigmoid())]
    expected = kl(*pairs) + kl(*pairs[::-1])
    torch.testing.assert_close(smooth.divergence(first, second, "labels").total, expected)
    torch.testing.assert_close(smooth.rdrop(first, second, "labels").mean, expected / 10)


def test_divergence_of_numbers_is_squared():
    first, second = draws(5, 1), draws(5, 1, seed=1)
    torch.testing.assert_close(smooth.rdrop(first, second, "numbers").mean, F.mse_loss(first, second))
    with pytest.raises(ValueError, match="have no divergence"):
        smooth.divergence(first, second, "words")


@pytest.mark.parametrize("kind", smooth.KINDS)
def test_rows_that_do_not_count_count_nothing_and_parts_add_up(kind):
    first, second = draws(6, 3).requires_grad_(), draws(6, 3, seed=1)
    counted = torch.tensor([True, False, True, True, False, True])
    found = smooth.divergence(first, second, kind, counted=counted)
    torch.testing.assert_close(found, smooth.divergence(first[counted], second[counted], kind))
    parts = [smooth.divergence(first[at], second[at], kind, counted=counted[at]) for at in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(sum(part.total for part in parts), found.total)
    found.total.backward()
    assert (first.grad[~counted] == 0).all()


def test_two_passes_differ_in_dropout_as_the_seed_says():
    model = model_of(replace(SHAPE, dropout=0.1), dropout=0.3)
    before = torch.random.get_rng_state()
    first, second = smooth.twice(model, *batch(), **STEP)
    assert (torch.random.get_rng_state() == before).all()
    assert (first - second).abs().max() > 1e-3
    again = smooth.twice(model, *batch(), **STEP)
    other = smooth.twice(model, *batch(), seed=3, step=6)
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert not torch.equal(first, other[0])
    assert torch.equal(first, smooth.passed(model, *batch(), **STEP))


def test_rdrop_brings_two_passes_together():
    """The same task learnt with and without: with it dropout matters less, and the task is learnt."""
    apart = {}
    for weight in (0.0, 20.0):
        model, labels = wide_of("tokens", 4), batch()[0] % 4
        optimizer, found = torch.optim.Adam(model.parameters(), lr=3e-3), []
        for step in range(40):
            first, second = smooth.twice(model, *batch(), seed=1, step=step)
            losses = [head_losses.class_loss(each, labels).mean for each in (first, second)]
            rough = smooth.rdrop(first, second, "classes").mean
            optimizer.zero_grad()
            (sum(losses) / 2 + weight * rough).backward()
            optimizer.step()
            found.append(float(rough.detach()))
        assert float(losses[0].detach()) < 1.0
        apart[weight] = sum(found[-10:])
    assert apart[20.0] < 0.5 * apart[0.0]


@pytest.mark.parametrize("kind", ["modern", "bert", "albert", "deberta", "gpt"])
def test_a_move_is_one_of_the_normalised_embedding(kind):
    model, given = model_of(SHAPES[kind]).eval(), batch()
    embedding = model.encoder.embedding
    move = draws(15, 16).float()
    plain = embedding(given[0], given[1].positions, None, torch.float32)
    with smooth.moved(embedding, move):
        found = embedding(given[0], given[1].positions, None, torch.float32)

    def normed(x):
        return (x - plain.mean(-1, keepdim=True)) / plain.std(-1, correction=0, keepdim=True)

    torch.testing.assert_close(normed(found) - normed(plain), move, atol=1e-3, rtol=1e-3)
    assert torch.equal(embedding(given[0], given[1].positions, None, torch.float32), plain)
    assert not embedding._forward_hooks


@pytest.mark.parametrize(("kind", "classes"), [("classes", 3), ("labels", 3), ("numbers", 1)])
def test_a_search_moves_to_where_the_answer_changes_most(kind, classes):
    model = wide_of("sequence", classes)
    given = batch()
    clean = smooth.passed(model, *given, **STEP)
    still, searched, longer = (
        float(smooth.roughness(model, clean, *given, kind=kind, rate=0.02, searches=count, **STEP).total.detach())
        for count in (0, 1, 4)
    )
    assert 0 < still < searched / 2
    assert searched < longer
    near = smooth.roughness(model, clean, *given, kind=kind, rate=0.02, searches=4, radius=0.01, **STEP)
    assert float(near.total.detach()) < searched
    assert float(near.count) == 3


def wide_of(head, classes):
    return widened(heads.begun(replace(SHAPE, dropout=0.1), head, classes, seed=4), 8.0)


def test_one_search_is_the_formula():
    """By hand: the gradient at the first move, over its largest number in each token, times the rate."""
    model, (tokens, layout) = wide_of("sequence", 3).eval(), batch()
    clean = model(tokens, layout).detach()
    start = smooth.first_move(tokens, 16, 1e-2, smooth.keyed(3, smooth.MOVED, 5)).requires_grad_()
    assert float(start.detach().abs().max()) <= 0.02

    def answer(move):
        plain = model.encoder.embedding(tokens, layout.positions, None, torch.float32).detach()
        states = model.encoder.stack(plain + move * plain.std(-1, correction=0, keepdim=True), layout)[0]
        return model.chosen(heads.means(states, layout))

    p, q = answer(start).softmax(1), clean.softmax(1)
    [slope] = torch.autograd.grad(kl(p, q) + kl(q, p), start)
    move = start.detach() + 0.05 * slope / slope.abs().amax(-1, keepdim=True)
    p = answer(move).softmax(1)
    found = smooth.roughness(model, clean, tokens, layout, kind="classes", rate=0.05, **STEP)
    torch.testing.assert_close(found.total, kl(p, q) + kl(q, p), **TIGHT)


def test_the_move_alone_makes_the_difference():
    """Without one there is none: by the same dropout, and with the weights of mixout by asking as was asked."""
    model, given = wide_of("sequence", 3), batch()
    still = {"kind": "classes", "start": 0.0, "searches": 0} | STEP
    clean = smooth.passed(model, *given, **STEP)
    assert float(smooth.roughness(model, clean, *given, **still).total.detach()) == 0
    weights = mixout.mixed(model, None, 0.3, seed=1, step=1)

    def ask():
        with smooth.drawing(123, given[0]):
            return mixout.call(model, weights, *given)

    clean = ask()
    assert float(smooth.roughness(model, clean, *given, ask=ask, **still).total.detach()) == 0
    assert float(smooth.roughness(model, clean, *given, **still).total.detach()) > 1e-4
    searched = smooth.roughness(model, clean, *given, ask=ask, kind="classes", rate=0.05, **STEP)
    assert float(searched.total.detach()) > 0
    searched.total.backward()
    assert model.encoder.stack.blocks[0].inner.up.weight.grad.abs().max() > 0


def test_a_search_touches_no_gradient_and_no_stream():
    model, given = wide_of("sequence", 3), batch()
    clean = smooth.passed(model, *given, **STEP)
    clean.square().sum().backward(retain_graph=True)
    grads = [None if w.grad is None else w.grad.clone() for w in model.parameters()]
    weights, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    found = smooth.roughness(model, clean, *given, kind="classes", **STEP)
    assert (torch.random.get_rng_state() == state).all()
    for weight, grad in zip(model.parameters(), grads, strict=True):
        assert (weight.grad is None) == (grad is None)
        assert grad is None or torch.equal(weight.grad, grad)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    again = smooth.roughness(model, clean, *given, kind="classes", **STEP)
    assert torch.equal(found.total, again.total)
    found.total.backward()
    assert any(not torch.equal(w.grad, g) for w, g in zip(model.parameters(), grads, strict=True) if g is not None)
    with torch.no_grad():
        assert float(smooth.roughness(model, clean, *given, kind="classes", **STEP).total) == pytest.approx(
            float(found.total.detach()), rel=1e-4
        )


def test_tokens_that_do_not_count_and_sifts_gradient_smooths():
    rough = {}
    for weight in (0.0, 100.0):
        model, (tokens, layout) = wide_of("tokens", 4), batch()
        labels = torch.where(torch.arange(15) % 3 == 0, -100, tokens % 4)
        optimizer, found = torch.optim.Adam(model.parameters(), lr=3e-3), []
        for step in range(30):
            clean = smooth.passed(model, tokens, layout, seed=1, step=step)
            told = {"kind": "classes", "rate": 0.1, "counted": labels >= 0, "seed": 1, "step": step}
            each = smooth.roughness(model, clean, tokens, layout, **told)
            assert float(each.count) == 10
            loss = head_losses.class_loss(clean, labels).mean + weight * each.mean
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(float(each.mean.detach()))
        rough[weight] = sum(found[-10:])
    assert rough[100.0] < 0.5 * rough[0.0]
