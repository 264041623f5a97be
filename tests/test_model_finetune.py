import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file

from tests.test_model_pretrain import IDS, SHAPE, silent, toy
from tundish.operators.model.classifier import Classifier
from tundish.operators.model.family import Model
from tundish.stages.finetune_loop import FinetuneTask, Labelled, finetune, labelled
from tundish.stages.pretrain_loop import pretrain

torch.set_num_threads(1)


def sequences(count, seed):
    """Label 1 where more tokens lie above the middle of the vocabulary than below."""
    source = np.random.default_rng(seed)
    texts = [tuple(source.integers(5, 40, source.integers(3, 15)).tolist()) for _ in range(count)]
    return Labelled(tuple(texts), tuple(int(np.mean(text) > 22) for text in texts))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    pretrain(toy(folder, tokens=1000, dtype="float32"), 0, 1, silent)
    return FinetuneTask(
        model=str(folder / "out"),
        train=sequences(160, 1),
        test=sequences(60, 2),
        out=str(folder / "tuned"),
        seeds=(1, 2),
        epochs=6,
        lr=3e-3,
        names=("low", "high"),
    )


def read(task, name="result.json"):
    return json.loads((Path(task.out) / name).read_text())


def predictions(task):
    return [json.loads(line) for line in (Path(task.out) / "predictions.jsonl").read_text().split("\n") if line]


@pytest.fixture(scope="module")
def tuned(task):
    told = []
    finetune(task, 0, 1, told.append)
    assert [row["step"] for row in told] == [1, 2, 3, 4]
    return task


def test_it_learns_and_says_how_well(tuned):
    found = read(tuned)
    assert found["accuracy"] > max(0.8, found["majority"]["accuracy"] + 0.1)
    for part in (found, found["scratch"]):
        values = [each["accuracy"] for each in part["seeds"]]
        assert [each["seed"] for each in part["seeds"]] == [1, 2]
        assert part["accuracy"] == pytest.approx(np.mean(values))
        assert part["accuracy_spread"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert found["scratch"] != {key: found[key] for key in found["scratch"]}
    assert (found["train"], found["test"], found["classes"]) == (160, 60, 2)


def test_predictions_are_those_that_were_scored(tuned):
    lines, found = predictions(tuned), read(tuned)
    assert [line["label"] for line in lines] == list(tuned.test.labels)
    for number, seed in enumerate(found["seeds"]):
        right = [line["guesses"][number] == line["label"] for line in lines]
        assert np.mean(right) == pytest.approx(seed["accuracy"])
    assert all(sum(line["probabilities"]) == pytest.approx(1, abs=1e-5) for line in lines)


def test_the_kept_classifier_gives_the_first_seeds_guesses(tuned):
    config = read(tuned, "config.json")
    model = Classifier(Model(SHAPE), config["classes"], pooling=config["pooling"]).eval()
    model.load_state_dict(load_file(Path(tuned.out) / "model.safetensors"))
    assert config["names"] == ["low", "high"]
    for line, text in zip(predictions(tuned)[:20], tuned.test.tokens, strict=False):
        tokens = torch.tensor([[IDS["[CLS]"], *text, IDS["[SEP]"]]])
        assert int(model(tokens, tokens > 0).argmax()) == line["guesses"][0]


def test_the_same_seeds_give_the_same_numbers_and_leave_torch_alone(tuned, tmp_path):
    again = replace(tuned, out=str(tmp_path), scratch=False)
    before = torch.random.get_rng_state()
    finetune(again, 0, 1, silent)
    assert (torch.random.get_rng_state() == before).all()
    assert read(again)["seeds"] == read(tuned)["seeds"]
    assert read(again)["scratch"] is None
    assert predictions(again) == predictions(tuned)


def rank(number, task, world, meeting):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=number, world_size=world)
    finetune(task, number, world, silent)
    torch.distributed.destroy_process_group()


def test_ranks_share_the_runs(tuned, tmp_path):
    """Three ranks and four runs: one rank idles in the last round. The process group is there already, as in Ray."""
    shared = replace(tuned, out=str(tmp_path / "out"))
    mp.spawn(rank, (shared, 3, tmp_path / "meeting"), nprocs=3)
    assert read(shared) == read(tuned)
    assert predictions(shared) == predictions(tuned)


def test_from_files_and_with_long_sequences(task, tmp_path):
    data = sequences(40, 3)
    long = Labelled((*data.tokens[:-1], data.tokens[-1] * 20), data.labels, tuple(f"row-{i}" for i in range(40)))
    table = pa.table(
        {
            "tokens": pa.array(map(list, long.tokens), pa.large_list(pa.uint16())),
            "label": pa.array(long.labels, pa.int32()),
            "id": pa.array(long.ids),
        }
    )
    with pa.ipc.new_file(str(tmp_path / "rows.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert labelled(str(tmp_path / "rows.arrow")) == long
    path = str(tmp_path / "rows.arrow")
    short = replace(task, train=path, test=path, out=str(tmp_path / "out"), epochs=1, seeds=(1,), scratch=False)
    finetune(short, 0, 1, silent)
    assert [line["id"] for line in predictions(short)] == list(long.ids)
    assert read(short)["accuracy_spread"] is None


def test_a_users_mistakes_are_one_sentence(task):
    with pytest.raises(ValueError, match="have 1 labels"):
        Labelled(((5,), (6,)), (0,))
    with pytest.raises(ValueError, match="below 0"):
        Labelled(((5,),), (-1,))
    with pytest.raises(ValueError, match="without a seed"):
        finetune(replace(task, seeds=()), 0, 1, silent)
    with pytest.raises(ValueError, match="at least two classes"):
        finetune(replace(task, train=Labelled(((5,), (6,)), (1, 1))), 0, 1, silent)
    with pytest.raises(ValueError, match="there is no file"):
        finetune(replace(task, model="/nowhere"), 0, 1, silent)
