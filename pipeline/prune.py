"""prune: remove what no kept run refers to, and what sealed stages left on their way.

    <root>/<stage>-<fingerprint>/           stays if a kept run's recipe names it, or a kept dataset lies on its files
    <root>/<stage>-<fingerprint>/steps, pieces, .*.attempt      go once the stage is sealed
    <root>/runs/<name>.json                 goes with its run

Promises: what a kept manifest points to stays, wherever it lies (a gathered shard is a file of another stage); nothing
outside the root is touched, and nothing in it that no stage wrote. Costs the listing of the root and the manifests.
Holds the root while it removes; refuses while a run holds it, and to keep fewer than one run.
"""

import re
from collections.abc import Iterable, Iterator

from tundish.cluster import store
from tundish.cluster.shards import opened
from tundish.pipeline.funnel import ran, runs
from tundish.pipeline.lease import Lease, refuse_held
from tundish.stages.forget_swap import refuse_unfinished

STAGE = re.compile(r"[a-z]+-[0-9a-f]{10}")
OURS = {
    "manifest.json",
    "commits",
    "steps",
    "pieces",
    "keepers",
    "checkpoints",
    "forecast.json",
}  # a folder that holds one is a stage's
LEFT = {"keepers", "steps", "pieces"}  # sealed on the way, so that a killed stage goes on; of no use once it is sealed


def prune(root: str, keep_runs: int = 1, dry: bool = False) -> list[tuple[str, int]]:
    """Remove all that the last `keep_runs` runs do not need; (name under the root, bytes) of each. `dry` only says."""
    if keep_runs < 1:
        raise ValueError(f"prune cannot keep {keep_runs} runs; keep at least 1, or delete the root yourself")
    refuse_unfinished(root)
    ran(root)  # a root without a run is refused, not emptied
    if dry:
        refuse_held(root)
        return _unneeded(root, keep_runs)
    with Lease(root):  # a run that begins meanwhile would stand on what goes
        found = _unneeded(root, keep_runs)
        for name, _ in sorted(found, key=lambda one: not one[0].startswith("runs/")):  # no record of what is gone
            store.remove(store.join(root, name))
    return found


def _unneeded(root: str, keep_runs: int) -> list[tuple[str, int]]:
    kept = _kept(root, keep_runs)
    stages = [name for name in store.listing(root) if STAGE.fullmatch(name) and _ours(store.join(root, name))]
    gone = [name for name in stages if name not in kept]
    for stage in (stage for stage in stages if stage in kept and opened(store.join(root, stage))):
        gone += _leftovers(root, stage)
    gone += [f"runs/{name}.json" for name in runs(root)[:-keep_runs]]
    return [(name, _bytes(store.join(root, name))) for name in gone]


def _ours(uri: str) -> bool:
    return not OURS.isdisjoint(store.listing(uri))


def _kept(root: str, keep_runs: int) -> set[str]:
    """Addresses the kept runs name, and those on whose files their datasets lie."""
    kept = {address for name in runs(root)[-keep_runs:] for address in ran(root, name).recipe}
    waiting = set(kept)
    while waiting:
        new = {other for address in waiting for other in _lies_on(root, address)} - kept
        kept, waiting = kept | new, new
    return kept


def _lies_on(root: str, address: str) -> Iterator[str]:
    """Stages whose files a dataset takes in by reference: `../<address>/<file>`, or by their full path."""
    dataset, (_, top) = opened(store.join(root, address)), store.resolve(root)
    for file in {dataset.at(shard) for shard in dataset.shards} if dataset else ():
        _, path = store.resolve(file)
        if path.startswith(f"{top}/"):
            yield path.removeprefix(f"{top}/").split("/")[0]


def _leftovers(root: str, folder: str) -> Iterable[str]:
    """What a sealed stage no longer needs; datasets inside it are looked into."""
    for name in store.listing(store.join(root, folder)):
        inside = f"{folder}/{name}"
        if name in LEFT or (name.startswith(".") and name.endswith(".attempt")):
            yield inside
        elif store.size(store.join(root, inside)) is None:
            yield from _leftovers(root, inside)


def _bytes(uri: str) -> int:
    """Bytes of a file, or of all files of a folder."""
    size = store.size(uri)
    return sum(_bytes(store.join(uri, name)) for name in store.listing(uri)) if size is None else size
