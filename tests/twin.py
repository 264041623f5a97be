"""A folder as if it lay elsewhere, `twin:///path`: counts what is opened, and can be slow, cut, changed or gone."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tundish.cluster import store

Trouble = Callable[[str, int, bytes], bytes]  # (file name, offset, bytes read) -> what arrives; may raise or sleep


class Twin(LocalFileSystem):
    protocol = "twin"
    opened: list[str] = []  # noqa: RUF012  names, in order
    trouble: Trouble | None = None

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return LocalFileSystem._strip_protocol(str(path).replace("twin://", "file://"))

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        if mode != "rb":
            return super()._open(path, mode, **more)
        Twin.opened.append(os.path.basename(path))
        return Stream(path)


class Stream(io.FileIO):
    def __init__(self, path: str) -> None:
        self.file = os.path.basename(path)
        super().__init__(path)

    def read(self, size: int | None = -1) -> bytes:
        at = self.tell()
        body = super().read(-1 if size is None else size)
        return Twin.trouble(self.file, at, body) if Twin.trouble and body else body


def plug(trouble: Trouble | None = None) -> None:
    """Make `twin://` known to this process, with an empty count."""
    fsspec.register_implementation("twin", Twin, clobber=True)
    store._filesystem.cache_clear()
    Twin.opened, Twin.trouble = [], trouble


def at(folder: Path) -> str:
    return f"twin://{folder}"
