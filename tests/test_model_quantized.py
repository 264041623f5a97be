"""int8: whole numbers multiplied exactly, documents that know nothing of each other, a state that can be saved."""

import numpy as np
import pytest
import torch

from tests.tuned import SHAPES, batch, draws, model_of
from tundish.operators.model.heads import Tuned
from tundish.operators.model.layers import Linear
from tundish.operators.model.packed import packed
from tundish.operators.model.pruning import bare
from tundish.operators.model.quantized import Byte, Table, quantized, rounded

torch.set_num_threads(1)


def linear(inputs: int = 24, outputs: int = 10, *, bias: bool = True) -> Linear:
    made = Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        for weight in made.parameters():
            weight.copy_(draws(*weight.shape, seed=weight.dim()))
    return made


def test_weights_lie_within_half_a_scale_and_use_all_of_a_byte() -> None:
    weight = draws(7, 50) * torch.logspace(-3, 3, 7)[:, None]
    body, scale = rounded(weight)
    assert body.dtype == torch.int8
    assert body.abs().amax(1).tolist() == [127] * 7
    assert ((body * scale[:, None] - weight).abs() <= scale[:, None] / 2 * 1.0001).all()
    body, scale = rounded(torch.zeros(2, 3))
    assert not body.any()
    assert scale.isfinite().all()
    assert (scale > 0).all()


@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_that_of_whole_numbers(bias: bool) -> None:
    """Against the same by hand in numpy's int64: token by token, output by output."""
    made, x = linear(bias=bias), draws(9, 24, seed=7).float() * torch.logspace(-2, 2, 9)[:, None]
    layer = Byte(made)
    ints, scales = layer.body.numpy().astype(np.int64), layer.scale.numpy().astype(np.float64)
    expected = np.zeros((9, 10))
    for token in range(9):
        row = x[token].numpy()
        each = np.float32(np.abs(row).max() / np.float32(127))
        whole = np.round(row / each).astype(np.int64)
        for out in range(10):
            expected[token, out] = int((whole * ints[out]).sum()) * np.float64(each) * scales[out]
    if bias:
        expected += made.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=2e-5, atol=1e-6)


def test_what_is_said_of_a_token_depends_on_no_other() -> None:
    layer, x = Byte(linear()), draws(6, 24).float()
    loud = torch.cat([x, 1e4 * x])
    torch.testing.assert_close(layer(loud)[:6], layer(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("head", ["sequence", "tokens"])
def test_every_family_says_nearly_the_same(name: str, head: str) -> None:
    model = bare(model_of(SHAPES[name], head).eval())
    tokens, documents = batch((5, 1, 9, 14))
    with torch.no_grad():
        whole = model(tokens, documents, dtype=torch.float32)
        small = quantized(bare(model))(tokens, documents, dtype=torch.float32)
    error = (small - whole).norm() / whole.norm()
    assert 0 < error < 0.1, f"{float(error):.3f}"


def test_documents_are_their_own() -> None:
    model = quantized(bare(model_of(SHAPES["modern"]).eval()))
    tokens, documents = batch((5, 3, 9))
    with torch.no_grad():
        found = model(tokens, documents, dtype=torch.float32)
        alone = model(tokens[5:8], packed([0, 3]), dtype=torch.float32)
    torch.testing.assert_close(found[1:2], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["bert", "albert", "deberta"])
def test_a_state_is_a_quarter_and_comes_back(name: str) -> None:
    model = bare(model_of(SHAPES[name]).eval())
    size = sum(each.numel() * each.element_size() for n, each in model.state_dict().items() if _held(model, n))
    made = quantized(bare(model))
    state = {each: value.clone() for each, value in made.state_dict().items()}
    small = sum(each.numel() for n, each in state.items() if n.endswith("body"))
    assert small * 4 == size
    fresh = quantized(_other(model))
    fresh.load_state_dict(state)
    tokens, documents = batch()
    with torch.no_grad():
        torch.testing.assert_close(
            fresh(tokens, documents, dtype=torch.float32), made(tokens, documents, dtype=torch.float32)
        )


def _held(model: Tuned, name: str) -> bool:
    owner = model.get_submodule(name.rpartition(".")[0])
    return name.endswith(".weight") and (isinstance(owner, Linear) or name == "encoder.embedding.weight")


def _other(model: Tuned) -> Tuned:
    """The same shape with other weights."""
    made = bare(model)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(1.0)
    return made


def test_no_linear_layer_is_left_and_nothing_learns() -> None:
    model = quantized(bare(model_of(SHAPES["albert"])))
    assert not any(isinstance(each, Linear) for each in model.modules())
    assert isinstance(model.encoder.embedding, Table)
    assert isinstance(model.encoder.embedding.wide, Byte)
    assert not any(each.requires_grad for each in model.parameters())
    assert not model.training
