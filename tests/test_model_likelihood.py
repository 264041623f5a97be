"""Likelihoods of texts under a model, against the obvious way: one text, one hidden token, one softmax at a time."""

import numpy as np
import pytest
import torch

from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.likelihood import before, choices, pseudo
from tundish.operators.model.packed import packed
from tundish.operators.model.shape import Shape

torch.set_num_threads(1)
MASK, CLS, SEP = 4, 2, 3
SHAPE = Shape(vocabulary=40, width=16, layers=2, heads=2, ff=24, length=32)


def model_of(**more):
    shape = Shape(**{**vars(SHAPE), **more})
    with torch.device("meta"):
        model = Model(shape)
    initialise(model, shape, seed=3)
    with torch.no_grad():  # far from uniform
        for weight in model.parameters():
            weight.mul_(3)
    return model.eval()


@pytest.fixture(scope="module")
def documents():
    draw = np.random.default_rng(5)
    return [np.array([CLS, *draw.integers(5, 40, size), SEP]) for size in (0, 1, 2, 7, 12, 3)]


def log_softmax_at(model, tokens, place, **more):
    states = model(torch.as_tensor(tokens), packed([0, len(tokens)]), **more)
    return model.logits(states)[place].double().log_softmax(0)


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
@pytest.mark.parametrize("at_once", [1, 9, 1000])
@torch.no_grad()
def test_before_is_the_sum_of_what_each_prefix_says(documents, stack, at_once):
    model = model_of(stack=stack)
    found = before(model, documents, at_once=at_once)
    for document, mine in zip(documents, found, strict=True):
        slow = [
            float(log_softmax_at(model, document[: place + 1], place, causal=True)[document[place + 1]])
            for place in range(len(document) - 1)
        ]
        np.testing.assert_allclose(mine, slow, atol=2e-5)


@pytest.mark.parametrize("at_once", [1, 50, 10_000])
@torch.no_grad()
def test_pseudo_hides_one_token_at_a_time(documents, at_once):
    model = model_of()
    for document, mine in zip(documents, pseudo(model, documents, mask=MASK, at_once=at_once), strict=True):
        slow = []
        for place in range(1, len(document) - 1):
            copy = document.copy()
            copy[place] = MASK
            slow.append(float(log_softmax_at(model, copy, place)[document[place]]))
        np.testing.assert_allclose(mine, slow, atol=2e-5)


@torch.no_grad()
def test_with_a_piece_the_rest_of_its_word_is_hidden(documents):
    """Pieces below 15 begin a word here."""
    model, words = model_of(), np.arange(40) < 15
    for document, mine in zip(documents, pseudo(model, documents, mask=MASK, words=words), strict=True):
        slow = []
        for place in range(1, len(document) - 1):
            copy, end = document.copy(), place
            while end < len(document) - 1 and (end == place or not words[document[end]]):
                copy[end] = MASK
                end += 1
            slow.append(float(log_softmax_at(model, copy, place)[document[place]]))
        np.testing.assert_allclose(mine, slow, atol=2e-5)


@torch.no_grad()
def test_choices_are_what_the_whole_vocabulary_gives_them(documents):
    model = model_of()
    asked = [np.insert(document, len(document) // 2, MASK) for document in documents]
    found = choices(model, asked, mask=MASK, pieces=[7, 30, 12], at_once=20)
    for document, mine in zip(asked, found, strict=True):
        slow = log_softmax_at(model, document, int(np.flatnonzero(document == MASK)[0]))
        np.testing.assert_allclose(mine, slow[[7, 30, 12]], atol=2e-5)


def test_a_text_it_was_trained_on_is_likelier_than_its_reverse():
    """The sign is right, and a model that has learned says so."""
    model, text = model_of(stack="decoder"), np.array([CLS, *range(6, 26), SEP])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    tokens = torch.from_numpy(text)
    for _ in range(60):
        states = model(tokens[:-1], packed([0, len(text) - 1]))
        loss = torch.nn.functional.cross_entropy(model.logits(states), tokens[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right, wrong = before(model.eval(), [text, text[::-1].copy()])
    assert right.sum() > wrong.sum() + 10


def test_what_has_no_likelihood_is_refused(documents):
    with pytest.raises(ValueError, match="are of encoders"):
        pseudo(model_of(stack="decoder"), documents, mask=MASK)
    with pytest.raises(ValueError, match="document 1 has 0 masks"):
        choices(model_of(), [np.array([CLS, MASK, SEP]), np.array([CLS, SEP])], mask=MASK, pieces=[1])
    with pytest.raises(ValueError, match="a pair of encoder and decoder"):
        before(model_of(stack="pair", decoder=2), documents)
