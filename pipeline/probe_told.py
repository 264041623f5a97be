"""What a probe says, for people: a line a stage with its band, what all of it costs, and what became of it.

    <root>/<stage>-<fingerprint>/forecast.json      kept when it is said, so that a later run can be held against it

Promises: a run is held against the forecast of the very stage (its address), reckoned for the number of workers that
the run had. Costs a few small files, and one listing of the folders of stages. Refuses to compare where nothing was
foretold. An interrupted run tells what its last part took.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table

from tundish.cluster import store
from tundish.operators.ratio import Band
from tundish.pipeline import probe_tuned
from tundish.pipeline.foretold import keep
from tundish.pipeline.funnel import Ran, number, size
from tundish.pipeline.plan import Step
from tundish.pipeline.predicted import Forecast, predicted
from tundish.pipeline.probe import Sample, held_bytes, probe
from tundish.pipeline.templates import counted
from tundish.stages.finetune import Finetune
from tundish.stages.pretrain import FORETOLD

SMALL = 30.0  # seconds of a whole run, in which starting and ending weigh as much as the work
KIND = "probe"


@dataclass(frozen=True)
class Said:
    """What a probe said of a plan: forecasts by address, why others have none, for how many workers at what price."""

    steps: Sequence[Step]
    forecasts: Mapping[str, Forecast]
    refused: Mapping[str, str]
    workers: int
    price: float | None
    unkept: str = ""  # why what was said was not kept

    def plain(self, address: str) -> dict[str, Any]:
        """Of one stage, for JSON."""
        told = self.forecasts.get(address)
        if told is None:
            return {"refused": self.refused[address]} if address in self.refused else {}
        found = told.plain() | {"workers": self.workers, "seconds": list(told.seconds(self.workers))}
        return found | ({"cost": list(told.cost(self.workers, self.price))} if self.price is not None else {})


def said(steps: Sequence[Step], share: float, workers: int, price: float | None) -> Said:
    """Probe what would run, and keep beside each stage what is said of it."""
    sample: Sample = probe(steps, share)
    found = predicted(sample) | dict(_tunings(steps, sample))
    unkept = ""
    for step in steps:
        told = found.get(step.stage.address)
        if told is not None:
            unkept = keep(step.place.uri, {"kind": KIND, **told.plain()}) or unkept
    return Said(steps, found, sample.refused, workers, price, unkept)


def _tunings(steps: Sequence[Step], sample: Sample) -> Iterator[tuple[str, Forecast]]:
    """Fine-tunings, which have a probe of their own; of those that cannot be probed the sample then says why."""
    for step in steps:
        if isinstance(step.stage, Finetune) and not step.current:
            address = step.stage.address
            sample.refused.pop(address, None)
            try:
                yield address, probe_tuned.foretold(step, steps, sample.vocabularies)
            except (ValueError, OSError) as error:
                sample.refused[address] = str(error)


def kept(root: str, address: str) -> Forecast | None:
    """What was said of a stage, if anything was."""
    told = store.read_json(store.join(root, address, FORETOLD))
    if not isinstance(told, dict) or told.get("kind") != KIND:
        return None
    return Forecast.of_plain({name: value for name, value in told.items() if name != "kind"})


@dataclass(frozen=True)
class Held:
    """One number of a stage: what was said, what it was."""

    stage: str
    address: str
    what: str
    band: Band
    actual: float

    @property
    def inside(self) -> bool:
        return self.band.holds(self.actual)


def held_against(past: Ran) -> list[Held]:
    """Every stage of a run that was foretold, held against what was said of it."""
    found: list[Held] = []
    for address, dataset in past.datasets.items():
        told = kept(past.root, address)
        if told is None or address not in past.seconds:
            continue
        cost = past.costs.get(address) or probe_tuned.spent_of(dataset)
        told = replace(told, trainers=int(cost.get("workers", told.trainers))) if told.turns else told
        actual = {"seconds": past.seconds[address], "CPU seconds": cost.get("cpu"), "memory": cost.get("peak")}
        actual |= {"bytes": held_bytes(dataset.uri), "rows": None if told.turns else dataset.rows}
        workers = int(cost.get("workers", 1))
        bands = {"seconds": told.seconds(workers), "CPU seconds": told.cpu, "memory": told.peak}
        bands |= {"bytes": told.size, "rows": told.rows}
        stage = past.recipe[address]["stage"]
        found += [Held(stage, address, w, bands[w], float(a)) for w, a in actual.items() if a is not None]
    return found


def spoken(what: str, value: float) -> str:
    """A number as people read it.

    >>> spoken("seconds", 7300.0), spoken("bytes", 2.5e6), spoken("rows", 1234.5), spoken("seconds", 0.25)
    ('2.03 h', '2.5 MB', '1,234', '0.2 s')
    """
    if value == float("inf"):
        return "?"
    if what in ("memory", "bytes"):
        return size(int(value))
    if what == "rows":
        return number(int(value))
    for unit, seconds in (("h", 3600), ("min", 60)):
        if value >= 2 * seconds:
            return f"{value / seconds:.3g} {unit}"
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def brief(what: str, value: float) -> str:
    """The same with fewer digits.

    >>> brief("bytes", 354_712_000), brief("seconds", 358.8), brief("seconds", 21.7), brief("seconds", 112.3)
    ('355 MB', '6 min', '22 s', '110 s')
    """
    amount, _, unit = spoken(what, value).partition(" ")
    if not unit:
        return amount
    digits = 3 if what in ("memory", "bytes") else 2
    fewer = f"{float(amount.replace(',', '')):.{digits}g}"
    return f"{float(fewer):g} {unit}"


def shortened(what: str, band: Band) -> str:
    """A number with its range below it: the unit once, where both ends have it.

    >>> print(shortened("seconds", Band(5.0, 3.6, 8.5)))
    5.0 s
    3.6-8.5 s
    """
    low, high = brief(what, band.low), brief(what, band.high)
    if low == high:
        return spoken(what, band.middle)
    same = low.split()[-1] == high.split()[-1] and " " in low
    return f"{spoken(what, band.middle)}\n{low.split()[0] if same else low}-{high}"


def ranged(what: str, band: Band) -> str:
    """A number with its band."""
    low, high = spoken(what, band.low), spoken(what, band.high)
    return spoken(what, band.middle) + (f" ({low} to {high})" if low != high else "")


def table(told: Said) -> Table:
    """A line a stage, and what all of them take together."""
    heads = ["stage", "time", "CPU", "memory", "disk", *(["cost"] if told.price is not None else [])]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for n, head in enumerate(heads):
        shown.add_column(head, justify="left" if not n else "right", no_wrap=True)
    rows = [(address, one) for step in told.steps if (one := told.forecasts.get(address := step.stage.address))]
    for address, one in rows:
        shown.add_row(*_cells(told, address.split("-")[0], one.seconds(told.workers), one.cpu, one.peak, one.size))
    if rows:
        every = [one for _, one in rows]
        total = [_sum(f.seconds(told.workers) for f in every), _sum(f.cpu for f in every)]
        most = max((f.peak for f in every), key=lambda band: band.high)
        shown.add_row(*_cells(told, "in all", *total, most, _sum(f.size for f in every)), style="bold")
    return shown


def _cells(told: Said, name: str, seconds: Band, cpu: Band, peak: Band, disk: Band) -> list[str]:
    shown = (("seconds", seconds), ("seconds", cpu), ("memory", peak), ("bytes", disk))
    cells = [name, *(shortened(what, band) for what, band in shown)]
    if told.price is not None:
        cost = seconds.times(told.workers * told.price / 3600)
        cells.append(f"{cost.middle:,.2f}\n{cost.low:,.2f}-{cost.high:,.2f}" if cost.high >= 0.01 else "<0.01")
    return cells


def _sum(bands: Iterator[Band]) -> Band:
    found = Band(0.0, 0.0, 0.0)
    for band in bands:
        found = found.plus(band)
    return found


def remarks(told: Said) -> Iterator[str]:
    """What stands under the table."""
    for step in told.steps:
        address = step.stage.address
        if address in told.refused:
            yield f"{step.stage.name} is not probed: {told.refused[address]}"
        elif (one := told.forecasts.get(address)) and one.said:
            yield f"{step.stage.name}: {one.said}"
    if told.forecasts:
        units, of = max((one.units, one.of) for one in told.forecasts.values())
        shards = f"From {units} of {of} shards, for {told.workers} workers as fast as this machine; b" if units else "B"
        by = "the choice of shards" if units else "what was measured"
        if told.unkept:
            yield told.unkept
        yield f"{shards}elow each number its range of nine in ten by {by}, no other machine and no network"


def compared(past: Ran) -> Table:
    """What was said and what it was, for a terminal. Raises ValueError where nothing was said."""
    held = held_against(past)
    if not held:
        raise ValueError(
            f"nothing of the run {past.name} was foretold; probe with `tundish plan RECIPE --probe` before it runs"
        )
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for n, head in enumerate(("stage", "what", "foretold", "it was", "in the band")):
        shown.add_column(head, justify="right" if n in (2, 3) else "left")
    for n, one in enumerate(held):
        first = not n or held[n - 1].address != one.address
        inside = "yes" if one.inside else "[yellow]no[/]"
        cells = (one.stage if first else "", one.what, ranged(one.what, one.band), spoken(one.what, one.actual))
        shown.add_row(*cells, inside)
    shown.caption = "; ".join(
        [f"{sum(one.inside for one in held)} of {len(held)} numbers lie in their band", *busier(held)]
    )
    return shown


def busier(held: Sequence[Held]) -> Iterator[str]:
    """Sentences: where a run was too small for what a probe can tell, and where stages took the CPU that was foretold,
    and longer."""
    if (seconds := sum(one.actual for one in held if one.what == "seconds")) < SMALL and held:
        yield f"all of it took {brief('seconds', seconds)}, most of which is beginning: too small to be foretold"
    late = {one.address for one in held if one.what == "seconds" and one.actual > one.band.high}
    same = {one.address for one in held if one.what == "CPU seconds" and one.inside}
    if late & same:
        yield (
            f"{counted(len(late & same), 'stage')} took the CPU foretold and more time: others worked on the machine, "
            "or its disk was slower than when it was probed"
        )
