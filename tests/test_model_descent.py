"""AdamW and StableAdamW against slow twins, torch, and what they promise about skipped steps."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tundish.operators.model import scores, stacks
from tundish.operators.model.descent import AdamW, StableAdamW, groups
from tundish.operators.model.muon import Muon

torch.set_num_threads(1)

SHAPES = {
    "first": (4, 3),
    "second": (4, 3),
    "third": (3, 4),
    "norm": (5,),
    "other": (5,),
    "head": (2, 3, 2),
    "one": (1,),
}


def weights(seed=0, dtype=torch.float64):
    source = torch.Generator().manual_seed(seed)
    return {
        name: torch.nn.Parameter(torch.randn(shape, generator=source, dtype=torch.float64).to(dtype))
        for name, shape in SHAPES.items()
    }


def gradients(steps, seed=1, dtype=torch.float64):
    """Of very uneven size, so that some steps outrun what was there before."""
    source = torch.Generator().manual_seed(seed)
    return [
        {
            name: (torch.randn(shape, generator=source, dtype=torch.float64) * 3.0 ** (at % 4)).to(dtype)
            for name, shape in SHAPES.items()
        }
        for at in range(steps)
    ]


def give(named, gradient):
    for name, weight in named.items():
        weight.grad = None if gradient.get(name) is None else gradient[name].clone()


def slow_adamw(weight, series, rates, decay, *, stable, peak=None, betas=(0.9, 0.98), eps=1e-6):
    """A number at a time: Wortsman et al., algorithm 2, with the optimi library's formula of decay."""
    x, mean, square = weight.flatten().tolist(), [0.0] * weight.numel(), [0.0] * weight.numel()
    for t, (gradient, rate) in enumerate(zip(series, rates, strict=True), 1):
        ratios = []
        for i, g in enumerate(gradient.flatten().tolist()):
            mean[i] = betas[0] * mean[i] + (1 - betas[0]) * g
            square[i] = betas[1] * square[i] + (1 - betas[1]) * g * g
            ratios.append(g * g / max(square[i] / (1 - betas[1] ** t), eps * eps))
        step = rate / max(1.0, math.sqrt(sum(ratios) / len(ratios))) if stable else rate
        for i in range(len(x)):
            x[i] -= step * decay * x[i] / (peak or 1.0)
            expected = math.sqrt(square[i] / (1 - betas[1] ** t))
            x[i] -= step * mean[i] / (1 - betas[0] ** t) / (expected + eps)
    return torch.tensor(x, dtype=torch.float64).view_as(weight)


@pytest.mark.parametrize("kind", [AdamW, StableAdamW])
@pytest.mark.parametrize("peak", [None, 0.03])
def test_a_step_is_the_formula(kind, peak):
    named = weights()
    tiny = {"second": 1e-3, "third": 1e-7}  # the second still outruns itself, the third is under eps
    series = [{name: each * tiny.get(name, 1.0) for name, each in given.items()} for given in gradients(7)]
    rates = [0.01, 0.02, 0.03, 0.03, 0.02, 0.01, 0.005]
    expected = {
        name: slow_adamw(
            weight.detach().clone(),
            [each[name] for each in series],
            rates,
            0.1 if weight.dim() > 1 else 0.0,
            stable=kind.stable,
            peak=peak,
        )
        for name, weight in named.items()
    }
    optimizer = kind(named.items(), decay=0.1, peak=peak)
    for gradient, rate in zip(series, rates, strict=True):
        give(named, gradient)
        optimizer.step(rate)
    for name, weight in named.items():
        torch.testing.assert_close(weight.detach(), expected[name], atol=1e-12, rtol=0, msg=name)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_adamw_is_torchs_step_for_step(dtype, near):
    ours, theirs = weights(dtype=dtype), weights(dtype=dtype)
    one = AdamW(ours.items(), betas=(0.9, 0.999), eps=1e-8, decay=0.1)
    holder = torch.nn.ParameterList(theirs.values())
    two = torch.optim.AdamW(groups(holder, decay=0.1), betas=(0.9, 0.999), eps=1e-8)
    for at, gradient in enumerate(gradients(20, dtype=dtype)):
        for each in (ours, theirs):
            give(each, gradient)
        for group in two.param_groups:
            group["lr"] = 0.01 / (at + 1)
        one.step(0.01 / (at + 1))
        two.step()
        for name, weight in ours.items():
            torch.testing.assert_close(weight, theirs[name], atol=near, rtol=near, msg=name)


def test_with_even_gradients_nothing_outruns():
    ours, theirs = weights(), weights()
    one, two = StableAdamW(ours.items(), decay=0.1), AdamW(theirs.items(), decay=0.1)
    for _ in range(5):
        for each in (*ours.values(), *theirs.values()):
            each.grad = torch.full_like(each, 0.3)
        one.step(0.02)
        two.step(0.02)
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], atol=1e-12, rtol=0)


def optimizers(named):
    return {
        "adamw": lambda: AdamW(named.items(), decay=0.1),
        "stable": lambda: StableAdamW(named.items(), decay=0.1, peak=0.1),
        "muon": lambda: Muon(named.items(), matrices=lambda _, w: w.dim() == 2, decay=0.1),
    }


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one) and set(one) == set(two)


@pytest.mark.parametrize("kind", ["adamw", "stable", "muon"])
def test_a_skipped_step_never_was(kind):
    """Bit for bit, moments and their counts too, also where its gradient was NaN or infinite."""
    skipped, never = weights(), weights()
    one, two = optimizers(skipped)[kind](), optimizers(never)[kind]()
    on, off = torch.ones(()), torch.zeros(())
    bad = [math.nan, math.inf, -math.inf, 1e30]
    for at, gradient in enumerate(gradients(6)):
        if at < 4:
            give(skipped, {name: torch.full(shape, bad[at], dtype=torch.float64) for name, shape in SHAPES.items()})
            before = {name: weight.detach().clone() for name, weight in skipped.items()}
            one.step(0.05, off)
            assert same(before, {name: weight.detach() for name, weight in skipped.items()})
        give(skipped, gradient)
        give(never, gradient)
        one.step(0.01, on)
        two.step(0.01)
        assert same(skipped, never)
    assert same(one.state(), two.state())


@pytest.mark.parametrize("kind", ["adamw", "stable", "muon"])
def test_a_weight_without_a_gradient_stays_as_it_is(kind):
    """As if the optimiser were of the others alone; when its gradient comes, it is the first."""
    named, alone = weights(), weights()
    late = ("second", "other")
    one = optimizers(named)[kind]()
    before = {name: named[name].detach().clone() for name in late}
    series = gradients(4)
    for gradient in series[:2]:
        give(named, {name: None if name in late else each for name, each in gradient.items()})
        one.step(0.01)
    assert all(torch.equal(before[name], named[name]) for name in late)
    two = optimizers({name: alone[name] for name in late} | {"third": alone["third"]})[kind]()
    for gradient in series[2:]:
        give(named, gradient)
        give(alone, gradient)
        one.step(0.01)
        two.step(0.01)
    assert all(torch.equal(alone[name], named[name]) for name in late)


@pytest.mark.parametrize("kind", ["adamw", "stable", "muon"])
def test_the_state_carries_over(kind):
    one, two = weights(), weights()
    first, second = optimizers(one)[kind](), optimizers(two)[kind]()
    series = gradients(5)
    for gradient in series[:3]:
        give(one, gradient)
        first.step(0.1)
    for name, weight in two.items():
        weight.data.copy_(one[name].data)
    second.restore({name: tensor.clone() for name, tensor in first.state().items()}, 3)
    for gradient in series[3:]:
        for named, optimizer in ((one, first), (two, second)):
            give(named, gradient)
            optimizer.step(0.1)
    assert same(one, two)
    assert same(first.state(), second.state())
    lost = {name: tensor for name, tensor in first.state().items() if not name.endswith(".first")}
    with pytest.raises(ValueError, match=r"holds no '.*first'"):
        second.restore(lost, 3)


def test_a_state_without_counts_was_made_in_so_many_steps():
    one, two = weights(), weights()
    first, second = StableAdamW(one.items()), StableAdamW(two.items())
    for gradient in gradients(3):
        give(one, gradient)
        first.step(0.1)
    second.restore({name: each for name, each in first.state().items() if not name.startswith("count.")}, 3)
    assert same(first.state(), second.state())


def test_rates_and_decay_by_name():
    named = weights()
    before = {name: weight.detach().clone() for name, weight in named.items()}
    optimizer = AdamW(named.items(), decay=0.5, decays=lambda name, _: name == "third", rates={"first": 0.0, "norm": 2})
    give(named, {name: torch.ones(shape, dtype=torch.float64) for name, shape in SHAPES.items()})
    optimizer.step(0.1)
    near = {"atol": 1e-6, "rtol": 0}
    assert torch.equal(named["first"], before["first"])
    torch.testing.assert_close(named["norm"].detach(), before["norm"] - 0.2, **near)
    torch.testing.assert_close(named["second"].detach(), before["second"] - 0.1, **near)
    torch.testing.assert_close(named["third"].detach(), before["third"] * 0.95 - 0.1, **near)


def test_a_rate_and_a_factor_may_be_tensors():
    one, two = weights(), weights()
    first, second = StableAdamW(one.items()), StableAdamW(two.items())
    for gradient in gradients(3):
        give(one, gradient)
        give(two, gradient)
        first.step(0.05)
        second.step(torch.tensor(0.1, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64))
    assert all(torch.allclose(one[name], two[name], atol=1e-14, rtol=0) for name in one)


@pytest.mark.parametrize("kind", ["adamw", "stable", "muon"])
def test_a_step_takes_nothing_to_the_host(kind):
    """On the meta device there are no numbers, so whoever asks for one is told off."""
    named = {name: torch.nn.Parameter(torch.empty(shape, device="meta")) for name, shape in SHAPES.items()}
    optimizer = optimizers(named)[kind]()
    for weight in named.values():
        weight.grad = torch.empty_like(weight)
    optimizer.step(0.1)
    optimizer.step(0.1, torch.ones((), device="meta"))
    with pytest.raises(RuntimeError, match="meta"):
        float(next(iter(optimizer.state().values())).sum())


LOOKS = ("view", "detach", "unbind", "unsqueeze", "alias", "select", "transpose", "reshape", "as_strided")


class Counted(TorchDispatchMode):
    """Counts the operations that are more than a look at a tensor."""

    def __init__(self):
        super().__init__()
        self.counted = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.counted += not any(word in str(operation) for word in LOOKS)
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["adamw", "stable", "muon"])
def test_a_step_costs_by_the_shape_not_by_the_weight(kind):
    counts = []
    for layers in (2, 20):
        named = {f"{at}.{name}": weight for at in range(layers) for name, weight in weights().items()}
        optimizer = optimizers(named)[kind]()
        for weight in named.values():
            weight.grad = torch.ones_like(weight)
        optimizer.step(0.1)
        with Counted() as seen:
            optimizer.step(0.1)
        counts.append(seen.counted)
    assert counts[0] == counts[1] < 40 * 5


def test_a_large_group_is_cut_into_stacks(monkeypatch):
    """The same bits, with less room."""
    one, two = weights(), weights()
    first = StableAdamW(one.items())
    monkeypatch.setitem(stacks.LARGEST, "cpu", 20)
    second = StableAdamW(two.items())
    assert [len(each) for each in first.stacks.stacks] == [2, 1, 2, 1, 1]
    assert [len(each) for each in second.stacks.stacks] == [1, 1, 1, 2, 1, 1]
    for gradient in gradients(3):
        give(one, gradient)
        give(two, gradient)
        first.step(0.1)
        second.step(0.1)
    assert same(one, two)


@pytest.mark.parametrize("kind", ["adamw", "stable", "muon"])
def test_the_arithmetic_compiles_whole_and_changes_nothing(kind, monkeypatch):
    """Into one graph without breaks; what a backend then makes of it is the backend's."""
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **k: compile(f, backend="eager", fullgraph=True, **k))
    options = {
        "adamw": lambda n, c: AdamW(n.items(), compiled=c),
        "stable": lambda n, c: StableAdamW(n.items(), compiled=c),
        "muon": lambda n, c: Muon(n.items(), matrices=lambda _, w: w.dim() == 2, compiled=c),
    }
    for _ in range(4):  # more optimisers in one process than torch.compile keeps graphs of one function
        one, two = weights(), weights()
        eager, compiled = options[kind](one, False), options[kind](two, True)
        for at, gradient in enumerate(gradients(4)):
            for named, optimizer in ((one, eager), (two, compiled)):
                give(named, gradient)
                optimizer.step(0.1 / (1 + at), torch.ones(()) if at % 2 else None)
        assert all(torch.allclose(one[name], two[name], atol=1e-14, rtol=0) for name in one)


def test_what_is_refused():
    named = weights()
    half = torch.nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    still = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    for given, told in (
        ([], "no weight that learns"),
        ([("still", still)], "no weight that learns"),
        ([("half", half)], "keep weights in float32"),
        ([("a", named["first"]), ("b", named["first"])], "'a' and 'b' are one weight"),
    ):
        with pytest.raises(ValueError, match=told):
            AdamW(given)
    for options, told in (
        ({"betas": (1.0, 0.9)}, "no AdamW"),
        ({"decay": -1.0}, "no AdamW"),
        ({"peak": 0.0}, "schedule's highest"),
        ({"rates": {"nobody": 2.0}}, "nobody"),
    ):
        with pytest.raises(ValueError, match=told):
            AdamW(named.items(), **options)


def test_the_loss_counts_what_is_labelled_only():
    logits = torch.tensor([[0.0, 0.0], [5.0, 1.0], [2.0, 2.0]], dtype=torch.bfloat16)
    total, count = scores.masked_loss(logits, torch.tensor([1, -100, 0]))
    assert count == 2
    assert total.dtype == torch.float32
    assert float(total) == pytest.approx(2 * math.log(2))
    nothing = scores.masked_loss(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    assert (float(nothing[0]), nothing[1]) == (0.0, 0)


def test_entropy_of_frequencies():
    assert scores.unigram_entropy(np.array([5, 5, 0, 5, 5])) == pytest.approx(math.log(4))
    assert scores.unigram_entropy(np.array([0, 9])) == 0.0
    counts = np.array([3, 1])
    assert scores.unigram_loss(counts, np.array([1, 1])) == pytest.approx(-(math.log(4 / 6) + math.log(2 / 6)) / 2)
    with pytest.raises(ValueError, match="no tokens"):
        scores.unigram_entropy(np.zeros(4))


def test_scores_by_hand():
    truth, guesses = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0])
    assert scores.accuracy(truth, guesses) == 0.6
    assert scores.f1(truth, guesses, 1) == pytest.approx(0.8)  # precision 2/3, recall 1
    assert scores.f1(truth, guesses, 2) == 0.0
    assert scores.macro_f1(truth, guesses) == pytest.approx((0.5 + 0.8 + 0.0) / 3)
    assert scores.macro_f1(truth, truth) == 1.0
    with pytest.raises(ValueError, match="5 labels and 4 guesses"):
        scores.accuracy(truth, guesses[:4])
