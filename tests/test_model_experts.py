"""Experts against a loop written from the paper (Fedus et al. 2021): who takes whom, what passes, the balance."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tundish.operators.model.batch import Batch
from tundish.operators.model.experts import Experts, balance_of, fits, room
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.objective import guess, part_of
from tundish.operators.model.packed import packed
from tundish.operators.model.shape import Shape

torch.set_num_threads(1)
SHAPE = Shape(vocabulary=10, width=8, layers=2, heads=2, ff=12, gated=False, act="relu", experts=4)


def drawn(capacity, experts=4):
    layer = Experts(Shape(**{**SHAPE.__dict__, "capacity": capacity, "experts": experts})).double()
    initialise(layer, SHAPE, seed=3)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.mul_(20)
    return layer


def by_loops(layer, x, lengths, capacity):
    """Token by token: the most probable expert, as long as it has room in this document; times its probability."""
    count, found, start = len(layer.router), torch.zeros_like(x), 0
    shares, means = torch.zeros(count, dtype=x.dtype), torch.zeros(count, dtype=x.dtype)
    for length in lengths:
        most = max(1, math.ceil(capacity * length / count - 1e-9)) if capacity else length
        taken = [0] * count
        for at in range(start, start + length):
            chances = torch.tensor([float(row @ x[at]) for row in layer.router], dtype=x.dtype).softmax(0)
            chosen = int(chances.argmax())
            shares[chosen] += 1 / len(x)
            means += chances / len(x)
            taken[chosen] += 1
            if taken[chosen] <= most:
                found[at] = chances[chosen] * (layer.down[chosen] @ (layer.up[chosen] @ x[at]).clamp(min=0))
        start += length
    return found, count * sum(share * mean for share, mean in zip(shares, means, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 13), min_size=1, max_size=6), st.sampled_from([0.0, 0.4, 1.0, 1.25, 3.0]), st.integers(2, 5)
)
def test_experts_are_those_of_a_loop(lengths, capacity, experts):
    if not sum(lengths):
        return
    layer = drawn(capacity, experts)
    x = torch.randn(sum(lengths), 8, generator=torch.Generator().manual_seed(sum(lengths)), dtype=torch.float64)
    with torch.no_grad():
        found, balance = layer(x, packed(np.concatenate([[0], np.cumsum(lengths)])))
        expected, cost = by_loops(layer, x, lengths, capacity)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(balance, cost, atol=1e-9, rtol=1e-9)


def test_what_does_not_fit_passes_through():
    """All tokens alike choose one expert: of 8 it takes 2 at a capacity of 1, and the others add nothing."""
    layer = drawn(1.0)
    x = torch.ones(8, 8, dtype=torch.float64, requires_grad=True)
    out, _ = layer(x, packed([0, 8]))
    assert [bool(row.any()) for row in out] == [True] * 2 + [False] * 6
    out.sum().backward()
    assert x.grad[:2].abs().min() >= 0
    assert not x.grad[2:].any()


def test_room_is_rounded_up_and_never_none():
    assert [room(length, experts=4, capacity=1.25) for length in (1, 3, 4, 8, 16)] == [1, 1, 2, 3, 5]
    chosen, layout = torch.zeros(6, dtype=torch.long), packed([0, 1, 1, 6])
    taken = fits(chosen, layout.bounds, layout.documents, experts=4, capacity=1.25)
    assert taken.tolist() == [True, True, True, False, False, False]


def test_balance_is_one_where_all_are_equal_and_grows_to_the_number_of_experts():
    equal = torch.full((8, 4), 0.25)
    assert balance_of(equal, torch.arange(8) % 4) == 1
    all_to_one = torch.zeros(8, 4)
    all_to_one[:, 2] = 1
    assert balance_of(all_to_one, torch.full((8,), 2)) == 4


@pytest.mark.parametrize("capacity", [0.0, 1.25])
def test_padding_of_rows_changes_nothing(capacity):
    """The same documents in rows that are filled up and one behind the other: losses, and what experts are given."""
    shape = Shape(**{**SHAPE.__dict__, "capacity": capacity, "vocabulary": 30, "sparse": 1})
    model = Model(shape).double()
    initialise(model, shape, seed=3)
    drawn = torch.Generator().manual_seed(1)
    sizes, rows, row = [[4, 6], [16], [3]], 3, 16
    inputs, bounds, flat = np.zeros((rows, row), np.int32), [0], []
    for number, documents in enumerate(sizes):
        tokens = torch.randint(5, 30, (sum(documents),), generator=drawn).numpy()
        inputs[number, : len(tokens)] = tokens
        bounds += [number * row + end for end in np.cumsum(documents)] + [(number + 1) * row] * (sum(documents) < row)
        flat.append(tokens)
    places = np.array([1, 5, 17, 33])
    held = np.array([sum(each) for each in sizes])
    there = np.concatenate([number * row + np.arange(size) for number, size in enumerate(held)])
    plain = np.concatenate([[0], np.cumsum([each for documents in sizes for each in documents])])
    padded = Batch(inputs, np.array(bounds, np.int32), held, places, np.array([7, 8, 9, 10]), np.array([2, 1, 1]), 0)
    joined = padded._replace(
        inputs=np.concatenate(flat).astype(np.int32),
        bounds=plain.astype(np.int32),
        places=np.searchsorted(there, places),
    )
    found = []
    for batch in (padded, joined):
        terms = guess(model, part_of(batch, torch.device("cpu")), causal=None, dtype=None)
        model.zero_grad()
        sum(term.total for term in terms).backward()
        found.append([*(term.total.detach() for term in terms), *(weight.grad for weight in model.parameters())])
    assert [term.name for term in terms] == ["loss", "balance"]
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-10, rtol=1e-8)


def test_balance_is_that_of_transformers():
    theirs = pytest.importorskip("transformers.models.switch_transformers.modeling_switch_transformers")
    logits = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    chances = logits.softmax(-1)
    expected = theirs.load_balancing_loss_func(chances[None], chances.argmax(-1)[None])
    torch.testing.assert_close(balance_of(chances, chances.argmax(-1)), expected)


def test_the_router_works_in_full_precision():
    """Two experts a hair apart in float32 would be one in bf16: the choice stays the first's."""
    layer = drawn(0.0, experts=2).float()
    with torch.no_grad():
        layer.router.zero_()
        layer.router[0, 0], layer.router[1, 0] = 1.0, 1.0001
    x = torch.zeros(3, 8, dtype=torch.bfloat16)
    x[:, 0] = 1.0
    with torch.no_grad():
        out, balance = layer(x, packed([0, 3]))
        chosen = layer.down[1].bfloat16() @ (layer.up[1].bfloat16() @ x[0]).clamp(min=0)
    assert out.dtype == torch.bfloat16
    assert balance.dtype == torch.float32
    torch.testing.assert_close(out[0], chosen * 0.5, atol=1e-2, rtol=1e-2)
