"""The page of a fine-tuning: whole, escaped, readable, and true to its result."""

import html
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.test_report import Page
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.shape import Shape
from tundish.pipeline import tuned_page
from tundish.pipeline.cli import cli
from tundish.pipeline.tuned_figures import WIDTH, Range, axis_of, ranged
from tundish.pipeline.tuned_page import failures, masked, page, shown

EVIL = "<script>alert('x')</script>&\"'>"
MAIL = "anna.muster@example-mail.org"
STARTS = {"fresh": 0.4, "pretrained": 0.5}
IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
WORDS = ("heron", "crane", "water", "stone", "night", "river", "feather", "wind")


def over(*seeds: float) -> dict[str, Any]:
    mean = float(np.mean(seeds))
    return {"mean": mean, "seeds": list(seeds), "interval": [mean - 0.05, mean + 0.05]}


def bins(shift: float) -> dict[str, Any]:
    held = {"confidence": [0.55, 0.95], "accuracy": [0.5 + shift, 0.8 + shift], "count": [40, 60]}
    held |= {"low": [0.5, 0.9], "high": [0.6, 1.0]}
    kinds = {name: over(0.1 + shift) for name in ("log_loss", "brier", "expected_error", "maximum_error")}
    return {**kinds, "reliability": held}


def sliced(name: str, score: float, worse: bool = False) -> dict[str, Any]:
    return {"name": name, "n": 40, "score": score, "interval": [score - 0.1, score + 0.1], "worse": worse}


def example(**more: Any) -> dict[str, Any]:
    said = {"file": "a.tsv", "row": 7, "label": EVIL, "guess": "no", "probability": 0.01}
    return said | {"text": f"{EVIL} write to {MAIL}", "second": EVIL} | more


def result(classes: int = 3) -> dict[str, Any]:
    """A result in which every text that a user can name is evil."""
    names = [EVIL, *(f"class {at}" for at in range(1, classes))]
    table = np.random.default_rng(classes).integers(0, 9, (classes, classes)) + 20 * np.eye(classes)
    part = {
        "pretrained": {"accuracy": over(0.8, 0.7), "macro_f1": over(0.7, 0.6), "failed": {"runs": 1, "of": 3}},
        "fresh": {"accuracy": over(0.6, 0.65), "macro_f1": over(0.5, 0.5)},
        "majority": {"accuracy": 0.4, "macro_f1": 0.2},
    }
    runs = [
        {"name": f"{kind}-{seed}", "pretrained": kind == "pretrained", "seed": seed, "size": 0, "failed": "", "dev": [],
         "losses": [0.9, 0.5 + seed / 10], "scores": {EVIL: {"accuracy": 0.35 if seed == 3 else 0.8}}}
        for kind in ("pretrained", "fresh") for seed in (1, 2, 3)
    ]  # fmt: skip
    runs[4] |= {"failed": f"the loss was nan {EVIL}", "losses": [0.9, None], "scores": {}}
    runs[0]["dev"] = [0.5, 0.6]
    return {
        "task": "classify", "measure": "accuracy", "examples": {"train": 100, "dev": 10, EVIL: 50}, "names": names,
        "seeds": [1, 2, 3], "epochs": 2, "batch": 8, "rate": 1e-3, "tested": [EVIL], "parts": {EVIL: part},
        "runs": runs, "hardest": [example() for _ in range(9)],
        "calibration": {EVIL: {"before": bins(0.2), "after": bins(0.0), "temperatures": [2.0, 3.0]}},
        "classes": {
            "scores": [{"name": n, "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 9} for n in names],
            "confusion": table.tolist(),
        },
        "slices": {
            EVIL: {
                "measure": "accuracy", "whole": sliced("all", 0.75),
                "by": [{"by": EVIL, "of": "examples", "slices": [sliced(EVIL, 0.4, True), sliced("b", 0.8)]}],
            },
        },
        "suspects": {"count": 1, "of": 50, "seeds": 3, "examples": [example(other=0.99)]},
        "curve": {start: [{"size": 50, **over(low)}, {"size": 100, **over(0.6)}] for start, low in STARTS.items()},
        "compared": {"measure": "accuracy", "against": EVIL, "parts": {EVIL: {
            "fresh": {"difference": 0.125, "interval": [0.05, 0.2], "chance": 0.002, "verdict": "ahead"},
            "against": {"runs": [1, 2], "verdict": "open"},
        }}},
        "gain": {EVIL: {"accuracy": {"mean": -0.01, "interval": [-0.03, 0.01]}}},
    }  # fmt: skip


def besides() -> dict[str, Any]:
    """Files of other commands, as they lie beside a result."""
    share = {"count": 5, "share": 0.1, "interval": [0.05, 0.2]}
    document = {"id": "ab", "url": EVIL, "trained": {}}
    step = {
        "bytes": 9e6,
        "parameters": 1000,
        "parts": {EVIL: over(0.8, 0.7)},
        "front": {"latency": True, "bytes": True},
    }
    small = step | {"bytes": 3e6, "parts": {EVIL: over(0.7)}, "front": {"latency": False, "bytes": True}}
    groups = {
        "clean": {"n": 45, "score": 0.7, "interval": [0.6, 0.8]},
        "whole": {"n": 0, "score": None, "interval": None},
    }
    scores = {"measure": "accuracy", "groups": groups, "difference": {"value": 0.1, "interval": [-0.1, 0.3]}}
    points = [{"trials": n, "mean": 0.6 + n / 100, "deviation": 0.05} for n in (1, 2, 3)]
    return {
        "data.json": {"told": [f"3 texts are twice in {EVIL}"]},
        "search.json": {
            "how": "random", "measure": "accuracy", "expected_best": points, "ends": {"whole": 3, "failed": 0},
            "best": {"number": 1, "setting": {EVIL: EVIL, "lr": 1e-4}, "score": 0.66},
        },
        "compressed.json": {
            "tested": [EVIL], "measure": "accuracy",
            "steps": {"model": step | {"speed": {"latency": 5.0, "throughput": 90.0}},
                      EVIL: small | {"speed": {"latency": 6.0, "throughput": 80.0}}},
        },
        "contamination.json": {
            "parts": {EVIL: {"examples": 50, "too_short": 2, "contaminated": share, "whole": share, "trained": None,
                             "scores": scores}},
            "worst": [{"part": EVIL, "file": EVIL, "row": 3, "text": f"{EVIL} {MAIL}", "weight": 0.5,
                       "trained_weight": None, "from": [document]}],
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tuned")
    for name, value in {"result.json": result(), **besides()}.items():
        (made / name).write_text(json.dumps(value))
    return made


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return Path(page(str(folder))).read_text()


class Outline(HTMLParser):
    """Headings, what header cells are of, and all that is read aloud."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.scopes: list[str | None] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "th":
            self.scopes.append(dict(attrs).get("scope"))

    def handle_data(self, data: str) -> None:
        self.said.append(data)


SECTIONS = ["Scores", "Comparisons", "Curves", "Calibration", "Classes", "Slices", "Hardest examples",
            "Labels worth a second look", "Search", "Compressed", "Contamination"]  # fmt: skip


def test_the_page_is_whole_and_fetches_nothing(text: str) -> None:
    found = Page(text)
    assert found.open == []
    assert found.fetched == []
    assert len(found.ids) == len({*found.ids})
    assert found.links <= {*found.ids}
    assert found.headings == SECTIONS
    assert not re.search(r"url\((?!#)|@import", text)


def test_nothing_that_a_user_named_is_markup(text: str) -> None:
    assert "<script" not in text.lower()
    assert EVIL not in text
    said = "".join(Outline(text).said)
    assert said.count(EVIL) > 20, "it is all there to be read"
    assert html.escape(EVIL) in text.replace("&#39;", "&#x27;").replace("&#34;", "&quot;")


def test_it_can_be_read_aloud(text: str) -> None:
    found = Outline(text)
    assert found.headings[0] == 1
    assert found.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(found.headings, found.headings[1:], strict=False))
    assert found.scopes
    assert {*found.scopes} <= {"col", "row", "rowgroup"}
    figures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(figures) == 15
    for figure in figures:
        drawn = ET.fromstring(figure.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))
        assert drawn.get("role") == "img"
        title = drawn.find("{*}title") if drawn.find("title") is None else drawn.find("title")
        assert title is not None
        assert drawn.get("aria-label") == title.text
        assert not re.search(r"#0102|#000000|#ffffff", figure), "a colour that would not change with the page"


def test_the_numbers_are_those_of_the_result(text: str) -> None:
    section = text[text.index('id="tuned-scores"') :].split("</section>")[0]
    row = section[section.index("<td>macro F1</td>") :].split("</tr>")[0]
    assert re.findall(r'<td class="n">([^<]*)</td>', row) == ["0.650", "0.600 to 0.700", "0.500", "0.200", ""]
    assert "1 of 3" in section
    slices = text[text.index('id="tuned-slices"') :].split("</section>")[0]
    worse = [line for line in slices.split("\n") if 'class="worse"' in line]
    assert len(worse) == 1
    assert ">0.400<" in worse[0]
    assert "1 of 2 slices lies wholly" in slices
    assert "expected calibration error 0.300" in text
    assert "by 10.0 (0.100)" in text
    assert "temperature of 2.50" in text
    assert "+0.125" in text[text.index('id="tuned-comparisons"') :].split("</section>")[0]


def test_the_same_folder_gives_the_same_bytes(folder: Path, text: str, tmp_path: Path) -> None:
    assert Path(page(str(folder), str(tmp_path / "again.html"))).read_text() == text


def test_personal_data_of_texts_are_replaced(text: str) -> None:
    assert MAIL not in text
    rows = [{"text": f"to {MAIL}", "row": 1}, {"row": 2}]
    assert [each["row"] for each in masked(rows)] == [1, 2]
    assert MAIL not in masked(rows)[0]["text"]
    assert rows[0]["text"].endswith(MAIL), "the result itself is left alone"


def test_what_is_not_there_has_no_section(tmp_path: Path) -> None:
    whole = result()
    bare = {
        name: whole[name]
        for name in ("task", "measure", "examples", "seeds", "epochs", "batch", "rate", "tested", "parts")
    }
    bare["parts"] = {EVIL: {"majority": None, "pretrained": {"accuracy": {"mean": 0.5, "seeds": [0.5]}}}}
    (tmp_path / "result.json").write_text(json.dumps(bare))
    (tmp_path / "search.json").write_text(json.dumps({"best": None, "trials": []}))
    (tmp_path / "compressed.json").write_text(json.dumps({"steps": {"model": {"bytes": 3}}}))
    (tmp_path / "contamination.json").write_text(json.dumps({"parts": {}}))
    assert Page(Path(page(str(tmp_path))).read_text()).headings == ["Scores"]


def test_where_every_run_failed_the_page_says_so(tmp_path: Path) -> None:
    lost = result()
    for name in ("calibration", "classes", "slices", "hardest", "suspects", "curve", "compared", "gain"):
        del lost[name]
    lost["parts"] = {EVIL: {"majority": {"accuracy": 0.5}, "pretrained": {"failed": {"runs": 6, "of": 6}}}}
    for run in lost["runs"]:
        run |= {"failed": "the loss was nan in epoch 1", "losses": [None], "scores": {}, "dev": []}
    (tmp_path / "result.json").write_text(json.dumps(lost))
    text = Path(page(str(tmp_path))).read_text()
    assert Page(text).headings == ["Scores"]
    assert text.count("the loss was nan in epoch 1") == 6


def test_runs_that_failed_are_named(text: str) -> None:
    found = {each["run"]: each["why"] for each in failures(result())}
    assert set(found) == {"pretrained-3", "fresh-3", "fresh-2"}
    assert found["fresh-2"] == f"the loss was nan {EVIL}"
    assert "0.350" in found["pretrained-3"]
    assert all(f"<code>{name}</code>" in text for name in found)


@pytest.mark.parametrize("classes", [20, 21])
def test_many_classes_are_told_by_their_most_confused_pairs(classes: int) -> None:
    told = result(classes)
    table = np.array(told["classes"]["confusion"])
    found = shown(told)["classes"]
    if classes <= 20:
        assert [[cell["count"] for cell in row] for row in found["matrix"]] == table.tolist()
        assert found["matrix"][3][4]["share"] == pytest.approx(table[3, 4] / table[3].sum())
        assert found["pairs"] == []
        return
    assert found["matrix"] == []
    wrong = sorted((table[a, b] for a in range(classes) for b in range(classes) if a != b), reverse=True)
    assert [each["count"] for each in found["pairs"]] == wrong[:20]
    for each in found["pairs"]:
        a, b = told["names"].index(each["label"]), told["names"].index(each["guess"])
        assert (each["count"], a == b) == (table[a, b], False)


def test_several_results_have_room_on_a_page() -> None:
    told = [shown(result(), {}, name) for name in ("finetune-1", "finetune-2")]
    ids = [set(re.findall(r'\bid="([^"]+)"', json.dumps(each).replace('\\"', '"'))) for each in told]
    assert ids[0]
    assert not ids[0] & ids[1]


def circles(svg: str) -> list[float]:
    return [float(each) for each in re.findall(r'cx="([^"]+)"', svg)]


def test_ranges_lie_where_their_numbers_are() -> None:
    axis = axis_of([0.2, 0.8, None])
    rows = [Range(0.5, 0.3, 0.7, (0.35, 0.65)), Range(0.2), Range(0.8), Range(None), Range(7.0)]
    found = [circles(ranged("one", axis, [row], 0.5)) for row in rows]
    middle, left, right = found[0][0], found[1][0], found[2][0]
    assert middle == pytest.approx((left + right) / 2, abs=0.1) == pytest.approx(WIDTH / 2, abs=0.1)
    assert left < found[0][1] < middle < found[0][2] < right
    assert found[3] == []
    assert right < found[4][0] <= WIDTH
    assert found[0][1] - left == pytest.approx((right - left) * 0.25, abs=0.2)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"steps": 3}))
    for where in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="holds no result of a fine-tuning; give what"):
            page(str(where))


# -- the commands


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    shape = Shape(vocabulary=24, width=32, layers=1, heads=2, ff=48, length=24, types=2)
    with torch.device("meta"):
        fresh = Model(shape)
    initialise(fresh, shape, seed=1)
    save_file({name: each.contiguous() for name, each in fresh.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"shape": asdict(shape), "specials": IDS}))
    made = Tokenizer(models.WordPiece({w: at for at, w in enumerate([*IDS, *WORDS])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([*IDS])
    made.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def tuned(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What the command leaves, and what it printed."""
    folder, draw = tmp_path_factory.mktemp("run"), np.random.default_rng(3)
    lines = ["text\tlabel\tgenre"]
    for number in range(150):
        words = draw.choice(WORDS, 6).tolist() + (["kingfisher"] if number % 4 == 0 else [])
        text = f"{EVIL if number % 3 == 0 else ''} {number} {' '.join(words)}"
        lines.append(f"{text}\t{'heron' in words}\t{'ab'[number % 2]}{EVIL}")
    (folder / "all.tsv").write_text("\n".join(lines) + "\n")
    asked = ["finetune", str(model), "--train", str(folder / "all.tsv"), "--out", str(folder / "out"), "--seeds", "2"]
    torch.set_num_threads(1)
    ran = CliRunner().invoke(cli, [*asked, "--epochs", "2", "--lr", "3e-3", "--sizes", "40", "--slice", "genre"])
    assert ran.exit_code == 0, ran.output
    return folder / "out", ran.output


def test_the_command_leaves_its_page_with_slices_and_texts(tuned: tuple[Path, str]) -> None:
    folder, printed = tuned
    text = (folder / "report.html").read_text()
    assert "report.html" in printed
    found = Page(text)
    assert found.fetched == []
    assert found.headings[:8] == [
        "Scores",
        "Training",
        "Comparisons",
        "Curves",
        "Calibration",
        "Classes",
        "Slices",
        "Hardest examples",
    ]
    told = json.loads((folder / "result.json").read_text())
    families = {each["by"]: each["slices"] for each in told["slices"]["test"]["by"]}
    assert {"genre", "label", "length in pieces"} <= set(families)
    assert sorted(each["name"] for each in families["genre"]) == [f"a{EVIL}", f"b{EVIL}"]
    assert sum(each["n"] for each in families["genre"]) == told["examples"]["test"]
    assert all(each["text"].strip() for each in told["hardest"])
    slices = text[text.index('id="tuned-slices"') :].split("</section>")[0]
    for each in families["genre"]:
        assert f">{each['score']:.3f}<" in slices


def test_report_of_a_tuned_folder_is_its_page(tuned: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = tuned
    ran = CliRunner().invoke(cli, ["report", str(folder), "--out", str(tmp_path / "page.html")])
    assert ran.output.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == (folder / "report.html").read_bytes()
    assert tuned_page.is_tuned(str(folder))
    assert not tuned_page.is_tuned(str(folder.parent))


def test_a_column_that_is_not_there_is_refused_before_anything_is_learnt(model: Path, tmp_path: Path) -> None:
    (tmp_path / "all.tsv").write_text("text\tlabel\n" + "".join(f"heron {at}\t{at % 2}\n" for at in range(60)))
    asked = ["finetune", str(model), "--train", str(tmp_path / "all.tsv"), "--out", str(tmp_path / "out")]
    ran = CliRunner().invoke(cli, [*asked, "--slice", "genre"])
    assert isinstance(ran.exception, ValueError)
    assert "has no column 'genre'" in str(ran.exception)
    assert not (tmp_path / "out" / "runs").exists()


def test_seeds_without_a_temperature_are_told(tmp_path: Path) -> None:
    """All of them: nothing was divided; some: the rest was, and how many were not."""
    told = result()
    for heats, none, there in (([1.0, 1.0], 2, False), ([1.0, 3.0], 1, True)):
        told["calibration"][EVIL] |= {"temperatures": heats, "unfitted": none}
        (tmp_path / "result.json").write_text(json.dumps(told))
        text = Path(page(str(tmp_path))).read_text()
        assert ("divided by a temperature of" in text) is there
        assert ("no temperature was fitted for 1 of 2 seeds (dev is all told rightly" in text) is there
        assert "no temperature was fitted" in text


def test_equal_seeds_are_told_beside_their_interval(tmp_path: Path, text: str) -> None:
    assert "all seeds equal" not in text
    told = result()
    told["parts"][EVIL]["pretrained"]["accuracy"] = {"mean": 0.8, "seeds": [0.8, 0.8], "interval": [0.8, 0.8]}
    (tmp_path / "result.json").write_text(json.dumps(told))
    assert Path(page(str(tmp_path))).read_text().count("0.800 to 0.800, all seeds equal") == 2, "tile and row"


def test_how_many_examples_a_class_has_is_shown(tmp_path: Path, text: str) -> None:
    assert "Examples of classes" not in text
    (tmp_path / "result.json").write_text(json.dumps(result()))
    classes = {f"c{number:02}": {"count": 1000 + number, "share": 0.01} for number in range(22)} | {EVIL: {"count": 9}}
    data = {"parts": {"test": {"classes": {"c21": {"count": 7}}}, "train": {"classes": classes}}, "told": []}
    (tmp_path / "data.json").write_text(json.dumps(data))
    section = Path(page(str(tmp_path))).read_text().split('id="tuned-classes"')[1].split("</section>")[0]
    table = section[section.index("Examples in the files; 3 more are rarer in train") :].split("</table>")[0]
    assert re.findall(r"<th scope=\"col\"[^>]*>([^<]*)</th>", table) == ["class", "train", "test"]
    first = table[table.index("<tbody>") :].split("</tr>")[0]
    assert re.findall(r">([^<>]+)<", first) == ["c21", "1,021", "7"]
