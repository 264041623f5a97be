"""plan: which stages would run, which are kept, and the changed field or input that is the reason.

A stage is current when its dataset is sealed and every input's digest, and every outside file's, is today's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tundish.cluster import store
from tundish.cluster.credentials import refuse_within
from tundish.cluster.shards import Dataset, digest_of, opened
from tundish.cluster.target import lost
from tundish.stages.stage import Place, Settings, Stage, plain


@dataclass(frozen=True)
class Step:
    """One line of a plan."""

    stage: Stage
    place: Place
    sealed: Dataset | None  # what lies there, when it is current
    because: str  # why it would run; "" when it is current

    @property
    def current(self) -> bool:
        return self.sealed is not None


def place_of(stage: Stage, root: str, settings: Settings) -> Place:
    """Where a stage writes under a root. Asks what lies outside, so a missing file is refused here."""
    refuse_credentials(stage)
    outside = stage.outside()
    key = digest_of([stage.fingerprint, outside])
    about = {
        "stage": stage.name,
        "version": stage.version,
        "fields": stage.parameters,
        "outside": outside,
        "place": key,
    }
    return Place(store.join(root, stage.address), key, about, settings)


def refuse_credentials(stage: Stage) -> None:
    """Refuse a field that carries one: fingerprints and manifests would hold it."""
    for field in fields(stage):
        refuse_within(plain(getattr(stage, field.name)), f"{stage.name}.{field.name}")


def plan(goal: Stage, root: str, settings: Settings | None = None) -> list[Step]:
    """Every stage of the recipe in the order it would run."""
    settings = settings or Settings()
    steps: dict[str, Step] = {}
    before = _before(root)
    for stage in goal.walk():
        place = place_of(stage, root, settings)
        sealed = opened(place.uri)
        because = _because(stage, place, sealed, steps, before)
        steps[stage.address] = Step(stage, place, None if because else sealed, because)
    return list(steps.values())


def inputs_digests(stage: Stage, datasets: Mapping[str, Dataset]) -> dict[str, str]:
    """What a stage's manifest says of the datasets it read, by the name of the input."""
    return {name: datasets[source.address].digest for name, source in stage.inputs.items()}


def _because(
    stage: Stage, place: Place, sealed: Dataset | None, steps: Mapping[str, Step], before: list[dict[str, Any]]
) -> str:
    moved = [f"{name} runs" for name, source in stage.inputs.items() if not steps[source.address].current]
    if sealed is None:
        return _difference(stage, before) or (moved[0] if moved else "it was never finished")
    if sealed.about.get("place") != place.key:
        return f"an outside file changed: {_outside(sealed.about.get('outside', []), place.about['outside'])}"
    if moved:
        return moved[0]
    if redo := sealed.about.get("redo"):  # it was made with documents that are forgotten now
        return str(redo)
    for inside in ("", *sealed.about.get("inside", ())):
        dataset = opened(store.join(sealed.uri, inside)) if inside else sealed
        if dataset is None or (name := lost(dataset)):
            return f"the file of {inside or name} is gone or cut"
    held = {address: step.sealed for address, step in steps.items() if step.sealed}
    now, then = inputs_digests(stage, held), sealed.about.get("inputs", {})
    changed = [name for name in now if now[name] != then.get(name)]
    return f"the content of {changed[0]} changed" if changed else ""


def _outside(then: list[dict[str, Any]], now: list[dict[str, Any]]) -> str:
    lost = [f for f in then if f not in now]
    new = [f for f in now if f not in then]
    named = (new or lost or [{}])[0]
    return str(named.get("label") or named.get("model") or named.get("file") or "?")


def _before(root: str) -> list[dict[str, Any]]:
    """Stages of earlier runs under this root, the latest first, as `spelt` wrote them."""
    names = store.listing(store.join(root, "runs"))
    runs = sorted((name for name in names if name.endswith(".json") and not name.startswith(".")), reverse=True)
    found: list[dict[str, Any]] = []
    for name in runs[:20]:
        try:
            record = store.read_json(store.join(root, "runs", name)) or {}
        except store.Unread:
            continue  # it would only say why something runs
        found += [record["recipe"]] if "recipe" in record else []
    return found


def _difference(stage: Stage, before: list[dict[str, Any]]) -> str:
    """The first field in which the stage differs from the nearest of its kind in the latest run that had one."""
    for recipe in before:
        kin = [s for s in recipe.values() if s["stage"] == stage.name]
        if not kin:
            continue
        nearest = min(kin, key=lambda s: len(fields_of(s["fields"], stage.parameters)))
        if nearest["version"] != stage.version:
            return f"{stage.name} is version {stage.version} now, it was {nearest['version']}"
        changed = fields_of(nearest["fields"], stage.parameters)
        own = [c for c in changed if not _is_input(stage, c[0])]
        if own:
            name, was, now = own[0]
            return f"{stage.name}.{name}: {was!r} -> {now!r}"
        return ""
    return ""


def _is_input(stage: Stage, name: str) -> bool:
    return name.split(".")[0] in stage.inputs or any(name.endswith(f".{n}") for n in stage.inputs)


def fields_of(was: Any, now: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Leaves that differ, by dotted name."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        names = list(dict.fromkeys([*was, *now]))
        return [d for n in names for d in fields_of(was.get(n), now.get(n), f"{path}.{n}" if path else n)]
    return [] if was == now else [(path, was, now)]


def spelt(stage: Stage) -> dict[str, Any]:
    """The recipe as plain values: every stage by its address, so that runs can be compared field by field."""
    return {s.address: {"stage": s.name, "version": s.version, "fields": s.parameters} for s in stage.walk()}
