"""DeBERTa's attention and its decoder with absolute positions, against loops written from the formulas."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.packed import packed
from tundish.operators.model.relative import deberta_bucket, t5_bucket
from tundish.operators.model.shape import Shape

torch.set_num_threads(1)
SHAPE = Shape(
    vocabulary=50, width=16, layers=3, heads=2, ff=24, length=24, norm="post", bias=True, gated=False, final_norm=False
)
SHAPE = replace(SHAPE, positions="disentangled", buckets=4, distance=10, enhanced=2)


def drawn(shape):
    model = Model(shape).double().eval()
    initialise(model, shape, seed=5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(12) if weight.dim() > 1 else weight.add_(torch.randn_like(weight) * 0.2)
    return model


def normed(x, norm, eps):
    """Equation by equation: off the mean, over the root of the variance."""
    x = x - x.mean()
    return x / math.sqrt(float((x * x).mean()) + eps) * norm.weight + norm.bias


def bucket(behind, buckets, distance):
    """Of a distance: itself up to half of the buckets, then the logarithm up to `distance`, rounded up."""
    middle = buckets // 2
    if abs(behind) <= middle:
        return behind
    grown = math.ceil(math.log(abs(behind) / middle) / math.log((distance - 1) / middle) * (middle - 1)) + middle
    return int(math.copysign(grown, behind))


def block_by_loops(block, shape, x, asking, far):
    """One document's states after a block: questions from `asking` (L, D), answers from x (L, D). He et al. 2021: a
    score is the sum of content to content, content to position and position to content, over the root of 3d."""
    length, size = len(x), shape.head_width
    weight, bias = block.attention.qkv.weight, block.attention.qkv.bias
    wide = shape.heads * size
    q, k, v = (
        part @ weight[at : at + wide].T + bias[at : at + wide] for part, at in ((asking, 0), (x, wide), (x, 2 * wide))
    )
    far_q, far_k = (far @ weight[at : at + wide].T + bias[at : at + wide] for at in (0, wide))
    mixed = torch.zeros(length, wide, dtype=x.dtype)
    for head in range(shape.heads):
        mine = slice(head * size, (head + 1) * size)
        for i in range(length):
            scores = []
            for j in range(length):
                number = min(
                    max(bucket(i - j, shape.buckets, shape.distance) + shape.buckets, 0), 2 * shape.buckets - 1
                )
                content = q[i, mine] @ k[j, mine]
                to_place = q[i, mine] @ far_k[number, mine]
                from_place = k[j, mine] @ far_q[number, mine]
                scores.append(float(content + to_place + from_place) / math.sqrt(3 * size))
            shares = torch.tensor(scores, dtype=x.dtype).softmax(0)
            mixed[i, mine] = shares @ v[:, mine]
    out = mixed @ block.attention.out.weight.T + block.attention.out.bias
    rows = []
    for i in range(length):  # what is added to is what asked
        inner = normed(asking[i] + out[i], block.attention_norm, shape.eps)
        up = torch.nn.functional.gelu(block.inner.up.weight @ inner + block.inner.up.bias)
        rows.append(normed(inner + block.inner.down.weight @ up + block.inner.down.bias, block.inner_norm, shape.eps))
    return torch.stack(rows)


@pytest.mark.parametrize("enhanced", [0, 1, 2, 3])
def test_the_decoder_asks_from_absolute_positions(enhanced):
    """Its first question is the state before the last block plus the position, its next ones are its own answers;
    keys and values stay those states, and the block stays the last one."""
    shape = replace(SHAPE, enhanced=enhanced)
    model = drawn(shape)
    lengths = (7, 1, 15)
    tokens = torch.from_numpy(np.random.default_rng(3).integers(0, 50, sum(lengths)))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    with torch.no_grad():
        found = model(tokens, packed(bounds))
        far = torch.stack([normed(row, model.stack.far_norm, shape.eps) for row in model.stack.far])
        for start, end in pairwise(bounds):
            words = [
                normed(model.embedding.weight[token], model.embedding.norm, shape.eps) for token in tokens[start:end]
            ]
            x = torch.stack(words)
            for block in model.stack.blocks[: len(model.stack.blocks) - bool(enhanced)]:
                x = block_by_loops(block, shape, x, x, far)
            asking = x
            if enhanced:
                asking = x + model.stack.absolute[: end - start]
            for _ in range(enhanced):
                asking = block_by_loops(model.stack.blocks[-1], shape, x, asking, far)
            torch.testing.assert_close(found[start:end], asking, atol=1e-10, rtol=1e-10)


def test_absolute_positions_tell_only_at_the_end():
    """Without them the same words in a row are the same state wherever distances are the same."""
    model = drawn(SHAPE)
    tokens, layout = torch.full((1,), 7), packed([0, 1])
    with torch.no_grad():
        before = model(tokens, layout)
        model.stack.absolute += 1.0 + torch.arange(16)
        assert (model(tokens, layout) - before).abs().max() > 1e-3
        held = dict(model.state_dict())
        plain = Model(replace(SHAPE, enhanced=0)).double().eval()
        plain.load_state_dict({name: each for name, each in held.items() if name != "stack.absolute"})
        alone = plain(tokens, layout)
        model.stack.absolute.zero_()
        assert not torch.allclose(model(tokens, layout), alone)  # the second pass remains


def test_every_weight_of_the_decoder_learns():
    model = drawn(SHAPE)
    model(torch.arange(20), packed([0, 8, 20])).square().sum().backward()
    silent = [name for name, weight in model.named_parameters() if name.startswith("stack") and not weight.grad.any()]
    assert silent == []


@pytest.mark.parametrize(("buckets", "distance"), [(256, 512), (32, 512), (8, 64), (4, 10), (16, 17), (64, 2048)])
def test_buckets_of_distances_are_those_of_the_formula(buckets, distance):
    behind = torch.arange(-3 * distance, 3 * distance + 1)
    found = deberta_bucket(behind, buckets=buckets, distance=distance)
    for at, mine in zip(behind.tolist(), found.tolist(), strict=True):
        exact = (
            math.log(max(abs(at), 1) / (buckets // 2)) / math.log((distance - 1) / (buckets // 2)) * (buckets // 2 - 1)
        )
        if abs(exact - round(exact)) > 1e-4:  # else float32 may fall to either side of the edge
            assert mine == bucket(at, buckets, distance), at
    assert torch.equal(found, -found.flip(0))


def test_distances_as_they_are():
    behind = torch.arange(-9, 10)
    assert torch.equal(deberta_bucket(behind, buckets=4, distance=0), behind)


@pytest.mark.parametrize(("buckets", "distance"), [(256, 512), (32, 512), (8, 64), (4, 10), (16, 17), (64, 2048)])
def test_buckets_are_those_of_transformers(buckets, distance):
    theirs = pytest.importorskip("transformers.models.deberta_v2.modeling_deberta_v2")
    behind = torch.arange(-3 * distance, 3 * distance + 1)
    expected = theirs.make_log_bucket_position(behind, buckets, distance).long()
    assert torch.equal(deberta_bucket(behind, buckets=buckets, distance=distance), expected)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20), (64, 1024)])
def test_buckets_of_t5_are_those_of_transformers(buckets, distance, causal):
    theirs = pytest.importorskip("transformers.models.t5.modeling_t5")
    ahead = torch.arange(-3 * distance, 3 * distance + 1)
    expected = theirs.T5Attention._relative_position_bucket(ahead, not causal, buckets, distance)
    assert torch.equal(t5_bucket(ahead, buckets=buckets, distance=distance, causal=causal), expected)
