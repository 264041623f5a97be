"""A compression as a terminal and as a page: nothing is cut at any width, and each difference says what it is to."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from tundish.pipeline.cli import cli
from tundish.pipeline.cli_compress import shown
from tundish.pipeline.compressed_page import page
from tundish.pipeline.compressed_table import OPTIONAL, besides, columns, stacked, table_of
from tundish.pipeline.report import report

EVIL = "<script>alert('&')</script>"
MACHINE = {"processor": "a CPU", "instructions": "AVX2", "cores": 2, "threads": 1, "gpu": "", "torch": "2", "batch": 32}


def step(mean: float, reference: str = "", **more: Any) -> dict[str, Any]:
    """A record as stages/compress seals it; `less` as far as it is told."""
    less = (
        {"model": {"difference": mean - 0.9, "interval": [mean - 1.0, mean - 0.8]}} if more.pop("given", True) else {}
    )
    if reference:
        less[reference] = {"difference": mean - 0.88, "interval": [mean - 0.91, mean - 0.85]}
    seeds = [mean] * 3 if more.pop("equal", False) else [mean - 0.02, mean, mean + 0.02]
    part = {"mean": mean, "seeds": seeds, "interval": [mean - 0.12, mean + 0.1], "less": less}
    part |= {"before": 0.5} if reference else {}
    speed = {"latency": 1.25, "fastest": 1.0, "slowest": 2.0, "throughput": 12345.6, "device": "cpu"}
    parts = {name: part for name in more.pop("tested", ["test"])} | {"failed": more.pop("failed", 0)}
    return {
        "told": "as it was", "bytes": 12_340_000, "parameters": 3_000_000, "zeros": 1_500_000, "reference": reference,
        "parts": parts, "speed": speed, "front": {"latency": True, "bytes": False},
        "seeds": {seed: {} for seed in "123"},
    } | more  # fmt: skip


def result(steps: dict[str, dict[str, Any]], tested: tuple[str, ...] = ("test",), **more: Any) -> dict[str, Any]:
    return {
        "model": EVIL, "task": "classify", "measure": "macro_f1", "tested": list(tested), "epochs": 3, "batch": 16,
        "rate": 1e-3, "length": 24, "examples": {"train": 9, **dict.fromkeys(tested, 1200)}, "order": list(steps),
        "steps": steps, "means": {path: {"share": 0.5} for path in steps}, "machine": MACHINE,
        "learnt": {"known": True, "parts": {}},
    } | more  # fmt: skip


def usual(**more: Any) -> dict[str, Any]:
    given = step(0.9, given=False, **more)
    names = {"heads": "recovery", "heads+int8": "recovery", "heads+magnitude": "recovery+recovery", "onnx": ""}
    learnt = {name: step(0.88, **more) for name in ("recovery", "recovery+recovery")}
    return {"model": given, **learnt, **{path: step(0.84, name, **more) for path, name in names.items()}}


def printed(told: dict[str, Any], width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, emoji=False)
    shown(told, console)
    return console.file.getvalue().split("\n")  # type: ignore[attr-defined]


@pytest.mark.parametrize("tested", [("test",), ("inside", "outside")])
@pytest.mark.parametrize("width", [40, 60, 79, 80, 100, 120, 140, 200])
def test_nothing_is_cut_at_any_width(width: int, tested: tuple[str, ...]) -> None:
    steps = usual(tested=tested)
    told = result(steps, tested)
    lines = printed(told, width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    starts = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert [each for each in starts if each in steps][: len(steps)] == list(steps)
    body = "\n".join(lines)
    table = table_of(told, width)
    assert (table is None) == (width < 80 or (width == 80 and len(tested) > 1))
    if table is None:
        assert body.count("less recovery -0.040 -0.070..-0.010") == 3 * len(tested)
        assert body.count(" 0.840 0.720..0.940") == 4 * len(tested)
        assert body.count("macro F1 on outside") == (len(steps) if len(tested) > 1 else 0)
    else:
        assert body.count("-0.070..-0.010") == 3 * len(tested)
        assert body.count(" 0.720..0.940") == 4 * len(tested), "its ends, which lie unevenly"
        assert body.count(" outside") == (len(steps) if len(tested) > 1 else 0)


def test_equal_seeds_are_told_as_such(tmp_path: Path) -> None:
    told = result(usual(equal=True))
    assert table_of(told, 80) is not None
    assert re.search(r"0\.840 .*\n +all seeds .*\n +equal ", "\n".join(printed(told, 80)))
    assert "macro F1 0.840 all seeds equal" in "\n".join(printed(told, 60))
    assert below(below("0.840", "0.720 to 0.940"), "all seeds equal") in Path(page(left(tmp_path, told))).read_text()
    assert "equal" not in "\n".join(printed(result(usual()), 80))


def test_zeros_are_told_of_the_matrices_and_of_all_numbers(tmp_path: Path) -> None:
    steps = usual() | {"magnitude": step(0.8, "recovery", told="50 % of the layers' matrices zero", zeros=801_000)}
    steps["onnx"] |= {"zeros": 30_000}
    words = "50 % of the layers' matrices zero (26.7 % of all numbers)"
    assert f"magnitude: {words}; 1.00 x" in "\n".join(besides(result(steps)))
    assert "onnx: as it was; " in "\n".join(besides(result(steps))), "bytes may happen to be zero"
    text = Path(page(left(tmp_path, result(steps)))).read_text()
    assert f"<td>{words.replace(chr(39), '&#39;')}</td>" in text
    assert ">26.7 %<" in text


def test_more_room_shows_more_columns() -> None:
    told = result(usual())
    needed, more = columns(told)
    assert [one.head for one in needed] == ["step", "MB ", "ms ", "macro F1", "less model", "less recovery"]
    assert [one.head for one in more] == list(OPTIONAL)
    heads = [[str(each.header) for each in table_of(told, width).columns] for width in (80, 100, 140)]
    assert len(heads[0]) < len(heads[1]) < len(heads[2]) == len(needed) + len(more)
    assert set(heads[0]) < set(heads[1]) < set(heads[2])


def test_a_long_name_falls_to_lines() -> None:
    long = "layers+heads+magnitude+distil+onnx+int8"
    told = result({**usual(), long: step(0.8, "recovery+recovery")})
    assert table_of(told, 80) is None
    assert table_of(told, 140) is not None
    assert long in stacked(told)


def test_without_a_step_that_learns_nothing_is_said_of_recoveries() -> None:
    alone = result({"model": step(0.9, given=False), "int8": step(0.9)})
    assert "less recovery" not in "\n".join(printed(alone, 120))
    assert any("beside the same training" in line for line in besides(result(usual())))
    assert "heads+magnitude has learnt several times: it is told beside recovery+recovery" in besides(result(usual()))


def test_what_the_model_has_learnt_is_told_below() -> None:
    plain = besides(result(usual()))
    taken = {"known": True, "parts": {"test": {"out": 7, "of": 30}}}
    assert set(besides(result(usual(), learnt=taken))) - set(plain) == {
        "test: 7 of 30 texts were taken out, for the model has learnt them"
    }
    (unknown,) = set(besides(result(usual(), learnt={"known": False, "parts": {}}))) - set(plain)
    assert "does not tell what it learnt" in unknown


def test_seeds_that_failed_and_other_devices_are_told() -> None:
    steps = usual() | {"heads": step(0.8, "recovery", failed=1)}
    assert "3 of 4" in "\n".join(printed(result(steps), 140))
    assert any(line.startswith("heads: ") and line.endswith("; 1 seed failed") for line in besides(result(steps)))
    steps["onnx"]["speed"] |= {"device": "cuda"}
    assert any(line.startswith("onnx: ") and line.endswith("; on cuda") for line in besides(result(steps)))


def below(figure: str, words: str) -> str:
    """A cell of two lines."""
    return f'{figure}<div class="soft">{words}</div>'


def left(folder: Path, told: dict[str, Any]) -> str:
    (folder / "compressed.json").write_text(json.dumps(told, sort_keys=True))
    return str(folder)


def test_the_page_has_every_step_in_its_order(tmp_path: Path) -> None:
    taken = {"known": True, "parts": {"test": {"out": 7, "of": 30}}}
    steps = {**usual(), EVIL: step(0.7, "recovery", told=EVIL)}
    text = Path(page(left(tmp_path, result(steps, learnt=taken)))).read_text()
    assert EVIL not in text
    assert "Test: 7 of 30 texts were taken out" in text
    rows = [
        re.sub(r"<svg.*?</svg>", "svg", row, flags=re.DOTALL) for row in re.findall(r"<tr>.*?</tr>", text, re.DOTALL)
    ]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    own = [row for row in cells if row[0] in steps]
    assert [row[0] for row in own] == 2 * [path for path in steps if path != EVIL], "scores, and costs"
    heads = next(row for row in own if row[0] == "heads")
    assert heads == ["heads", below("0.840", "0.720 to 0.940"), below("-0.060", "-0.160 to +0.040"),
                     below("-0.040", "-0.070 to -0.010"), "svg", "recovery", "0.500", "3"]  # fmt: skip
    assert next(row for row in own if row[0] == "heads+magnitude")[5] == "recovery+recovery"
    assert text.count("<svg ") == len(steps) - 1 + 2, "a range for all but the model, and two fronts"
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert page(str(tmp_path), str(tmp_path / "two.html")).endswith("two.html")
    assert (tmp_path / "two.html").read_text() == text


def test_the_drawing_stands_before_what_can_wait(tmp_path: Path) -> None:
    """No interval has a column of its own, so that the figures and the drawing have room on a page of 62 rem."""
    text = Path(page(left(tmp_path, result(usual())))).read_text()
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', text.split("<thead>")[1].split("</thead>")[0])
    assert heads[:4] == ["step", "mean", "less the model", "less its reference"]
    assert heads[4].startswith("drawn, ")
    assert heads[5:] == ["reference", "before recovery", "seeds"]


def test_a_report_of_a_compression_is_its_page(tmp_path: Path) -> None:
    folder = left(tmp_path, result(usual()))
    told = CliRunner().invoke(cli, ["report", folder], catch_exceptions=False)
    assert told.output == f"{folder}/report.html\n"
    assert "Compression: classify" in (tmp_path / "report.html").read_text()


def test_what_is_not_finished_is_said(tmp_path: Path) -> None:
    folder = left(tmp_path, {"model": "tuned", "steps": {"model": {}, "heads": {}}})
    with pytest.raises(ValueError, match=r"is not finished; call it again"):
        report(folder)
    (tmp_path / "compressed.json").write_text("[]")
    with pytest.raises(ValueError, match="no run under"):
        report(folder)
