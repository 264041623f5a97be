"""verify: every sealed dataset under a root, those inside stages too, against the digests of its manifest.

Promises: every file that a manifest names is read whole and hashed, and with a public key every manifest's signature is
checked; what runs and manifests name has to be there, with the content that they name (pipeline/promised); nothing is
written but, where it was asked for, signatures of what was found whole. Costs one reading of the root. Says a sentence
for each file and dataset that is gone or changed. Refuses a root that holds no sealed dataset.
"""

import os
from collections.abc import Iterator

from tundish.cluster import shards, signing, store
from tundish.pipeline.promised import held
from tundish.stages.forget_swap import asked


def verify(root: str, key: str = "") -> list[str]:
    """One sentence for each file that is not what its manifest says, and for each dataset that is not what the latest
    run left; none when all is well.

    `key`: the PEM file of an Ed25519 key (RFC 8032); then also one for each manifest that it did not sign.
    """
    public = signing.public_of(key) if key else b""
    wrong, uris = [], [*sealed(root)]
    for uri in uris:
        if public and (told := signing.wrong(uri, store.read(store.join(uri, "manifest.json")), public)):
            wrong.append(told)
        try:
            dataset = shards.opened(uri)
            wrong += shards.verify(dataset) if dataset else []
        except (KeyError, TypeError, ValueError) as error:  # a manifest that is cut, or of another schema
            wrong.append(f"{shards.address_of(uri)}: the manifest cannot be read ({error})")
    if asked(root) is not None:
        wrong.append(f"a `tundish forget` was interrupted; say `tundish forget {root}` to bring it to its end")
    if not uris:
        raise ValueError(
            f"there is no sealed dataset under {root!r}; check the path, or run a recipe with --root {root}"
        )
    return wrong + held(root, uris).wrong


def unknown(root: str) -> list[str]:
    """A sentence for each dataset of which nothing tells what it should be: neither well nor wrong."""
    return held(root, sealed(root)).unknown


def sign(root: str) -> int:
    """Sign every manifest under a root, after all was found whole; how many. Raises ValueError where it was not."""
    if not (key := os.environ.get(signing.VARIABLE)):
        raise ValueError(f"there is nothing to sign with; set {signing.VARIABLE} to the path of a key: {signing.MADE}")
    before = {uri: store.read(store.join(uri, "manifest.json")) for uri in sealed(root)}
    if wrong := verify(root):
        raise ValueError(f"{wrong[0]}; nothing was signed, for a signature would say that it is whole")
    public, count = signing.public_of(key), 0
    for uri, manifest in before.items():
        if store.read(store.join(uri, "manifest.json")) != manifest:
            raise ValueError(f"{uri} was sealed again meanwhile; run the same command when nothing writes here")
        if signing.wrong(uri, manifest, public):
            signing.sign(uri, manifest)
        count += 1
    return count


def sealed(root: str) -> Iterator[str]:
    """URIs of the sealed datasets under a folder, by name, what lies inside after what it lies in."""
    names = store.listing(root)
    if "manifest.json" in names:
        yield root
    for name in names:
        uri = store.join(root, name)
        if "." not in name and name != "commits" and store.size(uri) is None:
            yield from sealed(uri)
