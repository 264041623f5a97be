"""Signatures of manifests: who sealed a dataset, proven by a key that verifying does not need.

    <uri>/manifest.sig    {"key": the public key, "signature": …}, both in hex, beside the manifest it is of

Promises: with `TUNDISH_SIGNING_KEY` (the path of an Ed25519 key in PEM) every manifest is signed as it is sealed, the
signature before the manifest, so none is there without; unset, nothing is written and no byte differs. Signed are the
manifest's bytes, which name every shard's SHA-256, and the address of its dataset, so that it stands for no other.
Costs one small file a dataset. Refuses a key that is not there, has a passphrase, or is of another kind.

Ed25519 (RFC 8032) rather than an HMAC: whoever checks needs only the public half, so a reader cannot sign. What it does
not prove: that a root is the newest one; who kept an older state of it, signatures and all, can put that back.
"""

import os
from typing import Any

from tundish.cluster import store
from tundish.cluster.shards import address_of

FILE, VARIABLE = "manifest.sig", "TUNDISH_SIGNING_KEY"
MADE = "make one with `openssl genpkey -algorithm ed25519 -out KEY` and `openssl pkey -in KEY -pubout -out PUB`"


def sign(uri: str, manifest: bytes) -> bool:
    """Write the signature of a dataset's manifest, if a key is said; whether one is."""
    if path := os.environ.get(VARIABLE):
        key = _private(path)
        public, made = key.public_key().public_bytes_raw(), key.sign(_message(uri, manifest))
        store.write_json(store.join(uri, FILE), {"key": public.hex(), "signature": made.hex()})
        return True
    return False


def check() -> None:
    """Raises ValueError for a key that could not sign; before hours of work, not after."""
    if path := os.environ.get(VARIABLE):
        _private(path)


def wrong(uri: str, manifest: bytes, public: bytes) -> str | None:
    """One sentence when a manifest has not the signature of this public key (32 bytes); None when it has."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    address = address_of(uri)
    try:
        told = store.read_json(store.join(uri, FILE))
        if told is None:
            return (
                f"{address}: the manifest has no signature; it was sealed without a key, or the signature was removed"
            )
        signer, made = bytes.fromhex(told["key"]), bytes.fromhex(told["signature"])
    except (ValueError, KeyError, TypeError) as error:
        return f"{address}: the signature cannot be read ({error})"
    if signer != public:
        return f"{address}: the manifest was signed by another key ({signer.hex()[:16]}…)"
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(made, _message(uri, manifest))
    except InvalidSignature:
        return f"{address}: the manifest is not what was signed; it was changed, or taken from another dataset"
    return None


def _message(uri: str, manifest: bytes) -> bytes:
    return b"tundish manifest 1\0" + address_of(uri).encode() + b"\0" + manifest


def public_of(path: str) -> bytes:
    """The 32 bytes of the public key in a PEM file; a private one gives its public half."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    body = store.read(path)
    if b"PRIVATE KEY" in body:
        return bytes(_private(path).public_key().public_bytes_raw())
    try:
        key = load_pem_public_key(body)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unfit(path, str(error)) from None
    if not isinstance(key, Ed25519PublicKey):
        raise _unfit(path, "a key of another kind")
    return key.public_bytes_raw()


def _private(path: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    body = store.read(path)
    try:
        key = load_pem_private_key(body, None)
    except TypeError:
        raise _unfit(path, "it has a passphrase, and nobody is asked for one") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unfit(path, str(error)) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _unfit(path, "a key of another kind")
    return key


def _unfit(path: str, reason: str) -> ValueError:
    return ValueError(f"{path} is no Ed25519 key in PEM ({' '.join(reason.split())[:200]}); {MADE}")
