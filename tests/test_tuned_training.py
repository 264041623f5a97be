"""How a fine-tuning was trained, on the page and the card: other tasks with their gain, aids, operations, one epoch."""

import copy
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.test_export_card import plain_card
from tests.test_report import Page
from tests.test_tuned_page import EVIL, result
from tests.test_tuned_page import over as told_over
from tundish.pipeline import tuned_figures
from tundish.pipeline.tuned_page import page, shown
from tundish.pipeline.tuned_training import aided, baseline, company, compute, how_of, lines

BESIDE = {
    "nli": {"task": "classify", "examples": 400, "steps": 60, "dev": {"accuracy": told_over(0.6, 0.7), "f1": {}}},
    EVIL: {"task": "tag", "examples": 80, "steps": 14, "dev": {"span_f1": {"mean": 0.25, "seeds": [0.25]}}},
}
COMPUTE = {
    "flops": 6e9, "seconds": 9.0, "untimed": 1, "devices": ["CPU, 1 thread"],
    "pretraining": {"said": f"3 PFLOP {EVIL}"},
    "runs": [
        {"name": "pretrained-1", "flops": 2e9, "seconds": 4.0, "device": "CPU, 1 thread"},
        {"name": "pretrained-2", "flops": 2e9, "seconds": None, "device": None},
        {"name": "fresh-1", "flops": 2e9, "seconds": 5.0, "device": "CPU, 1 thread"},
    ],
}  # fmt: skip


def accompanied(how: str = "proportional", **more: Any) -> dict[str, Any]:
    mixing = {"how": how, "temperature": 2.0, "limit": 0, "epochs": 0} | more
    return result() | {"beside": copy.deepcopy(BESIDE), "mixing": mixing}


def section(text: str, name: str) -> str:
    return text[text.index(f'id="tuned-{name}"') :].split("</section>")[0]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tuned")
    told = accompanied() | {"aids": {"lora": 8}, "baseline": {"without": ["lora"], "rate": 3e-4}}
    (folder / "result.json").write_text(json.dumps(told))
    (folder / "compute.json").write_text(json.dumps(COMPUTE))
    return Path(page(str(folder))).read_text()


def test_the_page_tells_what_learnt_beside_it_and_what_that_was_worth(text: str) -> None:
    found = Page(text)
    assert found.headings[:3] == ["Scores", "Training", "Comparisons"]
    assert found.open == []
    mine = section(text, "training")
    rows = [re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", row) for row in mine.split("<tr>")]
    assert ["this task", "classify", "100", "26", "26.0 %", "", "", ""] in rows
    assert ["nli", "classify", "400", "60", "60.0 %", "accuracy", "0.650", "0.600 to 0.700"] in rows
    assert [html.escape(EVIL).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"), "tag", "80", "14", "14.0 %",
            "span F1", "0.250", ""] in rows  # fmt: skip
    assert "in proportion to their examples." in mine
    assert "-0.010</td>" in mine
    assert "-0.030 to +0.010" in mine
    assert "Aids: <code>lora=8</code>" in mine
    assert "<dd>the same training without lora</dd>" in text
    assert "Fresh weights learnt whole, without lora and at a rate of 0.0003" in mine


def test_the_page_tells_what_it_took(text: str) -> None:
    rows = [re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", row) for row in section(text, "training").split("<tr>")]
    assert ["pretrained weights", "2", "4 GFLOP", "4.0 s of 1", "CPU, 1 thread"] in rows
    assert ["fresh weights", "1", "2 GFLOP", "5.0 s", "CPU, 1 thread"] in rows
    assert "The pretraining before it: 3 PFLOP &lt;script&gt;" in text
    assert "<script" not in text


def test_a_gain_that_is_not_known_is_said_to_be_so() -> None:
    alone = accompanied()
    del alone["gain"]
    told = company(alone)
    assert told is not None
    assert told["gains"] == []
    assert "What that was worth was not measured." in carded(alone)
    assert company(result()) is None
    assert company(result() | {"beside": {}, "mixing": {"how": "equal"}}) is None


def test_every_mixture_has_its_words() -> None:
    from tundish.operators.model.tasks import HOWS

    said = {how: how_of({"how": how, "temperature": 3.0, "limit": 0}) for how in HOWS}
    assert len(set(said.values())) == len(HOWS)
    assert said["temperature"].endswith("to the power of 1 / 3")
    assert "none counted for more than 5,000" in how_of({"how": "proportional", "temperature": 2.0, "limit": 5000})
    assert how_of({"how": "first", "epochs": 3}).startswith("Other tasks learnt first, 3 epochs, and it went on")


def carded(told: dict[str, Any], **more: Any) -> str:
    """The card of such a result, whose data.json knows the part `test`."""
    renamed = json.loads(json.dumps(told).replace(json.dumps(EVIL)[1:-1], "test"))
    return plain_card(renamed, **more)


def test_the_card_tells_the_same() -> None:
    told = accompanied("first", epochs=2) | {"aids": {"lora": 8}, "baseline": {"without": ["lora"], "rate": 3e-4}}
    card = carded(told, compute=COMPUTE)
    assert "Other tasks learnt first, 2 epochs, and it went on from their trunk." in card
    assert "| nli | classify | 400 | 60.0 % | accuracy 0.650 (0.600 to 0.700) |" in card
    assert "On test that changed accuracy by -0.010 (-0.030 to +0.010) against the same training alone." in card
    assert "| aids | lora=8 |" in card
    assert "Fresh weights learnt whole, without lora" in card
    assert "| compute, these weights | 2 GFLOP, 4.0 s on CPU, 1 thread (operations by formula) |" in card
    assert "| compute, all 3 runs | 6 GFLOP, 9.0 s of 2 on CPU, 1 thread |" in card
    assert "| compute, the pretraining | 3 PFLOP &lt;script>" in card
    plain = carded(result())
    assert "compute" not in plain
    assert "Tasks that learnt with it" not in plain


@pytest.mark.parametrize(("said", "words"), [("open", "not shown to be better"), ("behind", "worse"), ("ahead", "")])
def test_the_card_says_the_verdict_of_the_comparison(said: str, words: str) -> None:
    told = result()
    told["compared"]["parts"][EVIL]["fresh"]["verdict"] = said
    sentence = f"On test it is {words} than the same training from fresh weights."
    assert (sentence in carded(told)) == bool(words)
    assert ("than the same training from fresh weights" in carded(told)) == bool(words)


def test_what_is_not_known_is_not_told() -> None:
    assert compute(None) is None
    assert compute({"runs": []}) is None
    assert (aided({}), baseline({}), lines({})) == ("", "", [])
    bare = {name: each for name, each in result().items() if name not in ("gain", "runs")}
    assert shown(bare)["training"] is None


# -- one epoch


def one_epoch() -> dict[str, Any]:
    told = result() | {"epochs": 1}
    for run in told["runs"]:
        loss = 0.4 + run["seed"] / 10 + 0.1 * (not run["pretrained"])
        run |= {"losses": [None if run["failed"] else loss], "dev": []}
    return told


def test_one_epoch_is_no_curve_but_a_row_of_rings_with_their_mean() -> None:
    curves = shown(one_epoch())["curves"]
    assert [each["title"] for each in curves][1:] == ["Training loss after the one epoch, a ring a run"]
    picture = curves[1]["picture"]
    assert ">pretrained<" in picture
    assert ">fresh<" in picture
    assert ">mean 0.600<" in picture, "of 0.5, 0.6 and 0.7"
    assert ">mean 0.700<" in picture, "of 0.6 and 0.8; of the run that failed nothing is known"
    several = shown(result())["curves"]
    assert "by epoch, a line a run" in several[1]["title"]


def test_rings_lie_where_their_values_are() -> None:
    drawn = tuned_figures.after_one("a", "t", "loss", [("pretrained", 0.2), ("fresh", 0.9), ("pretrained", 0.4)])
    rings = r'<use xlink:href="[^"]*" x="([^"]+)" y="([^"]+)" style="fill-opacity: 0; stroke: var\(--(\w+)\)"'
    each = [(colour, float(x), float(y)) for x, y, colour in re.findall(rings, drawn)]
    assert [colour for colour, _, _ in each] == ["second", "first", "first"]
    other, low, high = (x for _, x, _ in each)
    assert (high - low) / (other - low) == pytest.approx((0.4 - 0.2) / (0.9 - 0.2), abs=1e-3)
    rows = [y for _, _, y in each]
    assert rows[2] == rows[1] < rows[0], "pretrained weights above fresh ones"


def test_f1_of_one_class_is_told_with_its_name() -> None:
    told = result()
    told["names"] = ["no", "a|<b>"]
    told["parts"][EVIL]["pretrained"]["f1"] = told_over(0.5, 0.6)
    assert {row["called"] for row in shown(told)["rows"]} == {"accuracy", "macro F1", "F1 of a|<b>"}
    assert "| test | F1 of a\\|&lt;b> |" in carded(told)
