"""What a terminal shows while a run goes on: a bar with rate and time left, or plain lines when nobody looks on."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tundish.cluster.verbs import Told
from tundish.pipeline.plan import Step
from tundish.pipeline.spoken import notes


class Progressed:
    """`watch` for a cluster and `say` for a run; both may be called from anywhere in the driver."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console, self.quiet = console or Console(stderr=True), quiet
        self.bars = self.console.is_terminal and not quiet
        self.progress = Progress(
            TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), console=self.console, transient=True,
        )  # fmt: skip
        self.tasks: dict[str, TaskID] = {}
        self.spoke: dict[str, float] = {}

    def __enter__(self) -> "Progressed":
        if self.bars:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars:
            self.progress.stop()

    def watch(self, stage: str, done: int, total: int, told: Told | None) -> None:
        if self.bars:
            if stage not in self.tasks:
                self.tasks[stage] = self.progress.add_task(stage, total=total or None)
            shown = f"{stage}, {told.note}" if told and told.note else stage
            self.progress.update(self.tasks[stage], completed=done, total=total or None, description=shown)
        elif not self.quiet and time.monotonic() - self.spoke.get(stage, 0.0) > 15:
            if stage in self.spoke:
                more = f" ({told.note})" if told and told.note else ""
                self.console.print(f"     {stage}: {done} of {total}{more}", highlight=False)
            self.spoke[stage] = time.monotonic()

    def say(self, step: Step, state: str, seconds: float) -> None:
        if self.quiet:
            return
        for task in list(self.tasks.values()):
            self.progress.remove_task(task)
        self.tasks.clear()
        if state == "run":
            self.console.print(f"[cyan]run [/] {step.stage.address}  [dim]{step.because}[/]", highlight=False)
            notes(self.console, step.stage)
        elif state == "done":
            self.console.print(f"[green]done[/] {step.stage.address}  [dim]{seconds:.1f} s[/]", highlight=False)
        else:
            self.console.print(f"[dim]kept {step.stage.address}[/]", highlight=False)
        sys.stderr.flush()
