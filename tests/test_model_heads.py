"""Are heads what a plain padded computation gives, their losses torch's, and the spans found the best there are?"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests import theirs as their
from tests.theirs import transformers
from tests.tuned import SHAPE, TIGHT, batch, draws
from tundish.operators.model import answer_spans, head_losses, heads, hub
from tundish.operators.model.family import Model
from tundish.operators.model.packed import packed

torch.set_num_threads(1)
TRUNKS = ["bert", "roberta", "albert", "electra-base", "deberta", "modernbert", "gpt", "t5"]
MIDDLES = {"electra-base": F.gelu, "deberta": F.gelu, "modernbert": F.gelu}  # else tanh


def small(head="sequence", classes=3, shape=SHAPE, **options):
    return heads.begun(shape, head, classes, seed=4, **options)


def copied(kind, head, pooling=None, **options):
    model = their.theirs(kind)
    found = hub.read(their.config_of(model), model.state_dict())
    mine = heads.begun(found.shape, head, 3, seed=2, weights=found.tensors, pooling=pooling, **options).eval()
    with torch.no_grad():
        for weight in (mine.dense, mine.chooser):
            if weight is not None and weight.weight.std() < 0.05:  # drawn anew
                weight.weight.mul_(15)
    return model, mine


def their_states(model, documents):
    """(B, L, D) of padded rows, and which are there."""
    trunk = model.encoder if their.is_pair(model) else model.base_model
    rows, present = their.padded(documents, fill=model.config.pad_token_id or 0)
    return trunk(input_ids=rows, attention_mask=present).last_hidden_state, present


def their_pooled(kind, states, present):
    if kind == "gpt":
        return states[torch.arange(len(states)), present.sum(1) - 1]
    if kind in ("modernbert", "t5"):
        return (states * present[..., None]).sum(1) / present.sum(1, keepdim=True)
    return states[:, 0]


def plainly(kind, mine, states):
    """A head of this kind of trunk over states, spelled out."""
    if kind == "modernbert" or (mine.head == "sequence" and kind != "gpt"):
        states = MIDDLES.get(kind, torch.tanh)(F.linear(states, mine.dense.weight, mine.dense.bias))
    if kind == "modernbert":
        norm = mine.norm
        states = (states - states.mean(1, keepdim=True)) / (states.var(1, unbiased=False, keepdim=True) + 0.01).sqrt()
        states = states * norm.weight
    return F.linear(states, mine.chooser.weight, mine.chooser.bias)


@pytest.mark.parametrize("kind", TRUNKS)
@pytest.mark.parametrize("head", heads.HEADS)
def test_a_head_upon_every_trunk_is_the_plain_padded_computation(kind, head):
    model, mine = copied(kind, head)
    documents = their.texts()
    with torch.no_grad():
        states, present = their_states(model, documents)
        if head in ("tokens", "spans"):
            expected = plainly(kind, mine, states[present.bool()])
        elif head == "sequence":
            expected = plainly(kind, mine, their_pooled(kind, states, present))
        else:
            pooled = their_pooled(kind if kind == "gpt" else "t5", states, present)
            expected = pooled / pooled.norm(dim=1, keepdim=True)
        found = mine(*their.flat(documents))
    assert found.std() > 0.05
    torch.testing.assert_close(found, expected, **TIGHT)


@pytest.mark.parametrize(
    ("architecture", "head"),
    [
        ("BertForSequenceClassification", "sequence"),
        ("BertForTokenClassification", "tokens"),
        ("BertForQuestionAnswering", "spans"),
    ],
)
def test_bert_with_its_pooler_and_token_types_is_theirs(architecture, head):
    trunk, mine = copied("bert-pretraining", head)
    config = replace_config(trunk.config, num_labels=2 if head == "spans" else 3)
    model = getattr(transformers, architecture)(config).eval()
    model.bert.load_state_dict(trunk.bert.state_dict(), strict=False)
    final = model.qa_outputs if head == "spans" else model.classifier
    mine.chooser.load_state_dict(final.state_dict())
    documents = their.texts()
    types = [(np.arange(len(each)) > len(each) // 2).astype(int) for each in documents]
    rows, present = their.padded(documents)
    with torch.no_grad():
        out = model(input_ids=rows, attention_mask=present, token_type_ids=their.padded(types)[0])
        expected = torch.stack([out.start_logits, out.end_logits], -1) if head == "spans" else out.logits
        expected = expected if head == "sequence" else expected[present.bool()]
        found = mine(*their.flat(documents), torch.from_numpy(np.concatenate(types)))
        plain = mine(*their.flat(documents))
    torch.testing.assert_close(found, expected, **TIGHT)
    assert (found - plain).abs().max() > 0.01


def replace_config(config, **changes):
    return type(config)(**{**config.to_dict(), "architectures": None, **changes})


@pytest.mark.parametrize("pooling", ["cls", "last", "mean"])
def test_documents_do_not_meet_and_none_may_be_empty(pooling):
    model = small(pooling=pooling).eval()
    tokens, _ = batch()
    together = packed([0, 5, 6, 15, 15])
    with torch.no_grad():
        found = model(tokens, together)
        alone = [model(tokens[a:b], packed([0, b - a])) for a, b in ((0, 5), (5, 6), (6, 15))]
    torch.testing.assert_close(found[:3], torch.cat(alone), **TIGHT)
    assert found[3].isfinite().all()


def test_means_are_the_same_by_either_way():
    states = torch.randn(15, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    layout = packed([0, 5, 5, 15])
    sizes = layout.bounds.diff().long()
    summed = torch.segment_reduce(states, "sum", lengths=sizes, initial=0, unsafe=True)
    torch.testing.assert_close(heads.means(states, layout), summed / sizes.clamp(min=1)[:, None])
    half = heads.means(torch.full((3000, 1), 1.001).bfloat16(), packed([0, 3000]))
    assert half.dtype == torch.bfloat16
    assert float(half) == 1.0  # bf16 alone stops counting at 256


def test_fresh_weights_are_a_function_of_the_seed_and_leave_torch_alone():
    before = torch.random.get_rng_state()
    first, second, third = small(), small(), heads.begun(SHAPE, "sequence", 3, seed=5)
    assert (torch.random.get_rng_state() == before).all()
    for (name, a), b, c in zip(first.named_parameters(), second.parameters(), third.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c) == (a.dim() == 1), name
    assert set(Model(SHAPE).state_dict()) == {
        name.removeprefix("encoder.") for name in first.state_dict() if name.startswith("encoder.")
    }


def test_what_is_asked_is_what_gets_a_gradient():
    for shape in (SHAPE, replace(SHAPE, pooler=True), replace(SHAPE, stack="pair", decoder=1)):
        model = small(shape=shape)
        model(*batch()).square().sum().backward()
        moved = {name for name, weight in model.named_parameters() if weight.grad is not None}
        assert moved == set(heads.asked(model))
        assert len(moved) < len(list(model.parameters()))


def test_dropout_is_torchs_alone_and_only_in_training():
    model, given = small(dropout=0.5), batch()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first, second = model(*given), model(*given)
        torch.manual_seed(1)
        again = model(*given)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(*given), model(*given))


def test_states_in_half_precision_serve_float32_weights():
    model = small("tokens").eval()
    found = model(*batch(), dtype=torch.bfloat16)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), model(*batch()), atol=2e-2, rtol=0.1)


def test_mistakes_with_heads_are_one_sentence():
    with pytest.raises(ValueError, match="no head"):
        small("words")
    with pytest.raises(ValueError, match="pooled by 'max'"):
        small(pooling="max")
    with pytest.raises(ValueError, match="has seen nothing"):
        small(shape=replace(SHAPE, stack="decoder"), pooling="cls")
    with pytest.raises(ValueError, match="0 classes"):
        small(classes=0)
    weights = Model(SHAPE).state_dict()
    with pytest.raises(ValueError, match="no such place"):
        small(weights={**weights, "embedding.weight": torch.zeros(41, 16)})
    with pytest.raises(ValueError, match=r"embedding\.weight is missing"):
        small(weights={name: weight for name, weight in weights.items() if name != "embedding.weight"})


# losses


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighed", [False, True])
def test_class_loss_is_torchs_mean_and_parts_add_up(smoothing, weighed):
    logits, labels = draws(12, 4), torch.tensor([0, 3, -100, 1, 1, 2, 0, -100, 3, 2, 2, 1])
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64) if weighed else None
    expected = F.cross_entropy(logits, labels, weights, label_smoothing=smoothing)
    torch.testing.assert_close(
        head_losses.class_loss(logits, labels, weights=weights, smoothing=smoothing).mean, expected
    )
    parts = [
        head_losses.class_loss(logits[at], labels[at], weights=weights, smoothing=smoothing)
        for at in (slice(0, 3), slice(3, 4), slice(4, 12))
    ]
    torch.testing.assert_close(sum(p.total for p in parts) / sum(p.count for p in parts), expected)


def test_what_is_ignored_may_be_infinite():
    logits = torch.tensor([[0.0, 1.0], [float("inf"), float("nan")]], requires_grad=True)
    found = head_losses.class_loss(logits, torch.tensor([1, -100]))
    found.total.backward()
    assert float(found.count) == 1
    assert logits.grad.isfinite().all()
    assert (logits.grad[1] == 0).all()


def test_labels_and_numbers_are_torchs_means():
    logits, truth = draws(6, 3), (draws(6, 3, seed=1) > 0).double()
    weights = torch.tensor([1.0, 4.0, 0.5], dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(logits, truth, pos_weight=weights)
    torch.testing.assert_close(head_losses.labels_loss(logits, truth, weights=weights).mean, expected)
    truth[2, 1] = truth[4, 0] = -1
    known = truth >= 0
    found = head_losses.labels_loss(logits, truth)
    torch.testing.assert_close(found.mean, F.binary_cross_entropy_with_logits(logits[known], truth[known]))
    assert float(found.count) == 16
    numbers = draws(6, seed=2)
    torch.testing.assert_close(head_losses.number_loss(logits[:, :1], numbers).mean, F.mse_loss(logits[:, 0], numbers))


def test_span_loss_is_cross_entropy_over_each_context():
    lengths, layout = (7, 4, 6, 0), packed([0, 7, 11, 17, 17])
    scores = draws(17, 2).requires_grad_()
    context = torch.ones(17, dtype=torch.bool)
    context[[0, 1, 2, 7, 11, 12]] = False
    starts, ends = torch.tensor([4, 0, -100, -100]), torch.tensor([6, 0, -100, -100])
    found = head_losses.span_loss(scores, layout, context, starts, ends)
    expected = 0
    for number in (0, 1):
        first = int(layout.bounds[number])
        open_places = [0] + [at for at in range(lengths[number]) if context[first + at]]
        mine = scores[[first + at for at in open_places]]
        for column, truth in enumerate((starts, ends)):
            label = torch.tensor([open_places.index(int(truth[number]))])
            expected = expected + F.cross_entropy(mine[None, :, column], label) / 2
    torch.testing.assert_close(found.total, expected)
    assert float(found.count) == 2
    ours, plain = (torch.autograd.grad(each, scores, retain_graph=True)[0] for each in (found.total, expected))
    torch.testing.assert_close(ours, plain)
    for bad in (1, 9):  # in the question; behind the document
        with pytest.raises(ValueError, match="outside its context"):
            head_losses.span_loss(scores, layout, context, torch.tensor([bad, 0, 0, -100]), ends)


@pytest.mark.parametrize("both", [False, True])
def test_contrast_is_cross_entropy_over_a_table_of_products(both):
    asking, wanted, unwanted = draws(4, 5), draws(4, 5, seed=1), draws(3, 5, seed=2)
    found = head_losses.contrast_loss(asking, wanted, unwanted, temperature=0.5, both=both)
    rows = [[float(a @ b) / 0.5 for b in [*wanted, *unwanted]] for a in asking]
    expected = sum(-row[i] + np.log(np.exp(row).sum()) for i, row in enumerate(rows))
    if both:
        columns = [[rows[i][j] for i in range(4)] for j in range(4)]
        expected = (expected + sum(-c[j] + np.log(np.exp(c).sum()) for j, c in enumerate(columns))) / 2
    assert float(found.total) == pytest.approx(expected)
    assert float(found.count) == 4


def test_rows_of_one_number_are_no_negatives():
    asking, wanted = draws(3, 5), draws(3, 5, seed=1)
    found = head_losses.contrast_loss(asking, wanted, same=torch.tensor([7, 8, 7]), temperature=1.0)
    scores = asking @ wanted.t()
    expected = [
        -scores[i, i] + torch.logsumexp(scores[i, kept], 0) for i, kept in enumerate(([0, 1], [0, 1, 2], [1, 2]))
    ]
    torch.testing.assert_close(found.total, sum(expected))


def test_what_is_unwanted_elsewhere_and_wanted_here_is_no_negative():
    asking, wanted, unwanted = draws(3, 5), draws(3, 5, seed=1), draws(2, 5, seed=2)
    same = torch.tensor([7, 8, 9, 8, -1])  # what another row does not want is what row 1 wants
    found = head_losses.contrast_loss(asking, wanted, unwanted, same=same, temperature=1.0)
    scores = asking @ torch.cat([wanted, unwanted]).t()
    kept = ([0, 1, 2, 3, 4], [0, 1, 2, 4], [0, 1, 2, 3, 4])
    expected = [-scores[i, i] + torch.logsumexp(scores[i, these], 0) for i, these in enumerate(kept)]
    torch.testing.assert_close(found.total, sum(expected))
    with pytest.raises(ValueError, match="4 numbers are of neither 3 rows nor 5 texts"):
        head_losses.contrast_loss(asking, wanted, unwanted, same=same[:4])


def test_mistakes_with_losses_are_one_sentence():
    with pytest.raises(ValueError, match="do not belong together"):
        head_losses.class_loss(draws(3, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="do not belong together"):
        head_losses.number_loss(draws(3, 2), torch.zeros(3))
    with pytest.raises(ValueError, match="temperature of 0"):
        head_losses.contrast_loss(draws(2, 2), draws(2, 2), temperature=0)


# spans


@pytest.mark.parametrize("seed", range(6))
def test_the_best_pairs_are_all_pairs_sorted(seed):
    source = np.random.default_rng(seed)
    size = int(source.integers(1, 14))
    starts, ends = source.integers(-3, 4, (2, size)).astype(float)  # with ties
    allowed = source.random(size) < 0.7
    pairs = [
        (i, j, starts[i] + ends[j])
        for i, j in itertools.product(range(size), repeat=2)
        if allowed[i] and allowed[j] and i <= j < i + 4
    ]
    expected = sorted(pairs, key=lambda each: (-each[2], each[0], each[1]))[:6]
    assert answer_spans.best_pairs(starts, ends, allowed, longest=4, count=6) == expected


def test_windows_of_a_question_answer_together():
    """Two windows over one text, the second of them two tokens on; a question of its own, and one without windows."""
    scores = np.zeros((12, 2))
    context = np.array([0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0], bool)
    offsets = np.zeros((12, 2), int)
    offsets[2:5] = [[0, 3], [4, 7], [8, 11]]
    offsets[7:10] = [[4, 7], [8, 11], [12, 15]]
    scores[0], scores[5], scores[10] = (2, 2), (1, 0.5), (9, 9)
    scores[3, 0], scores[4, 1] = 3, 2.6  # 4 .. 11 in the first window
    scores[7, 0], scores[8, 1] = 4, 2.5  # and better in the second
    first, none, third = answer_spans.answers(scores, [0, 5, 10, 12], context, [0, 0, 2], offsets, longest=2)
    assert first.spans[0] == (4, 11, 6.5)
    assert first.text_span == (4, 11)
    assert {span[:2]: span.score for span in first.spans}[8, 11] == 2.6  # and that in the first
    assert [span[:2] for span in first.spans].count((4, 11)) == 1
    assert first.none == 1.5
    assert first.margin == -5.0
    assert max(span.last - span.first for span in first.spans) <= 7
    assert sum(first.shares()) == pytest.approx(1)
    assert first.shares()[0] / first.shares()[-1] == pytest.approx(np.exp(5.0))
    assert none.spans == third.spans == ()
    assert none.text_span is None
    assert third.none == 18
    assert third.margin == float("inf")


def test_mistakes_with_spans_are_one_sentence():
    with pytest.raises(ValueError, match="as many of each"):
        answer_spans.best_pairs(np.zeros(3), np.zeros(2), np.ones(3, bool))
    with pytest.raises(ValueError, match="at least 1"):
        answer_spans.best_pairs(np.zeros(3), np.zeros(3), np.ones(3, bool), longest=0)
    with pytest.raises(ValueError, match="do not belong"):
        answer_spans.answers(np.zeros((3, 2)), [0, 2], np.ones(3, bool), [0], np.zeros((3, 2)))
