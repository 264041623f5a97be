import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tundish.operators.model.classifier import Classifier
from tundish.operators.model.encoder import PRESETS, Encoder, Shape, initialise, parameters_of, preset
from tundish.operators.model.objective import gradients_of, loss_of, part_of
from tundish.operators.model.plan import Plan, Source, Stretch
from tundish.operators.model.rows import Layout, Shard, cut
from tundish.operators.model.stream import Hiding, Stream

torch.set_num_threads(1)
SHAPE = Shape(vocabulary=50, width=32, layers=3, heads=2, ff=48, length=24)
IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
CPU = torch.device("cpu")


def drawn(shape=SHAPE, seed=1):
    model = Encoder(shape)
    initialise(model, seed=seed, layers=shape.layers)
    return model.double()


def documents(*lengths, seed=0):
    return [np.random.default_rng([seed, n]).integers(5, 50, size) for n, size in enumerate(lengths)]


def streamed(texts, length, rate):
    """A stream over these documents, and the places of its rows in their order."""
    offsets, layout = np.cumsum([0, *map(len, texts)]), Layout(length, length)
    shard = Shard(np.concatenate(texts).astype(np.uint16), offsets, cut(offsets, layout))
    source = Source("toy", (len(shard.starts) - 1,))
    plan = Plan(1, (source,), (Stretch(0, (("toy", 1),)),), ((0, 1),))
    stream = Stream(plan, layout, Hiding(50, IDS, 1, rate), lambda source, number, position: shard)
    found = plan.places(np.arange(source.size))
    found.row.sort()
    return stream, found


def test_a_packed_row_computes_what_its_documents_would_alone():
    texts, model = documents(5, 7, 2, 1, 22), drawn()
    stream, places = streamed(texts, 24, 0.3)
    assert len(places) == 2  # four documents share the first
    batch = stream.batch(places)
    batch.inputs.reshape(-1)[batch.places] = batch.labels
    _, segments, positions, *_ = part = part_of(batch, CPU)
    together = model(part.inputs, segments, positions)
    at = 0
    for number, text in enumerate(texts[:4]):
        alone = model(torch.tensor([[2, *text, 3]]))
        torch.testing.assert_close(together[0, at : at + len(text) + 2], alone[0], atol=1e-12, rtol=0)
        assert (segments[0, at : at + len(text) + 2] == number).all()
        at += len(text) + 2


def test_loss_and_gradient_of_a_packed_row_are_the_sum_over_its_documents():
    texts, model = documents(5, 9, 3), drawn()
    stream, places = streamed(texts, 24, 0.4)
    part = part_of(stream.batch(places), CPU)
    gradients = gradients_of(model)
    packed, count = loss_of(model, part)
    packed.backward()
    expected = gradients.clone()
    gradients.zero_()
    total = torch.zeros((), dtype=torch.float64)
    for number in range(3):
        here = part.segments[0] == number
        inside = here[part.places]
        states = model(part.inputs[:, here])[0][part.positions[0, part.places[inside]]]
        loss = torch.nn.functional.cross_entropy(model.logits(states), part.labels[inside], reduction="sum")
        loss.backward()
        total += loss.detach()
    assert count == len(part.labels) > 3
    torch.testing.assert_close(packed.detach(), total, atol=1e-11, rtol=0)
    torch.testing.assert_close(gradients, expected, atol=1e-11, rtol=0)


def test_positions_are_relative_and_order_matters():
    model, text = drawn(), torch.tensor([[2, 9, 17, 30, 3]])
    shifted = model(text, None, torch.arange(5)[None] + 13)
    torch.testing.assert_close(model(text), shifted, atol=1e-10, rtol=0)
    assert not torch.allclose(model(text)[0, 0], model(text[:, [0, 2, 1, 3, 4]])[0, 0], atol=1e-6)


def test_attention_is_plain_softmax_attention():
    """The whole forward against a slow one written out with sums."""
    model, text = drawn(), torch.tensor([[2, 9, 17, 30, 8, 3]])
    norm = torch.nn.functional.layer_norm

    def turned(x, place):
        half = len(x) // 2
        angle = [place * 10_000.0 ** (-2 * i / len(x)) for i in range(half)]
        pairs = torch.stack([torch.complex(x[:half], x[half:])]) * torch.tensor([np.exp(1j * a) for a in angle])
        return torch.cat([pairs.real[0], pairs.imag[0]])

    x = norm(model.embedding(text[0]), (32,), model.embedded.weight)
    for number, block in enumerate(model.blocks):
        y = x if number == 0 else norm(x, (32,), block.before.weight)
        q, k, v = (y @ block.qkv.weight.T).chunk(3, -1)
        out = torch.zeros_like(x)
        for half in (slice(0, 16), slice(16, 32)):
            for i in range(6):
                score = torch.stack([turned(q[i, half], i) @ turned(k[j, half], j) / 4 for j in range(6)])
                out[i, half] = score.softmax(0) @ v[:, half]
        x = x + out @ block.attended.weight.T
        gate, up = (norm(x, (32,), block.between.weight) @ block.gate.weight.T).chunk(2, -1)
        x = x + (torch.nn.functional.gelu(gate) * up) @ block.down.weight.T
    torch.testing.assert_close(model(text)[0], norm(x, (32,), model.final.weight), atol=1e-11, rtol=0)


def test_flops_are_those_torch_counts():
    shape = Shape(vocabulary=96, width=64, layers=3, heads=4, ff=80, length=32)
    model = Encoder(shape)
    initialise(model, seed=1, layers=3)
    tokens = torch.randint(0, 96, (2, 32))
    counter = FlopCounterMode(display=False)
    with counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model.logits(model(tokens).flatten(0, 1)[:16]).sum().backward()
    assert counter.get_total_flops() == pytest.approx(64 * model.flops_per_token(length=32, hidden=0.25), rel=0.02)


def test_presets_have_the_sizes_they_say():
    sizes = {}
    for name in PRESETS:
        with torch.device("meta"):
            sizes[name] = parameters_of(Encoder(preset(name, vocabulary=2000, length=128)))
    assert 2e6 < sizes["tiny"] < 4e6
    assert list(sizes.values()) == sorted(sizes.values())
    with pytest.raises(ValueError, match="tiny, mini"):
        preset("huge", vocabulary=10, length=8)
    with pytest.raises(ValueError, match="does not divide"):
        Shape(50, 30, 1, 4, 16)
    with pytest.raises(ValueError, match="longer than the model"):
        drawn()(torch.zeros(1, 25, dtype=torch.long))


def test_weights_are_drawn_by_the_seed_alone():
    one, same, other = drawn(), drawn(), drawn(seed=2)
    assert all((a == b).all() for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not (one.embedding.weight == other.embedding.weight).all()
    spread = float(one.blocks[0].qkv.weight.std().detach())
    assert 0.015 < spread < 0.02  # a normal of 0.02, cut at two deviations, has 0.0176
    assert float(one.blocks[0].down.weight.std().detach()) == pytest.approx(spread / 6**0.5, rel=0.1)


def test_a_tiny_model_learns_a_few_rows_by_heart():
    torch.manual_seed(0)
    texts, model = documents(20, 20, 20, 20), drawn().float()
    stream, places = streamed(texts, 24, 0.3)
    part = part_of(stream.batch(places), CPU)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss, count = loss_of(model, part)
        (loss / count).backward()
        optimizer.step()
    assert float(loss.detach()) / count < 0.02


def test_padding_changes_no_class_and_poolings_differ():
    torch.manual_seed(0)
    text = torch.tensor([[2, 9, 17, 3]])
    padded = torch.tensor([[2, 9, 17, 3, 0, 0], [2, 9, 17, 30, 8, 3]])
    for pooling in ("mean", "cls"):
        model = Classifier(Encoder(SHAPE), 3, pooling=pooling).eval()
        initialise(model, seed=1, layers=3)
        alone = model(text, text > 0)
        assert alone.shape == (1, 3)
        torch.testing.assert_close(model(padded, padded > 0)[:1], alone, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="pooled by 'max'"):
        Classifier(Encoder(SHAPE), 3, pooling="max")


def test_a_token_outside_the_vocabulary_is_refused():
    stream, places = streamed([np.array([7, 60])], 8, 0.3)
    with pytest.raises(ValueError, match="token 60 is outside the vocabulary of 50"):
        stream.batch(places)
