"""verify: every sealed dataset under a root, those inside stages too, against the digests of its manifest.

Promises: every file that a manifest names is read whole and hashed; nothing is written. Costs one reading of the root.
Says a sentence for each file that is gone or changed. Refuses a root that holds no sealed dataset.
"""

from collections.abc import Iterator

from tundish.cluster import shards, store
from tundish.stages.forget_swap import asked


def verify(root: str) -> list[str]:
    """One sentence for each file that is not what its manifest says; none when all is well."""
    wrong, found = [], 0
    for uri in sealed(root):
        found += 1
        try:
            dataset = shards.opened(uri)
            wrong += shards.verify(dataset) if dataset else []
        except (KeyError, TypeError, ValueError) as error:  # a manifest that is cut, or of another schema
            wrong.append(f"{shards.address_of(uri)}: the manifest cannot be read ({error})")
    if asked(root) is not None:
        wrong.append(f"a `tundish forget` was interrupted; say `tundish forget {root}` to bring it to its end")
    if not found:
        raise ValueError(
            f"there is no sealed dataset under {root!r}; check the path, or run a recipe with --root {root}"
        )
    return wrong


def sealed(root: str) -> Iterator[str]:
    """URIs of the sealed datasets under a folder, by name, what lies inside after what it lies in."""
    names = store.listing(root)
    if "manifest.json" in names:
        yield root
    for name in names:
        uri = store.join(root, name)
        if "." not in name and name != "commits" and store.size(uri) is None:
            yield from sealed(uri)
