"""What pywb shows of a crawl: the pages as they were sent, found by our index. Runs where pywb's programs are installed
(`pip install pywb` in an environment of its own, its `bin` in PATH)."""

import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.test_crawl import at, page, run
from tundish.cluster.wire import answers, free_port

pytestmark = pytest.mark.skipif(shutil.which("wayback") is None, reason="pywb is not installed")


def shown(port: int, url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/web/20261121id_/{url}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def test_a_crawl_opens_in_pywb(tmp_path: Path) -> None:
    toy = {
        at(): page("/a?b=1", "/ü", text="First."),
        at("/a?b=1"): page(text="Second."),
        at("/%C3%BC"): page(text="Ü."),
    }
    made = run(toy, tmp_path / "crawled", archive="gz", parts=2)
    home = tmp_path / "replay"
    home.mkdir()
    subprocess.run(["wb-manager", "init", "web"], cwd=home, check=True, capture_output=True)
    collection = home / "collections" / "web"
    for kind, pattern in (("archive", "*.warc.gz"), ("indexes", "cdxj/*.cdxj")):
        for file in Path(made.uri).glob(pattern):
            shutil.copy(file, collection / kind)
    port = free_port()
    with subprocess.Popen(["wayback", "-p", str(port)], cwd=home, stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 60
            while not answers(f"127.0.0.1:{port}", 1.0) and time.monotonic() < deadline:
                time.sleep(0.2)
            for url, answer in toy.items():
                assert shown(port, url) == (200, answer.body.decode())
            assert shown(port, at("/never"))[0] == 404
        finally:
            server.kill()
