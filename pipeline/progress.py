"""What a terminal shows while a run goes on: one line with rate and time left, or plain lines when nobody looks on.

Promises: on a terminal one line, drawn anew in its place four times a second, never wider than the terminal (what is
least needed goes first) and gone at the end; elsewhere a line every `QUIET` seconds, and where
nothing ends one that says so, after `SILENT` seconds, twice as many, four times. Rates and the time left are those
of cluster/pace: of this run's work, by the median of shards. Costs some microseconds a shard. Refuses nothing.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.live import Live
from rich.text import Text

from tundish.cluster.pace import Pace
from tundish.cluster.verbs import Told
from tundish.pipeline.funnel import size
from tundish.pipeline.plan import Step
from tundish.pipeline.spoken import notes

QUIET = 15.0  # seconds between plain lines
SILENT = 60.0  # seconds in which nothing ended, after which a log says so
LOOK = 5.0  # seconds between looks whether that is so
NAME, BAR = 28, 24  # cells for a stage's name and for its bar, where there is room
FULL, HALF, OPEN = "━", "╸", "─"
ASCII = str.maketrans({FULL: "#", HALF: "#", OPEN: "-"})


class Shown(NamedTuple):
    """What is known of a stage at a moment. `unit`: what is counted, where that has a name."""

    stage: str
    pace: Pace
    unit: str = ""
    note: str = ""

    def heard(self, now: float, done: int, total: int, told: Told | None) -> "Shown":
        """With what was told taken in."""
        self.pace.heard(now, done, total, told)
        if told is None:
            return self
        loss = told.line.get("loss")
        note = f"loss {loss:.3f}" if isinstance(loss, float) else told.note
        return self._replace(note=note, unit="steps" if told.line else "shards" if told.made else self.unit)


class Progressed:
    """`watch` for a cluster and `say` for a run; both may be called from anywhere in the driver."""

    def __init__(
        self, console: Console | None = None, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console, self.quiet, self.clock = console or Console(stderr=True), quiet, clock
        self.drawn = self.console.is_terminal and not quiet
        self.shown: Shown | None = None
        self.lock = threading.Lock()  # the line is drawn by a thread of its own
        self.live = Live(get_renderable=self.line, console=self.console, transient=True, refresh_per_second=4)
        self.spoke: dict[str, float] = {}
        self.stage = ""  # that runs
        self.moved: float | None = None  # when something began or ended, while one does
        self.patience = SILENT
        self.over = threading.Event()
        self.looker = threading.Thread(target=self._look, name="progress", daemon=True)

    def __enter__(self) -> "Progressed":
        if self.drawn:
            self.live.start()
        elif not self.quiet:
            self.looker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.drawn:
            self.shown = None
            self.live.stop()
        self.over.set()
        if self.looker.is_alive():
            self.looker.join()

    def _look(self) -> None:
        while not self.over.wait(LOOK):
            self.tick()

    def tick(self) -> None:
        """Say that nothing ended, if that is so for long: who reads a log cannot tell a stall from a long shard."""
        with self.lock:
            silent = 0.0 if self.moved is None else self.clock() - self.moved
            if silent < self.patience:
                return
            self.patience = 2 * silent
            shown = self.shown
        far = f"{shown.stage}: {shown.pace.done:,} of {shown.pace.total:,}, " if shown else f"{self.stage}: "
        self._print(f"{far}nothing has ended for {clock(silent)}")

    def watch(self, stage: str, done: int, total: int, told: Told | None) -> None:
        now, before = self.clock(), self.shown
        if before is None or before.stage != stage:
            before = Shown(stage, Pace())
        with self.lock:
            self.shown = before.heard(now, done, total, told)
            self.moved, self.patience = now, SILENT
        if self.drawn or self.quiet:
            return
        if stage in self.spoke and now - self.spoke[stage] > QUIET:
            self._print(plain(self.shown, now))
        if stage not in self.spoke or now - self.spoke[stage] > QUIET:
            self.spoke[stage] = now

    def _print(self, text: str) -> None:
        self.console.print(f"     {text}", highlight=False, markup=False, soft_wrap=True)

    def line(self) -> Text:
        """The line as it stands."""
        with self.lock:
            told = drawn(self.shown, self.clock(), self.console.width - 1) if self.shown else ""
        if self.console.options.ascii_only:
            told = told.translate(ASCII)
        return Text(told, no_wrap=True, overflow="crop")

    def say(self, step: Step, state: str, seconds: float) -> None:
        if self.quiet:
            return
        with self.lock:
            self.shown, self.patience = None, SILENT
            self.stage, self.moved = step.stage.name, self.clock() if state == "run" else None
        if self.live.is_started:
            self.live.refresh()  # else what is printed now would be printed above the line as it was
        if state == "run":
            self.console.print(f"[cyan]run [/] {step.stage.address}  [dim]{step.because}[/]", highlight=False)
            notes(self.console, step.stage)
        elif state == "done":
            self.console.print(f"[green]done[/] {step.stage.address}  [dim]{seconds:.1f} s[/]", highlight=False)
        else:
            self.console.print(f"[dim]kept {step.stage.address}[/]", highlight=False)
        sys.stderr.flush()


def drawn(shown: Shown, now: float, width: int) -> str:
    """The line of a terminal in at most `width` cells: name, bar, how many, time left, note, rates; what does not fit
    goes from the end, then the bar, then the end of the name."""
    pace = shown.pace
    count = f"{pace.done:,}/{pace.total:,}" if pace.total else f"{pace.done:,}"
    left = pace.left(now)
    tail = [f"{clock(left)} left"] if left is not None and pace.done < pace.total else []
    tail += [*([shown.note] if shown.note else []), *rates(shown)]
    name = shown.stage if cell_len(shown.stage) >= NAME else set_cell_size(shown.stage, NAME)
    head = [name, *([bar(pace.done / pace.total)] if pace.total else []), count]
    while tail and cell_len("  ".join([*head, *tail])) > width:
        tail.pop()
    if not tail and len(head) == 3 and cell_len("  ".join(head)) > width:
        head.pop(1)
    over = cell_len("  ".join([*head, *tail])) - width
    if over > 0:
        head[0] = set_cell_size(shown.stage, max(1, cell_len(name) - over))
    return set_cell_size("  ".join([*head, *tail]), width).rstrip()


def plain(shown: Shown, now: float) -> str:
    """The same as a line of a log."""
    pace = shown.pace
    left = pace.left(now)
    told = [f"{shown.stage}: {pace.done:,} of {pace.total:,}" + (f" {shown.unit}" if shown.unit else "")]
    told += rates(shown)
    told += [f"about {clock(left)} left"] if left is not None and pace.done < pace.total else []
    return ", ".join([*told, *([shown.note] if shown.note else [])])


def rates(shown: Shown) -> Iterator[str]:
    """Rows, bytes and things a second, as far as they are known."""
    things, rows, written = shown.pace.rates()
    if rows:
        yield f"{figure(rows)} rows/s"
    if written:
        yield f"{size(round(written))}/s"
    if things:
        yield f"{figure(things)}{' ' if shown.unit else ''}{shown.unit}/s"


def figure(value: float) -> str:
    """A rate in three or more figures.

    >>> figure(12_345.6), figure(99.96), figure(3.14159), figure(0.01234)
    ('12,346', '100', '3.14', '0.0123')
    """
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def clock(seconds: float) -> str:
    """A length of time as people say it, to two units.

    >>> clock(0.2), clock(59.7), clock(61), clock(3600 * 5 + 60 * 7), clock(86_400 * 3 + 3600 * 2)
    ('1 s', '1 min 00 s', '1 min 01 s', '5 h 07 min', '3 d 2 h')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def bar(share: float) -> str:
    """So much of `BAR` cells.

    >>> bar(0.5)
    '━━━━━━━━━━━━────────────'
    """
    halves = round(min(1.0, max(0.0, share)) * 2 * BAR)
    return (FULL * (halves // 2) + HALF * (halves % 2)).ljust(BAR, OPEN)
