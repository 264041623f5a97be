"""The funnel: what each stage of a run was given, what it let through, and the reasons of what it did not.

Promises: every number is read from manifests, so it costs a few small files whatever the corpus weighs; only the text
bytes that a decision leaves are measured, and only while the texts take up to `MEASURED` bytes of disk (None beyond).
Refuses a root without a run, and a run it does not have (the nearest one is named). A stage that is not sealed is a
line that was not run.
"""

import difflib
import functools
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from tundish.cluster import store
from tundish.cluster.shards import Dataset, opened

MEASURED = 64 << 20  # bytes of documents on disk that a funnel may read for the sake of two numbers
LISTED = 8  # reasons of a stage in a terminal
TOP = 3  # reasons in a line of the report


@dataclass(frozen=True)
class Ran:
    """One run under a root, as its record tells it. `recipe`: address -> {stage, version, fields}, sources first."""

    root: str
    name: str
    goal: str
    recipe: Mapping[str, Mapping[str, Any]]
    outcome: str
    started: float  # seconds since 1970
    seconds: Mapping[str, float]  # of the run that did the work, which may be an earlier one
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # as `run.spent_on` has them, of that run

    @functools.cached_property
    def datasets(self) -> dict[str, Dataset]:
        """What is sealed, by address."""
        found = ((address, opened(store.join(self.root, address))) for address in self.recipe)
        return {address: dataset for address, dataset in found if dataset is not None}

    def of(self, stage: str) -> list[str]:
        """Addresses of the stages of this name that are sealed, in order."""
        return [a for a, told in self.recipe.items() if told["stage"] == stage and a in self.datasets]

    def inside(self, address: str, *names: str) -> Dataset | None:
        """A sealed dataset inside a stage's folder, such as `dropped`."""
        return opened(store.join(self.root, address, *names))

    def field(self, address: str, name: str) -> Any:
        return self.recipe[address]["fields"].get(name)

    def input(self, address: str, name: str) -> Dataset | None:
        """The sealed dataset a field names; None when it names none."""
        return self.datasets.get(self.field(address, name) or "")


@dataclass(frozen=True)
class Line:
    """One stage. Numbers that have no meaning there, or are not known, are None."""

    stage: str
    address: str
    documents_in: int | None = None
    documents_out: int | None = None
    bytes_in: int | None = None  # of text or payload
    bytes_out: int | None = None  # of text where it is text, else of files
    seconds: float | None = None
    drops: dict[str, int] = field(default_factory=dict)
    ran: bool = True  # its dataset is sealed


def runs(root: str) -> list[str]:
    """Names of the runs recorded under a root, the latest last."""
    return [n.removesuffix(".json") for n in store.listing(store.join(root, "runs")) if n.endswith(".json")]


def ran(root: str, run: str | None = None) -> Ran:
    """The latest run under a root, or the one of this name."""
    known = runs(root)
    if not known:
        raise ValueError(f"there is no run under {root!r}; check the path, or run a recipe with --root {root}")
    name = known[-1] if run is None else run.removesuffix(".json")
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.0)[0]
        raise ValueError(f"there is no run {name!r} under {root!r}; did you mean {near!r}?")
    record = _record(root, name)
    if "recipe" not in record:
        raise ValueError(f"{store.join(root, 'runs', name)}.json is no record of a run; give the root of a recipe")
    seconds, costs = dict[str, float](), dict[str, Any]()
    for earlier in (_record(root, one) for one in known[: known.index(name) + 1]):
        seconds |= {a: s for a, s in earlier["seconds"].items() if s}
        costs |= earlier.get("costs", {})
    recipe = _ordered(record["recipe"], record["goal"])
    return Ran(root, name, record["goal"], recipe, record["outcome"], record["started"], seconds, costs)


def _record(root: str, name: str) -> dict[str, Any]:
    return dict(store.read_json(store.join(root, "runs", f"{name}.json")) or {})


def _ordered(recipe: Mapping[str, Mapping[str, Any]], goal: str) -> dict[str, Mapping[str, Any]]:
    """Sources before who reads them, as `Stage.walk` goes; JSON kept the stages sorted by name instead."""
    seen: dict[str, Mapping[str, Any]] = {}

    def visit(address: str) -> None:
        if address not in seen:
            for source in sources(recipe, address):
                visit(source)
            seen[address] = recipe[address]

    visit(goal)
    return seen


def sources(recipe: Mapping[str, Mapping[str, Any]], address: str) -> list[str]:
    """Addresses of the stages a stage reads."""
    return [word for word in _words(recipe[address]["fields"]) if word in recipe]


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _words(inner)


def spelt(told: Ran) -> str:
    """The recipe as YAML that loads to the same stages."""
    names: dict[str, str] = {}
    for address, stage in told.recipe.items():
        same = sum(other["stage"] == stage["stage"] for other in told.recipe.values())
        names[address] = address if same > 1 else stage["stage"].lower()
    value: dict[str, Any] = {
        names[address]: {stage["stage"]: _named(stage["fields"], {a: names[a] for a in sources(told.recipe, address)})}
        for address, stage in told.recipe.items()
    }
    return yaml.safe_dump(value | {"goal": names[told.goal]}, sort_keys=False, allow_unicode=True, width=100)


def _named(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {k: _named(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [_named(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value


def counted(dataset: Dataset | None, column: str) -> Counter[Any]:
    """How often each value occurs; null too."""
    found: Counter[Any] = Counter()
    for name in dataset.names if dataset else ():
        table = dataset.select(column).read(name) if dataset else pa.table({})
        if column in table.column_names:
            found.update({e["values"]: e["counts"] for e in pc.value_counts(table[column]).to_pylist()})
    return found


def urls(dataset: Dataset, ids: Iterable[bytes]) -> dict[bytes, str]:
    """URLs of a few documents; reads their ids everywhere and their URLs where they are."""
    wanted, found = pa.array(sorted(ids), pa.binary(16)), dict[bytes, str]()
    for name in dataset.names if len(wanted) else ():
        here = pc.is_in(dataset.select("id").read(name)["id"], wanted)
        if pc.any(here).as_py():
            rows = dataset.select("id", "url").read(name).filter(here)
            found |= dict(zip(rows["id"].to_pylist(), rows["url"].to_pylist(), strict=True))
    return found


def lines_of(uri: str) -> Iterator[dict[str, Any]]:
    """Rows of a JSON-lines file, one at a time."""
    with store.opened(uri) as stream:
        for line in io.TextIOWrapper(stream, "utf-8", newline="\n"):
            yield json.loads(line)


def funnel(root: str, run: str | None = None) -> list[Line]:
    """A line for each stage of the latest run (or the named one), sources first."""
    told, lines = ran(root, run), dict[str, Line]()
    for address, stage in told.recipe.items():
        dataset = told.datasets.get(address)
        if dataset is None:
            lines[address] = Line(stage["stage"], address, ran=False)
            continue
        numbers = _numbers(told, address, dataset, lines)
        lines[address] = Line(stage["stage"], address, seconds=told.seconds.get(address), **numbers)
    return list(lines.values())


def _numbers(told: Ran, address: str, dataset: Dataset, lines: Mapping[str, Line]) -> dict[str, Any]:
    kind, stage = dataset.about.get("kind"), told.recipe[address]["stage"]
    before = [lines[source] for source in sources(told.recipe, address)]
    if stage == "Crawl":
        return _crawled(told, address, dataset)
    if kind == "archives":
        return {"bytes_out": _size(dataset)}
    if kind == "files":
        return {"documents_in": before[0].documents_out if before else None, "bytes_out": _size(dataset)}
    if stage == "Tokenize":
        return _tokenized(told, address, dataset, before[0])
    if stage == "Index":
        corpus = lines[told.field(address, "corpus")]
        came = {"documents_in": corpus.documents_out, "bytes_in": corpus.bytes_out}
        return {**came, "documents_out": dataset.rows, "bytes_out": _size(dataset)}
    if stage == "Corpus":
        return _written(dataset, before, lines[told.field(address, "documents")])
    if told.field(address, "documents") in lines:
        return _decided(told, address, dataset, lines)
    counts, drops = dataset.counts, dropped(dataset)
    sizes = {k: counts.get(k, _sum(line.bytes_out for line in before)) for k in ("bytes_in", "bytes_out")}
    return {"documents_in": dataset.rows + sum(drops.values()), "documents_out": dataset.rows, **sizes, "drops": drops}


def dropped(dataset: Dataset) -> dict[str, int]:
    """What a dataset's commits count as dropped: reason -> documents, the most frequent first."""
    found = {k.removeprefix("dropped:"): v for k, v in dataset.counts.items() if k.startswith("dropped:") and v}
    return _ranked(found)


def _ranked(found: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(found.items(), key=lambda kv: (-kv[1], kv[0])))


def _sum(values: Iterator[int | None]) -> int | None:
    known = list(values)
    return sum(v for v in known if v is not None) if known and None not in known else None


def _size(dataset: Dataset) -> int:
    """Bytes of the files; one that was cut into ranges counts once."""
    return sum({dataset.at(shard): shard.size for shard in dataset.shards}.values())


def _crawled(told: Ran, address: str, dataset: Dataset) -> dict[str, Any]:
    """Every URL that was handled came in; what was stored went on."""
    found = counted(told.inside(address, "log"), "outcome")
    stored = found.pop("stored", 0)
    numbers = {"documents_in": stored + sum(found.values()), "documents_out": stored}
    return numbers | {"bytes_out": _size(dataset), "drops": _ranked(found)}


def _tokenized(told: Ran, address: str, dataset: Dataset, corpus: Line) -> dict[str, Any]:
    holdout = told.inside(address, "holdout")
    rows = dataset.rows + (holdout.rows if holdout else 0)
    size = _size(dataset) + (_size(holdout) if holdout else 0)
    return {"documents_in": rows, "documents_out": rows, "bytes_in": corpus.bytes_out, "bytes_out": size}


def _written(dataset: Dataset, before: list[Line], documents: Line) -> dict[str, Any]:
    """Corpus writes what the decisions left: a reason an earlier line counts is not counted again."""
    decided = {reason for line in before if line.address != documents.address for reason in line.drops}
    drops = {reason: n for reason, n in dropped(dataset).items() if reason not in decided}
    came = dataset.rows + sum(drops.values())
    left = [line.bytes_out for line in before if line.documents_out == came]
    size = documents.bytes_out if not decided else left[0] if left else None
    sizes = {"bytes_in": size, "bytes_out": dataset.counts.get("bytes_out")}
    return {"documents_in": came, "documents_out": dataset.rows, **sizes, "drops": drops}


def _decided(told: Ran, address: str, dataset: Dataset, lines: Mapping[str, Line]) -> dict[str, Any]:
    """Columns beside the documents: all of them came in, or those that an earlier decision left (`among`)."""
    source = lines.get(told.field(address, "among") or "") or lines[told.field(address, "documents")]
    came = dataset.rows if source.documents_out is None else source.documents_out
    drops = dropped(dataset)
    size = source.bytes_out
    if drops:
        among = told.input(address, "among")
        size = _left(told.input(address, "documents"), dataset, *([among] if among else []))
    numbers = {"documents_in": came, "documents_out": came - sum(drops.values())}
    return numbers | {"bytes_in": source.bytes_out, "bytes_out": size, "drops": drops}


def _left(documents: Dataset | None, *decisions: Dataset) -> int | None:
    """Bytes of text that have neither a reason to go nor a twin; None where measuring would cost too much."""
    if documents is None or _size(documents) > MEASURED:
        return None
    source, left = documents.beside(*decisions).select("text", "reason", "twin"), 0
    for name in source.names:
        table = source.read(name)
        for column in {"reason", "twin"} & {*table.column_names}:
            table = table.filter(pc.is_null(table[column]))
        left += pc.sum(pc.binary_length(table["text"])).as_py() or 0 if "text" in table.column_names else 0
    return left


def number(value: int | None) -> str:
    """With thousands separators; nothing for what is not known."""
    return "" if value is None else f"{value:,}"


def size(value: int | None) -> str:
    """Bytes in the decimal unit that reads best.

    >>> size(999), size(12_345), size(7_000_000), size(None)
    ('999 B', '12.3 kB', '7.0 MB', '')
    """
    if value is None:
        return ""
    if value < 1000:
        return f"{value} B"
    amount, units = value / 1000, iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    while amount >= 999.95 and unit != "TB":
        amount, unit = amount / 1000, next(units)
    return f"{amount:,.1f} {unit}"


def short(value: float | None) -> str:
    """A measurement as people read it; nothing for what was not measured.

    >>> short(0.123456), short(12.0), short(1234567.0), short(None)
    ('0.1235', '12', '1,234,567', '')
    """
    if value is None:
        return ""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 10_000 else f"{value:.4g}"


def reasons(line: Line) -> str:
    """The most frequent reasons of a line, or that there are none."""
    if not line.ran:
        return "not run"
    if line.documents_out is None:
        return ""
    top = list(line.drops.items())[:TOP]
    rest = sum(line.drops.values()) - sum(count for _, count in top)
    told = ", ".join(f"{reason} {count:,}" for reason, count in top)
    return (told + (f" and {rest:,} more" if rest else "")) or "nothing"
