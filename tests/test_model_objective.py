"""Objectives and losses on the family: sums that add up, operations counted, presets, fresh weights, learning."""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from tundish.operators.model import flops
from tundish.operators.model.corrupting import Corrupted
from tundish.operators.model.family import Model
from tundish.operators.model.following import Following
from tundish.operators.model.hiding import Hiding, Masked
from tundish.operators.model.init import initialise, parameters_of
from tundish.operators.model.losses import fused, graded, vocabulary_loss
from tundish.operators.model.objective import (
    GUESSED,
    TABLES,
    TOKENS,
    Detection,
    counts_of,
    gradients_of,
    guess,
    part_of,
    sampled,
    shortened,
    whole,
)
from tundish.operators.model.packed import packed
from tundish.operators.model.plan import Plan, Source, Stretch
from tundish.operators.model.presets import PRESETS, shape_of
from tundish.operators.model.rows import Layout, Shard, cut
from tundish.operators.model.shape import Shape
from tundish.operators.model.stream import Aim, Stream
from tundish.stages.blockwise import compilations
from tundish.stages.pretrain_legs import filled_up

torch.set_num_threads(1)
SHAPE = Shape(vocabulary=50, width=32, layers=3, heads=2, ff=48, length=24)
IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
CPU = torch.device("cpu")
T5 = {"stack": "pair", "decoder": 2, "positions": "buckets", "rms": True, "scaled": False, "embedding_norm": False}
T5 |= {"first_norm": True, "transform": False, "head_bias": False}


def drawn(shape=SHAPE, seed=1):
    with torch.device("meta"):
        model = Model(shape)
    initialise(model, shape, seed=seed)
    return model.double()


def documents(*lengths, seed=0):
    return [np.random.default_rng([seed, n]).integers(5, 50, size) for n, size in enumerate(lengths)]


def streamed(texts, length, rate, vocabulary=50):
    """A stream over these documents, and the places of its rows in their order."""
    offsets, layout = np.cumsum([0, *map(len, texts)]), Layout(length, length)
    shard = Shard(np.concatenate(texts).astype(np.uint16), offsets, cut(offsets, layout))
    source = Source("toy", (len(shard.starts) - 1,))
    plan = Plan(1, (source,), (Stretch(0, (("toy", 1),)),), ((0, 1),))
    stream = Stream(plan, layout, Hiding(vocabulary, IDS, 1, rate), lambda source, number, position: shard)
    found = plan.places(np.arange(source.size))
    found.row.sort()
    return stream, found


def test_a_part_is_the_rows_of_the_stream_and_its_losses_add_up():
    """A packed batch against its documents alone: the loss, every gradient, and the count."""
    texts, model = documents(5, 9, 3, 22), drawn()
    stream, places = streamed(texts, 24, 0.4)
    batch = stream.batch(places)
    part = part_of(batch, CPU, longest=24)
    gradients = gradients_of(model)
    [term] = guess(model, part, causal=False, dtype=None)
    whole([term], counts_of(batch)).backward()
    expected = gradients.clone()
    gradients.zero_()
    total, found = torch.zeros((), dtype=torch.float64), 0
    bounds = part.packed.bounds.tolist()
    for first, last in itertools.pairwise(bounds):
        inside = (part.places >= first) & (part.places < last)
        if not inside.any():
            continue
        states = model(part.tokens[first:last], packed([0, last - first]))
        loss = F.cross_entropy(model.logits(states[part.places[inside] - first]), part.labels[inside], reduction="sum")
        (loss / len(part.labels)).backward()
        total, found = total + loss.detach(), found + int(inside.sum())
    assert found == len(part.labels) == counts_of(batch)[GUESSED] > 3
    assert counts_of(batch)[TOKENS] == sum(map(len, texts)) + 2 * 4
    torch.testing.assert_close(term.total.detach(), total, atol=1e-11, rtol=0)
    torch.testing.assert_close(gradients, expected, atol=1e-12, rtol=0)


def test_positions_are_relative_and_order_matters():
    model, text = drawn(), torch.tensor([2, 9, 17, 30, 3])
    alone = model(text, packed([0, 5]))
    shifted = model(text, packed([0, 5])._replace(positions=torch.arange(5) + 13))
    torch.testing.assert_close(alone, shifted, atol=1e-10, rtol=0)
    assert not torch.allclose(alone[0], model(text[[0, 2, 1, 3, 4]], packed([0, 5]))[0], atol=1e-6)


@pytest.mark.parametrize("how", ["plain", "fused", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_loss_over_a_vocabulary_is_cross_entropy_chunk_by_chunk(dtype, how):
    one = {"plain": None, "fused": fused}.get(how)
    if how == "compiled":  # by the CPU's compiler where there is one, else without its last step
        backend = "inductor" if shutil.which("g++") else "aot_eager"
        one = torch.compile(fused, fullgraph=True, dynamic=False, backend=backend)
    torch.manual_seed(0)
    states = torch.randn(101, 16).to(dtype).requires_grad_()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    table, bias = (torch.randn(size, dtype=wide).requires_grad_() for size in ((77, 16), (77,)))
    labels = torch.randint(0, 77, (101,))
    labels[::7] = -100
    loss = vocabulary_loss(states, table, bias, labels, z=1e-3, at_once=32, fused=one)
    (loss * 0.37).backward()
    ours = [each.grad.double().clone() for each in (states, table, bias)]
    for each in (states, table, bias):
        each.grad = None
    scores = states.double() @ table.to(dtype).double().T + bias.double()
    plain = F.cross_entropy(scores, labels, ignore_index=-100, reduction="sum")
    plain = plain + 1e-3 * (scores.logsumexp(1)[labels != -100] ** 2).sum()
    (plain * 0.37).backward()
    near = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=near)
    for mine, each in zip(ours, (states, table, bias), strict=True):
        torch.testing.assert_close(mine, each.grad.double(), atol=near, rtol=near)
    assert vocabulary_loss(states[:0], table, None, labels[:0], fused=one) == 0


def test_a_compiled_head_has_one_shape():
    """However many places are guessed: chunks are filled up, so nothing is compiled anew from step to step."""
    torch._dynamo.reset()
    one = torch.compile(fused, fullgraph=True, dynamic=False, backend="aot_eager")
    table, before = torch.randn(50, 8, requires_grad=True), None
    for places in (33, 64, 7, 100):
        loss = vocabulary_loss(torch.randn(places, 8), table, None, torch.arange(places) % 50, at_once=32, fused=one)
        assert torch.isfinite(loss)
        before = before or compilations()
    assert compilations() == before


def test_padding_longer_than_any_document_is_cut():
    """A kernel that is told the longest document would leave the rest of a longer one unwritten."""
    found, prefixes = shortened(np.array([0, 5, 7, 30, 32], np.int32), np.array([1, 2, 3, 4], np.int32), 10)
    assert found.tolist() == [0, 5, 7, 17, 27, 30, 32]
    assert prefixes.tolist() == [1, 2, 3, 3, 3, 4]
    one, places = streamed(documents(5, 3, 6, 4), 24, 0.4)
    batch = one.batch(places)
    for static in (False, True):
        filled = filled_up(batch, len(batch.sizes) + 2, 0)
        part = part_of(filled, CPU, longest=8, static=static)
        lengths = part.packed.bounds.diff()
        assert int(lengths.max()) <= part.packed.longest == 8
        assert int(part.packed.bounds[-1]) == filled.inputs.size
        for place, number in zip(part.packed.positions.tolist(), part.packed.documents.tolist(), strict=True):
            assert 0 <= place < int(lengths[number])


@pytest.mark.parametrize(
    "more",
    [{}, {"gated": False, "bias": True, "positions": "learned", "norm": "post", "embedding": 16}, T5],
    ids=["modern", "bert", "t5"],
)
def test_operations_are_those_torch_counts(more):
    shape = Shape(vocabulary=96, width=64, layers=3, heads=4, ff=80, length=32, **more)
    model = drawn(shape).float()
    tokens, answers = torch.randint(0, 96, (64,)), torch.randint(0, 96, (32,))
    given = (answers, packed([0, 16, 32])) if shape.decoder else ()
    counter = FlopCounterMode(display=False)
    with counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model.logits(model(tokens, packed([0, 32, 64]), *given)[:16]).sum().backward()
    # torch counts all pairs of a causal decoder, of which half are used
    unseen = shape.decoder * 4 * 64 * (2 * 16 * 16 - flops.pairs([16, 16], causal=True)) * flops.PASSES
    ours = flops.training(shape, [32, 32], 16, answers=[16, 16] if shape.decoder else [])
    assert counter.get_total_flops() == pytest.approx(ours + unseen, rel=0.005)


def test_operations_of_known_models():
    """The figures that the field's throughput is reckoned with."""
    base = shape_of("modern-base", vocabulary=50_368, length=1024)
    assert flops.a_token(base, length=1024, rate=0.3) == pytest.approx(0.824e9, rel=0.001)
    bert = shape_of("bert", vocabulary=30_522, length=512)
    assert flops.a_token(bert, length=128, rate=0.3) == pytest.approx(0.567e9, rel=0.001)
    assert flops.a_token(bert, length=512, rate=0.3) == pytest.approx(0.610e9, rel=0.001)


SIZES = {  # millions, as their sources say, with their own vocabularies
    **{"bert": 109.5, "roberta": 124.7, "electra-small": 13.5, "deberta-v3": 184, "modern-base": 149.7},
    **{"modern-large": 395.9, "gpt2": 124.4, "albert": 11.2, "t5-small": 77.0, "switch": 619},
}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_have_the_sizes_their_sources_say(name):
    with torch.device("meta"):
        size = parameters_of(Model(shape_of(name, vocabulary=PRESETS[name].vocabulary, length=PRESETS[name].length)))
    assert size == pytest.approx(1e6 * SIZES.get(name, size / 1e6), rel=0.015)
    assert PRESETS[name].source


def test_shapes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="tiny, modern-tiny"):
        shape_of("huge", vocabulary=10, length=8)
    for more, sentence in (
        ({"heads": 5}, "does not divide"),
        ({"norm": "around"}, "choose one of pre, post"),
        ({"stack": "pair"}, "a pair has some"),
        ({"enhanced": 2}, "belong to disentangled positions"),
        ({"experts": 4}, "set gated to false"),
    ):
        with pytest.raises(ValueError, match=sentence):
            replace(SHAPE, **more)
    with pytest.raises(ValueError, match="longer than the model"):
        drawn(replace(SHAPE, positions="learned"))(torch.zeros(25, dtype=torch.long), packed([0, 25]))
    with pytest.raises(ValueError, match="needs answers"):
        drawn(replace(SHAPE, **T5))(torch.zeros(5, dtype=torch.long), packed([0, 5]))


def test_weights_are_drawn_by_the_seed_alone():
    one, same, other = drawn(), drawn(), drawn(seed=2)
    assert all((a == b).all() for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not (one.embedding.weight == other.embedding.weight).all()
    block = one.stack.blocks[0]
    spread = float(block.attention.qkv.weight.std().detach())
    assert 0.015 < spread < 0.02  # a normal of 0.02, cut at two deviations, has 0.0176
    assert float(block.inner.down.weight.std().detach()) == pytest.approx(spread / 6**0.5, rel=0.1)


def test_causal_is_masking_the_last_token():
    """GPT as a special case: under a causal mask, hiding a document's last token asks what the next-token head asks.

    For every prefix of a document: the state before the hidden token does not see it, so scores of the token after
    position t are those of the causal model at t, whatever stands at t + 1."""
    model = drawn(replace(SHAPE, stack="decoder"))
    stream, places = streamed(documents(12), 24, 0.3)
    batch = stream.batch(places, Aim(Following()))
    part = part_of(batch, CPU)
    states = model(part.tokens, part.packed)
    text = part.tokens[:14]
    for place, label in zip(part.places.tolist(), part.labels.tolist(), strict=True):
        assert label == text[place + 1]
        hidden = text[: place + 2].clone()
        hidden[-1] = IDS["[MASK]"]  # the last token of this prefix, masked
        alone = model(hidden, packed([0, place + 2]))
        torch.testing.assert_close(alone[place], states[place], atol=1e-12, rtol=0)
    bidirectional = drawn(SHAPE)
    [own] = guess(bidirectional, part, causal=True, dtype=None)
    [same] = guess(model, part, causal=None, dtype=None)
    assert float(own.total) == float(same.total)


def test_what_is_filled_in_follows_the_generator_and_its_number():
    torch.manual_seed(0)
    states, table = torch.randn(4, 6), torch.randn(9, 6)
    chances = (states @ table.t()).softmax(1)
    many = 20_000
    uniforms = torch.rand(many)
    for row in range(4):
        found = torch.bincount(sampled(states[row].expand(many, -1), table, None, uniforms), minlength=9) / many
        torch.testing.assert_close(found, chances[row], atol=0.015, rtol=0)
    assert (sampled(states, table, None, torch.zeros(4)) == 0).all()
    assert (sampled(states, table, None, torch.full((4,), 1.0)) < 9).all()


def test_a_detection_shares_its_table_as_told():
    shape = replace(SHAPE, norm="post", bias=True, final_norm=False, dropout=0.0, positions="learned", types=2)
    small = replace(shape, width=16, heads=1, embedding=32)
    stream, places = streamed(documents(20, 12), 24, 0.3)
    part = part_of(stream.batch(places, Aim(Masked(shares=(85, 0), sampled=True))), CPU)
    for sharing in ("all", "gdes", "none"):
        both = Detection(shape, small, sharing=sharing).double()
        for number, each in enumerate((both.generator, both.discriminator)):
            initialise(each, each.shape, seed=number)
        initialise(both.detector, shape, seed=3)
        both.tie()
        masked, detected = both(part)
        assert (masked.over, detected.over, detected.weight) == (GUESSED, TOKENS, 50.0)
        table = both.generator.embedding.weight
        [through] = torch.autograd.grad(detected.total, table, allow_unused=True)
        assert (through is None) == (sharing != "all")
        one, other = both.generator.embedding, both.discriminator.embedding
        assert all((getattr(one, name) is getattr(other, name)) == (sharing == "all") for name in TABLES)
        if sharing == "gdes":
            assert torch.autograd.grad(both(part)[1].total, both.discriminator.embedding.weight)[0].abs().sum() > 0
    with pytest.raises(ValueError, match="cannot share a table"):
        Detection(shape, replace(small, embedding=8))
    with pytest.raises(ValueError, match="choose one of them"):
        Detection(shape, small, sharing="some")


LEARNT = {
    "masked": (SHAPE, Aim(Masked()), False),
    "spans hidden": (SHAPE, Aim(Masked(unit="span")), False),
    "causal": (replace(SHAPE, stack="decoder"), Aim(Following()), None),
    "prefix": (replace(SHAPE, stack="decoder"), Aim(Following(prefixed=True)), True),
    "corrupted": (replace(SHAPE, **T5, vocabulary=70), Aim(Corrupted(50, sentinels=20, descending=False)), None),
    "experts": (replace(SHAPE, experts=3, gated=False, sparse=2), Aim(Masked()), False),
    "disentangled": (
        replace(SHAPE, positions="disentangled", buckets=8, distance=24, norm="post", bias=True, final_norm=False),
        Aim(Masked()),
        False,
    ),
}


@pytest.mark.parametrize("name", LEARNT)
def test_every_objective_learns_rows_by_heart(name):
    shape, aim, causal = LEARNT[name]
    torch.manual_seed(0)
    model = drawn(shape).float()
    stream, places = streamed(documents(20, 20, 20, 20), 24, 0.3, shape.vocabulary)
    batch = stream.batch(places, aim)
    part = part_of(batch, CPU)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    loss = torch.zeros(())
    for _ in range(150):
        optimizer.zero_grad()
        terms = guess(model, part, causal=causal, dtype=None)
        loss = whole(terms, counts_of(batch))
        loss.backward()
        optimizer.step()
    # four documents begin alike, so what a causal model says of their first token cannot be better than one in four
    least = 4 * np.log(4) if name == "causal" else 0.0
    assert (float(terms[0].total.detach()) - least) / counts_of(batch)[GUESSED] < 0.05


def test_a_discriminator_learns_what_was_replaced():
    torch.manual_seed(0)
    shape = replace(SHAPE, norm="post", bias=True, final_norm=False)
    both = Detection(shape, shape, sharing="none")
    for number, each in enumerate((both.generator, both.discriminator, both.detector)):
        initialise(each, shape, seed=number)
    stream, places = streamed(documents(20, 20, 20, 20), 24, 0.3)
    batch = stream.batch(places, Aim(Masked(shares=(85, 0), sampled=True)))
    part = part_of(batch, CPU)
    optimizer = torch.optim.Adam(both.parameters(), lr=2e-3)
    first = last = 0.0
    for _ in range(150):
        optimizer.zero_grad()
        terms = both(part)
        whole(terms, counts_of(batch)).backward()
        optimizer.step()
        last = float(terms[1].total) / counts_of(batch)[TOKENS]
        first = first or last
    assert first > 0.5
    assert last < first / 5


def test_a_token_outside_the_vocabulary_is_refused():
    stream, places = streamed([np.array([7, 60])], 8, 0.3)
    with pytest.raises(ValueError, match="token 60 is outside the vocabulary of 50"):
        stream.batch(places)


def test_measuring_makes_no_gradients():
    """Without gradients a head costs its scores alone."""
    asked = []

    def work(part, table, bias, label, z, wanted):
        asked.append(wanted)
        return graded(part, table, bias, label, z, wanted)

    states, table, labels = torch.randn(5, 4), torch.randn(9, 4, requires_grad=True), torch.arange(5)
    with torch.no_grad():
        still = vocabulary_loss(states, table, None, labels, at_once=8, fused=work)
    told = vocabulary_loss(states, table, None, labels, at_once=8, fused=work)
    assert asked == [False, True]
    torch.testing.assert_close(still, told.detach())
