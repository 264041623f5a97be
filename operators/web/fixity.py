"""Whether a record holds the bytes its digests were made of (WARC-Block-Digest, WARC-Payload-Digest).

Promises: only digests it can check are checked: MD5 and the SHAs, in base32, hex or base64. A payload digest is right
when it is that of the body as stored, without its chunks, or decoded: writers differ, and the standard lets them. Costs
0.1 ms a page. Refuses nothing.
"""

import hashlib
from base64 import b32encode, b64encode
from collections.abc import Iterator, Mapping

from tundish.operators.web.message import dechunked, fields, undone

ALGORITHMS = {"md5": "md5", "sha1": "sha1", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512"}


def agrees(stated: str, data: bytes) -> bool | None:
    """Whether bytes have a digest such as `sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ`; None where that cannot be said.

    >>> agrees("sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ", b""), agrees("md5:00", b""), agrees("crc:1", b"")
    (True, False, None)
    """
    name, _, value = stated.strip().partition(":")
    algorithm = ALGORITHMS.get(name.strip().lower().replace("-", ""))
    if algorithm is None or not value:
        return None
    found = hashlib.new(algorithm, data, usedforsecurity=False)
    value = value.strip()
    if value.rstrip("=").lower() in (found.hexdigest(), b32encode(found.digest()).decode().rstrip("=").lower()):
        return True
    return value == b64encode(found.digest()).decode()


def wrong(head: Mapping[str, str], block: bytes, short: bool) -> str:
    """Which digest of a record does not agree with its block, in words; empty for none. Cut records are not checked."""
    if short or "warc-truncated" in head or "warc-segment-number" in head:
        return ""
    stated = head.get("warc-block-digest", "")
    if agrees(stated, block) is False:
        return f"the block is not what {stated[:80]} was made of"
    stated = head.get("warc-payload-digest", "")
    if stated and head.get("warc-type", "").lower() != "revisit":  # whose payload lies elsewhere
        told = [agrees(stated, payload) for payload in _payloads(head, block)]
        if told and True not in told and False in told:
            return f"the payload is not what {stated[:80]} was made of"
    return ""


def _payloads(head: Mapping[str, str], block: bytes) -> Iterator[bytes]:
    """What a writer may have taken for the payload."""
    if not head.get("content-type", "").lower().startswith("application/http"):
        yield block
        return
    top, _, body = block.partition(b"\r\n\r\n")
    yield body
    yield dechunked(body)[0]
    try:
        yield undone(body, fields(top.partition(b"\n")[2]))[0]
    except ValueError:
        return
