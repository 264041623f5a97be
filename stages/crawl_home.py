"""Where the keeper of a part lives: a folder on the disk of whoever runs it, and checkpoints where all nodes see them.

    kept/PP/checkpoint.json     epoch, the frontier's object, the archives' objects: written last
    kept/PP/frontier-E-N.sqlite a copy of the frontier, as it was at one commit
    kept/PP/archive-0000-BYTES  the archives as far as that commit knew them

Promises: whoever takes a part over begins from its last checkpoint; what was done since is done again (at least once on
the network), and is in no archive that anybody reads (exactly once there). An owner that was replaced while it was cut
off can publish nothing: its epoch is over. Where the disk is one that all nodes see, nothing is copied. Costs a copy of
the frontier every ten minutes, beside the work, and each archive once. Refuses to publish for an epoch that is over.
"""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tundish.cluster import store
from tundish.cluster.verbs import Restart
from tundish.stages.crawl_tables import FRONTIER

POINTER, EPOCH = "checkpoint.json", "epoch.json"
AGES = 40  # bits of a batch number below the epoch


class Replaced(Restart):
    """Another keeper owns this part by now, or its folder is gone."""


@dataclass(frozen=True)
class Home:
    """`folder`: of all keepers; with `kept`, the URI of the checkpoints, a name below the temporary folder of whichever
    node it is asked on."""

    folder: str
    kept: str | None = None

    @property
    def base(self) -> Path:
        return Path(self.folder) if self.kept is None else Path(tempfile.gettempdir()) / self.folder

    def path(self, part: int) -> Path:
        return self.base / f"{part:02d}"

    def enter(self, part: int) -> tuple[Path, bool]:
        """The folder of a part, ready to be worked in, and whether it was brought back from a checkpoint."""
        path = self.path(part)
        if self.kept is None:
            return path, False
        told, own = self._told(part), _epoch(path)
        if told is None:
            if own is None:
                _clear(path)
                store.write_json(str(path / EPOCH), 0)
            self._tell(part, {"epoch": _epoch(path), "number": 0, "frontier": None, "archives": []})
            return path, False
        if own == told["epoch"]:
            return path, False
        _clear(path)
        for name, _, place in told["archives"]:
            _fetch(store.join(self.kept, f"{part:02d}", place), path / name)
        if told["frontier"]:
            _fetch(store.join(self.kept, f"{part:02d}", told["frontier"]), path / FRONTIER)
            _renumber(path / FRONTIER, told["epoch"] + 1)
        self._tell(part, {**told, "epoch": told["epoch"] + 1})
        store.write_json(str(path / EPOCH), told["epoch"] + 1)
        return path, True

    def save(self, part: int) -> dict[int, int]:
        """Copy what is committed to where all nodes see it; gives the last batch from each part that it covers.

        May be called from a thread beside the keeper's: it reads one snapshot. Raises `Replaced`.
        """
        assert self.kept is not None, "a folder that all nodes see needs no checkpoints"
        path, told = self.path(part), self._owned(part)
        number = told["number"] + 1
        name = f"frontier-{told['epoch']}-{number}.sqlite"
        before = {place for _, _, place in told["archives"]}
        with tempfile.TemporaryDirectory(dir=path) as folder:
            copy = Path(folder) / FRONTIER
            with closing(sqlite3.connect(path / FRONTIER)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
                archives = target.execute("SELECT name, bytes FROM archive ORDER BY name").fetchall()
                covered = dict(target.execute("SELECT sender, batch FROM inbox").fetchall())
            places = [(file, size, f"{file}-{size}") for file, size in archives]
            for file, size, place in places:
                if place not in before:
                    _put(path / file, size, store.join(self.kept, f"{part:02d}", place))
            _put(copy, copy.stat().st_size, store.join(self.kept, f"{part:02d}", name))
        self._owned(part)  # the copies took their time
        self._tell(part, {"epoch": told["epoch"], "number": number, "frontier": name, "archives": places})
        for old in {*before, told["frontier"]} - {place for _, _, place in places} - {None, name}:
            store.remove(store.join(self.kept, f"{part:02d}", str(old)))
        return covered

    def remove(self) -> None:
        """Nobody needs it any more."""
        store.remove(str(self.base))
        if self.kept is not None:
            store.remove(self.kept)

    def _owned(self, part: int) -> dict[str, Any]:
        told, own = self._told(part), _epoch(self.path(part))
        if told is None or told["epoch"] != own:
            what = f"has another keeper by now (epoch {told and told['epoch']}, here {own})"
            raise Replaced(f"part {part} {what if own is not None else 'has lost its folder'}")
        return told

    def _told(self, part: int) -> dict[str, Any] | None:
        return store.read_json(store.join(str(self.kept), f"{part:02d}", POINTER))

    def _tell(self, part: int, value: dict[str, Any]) -> None:
        store.write_json(store.join(str(self.kept), f"{part:02d}", POINTER), value)


def _epoch(path: Path) -> int | None:
    found: int | None = store.read_json(str(path / EPOCH))
    return found


def _clear(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)


def _fetch(uri: str, path: Path) -> None:
    with store.opened(uri) as source, open(path, "wb") as sink:
        shutil.copyfileobj(source, sink, store.CHUNK)


def _put(path: Path, size: int, uri: str) -> None:
    """The first `size` bytes of a file."""
    with open(path, "rb") as source, store.written(uri) as (sink, _):
        left = size
        while left and (block := source.read(min(left, store.CHUNK))):
            sink.write(block)
            left -= len(block)
    if left:
        raise ValueError(f"{path} is {left} bytes shorter than its crawl committed; delete {path.parent} to begin anew")


def _renumber(path: Path, epoch: int) -> None:
    """From now on batches have numbers above all that the owner before may have given since the checkpoint."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM sqlite_sequence WHERE name='outbox'")
        db.execute("INSERT INTO sqlite_sequence VALUES('outbox', ?)", (epoch << AGES,))
