"""Do copied weights give the logits of transformers, for every family, on documents of unequal and odd lengths?"""

import numpy as np
import pytest
import torch

from tests import theirs as their
from tests.theirs import ANSWERS, KINDS, V, texts
from tundish.operators.model import hub

torch.set_num_threads(1)
TIGHT = {"atol": 1e-5, "rtol": 1e-5}
TYPED = [kind for kind in KINDS if kind.startswith(("bert", "albert", "electra")) or kind == "deberta-plain"]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_theirs(kind):
    model = their.theirs(kind)
    mine = their.ours(hub.read(their.config_of(model), model.state_dict()))
    documents, answers = texts(), texts(ANSWERS, seed=3) if their.is_pair(model) else None
    with torch.no_grad():
        expected, second = their.their_logits(model, documents, answers)
        found, follows = their.our_logits(mine, documents, answers)
    assert expected.std() > 0.15  # far from nothing
    torch.testing.assert_close(found, expected, **TIGHT)
    assert (second is None) == (follows is None)
    if second is not None:
        torch.testing.assert_close(follows, second, **TIGHT)


@pytest.mark.parametrize("kind", TYPED)
def test_token_types_tell(kind):
    model = their.theirs(kind)
    mine = their.ours(hub.read(their.config_of(model), model.state_dict()))
    documents = texts()
    types = [(np.arange(len(each)) > len(each) // 2).astype(int) for each in documents]
    with torch.no_grad():
        plain, _ = their.our_logits(mine, documents)
        expected, _ = their.their_logits(model, documents, types=types)
        found, _ = their.our_logits(mine, documents, types=types)
    torch.testing.assert_close(found, expected, **TIGHT)
    assert (found - plain).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["modernbert", "deberta", "t5-1.1", "switch", "electra-discriminator", "gpt"])
def test_gradients_are_theirs(kind):
    model = their.theirs(kind)
    config = their.config_of(model)
    mine = their.ours(hub.read(config, model.state_dict()))
    documents, answers = texts(), texts(ANSWERS, seed=3) if their.is_pair(model) else None
    weigh = None
    for each, logits in ((model, their.their_logits), (mine, their.our_logits)):
        found, _ = logits(each, documents, answers)
        weigh = torch.randn(found.shape, generator=torch.Generator().manual_seed(4)) if weigh is None else weigh
        (found * weigh).mean().backward()
    # an expert to whom no token went has no gradient there, and zeros here
    held = {name: torch.zeros_like(w) if w.grad is None else w.grad for name, w in model.named_parameters()}
    table = hub.KINS[type(model).__name__].weights(mine.shape, config)
    compared = 0
    for weight in table:
        if all(name in held for name in weight.theirs):
            expected = hub.joined(weight, [held[name] for name in weight.theirs])
            found = mine.get_parameter(weight.ours).grad
            scale = float(expected.abs().max())
            assert scale > 0 or float(found.abs().max()) == 0, weight.ours
            torch.testing.assert_close(found / (scale or 1), expected / (scale or 1), atol=1e-4, rtol=1e-4)
            compared += 1
    assert compared == len(table)
    assert compared > 20


@pytest.mark.parametrize("length", [1, 2, 4, 5, 6, 9])
def test_a_window_sees_its_edges(length):
    """±4 of a local attention of 8, itself besides: at 5 tokens the first still sees the last."""
    model = their.theirs("modernbert")
    mine = their.ours(hub.read(their.config_of(model), model.state_dict()))
    documents = texts([length])
    with torch.no_grad():
        expected, found = their.their_logits(model, documents)[0], their.our_logits(mine, documents)[0]
    torch.testing.assert_close(found, expected, **TIGHT)


def test_rows_of_another_padding_give_the_same():
    """RoBERTa counts positions from behind its padding token, whichever that is."""
    architecture, settings = KINDS["roberta"]
    KINDS["roberta-pad-5"] = (architecture, settings | {"pad_token_id": 5, "vocab_size": V})
    try:
        model = their.theirs("roberta-pad-5")
    finally:
        del KINDS["roberta-pad-5"]
    mine = their.ours(hub.read(their.config_of(model), model.state_dict()))
    assert mine.shape.offset == 6
    documents = [np.where(each == 5, 6, each) for each in texts()]
    with torch.no_grad():
        expected, found = their.their_logits(model, documents)[0], their.our_logits(mine, documents)[0]
    torch.testing.assert_close(found, expected, **TIGHT)
