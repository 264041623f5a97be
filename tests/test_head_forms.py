"""Is each family's form what transformers computes, and is the family a function of the shape alone?"""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from tests import theirs as their
from tests.theirs import transformers
from tests.tuned import SHAPE, TIGHT, batch
from tundish.operators.model import head_forms, heads, hub
from tundish.operators.model.head_forms import Form, families, form_for, form_told
from tundish.operators.model.presets import PRESETS
from tundish.operators.model.shape import Shape

torch.set_num_threads(1)
KINDS = {
    "bert": "Bert",
    "roberta": "Roberta",
    "electra-discriminator": "Electra",
    "electra-base": "Electra",
    "albert": "Albert",
    "deberta": "DebertaV2",
    "gpt": "GPT2",
    "modernbert": "ModernBert",
    "modernbert-whole": "ModernBert",
}
TASKS = {
    "sequence": "ForSequenceClassification",
    "tokens": "ForTokenClassification",
    "spans": "ForQuestionAnswering",
}
SPELLINGS = {  # of our layers, the first of theirs that is there
    "dense": ("classifier.dense", "bert.pooler.dense", "albert.pooler", "pooler.dense", "head.dense"),
    "norm": ("head.norm",),
    "chooser": ("classifier.out_proj", "classifier", "score", "qa_outputs"),
}


def with_head(kind, head, **besides):
    """A model of theirs with this head, its trunk that of `theirs(kind)`, all weights wide."""
    trunk = their.theirs(kind)
    cls = getattr(transformers, KINDS[kind] + TASKS[head])
    config = cls.config_class(**trunk.config.to_dict() | {"num_labels": 2 if head == "spans" else 3} | besides)
    torch.manual_seed(3)
    model = cls(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.randn_like(weight) * 0.3 + ("norm" in name.lower()))
    model.base_model.load_state_dict(trunk.base_model.state_dict(), strict=False)
    return trunk, model


def begun_as(trunk, model, head, **options):
    """Ours, of the family's form, with the weights of theirs in it."""
    found = hub.read(their.config_of(trunk), trunk.state_dict())
    mine = heads.begun(found.shape, head, 3, seed=5, weights=found.tensors, **options).eval()
    theirs = model.state_dict()
    for ours, names in SPELLINGS.items():
        layer = getattr(mine, ours)
        if layer is not None:
            name = next(each for each in names if f"{each}.weight" in theirs)
            layer.load_state_dict({k: theirs[f"{name}.{k}"] for k in layer.state_dict()})
            assert (f"{name}.bias" in theirs) == (layer.bias is not None)
    return mine


def their_answer(model, head, documents, types=None):
    rows, present = their.padded(documents, fill=model.config.pad_token_id)
    given = {} if types is None else {"token_type_ids": their.padded(types)[0]}
    out = model(input_ids=rows, attention_mask=present, **given)
    if head == "sequence":
        return out.logits
    logits = torch.stack([out.start_logits, out.end_logits], -1) if head == "spans" else out.logits
    return logits[present.bool()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", TASKS)
def test_every_family_computes_what_transformers_does(kind, head):
    besides = {"classifier_pooling": "mean"} if kind.startswith("modern") else {}
    trunk, model = with_head(kind, head, pad_token_id=1 if kind == "roberta" else 0, **besides)
    mine = begun_as(trunk, model, head)
    documents = [np.maximum(each, 2) for each in their.texts()]  # no padding among them
    with torch.no_grad():
        expected, found = their_answer(model, head, documents), mine(*their.flat(documents))
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, **TIGHT)


def test_modernbert_pools_the_first_token_where_that_is_asked_for():
    trunk, model = with_head("modernbert", "sequence", classifier_pooling="cls")
    mine = begun_as(trunk, model, "sequence", pooling="cls")
    documents = their.texts()
    with torch.no_grad():
        expected = their_answer(model, "sequence", documents)
        torch.testing.assert_close(mine(*their.flat(documents)), expected, **TIGHT)
        mine.form = replace(mine.form, pooling="mean")
        assert (mine(*their.flat(documents)) - expected).abs().max() > 0.01


def test_a_model_of_one_token_type_reads_pairs():
    trunk, model = with_head("roberta", "sequence", pad_token_id=1)
    mine = begun_as(trunk, model, "sequence")
    documents = [np.maximum(each, 2) for each in their.texts()]
    types = torch.from_numpy(np.concatenate([np.arange(len(each)) > 3 for each in documents]).astype(int))
    with torch.no_grad():
        torch.testing.assert_close(
            mine(*their.flat(documents), types), their_answer(model, "sequence", documents), **TIGHT
        )


@pytest.mark.parametrize(
    ("kind", "pairs"),
    [
        ("bert-pretraining", {"dense.weight": "pooler.weight", "dense.bias": "pooler.bias"}),
        ("albert-pretraining", {"dense.weight": "pooler.weight", "dense.bias": "pooler.bias"}),
        ("modernbert", {"dense.weight": "head.dense.weight", "norm.weight": "head.norm.weight"}),
        ("roberta", {}),
        ("bert", {}),
    ],
)
def test_a_dense_layer_begins_as_its_like_in_the_pretrained_model(kind, pairs):
    trunk = their.theirs(kind)
    found = hub.read(their.config_of(trunk), trunk.state_dict())
    mine, drawn = (heads.begun(found.shape, "sequence", 3, seed=5, weights=w) for w in (found.tensors, None))
    assert heads.carried(mine, found.tensors) == pairs
    for name, weight in mine.state_dict().items():
        if not name.startswith(heads.TRUNK):
            begins = found.tensors[pairs[name]] if name in pairs else drawn.state_dict()[name]
            assert torch.equal(weight, begins), name
    mean = heads.begun(found.shape, "sequence", 3, seed=5, weights=found.tensors, pooling="last")
    assert bool(heads.carried(mean, found.tensors)) == (kind == "modernbert")


@pytest.mark.parametrize("kind", sorted(their.KINDS))
def test_a_family_is_told_by_the_shape(kind):
    model = their.theirs(kind)
    found = hub.read(their.config_of(model), model.state_dict())
    mine = next(iter(families(found.shape)))
    narrow = replace(found.shape, embedding=0) == found.shape and found.shape.transform
    assert mine == model.config.model_type or (mine == "bert" and model.config.model_type == "electra" and narrow)
    assert len(set(families(found.shape))) == len(list(families(found.shape)))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_has_a_form_for_every_head(name):
    shape = Shape(vocabulary=64, **PRESETS[name].shape)
    first = next(iter(families(shape)), "none")
    expected = {"modern": "modernbert", "tiny": "modernbert", "bert": "bert", "roberta": "roberta"}
    expected |= {"electra": "electra", "deberta": "deberta-v2", "albert": "albert", "gpt": "gpt2"}
    expected |= {"t5": "t5", "switch": "switch_transformers"}
    assert first == next((family for begins, family in expected.items() if name.startswith(begins)), first)
    for head in heads.HEADS:
        form = form_for(shape, head)
        assert (form.pooling == "last") == (shape.stack == "decoder") or form.pooling == "cls"
        assert form_told({"form": asdict(form) | {"drops": list(form.drops)}}, head) == form


def test_shapes_that_are_of_no_family_keep_one_form():
    odd = replace(SHAPE, qk_norm=True)
    assert not list(families(odd))
    assert form_for(odd, "sequence") == Form("mean", "tanh")
    assert form_for(replace(odd, stack="decoder"), "sequence", "mean").pooling == "mean"
    last_passes = Shape(vocabulary=64, **PRESETS["deberta-v3"].shape | {"enhanced": 2})  # DeBERTa's, of no class
    assert list(families(last_passes)) == ["deberta-v2"]


def test_models_that_say_no_form_have_the_one_all_had():
    """Old folders: dropout, dense, tanh, dropout, chooser upon a pooled state."""
    model = heads.Tuned(heads.Model(SHAPE), "sequence", 3, form=form_told({"pooling": "mean"}, "sequence"))
    names = {name for name in model.state_dict() if not name.startswith(heads.TRUNK)}
    assert names == {"dense.weight", "dense.bias", "chooser.weight", "chooser.bias"}
    heads.initialise(model, SHAPE, seed=1)
    tokens, layout = batch()
    with torch.no_grad():
        pooled = heads.means(heads.states_of(model.encoder, tokens, layout), layout)
        expected = model.chooser(torch.tanh(model.dense(pooled)))
        torch.testing.assert_close(model.eval()(tokens, layout), expected, **TIGHT)
    assert form_told({"pooling": "last"}, "tokens") == Form("last", drops=("dense", "chooser"))


@pytest.mark.parametrize("drops", [(), ("dense",), ("chooser",), ("dense", "chooser")])
def test_dropout_stands_where_the_form_says(drops):
    model = heads.begun(SHAPE, "sequence", 3, seed=1, dropout=0.99, form=Form("mean", "gelu", drops=drops))
    model.chooser.bias.data.fill_(1.0)
    model.dense.bias.data.fill_(2.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = model.chosen(torch.ones(400, SHAPE.width))
    gone = torch.isclose(found, torch.ones_like(found)).all(1).float().mean()  # nothing came through to the chooser
    assert (gone > 0.5) == ("chooser" in drops)
    assert (found.std(0) < 1e-6).all() == (not drops)


def test_forms_that_differ_in_training_alone_are_the_same():
    bert, roberta = Form("cls", "tanh", drops=("chooser",)), Form("cls", "tanh")
    assert head_forms.same(bert, roberta, "sequence")
    assert not head_forms.same(bert, replace(bert, act="gelu"), "sequence")
    assert not head_forms.same(bert, replace(bert, pooling="mean"), "sequence")
    assert not head_forms.same(bert, replace(bert, chooser_bias=False), "sequence")
    assert head_forms.same(Form("cls"), Form("mean"), "tokens")
    assert not head_forms.same(Form("cls"), Form("mean"), "embedding")
    assert head_forms.same(replace(bert, norm_bias=False), bert, "sequence")
    assert not head_forms.same(Form(act="gelu", norm=True), Form(act="gelu", norm=True, norm_bias=False), "tokens")


def test_what_is_no_form_is_named():
    with pytest.raises(ValueError, match="pooled by 'max'"):
        Form("max")
    with pytest.raises(ValueError, match="no activation 'softmax'"):
        Form(act="softmax")
    with pytest.raises(ValueError, match="before no 'norm'"):
        Form(drops=("norm",))
    with pytest.raises(ValueError, match="none here"):
        form_told({"form": {"pooling": "cls", "squash": 1, "drops": []}}, "sequence")
    with pytest.raises(ValueError, match="has seen nothing"):
        heads.Tuned(heads.Model(replace(SHAPE, stack="decoder")), "sequence", 2, form=Form("cls"))
