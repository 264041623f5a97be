"""Text to text: it learns to write what is asked, is scored as rouge-score scores, and refuses what cannot write."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from safetensors.torch import save_file

from tests.theirs import KINDS, transformers
from tests.writers import KIN, folder_of, made, sentences, task_of, theirs, turned, written
from tundish.operators.model.decoding import Decoding
from tundish.operators.model.packed import packed
from tundish.operators.model.shape import Shape
from tundish.operators.text import tokenizer, vocabulary
from tundish.pipeline.cli import cli
from tundish.stages import finetune_runs, finetune_write
from tundish.stages.examples_tokens import load
from tundish.stages.finetune_files import prepared
from tundish.stages.finetune_runs import found, read
from tundish.stages.finetune_task import Aids, TuneTask
from tundish.stages.predict import predictions, predictor, writing

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def body() -> bytes:
    return vocabulary.train(sentences(), size=288)


@pytest.fixture(scope="module", params=KIN)
def learnt(request: pytest.FixtureRequest, body: bytes, tmp_path_factory: pytest.TempPathFactory) -> Any:
    to = tmp_path_factory.mktemp(request.param)
    model = folder_of(to / "model", body, **KIN[request.param])
    task = task_of(model, to, turned(30), epochs=50)
    return task, made(task)


def test_thirty_pairs_are_learnt_by_heart(learnt: Any) -> None:
    _, result = learnt
    test = result["parts"]["test"]
    scores = {name: one["mean"] for name, one in test["pretrained"].items() if name != "failed"}
    assert result["measure"] == "rouge_l"
    assert min(scores["rouge_l"], scores["rouge_2"], scores["exact"], scores["ended"]) > 0.95
    assert scores["loss"] < 0.1
    assert test["majority"]["rouge_1"] == 1.0, "the lead has the same words"
    assert test["majority"]["rouge_l"] < 0.6
    assert test["pretrained"]["failed"]["runs"] == 0


def texts_in(task: TuneTask, said: dict[str, np.ndarray]) -> list[str]:
    """What was written, spelt by SentencePiece itself."""
    spelt = vocabulary.load((Path(task.out) / tokenizer.MODEL).read_bytes())
    ends = said["offsets"]
    return [spelt.decode(said["ids"][a:b].tolist()) for a, b in itertools.pairwise(ends)]


@pytest.fixture(scope="module")
def hasty(body: bytes, tmp_path_factory: pytest.TempPathFactory) -> TuneTask:
    """A run that has learnt a little, of rows with several references, one with too long a source."""
    to = tmp_path_factory.mktemp("hasty")
    rows = turned(24)
    for number, row in enumerate(rows):
        row["target"] = [row["target"], "a winding river", row["text"]] if number % 2 else row["target"]
    rows[3]["text"] += " moon" * 60
    model = folder_of(to / "model", body, **KIN["decoder"])
    task = task_of(model, to, rows, epochs=12, scratch=True, writing=Decoding(longest=8, beams=2))
    made(task)
    return task


def written_in(task: TuneTask) -> list[str]:
    return Path(task.out).parent.joinpath("rows.jsonl").read_text().split("\n")


def test_scores_are_those_of_rouge_score(hasty: TuneTask) -> None:
    told, said = found(hasty, hasty.runs[0])
    rows = read(hasty, 48)["test"]
    references = rows.table["references"].to_pylist()
    assert {len(each) for each in references} == {1, 3}
    guesses = texts_in(hasty, said["test"])
    scores = told["scores"]["test"]
    wanted = theirs(references, guesses)
    assert 0.1 < wanted["rouge_l"] < 0.95
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted)
    assert scores["exact"] == np.mean([guess in each for each, guess in zip(references, guesses, strict=True)])
    result = json.loads((Path(hasty.out) / "result.json").read_text())
    lead_of = theirs(references, rows.table["lead"].to_pylist())
    common = result["parts"]["test"]["majority"]
    assert {name: common[name] for name in lead_of} == pytest.approx(lead_of)


@torch.no_grad()
def test_the_loss_is_that_of_one_document_after_the_other(hasty: TuneTask, learnt: Any) -> None:
    for task in (hasty, learnt[0]):
        it, said = predictor(task.out), found(task, task.runs[0])[1]["test"]
        table = load(task.parts["test"])[0].to_pylist()
        cls, sep, pad = (task.specials[name] for name in ("[CLS]", "[SEP]", "[PAD]"))
        model, longest = it.model.encoder, task.writing.longest
        for row, (nats, count) in enumerate(zip(said["nats"], said["counts"], strict=True)):
            source, target = table[row]["tokens"], table[row]["target"]
            if model.decoder is None:
                room = 48 - 1 - longest
                whole, short = [cls, *source[:room], sep], target[: longest - 1]
                target, end = short, [sep] if short == target else []
                states = model(torch.tensor([*whole, *target]), packed([0, len(whole) + len(target)]))
                states = states[len(whole) - 1 :]
            else:
                end = [sep]
                given = torch.tensor([*source, sep]), packed([0, len(source) + 1])
                states = model(*given, torch.tensor([pad, *target]), packed([0, len(target) + 1]))
            logs = model.logits(states).double().log_softmax(1)
            wanted = -sum(float(logs[at, token]) for at, token in enumerate([*target, *end]))
            assert count == len(target) + len(end)
            assert nats == pytest.approx(wanted, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("kin", "beams"), [("t5", 1), ("t5-1.1", 3), ("switch", 1), ("gpt", 1), ("gpt", 3)])
def test_folders_of_theirs_are_asked_as_transformers_asks_them(
    body: bytes, tmp_path: Path, kin: str, beams: int
) -> None:
    """Frames, texts and losses; a rate so small that nothing is learnt."""
    architecture, settings = KINDS[kin]
    own = getattr(transformers, architecture)
    torch.manual_seed(1)
    model = own(own.config_class(**settings | {"vocab_size": 290, "dropout_rate": 0.0})).eval()
    for weight in model.parameters():
        weight.data.mul_(1.5)
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / tokenizer.MODEL).write_bytes(body)
    task = task_of(str(tmp_path / "model"), tmp_path, turned(4), lr=1e-12, writing=Decoding(longest=14, beams=beams))
    made(task)
    said = found(task, task.runs[0])[1]["test"]
    cls, sep, pad = (task.specials[name] for name in ("[CLS]", "[SEP]", "[PAD]"))
    told = {"max_new_tokens": 14, "num_beams": beams, "do_sample": False, "eos_token_id": sep, "pad_token_id": pad}
    told |= {} if kin == "gpt" else {"decoder_start_token_id": pad}
    pair = model.config.is_encoder_decoder
    for row, one in enumerate(load(task.parts["test"])[0].to_pylist()):
        prompt = torch.tensor([[*one["tokens"], sep] if pair else [cls, *one["tokens"], sep]])
        wanted = model.generate(prompt, generation_config=transformers.GenerationConfig(**told))[0].tolist()
        wanted = [*itertools.takewhile(lambda each: each != sep, wanted[1 if pair else prompt.shape[1] :])]
        assert said["ids"][said["offsets"][row] : said["offsets"][row + 1]].tolist() == wanted
        labels = torch.tensor([[*one["target"], sep]])
        given = {"input_ids": prompt, "labels": labels}
        if not pair:
            given = {"input_ids": torch.cat([prompt, labels], 1)}
            given["labels"] = torch.cat([torch.full_like(prompt, -100), labels], 1)
        assert said["nats"][row] / said["counts"][row] == pytest.approx(model(**given).loss.item(), rel=1e-4)


def test_sources_that_are_too_long_are_cut_and_told(hasty: TuneTask, body: bytes, tmp_path: Path) -> None:
    told, said = found(hasty, hasty.runs[0])
    assert told["scores"]["test"]["sources_cut"] == pytest.approx(1 / 24)
    cut = said["test"]["cut"]
    rows = read(hasty, 48)["test"]
    at = int(cut[:, 0].argmax())
    kept = finetune_write.fitted(rows, predictor(hasty.out).model.encoder.shape, 8)
    assert len(kept.prompt(at)) == 48 - 8 + 1
    sources = [json.loads(line)["text"] for line in written_in(hasty) if line]
    longest = max(tokenizer.load(body).encode(pa.array(sources, pa.large_string())).to_pylist(), key=len)
    assert cut[at, 0] == len(longest) - (48 - 8 - 1)
    sizes = np.array([len(each) for each in rows.table["target"].to_pylist()])
    assert cut[:, 1].tolist() == np.maximum(sizes - 7, 0).tolist()
    assert told["scores"]["test"]["targets_cut"] == np.mean(sizes > 7) > 0
    model = folder_of(tmp_path / "pair", body, **KIN["pair"])
    pair = turned(4)
    pair[1]["text"] = "moon " * 60
    task = task_of(model, tmp_path / "task", pair)
    about = prepared(
        model,
        "write",
        {"train": str(tmp_path / "task" / "rows.jsonl")}
        | dict.fromkeys(("dev", "test"), str(tmp_path / "task" / "rows.jsonl")),
        str(tmp_path / "task" / "out"),
    )[1]
    assert about["parts"]["train"]["pieces"]["cut_source"] == 1
    ready = finetune_write.fitted(read(task, 48)["train"], predictor_shape(model), 12)
    assert sorted(ready.table["cut_tokens"].to_pylist()) == [
        0,
        0,
        0,
        about["parts"]["train"]["pieces"]["cut_source_pieces"],
    ]
    assert max(map(len, load(task.parts["train"])[0]["tokens"].to_pylist())) == 46


def test_a_target_that_is_cut_does_not_teach_to_end_there(body: bytes, tmp_path: Path) -> None:
    model = folder_of(tmp_path / "model", body, **KIN["decoder"])
    task = task_of(model, tmp_path, [{"text": "moon", "target": "reed " * 30}, {"text": "moon", "target": "reed"}] * 3)
    shape = predictor_shape(model)
    rows = finetune_write.fitted(read(task, 48)["train"], shape, 12)
    pair = folder_of(tmp_path / "pair", body, **KIN["pair"])
    long = task_of(pair, tmp_path / "long", [{"text": "moon", "target": "reed " * 60}] * 3)
    ready = finetune_write.fitted(read(long, 48)["train"], predictor_shape(pair), 12)
    assert ready.batch([0]).target.tolist() == [*load(long.parts["train"])[0]["target"][0].as_py(), -100]
    for row in range(len(rows)):
        target = rows.batch([row]).target.tolist()
        whole = load(task.parts["train"])[0]["target"][row].as_py()
        short = len(whole) < 12
        assert target == ([*whole, task.specials["[SEP]"]] if short else [*whole[:11], -100])


def predictor_shape(folder: str) -> Shape:
    return Shape(**json.loads((Path(folder) / "config.json").read_text())["shape"])


@pytest.mark.parametrize("kin", KIN)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_a_step_is_the_mean_over_the_tokens_of_targets(
    body: bytes, tmp_path: Path, kin: str, smoothing: float
) -> None:
    """However the batch is parted; label smoothing as torch has it."""
    model = folder_of(tmp_path / "model", body, **KIN[kin])
    rows = [*turned(5), {"text": "moon moon", "target": "reed " * 6}]
    whole = task_of(model, tmp_path, rows, batch=6, lr=1e-9, aids=Aids(smoothing=smoothing))
    parted = replace(whole, at_once=2, out=str(tmp_path / "parted"))
    losses = []
    for task in (whole, parted):
        (Path(task.out)).mkdir(exist_ok=True)
        (Path(task.out) / tokenizer.MODEL).write_bytes(body)
        made(task)
        losses.append(found(task, task.runs[0])[0]["losses"][0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    it = predictor(whole.out)
    ready = finetune_write.fitted(read(whole, 48)["train"], it.model.encoder.shape, 12)
    batch = ready.batch(range(6))
    scores = finetune_write.outputs(it.model, batch, {}).detach()
    assert len(scores) == sum(len(one) + 1 for one in ready.table["target"].to_pylist())
    wanted = F.cross_entropy(scores, batch.target, label_smoothing=smoothing)
    assert losses[0] == pytest.approx(float(wanted), rel=1e-3)


def test_runs_that_are_sealed_are_not_made_again(hasty: TuneTask, monkeypatch: pytest.MonkeyPatch) -> None:
    result = json.loads((Path(hasty.out) / "result.json").read_text())
    gone = sorted(Path(hasty.out, "runs").glob("*fresh-1.json"))
    gone[0].unlink()
    again, trained = [], finetune_runs.trained
    monkeypatch.setattr(finetune_runs, "trained", lambda *given: again.append(given[1]) or trained(*given))
    assert made(hasty) == result
    assert [run.name for run in again] == ["fresh-1"]


def test_how_texts_are_chosen_names_a_run_and_no_other_kind(hasty: TuneTask) -> None:
    assert replace(hasty, writing=Decoding(longest=8, beams=3)).key != hasty.key
    assert replace(hasty, out="elsewhere").key == hasty.key
    plain = replace(hasty, kind="classify", writing=Decoding())
    assert plain.key == replace(plain, seeds=(4,)).key
    with pytest.raises(ValueError, match="a task of classify writes no texts"):
        replace(plain, writing=Decoding(beams=2))


def test_files_are_answered_as_the_test_was(hasty: TuneTask, tmp_path: Path) -> None:
    said = found(hasty, hasty.runs[0])[1]["test"]
    rows = [json.loads(line) for line in written_in(hasty) if line]
    new = written(tmp_path / "new.jsonl", [{"abstract": row["text"]} for row in rows])
    it = predictor(hasty.out, batch=3)
    told = list(predictions(it, new, {"text": "abstract"}, size=10))
    assert [one["written"] for one in told] == texts_in(hasty, said)
    assert [one["text"] for one in told] == [row["text"] for row in rows]
    assert [one["row"] for one in told] == list(range(1, 25))
    greedy = [one["written"] for one in predictions(writing(it, {"beams": 1}), new, {"text": "abstract"})]
    assert greedy != [one["written"] for one in told]
    drawn = [
        [one["written"] for one in predictions(writing(it, said), new, {"text": "abstract"}, size=size)]
        for said, size in (
            ({"sample": True}, 10),
            ({"sample": True}, 24),
            ({"sample": True, "seed": 5}, 24),
            ({"sample": True, "top_p": 1e-6}, 24),
        )
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[3] == greedy


def test_the_commands(body: bytes, tmp_path: Path) -> None:
    model, rows = folder_of(tmp_path / "model", body, **KIN["pair"]), turned(40)
    file = written(tmp_path / "a.jsonl", [row | {"label": number % 2} for number, row in enumerate(rows)])
    given = ["finetune", model, "--task", "write", "--train", file, "--out", str(tmp_path / "out"), "--seeds", "1"]
    given += ["--epochs", "1", "--no-fresh", "--beams", "3", "--longest", "9"]
    done = CliRunner().invoke(cli, given, catch_exceptions=False)
    assert "rouge_l" in done.stdout
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["form"]["beams"], config["form"]["longest"]) == (3, 9)
    lines = {}
    for name, more in {
        "as told": [],
        "three": ["--beams", "3"],
        "drawn": ["--sample", "--heat", "2", "--draw", "4"],
    }.items():
        done = CliRunner().invoke(cli, ["predict", str(tmp_path / "out"), file, *more], catch_exceptions=False)
        lines[name] = [json.loads(line) for line in done.stdout.split("\n") if line]
    assert lines["as told"] == lines["three"] != lines["drawn"]
    assert [*lines["drawn"][0]] == ["file", "row", "id", "text", "written"]
    done = CliRunner().invoke(cli, [*given[:3], "classify", *given[4:]])
    assert "a task of classify writes no texts" in str(done.exception or done.output)


AIDS = {"rdrop": 1.0, "mixout": 0.3, "lora": 2, "layerwise": 0.5, "layerdrop": 0.9, "fresh_top": 1, "smoothing": 0.2}


@pytest.mark.parametrize("name", AIDS)
def test_an_aid_changes_a_run_and_is_a_function_of_its_seed(body: bytes, tmp_path: Path, name: str) -> None:
    model = folder_of(tmp_path / "model", body, **KIN["pair"])
    plain = task_of(model, tmp_path, turned(6), batch=3, epochs=2, dropout=0.1, writing=Decoding(longest=2))
    aided = replace(plain, aids=Aids(**{name: AIDS[name]}))
    losses = []
    for number, task in enumerate((plain, aided, aided)):
        task = replace(task, out=str(tmp_path / str(number)))
        Path(task.out).mkdir()
        made(task)
        losses.append(found(task, task.runs[0])[0]["losses"])
    assert losses[1] == losses[2]
    assert losses[0] != losses[1]


def test_what_cannot_write_is_named(body: bytes, tmp_path: Path) -> None:
    encoder = folder_of(tmp_path / "encoder", body, stack="encoder")
    with pytest.raises(ValueError, match=r"an encoder alone .* writes no text; give a pair .* or a causal model"):
        made(task_of(encoder, tmp_path / "a", turned(4)))
    decoder = folder_of(tmp_path / "decoder", body, **KIN["decoder"])
    with pytest.raises(ValueError, match=r"25 tokens are to be written, and the model reads 48.*at most 24"):
        made(task_of(decoder, tmp_path / "b", turned(4), writing=Decoding(longest=25)))
    for aids, told in ((Aids(balance="sampling"), "balance"), (Aids(sift=1.0), "sift"), (Aids(unfreeze=1), "unfreeze")):
        with pytest.raises(ValueError, match=f"the aid {told} is of .*, and not of write"):
            task_of(decoder, tmp_path / "c", turned(4), aids=aids)
    with pytest.raises(ValueError, match="2 texts of each row"):
        task_of(decoder, tmp_path / "c", turned(4), writing=Decoding(sequences=2, beams=2))
    with pytest.raises(ValueError, match="pools no states"):
        task_of(decoder, tmp_path / "c", turned(4), pooling="mean")
    half = folder_of(tmp_path / "half", body, **KIN["pair"])
    weights = {name: each for name, each in load_weights(half).items() if not name.startswith("decoder.")}
    save_file(weights, Path(half) / "model.safetensors")
    with pytest.raises(ValueError, match=r"decoder\..* is missing from the pretrained weights"):
        made(task_of(half, tmp_path / "d", turned(4)))


def load_weights(folder: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(Path(folder) / "model.safetensors")
