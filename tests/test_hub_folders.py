"""Folders: theirs read, ours loaded by `from_pretrained` without a network, and the same bits after a round trip."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import theirs as their
from tests.theirs import ANSWERS, KINDS, texts, transformers
from tundish.operators.model import hub
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.objective import Detection
from tundish.operators.model.presets import PRESETS
from tundish.operators.model.shape import Shape
from tundish.stages import hub as folders

torch.set_num_threads(1)
TIGHT = {"atol": 1e-5, "rtol": 1e-5}
NEW = {f"lm_predictions.lm_head.{each}" for each in ("dense.weight", "dense.bias", "bias")}
NEW |= {f"lm_predictions.lm_head.LayerNorm.{each}" for each in ("weight", "bias")}
LEGACY = {f"cls.predictions.transform.{each}" for each in ("dense.weight", "dense.bias")} | {"cls.predictions.bias"}
LEGACY |= {f"cls.predictions.transform.LayerNorm.{each}" for each in ("weight", "bias")}
MORE = {  # names that only ours has: of another head, and of tables that are three weights where they are not tied
    "deberta-new-head": LEGACY,
    "switch-every-block": {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"},
}
LESS = {"deberta-new-head": NEW}
UNUSED = {"bert-untied": {"cls.predictions.bias"}}  # a second bias there, which is added to nothing


def loaded(architecture, folder):
    """Their model of our folder, of which every weight was found and none was left over."""
    model, told = getattr(transformers, architecture).from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"], told
    assert not told["unexpected_keys"], told
    assert not told["mismatched_keys"], told
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_their_folder_is_read_and_ours_loaded(kind, tmp_path):
    model, architecture = their.theirs(kind), KINDS[kind][0]
    model.save_pretrained(tmp_path / "theirs")
    found = folders.read(str(tmp_path / "theirs"))
    assert found.architecture == architecture
    assert found.left == ()
    assert found.unread == ()

    folders.write(str(tmp_path / "ours"), found.shape, found.tensors, architecture=architecture, besides=found.config)
    again = loaded(architecture, tmp_path / "ours")
    documents, answers = texts(), texts(ANSWERS, seed=3) if their.is_pair(model) else None
    with torch.no_grad():
        expected, _ = their.their_logits(model, documents, answers)
        mine, _ = their.our_logits(their.ours(found), documents, answers)
        back, _ = their.their_logits(again, documents, answers)
    torch.testing.assert_close(mine, expected, **TIGHT)
    if kind == "deberta-new-head":  # not loadable by transformers itself, so written under the names of the other
        torch.testing.assert_close(back, expected, **TIGHT)
    else:
        assert torch.equal(back, expected)  # the same class with the same bits

    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert after.keys() - before.keys() <= MORE.get(kind, set())
    assert before.keys() - after.keys() <= LESS.get(kind, set())
    for name in (before.keys() & after.keys()) - UNUSED.get(kind, set()):
        assert torch.equal(before[name], after[name]), name
    returned = folders.read(str(tmp_path / "ours"))
    assert returned.shape == found.shape
    assert returned.tensors.keys() == found.tensors.keys()
    assert all(torch.equal(each, found.tensors[name]) for name, each in returned.tensors.items())


FRESH = {  # presets, and what they are there
    "bert": "BertForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "albert": "AlbertForMaskedLM",
    "electra-small": "ElectraForMaskedLM",
    "deberta-v3": "DebertaV2ForMaskedLM",
    "gpt2": "GPT2LMHeadModel",
    "t5-small": "T5ForConditionalGeneration",
    "switch": "SwitchTransformersForConditionalGeneration",
    "modern-tiny": "ModernBertForMaskedLM",
    "modern-large": "ModernBertForMaskedLM",
}


@pytest.mark.parametrize("name", FRESH)
def test_a_preset_of_ours_is_theirs(name, tmp_path):
    """A model that was never theirs, of a preset's shape made small. Experts there take all that come, so here too."""
    shape = small(PRESETS[name].shape, capacity=0.0)
    model = Model(shape)
    initialise(model, shape, seed=3)
    assert hub.architecture_for(shape) == FRESH[name]
    config = folders.write(str(tmp_path), shape, model.state_dict())
    assert config["architectures"] == [FRESH[name]]
    again = loaded(FRESH[name], tmp_path)
    documents, answers = texts(), texts(ANSWERS, seed=3) if shape.decoder else None
    with torch.no_grad():
        mine, _ = their.our_logits(model.eval(), documents, answers)
        torch.testing.assert_close(their.their_logits(again, documents, answers)[0], mine, **TIGHT)
    assert hub.plain(folders.read(str(tmp_path)).shape) == hub.plain(shape)


def small(given, **changed):
    """A preset's choices at a test's size."""
    sizes = {"vocabulary": their.V, "width": 48, "layers": 3, "heads": 4, "ff": 64, "length": 64}
    sizes |= {"embedding": 24} if given.get("embedding") else {}
    sizes |= {"decoder": 2} if given.get("decoder") else {}
    sizes |= {"layers": 4, "decoder": 4} if given.get("experts") else {}
    return Shape(**{**given, **sizes, **changed, "head": 0})


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_half(precision, tmp_path):
    model = their.theirs("modernbert").to(getattr(torch, precision))
    model.save_pretrained(tmp_path / "theirs")
    found = folders.read(str(tmp_path / "theirs"))
    assert {each.dtype for each in found.tensors.values()} == {getattr(torch, precision)}
    folders.write(str(tmp_path / "ours"), found.shape, found.tensors, precision=precision)
    again = loaded("ModernBertForMaskedLM", tmp_path / "ours")
    assert again.dtype == getattr(torch, precision)
    theirs = dict(model.named_parameters())
    assert all(torch.equal(weight, theirs[name]) for name, weight in again.named_parameters())


def test_several_files_are_read_as_one(tmp_path):
    model = their.theirs("t5")
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="40KB")
    assert (tmp_path / "many" / "model.safetensors.index.json").exists()
    one, many = (folders.read(str(tmp_path / name)) for name in ("one", "many"))
    assert one.shape == many.shape
    assert all(torch.equal(each, many.tensors[name]) for name, each in one.tensors.items())
    gone = next((tmp_path / "many").glob("model-00002*"))
    gone.unlink()
    with pytest.raises(ValueError, match=rf"lists '{gone.name}', which is not in"):
        folders.read(str(tmp_path / "many"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_outline_is_of_the_model_and_reads_no_weight_whole(kind, tmp_path, monkeypatch):
    """Tables that are held twice are compared in pieces where they lie, in one file and in several."""
    model = their.theirs(kind)
    state = {name: each.clone() for name, each in model.state_dict().items()}  # what is tied stands there twice
    model.config.save_pretrained(tmp_path / "one")
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    (tmp_path / "one" / "config.json").write_text(json.dumps(config | {"architectures": [KINDS[kind][0]]}))
    save_file(state, tmp_path / "one" / "model.safetensors")
    apart(tmp_path / "one", tmp_path / "two", state)
    read = [folders.read(str(tmp_path / name), partial=True) for name in ("one", "two")]
    monkeypatch.setattr(folders, "_file", None)
    monkeypatch.setattr(folders, "PIECE", 1 << 8)
    for name, found in zip(("one", "two"), read, strict=True):
        seen = folders.read(str(tmp_path / name), partial=True, outlined=True)
        assert seen._replace(tensors={}) == found._replace(tensors={})
        assert all(each.is_meta for each in seen.tensors.values())
        assert {k: (v.shape, v.dtype) for k, v in seen.tensors.items()} == {
            k: (v.shape, v.dtype) for k, v in found.tensors.items()
        }


def apart(one, two, state):
    """The same folder with each weight in a file of its own."""
    two.mkdir()
    (two / "config.json").write_bytes((one / "config.json").read_bytes())
    placed = {name: f"model-{number:05d}.safetensors" for number, name in enumerate(sorted(state))}
    for name, file in placed.items():
        save_file({name: state[name]}, two / file)
    (two / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))


def test_tables_that_differ_in_their_last_number_are_two(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "PIECE", 1 << 8)
    model = their.theirs("bert")
    state = {name: each.clone() for name, each in model.state_dict().items()}
    model.save_pretrained(tmp_path)
    for difference, tied in ((0.0, True), (1.0, False)):
        state["cls.predictions.decoder.weight"][-1, -1] += difference
        save_file(state, tmp_path / "model.safetensors")
        for outlined in (False, True):
            assert folders.read(str(tmp_path), partial=True, outlined=outlined).shape.tied == tied


def test_what_is_no_model_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        folders.read(str(tmp_path))
    config = {"architectures": ["BertForMaskedLM"], "model_type": "bert", **their.BERT}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"neither model\.safetensors nor"):
        folders.read(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match="unpacking a pickle runs what lies in it"):
        folders.read(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      trailing")
    with pytest.raises(ValueError, match="no whole safetensors file"):
        folders.read(str(tmp_path))


def test_weights_that_do_not_fit_are_named(tmp_path):
    model = their.theirs("bert")
    config, held = their.config_of(model), model.state_dict()
    name = "bert.encoder.layer.1.output.dense.weight"
    with pytest.raises(ValueError, match=rf"{name} is missing"):
        hub.read(config, {key: value for key, value in held.items() if key != name})
    with pytest.raises(ValueError, match=r"bert\.adapter\.weight is among the weights and in no place"):
        hub.read(config, held | {"bert.adapter.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"inner\.down\.weight holds torch\.int8 and no fractions"):
        hub.read(config, held | {name: held[name].to(torch.int8)})
    with pytest.raises(ValueError, match=r"embedding\.weight is \(97, 48\) and should be \(101, 48\)"):
        hub.read(config | {"vocab_size": 101}, held)


def test_what_a_head_has_no_use_for_is_told():
    model = their.theirs("bert-pretraining")
    config = their.config_of(model) | {"architectures": ["BertForMaskedLM"]}
    found = hub.read(config, model.state_dict())
    assert found.left == (
        "bert.pooler.dense.bias",
        "bert.pooler.dense.weight",
        "cls.seq_relationship.bias",
        "cls.seq_relationship.weight",
    )
    assert not found.shape.pooler


def test_names_of_old_are_read(tmp_path):
    """Checkpoints of 2019 say gamma and beta, and hold numbers of positions."""
    model = their.theirs("bert")
    held = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value.clone()
        for name, value in model.state_dict().items()
    }
    save_file(held | {"bert.embeddings.position_ids": torch.arange(64)[None]}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(their.config_of(model)))
    found = folders.read(str(tmp_path))
    plain = hub.read(their.config_of(model), model.state_dict())
    assert found.left == ("bert.embeddings.position_ids",)
    assert all(torch.equal(each, found.tensors[name]) for name, each in plain.tensors.items())


def test_a_shape_without_a_place_there_is_refused():
    modern = Shape(vocabulary=50, width=32, layers=2, heads=4, ff=48)
    with pytest.raises(ValueError, match="has no place for qk_norm True"):
        hub.written(replace(modern, qk_norm=True), {}, "ModernBertForMaskedLM")
    with pytest.raises(ValueError, match=r"no architecture of theirs computes.*nearest is ModernBertForMaskedLM"):
        hub.architecture_for(replace(modern, rms=True))
    shape = small(PRESETS["deberta"].shape)
    with pytest.raises(ValueError, match="has no place for enhanced 2"):
        hub.written(shape, {}, "DebertaV2ForMaskedLM")
    with pytest.raises(ValueError, match="'LlamaForCausalLM' is no architecture"):
        hub.written(modern, {}, "LlamaForCausalLM")
    with pytest.raises(ValueError, match="and 14 more are missing from the weights"):
        hub.written(modern, {})


def test_what_pretraining_leaves_is_read_and_handed_on(tmp_path):
    """Both kinds of folder: a model, and of a detection the discriminator under its own head."""
    specials = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    for preset, kind, expected in (
        ("modern-tiny", "model", "ModernBertForMaskedLM"),
        ("electra-small", "detection", "ElectraForPreTraining"),
    ):
        shape, out = small(PRESETS[preset].shape), tmp_path / preset
        both = Detection(shape, replace(shape, layers=1))
        initialise(both, shape, seed=3)
        model = both.discriminator if kind == "detection" else both.generator
        shape = shape if kind == "detection" else replace(shape, layers=1)
        kept = {name: weight.clone() for name, weight in model.state_dict().items()}
        if kind == "detection":
            kept |= {f"detector.{name}": weight for name, weight in both.detector.state_dict().items()}
        out.mkdir()
        save_file(kept, out / "model.safetensors")
        told = {"kind": kind, "shape": asdict(shape), "specials": specials}
        (out / "config.json").write_text(json.dumps(told))

        found = folders.read(str(out))
        assert folders.weights_of(str(out))[0] == found.shape == model.shape
        config = folders.write(
            str(out / "theirs"), found.shape, found.tensors, architecture=found.architecture, besides=found.config
        )
        assert (config["pad_token_id"], config["sep_token_id"], config["mask_token_id"]) == (0, 3, 4)
        again, documents = loaded(expected, out / "theirs"), texts()
        tokens, layout = their.flat(documents)
        with torch.no_grad():
            states = both.eval() and model.eval()(tokens, layout)
            mine = both.detector(states) if kind == "detection" else model.logits(states)
            torch.testing.assert_close(their.their_logits(again, documents)[0], mine, **TIGHT)
