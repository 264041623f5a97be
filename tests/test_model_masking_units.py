"""Whole words and spans: the kernel against a slow twin, and what a hidden unit is and is not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hashes import CHOOSE, DRAW, LENGTH, mixed, number
from tundish.operators.model.hiding import Hiding, Masked, geometric, hide, uniform

IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
KINDS = {
    "words": Masked(unit="word"),
    "spans": Masked(unit="span"),
    "short": Masked(unit="span", lengths=uniform(3), shares=(100, 0)),
    "spans of words": Masked(unit="span", lengths=geometric(0.4, 4), whole=True, shares=(85, 0)),
    "pairs": Masked(unit="span", lengths=(0, 1), shares=(0, 50)),
}


def units_of(row, hiding, masked, draw):
    """The places of every unit of a row, by the words on the tin."""
    by_words = masked.unit == "word" or masked.whole
    segments, here = [], []
    for place, token in enumerate([*row, 0]):
        if token in IDS.values():
            segments.append(here)
            here = []
        else:
            here.append(place)
    units = []
    for segment in segments:
        words = []
        for place in segment:
            if not words or not by_words or hiding.words[row[place]]:
                words.append([])
            words[-1].append(place)
        while words:
            many = 1
            if masked.unit == "span":
                lot = draw(LENGTH, words[0][0]) >> 32
                below, total = 0.0, sum(masked.lengths)
                for share in masked.lengths[:-1]:
                    below += share
                    many += lot >= round(below / total * 2**32)
            units.append([place for word in words[:many] for place in word])
            del words[:many]
    return units


def slowly(row, key, epoch, hiding, masked, rate):
    """Inputs, places and digest of one row, in plain Python."""

    def draw(stream, place):
        return number(stream, hiding.seed, epoch, key, place)

    units = units_of(row, hiding, masked, draw)
    ordinary = [token for token in range(hiding.vocabulary) if token not in IDS.values()]
    total = sum(map(len, units))
    left = min(max(round(total * rate), 1), total)
    lots, inputs, told = {}, list(row), 0
    for unit in sorted(units, key=lambda unit: draw(CHOOSE, unit[0]) >> 1):
        if len(unit) > left:
            if masked.unit == "word" or masked.whole:
                continue
            unit = unit[:left]
        for place in unit:
            lots[place] = unit[0] if masked.unit == "span" else place
        left -= len(unit)
    for place in sorted(lots):
        lot = (((draw(CHOOSE, lots[place]) >> 1) & 0xFFFFFFFF) * 100) >> 32
        if lot < masked.shares[0]:
            inputs[place] = 4
        elif lot < sum(masked.shares):
            inputs[place] = ordinary[(draw(DRAW, place) >> 1) % len(ordinary)]
        told += mixed((draw(CHOOSE, place) >> 1) ^ ((row[place] << 32) + inputs[place]))
    return inputs, sorted(lots), told


def texts(rows, length, vocabulary, seed, special=0.1):
    source = np.random.default_rng(seed)
    tokens = source.integers(5, vocabulary, (rows, length), dtype=np.int32)
    tokens[source.random(tokens.shape) < special] = 3
    tokens[source.random(tokens.shape) < 0.02] = 4  # a literal [MASK]
    tokens[::2, length - length // 4 :] = 0
    keys, epochs = source.integers(0, 2**64, rows, dtype=np.uint64), source.integers(0, 1000, rows)
    return tokens, keys, epochs, (source.random(vocabulary) < 0.6).astype(np.uint8)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(list(KINDS)),
    st.integers(1, 4),
    st.sampled_from([1, 5, 40, 127, 600]),
    st.floats(0.001, 1),
    st.integers(7, 60),
    st.integers(0, 2**63),
)
def test_units_are_hidden_as_a_slow_twin_hides_them(kind, rows, length, rate, vocabulary, seed):
    tokens, keys, epochs, words = texts(rows, length, vocabulary, seed)
    hiding = Hiding(vocabulary, IDS, seed, 0.3, words)
    found = hide(tokens.copy(), keys, epochs, hiding, KINDS[kind], rate)
    at, digest = 0, 0
    for row in range(rows):
        inputs, places, told = slowly(tokens[row].tolist(), int(keys[row]), int(epochs[row]), hiding, KINDS[kind], rate)
        assert found.inputs[row].tolist() == inputs
        assert found.counts[row] == len(places)
        assert (found.places[at : at + len(places)] - row * length).tolist() == places
        assert found.labels[at : at + len(places)].tolist() == tokens[row][places].tolist()
        at, digest = at + len(places), digest + told
    assert at == len(found.places)
    assert found.digest == digest % 2**64


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_k_of_spans_and_at_most_k_of_words_and_never_a_special(kind):
    tokens, keys, epochs, words = texts(300, 256, 500, 1)
    found = hide(tokens.copy(), keys, epochs, Hiding(500, IDS, 1, 0.15, words), KINDS[kind])
    ordinary = (tokens > 4).sum(1)
    wanted = np.rint(ordinary * 0.15).clip(1)
    if kind in ("words", "spans of words"):
        assert (found.counts <= wanted).all()
        assert found.counts.sum() > 0.99 * wanted.sum()
    else:
        assert (found.counts == wanted).all()
    assert (found.labels > 4).all()


def test_a_word_is_hidden_whole_or_not_at_all():
    tokens, keys, epochs, words = texts(200, 128, 500, 2, special=0.02)
    found = hide(tokens.copy(), keys, epochs, Hiding(500, IDS, 5, 0.2, words), Masked(unit="word", shares=(100, 0)))
    for row in range(200):
        chosen = set((found.places[found.places // 128 == row] % 128).tolist())
        inside = False
        for place in range(1, 128):
            continues = tokens[row, place] > 4 and tokens[row, place - 1] > 4 and not words[tokens[row, place]]
            if continues:
                inside = True
                assert (place in chosen) == (place - 1 in chosen)
        assert inside


def test_spans_have_the_lengths_they_are_drawn_with():
    masked = Masked(unit="span", lengths=geometric(0.2, 10), shares=(100, 0))
    keys, epochs, tokens = np.arange(400, dtype=np.uint64), np.zeros(400, np.int64), np.full((20, 16_000), 9, np.int32)
    # few, so that few are neighbours, of long rows, so that few are cut short
    found = hide(tokens, keys[:20], epochs[:20], Hiding(50, IDS, 1, 0.02), masked)
    hidden = (found.inputs == 4).astype(np.int8)
    edges = np.diff(np.pad(hidden, ((0, 0), (1, 1))), axis=1)
    lengths = np.where(edges == -1)[1] - np.where(edges == 1)[1]
    expected = np.average(np.arange(1, 11), weights=geometric(0.2, 10))
    assert expected == pytest.approx(3.797, abs=1e-3)  # SpanBERT says 3.8
    assert lengths.mean() == pytest.approx(expected, rel=0.06)
    counts, tokens = np.zeros(512), np.full((400, 512), 9, np.int32)
    for epoch in range(20):
        counts += (hide(tokens.copy(), keys, epochs + epoch, Hiding(50, IDS, 1, 0.15), masked).inputs == 4).sum(0)
    assert abs(counts[:3].mean() / counts.mean() - 1) < 0.1  # nowhere is hidden more often
    assert counts.std() / counts.mean() < 0.06


def test_lots_are_a_spans_and_a_words_own():
    tokens = np.full((500, 200), 9, np.int32)
    keys, epochs = np.arange(500, dtype=np.uint64), np.zeros(500, np.int64)
    hiding = Hiding(5000, IDS, 1, 0.15, np.ones(5000, np.uint8))
    for masked, same in ((Masked(unit="span", lengths=(0, 0, 0, 1)), 0.98), (Masked(unit="word"), 0.8)):
        found = hide(tokens.copy(), keys, epochs, hiding, masked)
        assert (found.inputs.reshape(-1)[found.places] == 4).mean() == pytest.approx(0.8, abs=0.02)
        near = np.flatnonzero(np.diff(found.places) == 1)
        masked_ = found.inputs.reshape(-1)[found.places] == 4
        assert (masked_[near] == masked_[near + 1]).mean() > same - 0.15
        assert ((masked_[near] == masked_[near + 1]).mean() > 0.85) == (same > 0.9)


def test_rows_without_ordinary_tokens_or_with_words_too_long_have_no_label():
    tokens = np.array([[2, 4, 3, 0, 0, 0], [2, 9, 9, 9, 9, 3]], np.int32)
    keys, epochs = np.arange(2, dtype=np.uint64), np.zeros(2, np.int64)
    for kind, second in (("words", 0), ("spans", 1)):
        found = hide(tokens.copy(), keys, epochs, Hiding(10, IDS, 1, 0.15, np.zeros(10, np.uint8)), KINDS[kind])
        assert found.counts.tolist() == [0, second]
        assert found.inputs[0].tolist() == tokens[0].tolist()


def test_what_cannot_be_hidden_is_refused():
    tokens, keys, epochs = np.full((1, 4), 9, np.int32), np.zeros(1, np.uint64), np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="nothing tells which pieces begin one"):
        hide(tokens.copy(), keys, epochs, Hiding(10, IDS, 1, 0.3), KINDS["words"])
    with pytest.raises(ValueError, match="token 9 is outside the vocabulary of 9"):
        hide(tokens.copy(), keys, epochs, Hiding(9, IDS, 1, 0.3), KINDS["spans"])
    with pytest.raises(ValueError, match="mask rate of 0"):
        hide(tokens.copy(), keys, epochs, Hiding(10, IDS, 1, 0.3), rate=0)
    with pytest.raises(ValueError, match="table of words has 3 pieces"):
        Hiding(10, IDS, 1, 0.3, np.ones(3, np.uint8))
    for wrong in ({"shares": (90, 20)}, {"unit": "letter"}, {"lengths": ()}, {"rate": 2}, {"lengths": (0, 0)}):
        with pytest.raises(ValueError, match=r"; (say|it is|use|give)|; it is"):
            Masked(**wrong)
