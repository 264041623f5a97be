"""What a terminal shows while a run goes on: one line that fits, with rates and time left; elsewhere plain lines."""

import io
import random
import re
import time
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.toy_stages import recipe
from tundish.cluster.pace import Pace
from tundish.cluster.verbs import Made, Told
from tundish.pipeline import progress as progress_module
from tundish.pipeline.plan import Step
from tundish.pipeline.progress import BAR, Progressed, Shown, bar, clock, drawn
from tundish.stages.read import Read
from tundish.stages.stage import Place


def told(seconds: float = 2.0, rows: int = 1000, size: int = 5_000_000, workers: int = 4) -> Told:
    made = (Made("Judge", rows, size, {}),)
    return Told("part", rows, {}, made=made, seconds=seconds, workers=workers)


def shown(stage: str = "Judge + Sign", done: int = 40, total: int = 100, note: str = "") -> Shown:
    """Two shards a second at 2 s a shard, for four workers."""
    found = Shown(stage, Pace())
    for number in range(done + 1):
        found = found.heard(number / 2, number, total, told() if number else None)
    return found._replace(note=note)


def test_the_line_says_how_far_how_long_and_how_fast() -> None:
    line = drawn(shown(), 20.0, 200)
    assert re.fullmatch(r"Judge \+ Sign +━+╸─+  40/100  30 s left  2,000 rows/s  10.0 MB/s  2 shards/s", line), line
    assert drawn(shown(), 25.0, 200).split("  ")[-4] == "25 s left"
    assert "left" not in drawn(shown(done=100), 50.0, 200)


def test_every_line_fits_and_what_matters_most_goes_last() -> None:
    draw = random.Random(3)
    stages = (
        "Crawl",
        "Judge + Sign + Identify + Refine + Mask + Perplex",
        "審査 + 署名 + 言語の識別 + 審査 + 署名",
        "é" * 40,
    )
    for _ in range(400):
        found = shown(
            draw.choice(stages), draw.randrange(120), draw.choice((0, 100, 10**7)), draw.choice(("", "x" * 30))
        )
        width = draw.randrange(8, 160)
        line = drawn(found, draw.uniform(0, 90), width)
        assert cell_len(line) <= width, (line, width)
        assert "\n" not in line
    found, order, width = shown(note="loss 3.210"), ["shards/s", "MB/s", "rows/s", "loss", "left", "━"], 200
    for gone in range(len(order) + 1):
        line = drawn(found, 20.0, width)
        assert [word in line for word in order] == [n >= gone for n in range(len(order))], line
        assert line.startswith("Judge + Sign ")
        assert "  40/100" in line
        width = cell_len(line) - 1  # one cell less than all of it
    assert drawn(found, 20.0, 16) == "Judge +   40/100"


def test_a_bar_has_its_length_and_never_goes_back() -> None:
    bars = [bar(n / 97) for n in range(-3, 100)]
    assert {len(one) for one in bars} == {BAR}
    filled = [one.count("━") + one.count("╸") / 2 for one in bars]
    assert filled == sorted(filled)
    assert filled[0] == 0
    assert filled[-1] == BAR


@pytest.mark.parametrize("seconds", [0.1, 1, 59.4, 59.6, 3599.4, 3599.6, 86_399.6, 86_400, 10**7])
def test_a_time_reads_back(seconds: float) -> None:
    units = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
    read = sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (\w+)", clock(seconds)))
    assert read == pytest.approx(seconds, rel=0.02, abs=1)
    assert cell_len(clock(seconds)) <= 12


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(
    terminal: bool, width: int = 100, quiet: bool = False, env: Any = None
) -> tuple[Progressed, Clock, io.StringIO]:
    file, now = io.StringIO(), Clock()
    console = Console(file=file, force_terminal=terminal, width=width, color_system=None, legacy_windows=False)
    return Progressed(console, quiet=quiet, clock=now), now, file


def test_plain_lines_come_every_quarter_of_a_minute() -> None:
    progress, now, file = watched(terminal=False)
    with progress:
        progress.watch("Judge", 0, 100, None)
        for number in range(1, 101):
            now.now = number / 2
            progress.watch("Judge", number, 100, told())
    assert file.getvalue().split("\n") == [
        "     Judge: 31 of 100 shards, 2,000 rows/s, 10.0 MB/s, 2 shards/s, about 34 s left",
        "     Judge: 62 of 100 shards, 2,000 rows/s, 10.0 MB/s, 2 shards/s, about 19 s left",
        "     Judge: 93 of 100 shards, 2,000 rows/s, 10.0 MB/s, 2 shards/s, about 4 s left",
        "",
    ]


def test_a_log_says_that_nothing_ends_less_and_less_often() -> None:
    progress, now, file = watched(terminal=False)
    step = Step(Read(("x.txt",)), Place("root", ""), None, "")
    said: list[tuple[float, str]] = []

    def heard(until: float) -> None:
        while now.now < until:
            now.now += 5
            before = len(file.getvalue())
            progress.tick()
            if line := file.getvalue()[before:].strip():
                said.append((now.now, line))

    heard(200)
    progress.say(step, "run", 0.0)
    heard(400)
    progress.watch("Read", 0, 9, None)
    now.now += 10
    progress.watch("Read", 1, 9, told())
    heard(900)
    progress.say(step, "done", 1.0)
    heard(2000)
    assert said == [
        (260, "Read: nothing has ended for 1 min 00 s"),
        (320, "Read: nothing has ended for 2 min 00 s"),
        (470, "Read: 1 of 9, nothing has ended for 1 min 00 s"),
        (530, "Read: 1 of 9, nothing has ended for 2 min 00 s"),
        (650, "Read: 1 of 9, nothing has ended for 4 min 00 s"),
        (890, "Read: 1 of 9, nothing has ended for 8 min 00 s"),
    ]


def test_whoever_reads_a_log_hears_it_while_the_run_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "LOOK", 0.01)
    for terminal, quiet, heard in ((False, False, True), (False, True, False)):
        progress, now, file = watched(terminal, quiet=quiet)
        with progress:
            progress.watch("Judge", 3, 9, None)
            now.now = 61.0
            if heard:
                end = time.monotonic() + 60
                while "nothing has ended" not in file.getvalue() and time.monotonic() < end:
                    time.sleep(0.01)
        assert not progress.looker.is_alive()
        assert ("nothing has ended" in file.getvalue()) is heard


def test_who_wants_quiet_hears_nothing() -> None:
    for terminal in (False, True):
        progress, now, file = watched(terminal, quiet=True)
        with progress:
            for number in range(100):
                now.now = number * 10.0
                progress.watch("Judge", number, 100, told())
        assert file.getvalue() == ""


def test_a_terminal_gets_one_line_that_is_gone_at_the_end() -> None:
    progress, now, file = watched(terminal=True, width=80)
    with progress:
        progress.watch("Judge", 0, 100, None)
        for number in range(1, 101):
            now.now = number / 2
            progress.watch("Judge", number, 100, told())
            progress.live.refresh()
    written = file.getvalue()
    frames = [frame for frame in re.split(r"\x1b\[2K", written) if "Judge" in frame]
    assert len(frames) >= 100
    for frame in frames:
        assert "\n" not in frame.rstrip("\n")
        assert cell_len(re.sub(r"\x1b\[[0-9?]*[a-zA-Z]|\r", "", frame)) < 80
    assert screen(written, 80) == []


def test_what_a_run_says_stands_above_the_line() -> None:
    progress, now, file = watched(terminal=True, width=80)
    goal = recipe()

    step = Step(goal, Place("", ""), None, "never run")
    with progress:
        progress.say(step, "run", 0.0)
        progress.watch("Long", 0, 3, None)
        now.now = 1.0
        progress.watch("Long", 1, 3, told())
        progress.live.refresh()
        middle = screen(file.getvalue(), 80)
        progress.say(step, "done", 1.5)
    assert middle[0].startswith(f"run  {goal.address}")
    assert middle[-1].startswith("Long")
    assert len(middle) == 2
    end = screen(file.getvalue(), 80)
    assert end == [middle[0], f"done {goal.address}  1.5 s"]
    assert "1/3" not in file.getvalue().partition("done ")[2], "a line of what is done was drawn once more"


def screen(written: str, width: int) -> list[str]:
    """What a terminal shows of it: lines, with cursor up, carriage return and erase understood; no other movements."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\n]|[^\x1b\r\n]+", written):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
            column = 0
        elif part == "\r":
            column = 0
        elif part == "\x1b[2K":
            lines[row] = ""
        elif re.fullmatch(r"\x1b\[\d*A", part):
            row = max(0, row - int(part[2:-1] or 1))
        elif not part.startswith("\x1b"):
            assert cell_len(lines[row][:column] + part) <= width
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines if line.strip()]


def test_units_are_those_of_what_is_counted() -> None:
    steps = Shown("Pretrain", Pace())
    for number in range(10):
        row = {"step": number * 20, "loss": 3.0 + number / 100}
        steps = steps.heard(float(number), number * 20, 1000, Told("Pretrain", 0, {}, line=row))
    line = drawn(steps, 9.0, 200)
    assert re.search(r"180/1,000  41 s left  loss 3.090  20 steps/s$", line), line
    pages = Shown("Crawl", Pace())
    for number in range(10):
        pages = pages.heard(float(number), number * 3, 60, Told("Crawl", 0, {}, "hosts rest until 12:30"))
    assert re.search(r"27/60  11 s left  hosts rest until 12:30  3/s$", drawn(pages, 9.0, 200)), drawn(pages, 9.0, 200)


def test_a_stage_that_comes_again_begins_anew() -> None:
    progress, now, _ = watched(terminal=True, width=120)
    for round_ in range(2):
        now.now = round_ * 1000.0
        progress.watch("Components", 0, 10, None)
        for number in range(1, 11):
            now.now = round_ * 1000 + number * (1 + 9 * round_)
            progress.watch("Components", number, 10, told(seconds=1.0, workers=1))
    assert progress.shown is not None
    assert progress.shown.pace.rates().things == pytest.approx(0.1, rel=0.2)


def test_a_terminal_without_these_letters_gets_plain_ones() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    progress = Progressed(Console(file=file, force_terminal=True, width=90, color_system=None))
    with progress:
        progress.watch("Judge", 1, 2, told())
        progress.live.refresh()
    assert b"############------------" in raw.getvalue()
