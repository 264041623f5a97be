"""What all of a corpus will take, by what a sample of its shards took: seconds, memory, bytes and rows of each stage.

    <root>/<stage>-<fingerprint>/forecast.json      what was said; `held_against` tells what became of it

Items that are about a shard of the sample grow with their source: the ratio estimator over its bytes, with the band of
the bootstrap (operators/ratio). Others are told by what they are:

    parts where rows meet     as the corpus does; one part holds as much as all of its rows, at most
    pairs of Deduplicate      a sample of n of N shards holds n / N of the pairs of one shard and n (n - 1) / N (N - 1)
                              of those of two: the pairs found, weighed by that, are the most there can be, those found
                              times N / n the least; between them, documents that are no copy grow with the corpus by
                              Heaps' law (Information Retrieval, 1978), its exponent that from half the sample to all.
                              Steps over few pairs only begin and end, so they take no more than on the sample at least
    a vocabulary              as its sample of the corpus, which has a size that it does not outgrow
    what the driver does      between nothing more and as the corpus does, the geometric mean in the middle
    behind Deduplicate        fewer documents than the sample says, for it sees fewer copies

Promises: nothing is measured here. Bands are of nine in ten by the choice of shards, widened by `NOISE`: the same work
on the same machine takes now more, now less. Not in them: another machine, a busier one, a network.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tundish.cluster.metered import Spent
from tundish.operators.ratio import Band, banded
from tundish.pipeline.probe import Copies, Lineage, Probed, Sample
from tundish.pipeline.probe_sample import Base
from tundish.stages.stage import Stage

NOISE = 0.15
DIGITS = 0.01  # of the bytes of a stage: times, lengths and names in commits and manifests have more digits or fewer
VOCABULARY = "Tokenize: vocabulary"
PAIRS = ("doubles", "bands again", "edges", "components", "members", "survivors", "held", "clusters", "marks")
COMPARED = (": shingles", ": compare")  # of pairs, whatever asks
NONE = Band(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Forecast:
    """One stage. `work`, `cpu`: seconds of all workers; `driver`: seconds of the one that drives, beside them;
    `longest`: seconds of one item, which no number of workers shortens; `peak`: bytes of a worker; `size`: bytes on
    disk; `rows`. `units` of `of` shards were looked at. `said`: how, where it is more than the ratio of bytes.
    `turns`: seconds of what `trainers` do by turns, one each and then the next, where workers do not share it."""

    work: Band
    cpu: Band
    driver: Band
    longest: float
    peak: Band
    size: Band
    rows: Band
    units: int
    of: int
    said: str = ""
    turns: tuple[float, ...] = ()
    trainers: int = 0

    def seconds(self, workers: int) -> Band:
        """On the clock, with so many workers that are as fast as the one of the probe; with its own trainers, where it
        has turns."""
        if self.turns:
            rounds = range(0, len(self.turns), max(1, self.trainers))
            waited = sum(max(self.turns[at : at + max(1, self.trainers)]) for at in rounds)
            return self.work.times(waited / max(1e-9, sum(self.turns))).plus(self.driver)
        return Band(*(max(each / workers, self.longest) for each in self.work)).plus(self.driver)

    def cost(self, workers: int, price: float) -> Band:
        """What the workers cost for as long as it takes, at a price a CPU-hour."""
        return self.seconds(workers).times(workers * price / 3600)

    def plain(self) -> dict[str, Any]:
        return asdict(replace(self, **{name: list(band) for name, band in self._bands()}))

    def _bands(self) -> Iterator[tuple[str, Band]]:
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Band))

    @classmethod
    def of_plain(cls, told: Mapping[str, Any]) -> "Forecast":
        bands = {n: Band(*v) if isinstance(v, list) else v for n, v in told.items() if n != "turns"}
        return cls(**bands, turns=tuple(told.get("turns", ())))


def predicted(sample: Sample) -> dict[str, Forecast]:
    """Forecasts by address, sources first."""
    grown: dict[str, Band] = {}
    for address, probed in sample.stages.items():
        if probed.copies is not None:
            bases = _bases(sample, probed.lineage)
            units, of = sum(len(base.sizes) for base in bases), sum(base.of for base in bases)
            grown[address] = copies_of(probed.copies, _factor(sample, probed.lineage), units, of)
    found = {}
    for address, probed in sample.stages.items():
        behind = [a for a in grown if a != address and _stands_on(probed.stage, sample.stages[a].stage)]
        left = _left(sample.stages[behind[0]], grown[behind[0]], sample) if behind else None
        found[address] = _of(sample, probed, grown.get(address), left)
    return found


def _stands_on(stage: Stage, other: Stage) -> bool:
    return other.address in {one.address for one in stage.walk()}


def _of(sample: Sample, probed: Probed, copies: Band | None, left: Band | None) -> Forecast:
    """One stage. `copies`: how many times those of the sample there will be; `left`: the share of the documents of a
    plain forecast that is there, behind a Deduplicate."""
    factor, bases = _factor(sample, probed.lineage), _bases(sample, probed.lineage)
    parts = list(_passes(probed, factor, copies))
    work, cpu = (
        _summed(sample.bases, parts, kind).times(1 / probed.together).widened(NOISE) for kind in ("wall", "cpu")
    )
    spent = sum(one.wall for one in probed.spent)
    driver = _between(max(0.0, probed.wall - spent) / probed.together, factor).widened(NOISE)
    size, rows = _left_on_disk(sample.bases, probed, factor, copies)
    size = size.widened(DIGITS)
    longest = max((one.wall for one in probed.spent), default=0.0) / probed.together
    units, of = sum(len(base.sizes) for base in bases), sum(base.of for base in bases)
    said = "; ".join(_said(probed, copies, left))
    told = Forecast(work, cpu, driver, longest, _peak(probed, bases, parts), size, rows, units, of, said)
    return told if left is None else _thinned(told, left, probed.stage)


Part = tuple[str, list[Spent], "Lineage | None", Band]  # title, items, of which shards, how many times they will be


def _passes(probed: Probed, factor: float, copies: Band | None) -> Iterator[Part]:
    """The passes of a stage: those over the shards of the sample with their lineage, others with what they grow by."""
    by_title: dict[str, list[Spent]] = defaultdict(list)
    for one in probed.spent:
        by_title[one.stage].append(one)
    for title, items in by_title.items():
        names = {one.name for one in items}
        if probed.lineage and set(probed.lineage) <= names and not _of_pairs(title):
            yield title, [one for one in items if one.name in probed.lineage], probed.lineage, NONE
            items = [one for one in items if one.name not in probed.lineage]  # of earlier indexes: as many as there are
            yield title, items, None, Band(1.0, 1.0, 1.0)
        elif title == VOCABULARY:
            yield title, items, None, Band(*[_capped(probed, factor)] * 3)
        elif _of_pairs(title) and copies is not None:
            yield title, items, None, Band(copies.low, 1.0, copies.high)
        else:
            yield title, items, None, Band(factor, factor, factor)


def _of_pairs(title: str) -> bool:
    stage, _, step = title.partition(": ")
    return stage == "Deduplicate" and (step.startswith(PAIRS) or title.endswith(COMPARED))


def _capped(probed: Probed, factor: float) -> float:
    """How many times larger the sample of a vocabulary will be: it has a most."""
    told = probed.made.about.get("vocabulary", {}).get("sample") or {}
    held, most = told.get("bytes") or 1, getattr(probed.stage, "sample", 1)
    return max(1.0, min(held * factor, most) / held)


def _summed(bases: Sequence[Base], parts: Sequence[Part], kind: str) -> Band:
    found = NONE
    for _, items, lineage, grows in parts:
        costs = {one.name: getattr(one, kind) for one in items}
        if lineage is not None:
            found = found.plus(_over_shards(bases, lineage, costs))
        else:
            amount = sum(getattr(one, kind) for one in items)
            found = found.plus(Band(*(amount * each for each in grows)))
    return found


def _over_shards(bases: Sequence[Base], lineage: Lineage, costs: Mapping[str, float]) -> Band:
    """The total over all shards, of each base by itself."""
    found, own = NONE, defaultdict[int, dict[str, float]](dict)
    for name, (number, shard) in lineage.items():
        own[number][shard] = own[number].get(shard, 0.0) + costs.get(name, 0.0)
    for number, known in own.items():
        base = bases[number]
        names = list(base.sizes)
        sizes = np.array([base.sizes[name] for name in names])
        found = found.plus(banded(np.array([known.get(name, 0.0) for name in names]), sizes, base.whole, of=base.of))
    return found


def _left_on_disk(bases: Sequence[Base], probed: Probed, factor: float, copies: Band | None) -> tuple[Band, Band]:
    """Bytes and rows: shards of the sample by their source, all else as the corpus or its copies."""
    shards, made = {s.name: s for s in probed.made.shards}, probed.lineage
    aligned = bool(shards) and set(shards) == set(made)
    inside = sum(s.size for s in shards.values()) if aligned and probed.stage.name != "Gather" else 0
    rest, grows = max(0, probed.size - inside), copies or Band(factor, factor, factor)
    size = Band(*(rest * each for each in grows))
    if not aligned:
        rows = probed.made.rows * factor
        return size, Band(rows, rows, rows)
    if inside:
        size = size.plus(_over_shards(bases, made, {name: float(s.size) for name, s in shards.items()}))
    return size, _over_shards(bases, made, {name: float(s.rows) for name, s in shards.items()})


def _peak(probed: Probed, bases: Sequence[Base], parts: Sequence[Part]) -> Band:
    """Memory of a worker: what it had before, and what its largest item adds."""
    middle = low = high = float(probed.floor)
    larger = max([1.0, *(base.larger for base in bases)])
    for _, items, lineage, grows in parts:
        added = [max(0, one.peak - probed.floor) for one in items] or [0]
        times = (larger, larger) if lineage is not None else (1.0, max(1.0, grows.high))
        middle = max(middle, probed.floor + max(added) * times[0])
        low = max(low, probed.floor + float(np.median(added)))
        high = max(high, probed.floor + max(added) * times[1])
    return Band(middle, min(low, middle), max(high, middle)).widened(NOISE)


def copies_of(copies: Copies, factor: float, units: int, of: int) -> Band:
    """How many times those of the sample the copies will be. Least: as the corpus. Most: as pairs do, until nothing but
    the sample's survivors is left. Between: what is no copy grows by Heaps' law, its exponent from the half."""
    found, kept = copies.same + copies.apart, copies.documents - copies.same - copies.apart
    if not found or units < 2:
        return Band(factor, factor, factor)
    apart = copies.apart * of * (of - 1) / (units * (units - 1))
    most = min(copies.same * factor + apart, copies.documents * factor - kept) / found
    half = copies.documents / 2 - copies.same / 2 - copies.apart * (units / 2 - 1) / (2 * (units - 1))
    exponent = min(1.0, math.log2(kept / half)) if half > 0 and kept > 0 else 1.0
    middle = (copies.documents * factor - kept * factor**exponent) / found
    most = max(factor, most)
    return Band(min(max(middle, factor), most), factor, most)


def _left(probed: Probed, copies: Band, sample: Sample) -> Band:
    """The share of the documents that a plain forecast counts behind a Deduplicate that will be there."""
    assert probed.copies is not None, "asked of a Deduplicate"
    gone, factor = probed.copies.same + probed.copies.apart, _factor(sample, probed.lineage)
    kept = probed.copies.documents - gone
    more = [gone * (each - factor) / max(1.0, kept * factor) for each in copies]
    return Band(max(0.0, 1 - more[0]), max(0.0, 1 - more[2]), 1.0)


def _thinned(told: Forecast, left: Band, stage: Stage) -> Forecast:
    """Of fewer documents; a stage that reads the marks of Deduplicate still reads all the documents they are about."""

    def less(band: Band) -> Band:
        return Band(band.middle * left.middle, band.low * left.low, band.high)

    reads_all = any(source.name == "Deduplicate" for source in stage.inputs.values())
    names = ("size", "rows") if reads_all else ("work", "cpu", "size", "rows")
    bands = {name: less(getattr(told, name)) for name in names}
    return replace(told, **bands)  # type: ignore[arg-type]


def _between(value: float, factor: float) -> Band:
    return Band(value * math.sqrt(factor), value, value * factor)


def _bases(sample: Sample, lineage: Lineage) -> list[Base]:
    return [sample.bases[number] for number in sorted({number for number, _ in lineage.values()})]


def _factor(sample: Sample, lineage: Lineage) -> float:
    """How many times the sample a stage's sources are; of a stage that is about no shards, all sources together."""
    bases = _bases(sample, lineage) or sample.bases
    return max(1.0, sum(base.whole for base in bases) / max(1e-9, sum(sum(base.sizes.values()) for base in bases)))


def _said(probed: Probed, copies: Band | None, left: Band | None) -> Iterator[str]:
    if copies is not None and copies.high > copies.low:
        yield f"copies {copies.low:,.0f} to {copies.high:,.0f} times those of the sample"
    elif copies is not None:
        yield "as the corpus: the sample says nothing else of copies"
    if any(one.stage == VOCABULARY for one in probed.spent):
        yield "the vocabulary by its sample, which does not outgrow its size"
    if left is not None and left.low < 1:
        yield f"{100 * (1 - left.low):.0f} % fewer documents at most, for a sample sees fewer copies"
