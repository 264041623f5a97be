"""What the stream makes of rows beside masked tokens: causal, prefix, span corruption, uniforms, fixed sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hashes import CHOOSE, NOISE, PREFIX, SAMPLE, mixed, number
from tundish.operators.model import masking
from tundish.operators.model.batch import IGNORED
from tundish.operators.model.corrupting import Corrupted, paired, sentinels_of
from tundish.operators.model.following import Following
from tundish.operators.model.hiding import Hiding, Masked, hide
from tundish.operators.model.rows import Frame, Layout, Shard, cut, fill

IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
FRAME = Frame(2, 3, 0)
V, SENTINEL = 500, 499


def shard(documents, longest, layout, seed):
    source = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(source.integers(0, longest, documents))]).astype(np.int64)
    tokens = source.integers(1, V - 100, offsets[-1]).astype(np.uint16)  # [CLS], [SEP], [MASK] among them
    return Shard(tokens, offsets, cut(offsets, layout))


def filled(layout, seed, documents=20, longest=60):
    one = shard(documents, longest, layout, seed)
    count = len(one.starts) - 1
    rows = fill([one], np.zeros(count, int), np.arange(count), layout, FRAME)
    source = np.random.default_rng(seed)
    return rows, source.integers(0, 2**64, count, dtype=np.uint64), source.integers(0, 9, count)


def segments_of(rows, length):
    """(row, place in it, tokens) of every segment but padding."""
    flat = rows.tokens.reshape(-1).tolist()
    for first, end in zip(rows.bounds[:-1].tolist(), rows.bounds[1:].tolist(), strict=True):
        row, place = divmod(first, length)
        if place < rows.sizes[row]:
            yield row, place, flat[first:end]


LAYOUTS = st.sampled_from([Layout(3, 3), Layout(4, 4), Layout(64, 24), Layout(200, 200)])


@settings(max_examples=60, deadline=None)
@given(LAYOUTS, st.booleans(), st.integers(0, 2**63))
def test_next_tokens_as_a_slow_twin_finds_them(layout, prefixed, seed):
    rows, keys, epochs = filled(layout, seed)
    before = rows.tokens.copy()
    batch = Following(prefixed).batch(rows, keys, epochs, Hiding(V, IDS, seed, 0.3), None)
    places, labels, prefixes, digest, counts = [], [], [], 0, [0] * len(keys)
    for row, place, tokens in segments_of(rows, layout.row):
        lot = number(PREFIX, seed, int(epochs[row]), int(keys[row]), place) & 0xFFFFFFFF
        prefix = 1 + (lot * (len(tokens) - 1) >> 32) if prefixed else 1
        prefixes.append(prefix)
        for at in range(prefix - 1, len(tokens) - 1):
            places.append(row * layout.row + place + at)
            labels.append(tokens[at + 1])
            word = number(CHOOSE, seed, int(epochs[row]), int(keys[row]), place + at)
            digest += mixed(word ^ ((tokens[at + 1] << 32) + tokens[at]))
            counts[row] += 1
    assert (batch.inputs == before).all()
    assert (batch.places.tolist(), batch.labels.tolist()) == (places, labels)
    assert (batch.counts.tolist(), batch.digest) == (counts, digest % 2**64)
    if not prefixed:
        assert batch.prefixes is None
        return
    padding = [int(first) % layout.row >= rows.sizes[int(first) // layout.row] for first in batch.bounds[:-1]]
    assert batch.prefixes[~np.array(padding)].tolist() == prefixes
    assert not batch.prefixes[padding].any()
    sizes = np.diff(batch.bounds)[~np.array(padding)]
    assert (batch.prefixes[~np.array(padding)] < sizes).all()  # something is left to guess


def test_prefixes_are_of_every_length_equally_often():
    layout = Layout(12, 12)
    tokens = np.tile(np.array([[2, *range(5, 15), 3]], np.int32), (4000, 1))
    rows = fill(
        [Shard(tokens[0, 1:-1], np.array([0, 10]), np.array([0, 10]))], [0] * 4000, np.zeros(4000, int), layout, FRAME
    )
    keys, epochs = np.arange(4000, dtype=np.uint64), np.zeros(4000, np.int64)
    found = Following(True).batch(rows, keys, epochs, Hiding(V, IDS, 1, 0.3), None).prefixes
    counts = np.bincount(found, minlength=13)
    assert counts[0] == counts[12] == 0
    assert ((counts[1:12] - 4000 / 11) ** 2 / (4000 / 11)).sum() < 10 + 5 * np.sqrt(20)


def composition(items, parts, draws):
    """Sizes of parts: each gap between two items is a cut with the share of cuts wanted among gaps left."""
    sizes, wanted = [0], parts - 1
    for item in range(items):
        sizes[-1] += 1
        left = items - 1 - item
        if left and (draws[item] * left) >> 32 < wanted:
            wanted -= 1
            sizes.append(0)
    return sizes


def corrupted(tokens, kind, rate, draw):
    """Inputs and labels of a segment [CLS] … [SEP], slowly."""
    inner = tokens[1:-1]
    noise = min(max(round(len(inner) * rate), 1), len(inner) - 1)
    if noise < 1:
        return [*inner, 3], [3]
    spans = min(max(round(noise / kind.mean), 1), noise, len(inner) - noise, kind.sentinels)
    draws = [draw(place) >> 32 for place in range(len(inner))]
    hidden = composition(noise, spans, draws)
    kept = composition(len(inner) - noise, spans, draws[noise - 1 :])
    assert len(hidden) == len(kept) == spans
    shown, said, at = [], [], 0
    for number_, (keep, hide_) in enumerate(zip(kept, hidden, strict=True)):
        mark = kind.sentinel + (-number_ if kind.descending else number_)
        shown += [*inner[at : at + keep], mark]
        said += [mark, *inner[at + keep : at + keep + hide_]]
        at += keep + hide_
    return [*shown, 3], [*said, 3]


@settings(max_examples=60, deadline=None)
@given(
    LAYOUTS,
    st.floats(0.01, 1),
    st.floats(1, 8),
    st.booleans(),
    st.sampled_from([1, 3, 90]),
    st.integers(0, 2**63),
)
def test_spans_are_corrupted_as_a_slow_twin_does_and_every_token_comes_back(layout, rate, mean, down, most, seed):
    rows, keys, epochs = filled(layout, seed)
    kind = Corrupted(SENTINEL if down else SENTINEL - 90, down, most, rate, mean)
    batch = kind.batch(rows, keys, epochs, Hiding(V, IDS, seed, 0.3), None)
    shown, counts, number_ = [0] * len(keys), [0] * len(keys), 0
    for row, place, tokens in segments_of(rows, layout.row):

        def draw(at, row=row, place=place):
            return number(NOISE, seed, int(epochs[row]), int(keys[row]), place + 1 + at)

        inputs = batch.inputs[batch.bounds[number_] : batch.bounds[number_ + 1]].tolist()
        inside = slice(batch.answer_bounds[number_], batch.answer_bounds[number_ + 1])
        labels, answers = batch.labels[inside].tolist(), batch.answers[inside].tolist()
        assert (inputs, labels) == corrupted(tokens, kind, rate, draw)
        assert answers == [0, *labels[:-1]]
        said, back = iter(labels[:-1]), []
        spans = {}
        for token in said:
            if token in kind.ids:
                spans[token] = []
            else:
                spans[next(reversed(spans))].append(token)
        for token in inputs[:-1]:
            back += spans.pop(token) if token in kind.ids else [token]
        assert back == tokens[1:-1]
        assert not spans
        shown[row] += len(inputs)
        counts[row] += len(labels)
        number_ += 1
    assert number_ + 1 == len(batch.bounds) == len(batch.answer_bounds)
    tokens = sum(len(tokens) - 2 for _, _, tokens in segments_of(rows, layout.row))
    room = kind.room(tokens, number_)
    assert (len(batch.inputs) <= room[0], len(batch.labels) <= room[1]) == (True, True)
    assert (batch.sizes.tolist(), batch.counts.tolist()) == (shown, counts)
    assert (len(batch.inputs), len(batch.labels), len(batch.answers)) == (sum(shown), sum(counts), sum(counts))
    assert batch.places.tolist() == list(range(sum(counts)))


def test_corruption_has_the_sizes_of_t5_and_every_composition():
    """568 tokens with 15 % noise in spans of 3 make 512 inputs and 114 targets, [SEP] included (T5, section 3.1.4)."""
    layout = Layout(570, 570)
    one = Shard(np.full(568, 9), np.array([0, 568]), np.array([0, 568]))
    rows = fill([one], [0], np.zeros(1, int), layout, FRAME)
    zero = np.zeros(1, np.int64)
    batch = Corrupted(SENTINEL).batch(rows, zero.astype(np.uint64), zero, Hiding(V, IDS, 1, 0.3), None)
    assert (len(batch.inputs), len(batch.labels)) == (512, 114)
    layout, count = Layout(10, 10), 6000
    one = Shard(np.arange(11, 19), np.array([0, 8]), np.array([0, 8]))
    rows = fill([one], [0] * count, np.zeros(count, int), layout, FRAME)
    keys = np.arange(count, dtype=np.uint64)
    kind = Corrupted(SENTINEL, rate=0.5, mean=2)
    batch = kind.batch(rows, keys, np.zeros(count, np.int64), Hiding(V, IDS, 1, 0.3), None)
    shown = batch.inputs.reshape(count, 7)
    _, seen = np.unique([str(each) for each in shown.tolist()], return_counts=True)
    assert len(seen) == 9  # three ways to cut four in two, twice
    assert ((seen - count / 9) ** 2 / (count / 9)).sum() < 8 + 5 * np.sqrt(16)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(0, 100), st.integers(0, 100)).filter(lambda each: sum(each) <= 100),
    st.floats(0.01, 1),
    st.integers(0, 2**63),
)
def test_shares_and_rates_of_a_step_are_those_of_a_device(shares, rate, seed):
    source = np.random.default_rng(seed)
    tokens = source.integers(0, 90, (3, 120), dtype=np.int32)
    keys, epochs = source.integers(0, 2**64, 3, dtype=np.uint64), source.integers(0, 9, 3)
    found = hide(tokens.copy(), keys, epochs, Hiding(90, IDS, seed, 0.3), Masked(shares=shares), rate)
    rules = {"seed": seed, "rate": rate, "vocabulary": 90, "specials": tuple(IDS.values()), "mask_id": 4}
    named = torch.from_numpy(keys.view(np.int64)), torch.from_numpy(epochs)
    inputs, labels, digest = masking.mask(torch.from_numpy(tokens.astype(np.int64)), *named, **rules, shares=shares)
    assert (found.inputs == inputs.numpy()).all()
    assert found.places.tolist() == np.flatnonzero(labels.numpy() != IGNORED).tolist()
    assert found.digest == int(digest) % 2**64
    chosen = found.inputs.reshape(-1)[found.places]
    if shares[0] == 100:
        assert (chosen == 4).all()
    if sum(shares) == 0:
        assert (chosen == found.labels).all()


def test_a_uniform_number_for_every_hidden_place():
    rows, keys, epochs = filled(Layout(200, 100), 3, documents=2000)
    batch = Masked(shares=(85, 0), sampled=True).batch(rows, keys, epochs, Hiding(V, IDS, 7, 0.3), 0.5)
    row, place = np.divmod(batch.places, 200)
    for at in range(0, len(row), 997):
        lot = number(SAMPLE, 7, int(epochs[row[at]]), int(keys[row[at]]), int(place[at]))
        assert batch.uniforms[at] == (lot >> 40) / 2**24
    assert batch.uniforms.dtype == np.float32
    assert len(batch.uniforms) == len(batch.places)
    ordered = np.sort(batch.uniforms)
    assert abs(ordered - (np.arange(len(ordered)) + 0.5) / len(ordered)).max() < 1.95 / np.sqrt(len(ordered))
    again = filled(Layout(200, 100), 3, documents=2000)
    plain = Masked(shares=(85, 0)).batch(*again, Hiding(V, IDS, 7, 0.3), 0.5)
    assert plain.digest == batch.digest
    assert plain.uniforms is None


def test_sentinels_are_found_by_their_names():
    down = {f"<extra_id_{number}>": 499 - number for number in range(100)}
    assert sentinels_of(IDS | down) == Corrupted(499)
    assert sentinels_of({"<extra_id_0>": 7, "<extra_id_1>": 8}) == Corrupted(7, False, 2)
    assert [*sentinels_of({"<extra_id_0>": 7}).ids] == [7]
    for wrong in (IDS, {"<extra_id_0>": 7, "<extra_id_1>": 9}):
        with pytest.raises(ValueError, match=r"the sentinels \[.*\], and spans need neighbouring ids"):
            sentinels_of(wrong)


def test_texts_and_answers_become_a_batch():
    batch = paired([np.array([7, 8]), np.array([9])], [np.array([10]), np.array([11, 12])], FRAME)
    assert batch.inputs.tolist() == [7, 8, 3, 9, 3]
    assert batch.bounds.tolist() == [0, 3, 5]
    assert batch.answers.tolist() == [0, 10, 0, 11, 12]
    assert batch.labels.tolist() == [10, 3, 11, 12, 3]
    assert batch.answer_bounds.tolist() == [0, 2, 5]
    assert (batch.places.tolist(), batch.counts.tolist()) == ([0, 1, 2, 3, 4], [2, 3])
    with pytest.raises(ValueError, match="2 texts have 1 answers"):
        paired([np.array([7])] * 2, [np.array([7])], FRAME)


def test_what_cannot_be_served_is_refused():
    rows, keys, epochs = filled(Layout(64, 24), 1)
    for objective in (Following(), Corrupted(9, sentinels=5)):
        with pytest.raises(ValueError, match=r"token \d+ is outside the vocabulary of 10"):
            objective.batch(rows, keys, epochs, Hiding(10, IDS, 1, 0.3), None)
    for kind in (Corrupted(V), Corrupted(50), Corrupted(2, descending=False)):
        with pytest.raises(ValueError, match=r"sentinels .* are not all free ids of the vocabulary of 500"):
            kind.batch(rows, keys, epochs, Hiding(V, IDS, 1, 0.3), None)
    for wrong in ({"mean": 0.5}, {"sentinels": 0}, {"rate": 0}):
        with pytest.raises(ValueError, match=r"; (give|use)"):
            Corrupted(SENTINEL, **wrong)
