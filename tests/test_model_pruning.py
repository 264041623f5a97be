"""Pruning: what stays computes what the whole model does with the rest masked; importance against slow twins."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.tuned import POST, SHAPES, TIGHT, batch, model_of
from tundish.operators.model.dropping import skipped, spaced
from tundish.operators.model.heads import Tuned
from tundish.operators.model.init import parameters_of
from tundish.operators.model.packed import packed
from tundish.operators.model.pruning import (
    bare,
    contributions,
    head_importance,
    hold,
    kept_heads,
    kept_layers,
    masks_of,
    require_heads,
    share_at,
    without_heads,
    without_layers,
    zeros,
)
from tundish.operators.model.shape import Shape

torch.set_num_threads(1)
FOUR = replace(SHAPES["modern"], heads=4, layers=4)
T5 = replace(SHAPES["modern"], positions="buckets", buckets=8, distance=16, window=0, rms=True, scaled=False)
SHAPED = {**SHAPES, "t5": T5, "far": replace(SHAPES["deberta"], far_own=True, enhanced=0), "four": FOUR}
TOKENS, DOCUMENTS = batch((5, 2, 9))


def silenced(model: Tuned, keep: list[list[int]]) -> Tensor:
    """The slow way: columns of what mixes heads set to zero, head by head."""
    shape = model.encoder.shape
    made = bare(model)
    with torch.no_grad():
        for block, heads in zip(made.encoder.stack.blocks, keep, strict=True):
            for head in set(range(shape.heads)) - set(heads):
                block.attention.out.weight[:, head * shape.head_width : (head + 1) * shape.head_width] = 0
    return said(made)


@torch.no_grad()
def said(model: Tuned) -> Tensor:
    return model.eval()(TOKENS, DOCUMENTS)


@pytest.mark.parametrize("name", SHAPED)
def test_without_heads_is_with_them_silent(name: str) -> None:
    model = bare(model_of(SHAPED[name]).eval())
    heads, blocks = model.encoder.shape.heads, len(model.encoder.stack.blocks)
    keep = [[(1 + layer) % heads] for layer in range(blocks)] if name != "t5" else [[1]] * blocks
    smaller = without_heads(model, keep)
    torch.testing.assert_close(said(smaller), silenced(model, keep), **TIGHT)
    assert not torch.allclose(said(smaller), said(model), atol=1e-3)
    assert smaller.encoder.shape.heads == 1
    assert smaller.encoder.shape.head_width == model.encoder.shape.head_width
    assert parameters_of(smaller) < parameters_of(model)


@pytest.mark.parametrize("name", ["modern", "albert", "four"])
def test_importance_is_the_mean_slope_of_each_document(name: str) -> None:
    """By differences: a head's output turned up and down a little, document by document."""
    model = model_of(SHAPED[name]).eval().double()
    shape, lengths = model.encoder.shape, (5, 2, 9)
    found = head_importance(model, [lambda: model(TOKENS, DOCUMENTS)[:, 0].sum()])
    expected = torch.zeros_like(found)
    for layer, head in itertools.product(range(len(found)), range(shape.heads)):
        columns = slice(head * shape.head_width, (head + 1) * shape.head_width)
        weight, slopes = model.encoder.stack.blocks[layer].attention.out.weight, []
        for at, length in zip((0, 5, 7), lengths, strict=True):
            ends = []
            for by in (1 + 1e-5, 1 - 1e-5):
                with torch.no_grad():
                    was = weight[:, columns].clone()
                    weight[:, columns] *= by
                    ends.append(float(model(TOKENS[at : at + length], packed([0, length]))[0, 0]))
                    weight[:, columns] = was
            slopes.append(abs(ends[0] - ends[1]) / 2e-5)
        expected[layer, head] = sum(slopes) / 3
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_importance_adds_up_over_batches_and_leaves_the_model_alone() -> None:
    model = model_of(SHAPED["four"]).eval()
    before = said(model)
    whole = head_importance(model, [lambda: model(TOKENS, DOCUMENTS).square().sum()])
    cuts = [(TOKENS[:7], packed([0, 5, 7])), (TOKENS[7:], packed([0, 9]))]
    parts = head_importance(model, [lambda each=each: model(*each).square().sum() for each in cuts])
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(said(model), before)
    assert all(weight.grad is None for weight in model.parameters())
    with pytest.raises(ValueError, match="no documents"):
        head_importance(model, [])


def test_the_most_important_heads_are_kept() -> None:
    importance = torch.tensor([[3.0, 1, 2, 0], [0, 5, 4, 9]])
    assert kept_heads(importance, 3) == [[0, 1, 2], [1, 2, 3]]
    assert kept_heads(importance, 2, same=True) == [[1, 3], [1, 3]]
    assert kept_heads(torch.ones(1, 4), 2) == [[0, 1]]
    for keep in (0, 5):
        with pytest.raises(ValueError, match=f"{keep} of 4 heads cannot be kept; give a number between 1 and 4$"):
            require_heads(FOUR, keep)


def test_what_cannot_be_expressed_is_refused() -> None:
    with pytest.raises(ValueError, match="ALiBi"):
        without_heads(model_of(replace(SHAPES["modern"], positions="alibi", window=0)), [[0], [0]])
    with pytest.raises(ValueError, match="same heads"):
        without_heads(bare(model_of(T5)), [[0], [1]])
    pair = model_of(replace(T5, stack="pair", decoder=1))
    with pytest.raises(ValueError, match="decoder"):
        without_heads(pair, [[0], [0]])


@pytest.mark.parametrize("name", SHAPED)
def test_bare_says_the_same_with_less(name: str) -> None:
    model = model_of(replace(SHAPED[name], pooler=True)).eval()
    torch.testing.assert_close(said(bare(model)), said(model), **TIGHT)
    assert parameters_of(bare(model)) < parameters_of(model)


def test_a_pair_becomes_its_encoder() -> None:
    model = model_of(replace(T5, stack="pair", decoder=2)).eval()
    made = bare(model)
    torch.testing.assert_close(said(made), said(model), **TIGHT)
    assert made.encoder.decoder is None
    torch.testing.assert_close(said(without_heads(made, [[1], [1]])), silenced(made, [[1], [1]]), **TIGHT)


# -- layers


SIX = Shape(40, 16, layers=6, heads=2, ff=24, length=32, window=3, every=3)


def test_layers_take_the_places_of_their_kind() -> None:
    plain = replace(SIX, window=0)
    assert kept_layers(plain, 4, "symmetric") == (0, 1, 4, 5)
    assert kept_layers(plain, 2, "contribution", torch.tensor([1.0, 3, 2, 9, 0, 4])) == (3, 5)
    kept = kept_layers(SIX, 4, "contribution", torch.tensor([0.0, 0, 1, 5, 5, 9]))
    assert [SIX.local(each) for each in kept] == [SIX.local(each) for each in range(4)]
    for way, keep in itertools.product(("top", "alternate", "symmetric", "bottom"), range(1, 7)):
        chosen = kept_layers(SIX, keep, way)
        assert [SIX.local(each) for each in chosen] == [SIX.local(each) for each in range(keep)]
        assert list(chosen) == sorted(set(chosen))
    assert kept_layers(SHAPES["deberta"], 1, "top") == (1,), "the last answers from absolute positions"


def test_the_best_layers_are_those_of_all_that_fit() -> None:
    """Against every choice there is."""
    shape, worth = replace(SIX, layers=7), torch.tensor([0.3, 0.9, 0.1, 0.7, 0.2, 0.8, 0.6])
    for keep in (2, 3, 4, 5):
        fit = [
            each
            for each in itertools.combinations(range(7), keep)
            if all(shape.local(old) == shape.local(new) for new, old in enumerate(each))
        ]
        best = max(fit, key=lambda each: float(worth[list(each)].double().sum()))
        assert kept_layers(shape, keep, "contribution", worth) == best


def test_layers_that_cannot_be_kept_are_refused() -> None:
    sparse = replace(SIX, window=0, experts=2, gated=False, layers=2)
    for found in (lambda: kept_layers(SIX, 7), lambda: spaced(6, 7)):
        with pytest.raises(ValueError, match=r"7 of 6 layers cannot be kept; give a number between 1 and 6$"):
            found()
    with pytest.raises(ValueError, match="no 1 of 3 layers"):
        kept_layers(replace(SHAPES["deberta"], layers=3, span=3), 1)
    for given, words in (({"way": "luck"}, "not dropped by"), ({"way": "contribution"}, "not given")):
        with pytest.raises(ValueError, match=words):
            kept_layers(sparse, 1, **given)
    with pytest.raises(ValueError, match="3 of 2 layers"):
        kept_layers(sparse, 3)


@pytest.mark.parametrize(("name", "keep"), [("modern", (0,)), ("four", (1, 3)), ("albert", (0,)), ("deberta", (1,))])
def test_without_layers_is_with_them_skipped(name: str, keep: tuple[int, ...]) -> None:
    model = bare(model_of(replace(SHAPED[name], window=0)).eval())
    smaller = without_layers(model, keep)
    with skipped(model.encoder.stack, set(range(model.encoder.shape.layers)) - set(keep)):
        torch.testing.assert_close(said(smaller), said(model), **TIGHT)
    assert smaller.encoder.shape.layers == len(keep)


@pytest.mark.parametrize("name", ["four", "albert", "deberta"])
def test_a_layer_that_turns_nothing_contributes_nothing(name: str) -> None:
    model = bare(model_of(SHAPED[name]).eval())
    found = contributions(model, [lambda: said(model)])
    assert found.shape == (model.encoder.shape.layers,)
    assert (found > 1e-5).all()
    if name == "four":
        with torch.no_grad():
            for part in (model.encoder.stack.blocks[2].attention.out, model.encoder.stack.blocks[2].inner.down):
                part.weight.zero_()
        again = contributions(model, [lambda: said(model), lambda: said(model)])
        assert again[2] == pytest.approx(0, abs=1e-6)
        torch.testing.assert_close(again[:2], found[:2])
        assert kept_layers(replace(FOUR, window=0), 3, "contribution", again) == (0, 1, 3)


# -- single weights


def test_masks_leave_exactly_the_smallest_out() -> None:
    model = bare(model_of(FOUR))
    masks = masks_of(model, 0.4)
    sizes = torch.cat([model.get_parameter(name).detach().abs().flatten() for name in masks])
    stays = torch.cat([mask.flatten() for mask in masks.values()])
    assert int((~stays).sum()) == round(0.4 * len(stays))
    assert sizes[~stays].max() <= sizes[stays].min()
    assert all(name.startswith("encoder.stack.blocks.") for name in masks)
    for name, mask in masks_of(model, 0.4, "matrix").items():
        mine = model.get_parameter(name).detach().abs()
        assert int((~mask).sum()) == round(0.4 * mask.numel())
        assert mine[~mask].max() <= mine[mask].min()
    with torch.no_grad():
        for name in masks:
            model.get_parameter(name).fill_(1.0)
    assert sum(int((~mask).sum()) for mask in masks_of(model, 0.25).values()) == round(0.25 * len(stays)), "of equals"


def test_held_weights_are_zero_and_others_as_they_were() -> None:
    model = bare(model_of(FOUR))
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    masks = masks_of(model, 0.5)
    hold(model, masks)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, before[name] * masks.get(name, 1), rtol=0, atol=0)
    some, of = zeros(model.encoder.stack)
    assert some >= sum(int((~mask).sum()) for mask in masks.values())
    assert some / of == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("share", "scope", "words"), [(1.0, "global", "share of 1.0"), (0.5, "row", "not ranked by")])
def test_what_is_no_mask_is_refused(share: float, scope: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        masks_of(bare(model_of(POST)), share, scope)


def test_a_share_grows_fast_at_first_and_ends_where_it_shall() -> None:
    shares = [share_at(step, 10, 0.9) for step in range(12)]
    assert shares[0] == 0
    assert shares[10] == shares[11] == pytest.approx(0.9)
    grown = [b - a for a, b in itertools.pairwise(shares[:11])]
    assert grown == sorted(grown, reverse=True)
    assert share_at(3, 10, 0.9) == pytest.approx(0.9 * (1 - 0.7**3))
