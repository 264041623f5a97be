"""Does LoRA add what its formula says, learn alone, and come into the weights with equal outputs?"""

import copy
from dataclasses import replace

import pytest
import torch

from tests.tuned import SHAPE, SHAPES, TIGHT, batch, model_of, widened
from tundish.operators.model import lora
from tundish.operators.model.decoding import Decoding
from tundish.operators.model.family import Model
from tundish.operators.model.generate import generate
from tundish.operators.model.init import initialise
from tundish.operators.model.lora import Lora

torch.set_num_threads(1)
EVERY = Lora(rank=3, on=("qkv", "out", "up", "down"), parts="qkv")


def learnt(model, seed=1):
    """With thin matrices that are something."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in lora.adapted(model).values():
            layer.lora_b.copy_(torch.randn(layer.lora_b.shape, generator=source) * 0.2)
    return model


def trained(model, steps=3):
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=0.01, weight_decay=0.1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for _ in range(steps):
            optimizer.zero_grad()
            model(*batch()).square().sum().backward()
            optimizer.step()
    return model


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("how", [Lora(rank=2), EVERY, replace(EVERY, rooted=True, init="normal", parts="k")])
def test_adapting_changes_nothing_and_merging_rounding_alone(kind, how):
    model, given = model_of(SHAPES[kind]).eval(), batch()
    plain, names = model(*given), set(model.state_dict())
    lora.adapt(model, how, seed=3)
    torch.testing.assert_close(model(*given), plain, rtol=0, atol=1e-7)
    learnt(model)
    found = model(*given)
    assert (found - plain).abs().max() > 1e-3
    again = lora.merged(model)
    assert again is model
    torch.testing.assert_close(model(*given), found, **TIGHT)
    assert set(model.state_dict()) == names
    assert all(weight.requires_grad for weight in model.parameters())
    assert not lora.adapted(model)


@pytest.mark.parametrize("parts", ["qv", "k", "vq", "qkv"])
def test_it_is_the_formula_part_by_part(parts):
    model = model_of()
    lora.adapt(model, Lora(rank=2, alpha=6.0, parts=parts), seed=3)
    learnt(model)
    layer = model.encoder.stack.blocks[0].attention.qkv
    plain = dict(model.named_parameters())["encoder.stack.blocks.0.attention.qkv.weight"]
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))
    expected = (x @ plain.t()).view(5, 3, 16)
    for place, part in enumerate(parts):
        expected[:, "qkv".index(part)] += 3.0 * (x @ layer.lora_a[place].t()) @ layer.lora_b[place].t()
    torch.testing.assert_close(layer(x), expected.view(5, 48), **TIGHT)
    torch.testing.assert_close(x @ layer.weight.t(), expected.view(5, 48), **TIGHT)


def test_weights_a_block_reads_itself_are_adapted_too():
    """DeBERTa projects distances by slices of the joined weight: with LoRA and with the weights summed by hand."""
    model, given = model_of(SHAPES["deberta"]).eval(), batch()
    by_hand = copy.deepcopy(model)
    lora.adapt(model, EVERY, seed=3)
    learnt(model)
    with torch.no_grad():
        for name, layer in lora.adapted(model).items():
            by_hand.get_parameter(f"{name}.weight").add_(layer.added())
    torch.testing.assert_close(model(*given), by_hand(*given), **TIGHT)


@pytest.mark.parametrize("kind", SHAPES)
def test_only_thin_matrices_and_the_head_learn(kind):
    model = model_of(SHAPES[kind])
    lora.adapt(model, EVERY, seed=3)
    before = copy.deepcopy(model.state_dict())
    trained(model)
    for name, weight in model.state_dict().items():
        learns = name in lora.state_of(model)
        assert torch.equal(weight, before[name]) != learns, name
    frozen = [w for name, w in model.named_parameters() if name not in lora.state_of(model)]
    assert all(weight.grad is None and not weight.requires_grad for weight in frozen)


def test_gradients_are_those_of_the_summed_weights():
    model, given = learnt_model(), batch()
    lora.merged(twin := copy.deepcopy(model))
    for each in (model, twin):
        each(*given).square().sum().backward()
    for name, layer in lora.adapted(model).items():
        whole = twin.get_parameter(f"{name}.weight").grad.view(layer.count, -1, layer.in_features)
        for place, part in enumerate(layer.which):
            expected = layer.lora.scale * layer.lora_b[place].t() @ whole[part]
            torch.testing.assert_close(layer.lora_a.grad[place], expected, atol=1e-5, rtol=1e-4)


def learnt_model():
    model = model_of(dropout=0.0)
    lora.adapt(model, EVERY, seed=3)
    return learnt(model)


@pytest.mark.parametrize("parts", ["v", "qk"])
def test_a_pair_is_adapted_across_too_and_writes_what_it_writes_merged(parts):
    shape = replace(SHAPE, stack="pair", decoder=2, positions="buckets", first_norm=True)
    model = Model(shape)
    initialise(model, shape, seed=1)
    (tokens, layout), decoding = batch(), Decoding(longest=6)
    widened(model).eval()
    names = lora.adapt(model, Lora(rank=2, on=("qkv", "q", "kv"), parts=parts), seed=3)
    assert "decoder.blocks.1.across.kv" in names
    learnt(model)
    found = model(tokens, layout, tokens, layout)
    texts = [generate(model, [[5, 6, 7]], decoding, ends=(2,), start=(0,), kept=kept) for kept in (True, False)]
    lora.merged(model)
    torch.testing.assert_close(model(tokens, layout, tokens, layout), found, atol=1e-4, rtol=1e-4)
    texts.append(generate(model, [[5, 6, 7]], decoding, ends=(2,), start=(0,)))
    assert len({each[0][0].tokens for each in texts}) == 1


def test_what_was_learnt_is_saved_and_loaded_alone():
    model = model_of()
    lora.adapt(model, EVERY, seed=3)
    trained(model)
    state = {name: weight.clone() for name, weight in lora.state_of(model).items()}
    assert {name.rpartition(".")[2] for name in state if name.startswith("encoder.")} == {"lora_a", "lora_b"}
    other = model_of()
    lora.adapt(other, EVERY, seed=8)
    lora.load(other, state)
    assert torch.equal(other.eval()(*batch()), model.eval()(*batch()))
    narrow = model_of()
    lora.adapt(narrow, replace(EVERY, rank=2), seed=8)
    with pytest.raises(ValueError, match="adapt the model as"):
        lora.load(narrow, state)


def test_seeds_decide_and_torch_is_left_alone():
    before = torch.random.get_rng_state()
    first, second, third = model_of(), model_of(), model_of()
    for model, seed in ((first, 1), (second, 1), (third, 2)):
        lora.adapt(model, EVERY, seed=seed)
    assert (torch.random.get_rng_state() == before).all()
    for name, weight in lora.state_of(first).items():
        assert torch.equal(weight, lora.state_of(second)[name])
        assert torch.equal(weight, lora.state_of(third)[name]) != name.endswith("lora_a"), name


def test_dropout_is_of_training_alone():
    model, given = model_of(dropout=0.0), batch()
    lora.adapt(model, replace(EVERY, dropout=0.5), seed=3)
    learnt(model)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert not torch.equal(model(*given), model(*given))
    model.eval()
    assert torch.equal(model(*given), model(*given))


def test_states_in_half_precision():
    model = learnt_model().eval()
    found = model(*batch(), dtype=torch.bfloat16)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), model(*batch()), atol=3e-2, rtol=0.1)


def test_mistakes_are_one_sentence():
    with pytest.raises(ValueError, match="rank of 0"):
        Lora(rank=0)
    with pytest.raises(ValueError, match="each letter at most once"):
        Lora(parts="qq")
    with pytest.raises(ValueError, match="cannot begin as"):
        Lora(init="zero")
    with pytest.raises(ValueError, match="is called 'query'"):
        lora.adapt(model_of(), Lora(on=("query",)), seed=1)
    with pytest.raises(ValueError, match="no linear layer"):
        lora.adapt(model_of(), Lora(on=("attention",)), seed=1)
    model = model_of()
    lora.adapt(model, Lora(), seed=1)
    with pytest.raises(ValueError, match="adapted already"):
        lora.adapt(model, Lora(), seed=1)
