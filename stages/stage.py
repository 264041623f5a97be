"""Stage: what decides the bytes is a field; what does not is not.

A stage is a frozen value. Its fields are its parameters and the stages it reads, so a recipe is a nested value and
its fingerprint names everything that decides what comes out. Hardware, workers and paths come in through `Place`
when it runs, and are part of no fingerprint.
"""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import msgspec
import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset, digest_of
from tundish.cluster.target import Target
from tundish.cluster.verbs import At, Cluster, Job

PLAIN = (str, int, float, bool)


@dataclass(frozen=True)
class Settings:
    """What this run offers its stages; part of no fingerprint."""

    wire: Mapping[str, str] = dataclasses.field(default_factory=dict)  # "host:port" -> "address:port", allowed by name
    trainers: int = 1  # workers of a gang
    least: int = 0  # with how many of them it goes on where no more are to be had; 0: with no fewer


@dataclass(frozen=True)
class Place:
    """Where a stage writes, and with what settings. `key` is the fingerprint with the digests of outside inputs."""

    uri: str
    key: str
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    settings: Settings = dataclasses.field(default_factory=Settings)

    def target(self, *inside: str, format: str = "parquet", salt: Any = None) -> Target:
        """The dataset to write here, or one inside this stage's folder; `salt` is what more decides its bytes."""
        key = self.key if salt is None else digest_of([self.key, salt])
        return Target(store.join(self.uri, *inside) if inside else self.uri, key, format)


@dataclass(frozen=True)
class Stage:
    """A station a document passes. Subclasses add fields and `run`."""

    version: ClassVar[int] = 1  # raised by hand when code changes the bytes
    keeps_one: ClassVar[bool] = False  # whether it cuts what stands elsewhere too, and one copy has to stay
    may_be_empty: ClassVar[bool] = False  # whether a run may go on when nothing is left after it
    makes: ClassVar[tuple[str, ...]] = ()  # columns of what it gives; none named: unknown
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # field -> columns that the stage in it must give

    def __post_init__(self) -> None:
        """Fields take the types they are declared with, from YAML and Python alike; else one sentence says why not."""
        hints = typing.get_type_hints(type(self))
        for f in fields(self):
            object.__setattr__(
                self, f.name, _typed(f"{type(self).__name__}.{f.name}", getattr(self, f.name), hints[f.name])
            )
        for name, columns in self.wants.items():
            self._check_wanted(name, columns)
        self.check()

    def _check_wanted(self, name: str, columns: tuple[str, ...]) -> None:
        given = getattr(self, name)
        lacking = [c for c in columns if isinstance(given, Stage) and given.makes and c not in given.makes]
        if lacking:
            raise ValueError(
                f"{type(self).__name__}.{name} is {given.name}, which gives no {lacking[0]!r}; "
                f"give a stage that does (it gives {', '.join(given.makes[:6])})"
            )

    def check(self) -> None:
        """Refuse what the types allow and the stage cannot do."""

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        raise NotImplementedError(f"{type(self).__name__} has no run")

    def prepare(self) -> None:
        """What is done once where the run is driven, before work fans out: kernels are compiled into the cache."""

    def notes(self) -> str:
        """What who plans or runs it should know beforehand: lines for a terminal; empty for nothing."""
        return ""

    def accept(self, made: Dataset) -> None:
        """Refuse what came out, as a whole, before a later stage reads it; asked again of what a run keeps."""

    def outside(self) -> list[dict[str, Any]]:
        """What it reads that no stage wrote: files with size and digest, sorted. Asked before every run."""
        return []

    @property
    def inputs(self) -> dict[str, "Stage"]:
        """The stages it reads, by the name of the field (or the name inside a field that holds several)."""
        found: dict[str, Stage] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Stage):
                found[f.name] = value
            elif isinstance(value, Mapping):
                found |= {name: inner for name, inner in value.items() if isinstance(inner, Stage)}
        return found

    @property
    def parameters(self) -> dict[str, Any]:
        """Its fields as plain JSON values, the stages among them by address."""
        return {
            f.name: named(getattr(self, f.name)) if f.metadata.get("place") else plain(getattr(self, f.name))
            for f in fields(self)
        }

    @property
    def fingerprint(self) -> str:
        return digest_of([type(self).__name__, self.version, self.parameters])[:10]

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def address(self) -> str:
        """The name of its folder under a root: `deduplicate-3fa9c1d2e0`."""
        return f"{self.name.lower()}-{self.fingerprint}"

    def walk(self) -> Iterator["Stage"]:
        """Every stage it stands on and itself, each once, what is read before who reads.

        Raises ValueError for two sources that differ in the folders of their files alone: they would share an address.
        """
        seen: dict[str, Stage] = {}
        yield from self._walk(seen)

    def _walk(self, seen: dict[str, "Stage"]) -> Iterator["Stage"]:
        for source in self.inputs.values():
            if source.address in seen:
                source._check_same(seen[source.address])
            else:
                yield from source._walk(seen)
        if self.address not in seen:
            seen[self.address] = self
            yield self

    def _check_same(self, other: "Stage") -> None:
        for f in fields(self):
            here, there = getattr(self, f.name), getattr(other, f.name)
            if f.metadata.get("place") and plain(here) != plain(there):
                raise ValueError(
                    f"two {self.name} stages read files of the same names, {plain(here)} and {plain(there)}; give the "
                    "files (or the last folder, where that is named) different names, or read them in one stage"
                )


FEW = 16  # names that a sentence can list
PLACE = {"place": True}  # metadata of a field that says where bytes lie: only names enter the fingerprint


def named(value: Any) -> Any:
    """Paths without their folders: what lies there enters by its digest, so a moved file is the same file."""
    if isinstance(value, list | tuple):
        return [named(one) for one in value]
    if isinstance(value, Mapping):
        return {name: named(one) for name, one in value.items()}
    return str(value).rstrip("/").rsplit("/", 1)[-1]


def plain(value: Any) -> Any:
    """A field as a JSON value; a stage by its address."""
    if isinstance(value, Stage):
        return value.address
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return plain(msgspec.to_builtins(value)) if isinstance(value, msgspec.Struct) else value


def holds_stage(hint: Any) -> bool:
    """Whether a field's type is a stage, an optional stage, or a mapping of stages."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType, Mapping, dict) or typing.get_args(hint):
        return any(holds_stage(part) for part in typing.get_args(hint))
    return isinstance(hint, type) and issubclass(hint, Stage)


def _typed(name: str, value: Any, hint: Any) -> Any:
    if holds_stage(hint):
        if isinstance(value, PLAIN) and not {type(value)} & {*_flat(hint)}:
            raise ValueError(f"{name} is what another stage gives, not {value!r}; name a stage of the recipe there")
        return value
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and isinstance(value, Mapping):
        refuse_unknown(name, value, hint.__struct_fields__)
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        raise ValueError(_wrong(name, value, hint, str(error))) from None


def _wrong(name: str, value: Any, hint: Any, told: str) -> str:
    """What msgspec found wrong, at the innermost field it names, with the nearest thing that would be right."""
    what, _, path = told.partition(" - at `$")
    hints = _flat(hint)
    for part in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        field, place = part
        if field and isinstance(value, Mapping):
            structs = [one for one in hints if field in getattr(one, "__struct_fields__", ())]
            hints = [kind for one in structs for kind in _flat(typing.get_type_hints(one)[field])]
            name, value = f"{name}.{field}", value[field]
        elif place and isinstance(value, list | tuple):
            several = [one for one in hints if typing.get_origin(one) in (tuple, list) and typing.get_args(one)]
            hints = [kind for one in several for kind in _flat(typing.get_args(one)[0])]
            name, value = f"{name}[{place}]", value[int(place)]
    allowed = [word for one in hints if typing.get_origin(one) is typing.Literal for word in typing.get_args(one)]
    structs = [one for one in hints if hasattr(one, "__struct_fields__")]
    if isinstance(value, Mapping) and structs and (odd := [k for k in value if k not in structs[0].__struct_fields__]):
        return f"{name} has no key {odd[0]!r}{nearest(str(odd[0]), structs[0].__struct_fields__)}"
    if allowed and isinstance(value, str):
        return f"{name} cannot be {value!r}{nearest(value, allowed)}"
    if lacking := re.search(r"missing required field `(\w+)`", what):
        return f"{name} needs {lacking[1]!r}; add it"
    return f"{name} cannot be {value!r}: {what}"


def _flat(hint: Any) -> list[Any]:
    """The alternatives of a type."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return [kind for one in typing.get_args(hint) for kind in _flat(one)] if union else [hint]


def refuse_unknown(name: str, given: Mapping[str, Any], known: typing.Iterable[str]) -> None:
    known = list(known)
    for key in given:
        if key not in known:
            raise ValueError(f"{name} has no key {key!r}{nearest(str(key), known)}" if known else f"{name} has no keys")


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """The end of a sentence about a name nobody knows: the one it is like, else all of them where they are few.

    >>> nearest("spacy_en", ["unicode", "spacy-en"]), nearest("foo", ["unicode", "spacy-en"])
    ("; did you mean 'spacy-en'?", '; it is one of unicode, spacy-en')
    """
    known = [str(one) for one in known]
    if near := difflib.get_close_matches(name, known, 1):
        return f"; did you mean {near[0]!r}?"
    return f"; it is one of {', '.join(known)}" if 0 < len(known) <= FEW else ""


@dataclass(frozen=True)
class Columns(Stage):
    """A row-wise stage: new columns beside the documents. Those that read the same source run in one pass over it.

    The first stage field is the source; columns of the others lie beside it. `needs` names what it reads.
    """

    needs: ClassVar[tuple[str, ...]] = ("text",)

    def columns(self, batch: pa.Table, at: At) -> pa.Table:
        """New columns for these rows, in their order, without `id`."""
        raise NotImplementedError(f"{type(self).__name__} has no columns")

    @property
    def source(self) -> Stage:
        return next(iter(self.inputs.values()))

    def with_id(self, batch: pa.Table, at: At) -> pa.Table:
        made = self.columns(batch, at)
        return made.add_column(0, batch.schema.field("id"), batch["id"])

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        by_address = {stage.address: inputs[name] for name, stage in self.inputs.items()}
        return together([self], cluster, by_address, {self.address: out})[self.address]


def together(
    group: typing.Sequence[Columns], cluster: Cluster, datasets: Mapping[str, Dataset], places: Mapping[str, Place]
) -> dict[str, Dataset]:
    """Run row-wise stages over one source in one pass; a stage may read columns that an earlier one makes in it.

    `datasets` holds, by address, what is sealed already. Returns the new datasets by address.
    """
    members = [stage.address for stage in group]
    base = datasets[group[0].source.address]
    reads = {stage.address: _reads(stage, base, members, datasets) for stage in group}
    beside = _once(d for stage in group for d in _sides(stage, members, datasets))
    wanted = dict.fromkeys(["id", *(column for stage in group for column in stage.needs)])
    source = base.beside(*beside).select(*wanted)
    jobs = [
        Job(
            stage.with_id,
            (places[stage.address].target(),),
            after=tuple(members.index(s.address) for s in stage.inputs.values() if s.address in members),
            reads=reads[stage.address],
            columns=tuple(c for c in ("id", *stage.needs) if c in reads[stage.address].held),
            about=places[stage.address].about,
        )
        for stage in group
    ]
    title = " + ".join(stage.name for stage in group)
    return dict(zip(members, (outs[0] for outs in map_(cluster, title, jobs, source)), strict=True))


def _sides(stage: Columns, members: list[str], datasets: Mapping[str, Dataset]) -> list[Dataset]:
    return [datasets[s.address] for s in list(stage.inputs.values())[1:] if s.address not in members]


def _reads(stage: Columns, base: Dataset, members: list[str], datasets: Mapping[str, Dataset]) -> Dataset:
    return base.beside(*_sides(stage, members, datasets)).select("id", *stage.needs)


def _once(datasets: Iterator[Dataset]) -> list[Dataset]:
    return list({dataset.address: dataset for dataset in datasets}.values())
