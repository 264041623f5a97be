"""A browser without a window, for tests that look at pages: Chromium over its DevTools protocol.

`TUNDISH_CHROMIUM` names it, else one on the path is taken. A page is waited for until its text holds certain words, for
pages fill themselves long after they are loaded.
"""

import asyncio
import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

PRESSED = "(found => { if (found) found.dispatchEvent(new MouseEvent('click', {bubbles: true})); return !!found })" \
    "(document.querySelector(%s))"  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--no-first-run", "--remote-debugging-port=0",
)  # fmt: skip


def chromium() -> str | None:
    """Where it is, if there is one."""
    named = os.environ.get("TUNDISH_CHROMIUM", "")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@dataclass(frozen=True)
class Seen:
    """A page: what it says, and a picture of it."""

    text: str
    png: bytes


def looked_at(
    url: str,
    words: Sequence[str],
    folder: Path,
    *,
    press: str = "",
    size: tuple[int, int] = (1400, 1000),
    seconds: float = 90,
) -> Seen:
    """The page once it holds all of the words, or at the end of its time. `press`: what is pressed once when it is
    there, as a selector of CSS."""
    program = chromium()
    assert program is not None
    profile = folder / "profile"
    window = f"--window-size={size[0]},{size[1]}"
    words_of = [program, *FLAGS, window, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(words_of, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            port = _port(profile / "DevToolsActivePort", running)
            return asyncio.run(_seen(port, url, words, press, time.monotonic() + seconds))
        finally:
            running.terminate()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()


def _port(told: Path, running: Any) -> int:
    until = time.monotonic() + 60
    while time.monotonic() < until and running.poll() is None:
        if told.exists() and (lines := told.read_text().split("\n"))[0]:
            return int(lines[0])
        time.sleep(0.1)
    raise RuntimeError(f"the browser did not start (exit code {running.poll()})")


async def _seen(port: int, url: str, words: Sequence[str], press: str, until: float) -> Seen:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [one for one in await answer.json() if one["type"] == "page"]
        async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=1 << 28) as talk:
            call = _Call(talk)
            await call("Page.navigate", url=url)
            text = ""
            while time.monotonic() < until and not all(word in text for word in words):
                await asyncio.sleep(0.5)
                if press and (await call.value(PRESSED % json.dumps(press))):
                    press = ""
                    await asyncio.sleep(0.5)
                text = await call.value("document.body ? document.body.innerText : ''")
            await asyncio.sleep(1)  # what is drawn comes behind what is said
            picture = await call("Page.captureScreenshot", format="png")
            return Seen(text, base64.b64decode(picture["data"]))


class _Call:
    """One method of the protocol after another; events are passed over."""

    def __init__(self, talk: Any) -> None:
        self.talk, self.number = talk, 0

    async def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        await self.talk.send_str(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            told = json.loads((await self.talk.receive(timeout=60)).data)
            if told.get("id") == self.number:
                assert "error" not in told, told
                return dict(told["result"])

    async def value(self, expression: str) -> Any:
        """What JavaScript makes of it on the page."""
        told = await self("Runtime.evaluate", expression=expression)
        return told["result"].get("value", "")
