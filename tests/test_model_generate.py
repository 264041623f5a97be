"""Are texts those of transformers' `generate`, with keys and values kept and without; and draws fair and one's own?"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import theirs as their
from tests.theirs import transformers
from tundish.operators.model import choosing, hub, stepping
from tundish.operators.model.decoding import Decoding
from tundish.operators.model.family import Model
from tundish.operators.model.generate import generate
from tundish.operators.model.init import initialise
from tundish.operators.model.shape import Shape

torch.set_num_threads(1)
LENGTHS = (7, 2, 12)
GPT = Shape(
    vocabulary=50,
    width=24,
    layers=3,
    heads=2,
    ff=32,
    length=40,
    stack="decoder",
    positions="learned",
    embedding_norm=False,
    first_norm=True,
)
PAIR = replace(GPT, stack="pair", decoder=2, positions="buckets", rms=True)
SHAPES = {
    "gpt": GPT,
    "rotary": replace(GPT, positions="rotary", window=3, every=2, theta_local=100.0, qk_norm=True),
    "alibi": replace(GPT, positions="alibi"),
    "post": replace(GPT, norm="post", bias=True, embedding=16),
    "shared": replace(GPT, shared=True),
    "experts": replace(GPT, gated=False, experts=3, capacity=0.0),
    "pair": PAIR,
    "pair-unscaled": replace(PAIR, scaled=False, shrunk=True, bias=False),
    "pair-post": replace(PAIR, norm="post", bias=True, embedding=16),
    "pair-learned": replace(PAIR, positions="learned", rms=False),
    "pair-rotary": replace(PAIR, positions="rotary"),
    "pair-shared": replace(PAIR, shared=True),
}


def ours(shape, seed=1):
    model = Model(shape)
    initialise(model, shape, seed=seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8.0 if weight.dim() > 1 and shape.scaled else 1.0)
    return model.eval()


def begin_of(model):
    return (0,) if model.shape.stack == "pair" else ()


def prompts(count=97, lengths=LENGTHS, seed=2):
    draw = np.random.default_rng(seed)
    return [draw.integers(3, count, size).tolist() for size in lengths]


@pytest.fixture(scope="module", params=["gpt", "t5", "t5-1.1", "switch"])
def both(request):
    model = their.theirs(request.param)
    return model, their.ours(hub.read(their.config_of(model), model.state_dict()))


def their_text(model, prompt, ends, decoding):
    """One prompt, in their words: new tokens of each sequence without end and padding, and scores."""
    pair = model.config.is_encoder_decoder
    told = transformers.GenerationConfig(
        max_new_tokens=decoding.longest,
        min_new_tokens=decoding.shortest or None,
        num_beams=decoding.beams,
        num_return_sequences=decoding.sequences,
        length_penalty=decoding.length_penalty,
        early_stopping=decoding.early,
        no_repeat_ngram_size=decoding.no_repeat,
        eos_token_id=list(ends),
        pad_token_id=0,
        decoder_start_token_id=0 if pair else None,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
    )
    out = model.generate(torch.tensor([prompt]), generation_config=told, attention_mask=torch.ones(1, len(prompt)))
    rows = out.sequences[:, 1 if pair else len(prompt) :].tolist()
    texts = []
    for row in rows:
        end = next((at for at, token in enumerate(row) if token in ends), None)
        texts.append(tuple(row if end is None else row[:end]))
    return texts, out.get("sequences_scores")


SEARCHES = [
    Decoding(longest=12),
    Decoding(longest=12, shortest=5, no_repeat=2),
    Decoding(longest=12, beams=3, sequences=3),
    Decoding(longest=12, beams=4, sequences=2, length_penalty=2.0, early="never"),
    Decoding(longest=12, beams=4, sequences=4, length_penalty=0.0, early=True),
    Decoding(longest=14, beams=3, sequences=3, length_penalty=-1.0, no_repeat=2, shortest=3),
]


@pytest.mark.parametrize("decoding", SEARCHES, ids=lambda d: f"{d.beams}-{d.early}-{d.length_penalty}-{d.shortest}")
@pytest.mark.parametrize("kept", [True, False])
def test_texts_are_theirs(both, decoding, kept):
    model, mine = both
    ends = (2, 11, 30, 47, 60, 85)  # as many as make some end early
    given = prompts()
    found = generate(mine, given, decoding, ends=ends, start=begin_of(mine), kept=kept)
    for prompt, texts in zip(given, found, strict=True):
        expected, scores = their_text(model, prompt, ends, decoding)
        assert [each.tokens for each in texts] == expected
        if scores is not None:
            assert [each.score for each in texts] == pytest.approx(scores.tolist(), abs=1e-4, rel=1e-5)


@pytest.mark.parametrize("early", [False, True, "never"])
@pytest.mark.parametrize(("penalty", "ends"), [(0.7, (2,)), (2.0, (2,)), (2.0, (2, 3, 5))])
def test_beams_are_theirs_where_texts_end_often_and_over_many_prompts(early, penalty, ends):
    """Of a distribution that often ends: states have a mean of a half, and the end tokens' rows add them up."""
    model = their.theirs("gpt-unscaled", seed=3)
    with torch.no_grad():
        model.transformer.ln_f.bias.fill_(0.5)
        model.lm_head.weight.mul_(0.8)
        model.lm_head.weight[list(ends)] = 0.08
    mine = their.ours(hub.read(their.config_of(model), model.state_dict()))
    decoding = Decoding(longest=15, beams=5, sequences=5, early=early, length_penalty=penalty)
    given = prompts(lengths=(3, 5, 1, 9, 4, 6), seed=8)
    found = generate(mine, given, decoding, ends=ends)
    ended = [text.ended for texts in found for text in texts]
    assert sum(ended) > 3
    for prompt, texts in zip(given, found, strict=True):
        expected, scores = their_text(model, prompt, ends, decoding)
        assert [each.tokens for each in texts] == expected
        assert [each.score for each in texts] == pytest.approx(scores.tolist(), abs=1e-4, rel=1e-5)


# stepping


@pytest.mark.parametrize("kind", SHAPES)
def test_what_is_kept_is_what_is_read_anew_and_what_the_model_gives(kind):
    model = ours(SHAPES[kind])
    pair = model.shape.stack == "pair"
    begins, sources = ([[0], [0, 5], [0]], prompts(50)) if pair else (prompts(50), None)
    with torch.no_grad():
        rows = [stepping.stepping(model, begins, sources, room=6, kept=kept) for kept in (True, False)]
        found = [each.first() for each in rows]
        texts = [list(each) for each in begins]
        whose = [0, 1, 2]
        for index in ([0, 1, 2], [2, 0, 0, 1], [1, 0, 3], [0, 1, 2], [2, 0]):
            torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(found[0], plain(model, texts, sources, whose), atol=1e-4, rtol=1e-4)
            assert found[0].std() > 0.05
            for each in rows:
                each.keep(torch.tensor(index))
            tokens = found[0].argmax(1)[torch.tensor(index)]
            whose = [whose[at] for at in index]
            texts = [[*texts[at], int(token)] for at, token in zip(index, tokens, strict=True)]
            found = [each.next(tokens) for each in rows]


def plain(model, texts, sources, whose):
    """Each text by itself, through `Model`."""
    found = []
    for text, who in zip(texts, whose, strict=True):
        tokens, layout = their.flat([np.array(text)])
        if sources is None:
            states = model(tokens, layout)
        else:
            states = model(*their.flat([np.array(sources[who])]), tokens, layout)
        found.append(model.logits(states[-1:]))
    return torch.cat(found)


@pytest.mark.parametrize(
    "shape",
    [replace(GPT, gated=False, experts=3), replace(GPT, positions="disentangled", buckets=8, distance=16)],
)
def test_what_cannot_be_kept_is_read_anew(shape):
    model = ours(shape)
    found = generate(model, prompts(50), Decoding(longest=5), ends=(2,))
    assert all(each.tokens for [each] in found)
    for prompt, [each] in zip(prompts(50), found, strict=True):
        text = list(prompt)
        for token in each.tokens:
            with torch.no_grad():
                assert int(plain(model, [text], None, [0]).argmax()) == token
            text.append(token)
    with pytest.raises(ValueError, match="cannot be kept"):
        generate(model, prompts(50), Decoding(longest=5), ends=(2,), kept=True)


# draws


def test_a_draw_does_not_depend_on_what_else_is_in_the_batch():
    model = ours(SHAPES["rotary"])
    given = prompts(50, lengths=(4, 9, 2, 6))
    decoding = Decoding(longest=12, sample=True, sequences=3, temperature=1.5, top_k=20, top_p=0.9, seed=7)
    state = torch.random.get_rng_state()
    whole = generate(model, given, decoding, ends=(2, 5), keys=(3, 1, 4, 15))
    assert (torch.random.get_rng_state() == state).all()
    for prompt, key, texts in zip(given, (3, 1, 4, 15), whole, strict=True):
        [alone] = generate(model, [prompt], decoding, ends=(2, 5), keys=(key,))
        assert [each.tokens for each in alone] == [each.tokens for each in texts]
        assert len({each.tokens for each in texts}) == 3
    turned = generate(model, given[::-1], decoding, ends=(2, 5), keys=(15, 4, 1, 3))
    assert [[each.tokens for each in texts] for texts in turned[::-1]] == [[e.tokens for e in t] for t in whole]
    fewer = generate(model, given, replace(decoding, sequences=1), ends=(2, 5), keys=(3, 1, 4, 15))
    assert [texts[0].tokens for texts in fewer] == [texts[0].tokens for texts in whole]
    other = generate(model, given, replace(decoding, seed=8), ends=(2, 5), keys=(3, 1, 4, 15))
    assert [t[0].tokens for t in other] != [t[0].tokens for t in whole]


def test_draws_follow_the_distribution():
    scores = torch.tensor([[0.0, 1.0, -1.0, 2.0, float("-inf")]]).expand(8000, -1)
    found = choosing.drawn(scores, [choosing.number(1, each, 0, 0) for each in range(8000)])
    counts = Counter(found.tolist())
    for token, share in enumerate(scores[0].softmax(0).tolist()):
        assert abs(counts[token] / 8000 - share) < 4.5 * (share * (1 - share) / 8000) ** 0.5 + 1e-9


@pytest.mark.parametrize("at", [0.0, 1 - 2.0**-53])
def test_a_draw_at_the_edge_is_something_that_may_come(at):
    scores = torch.full((1, 60), float("-inf"))
    scores[0, 20:40] = torch.linspace(-3, 2, 20)
    assert int(choosing.drawn(scores, [at])) == (20 if at == 0 else 39)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.7, 0, 1.0), (1.0, 5, 1.0), (2.0, 0, 0.6), (1.3, 7, 0.8), (1.0, 0, 1e-9)]
)
def test_what_is_left_to_draw_is_theirs(temperature, top_k, top_p):
    scores = torch.randn(40, 30, generator=torch.Generator().manual_seed(1)).mul(2).round(decimals=1)  # with ties
    process = transformers.generation.logits_process
    expected = process.TemperatureLogitsWarper(temperature)(None, scores)
    expected = process.TopKLogitsWarper(top_k)(None, expected) if top_k else expected
    expected = process.TopPLogitsWarper(top_p)(None, expected) if top_p < 1 else expected
    found = choosing.narrowed(scores, temperature=temperature, top_k=top_k, top_p=top_p)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_runs_that_would_repeat_are_theirs(size):
    texts = np.random.default_rng(3).integers(0, 4, (20, 9))
    scores = torch.zeros(20, 6)
    expected = transformers.generation.logits_process.NoRepeatNGramLogitsProcessor(size)(
        torch.from_numpy(texts), scores.clone()
    )
    assert torch.equal(choosing.without(scores, texts.tolist(), size=size, ends=()), expected)


# what is promised besides


def test_lengths_scores_and_the_models_mode():
    model = ours(GPT).train()
    given = prompts(50)
    found = generate(model, given, Decoding(longest=6, shortest=6), ends=(2,))
    assert model.training
    assert all(len(each.tokens) == 6 - each.ended for [each] in found)
    model.eval()
    for prompt, [each] in zip(given, found, strict=True):
        text, score = list(prompt), 0.0
        for token in (*each.tokens, *((2,) if each.ended else ())):
            with torch.no_grad():
                score += float(plain(model, [text], None, [0]).log_softmax(1)[0, token])
            text.append(token)
        assert each.score == pytest.approx(score, abs=1e-4)
    assert generate(model, [], Decoding(), ends=(2,)) == []
    endless = generate(model, given, Decoding(longest=4, beams=2, sequences=2), ends=())
    assert all(len(each.tokens) == 4 and not each.ended for texts in endless for each in texts)


def test_no_text_ends_before_it_may():
    model, given = ours(GPT), prompts(50)
    first = [each.tokens[0] for [each] in generate(model, given, Decoding(longest=1), ends=())]
    for beams in (1, 2):
        at_once = generate(model, given, Decoding(longest=6, beams=beams, early=True), ends=first)
        assert min(len(each.tokens) for [each] in at_once) == 0
        later = generate(model, given, Decoding(longest=6, shortest=5, beams=beams), ends=first)
        assert all(len(each.tokens) >= 5 for [each] in later)
        assert not any(token in first for [each] in later for token in each.tokens)


def test_mistakes_are_one_sentence():
    model = ours(GPT)
    for wrong, said in (
        ({"longest": 0}, "ascending"),
        ({"shortest": 9, "longest": 8}, "ascending"),
        ({"beams": 2, "sample": True}, "not sampled here"),
        ({"sequences": 3, "beams": 2}, "do not come of"),
        ({"temperature": 0.0}, "leave nothing"),
        ({"top_p": 0.0}, "leave nothing"),
        ({"early": "soon"}, "choose true"),
        ({"beams": 0}, "make no text"),
    ):
        with pytest.raises(ValueError, match=said):
            Decoding(**wrong)
    with pytest.raises(ValueError, match="an encoder writes no text"):
        generate(ours(replace(GPT, stack="encoder")), [[3]], Decoding(), ends=())
    with pytest.raises(ValueError, match="start token"):
        generate(ours(PAIR), [[3]], Decoding(), ends=())
    with pytest.raises(ValueError, match="prompt 1 has no token"):
        generate(model, [[3], []], Decoding(), ends=())
    with pytest.raises(ValueError, match="token 50 is not"):
        generate(model, [[50]], Decoding(), ends=())
    with pytest.raises(ValueError, match="more than the model's 40"):
        generate(model, [[3] * 10], Decoding(longest=32), ends=())
    with pytest.raises(ValueError, match="one to each"):
        generate(model, [[3]], Decoding(), ends=(), keys=(1, 2))
    assert len(generate(model, [[3] * 10], Decoding(longest=31), ends=())[0][0].tokens) == 31
