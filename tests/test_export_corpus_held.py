"""An export that is refused: of a corpus whose stages are gone or others by now, and into a folder that another export
writes into; and what leaves has no passwords in its addresses."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests import toys
from tests.test_export_corpus import FEW, LITTLE, Pages, _card, recipe, root, table  # noqa: F401
from tests.test_promised import of, shortened
from tests.test_prune import HOLDER
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.pipeline.export_corpus import LEASE, export_corpus
from tundish.pipeline.export_corpus_rows import bare
from tundish.pipeline.forget import forget
from tundish.pipeline.run import run
from tundish.stages.corpus import Corpus
from tundish.stages.forget_swap import begin
from tundish.stages.gather import Gather
from tundish.stages.judge import Judge
from tundish.stages.refine import Refine

BELOW = ("judge", "refine", "identify", "sign", "deduplicate", "mask", "corpus/dropped")


@pytest.fixture
def own(root: str, tmp_path: Path) -> Path:  # noqa: F811
    """A root that a test may change."""
    return Path(shutil.copytree(root, tmp_path / "root"))


@pytest.mark.parametrize("gone", BELOW)
def test_a_corpus_that_stands_on_what_is_gone_is_not_exported(own: Path, tmp_path: Path, gone: str) -> None:
    stage, _, inside = gone.partition("/")
    (of(own, stage) / inside / "manifest.json").unlink()
    with pytest.raises(ValueError, match=rf"^{stage}-\w+.*; run the recipe again$") as refused:
        export_corpus(str(own), str(tmp_path / "out"))
    assert "gone" in str(refused.value) or "is not sealed" in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("other", ["sign", "mask", "gather"])
def test_a_corpus_that_was_made_from_another_stage_than_the_one_there_is_not_exported(
    own: Path, tmp_path: Path, other: str
) -> None:
    address = shortened(of(own, other)).address
    with pytest.raises(ValueError, match=f"was made from another {address} than the one there; run the recipe again"):
        export_corpus(str(own), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_the_corpus_does_not_stand_on_may_be_gone(tmp_path: Path) -> None:
    made = toys.small_root(tmp_path)
    shutil.rmtree(of(Path(made), "tokenize"))
    assert export_corpus(made, str(tmp_path / "out"))["rows"]


def test_a_forgetting_that_is_not_done_is_waited_for(own: Path, tmp_path: Path) -> None:
    begin(str(own), {"time": "2026-11-22T00:00:00Z"})
    with pytest.raises(ValueError, match="was interrupted"):
        export_corpus(str(own), str(tmp_path / "out"))


@contextmanager
def holder(place: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that holds a folder, until it is killed."""
    other = subprocess.Popen([sys.executable, "-c", HOLDER, place], stdout=subprocess.PIPE)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"held\n"
        yield other
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_two_exports_into_one_folder_are_refused_and_a_dead_one_holds_nothing(own: Path, tmp_path: Path) -> None:
    to = tmp_path / "out"
    export_corpus(str(own), str(to), columns=FEW)
    forget(str(own), ["kranich.test"], reason="asked")
    with holder(str(to / LEASE)) as other:
        before = toys.digests(str(to))
        with pytest.raises(
            ValueError, match=rf"another export writes into .*out \(process {other.pid} on .*wait until"
        ):
            export_corpus(str(own), str(to), columns=FEW)
        assert toys.digests(str(to)) == before
    assert (to / LEASE / "lease.json").exists(), "as a killed export leaves it"
    export_corpus(str(own), str(to), columns=FEW)
    assert sorted(path.name.split("-")[0] for path in to.iterdir()) == ["README.md", "data", "export.json"]


def test_one_that_begins_while_another_writes_is_refused_and_the_first_is_whole(
    root: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    to, refused = tmp_path / "out", []

    def again(done: int, rows: int) -> None:
        with pytest.raises(ValueError, match="another export writes into") as error:
            export_corpus(root, str(to), columns=FEW, size=LITTLE)
        refused.append(error)

    told = export_corpus(root, str(to), columns=FEW, size=LITTLE, say=again)
    assert len(refused) >= len(told["files"]) >= 3
    export_corpus(root, str(tmp_path / "undisturbed"), columns=FEW, size=LITTLE)
    assert toys.digests(str(to)) == toys.digests(str(tmp_path / "undisturbed"))


def taken_over(to: str) -> dict[str, Any]:
    """Another export believes the first dead and takes its folder; its claim."""
    uri = f"{to}/{LEASE}/lease.json"
    held = store.read_json(uri)
    assert held is not None
    claim = {**held, "name": "another", "number": held["number"] + 1}
    store.write_json(uri, claim)
    return claim


def test_one_that_was_taken_over_shows_and_removes_nothing(own: Path, tmp_path: Path) -> None:
    to = tmp_path / "out"
    export_corpus(str(own), str(to), columns=FEW)
    forget(str(own), ["kranich.test"], reason="asked")
    before = toys.digests(str(to))
    with pytest.raises(ValueError, match="was taken over"):
        export_corpus(str(own), str(to), columns=FEW, say=lambda done, rows: taken_over(str(to)) and None)
    after = {name: digest for name, digest in toys.digests(str(to)).items() if not name.startswith(".export-")}
    assert after == before
    assert store.read_json(f"{to}/{LEASE}/lease.json")["name"] == "another", "its claim is its own"


def test_elsewhere_one_that_is_taken_over_moves_no_further_file(
    root: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    to, move, moved = f"memory://{tmp_path.name}/out", store.move, []

    def slow(uri: str, place: str) -> None:
        if "/data-" in place:
            moved.append(place)
            taken_over(to)
        move(uri, place)

    monkeypatch.setattr(store, "move", slow)
    with pytest.raises(ValueError, match="was taken over"):
        export_corpus(root, to, columns=FEW, size=LITTLE)
    assert len(moved) == 1
    assert "README.md" not in store.listing(to)


def test_a_root_is_no_folder_to_export_into(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, written = toys.digests(str(own)), []
    monkeypatch.setattr(store, "write", lambda uri, body: written.append(uri))
    with pytest.raises(ValueError, match="which is of no export of a corpus"):
        export_corpus(str(own), str(own), replace=True)
    assert toys.digests(str(own)) == before
    assert not written, "not even a lease, for a while"


SECRET = "s3cretpw"
ADDRESSES = (
    f"http://u:{SECRET}@h0.example/0",
    f"https://{SECRET}@h1.example/a?to=b@c.example#d@e",
    f"http://u:{SECRET}@{SECRET}@h2.example:8080/@user",
    f"http://u:{SECRET}%40x@[::1]:80/x@y",
    "http://h3.example:8080/@user",
    "http://[::1]/x@y",
    "http://h4.example/?mail=a@b.example",
    "no address: a@b.example",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_bared_as_the_standard_library_reads_it(address: str) -> None:
    parts = urlsplit(address)
    assert bare(address) == parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    assert bare(f"see {address} and {address} at home@work") == f"see {bare(address)} and {bare(address)} at home@work"


def test_a_password_with_a_slash_goes_too() -> None:
    assert bare("s3://AKIA:wJalr/XUt/x@bucket/a.warc.gz:17") == "s3://bucket/a.warc.gz:17"
    assert bare("http://h.example:/x@y http://h.example:80?x@y") == "http://h.example:/x@y http://h.example:80?x@y"


@dataclass(frozen=True)
class Keyed(Pages):
    """Pages whose keys, sources and licences carry passwords, some of them; so do their words."""

    def row(self, n: int) -> dict[str, Any]:
        row = super().row(n)
        if n % 4 == 0:
            row |= {"url": f"http://u:{SECRET}@{self.host}/{n}", "title": f"on http://u:{SECRET}@{self.host}"}
            row |= {"source": f"s3://key:{SECRET}@bucket/a.warc.gz:{n}", "licence": f"https://u:{SECRET}@cc.example/by"}
            row["text"] += f"\nSee http://u:{SECRET}@{self.host} for more of that."
        return row


def test_passwords_in_addresses_do_not_leave_and_the_card_counts_them(tmp_path: Path) -> None:
    documents = Gather({"a": Keyed("heron.example", paged=True)})
    language = toys.Identify(documents)
    kept = Refine(documents, language, Judge(documents, language), rules={"gopher_short_doc": 50.0})
    run(Corpus(documents, kept), Local(), str(tmp_path / "root"))
    export_corpus(
        str(tmp_path / "root"), str(tmp_path / "out"), columns=("id", "url", "title", "text", "source", "licence")
    )
    rows = table(tmp_path / "out").to_pylist()
    mine = [row for row in rows if SECRET in row["text"]]
    assert 0 < len(mine) < len(rows)
    assert all(SECRET not in row[name] for row in rows for name in ("url", "source", "licence") if row[name])
    assert {row["url"].rpartition("/")[0] for row in rows} == {"http://heron.example"}
    assert {row["source"].rpartition(":")[0] for row in mine} == {"s3://bucket/a.warc.gz"}
    assert all(SECRET in row["title"] for row in mine), "a title is words, as the text is"
    card, count = _card(tmp_path), len(mine)
    told = re.search(r"taken out of them; by column: (.*)", card)
    assert told is not None
    assert told[1] == f"licence {count}, source {count}, url {count}"
    assert f"| https://cc.example/by | {count} |" in card
    written = [path.read_text() for path in (tmp_path / "out").rglob("*") if path.suffix in (".md", ".json")]
    assert not any(SECRET in words for words in written)


def test_a_card_of_addresses_without_passwords_says_nothing_of_them(root: str, tmp_path: Path) -> None:  # noqa: F811
    export_corpus(root, str(tmp_path / "out"), columns=FEW)
    assert "by column" not in _card(tmp_path)
