"""Fine-tuned models of any folder: theirs read with their logits, ours written and read with the same bits."""

import json
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import theirs as their
from tests import tuned_folders as toys
from tests.test_head_forms import KINDS, TASKS, with_head
from tests.theirs import transformers
from tundish.operators.model import heads, hub_heads
from tundish.operators.model.head_forms import Form
from tundish.operators.model.quantized import quantized
from tundish.stages.export_tuned import exported_tuned
from tundish.stages.hub import weights_of
from tundish.stages.predict import predictions, predictor
from tundish.stages.tuned import doubts, load_tuned, pooling_in

torch.set_num_threads(1)
TIGHT = {"atol": 1e-5, "rtol": 1e-5}
LABELS = {0: "dull", 1: "bright", 2: "loud"}
SINGLES = [(one,) for one, _ in toys.TEXTS]


def saved(folder, kind, head, vocabulary=None, **besides):
    """A folder as `save_pretrained` leaves it."""
    labels = {} if head == "spans" else {"id2label": LABELS, "label2id": {v: k for k, v in LABELS.items()}}
    _, model = with_head(kind, head, pad_token_id=1 if kind == "roberta" else 0, **labels, **besides)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text((vocabulary or toys.words(kind)).to_str())
    return model


def their_logits(model, head, ids, types):
    rows, present = their.padded(ids, fill=model.config.pad_token_id)
    two = getattr(model.config, "type_vocab_size", 0) > 1
    given = {"token_type_ids": their.padded(types)[0]} if two else {}
    with torch.no_grad():
        out = model(input_ids=rows, attention_mask=present, **given)
    if head == "sequence":
        return out.logits
    logits = torch.stack([out.start_logits, out.end_logits], -1) if head == "spans" else out.logits
    return logits[present.bool()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", TASKS)
def test_any_classifier_of_theirs_is_read_with_its_logits(tmp_path, kind, head):
    theirs = saved(tmp_path, kind, head)
    mine, told = load_tuned(str(tmp_path))
    ids, types = toys.framed(tmp_path, toys.TEXTS)
    expected = their_logits(theirs, head, ids, types)
    assert expected.std() > 0.05
    torch.testing.assert_close(toys.answer(mine, ids, types), expected, **TIGHT)
    assert told["task"] == {"sequence": "classify", "tokens": "tag", "spans": "answer"}[head]
    assert told["names"] == ([] if head == "spans" else list(LABELS.values()))
    assert told["architecture"] == type(theirs).__name__
    assert told["temperature"] == 1.0


@pytest.mark.parametrize(
    ("kind", "besides"),
    [
        ("modernbert", {"classifier_pooling": "mean"}),
        ("modernbert", {"classifier_bias": True, "classifier_activation": "silu"}),
        ("deberta", {"pooler_hidden_act": "tanh"}),
        ("deberta", {"pooler_hidden_act": "gelu_new", "pooler_dropout": 0.1}),
    ],
)
def test_settings_of_a_head_are_taken_over_and_go_back(tmp_path, kind, besides):
    theirs = saved(tmp_path / "one", kind, "sequence", **besides)
    mine, _ = load_tuned(str(tmp_path / "one"))
    ids, types = toys.framed(tmp_path / "one", toys.TEXTS)
    expected = their_logits(theirs, "sequence", ids, types)
    torch.testing.assert_close(toys.answer(mine, ids, types), expected, **TIGHT)
    exported_tuned(str(tmp_path / "one"), str(tmp_path / "two"), card=toys.card)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "two")
    torch.testing.assert_close(their_logits(again, "sequence", ids, types), expected, **TIGHT)
    for name, value in besides.items():
        assert getattr(again.config, name) == value


@pytest.mark.parametrize("kind", [*KINDS, "deberta-plain", "bert-pretraining"])
@pytest.mark.parametrize("head", [*TASKS, "embedding"])
def test_what_is_written_and_read_again_has_the_same_bits(tmp_path, kind, head):
    mine = toys.folder_of(tmp_path / "tuned", kind, head)
    exported_tuned(str(tmp_path / "tuned"), str(tmp_path / "over"), card=toys.card)
    back, told = load_tuned(str(tmp_path / "over"))
    own = mine.state_dict()
    for name, each in back.state_dict().items():
        assert torch.equal(each, own[name]), name
    lost = {name for name in own if name not in back.state_dict()}
    assert all(name.startswith(tuple(heads.TRUNK + part for part in heads.UNASKED)) for name in lost)
    assert (told["task"], told["names"]) == (toys.KINDS[head], list(toys.NAMES.get(head, ())))
    assert told["scheme"] == ("IOB2" if head == "tokens" else "")
    exported_tuned(str(tmp_path / "over"), str(tmp_path / "third"), card=toys.card)
    first, third = (load_file(tmp_path / each / "model.safetensors") for each in ("over", "third"))
    pooler = {name for name in first if head == "embedding" and "pooler" in name}  # asked by nobody
    assert set(third) == set(first) - pooler
    assert all(torch.equal(third[name], first[name]) for name in third)
    configs = [json.loads((tmp_path / each / "config.json").read_text()) for each in ("over", "third")]
    assert configs[0]["architectures"] == configs[1]["architectures"]


@pytest.mark.parametrize("kind", ["bert", "modernbert", "gpt", "t5"])
def test_a_fine_tuned_folder_gives_its_trunk_to_be_tuned_anew(tmp_path, kind):
    """Ours, and as it is handed over; a head goes, whatever it was for."""
    head = "sequence" if kind != "t5" else "tokens"
    model = toys.folder_of(tmp_path / "tuned", kind, head)
    shape, ours = weights_of(str(tmp_path / "tuned"))
    trunk = model.encoder.state_dict()
    assert (shape, ours.keys()) == (model.encoder.shape, trunk.keys())
    assert all(torch.equal(ours[name], each) for name, each in trunk.items())
    again = heads.begun(shape, "tokens", 2, seed=1, weights=ours)
    assert all(torch.equal(each, trunk[name]) for name, each in again.encoder.state_dict().items())
    if kind == "t5":
        return
    exported_tuned(str(tmp_path / "tuned"), str(tmp_path / "over"), card=toys.card)
    _, theirs = weights_of(str(tmp_path / "over"))
    assert "embedding.weight" in theirs
    assert all(torch.equal(each, trunk[name]) for name, each in theirs.items() if not name.startswith("head."))


def test_a_model_in_bytes_is_not_tuned_anew(tmp_path):
    model = toys.folder_of(tmp_path, "bert", "sequence")
    small = quantized(model)
    save_file({name: each.contiguous() for name, each in small.state_dict().items()}, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"kind": "tuned-int8"}))
    with pytest.raises(
        ValueError, match="holds a model in bytes, which is not trained on; give the one it was made of"
    ):
        weights_of(str(tmp_path))


def test_old_folders_without_a_form_are_what_they_were(tmp_path):
    model = toys.tuned_model("bert", "sequence", form=Form("mean", "tanh"))
    toys.folder_of(tmp_path, "bert", "sequence", model=model)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["form"], config["dropout"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    back, told = load_tuned(str(tmp_path))
    ids, types = toys.framed(tmp_path, toys.TEXTS)
    assert torch.equal(toys.answer(back, ids, types), toys.answer(model, ids, types))
    assert told["form"] == asdict(Form("mean", "tanh"))


@pytest.mark.parametrize(
    ("labels", "problem", "task", "names"),
    [
        (1, None, "regress", []),
        (2, None, "classify", ["LABEL_0", "LABEL_1"]),
        (2, "multi_label_classification", "multilabel", ["LABEL_0", "LABEL_1"]),
    ],
)
def test_the_task_is_told_by_their_settings(tmp_path, labels, problem, task, names):
    config = transformers.BertConfig(**their.BERT, num_labels=labels, problem_type=problem)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(toys.words("bert").to_str())
    _, told = load_tuned(str(tmp_path))
    assert (told["task"], told["names"], told["classes"]) == (task, names, labels)


def test_a_classifier_of_theirs_predicts_files(tmp_path):
    theirs = saved(tmp_path / "model", "electra-discriminator", "sequence")
    file = tmp_path / "new.jsonl"
    file.write_text("".join(json.dumps({"text": one, "second": two}) + "\n" for one, two in toys.TEXTS))
    said = list(predictions(predictor(str(tmp_path / "model"), device="cpu"), str(file), {"second": "second"}))
    ids, types = toys.framed(tmp_path / "model", toys.TEXTS)
    shares = their_logits(theirs, "sequence", ids, types).softmax(1)
    for row, own in zip(said, shares, strict=True):
        assert [row["probabilities"][name] for name in LABELS.values()] == pytest.approx(own.tolist(), abs=1e-5)
        assert row["label"] == LABELS[int(own.argmax())]


def test_a_frame_that_is_another_is_told(tmp_path):
    from tokenizers import processors

    plain = toys.words("roberta")
    assert [each.count("frames") for each in doubts(plain.to_str().encode())] == [1, 1]  # it has none at all
    plain.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    [pair] = doubts(plain.to_str().encode())
    assert "frames a pair as" in pair
    saved(tmp_path, "roberta", "sequence", vocabulary=plain)
    assert load_tuned(str(tmp_path))[1]["doubts"] == [pair]
    plain.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    assert not list(doubts(plain.to_str().encode()))


def test_pooling_is_read_from_sentence_transformers(tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    modules = [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling")]
    (tmp_path / "modules.json").write_text(json.dumps(modules))

    def say(**on):
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 8} | on))
        return pooling_in(str(tmp_path))

    assert say(pooling_mode_cls_token=True, pooling_mode_mean_tokens=False) == "cls"
    assert say(pooling_mode_lasttoken=True) == "last"
    assert say(pooling_mode_mean_tokens=True) == "mean"
    with pytest.raises(ValueError, match="pooling_mode_max_tokens, pooling_mode_mean_tokens of pooling"):
        say(pooling_mode_mean_tokens=True, pooling_mode_max_tokens=True)
    assert say(pooling_mode="mean") == "mean"  # from version 6 on
    assert say(pooling_mode="lasttoken") == "last"
    with pytest.raises(ValueError, match="no way of pooling"):
        say()
    (tmp_path / "modules.json").write_text(json.dumps([*modules, {"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ValueError, match="lists a Dense"):
        say(pooling_mode_mean_tokens=True)


def test_what_holds_no_fine_tuned_model_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no fine-tuned model"):
        load_tuned(str(tmp_path))
    their.theirs("bert").save_pretrained(tmp_path / "pretrained")
    with pytest.raises(ValueError, match="holds no fine-tuned model"):
        load_tuned(str(tmp_path / "pretrained"))
    transformers.BertModel(transformers.BertConfig(**their.BERT)).save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match="holds no fine-tuned model"):
        load_tuned(str(tmp_path / "bare"))


def test_weights_that_do_not_fit_are_one_sentence(tmp_path):
    toys.folder_of(tmp_path, "bert", "sequence")
    held = load_file(tmp_path / "model.safetensors")
    save_file({name: each for name, each in held.items() if name != "chooser.bias"}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"not those its configuration says .*chooser\.bias"):
        load_tuned(str(tmp_path))
    saved(tmp_path / "theirs", "roberta", "sequence")
    held = load_file(tmp_path / "theirs" / "model.safetensors")
    kept = {name: each for name, each in held.items() if not name.startswith("classifier.out_proj")}
    save_file(kept, tmp_path / "theirs" / "model.safetensors")
    with pytest.raises(ValueError, match=r"classifier\.out_proj\.weight is missing"):
        load_tuned(str(tmp_path / "theirs"))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"architectures": ["T5ForTokenClassification"]}, "T5ForTokenClassification has no head that is read here"),
        ({}, "a configuration without architectures"),
    ],
)
def test_heads_that_are_not_read_are_named(config, words):
    with pytest.raises(ValueError, match=words):
        hub_heads.head_in(config)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("modernbert", {"classifier_activation": "sigmoid"}, "classifier_activation is 'sigmoid'"),
        ("bert", {"problem_type": "ranking"}, "problem_type is 'ranking'"),
        ("bert", {"problem_type": "regression"}, "a regression of 3 numbers"),
    ],
)
def test_settings_that_no_head_has_are_named(tmp_path, kind, change, words):
    saved(tmp_path, kind, "sequence")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=words):
        load_tuned(str(tmp_path))
