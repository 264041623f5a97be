import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tundish.operators.model import masking
from tundish.operators.model.hiding import Hiding, hide
from tundish.operators.model.plan import Plan, Source, Stretch, weights_of
from tundish.operators.model.rows import Layout, Shard, cut
from tundish.operators.model.stream import Stream, ahead

IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}


def on_device(tokens, keys, epochs, hiding):
    """The same by torch, as it runs on a GPU."""
    rows, turns = torch.from_numpy(keys.view(np.int64)), torch.from_numpy(epochs)
    inputs, labels, digest = masking.mask(
        torch.from_numpy(tokens.astype(np.int64)),
        rows,
        turns,
        seed=hiding.seed,
        rate=hiding.rate,
        vocabulary=hiding.vocabulary,
        specials=sorted(hiding.specials.values()),
        mask_id=hiding.specials["[MASK]"],
    )
    return inputs.numpy(), labels.numpy(), int(digest) % 2**64


@settings(max_examples=120, deadline=None)
@given(
    st.integers(1, 9),
    st.sampled_from([1, 5, 64, 127, 1000]),
    st.floats(0.001, 1),
    st.integers(6, 300),
    st.integers(0, 2**63),
)
def test_the_host_hides_the_bits_that_a_device_hides(rows, length, rate, vocabulary, seed):
    source = np.random.default_rng(seed)
    tokens = source.integers(0, vocabulary, (rows, length), dtype=np.int32)
    tokens[::2, length // 2 :] = 0
    keys, epochs = source.integers(0, 2**64, rows, dtype=np.uint64), source.integers(0, 1000, rows)
    ids = IDS if seed % 2 else IDS | {"[MASK]": vocabulary - 1}  # neighbours, or not
    hiding = Hiding(vocabulary, ids, seed, rate)
    inputs, labels, digest = on_device(tokens, keys, epochs, hiding)
    found = hide(tokens.copy(), keys, epochs, hiding)
    assert (found.inputs == inputs).all()
    assert found.places.tolist() == np.flatnonzero(labels != masking.IGNORED).tolist()
    assert found.labels.tolist() == labels[labels != masking.IGNORED].tolist()
    assert found.counts.tolist() == (labels != masking.IGNORED).sum(1).tolist()
    assert found.digest == digest


def test_what_cannot_be_hidden_is_refused():
    with pytest.raises(ValueError, match="mask rate of 0"):
        Hiding(9, IDS, 1, 0)
    with pytest.raises(ValueError, match="special"):
        Hiding(5, IDS, 1, 0.3)
    for token in (9, 70_000, 2**32 - 1):
        tokens = np.array([[5, 6, token]], np.uint32).view(np.int32)
        with pytest.raises(ValueError, match=f"token {token} is outside the vocabulary of 9"):
            hide(tokens, np.zeros(1, np.uint64), np.zeros(1, np.int64), Hiding(9, IDS, 1, 0.3))


LAYOUT = Layout(64, 24)


def shards(counts, seed):
    source, found = np.random.default_rng(seed), []
    for documents in counts:
        offsets = np.concatenate([[0], np.cumsum(source.integers(0, 90, documents))]).astype(np.int64)
        tokens = source.integers(5, 500, offsets[-1]).astype(np.uint16)
        found.append(Shard(tokens, offsets, cut(offsets, LAYOUT)))
    return found


def streamed(batch=5, window=2, **other):
    held = {"web": shards([40, 0, 25, 31], 1), "books": shards([18, 7], 2)}
    sources = tuple(Source(name, tuple(len(s.starts) - 1 for s in each)) for name, each in held.items())
    plan = Plan(3, sources, (Stretch(0, weights_of(sources)),), ((0, batch),), window, **other)
    named = list(held.values())
    return Stream(plan, LAYOUT, Hiding(500, IDS, 7, 0.3), lambda source, shard, position: named[source][shard]), named


def whole(stream, step, world=1):
    return [stream.batch(stream.plan.places(stream.plan.share(step, world=world, rank=rank))) for rank in range(world)]


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
def test_batches_are_bit_identical_for_any_world_size(world):
    stream, _ = streamed()
    for step in (0, 1, 17, 10**9):
        [alone] = whole(stream, step)
        parts = whole(stream, step, world)
        assert np.concatenate([part.inputs for part in parts]).tolist() == alone.inputs.tolist()
        assert np.concatenate([part.sizes for part in parts]).tolist() == alone.sizes.tolist()
        assert np.concatenate([part.labels for part in parts]).tolist() == alone.labels.tolist()
        assert np.concatenate([part.counts for part in parts]).tolist() == alone.counts.tolist()
        shifts = np.cumsum([0, *(part.inputs.size for part in parts)])
        for name in ("places", "bounds"):
            moved = [getattr(part, name) + shift for part, shift in zip(parts, shifts, strict=False)]
            moved = [
                each[:-1] if name == "bounds" and number + 1 < world else each for number, each in enumerate(moved)
            ]
            assert np.concatenate(moved).tolist() == getattr(alone, name).tolist()
        assert sum(part.digest for part in parts) % 2**64 == alone.digest


def test_an_epoch_of_batches_holds_every_token_once():
    stream, held = streamed(batch=6)
    tokens = np.concatenate([shard.tokens for each in held for shard in each])
    size = sum(source.size for source in stream.plan.sources)
    found = []
    for epoch in range(2):
        places = stream.plan.places(np.arange(size) + epoch * size)
        batch = stream.batch(places)
        inputs = batch.inputs.flatten()
        inputs[batch.places] = batch.labels
        assert sorted(inputs[inputs > 4].tolist()) == sorted(tokens.tolist())
        found.append((places, batch))
    rows = [{tuple(row): at for at, row in enumerate(zip(p.source, p.shard, p.row, strict=True))} for p, _ in found]
    assert rows[0].keys() == rows[1].keys()
    same = sum(np.array_equal(found[0][1].inputs[rows[0][row]], found[1][1].inputs[rows[1][row]]) for row in rows[0])
    assert same < size / 4  # other places are hidden in the second epoch


def test_segments_and_positions_follow_from_the_bounds():
    stream, _ = streamed()
    [batch] = whole(stream, 4)
    segments, positions = batch.spread()
    for row in range(len(batch.inputs)):
        seen, number = None, -1
        for place in range(LAYOUT.row):
            if place >= batch.sizes[row]:
                assert (segments[row, place], positions[row, place]) == (-1, 0)
                continue
            number = number + 1 if segments[row, place] == seen else 0
            seen = segments[row, place]
            assert positions[row, place] == number < LAYOUT.context
    assert batch.longest <= LAYOUT.context
    assert len(set(segments[segments >= 0].tolist())) == len(batch.bounds) - 1 - (batch.sizes < LAYOUT.row).sum()


def test_the_stream_is_the_same_on_every_machine():
    stream, _ = streamed()
    [batch] = whole(stream, 11)
    assert (batch.digest, int(batch.inputs.sum()), batch.bounds[:5].tolist()) == GOLDEN


GOLDEN = (2312919936182355917, 53229, [0, 12, 17, 31, 55])


def test_batches_come_in_order_one_ahead_and_errors_reach_the_caller():
    stream, _ = streamed()
    steps = [3, 4, 5, 2000, 2001, 7]
    for batches in (stream.batches(steps, world=2, rank=1), ahead(stream.batches(steps, world=2, rank=1))):
        for step, (said, batch) in zip(steps, batches, strict=True):
            assert said == step
            assert batch.inputs.tolist() == whole(stream, step, 2)[1].inputs.tolist()

    def made():
        yield from range(3)
        raise ValueError("no third")

    coming = ahead(made())
    assert [next(coming), next(coming), next(coming)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no third"):
        next(coming)
    assert list(ahead(iter(()))) == []
    given = ahead(itertools.count())
    assert [next(given) for _ in range(5)] == [0, 1, 2, 3, 4]
    given.close()  # while one is on its way


def test_places_of_many_steps_are_those_of_each():
    stream, _ = streamed(batch=700)
    steps = [*range(20), 31, 30]
    for step, places in stream.shares(steps, world=3, rank=2):
        alone = stream.plan.places(stream.plan.share(step, world=3, rank=2))
        assert [column.tolist() for column in tuple(places)] == [column.tolist() for column in tuple(alone)]


def test_a_shard_that_is_not_what_the_plan_counted_is_refused():
    stream, held = streamed()
    held[0][2] = held[0][0]
    places = stream.plan.places(np.arange(200))
    with pytest.raises(ValueError, match=r"shard 2 of 'web' has \d+ rows and the plan counted"):
        stream.batch(places)
