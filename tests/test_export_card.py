"""The card of a fine-tuned model: numbers of its files alone, a header the Hub reads, code that runs; the command."""

import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import save_file

from tests import tuned_folders as toys
from tests.theirs import transformers
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.shape import Shape
from tundish.pipeline.card_tuned import PIPELINES, card_tuned
from tundish.pipeline.cli import cli
from tundish.pipeline.export import export
from tundish.stages.export_tuned import files_in
from tundish.stages.finetune_files import prepared
from tundish.stages.finetune_runs import tune
from tundish.stages.predict import predictions, predictor
from tundish.stages.tuned import trunk_told

torch.set_num_threads(1)
SHAPE = Shape(
    97, 32, 2, 2, 48, length=64, types=2, norm="post", positions="learned", bias=True, gated=False, final_norm=False
)
CARD = """---
license: cc-by-4.0
tags:
- tundish
---

# small, 0123

An encoder (BertForMaskedLM) of 9 parameters. Every number on this page is read off the manifests.

## Use

- not this

## Data

- crawled: 3 pages of <b>birds</b>
- read (Read): 5 documents

| station |
"""


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trunks") / "small-0123"
    folder.mkdir()
    with torch.device("meta"):
        fresh = Model(SHAPE)
    initialise(fresh, SHAPE, seed=1)
    save_file({name: each.contiguous() for name, each in fresh.state_dict().items()}, folder / "model.safetensors")
    specials = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    (folder / "config.json").write_text(json.dumps({"shape": asdict(SHAPE), "specials": specials}))
    (folder / "tokenizer.json").write_text(toys.words("bert").to_str())
    (folder / "README.md").write_text(CARD)
    return folder


def rows(kind: str, count: int, seed: int) -> list[dict[str, Any]]:
    draw, made = np.random.default_rng(seed), []
    for number in range(count):
        ids = draw.integers(5, 97, 6).tolist()
        words = [f"w{at}" for at in ids]
        text, low = " ".join(words), min(ids) < 20
        made.append(
            {
                "classify": {"text": text, "label": "low|<b>" if low else "high"},
                "multilabel": {"text": text, "labels": ["low"] * low + ["odd"] * (ids[0] % 2) or ["none"]},
                "regress": {"text": text, "value": float(np.mean(ids))},
                "tag": {"words": words, "tags": ["B-low" if at < 40 else "O" for at in ids]},
                "answer": {"context": text, "question": f"w{ids[3]} w{number % 90 + 5}", "answers": [words[3]]},
                "embed": {"text": text, "second": " ".join(words[::-1])},
            }[kind]
        )
    return made


def written(path: Path, made: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return str(path)


def tuned_folder(trunk: Path, folder: Path, kind: str, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: written(folder / f"{name}.jsonl", rows(kind, n, n)) for name, n in (("train", 60), ("test", 31))}
    given = {"seeds": (1, 2), "epochs": 1, "lr": 1e-3, "batch": 8} | more
    task, _ = prepared(str(trunk), kind, files, str(folder / "tuned"), **given)
    tune(task, 0, 1, lambda line: None)
    return folder / "tuned"


def parted(card: str) -> tuple[dict[str, Any], str]:
    _, header, body = card.split("---\n", 2)
    return yaml.safe_load(header), body


@pytest.mark.parametrize("kind", sorted(set(PIPELINES) - {"write"}))
def test_every_task_is_handed_over_with_a_card_whose_code_runs(trunk: Path, tmp_path: Path, kind: str) -> None:
    folder, to = tuned_folder(trunk, tmp_path, kind), tmp_path / "over"
    told = export(str(folder), str(to), licence="mit")
    assert told["architecture"].startswith("Bert")
    header, body = parted((to / "README.md").read_text())
    result = json.loads((folder / "result.json").read_text())
    assert header["license"] == "mit"
    assert header["pipeline_tag"] == PIPELINES[kind]
    assert header["tags"][0] == "tundish"
    mean = result["parts"]["test"]["pretrained"][result["measure"]]
    own = result["runs"][0]["scores"]["test"][result["measure"]]
    [indexed] = header["model-index"][0]["results"]
    assert [each["value"] for each in indexed["metrics"]] == [round(own, 6)], "these weights' alone"
    assert not re.search(r"\{[{%]|None|nan\b", body), "nothing unfilled"
    count = json.loads((folder / "data.json").read_text())["parts"]["train"]["rows"]
    assert f"| train | {count} | train.jsonl ({count}) |" in body
    row = next(line for line in body.split("\n") if line.startswith("| test |") and f"{mean['mean']:.3f}" in line)
    low, high = mean["interval"]
    between = f"{low:.3f} to {high:.3f}" if len(set(mean["seeds"])) > 1 else "all seeds equal"
    assert f"{own:.3f} | {mean['mean']:.3f} | {between}" in row
    assert f"{told['parameters']:,} parameters" in body
    code = re.search(r"```python\n(.*?)```", body, re.DOTALL)[1]  # type: ignore[index]
    if kind != "embed":
        _run(code.replace("a text", "w9 w8").replace("another text", "w50 w60 w61"), to, kind, folder, tmp_path)


def _run(code: str, to: Path, kind: str, folder: Path, place: Path) -> None:
    """The card's code in the folder says what a prediction here says."""
    before, names = Path.cwd(), dict[str, Any]()
    os.chdir(to)
    try:
        exec(code, names)
    finally:
        os.chdir(before)
    if kind in ("classify", "multilabel", "regress"):
        file = written(place / "new.jsonl", [{"text": "w9 w8"}, {"text": "w50 w60 w61"}])
        said = list(predictions(predictor(str(folder), device="cpu"), file))
        if kind == "regress":
            assert names["values"].tolist() == pytest.approx([one["value"] for one in said], abs=1e-5)
        else:
            mine = [list(one["probabilities"].values()) for one in said]
            np.testing.assert_allclose(names["shares"].numpy(), mine, atol=1e-5)
            assert [*names["model"].config.label2id] == list(said[0]["probabilities"])


def test_the_hub_reads_the_header(trunk: Path, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    folder = tuned_folder(trunk, tmp_path, "classify", seeds=(1,), scratch=False)
    export(str(folder), str(tmp_path / "over"))
    told = hub.ModelCard.load(tmp_path / "over" / "README.md").data
    result = json.loads((folder / "result.json").read_text())
    assert {each.metric_type for each in told.eval_results} == {"accuracy"}
    mean = result["parts"]["test"]["pretrained"]["accuracy"]["mean"]
    assert [each.metric_value for each in told.eval_results] == [pytest.approx(mean, abs=1e-6)]
    assert told.eval_results[0].metric_name == "accuracy"


def test_the_card_says_calibration_labels_and_where_it_ends(trunk: Path, tmp_path: Path) -> None:
    folder = tuned_folder(trunk, tmp_path, "classify")
    export(str(folder), str(tmp_path / "over"))
    card = (tmp_path / "over" / "README.md").read_text()
    result, data = (json.loads((folder / name).read_text()) for name in ("result.json", "data.json"))
    heat = json.loads((tmp_path / "over" / "config.json").read_text())["tundish"]["temperature"]
    assert heat == result["calibration"]["test"]["temperatures"][0]
    assert f"the temperature {heat:.4g}, which was fitted on dev" in card
    told = result["calibration"]["test"]
    before, after = (told[when]["log_loss"]["mean"] for when in ("before", "after"))
    assert f"| test | log loss | {before:.3f} | {after:.3f} |" in card
    for one in result["classes"]["scores"]:
        named = one["name"].replace("<", "&lt;").replace("|", "\\|")
        assert (
            f"| {named} | {one['precision']:.3f} | {one['recall']:.3f} | {one['f1']:.3f} | {one['support']} |" in card
        )
    counts = [data["parts"][part]["classes"]["high"]["count"] for part in ("train", "dev", "test")]
    assert f"| high | {counts[0]} | {counts[1]} | {counts[2]} |" in card
    assert "<b>" not in card
    assert "| low\\|&lt;b> |" in card
    assert "It began from `small-0123`. Its card says: An encoder (BertForMaskedLM) of 9 parameters." in card
    assert "Its license: cc-by-4.0." in card
    assert "- crawled: 3 pages of &lt;b>birds&lt;/b>\n- read (Read): 5 documents\n" in card
    assert "not this" not in card
    assert "It reads 64 tokens at once" in card


def test_what_the_card_of_the_trunk_says_is_read_of_ours_alone(trunk: Path, tmp_path: Path) -> None:
    told = trunk_told(str(trunk) + "/")
    assert told["name"] == "small-0123"
    assert told["license"] == "cc-by-4.0"
    (tmp_path / "README.md").write_text(CARD.replace("- tundish\n", "- other\n"))
    assert trunk_told(str(tmp_path)) == {"name": tmp_path.name}
    assert trunk_told(str(tmp_path / "nowhere")) == {"name": "nowhere"}


RESULT: dict[str, Any] = {
    "task": "classify",
    "measure": "accuracy",
    "examples": {"train": 30, "test": 9},
    "seeds": [1, 2],
    "epochs": 3,
    "batch": 4,
    "rate": 1e-4,
    "tested": ["test"],
    "parts": {
        "test": {
            "majority": {"accuracy": 0.5},
            "pretrained": {
                "accuracy": {"mean": 0.7, "seeds": [0.7], "interval": [0.55, 0.85]},
                "failed": {"runs": 1, "of": 2, "share": 0.5},
            },
            "fresh": {"accuracy": {"mean": 0.6, "seeds": [0.6, 0.6]}},
        }
    },
    "runs": [
        {"failed": "the loss was nan in epoch 1", "pretrained": True, "seed": 1, "size": 0, "scores": {}},
        {"failed": "", "pretrained": True, "seed": 2, "size": 0, "scores": {"test": {"accuracy": 0.7}}},
        *(
            {"failed": "", "pretrained": False, "seed": seed, "size": 0, "scores": {"test": {"accuracy": 0.6}}}
            for seed in (1, 2)
        ),
    ],
}
DATA: dict[str, Any] = {
    "parts": {
        "train": {
            "rows": 30,
            "classes": {"a": {"count": 25}, "rare": {"count": 5}},
            "pieces": {"longer": 3, "longer_share": 0.1, "length": 12},
        },
        "test": {"rows": 9, "shared": {"exact": 1, "alike": 2}},
    },
    "told": ["2 texts of train have two labels"],
}


def plain_card(result: dict[str, Any] = RESULT, **told: Any) -> str:
    config = {"task": "classify", "head": "sequence", "pooling": "cls", "names": ["a", "rare"], "shape": asdict(SHAPE)}
    more = {"architecture": "BertForSequenceClassification", "parameters": 1234, "temperature": 1.0, "name": "toy"}
    return card_tuned(config, result, DATA, **(more | told))


def test_failures_and_doubts_stand_in_the_card() -> None:
    header, body = parted(plain_card())
    assert [each["name"] for each in header["model-index"][0]["results"][0]["metrics"]] == ["accuracy"]
    assert "Of 2 seeds the run of 1 failed: its loss was no number." in body
    assert "1 of 2 runs was no better than the majority" in body
    assert "Fewer than 20 examples in train: rare." in body
    assert "2 texts of test were in train as well" in body
    assert "not shown to be better than the same training from fresh weights" in body
    assert "texts were cut behind 12 pieces, which 10.0 % were longer than" in body
    assert "2 texts of train have two labels." in body
    assert "temperature" not in body
    better = json.loads(json.dumps(RESULT))
    better["parts"]["test"]["pretrained"]["accuracy"]["interval"] = [0.61, 0.85]
    assert "not shown to be better" in plain_card(better), "one seed is left, and an interval above is no verdict"
    better["runs"] = [
        {"pretrained": start, "seed": seed, "size": 0, "failed": "", "scores": {"test": {"accuracy": score}}}
        for start, score in ((True, 0.9), (False, 0.6)) for seed in (1, 2)
    ]  # fmt: skip
    assert "from fresh weights." not in plain_card(better)


def test_a_temperature_is_praised_where_it_was_of_use_alone() -> None:
    """On its own weights: of the first seed, whatever the mean of all is."""

    def quality(error: float, loss: float) -> dict[str, Any]:
        return {
            "expected_error": {"mean": 0.2, "seeds": [error, 0.9]},
            "log_loss": {"mean": 0.2, "seeds": [loss, 0.9]},
        }

    def card(after: dict[str, Any], **more: Any) -> str:
        told = {"test": {"before": quality(0.2, 0.5), "after": after, "temperatures": [1.5, 1.0], **more}}
        return " ".join(plain_card(RESULT | {"calibration": told}, temperature=1.5).split())

    good = card(quality(0.1, 0.5))
    assert "On test that gave probabilities that mean more: expected calibration error 0.100 instead of 0.200" in good
    assert "and log loss 0.500 instead of 0.500" in good
    for worse in (quality(0.1, 0.6), quality(0.3, 0.4)):
        assert "mean more: " in (said := card(worse))
        assert "On test that gave probabilities that do not mean more: " in said
    assert "no temperature was fitted" not in good
    assert "test: no temperature was fitted for 1 of 2 seeds" in card(quality(0.1, 0.5), unfitted=1)
    assert "mean more" not in plain_card(RESULT, temperature=1.5), "nothing is known of it"


def test_one_run_is_one() -> None:
    told = json.loads(json.dumps(RESULT))
    told["parts"]["test"]["pretrained"]["failed"] = {"runs": 1, "of": 1}
    assert "1 of 1 run was no better than the majority" in plain_card(told)
    run = {"name": "pretrained-1", "flops": 1e9, "seconds": 4.0, "device": "CPU"}
    assert "| compute, 1 run |" in plain_card(told, compute={"runs": [run]})


def test_the_command_hands_over_a_folder(trunk: Path, tmp_path: Path) -> None:
    folder, to = tuned_folder(trunk, tmp_path, "tag", seeds=(1,), scratch=False), tmp_path / "by-command"
    count = json.loads((folder / "result.json").read_text())["examples"]["train"]
    assert files_in(str(folder), ["train", "none"]) == {"train": {"train.jsonl": count}}
    done = CliRunner().invoke(cli, ["export", str(folder), "--to", str(to), "--json"], catch_exceptions=False)
    told = json.loads(done.output)
    assert told["architecture"] == "BertForTokenClassification"
    assert {name: (to / name).stat().st_size for name in told["files"]} == told["files"]
    assert transformers.AutoModelForTokenClassification.from_pretrained(to).config.id2label == {0: "O", 1: "B-low"}
    with pytest.raises(ValueError, match="is one fine-tuned model; leave --model"):
        export(str(folder), str(tmp_path / "other"), generator=True)
    with pytest.raises(ValueError, match="holds no fine-tuned model"):
        export(str(trunk), str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
