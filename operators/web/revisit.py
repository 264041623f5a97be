"""Revisits: records that say "the same as before" (WARC/1.1, section 6.7), and how what they refer to is found again.

Promises: a revisit names its original by up to three keys, the surest first: the record's id, its address and time, the
digest of its payload. Costs one pass over an archive to look for keys in it. Refuses nothing.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from fastwarc.warc import WarcRecordType

from tundish.operators.web.arc import records_of
from tundish.operators.web.message import message
from tundish.operators.web.walk import Found

_ORIGINALS = (WarcRecordType.response, WarcRecordType.resource)


@dataclass(frozen=True)
class Revisit:
    """An address that answered as it, or another, had answered before.

    `keys`: of the original, the surest first. `status` and `headers`: of this answer, 0 and none where it is not kept.
    """

    url: str
    date: str
    offset: int
    record: str
    keys: tuple[str, ...]
    status: int
    headers: dict[str, str]


def revisit_of(head: Mapping[str, str], block: bytes, offset: int) -> Revisit:
    """A revisit record from its header (lower-case names) and its block."""
    named = {"id": head.get("warc-refers-to", "").strip("<> "), "digest": head.get("warc-payload-digest", "").strip()}
    at = target(head, "warc-refers-to-target-uri"), head.get("warc-refers-to-date", "")
    keys = [f"id {named['id']}"] if named["id"] else []
    keys += [f"at {at[0]} {at[1]}"] if all(at) else []
    keys += [f"digest {named['digest']}"] if named["digest"] else []
    try:
        answer = message(block)
        status, headers = answer.status, answer.headers
    except ValueError:  # the block may be empty
        status, headers = 0, {}
    record = head.get("warc-record-id", "").strip("<>")
    return Revisit(target(head), head.get("warc-date", ""), offset, record, tuple(keys), status, headers)


def target(head: Mapping[str, str], name: str = "warc-target-uri") -> str:
    """The address in a header; some writers put it in angle brackets."""
    return head.get(name, "").strip().removeprefix("<").removesuffix(">")


def keys_of(head: Mapping[str, str]) -> tuple[str, ...]:
    """By what a revisit may name the record of this header (lower-case names)."""
    found = (
        f"id {head.get('warc-record-id', '').strip('<> ')}",
        f"at {target(head)} {head.get('warc-date', '')}",
        f"digest {head.get('warc-payload-digest', '').strip()}",
    )
    return tuple(key for key in found if not key.endswith(" "))


def originals(stream: BinaryIO, wanted: Container[str]) -> Iterator[tuple[str, int]]:
    """(key, offset) of the records that have a wanted key; those that share their offset with others are left out."""
    held: list[tuple[str, int]] = []
    last = -1
    for step in records_of(stream):
        if step.offset > last:
            yield from held
        held = []
        if isinstance(step, Found) and step.offset > last and step.record.record_type in _ORIGINALS:
            head = {name.lower(): value for name, value in step.record.headers.items()}
            held = [(key, step.offset) for key in keys_of(head) if key in wanted]
        last = step.offset
    yield from held
