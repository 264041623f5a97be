import numpy as np
import pytest
import torch

from tundish.operators.model import masking, order

SPECIALS = (0, 1, 2, 3, 4)
MASK = 4
VOCABULARY = 200


def rows_of_text(rows=400, length=96, seed=0):
    tokens = torch.from_numpy(np.random.default_rng(seed).integers(5, VOCABULARY, (rows, length)))
    tokens[:, 0], tokens[:, 40], tokens[:, 80:] = 2, 3, 0
    tokens[::7, 10:30] = 1
    return tokens


def masked(tokens, *, rows=None, epoch=0, seed=1, rate=0.3):
    rows = torch.arange(len(tokens)) if rows is None else rows
    epochs = torch.full_like(rows, epoch)
    rules = {"vocabulary": VOCABULARY, "specials": SPECIALS, "mask_id": MASK}
    return masking.mask(tokens, rows, epochs, seed=seed, rate=rate, **rules)[:2]


def test_the_hash_on_signed_numbers_has_the_bits_of_the_one_on_unsigned():
    words = np.random.default_rng(0).integers(0, 2**64, 5000, dtype=np.uint64)
    signed = masking.mixed(torch.from_numpy(words.view(np.int64)))
    assert (signed.numpy().view(np.uint64) == order.mixed(words)).all()


@pytest.mark.parametrize("rate", [0.001, 0.15, 0.3, 1.0])
def test_exactly_the_rate_of_each_row_and_never_a_special(rate):
    tokens = rows_of_text()
    inputs, labels = masked(tokens, rate=rate)
    chosen = labels != masking.IGNORED
    ordinary = tokens > 4
    assert not (chosen & ~ordinary).any()
    assert (labels[chosen] == tokens[chosen]).all()
    assert (inputs[~chosen] == tokens[~chosen]).all()
    wanted = (ordinary.sum(1).double() * rate).round().clamp(min=1)
    assert (chosen.sum(1) == wanted).all()


def test_eighty_ten_ten_and_replacements_from_the_whole_ordinary_vocabulary():
    tokens = rows_of_text(rows=4000)
    inputs, labels = masked(tokens)
    chosen = labels != masking.IGNORED
    count = int(chosen.sum())
    hidden = inputs[chosen] == MASK
    other = (inputs[chosen] != tokens[chosen]) & ~hidden
    assert abs(hidden.sum() / count - 0.8) < 0.01
    assert abs(other.sum() / count - 0.1) < 0.01
    drawn = torch.bincount(inputs[chosen][other], minlength=VOCABULARY)
    assert (drawn[:5] == 0).all()
    assert chi_square(drawn[5:].numpy())


def chi_square(counts):
    """Whether counts look uniform: within five deviations of what chance gives."""
    expected, free = counts.sum() / len(counts), len(counts) - 1
    return ((counts - expected) ** 2 / expected).sum() < free + 5 * np.sqrt(2 * free)


def test_each_place_is_chosen_equally_often_over_rows_epochs_and_seeds():
    tokens = torch.full((500, 64), 9)
    counts = np.zeros(64)
    for epoch in range(4):
        for seed in range(4):
            counts += (masked(tokens, epoch=epoch, seed=seed)[1] != masking.IGNORED).sum(0).numpy()
    assert chi_square(counts)


def test_masks_are_functions_of_the_row_and_not_of_the_batch():
    tokens = rows_of_text()
    rows = torch.arange(len(tokens)) + 10**9
    inputs, labels = masked(tokens, rows=rows)
    for part in (slice(0, 1), slice(5, 9), slice(100, 400)):
        again = masked(tokens[part], rows=rows[part])
        assert (again[0] == inputs[part]).all()
        assert (again[1] == labels[part]).all()
    for other in (masked(tokens, rows=rows, epoch=1), masked(tokens, rows=rows, seed=2), masked(tokens)):
        assert (other[1] != labels).any(1).float().mean() > 0.99


def test_the_masks_are_these_on_every_machine():
    tokens = torch.arange(5, 25)[None]
    inputs, labels = masked(tokens, rows=torch.tensor([3]), rate=0.4)
    assert (labels[0] != masking.IGNORED).nonzero().flatten().tolist() == GOLDEN_PLACES
    assert inputs[0].tolist() == GOLDEN_INPUTS


GOLDEN_PLACES = [0, 1, 2, 4, 5, 6, 11, 12]
GOLDEN_INPUTS = [4, 4, 4, 8, 4, 4, 4, 12, 13, 14, 15, 4, 4, 18, 19, 20, 21, 22, 23, 24]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_gpu_gives_the_same_bits():
    tokens = rows_of_text()
    there = masked(tokens.cuda(), rows=torch.arange(len(tokens)).cuda())
    assert all((a.cpu() == b).all() for a, b in zip(there, masked(tokens), strict=True))


def test_digests_of_parts_add_up_and_see_every_change():
    tokens, rows = rows_of_text(rows=20), torch.arange(20)

    def digest(tokens, rows, *, epoch=0, seed=1):
        rules = {"vocabulary": VOCABULARY, "specials": SPECIALS, "mask_id": MASK}
        return int(masking.mask(tokens, rows, torch.full_like(rows, epoch), seed=seed, rate=0.3, **rules)[2])

    whole = digest(tokens, rows)
    parts = digest(tokens[:7], rows[:7]) + digest(tokens[7:], rows[7:])
    assert (whole - parts) % 2**64 == 0
    changed = tokens.clone()
    changed[:, 1] = 9 + changed[:, 1] % 100
    others = [
        digest(tokens, rows, epoch=1),
        digest(tokens, rows, seed=2),
        digest(tokens, rows + 1),
        digest(changed, rows),
    ]
    assert len({whole, *others}) == 5


def test_a_row_of_specials_has_no_label_and_nonsense_is_refused():
    tokens = torch.zeros(2, 8, dtype=torch.long)
    tokens[1, 3] = 50
    assert (masked(tokens)[1] != masking.IGNORED).sum(1).tolist() == [0, 1]
    with pytest.raises(ValueError, match="mask rate of 0"):
        masked(tokens, rate=0)
    with pytest.raises(ValueError, match="special"):
        masking.mask(
            tokens, torch.arange(2), torch.arange(2), seed=1, rate=0.1, vocabulary=5, specials=SPECIALS, mask_id=4
        )
