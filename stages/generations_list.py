"""The list of generations: what a corpus that is still being written has given so far, one line each.

    {"generation": 3, "tokens": "ROOT/follow/gen-0003/tokenize-…", "digest": "…", "documents": 812}
    {"end": true}

Promises: a line is only added when its shards are sealed, and never changed. Refuses a generation whose shards are
not those of its line, or that was written with another vocabulary than the first.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tundish.cluster import store
from tundish.cluster.shards import Dataset, opened


@dataclass(frozen=True)
class Generation:
    """Line `number` of a list. `uri` is None for one that brought nothing."""

    number: int
    uri: str | None
    digest: str
    vocabulary: str  # digest of the first one's

    def tokens(self) -> Dataset:
        """Its token shards."""
        assert self.uri is not None, "asked only of those that brought something"
        found = opened(self.uri)
        if found is None or found.digest != self.digest:
            raise ValueError(f"{self.uri} is not what the list of generations says; restore it, or begin a new list")
        if self.vocabulary and found.about["vocabulary"]["digest"] != self.vocabulary:
            raise ValueError(
                f"{self.uri} was written with another vocabulary than the first generation; begin a new list"
            )
        return found


def lines(uri: str) -> list[dict[str, Any]]:
    """The list as it stands; empty before there is one."""
    try:
        return [json.loads(line) for line in store.read(uri).splitlines() if line.strip()] if store.exists(uri) else []
    except json.JSONDecodeError as error:
        raise ValueError(f"{uri} is cut or changed ({error}); restore it, or begin a new list") from None


def arrived(uri: str, known: int) -> tuple[list[Generation], bool]:
    """The generations behind the `known` first that brought something, and whether the list is at its end."""
    told = lines(uri)
    found = [line for line in told if line.get("tokens")]
    first = opened(found[0]["tokens"]) if found else None
    vocabulary = first.about["vocabulary"]["digest"] if first else ""
    if any(not isinstance(line.get("generation"), int) or "digest" not in line for line in found):
        raise ValueError(f"a line of {uri} has no generation or no digest; restore the list, or begin a new one")
    every = [Generation(line["generation"], line["tokens"], line["digest"], vocabulary) for line in found]
    return every[known:], any(line.get("end") for line in told)


def written(uri: str, told: Iterable[dict[str, Any]]) -> None:
    """The list, whole."""
    store.write(uri, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in told).encode())
