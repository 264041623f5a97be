"""Going on from a folder of theirs: the first loss is that of their class, and what comes out loads there again."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from tests import theirs as their
from tests.test_model_pretrain import IDS, SHAPE, VOCABULARY, result, silent, toy
from tests.theirs import KINDS, transformers
from tundish.operators.model.batch import IGNORED
from tundish.operators.model.objective import Detection, part_of
from tundish.operators.model.presets import PRESETS
from tundish.operators.model.stream import Aim
from tundish.operators.text.tokenizer import JSON
from tundish.stages import hub as folders
from tundish.stages.pretrain import Pretrain
from tundish.stages.pretrain_adopt import adopted, fields_of, spoken
from tundish.stages.pretrain_feed import Feed
from tundish.stages.pretrain_loop import PretrainTask, pretrain
from tundish.stages.pretrain_model import losses_of, trainee_of
from tundish.stages.pretrain_pieces import Corpus, compared
from tundish.stages.ranks import Ranks
from tundish.stages.stage import Stage

torch.set_num_threads(1)
WIDE = 160  # rows of a table that has room for the sentinels of spans
OBJECTIVES = {"gpt": "clm", "t5": "spans", "t5-1.1": "spans", "switch": "spans"}
MASKED = ("bert", "bert-pretraining", "bert-untied", "roberta", "albert", "electra-generator", "deberta", "modernbert")


def saved(kind, folder, **settings):
    """Their model of a kind, in a folder, with a table of so many rows."""
    architecture, usual = KINDS[kind]
    cls = getattr(transformers, architecture)
    torch.manual_seed(1)
    model = cls(cls.config_class(**usual | {"vocab_size": WIDE, "pad_token_id": 0} | settings)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(torch.randn_like(weight) * (0.05 if "norm" in name.lower() else 0.1))
    if kind == "t5-1.1":  # as in the published ones; transformers 5 ties what it makes itself
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight) * 0.2)
    model.save_pretrained(folder)
    return model


def task_of(folder, tmp_path, **more):
    found = adopted(str(folder), outlined=True)
    fields = fields_of(found, {"dropout": 0.0})
    plain = {"dtype": "float32", "tokens": 300, "lr": 1e-3, "length": 30, "begin": str(folder)}
    return toy(tmp_path / "task", **plain | fields | more)


def first_part(task):
    feed = Feed(task, Ranks(0, 1, torch.device("cpu")))
    setting = feed.schedule.at(0)
    batch = feed.stream(0).batch(feed.plan.places(feed.plan.share(0)), Aim(setting.objective, setting.rate))
    return part_of(batch, torch.device("cpu")), setting.objective


def split(tokens, packed, present=None):
    """Documents, and the places they lie at."""
    bounds = packed.bounds.tolist()
    places = [torch.arange(a, b) for a, b in pairwise(bounds)]
    places = [each[present[each]] for each in places] if present is not None else places
    places = [each for each in places if len(each)]
    return [tokens[each].numpy() for each in places], torch.cat(places)


def their_loss(model, part):
    documents, places = split(part.tokens, part.packed, part.present)
    answers = None
    if part.answers is not None:
        answers, places = split(part.answers, part.packed_answers)
        documents, answers = documents[: len(answers)], answers[: len(documents)]
    logits, _ = their.their_logits(model, documents, answers)
    whole = torch.zeros(len(part.tokens if answers is None else part.answers), logits.shape[1])
    whole[places] = logits
    counted = part.labels != IGNORED
    return float(F.cross_entropy(whole[part.places[counted]], part.labels[counted].long(), reduction="sum"))


@pytest.mark.parametrize("kind", [*MASKED, *OBJECTIVES])
def test_the_first_loss_is_theirs_and_two_steps_go_back(kind, tmp_path):
    model = saved(kind, tmp_path / "theirs")
    task = task_of(tmp_path / "theirs", tmp_path, objective=OBJECTIVES.get(kind, "mlm"))
    part, objective = first_part(task)
    with torch.no_grad():
        mine = trainee_of(task, torch.float32).eval()
        terms = losses_of(mine, part, task, objective, torch.float32)
        assert float(terms[0].total) == pytest.approx(their_loss(model, part), rel=2e-5)

    pretrain(task, 0, 1, silent)
    told = result(task)["begun"]
    assert told["fresh"] == []
    assert bool(told["left"]) == (kind == "bert-pretraining")  # its pooler is of no use to these objectives
    found = folders.read(task.out)
    expected = "BertForMaskedLM" if kind == "bert-pretraining" else KINDS[kind][0]
    assert found.architecture == expected
    config = folders.write(
        str(tmp_path / "back"), found.shape, found.tensors, architecture=found.architecture, besides=found.config
    )
    assert config["vocab_size"] == WIDE
    if kind not in ("bert-untied", "t5-1.1"):
        again = getattr(transformers, expected).from_pretrained(tmp_path / "back").eval()
        documents, answers = split(part.tokens, part.packed, part.present)[0], None
        if part.answers is not None:
            answers = split(part.answers, part.packed_answers)[0]
            documents = documents[: len(answers)]
        with torch.no_grad():
            logits, _ = their.their_logits(again, documents, answers)
            ours, _ = their.our_logits(their.ours(found), documents, answers)
        torch.testing.assert_close(logits, ours, atol=1e-5, rtol=1e-5)
        assert not torch.equal(again.get_input_embeddings().weight, model.get_input_embeddings().weight)


@pytest.mark.parametrize("kind", ["electra-discriminator", "deberta"])
@pytest.mark.parametrize("sharing", ["all", "gdes", "none"])
def test_a_detection_has_the_folders_discriminator(kind, sharing, tmp_path):
    model = saved(kind, tmp_path / "theirs")
    task = task_of(tmp_path / "theirs", tmp_path, objective="rtd", sharing=sharing)
    both = trainee_of(task, torch.float32).eval()
    assert isinstance(both, Detection)
    documents = their.texts()
    tokens, layout = their.flat(documents)
    with torch.no_grad():
        states = both.discriminator(tokens, layout, table=both.table())
        if kind == "deberta":  # their trunk has no head that tells
            rows, present = their.padded(documents)
            expected = model.deberta(input_ids=rows, attention_mask=present).last_hidden_state[present.bool()]
            torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)
        else:
            expected, _ = their.their_logits(model, documents)
            torch.testing.assert_close(both.detector(states), expected, atol=1e-5, rtol=1e-5)
    pretrain(task, 0, 1, silent)
    told = result(task)["begun"]
    assert told["generator"] == "fresh"
    assert bool(told["fresh"]) == (kind == "deberta")
    assert "the generator" in spoken(adopted(str(tmp_path / "theirs")), task)
    found = folders.read(task.out)
    folders.write(str(tmp_path / "back"), found.shape, found.tensors, architecture=found.architecture)
    again, said = transformers.AutoModel.from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not said["missing_keys"]
    assert type(again).__name__ == {"deberta": "DebertaV2Model"}.get(kind, "ElectraModel")


@pytest.mark.slow
def test_a_detection_goes_on_with_its_generator(tmp_path):
    """One that lies inside, one that is given, and the one that our own training left."""
    saved("electra-discriminator", tmp_path / "theirs")
    other = saved("electra-generator", tmp_path / "elsewhere", hidden_size=24, num_attention_heads=2)
    given = task_of(tmp_path / "theirs", tmp_path)
    found = adopted(str(tmp_path / "theirs"), str(tmp_path / "elsewhere"))
    given = replace(
        given, objective="rtd", sharing="none", begin_generator=str(tmp_path / "elsewhere"), **fields_of(found, {})
    )
    both = trainee_of(given, torch.float32)
    table = other.electra.embeddings.word_embeddings.weight
    assert torch.equal(both.generator.embedding.weight, table)
    assert torch.equal(both.generator.head.bias, other.generator_lm_head.bias)
    assert not torch.equal(both.discriminator.embedding.weight, table)

    (tmp_path / "elsewhere").rename(tmp_path / "theirs" / "generator")
    inside = adopted(str(tmp_path / "theirs"))
    assert inside.whence.endswith("theirs/generator")
    for sharing in ("all", "gdes"):  # one table: the discriminator's, and what the generator's is not of it
        task = task_of(tmp_path / "theirs", tmp_path / sharing, objective="rtd", sharing=sharing)
        pretrain(task, 0, 1, silent)
        again = task_of(task.out, tmp_path / f"{sharing}-again", objective="rtd", sharing=sharing)
        one, two = folders.read(task.out), trainee_of(again, torch.float32)
        whole = two.discriminator.embedding.weight if sharing == "all" else two.table()
        torch.testing.assert_close(whole, one.tensors["embedding.weight"], atol=1e-6, rtol=0)
        assert torch.equal(two.generator.head.bias, folders.generator_of(task.out)[1]["head.bias"])
        assert torch.equal(two.detector.dense.weight, one.tensors["detector.dense.weight"])
        pretrain(replace(again, tokens=200), 0, 1, silent)
        assert result(again)["begun"]["generator"].endswith("generator.safetensors")
        assert set(result(again)["detected_first"]) == {"held"}


@pytest.mark.parametrize(
    ("kind", "architecture", "fresh"),
    [
        ("bert", "BertModel", "head."),
        ("roberta", "RobertaModel", "head."),
        ("modernbert", "ModernBertModel", "head."),
        ("electra-discriminator", "ElectraModel", "head."),
        ("albert", "AlbertModel", "head."),
        ("deberta", "DebertaV2Model", "head."),
        ("gpt", "GPT2Model", "none"),
        ("t5", "T5Model", "none"),
        ("bert", "BertForSequenceClassification", "head."),
    ],
)
def test_a_trunk_alone_begins_with_a_fresh_head(kind, architecture, fresh, tmp_path):
    cls = getattr(transformers, architecture)
    torch.manual_seed(1)
    model = cls(cls.config_class(**KINDS[kind][1] | {"vocab_size": WIDE, "pad_token_id": 0})).eval()
    model.save_pretrained(tmp_path / "theirs")
    task = task_of(tmp_path / "theirs", tmp_path, objective=OBJECTIVES.get(kind, "mlm"))
    mine = trainee_of(task, torch.float32)
    assert torch.equal(mine.embedding.weight, model.get_input_embeddings().weight)
    told = mine.begun["fresh"]
    assert all(name.startswith(fresh) for name in told)
    assert bool(told) == (fresh != "none")
    if architecture.endswith("Classification"):
        assert {"classifier.weight", "classifier.bias"} <= set(mine.begun["left"])


def test_what_cannot_be_begun_from_is_refused(tmp_path):
    model = saved("bert", tmp_path / "theirs")
    found = adopted(str(tmp_path / "theirs"), outlined=True)
    with pytest.raises(ValueError, match=r"shape says layers 5 and .* has 3"):
        fields_of(found, {"layers": 5})
    with pytest.raises(ValueError, match="theta is of rotary positions"):
        fields_of(found, {"theta": 5e5})
    with pytest.raises(ValueError, match="no field of a shape"):
        fields_of(found, {"length": 99})
    with pytest.raises(ValueError, match="has 64 learned positions and the recipe's longest segment 99"):
        task_of(tmp_path / "theirs", tmp_path, length=99)
    config = tmp_path / "theirs" / "config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps(told | {"intermediate_size": 96}))
    with pytest.raises(ValueError, match=r"stack\.blocks\.0\.inner\.up\.weight is \(80, 48\) and should be \(96, 48\)"):
        adopted(str(tmp_path / "theirs"), outlined=True)
    config.write_text(json.dumps(told | {"num_hidden_layers": 4}))
    with pytest.raises(ValueError, match=r"missing from the trunk's weights"):
        adopted(str(tmp_path / "theirs"), outlined=True)
    config.write_text(json.dumps(told | {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    with pytest.raises(ValueError, match="are none that tundish knows"):
        adopted(str(tmp_path / "theirs"), outlined=True)
    (tmp_path / "theirs" / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      trailing")
    config.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="no whole safetensors file"):
        adopted(str(tmp_path / "theirs"), outlined=True)
    assert model.config.num_hidden_layers == 3


def test_rotary_positions_go_on_further_with_another_wavelength(tmp_path):
    saved("modernbert", tmp_path / "theirs", max_position_embeddings=24)
    found = adopted(str(tmp_path / "theirs"), outlined=True)
    task = task_of(tmp_path / "theirs", tmp_path, length=32)
    task = replace(task, **fields_of(found, {"theta": 500_000.0}))
    assert (task.shapes[0].length, task.shapes[0].theta) == (32, 500_000.0)
    trainee_of(task, torch.float32)


@pytest.mark.parametrize("kind", ["bert", "bert-untied", "gpt", "t5"])
def test_new_pieces_begin_as_the_mean_of_their_parts(kind, tmp_path):
    """In the table, in a head of its own, and in its bias; sentinels of spans move behind them."""
    saved(kind, tmp_path / "theirs")
    grown = ((7, 9), (11,), (5, 5, 8))
    plain = task_of(tmp_path / "theirs", tmp_path, objective=OBJECTIVES.get(kind, "mlm"))
    task = replace(plain, vocabulary=VOCABULARY + 3, grown=grown)
    before, after = trainee_of(plain, torch.float32), trainee_of(task, torch.float32)
    tables = [("embedding.weight", before.embedding.weight, after.embedding.weight)]
    if before.head.weight is not None:
        tables.append(("head.weight", before.head.weight, after.head.weight))
    if before.head.bias is not None:
        tables.append(("head.bias", before.head.bias, after.head.bias))
    assert len(tables) == {"bert": 2, "bert-untied": 3}.get(kind, 1)
    for name, old, new in tables:
        assert torch.equal(old[:VOCABULARY], new[:VOCABULARY]), name
        for number, parts in enumerate(grown):
            torch.testing.assert_close(new[VOCABULARY + number], sum(old[each] for each in parts) / len(parts))
        if kind == "t5":
            assert torch.equal(new[VOCABULARY + 3 : VOCABULARY + 103], old[VOCABULARY : VOCABULARY + 100])
    assert IDS["[MASK]"] < VOCABULARY


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_what_was_learned_of_new_pieces_goes_on_without_a_vocabulary_too(kind, tmp_path):
    """A grown model that was written as theirs lays it, and nothing else."""
    saved(kind, tmp_path / "theirs", eos_token_id=IDS["[SEP]"])
    grown, objective = ((7, 9), (11,), (5, 5, 8)), OBJECTIVES.get(kind, "mlm")
    first = replace(task_of(tmp_path / "theirs", tmp_path, objective=objective), vocabulary=VOCABULARY + 3, grown=grown)
    pretrain(first, 0, 1, silent)
    for folder in (first.out, str(tmp_path / "back")):
        found = folders.read(first.out)
        if folder != first.out:
            folders.write(folder, found.shape, found.tensors, architecture=found.architecture, besides=found.config)
        again = adopted(folder, outlined=True)
        corpus = Corpus(JSON, listed(VOCABULARY + 3), VOCABULARY + 3, IDS, grown)
        seen = compared(folder, again.shape.vocabulary, again.settings, corpus)
        assert seen.grown == ()
        next_ = task_of(folder, tmp_path / "next", objective=objective)
        next_ = replace(next_, vocabulary=VOCABULARY + 3, grown=seen.grown)
        learned = trainee_of(next_, torch.float32).embedding.weight
        assert torch.equal(learned, found.tensors["embedding.weight"])


def listed(size):
    """A tokenizer.json of so many pieces."""
    pieces = {piece: number for piece, number in IDS.items()} | {f"w{each}": each for each in range(5, size)}
    return json.dumps({"model": {"type": "WordLevel", "vocab": pieces, "unk_token": "[UNK]"}}).encode()


def test_parts_beyond_the_table_are_refused(tmp_path):
    saved("bert", tmp_path / "theirs")
    task = task_of(tmp_path / "theirs", tmp_path)
    with pytest.raises(ValueError, match=r"made of the 160th, and the table of .* has 160 rows; give the vocabulary"):
        trainee_of(replace(task, vocabulary=VOCABULARY + 1, grown=((7, WIDE),)), torch.float32)


def test_a_training_of_ours_says_whose_recipe_it_had(tmp_path, monkeypatch):
    """Also under a name that only this process can read, and after a second training on top."""
    monkeypatch.setenv("HOME", str(tmp_path))
    sizes = {"layers": 2, "width": 32, "heads": 2, "ff": 48}
    plain = Pretrain(Stage(), model="modern-tiny", shape=sizes, length=32, batch=5, tokens=500, precision="float32")
    sources = toy(tmp_path)
    out, preset = tmp_path / "one", "modern-tiny"
    for number in range(2):
        given = {"sources": sources.sources, "holdout": (), "specials": IDS, "vocabulary": VOCABULARY, "out": str(out)}
        pretrain(PretrainTask(**given, **plain.recipe()), 0, 1, silent)
        plain = Pretrain(Stage(), begin=f"~/{out.name}", length=32, batch=5, tokens=500, precision="float32")
        assert plain.recipe()["begin"] == str(out)
        assert f"begins from ~/{out.name}, a ModernBertForMaskedLM, as {preset}" in plain.notes()
        assert plain.recipe()["lr"] == PRESETS[preset].recipe["lr"]
        out = tmp_path / f"next-{number}"
    assert Pretrain(Stage(), begin="~/one", model="bert", length=32).recipe()["preset"] == "bert"


@pytest.mark.parametrize("kind", ["electra-discriminator", "deberta"])
def test_what_fills_in_nothing_is_no_generator(kind, tmp_path):
    """A discriminator of theirs or of ours, and a trunk alone."""
    saved(kind, tmp_path / "theirs")
    task = task_of(tmp_path / "theirs", tmp_path, objective="rtd", tokens=100)
    pretrain(task, 0, 1, silent)
    bare = {"deberta": "DebertaV2Model"}.get(kind, "ElectraForPreTraining")
    found = folders.read(task.out)
    folders.write(str(tmp_path / "back"), found.shape, found.tensors, architecture=found.architecture)
    for folder in (task.out, str(tmp_path / "back")):
        with pytest.raises(ValueError, match=rf"holds a {bare}, which fills in no tokens, .* give the folder of one"):
            adopted(str(tmp_path / "theirs"), folder)


def test_sentinels_that_a_vocabulary_has_are_used(tmp_path):
    """T5's tokenizer.json has its own, of which the first is the highest; a .model leaves room for them."""
    saved("t5", tmp_path / "theirs")
    task = task_of(tmp_path / "theirs", tmp_path, objective="spans")
    assert (task.pieces, task.aims.objectives["spans"].sentinel) == (VOCABULARY + 100, VOCABULARY + 99)
    own = replace(task, vocabulary=150, specials=IDS | {"<extra_id_0>": 147})
    assert (own.pieces, own.aims.objectives["spans"].sentinel) == (150, 147)


def test_a_moved_folder_is_the_same_folder(tmp_path):
    saved("bert", tmp_path / "theirs")
    task = task_of(tmp_path / "theirs", tmp_path)
    named = replace(task, begin_digest="x")
    assert named.decides == replace(named, begin="elsewhere").decides
    assert named.decides != replace(named, begin_digest="y").decides
    assert task.decides != replace(task, begin="elsewhere").decides


@pytest.mark.slow
def test_what_theirs_have_no_class_for_goes_on_again_and_again(tmp_path):
    """A model with ALiBi: no architecture of theirs computes it, so none is named; ours reads it every time."""
    shape = replace(SHAPE, positions="alibi")
    task = toy(tmp_path / "first", model=shape, tokens=300)
    for number in range(2):
        pretrain(task, 0, 1, silent)
        assert folders.read(task.out).architecture == ""
        fields = fields_of(adopted(task.out, outlined=True), {})
        task = toy(tmp_path / f"next-{number}", begin=task.out, tokens=300, **fields)
    pretrain(task, 0, 1, silent)
    assert result(task)["begun"]["architecture"] == ""
