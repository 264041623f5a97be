"""why: the whole way of a document, read from what the stages sealed."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests import toys
from tests.toys import HERON, KRANICH, MAIL, pages
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset
from tundish.operators.model.rows import Layout
from tundish.operators.model.stream import Hiding, Stream
from tundish.operators.text import vocabulary
from tundish.operators.text.digest import identity, payload_digest
from tundish.pipeline.funnel import ran, runs
from tundish.pipeline.judgements import Event
from tundish.pipeline.run import run
from tundish.pipeline.seen import Ledger
from tundish.pipeline.why import step_of, told, why
from tundish.stages.bucket import Bucket
from tundish.stages.corpus import Corpus
from tundish.stages.decontaminate import Decontaminate
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.estimate import Estimate
from tundish.stages.index import Index
from tundish.stages.judge import Judge
from tundish.stages.lines import Lines
from tundish.stages.perplex import Perplex
from tundish.stages.rate import Rate
from tundish.stages.read import Read
from tundish.stages.refine import Keep, Refine
from tundish.stages.repeated import Repeated
from tundish.stages.sign import Sign
from tundish.stages.substrings import Substrings
from tundish.stages.teach import Teach
from tundish.stages.token_stream import Opened, files_of
from tundish.stages.vet import Vet


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toys.small_root(tmp_path_factory.mktemp("why"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toys.trained_root(tmp_path_factory.getbasetemp())


def identity_of(url: str) -> bytes:
    return bytes(identity([url], [payload_digest(pages()[url].encode())])[0].as_py())


def of(events: list[Event], stage: str) -> Event:
    (found,) = [event for event in events if event.stage == stage]
    return found


def test_a_clean_document_is_followed_from_its_request_to_its_tokens(root: str) -> None:
    url = f"{KRANICH}/page/4"
    events = why(root, url)
    assert list(dict.fromkeys(event.stage for event in events)) == [
        "Crawl", "Extract", "Mask", "Identify", "Judge", "Refine", "Deduplicate", "Corpus", "Tokenize",
    ]  # fmt: skip
    crawled, extracted = of(events, "Crawl"), of(events, "Extract")
    assert crawled.what == "stored 200"
    assert extracted.facts["source"] == f"{crawled.facts['archive']}:{crawled.facts['offset']}"
    assert extracted.what == f"became document {identity_of(url).hex()}"
    assert of(events, "Identify").what == "language en"
    assert of(events, "Refine").what == "kept"
    assert of(events, "Deduplicate").what == "stands for itself"
    assert of(events, "Corpus").what == "in the corpus"
    tokens = of(events, "Tokenize")
    assert tokens.facts["bytes"] == len(pages()[url].encode())
    model = next(Path(root).glob("tokenize-*/vocabulary.model")).read_bytes()
    assert tokens.facts["tokens"] == len(vocabulary.load(model).encode(pages()[url]))


def test_an_id_tells_the_same_as_its_url(root: str) -> None:
    url = f"{KRANICH}/page/4"
    assert why(root, identity_of(url).hex()) == why(root, url) == why(root, identity_of(url).hex().upper())


@pytest.mark.parametrize("asked", [f"{HERON}/moved", f"{HERON}/page/1"])
def test_redirects_are_followed_both_ways(root: str, asked: str) -> None:
    crawled = [event for event in why(root, asked) if event.stage == "Crawl"]
    assert [(event.what, event.facts["url"]) for event in crawled] == [
        ("redirect 301", f"{HERON}/moved"),
        ("stored 200", f"{HERON}/page/1"),
    ]


def test_what_the_crawl_and_the_extraction_refused_is_told(root: str) -> None:
    (gone,) = why(root, f"{HERON}/gone")
    assert (gone.what, gone.facts["reason"]) == ("error 404", "status_404")
    events = why(root, f"{HERON}/logo.png")
    assert [event.stage for event in events] == ["Crawl", "Extract"]
    assert (events[1].what, events[1].facts["detail"]) == ("dropped: not_text", "image/png")


def test_a_refused_document_names_rule_value_threshold_and_margin(root: str) -> None:
    events = why(root, f"{KRANICH}/again")
    refined = of(events, "Refine")
    assert refined.what == "refused: dup_line_frac"
    value, threshold, margin = (float(refined.facts[name]) for name in ("value", "threshold", "margin"))
    assert value > threshold == 0.3
    assert margin < 0
    assert of(events, "Corpus").what == "left out: dup_line_frac"
    assert not any(event.stage == "Tokenize" for event in events)


def test_twins_name_their_survivor_and_the_survivor_its_copies(root: str) -> None:
    same = {f"{KRANICH}/page/0", f"{HERON}/copy", f"{HERON}/copy/again"}
    told_of = {url: of(why(root, url), "Deduplicate") for url in same}
    (survivor,) = [url for url, event in told_of.items() if event.what == "stands for 3 documents, itself included"]
    for url in same - {survivor}:
        assert told_of[url].what == "dropped: exact duplicate"
        assert told_of[url].facts["survivor"] == survivor
        assert told_of[url].facts["id"] == identity_of(survivor).hex()
        assert any(copy.startswith(f"{url} (exact") for copy in told_of[survivor].facts["copies"])
    near = [of(why(root, url), "Deduplicate") for url in (f"{HERON}/page/1", f"{KRANICH}/near")]
    assert sorted(event.what for event in near) == [
        "dropped: near duplicate",
        "stands for 2 documents, itself included",
    ]


def test_edits_are_shown_by_kind_and_place_and_never_by_what_they_hide(root: str) -> None:
    url = f"{HERON}/write"
    events = why(root, url)
    at = pages()[url].encode().index(MAIL.encode())
    assert of(events, "Mask").facts["edits"] == [f"email at bytes {at}-{at + len(MAIL)}"]
    paper = io.StringIO()
    Console(file=paper, width=200).print(told(events))
    shown = paper.getvalue()
    assert MAIL not in repr(events) + shown
    assert "email at bytes" in shown


def test_held_out_documents_are_told_apart(root: str) -> None:
    found = {url: why(root, url) for url in pages()}
    said = [of(events, "Tokenize").what for events in found.values() if any(e.stage == "Tokenize" for e in events)]
    past = ran(root)
    tokens = past.of("Tokenize")[0]
    held = past.inside(tokens, "holdout")
    assert held is not None
    assert (said.count("held out of training"), said.count("to train on")) == (held.rows, past.datasets[tokens].rows)
    assert held.rows, "the toy web must have some of both"


def test_every_stage_that_judges_is_told(tmp_path: Path) -> None:
    """Vet, Lines, Repeated, Substrings, Rate, Perplex, Bucket, Decontaminate and Index, and what was mended."""
    again = "This one line stands at the end of every page of the site."
    texts = [f"{toys.prose(n)}\n{again}\nno end here, {n}" for n in range(12)]
    texts[3] = texts[3].replace("The tide", "caf\u00c3\u00a9 tide", 1) + "\u00c3\u00a9"
    both = " ".join(toys.prose(99).split()[:40])
    texts[4], texts[5] = f"{texts[4]} {both}", f"{texts[5]} {both}"
    rows = [{"url": f"http://a.example/{'xxx/' * (n == 2)}{n}", "text": text} for n, text in enumerate(texts)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (tmp_path / "eval.tsv").write_text("text\n" + " ".join(texts[7].split()[:40]) + "\n")
    docs = Read((str(tmp_path / "a.jsonl"),))
    model = Estimate(docs, vocabulary=320)
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps({"text": f"buy now {n} " * 20}) + "\n" for n in range(12)))
    taught = Teach({"good": docs, "bad": Read((str(tmp_path / "bad.jsonl"),))}, epochs=1)
    lines = Lines(docs, rules="c4")
    surprise = Perplex(docs, {"any": model})
    signed, judged = Sign(docs), Judge(docs)
    beside = {"rated": Rate(docs, taught), "buckets": Bucket(surprise), "cut": Repeated(docs, edits=lines)}
    beside |= {"spans": Substrings(docs, tokens=20), "clean": Decontaminate(docs, (str(tmp_path / "eval.tsv"),))}
    own = {"signal": "bucket_number", "op": ">", "value": 1, "reason": "surprising"}
    keep = Keep(rules=("urls", own))
    kept = Refine(docs, quality=judged, addresses=Vet(docs), scores=beside, keep=keep, max_loss=1.0)
    twins, root = Deduplicate(docs, signed, kept, judged), str(tmp_path / "root")
    run(Index(docs, signed, Corpus(docs, kept, twins), "2026-47"), Local(), root)
    ways = [why(root, row["url"]) for row in rows]
    assert of(ways[2], "Vet").facts == {"url_hard_words": "1"}
    assert of(ways[0], "Vet").what == "nothing is against its address"
    assert of(ways[3], "Read").facts["repairs"] == ["mojibake"]
    assert any("at bytes" in one for one in of(ways[0], "Lines").facts["edits"])
    assert of(ways[0], "Rate").what.startswith("quality_good 0.")
    assert float(of(ways[0], "Perplex").what.removeprefix("perplexity ")) > 1
    assert float(of(ways[0], "Perplex").facts["bits_per_byte"]) > 0
    places = [of(way, "Bucket").what for way in ways]
    assert {*places} == {"head of all", "middle of all", "tail of all"}
    assert of(ways[0], "Bucket").facts["cuts"].startswith("head up to ")
    refused = [of(way, "Refine") for way in ways]
    assert [event.what == "refused: surprising" for event in refused][3:] == [p == "tail of all" for p in places][3:]
    assert all("nearest" in event.facts for event in refused)
    repeated = [of(way, "Repeated").facts for way in ways]
    assert sum(any("repeated_line" in place for place in one["edits"]) for one in repeated) == len(ways) - 1
    assert all(int(one["repeated_most"]) == 12 for one in repeated if "repeated_most" in one)
    spans = [place for n in (4, 5) for place in of(ways[n], "Substrings").facts.get("edits", [])]
    assert any("repeated_substring" in place for place in spans), "the earlier id stays"
    assert of(ways[7], "Decontaminate").what == "holds evaluation text"
    assert of(ways[8], "Decontaminate").what == "holds no evaluation text"
    indexed = [of(why(root, row["url"]), "Index").what for row in rows]
    assert [what == "in the index of 2026-47" for what in indexed] == [event.what == "kept" for event in refused]


def tokens_of(dataset: Dataset) -> list[np.ndarray]:
    return [np.asarray(row) for row in dataset.table()["tokens"].to_pylist()]


def test_the_steps_are_those_whose_rows_hold_its_tokens(trained: str) -> None:
    past = ran(trained)
    dataset, model = past.datasets[past.of("Tokenize")[0]], past.of("Pretrain")[0]
    documents = tokens_of(dataset)
    steps = past.datasets[model].about["result"]["steps"]
    ledger = Ledger.of(past.datasets[model], dataset)
    layout, files = Layout(128, 128), files_of(dataset)
    stream = Stream(ledger.plan, layout, Hiding(320, dataset.about["specials"], 1, 0.3), Opened(files, layout))
    batches = {step: stream.filled(ledger.plan.places(ledger.plan.share(step))).tokens for step in range(steps)}
    seen = 0
    for url in list(pages())[:20]:
        events = why(trained, url)
        found = [e.facts["steps"] for e in events if e.stage == "Pretrain"]
        if not found or not found[0]:
            continue
        own = next(
            d for d, i in zip(documents, dataset.table()["id"].to_pylist(), strict=True) if i == identity_of(url)
        )
        parts = [own[at : at + 126].tolist() for at in range(0, len(own), 126)]
        held = [step for step, batch in batches.items() if any(holds(row, part) for row in batch for part in parts)]
        told_steps = [*map(int, found[0].replace("... ", "").split(", "))]
        assert set(held) <= set(told_steps) or len(told_steps) == 11  # a part cut at a row's end is in no batch whole
        for step in told_steps:
            assert url in [event.what for event in step_of(trained, step)]
        for step in set(range(steps)) - set(told_steps) if len(told_steps) < 11 else ():
            assert url not in [event.what for event in step_of(trained, step)]
        seen += len(held)
    assert seen
    with pytest.raises(ValueError, match=rf"step {steps} was not taken; the training took steps 0 to {steps - 1}"):
        step_of(trained, steps)


def holds(row: np.ndarray, part: list[int]) -> bool:
    """Whether a segment of the row is exactly these tokens."""
    text = " ".join(map(str, row.tolist()))
    return f"2 {' '.join(map(str, part))} 3" in text


@pytest.mark.parametrize("asked", [f"{HERON}/mooved", f"{HERON}/page/100", "heron.example/page/1", "ab" * 16])
def test_the_unknown_is_refused_with_the_nearest_known(root: str, asked: str) -> None:
    with pytest.raises(ValueError, match=f"met '{asked}'; the nearest it knows is http"):
        why(root, asked)
    with pytest.raises(ValueError, match=f"the nearest it knows is {HERON}/moved"):
        why(root, f"{HERON}/mooved")


def test_an_earlier_run_can_be_asked_by_name_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    root = toys.small_root(tmp_path)
    first = runs(root)[0]
    run(toys.recipe(short=225), Local(), root)
    url = next(u for u, e in ((u, of(why(root, u), "Refine")) for u in list(pages())[:20]) if "short" in e.what)
    assert of(why(root, url, run=first), "Refine").what == "kept"
    with pytest.raises(ValueError, match=f"did you mean '{first}'"):
        why(root, url, run=f"{first}0")


def test_a_curriculum_that_cuts_rows_anew_is_told_in_both_directions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of rows of 128, then of 256: each leg has a plan of its own, and steps are counted through."""
    monkeypatch.setenv("TUNDISH_TORCH_THREADS", "1")
    (tmp_path / "labels.tsv").write_text("text\tlabel\n")
    goal = toys.trained(str(tmp_path / "labels.tsv")).encoder  # type: ignore[attr-defined]
    phases = ({"tokens": [0, "60%"]}, {"tokens": ["60%", "100%"], "row": 256, "context": 256, "batch": 2})
    run(replace(goal, curriculum=phases, tokens=12_000), Local(), str(tmp_path / "root"))
    root = str(tmp_path / "root")
    past = ran(root)
    model = past.datasets[past.of("Pretrain")[0]]
    ledger, steps = Ledger.of(model, past.datasets[past.of("Tokenize")[0]]), model.about["result"]["steps"]
    assert ledger.later is not None
    assert 0 < ledger.later.first < steps == ledger.later.first + ledger.later.steps
    late = 0
    for url in list(pages())[:8]:
        for event in why(root, url):
            if event.stage != "Pretrain" or not event.facts["steps"]:
                continue
            told_steps = [*map(int, event.facts["steps"].replace("... ", "").split(", "))]
            assert told_steps == sorted(told_steps)
            for step in told_steps:
                assert url in [event.what for event in step_of(root, step)]
            late += sum(step >= ledger.later.first for step in told_steps)
    assert late
    with pytest.raises(ValueError, match=rf"step {steps} was not taken"):
        step_of(root, steps)
