"""JSON lines of a training's steps, under any root: appended where files can be, else sent whole with each checkpoint.

Promises: at a local path each line is in the file when it was given; elsewhere (`s3://...`) lines gather in a temporary
file, which `settle` puts in the place of the earlier one, so that the lines of all steps that a checkpoint says were
taken are found. Costs, elsewhere, a request a file and checkpoint, of all lines so far (350 bytes a step); those since
the last checkpoint are lost with the process, as its steps are. Refuses a file that ends before the step gone on from.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import IO, Any

from tundish.cluster import store


class Lines:
    """JSON lines of the steps before `start`, to which this run adds; only a `writer` touches the file."""

    def __init__(self, uri: str, start: int, writer: bool) -> None:
        self.uri, self.stream, self.ends, self.over = uri, None, [0], b""
        self.far = store.local(uri) is None
        self.changed = False  # since it was sent
        if not writer:
            return
        self.stream = self._opened()
        self.stream.seek(0)
        for line in self.stream:
            if not line.endswith(b"\n") or len(self.ends) > start:
                break
            self.ends.append(self.ends[-1] + len(line))
        if len(self.ends) > start:
            self.stream.seek(self.ends[start])
            self.over = self.stream.read()
        if len(self.ends) <= start:
            folder = uri.rpartition("/")[0]
            raise ValueError(f"{uri} ends before step {start} of its checkpoint; remove {folder} and train anew")
        self.cut(start)

    def _opened(self) -> IO[bytes]:
        if path := store.local(self.uri):
            path.parent.mkdir(parents=True, exist_ok=True)
            return open(path, "ab+")  # lives as long as the run
        stream: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as that does
        if store.exists(self.uri):
            stream.write(store.read(self.uri))
        return stream

    def beyond(self) -> list[dict[str, Any]]:
        """The lines of steps that had been taken from `start` on, when this run began."""
        whole = [line for line in self.over.splitlines(keepends=True) if line.endswith(b"\n")]
        self.over = b""
        return [json.loads(line) for line in whole]

    def __call__(self, line: Mapping[str, Any]) -> None:
        if self.stream:
            body = json.dumps(_plain(line)).encode() + b"\n"
            self.stream.write(body)
            self.stream.flush()
            self.ends.append(self.ends[-1] + len(body))
            self.changed = True

    def cut(self, start: int) -> None:
        """Only the lines of the steps before this one stay."""
        if self.stream and len(self.ends) > start:
            del self.ends[start + 1 :]
            self.stream.truncate(self.ends[-1])
            self.stream.seek(self.ends[-1])
            self.changed = True

    def settle(self) -> None:
        """They will be found where they belong, whatever becomes of this process."""
        if not self.stream:
            return
        if not self.far:
            os.fsync(self.stream.fileno())
        elif self.changed:
            self.stream.seek(0)
            with store.written(self.uri) as (sink, _):
                shutil.copyfileobj(self.stream, sink, 1 << 20)
            self.changed = False

    def close(self) -> None:
        if self.stream:
            self.stream.close()


def _plain(line: Any) -> Any:
    """As JSON can hold it: what is no number is told in words."""
    if isinstance(line, Mapping):
        return {name: _plain(value) for name, value in line.items()}
    return str(line) if isinstance(line, float) and not math.isfinite(line) else line
