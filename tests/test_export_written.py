"""A model that writes, handed over: `generate` of transformers writes what is written here; so does its card's code."""

import json
import os
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from tests import theirs as their
from tests import tuned_folders as toys
from tests.theirs import transformers
from tundish.operators.model import hub
from tundish.operators.model.decoding import Decoding
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.pipeline.export import export
from tundish.stages.export_written import generation
from tundish.stages.finetune_files import prepared
from tundish.stages.finetune_runs import tune
from tundish.stages.predict import predictions, predictor

torch.set_num_threads(1)
AUTO = {"t5": transformers.AutoModelForSeq2SeqLM, "gpt": transformers.AutoModelForCausalLM}


def trunk(folder: Path, kind: str) -> Path:
    folder.mkdir()
    model = their.theirs(kind)
    found = hub.read(their.config_of(model), model.state_dict())
    fresh = Model(found.shape)
    if kind == "t5":  # whose wide weights say one special token all the time
        initialise(fresh, found.shape, seed=3)
    else:
        fresh.load_state_dict(found.tensors)
    save_file({name: each.contiguous() for name, each in fresh.state_dict().items()}, folder / "model.safetensors")
    specials = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    (folder / "config.json").write_text(json.dumps({"shape": asdict(found.shape), "specials": specials}))
    (folder / "tokenizer.json").write_text(toys.words(kind).to_str())
    return folder


def tuned(folder: Path, kind: str, writing: Decoding) -> Path:
    draw = np.random.default_rng(1)
    words = [[f"w{at}" for at in draw.integers(5, 97, 5)] for _ in range(40)]
    lines = [json.dumps({"source": " ".join(each), "target": " ".join(each[::-1])}) + "\n" for each in words]
    (folder / "train.jsonl").write_text("".join(lines[:30]))
    (folder / "test.jsonl").write_text("".join(lines[30:]))
    files = {name: str(folder / f"{name}.jsonl") for name in ("train", "test")}
    given = {"seeds": (1,), "epochs": 3, "lr": 3e-3, "batch": 8, "scratch": False, "writing": writing, "length": 40}
    task, _ = prepared(str(trunk(folder / "trunk", kind)), "write", files, str(folder / "tuned"), **given)
    tune(task, 0, 1, lambda line: None)
    return folder / "tuned"


@pytest.mark.parametrize("kind", ["t5", "gpt"])
@pytest.mark.parametrize("beams", [1, 3])
def test_transformers_writes_what_is_written_here(tmp_path: Path, kind: str, beams: int) -> None:
    folder = tuned(tmp_path, kind, Decoding(longest=7, shortest=3, beams=beams))
    told = export(str(folder), str(tmp_path / "over"))
    it = predictor(str(folder), device="cpu")
    said = [one["written"] for one in predictions(it, str(tmp_path / "test.jsonl"))]
    model, loading = AUTO[kind].from_pretrained(tmp_path / "over", output_loading_info=True)
    assert not loading["missing_keys"]
    assert type(model).__name__ == told["architecture"]
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "over")
    library = Tokenizer.from_file(str(tmp_path / "over" / "tokenizer.json"))
    sources = [json.loads(line)["source"] for line in (tmp_path / "test.jsonl").read_text().split("\n") if line]
    assert len(sources) == len(said) == 10
    for source, own in zip(sources, said, strict=True):
        given = words(source, return_tensors="pt")
        framed = [*(["[CLS]"] if kind == "gpt" else []), *source.split(), "[SEP]"]
        assert library.encode(source).tokens == framed
        found = model.generate(**given)[0]
        found = found[given.input_ids.shape[1] :] if kind == "gpt" else found
        assert words.decode(found, skip_special_tokens=True).split() == own.split()
    assert len(set(said)) > 1


@pytest.mark.parametrize("kind", ["t5", "gpt"])
def test_sources_are_cut_where_they_were_when_it_learnt(tmp_path: Path, kind: str) -> None:
    folder = tuned(tmp_path, kind, Decoding(longest=7, shortest=3))
    config = json.loads((folder / "config.json").read_text())
    long = " ".join([f"w{at}" for at in range(5, 97)] * 8)
    (tmp_path / "long.jsonl").write_text(json.dumps({"source": long}) + "\n")
    for at, length in enumerate((12, 0)):
        (folder / "config.json").write_text(json.dumps(config | {"length": length}))
        export(str(folder), str(tmp_path / f"over{at}"))
        [own] = predictions(predictor(str(folder), device="cpu"), str(tmp_path / "long.jsonl"))
        words = transformers.AutoTokenizer.from_pretrained(tmp_path / f"over{at}")
        given = words(long, truncation=True, return_tensors="pt")
        room = {"t5": config["shape"]["length"] - 1, "gpt": config["shape"]["length"] - 7 + 1}[kind]
        assert given.input_ids.shape[1] == ({"t5": 11, "gpt": 12}[kind] if length else room)
        found = AUTO[kind].from_pretrained(tmp_path / f"over{at}").generate(**given)[0]
        found = found[given.input_ids.shape[1] :] if kind == "gpt" else found
        assert words.decode(found, skip_special_tokens=True).split() == own["written"].split()


def test_the_cards_code_writes(tmp_path: Path) -> None:
    folder = tuned(tmp_path, "t5", Decoding(longest=7, shortest=3))
    export(str(folder), str(tmp_path / "over"))
    card = (tmp_path / "over" / "README.md").read_text()
    assert "pipeline_tag: text2text-generation" in card
    mean = json.loads((folder / "result.json").read_text())["parts"]["test"]["pretrained"]["rouge_l"]["mean"]
    assert re.search(rf"\| test \| rouge l \|[^|]*\| {mean:.3f} \|", card)
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1].replace("a text", "w9 w8 w7")  # type: ignore[index]
    before, names = Path.cwd(), {}
    os.chdir(tmp_path / "over")
    try:
        exec(code, names)
    finally:
        os.chdir(before)
    file = tmp_path / "new.jsonl"
    file.write_text(json.dumps({"source": "w9 w8 w7"}) + "\n")
    [own] = predictions(predictor(str(folder), device="cpu"), str(file))
    assert names["text"].split() == own["written"].split()


def test_how_texts_are_chosen_is_told_by_their_names() -> None:
    ids = {"pad_token_id": 0, "eos_token_id": 3, "bos_token_id": 2, "decoder_start_token_id": 0, "mask_token_id": 4}
    drawn = generation(Decoding(longest=9, sample=True, temperature=0.5, top_k=7, top_p=0.9), ids)
    assert drawn["do_sample"] is True
    assert (drawn["temperature"], drawn["top_k"], drawn["top_p"], drawn["max_new_tokens"]) == (0.5, 7, 0.9, 9)
    assert "mask_token_id" not in drawn
    searched = generation(Decoding(beams=4, length_penalty=0.6, early=True, no_repeat=3), {"eos_token_id": 3})
    assert (searched["num_beams"], searched["length_penalty"], searched["early_stopping"]) == (4, 0.6, True)
    assert searched["no_repeat_ngram_size"] == 3
    assert {"temperature", "pad_token_id"}.isdisjoint(searched)
    assert transformers.GenerationConfig(**searched).num_beams == 4
