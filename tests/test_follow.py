"""A corpus that is trained on while it is crawled: generations are the crawl, each document once, whatever is killed.

The site is slow, so that it is still being crawled when its first generations are taken; kills are `kill -9`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.forget_root import AGENT, HERON, html, sources, text, tokens
from tests.site_server import NOTHING, Asked, Say, Site, answer, served
from tests.test_cli import tundish
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.pipeline.children import Child
from tundish.pipeline.follow import Wish, follow
from tundish.pipeline.generation import Followed, made, recipe_of
from tundish.pipeline.lease import Lease, alive
from tundish.pipeline.recipe import load
from tundish.pipeline.run import run
from tundish.stages.crawl import Crawl
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.gather import Gather
from tundish.stages.generations import Journal, root_of_generation
from tundish.stages.generations_list import lines
from tundish.stages.harvest import Growing
from tundish.stages.ingest import Ingest
from tundish.stages.stage import Settings
from tundish.stages.tokenize import Tokenize

PAGES = 60
RECIPE = """
pages:
  Crawl:
    seeds: [{seed}]
    agent: "{agent}"
    as_of: 2026-11-21
    delays: {{heron.example: 0.0}}
    parts: 2
    opt_outs: false
    sitemaps: false
documents: {{Extract: {{archives: pages}}}}
quality: {{Judge: {{documents: documents}}}}
kept: {{Refine: {{documents: documents, quality: quality, keep: {{rules: none}}}}}}
signed: {{Sign: {{documents: documents}}}}
twins: {{Deduplicate: {{documents: documents, signatures: signed, among: kept, survivor: length desc}}}}
corpus: {{Corpus: {{documents: documents, kept: kept, twins: twins}}}}
tokens: {{Tokenize: {{corpus: corpus, vocabulary: 330, holdout: 0.1}}}}
"""
PRETRAIN = "encoder: {Pretrain: {shards: tokens, tokens: 25k, length: 64, batch: 4, checkpoint_every: 10}}\n"


def page(asked: Asked) -> bytes:
    """Pages that differ, the first of which names all; every second one from 30 on is one of the first again."""
    name = asked.path.rpartition("/")[2]
    if not asked.path.startswith("/page/") or not name.isdigit() or int(name) >= PAGES:
        return NOTHING
    n = int(name)
    links = "".join(f'<a href="/page/{n}">n</a>' for n in range(PAGES)) if n == 0 else ""
    like = n % 30 if n >= 30 and n % 2 else n
    return answer(200, html(f"{HERON}/page/{like}", like, links))


def gated(root: Path, last: Path | None = None) -> Say:
    """A site that is in no hurry: a third of its pages, and one more third for every generation that is listed; the
    `last` third not before there is a certain file."""
    met: set[str] = set()

    def shut() -> bool:
        held = last is not None and not last.exists() and len(met) > PAGES // 3 * 2
        return held or len(met) > PAGES // 3 * (1 + len(lines(str(root / "follow" / "generations.jsonl"))))

    def say(asked: Asked) -> Iterator[bytes | float]:
        met.add(asked.path)
        while asked.path.startswith("/page/") and shut():
            yield 0.05
        yield page(asked)

    return say


def written(folder: Path, more: str = "") -> str:
    (folder / "recipe.yaml").write_text(RECIPE.format(seed=f"{HERON}/page/0", agent=AGENT) + more)
    return str(folder / "recipe.yaml")


def wire(site: Site) -> tuple[str, ...]:
    return (f"heron.example:80={site.address}",)


def words(recipe: str, root: Path | str, site: Site, *more: str) -> list[str]:
    asked = ["follow", recipe, "--root", str(root), "--every", "1", "--wire", *wire(site), *more]
    return [sys.executable, "-m", "tundish.pipeline.cli", *asked]


def corpora(root: Path, count: int) -> list[dict[bytes, str]]:
    """id -> text of the clean documents of each generation."""
    found = []
    for number in range(count):
        own = Path(root_of_generation(str(root), number))
        corpus = [opened(str(path)) for path in own.glob("corpus-*")]
        table = corpus[0].select("id", "text").table() if corpus and corpus[0] else None
        found.append(dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)) if table else {})
    return found


def ids(line: dict[str, Any]) -> set[bytes]:
    """Ids of the documents of a generation, those held out among them."""
    inside = [opened(store.join(line["tokens"], name)) for name in ("", "holdout")]
    return {one for dataset in inside for one in dataset.select("id").table()["id"].to_pylist()}


@pytest.mark.slow  # alone on the machine: a page that is held back longer than the crawl waits is lost to it
def test_generations_are_the_crawl_and_a_twin_of_an_earlier_one_does_not_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the crawl still running when the first ones are taken."""
    settled = Growing.settled
    monkeypatch.setattr(Growing, "settled", lambda self: settled(self, lag=0.1))  # its budget is far away
    recipe, root, under_way = written(tmp_path), tmp_path / "root", []
    crawl = Followed.of(load(recipe)).crawl

    def tell(event: str, told: dict[str, Any]) -> None:
        if event == "generation":
            held = store.read_json(str(root / "lease.json"))
            under_way.append(opened(str(root / crawl.address)) is None and alive(held))

    with served(gated(root)) as site:
        listed = follow(Wish(recipe, str(root), wire=wire(site), every=1.0), Local, tell)
        asked = len(site.asked)
    *generations, last = listed
    assert last == {"end": True}
    assert len(generations) >= 3
    assert under_way[:2] == [True, True], "generation 1 was made while the crawl went on"
    assert sum(line["captures"] for line in generations) == PAGES
    assert asked == PAGES + 1, "a harvest asks nobody: the pages and robots.txt"

    found = corpora(root, len(generations))
    union = {id: body for one in found for id, body in one.items()}
    assert len(union) == sum(map(len, found)), "no id in two generations"
    assert set(union) == set().union(*(ids(line) for line in generations if line["tokens"]))
    outcome = run(load(recipe), Local(), str(root))  # the same crawl, in one run
    (whole,) = [d for address, d in outcome.datasets.items() if address.startswith("corpus-")]
    table = whole.select("id", "text").table()
    assert sorted(union.values()) == sorted(table["text"].to_pylist())
    assert len(union) == PAGES - 15
    every = [opened(str(path)) for path in Path(root, "follow").glob("gen-*/gather-*")]
    documents = {row["id"]: row for one in every for row in one.select("id", "text", "origin").table().to_pylist()}
    assert len(documents) == PAGES
    assert {row["origin"] for row in documents.values()} == {"crawl"}
    late = [
        (row["kind"], row["crawl"], number)
        for number in range(1, len(generations))
        for path in Path(root_of_generation(str(root), number)).glob("deduplicate-*")
        for row in opened(str(path)).table().to_pylist()
        if row["twin"]
    ]
    assert late
    assert all(kind == "exact" and (crawl is None or int(crawl[-1]) < own) for kind, crawl, own in late)
    assert any(crawl for _, crawl, _ in late), "a twin of an earlier generation was there, and was named"

    again = follow(Wish(recipe, str(root)), no_cluster)
    assert again == listed, "a follow that has come to its end does nothing more"


def no_cluster() -> Local:
    raise AssertionError("nothing has to run")


@pytest.fixture
def ended(tmp_path: Path) -> tuple[str, Path]:
    """A recipe and a root whose crawl is sealed."""
    recipe, root = written(tmp_path), tmp_path / "root"
    with served(page) as site:
        run(load(recipe), Local(), str(root), settings=Settings({"heron.example:80": site.address}), until="Crawl")
    return recipe, root


def test_a_generation_of_nothing_but_twins_is_listed_and_adds_nothing(ended: tuple[str, Path]) -> None:
    recipe, root = ended
    parts, listed = Followed.of(load(recipe)), []
    rules = parts.crawl.rules
    growing = Growing(str(root / parts.crawl.address), rules.parts, rules.pages)
    journal = Journal(str(root), "", "").harvested(growing.sealed(), 0)
    archives = journal.copied(growing, 0)
    for number in range(2):  # the same captures again
        own = Path(root_of_generation(str(root), number)) / "archives"
        if number:
            own.mkdir(parents=True)
            for path in Path(archives).iterdir():
                shutil.copy(path, own / f"later-{path.name}")
        line = made(str(root), parts.tokens, number, str(own), listed, Local, Settings(), lambda *_: None)
        listed.append(line)
    assert listed[0]["tokens"]
    assert listed[0]["documents"] + listed[0]["held_out"] == PAGES - 15
    assert {name: listed[1][name] for name in ("generation", "tokens", "documents", "captures")} == {
        "generation": 1, "tokens": None, "documents": 0, "captures": PAGES,
    }  # fmt: skip


def test_the_first_generation_waits_until_a_vocabulary_can_be_learned(ended: tuple[str, Path], tmp_path: Path) -> None:
    """And at the end, when nothing more comes, is refused by the vocabulary's own sentence."""
    recipe, root = ended
    wish = Wish(recipe, str(root), ("Tokenize.vocabulary=60000",))
    with pytest.raises(ValueError, match=r"60,?000"):
        follow(wish, Local)
    journal = store.read_json(str(root / "follow" / "harvest.json"))
    assert len(journal["generations"]) == 1
    assert not (root / "follow" / "generations.jsonl").exists()


def test_the_recipe_of_a_generation(tmp_path: Path) -> None:
    sources(tmp_path)
    whole = tokens(tmp_path)
    first, index = recipe_of(whole, 0, "/r/gen-0000/archives", [], "")
    third, _ = recipe_of(whole, 2, "/r/gen-0002/archives", ["/r/gen-0000", "/r/gen-0001"], "/r/gen-0000/t/voc.model")

    def only(goal: Tokenize, kind: type[Any]) -> Any:
        (found,) = [stage for stage in goal.walk() if isinstance(stage, kind)]
        return found

    assert index is not None
    assert index.crawl == "generation-0"
    assert index.corpus == first.corpus
    assert set(only(first, Gather).sources) == {"web", "held", "rows"}
    assert set(only(third, Gather).sources) == {"web"}
    assert only(third, Ingest).archives == ("/r/gen-0002/archives",)
    assert not [stage for stage in (*first.walk(), *third.walk()) if isinstance(stage, Crawl)]
    twins = only(third, Deduplicate)
    assert (twins.against, twins.crawl) == (("/r/gen-0000", "/r/gen-0001"), "generation-2")
    assert (first.vocabulary, third.vocabulary) == (330, "/r/gen-0000/t/voc.model")
    learned = Tokenize(whole.corpus, vocabulary=330, kind="bpe", temperature=2.0, holdout=0.1)
    told, _ = recipe_of(learned, 1, "/r/gen-0001/archives", [], "/r/voc.model")
    assert (told.kind, told.temperature, told.holdout) == ("unigram", 1.0, 0.1), "holdout is no part of learning"


NO_CRAWL = "documents: {Read: {files: [./rows.jsonl]}}\n"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda whole: NO_CRAWL, "the recipe has no Crawl, and follow needs exactly one"),
        (lambda whole: whole.partition("tokens:")[0], "the recipe has no Tokenize, and follow needs exactly one"),
        (
            lambda whole: whole + PRETRAIN.replace("tokens: 25k", "tokens: 25k, weights: {crawl: 1}"),
            "leave weights and reweigh out to follow a crawl",
        ),
        (lambda whole: whole.replace("holdout: 0.1", "holdout: 0.1, vocabulary: ./no.model"), "no.model"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_at_once(tmp_path: Path, change: Any, sentence: str) -> None:
    whole = Path(written(tmp_path)).read_text()
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": text(HERON, 1)}) + "\n")
    changed = change(whole).replace("vocabulary: 330, ", "" if "no.model" in change(whole) else "vocabulary: 330, ")
    (tmp_path / "recipe.yaml").write_text(changed)
    told = tundish("follow", str(tmp_path / "recipe.yaml"), "--root", str(tmp_path / "root"))
    assert told.returncode == 2
    assert told.stderr.startswith("tundish: ")
    assert sentence in " ".join(told.stderr.split())
    assert "Traceback" not in told.stderr
    assert not (tmp_path / "root" / "follow").exists()


def test_a_crawl_that_fails_is_said(tmp_path: Path) -> None:
    recipe = written(tmp_path)
    with served(lambda asked: NOTHING) as site:
        told = subprocess.run(words(recipe, tmp_path / "root", site), capture_output=True, text=True)
    assert told.returncode == 2
    assert "the crawl ended: the crawl stored no page" in told.stderr
    assert "crawl.log" in told.stderr


def test_two_follows_of_one_root_are_refused(tmp_path: Path) -> None:
    hold = f"""
import sys, time
from tundish.pipeline.lease import Lease
with Lease({str(tmp_path / "root" / "follow")!r}):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="another run holds this root"):
            follow(Wish(written(tmp_path), str(tmp_path / "root")), no_cluster)
        process.kill()
    Lease(str(tmp_path / "root" / "follow")).__enter__()  # its death ends it


def refuses(said: str) -> None:
    print("what came before")
    raise ValueError(said)


def waits(begun: str) -> None:
    Path(begun).touch()
    time.sleep(60)


def test_a_child_says_why_it_ended_and_is_stopped_as_by_ctrl_c(tmp_path: Path) -> None:
    child = Child("training", str(tmp_path / "training.log"), refuses, "the loss became nan; lower the rate")
    assert child.ended(30)
    with pytest.raises(ValueError, match="the training ended: the loss became nan; lower the rate"):
        child.check()
    assert "what came before" in (tmp_path / "training.log").read_text()
    child = Child("crawl", str(tmp_path / "crawl.log"), waits, str(tmp_path / "begun"))
    _until((tmp_path / "begun").exists)
    child.stop()
    assert child.code == 130
    assert child.sentence() == "stopped"


def _until(what: Any, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


def digests(listed: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(line.get("generation"), line.get("digest"), line.get("captures"), line.get("end")) for line in listed]


@pytest.mark.slow
def test_a_follow_killed_in_the_midst_of_a_generation_goes_on_exactly(tmp_path: Path) -> None:
    recipe, root = written(tmp_path), tmp_path / "root"
    killed = 0
    with served(gated(root)) as site:
        for want in (0, 1):
            with subprocess.Popen(words(recipe, root, site), stderr=subprocess.PIPE, text=True) as process:
                made = Path(root_of_generation(str(root), want))
                _until(lambda made=made: any(made.glob("extract-*")) or process.poll() is not None)
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    killed += 1
                process.communicate()
            _until(lambda: not alive(store.read_json(str(root / "lease.json"))))  # the crawl ends with it
        assert killed == 2
        before = store.read_json(str(root / "follow" / "harvest.json"))["generations"]
        told = subprocess.run(words(recipe, root, site, "--json"), capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        pages = [one.path for one in site.asked if one.path.startswith("/page/")]
    assert set(pages) == {f"/page/{n}" for n in range(PAGES)}
    *generations, last = listed = json.loads(told.stdout)
    assert last == {"end": True}
    assert sum(line["captures"] for line in generations) == PAGES
    assert store.read_json(str(root / "follow" / "harvest.json"))["generations"][: len(before)] == before

    # from the same harvests, on a root where nothing was killed: the same list
    anew = tmp_path / "anew"
    shutil.copytree(root, anew)
    for path in (anew / "follow").glob("gen-*"):
        shutil.rmtree(path)
    (anew / "follow" / "generations.jsonl").unlink()
    assert digests(follow(Wish(recipe, str(anew)), Local)) == digests(listed)


@pytest.mark.slow
def test_the_training_begins_while_the_crawl_goes_on_and_is_replayed_exactly(tmp_path: Path) -> None:
    recipe, root = written(tmp_path, PRETRAIN), tmp_path / "root"
    env = {**os.environ, "TUNDISH_TORCH_THREADS": "1"}
    begun = root / "follow" / "training" / "log.jsonl"
    with served(gated(root, begun)) as site:
        with subprocess.Popen(words(recipe, root, site), stderr=subprocess.PIPE, text=True, env=env) as process:
            _until(lambda: begun.exists() or process.poll() is not None)
            crawl = Followed.of(load(recipe)).crawl
            assert opened(str(root / crawl.address)) is None, "trained with the crawl still running"
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=300)
        assert process.returncode == 130, said
        told = subprocess.run(words(recipe, root, site), capture_output=True, text=True, env=env)
    assert told.returncode == 0, told.stderr
    listed = [json.loads(line) for line in (root / "follow" / "generations.jsonl").read_text().splitlines()]
    plan = json.loads((root / "follow" / "training" / "plan.json").read_text())
    joined = {source["name"] for source in plan["plan"]["sources"]}
    assert "crawl@0" in joined
    assert joined <= {f"crawl@{line['generation']}" for line in listed[:-1]}
    replayed = tundish("follow", recipe, "--root", str(root), "--replay", str(tmp_path / "again"), "--json", env=env)
    assert replayed.returncode == 0, replayed.stderr
    assert json.loads(replayed.stdout)["equal"] is True
    first, steps = str(root / "follow" / "gen-0000"), range(len(begun.read_text().splitlines()))
    asked = (tundish("why", "--root", first, "--step", str(step), env=env) for step in steps)
    said = (one.stdout.split() for one in asked if one.returncode == 0)
    url = next(word for words in said for word in words if word.startswith("http://"))  # a step may be all another's
    way = tundish("why", "--root", str(root / "follow" / "gen-0000"), url, env=env)
    assert "so far" in way.stdout
    weights = [path / "model.safetensors" for path in (root / "follow" / "training", tmp_path / "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
