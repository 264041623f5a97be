"""Distillation: losses against torch's own and slow twins, layers matched, states tapped."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.tuned import SHAPES, batch, draws, model_of
from tundish.operators.model.distil import (
    fit_of,
    hidden_loss,
    matched,
    mixed,
    soft_classes,
    soft_labels,
    soft_numbers,
    soft_pairs,
    soft_spans,
    tapped,
)
from tundish.operators.model.dropping import skipped
from tundish.operators.model.head_losses import Summed
from tundish.operators.model.packed import packed

torch.set_num_threads(1)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_classes_are_torchs_divergence_times_the_square(temperature: float) -> None:
    found, taught = draws(6, 4, seed=1), draws(6, 4, seed=2)
    shares = [F.log_softmax(each / temperature, 1) for each in (found, taught)]
    expected = F.kl_div(*shares, reduction="batchmean", log_target=True) * temperature**2
    assert soft_classes(found, taught, temperature).mean == pytest.approx(float(expected))
    counted = torch.tensor([True, False, True, True, False, False])
    part = soft_classes(found, taught, temperature, counted)
    assert part.total == pytest.approx(float(soft_classes(found[counted], taught[counted], temperature).total))
    assert part.count == 3


def test_at_a_high_temperature_the_gradient_is_that_of_the_logits() -> None:
    """Hinton et al. 2015, equation 4: (z - v) / C of logits whose mean is zero, whatever the temperature."""
    found, taught = (each - each.mean(1, keepdim=True) for each in (draws(1, 5, seed=1), draws(1, 5, seed=2)))
    found.requires_grad_()
    [slope] = torch.autograd.grad(soft_classes(found, taught, 1e4).total, found)
    torch.testing.assert_close(slope, (found - taught).detach() / 5, atol=1e-3, rtol=1e-3)


def test_labels_are_two_classes_each() -> None:
    found, taught = draws(3, 4, seed=1), draws(3, 4, seed=2)
    both = [torch.stack([each.flatten(), torch.zeros(12).double()], 1) for each in (found, taught)]
    soft = soft_labels(found, taught, 2.0)
    assert soft.total == pytest.approx(float(soft_classes(*both, 2.0).total))
    assert soft.count == 12


def test_numbers_are_squared_errors() -> None:
    found, taught = draws(5, 1, seed=1), draws(5, 1, seed=2)
    assert soft_numbers(found, taught).mean == pytest.approx(float(F.mse_loss(found, taught)))


def test_spans_are_classes_among_places_where_answers_may_lie() -> None:
    documents = packed([0, 4, 10])
    context = torch.tensor([0, 0, 1, 1, 0, 0, 0, 1, 1, 0]).bool()
    found, taught = draws(10, 2, seed=1), draws(10, 2, seed=2)
    total = 0.0
    for places in ([0, 2, 3], [4, 7, 8]):
        for end in range(2):
            total += float(soft_classes(found[places, end][None], taught[places, end][None], 2.0).total) / 2
    found.requires_grad_()
    soft = soft_spans(found, taught, documents, context, 2.0)
    assert soft.total.item() == pytest.approx(total)
    assert soft.count == 2
    [slope] = torch.autograd.grad(soft.total, found)
    assert slope.isfinite().all()
    assert not slope[[1, 5, 6, 9]].any(), "where no answer may lie nothing is learnt"


def test_vectors_resemble_whom_the_teachers_resemble_whatever_their_width() -> None:
    found, taught = (F.normalize(draws(7, width, seed=width), dim=1) for width in (4, 9))
    scores = [each[:3] @ each[3:].t() / 0.1 for each in (found, taught)]
    soft = soft_pairs(found, taught, 3, 0.1)
    assert soft.total == pytest.approx(float(soft_classes(*scores, 1.0).total))
    turned = taught @ torch.linalg.qr(draws(9, 9, seed=3))[0]
    assert soft_pairs(turned, taught, 3, 0.1).total == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="7 vectors and 6"):
        soft_pairs(found, taught[:6], 3, 0.1)


def test_nothing_is_lost_where_both_say_the_same_and_nothing_flows_to_the_teacher() -> None:
    found, taught = draws(4, 3, seed=1).requires_grad_(), draws(4, 3, seed=2).requires_grad_()
    assert soft_classes(found, found, 2.0).total.item() == pytest.approx(0, abs=1e-12)
    soft_classes(found, taught, 2.0).total.backward()
    assert taught.grad is None
    assert found.grad is not None


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_parts_of_a_batch_add_up(alpha: float) -> None:
    found, taught, labels = draws(8, 3, seed=1), draws(8, 3, seed=2), torch.tensor([0, 1, 2, 2, 1, 0, 0, 1])

    def loss(rows: slice) -> Summed:
        own = F.cross_entropy(found[rows], labels[rows], reduction="sum")
        mine = Summed(own, torch.tensor(float(len(found[rows]))))
        return mixed(mine, soft_classes(found[rows], taught[rows], 2.0), alpha)

    whole, parts = loss(slice(0, 8)), [loss(slice(0, 3)), loss(slice(3, 8))]
    assert whole.total == pytest.approx(float(sum(each.total for each in parts)))
    own, soft = F.cross_entropy(found, labels), soft_classes(found, taught, 2.0).mean
    assert whole.mean == pytest.approx(float((1 - alpha) * own + alpha * soft))


def test_hidden_states_are_met_document_by_document() -> None:
    documents, mine, its = packed([0, 3, 8]), [draws(8, 4, seed=1)], [draws(8, 6, seed=2)]
    fit = fit_of(4, 6, seed=5).double()
    each = [F.mse_loss(fit(mine[0][rows]), its[0][rows]).detach() for rows in (slice(0, 3), slice(3, 8))]
    found = hidden_loss(mine, its, documents, fit)
    assert found.total.item() == pytest.approx(float(sum(each)), rel=1e-6)
    assert found.count == 2
    own, soft = (Summed(torch.tensor(1.0), torch.tensor(4.0)) for _ in range(2))
    assert mixed(own, soft, 0.0, found, 0.5).mean.item() == pytest.approx(
        0.25 + 0.5 * float(found.mean.detach()), rel=1e-6
    )
    assert fit_of(4, 4, seed=5) is None
    assert torch.equal(fit.weight, fit_of(4, 6, seed=5).weight.double())
    with pytest.raises(ValueError, match="the student says"):
        hidden_loss(mine, its, documents)


def test_layers_are_matched() -> None:
    assert matched(4, 12) == ((0, 2), (1, 5), (2, 8), (3, 11)), "TinyBERT's 3 i"
    assert matched(3, 4) == ((0, 1), (1, 2), (2, 3))
    assert matched(6, 6) == tuple((each, each) for each in range(6))
    for how, words in (("luck", "not matched by"), ("0:9", "0:9 are not both"), ("top", "no deeper"), ("", "not matc")):
        with pytest.raises(ValueError, match=words):
            matched(3, 2, how)


def behind(model: torch.nn.Module, layer: int, tokens: Tensor, documents: object) -> Tensor:
    """The slow way: the states of the model without the layers above, its last norm taken off."""
    stack = model.encoder.stack
    final, stack.final = stack.final, torch.nn.Identity()
    with skipped(stack, range(layer + 1, stack.layers)):
        found = model.encoder(tokens, documents)
    stack.final = final
    return found


@pytest.mark.parametrize("name", ["modern", "bert", "albert", "gpt"])
def test_states_are_those_behind_the_layers(name: str) -> None:
    model = model_of(replace(SHAPES[name], layers=4, window=0)).eval()
    tokens, documents = batch()
    with tapped(model.encoder.stack, (1, 3)) as passes:
        model(tokens, documents)
        model(tokens.flip(0), documents)
        taken = dict(passes[-2])
        for _ in range(5):
            model(tokens, documents)
        assert len(passes) == 3
    assert sorted(taken) == [1, 3]
    for layer, states in taken.items():
        torch.testing.assert_close(states, behind(model, layer, tokens, documents))
    model(tokens, documents)
    assert len(passes) == 3, "nothing is kept beyond"


def test_debertas_last_state_is_its_last_answer() -> None:
    model = model_of(SHAPES["deberta"]).eval()
    tokens, documents = batch()
    with tapped(model.encoder.stack, (1,)) as passes:
        whole = model.encoder(tokens, documents)
    torch.testing.assert_close(model.encoder.stack.final(passes[-1][1]), whole)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_what_softens_nothing_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="softens nothing"):
        soft_classes(draws(2, 3), draws(2, 3), temperature)
    with pytest.raises(ValueError, match="softens nothing"):
        soft_pairs(draws(2, 3), draws(2, 3), 1, temperature)
