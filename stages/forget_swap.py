"""Many files of a root changed together, or none of them, whatever is killed when.

    .forgetting/asked.json    a forgetting has begun and is not done
    .forgetting/new/…         every file that will be another, under the path it will have
    .forgetting/ready.json    all of them are there: from here on it only goes forward

Promises: until `ready.json` stands, no file of the root has changed; from then on whoever comes moves what is still in
`new/` to its place and removes what is to go, which may be done any number of times. Costs the room of the files that
change, once more. Refuses nothing; runs and `verify` refuse a root in which something was asked and is not done.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tundish.cluster import store

FOLDER, ASKED, READY, NEW = ".forgetting", "asked.json", "ready.json", "new"


def asked(root: str) -> dict[str, Any] | None:
    """What was asked for and is not done."""
    return _told(store.join(root, FOLDER, ASKED), "time")


def _told(uri: str, needed: str) -> dict[str, Any] | None:
    try:
        found = store.read_json(uri)
        if found is not None:
            found[needed]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{uri} is damaged ({error}); restore it, or the root from a copy: it tells what goes"
        ) from None
    return dict(found) if found is not None else None


def refuse_unfinished(root: str) -> None:
    """Raises ValueError for a root in which a forgetting was interrupted."""
    if asked(root) is not None:
        raise ValueError(
            f"a `tundish forget` of {root!r} was interrupted; say `tundish forget {root}` to bring it to its end"
        )


def begin(root: str, entry: Mapping[str, Any]) -> None:
    """Say what is asked for; what lies here of an earlier beginning goes."""
    for name in (READY, NEW):  # before the rest: what an earlier one had ready must not be taken for this one's
        store.remove(store.join(root, FOLDER, name))
    store.write_json(store.join(root, FOLDER, ASKED), entry)


def new(root: str, *path: str) -> str:
    """Where a file is laid that will lie at this path below the root."""
    return store.join(root, FOLDER, NEW, *path)


def ready(root: str) -> dict[str, Any] | None:
    """What was written when all was laid; None before."""
    return _told(store.join(root, FOLDER, READY), "answer")


def settle(root: str, answer: Mapping[str, Any], remove: Sequence[str]) -> None:
    """All is laid: the point from which there is no way back. `remove`: paths below the root that go."""
    store.write_json(store.join(root, FOLDER, READY), {"answer": dict(answer), "remove": list(remove)})


def drop(root: str) -> None:
    """Nothing is to be done after all."""
    store.remove(store.join(root, FOLDER, ASKED))
    store.remove(store.join(root, FOLDER))


def forward(root: str) -> dict[str, Any]:
    """Bring what was settled to its end; gives the answer."""
    told = ready(root)
    assert told is not None, "nothing is settled"
    for path in told["remove"]:  # first: a commit that goes must not outlive what takes its shard's place
        store.remove(store.join(root, *path.split("/")))
    for path in list(_files(store.join(root, FOLDER, NEW))):
        store.move(new(root, *path.split("/")), store.join(root, *path.split("/")))
    drop(root)
    answer: dict[str, Any] = told["answer"]
    return answer


def _files(uri: str, below: str = "") -> Iterator[str]:
    for name in store.listing(uri):
        inside = f"{below}{name}"
        if store.size(store.join(uri, name)) is None:
            yield from _files(store.join(uri, name), f"{inside}/")
        else:
            yield inside
