"""The report of a run: one self-contained HTML page that asks nobody for anything.

Promises: its one script is the search, allowed by its digest, so that no other can run, and without it the page has
the same words; the same root gives the same bytes (the only times on it are the run's own); texts are shown cut to
`EXCERPT` characters, escaped, with personal data replaced. Costs one pass over the columns it shows, and holds one
shard's column at a time, never a corpus. Examples are those whose URL has the smallest keyed hash, so they
are a fair sample and the same every time. A stage that did not run has no section. Refuses a root without a run.
"""

import base64
import hashlib
import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.shards import Dataset
from tundish.pipeline import compressed_page, fertility, tuned_page
from tundish.pipeline import funnel as funnels
from tundish.pipeline.duplicates_page import duplicates_page, parts_page
from tundish.pipeline.examples import draw, texts
from tundish.pipeline.figures import bars, curves, histogram
from tundish.pipeline.funnel import Line, Ran, counted, lines_of, number, ran, spelt, urls
from tundish.pipeline.probe_told import Held, busier, held_against, ranged
from tundish.pipeline.probe_told import spoken as measured
from tundish.pipeline.rule_page import rule_page
from tundish.pipeline.searched import searched
from tundish.pipeline.templates import template, verbatim

EXAMPLES, HOSTS, LANGUAGES, POINTS = 3, 30, 20, 1000
CLOSE = 0.1  # margin of two languages that are nearly as likely
SHARE = np.linspace(0, 1, 41)  # bins of the score


def report(root: str, out: str | None = None) -> str:
    """Write the page of the latest run, or of a compression; returns its URI (`<root>/report.html`, unless `out` says
    otherwise)."""
    if compressed_page.is_compressed(root):
        return compressed_page.page(root, out)
    told, lines = ran(root), funnels.funnel(root)
    held = held_against(told)
    sections = {
        "picture": _picture(lines),
        "dropped": _dropped(told),
        "rules": rule_page(told, told.of("Refine")[-1]) if told.of("Refine") else None,
        "languages": _languages(told),
        "quality": _quality(told),
        "clusters": duplicates_page(told),
        "parts": parts_page(told),
        "hosts": _hosts(told),
        "crawl": _crawl(told),
        "tokens": fertility.page(told, LANGUAGES),
        "training": [_training(told, address) for address in told.of("Pretrain")],
        "tuning": _tuning(told),
        "held": held,
        "foretold": _foretold(held),
        "busier": list(busier(held)),
        "recipe": spelt(told),
        "found": searched(told),
        "script": (script := verbatim("search_script.html.j2")),
        "allowed": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    uri = out or store.join(root, "report.html")
    store.write(uri, template("report.html.j2").render(told=told, lines=lines, **sections).encode())
    return uri


def _foretold(held: list[Held]) -> list[tuple[str, list[tuple[Held, str, str]]]]:
    """What was said and what it was, stage by stage."""
    told = [(one, ranged(one.what, one.band), measured(one.what, one.actual)) for one in held]
    groups = itertools.groupby(told, key=lambda each: each[0].address)
    return [(some[0][0].stage, some) for some in (list(group) for _, group in groups)]


def _picture(lines: list[Line]) -> str:
    """What each stage that took something out let through; the others would repeat the line above them."""
    shown = [line for line in lines if line.documents_out is not None]
    shown = [line for line in shown if line.drops or line.stage in ("Gather", "Corpus")]
    left, gone = [line.documents_out or 0 for line in shown], [sum(line.drops.values()) for line in shown]
    title, names = "Documents each stage let through and left out", [line.stage for line in shown]
    return bars("funnel", title, names, {"let through": left, "left out": gone})


def chosen(dataset: Dataset, by: str, *columns: str, most: int = EXAMPLES) -> dict[str, list[dict[str, Any]]]:
    """For each value of a column the `most` rows with the smallest draw of their URL."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in dataset.names:
        rows = dataset.select(by, "url", *columns).read(name)
        rows = rows.take(np.argsort([draw(url or "") for url in rows["url"].to_pylist()], kind="stable"))
        for value in pc.drop_null(pc.unique(rows[by])).to_pylist():
            some = rows.filter(pc.equal(rows[by], value)).slice(0, most).to_pylist()
            found[value] = sorted([*found.get(value, []), *some], key=lambda row: draw(row["url"] or ""))[:most]
    return found


def _dropped(told: Ran) -> list[dict[str, Any]]:
    """Reasons with their counts and examples, those of the extraction first."""
    found = []
    for address in [*told.of("Extract"), *told.of("Read"), *told.of("Corpus")]:
        dataset = told.inside(address, "dropped")
        if dataset is None or not dataset.rows:
            continue
        seen = ("value", "threshold", "survivor", "similarity", "shard", "row", "detail", "stage", "origin")
        examples, counts = chosen(dataset, "reason", *seen), counted(dataset, "reason")
        rows = [row for some in examples.values() for row in some]
        texts(told.input(address, "documents"), rows)
        survivors = urls(told.datasets[address], {row["survivor"] for row in rows} - {None})
        for row in rows:
            row["survivor"] = survivors.get(row["survivor"])
        for reason in sorted(examples, key=lambda reason: (-counts[reason], reason)):
            some = examples[reason]
            if some[0]["stage"] == "refine":  # its rules have pages of their own
                continue
            where = some[0]["stage"] + (f" ({some[0]['origin']})" if some[0]["stage"] == "extract" else "")
            found.append({"reason": reason, "count": counts[reason], "stage": where, "examples": some})
    return found


def _corpus(told: Ran) -> Dataset | None:
    return told.datasets[told.of("Corpus")[-1]] if told.of("Corpus") else None


def _ranked(came: Counter[Any], left: Counter[Any], most: int) -> dict[str, Any]:
    """The most frequent values as (value, how many came, how many are left), and how many more there are."""
    known = sorted(came.items(), key=lambda kv: (-kv[1], str(kv[0])))
    rows = [(str(value or "none"), count, left[value]) for value, count in known[:most]]
    return {"rows": rows, "more": len(known) - len(rows)}


def _languages(told: Ran) -> dict[str, Any] | None:
    if not told.of("Identify"):
        return None
    identified = told.datasets[told.of("Identify")[-1]]
    came, left, title = counted(identified, "language"), counted(_corpus(told), "language"), "in the corpus"
    if _corpus(told) is None and told.of("Refine"):  # the recipe ends before the corpus
        left, title = _kept(identified, told.datasets[told.of("Refine")[-1]]), "kept"
    found = _ranked(came, left, LANGUAGES)
    names, counts, kept = (list(column) for column in zip(*found["rows"], strict=True))
    series = {title: kept, "not": np.subtract(counts, kept)}
    picture = bars("languages", "Documents by language", names, series)
    return found | _doubts(identified) | {"left": title, "picture": picture}


def _doubts(identified: Dataset) -> dict[str, Any]:
    """Scripts, documents in which two languages are nearly as likely, and pages of several languages."""
    scripts, close, mixed = counted(identified, "script"), 0, 0
    columns = {"margin", "shares"} & identified.held
    for name in identified.names if columns else ():
        table = identified.select("language", *columns).read(name)
        table = table.filter(pc.is_valid(table["language"]))
        if "margin" in columns:
            close += pc.sum(pc.less(table["margin"], CLOSE)).as_py() or 0
        if "shares" in columns:
            mixed += pc.sum(pc.greater(pc.list_value_length(table["shares"]), 1)).as_py() or 0
    return {
        "scripts": ", ".join(f"{name or 'none'} {number(count)}" for name, count in scripts.most_common()),
        "close": number(close) if "margin" in columns else "",
        "mixed": number(mixed) if "shares" in columns else "",
    }


def _kept(identified: Dataset, decided: Dataset) -> Counter[Any]:
    """Documents that Refine keeps, by language."""
    source, found = identified.beside(decided).select("language", "reason"), Counter[Any]()
    for name in source.names:
        rows = source.read(name)
        for entry in rows["language"].filter(pc.is_null(rows["reason"])).value_counts().to_pylist():
            found[entry["values"]] += entry["counts"]
    return found


def _quality(told: Ran) -> str:
    """The score, of the documents left and of those refused."""
    if not told.of("Judge"):
        return ""
    judge = told.of("Judge")[-1]
    decided = next((a for a in told.of("Refine") if told.field(a, "quality") == judge), None)
    source = told.datasets[judge].beside(*([told.datasets[decided]] if decided else []))
    found = np.zeros((2, len(SHARE) - 1), np.int64)
    for name in source.names:
        table = source.select("score", "reason").read(name)
        left = pc.is_null(table["reason"]).to_numpy() if decided else np.ones(len(table), bool)
        for side, here in enumerate((left, ~left)):
            found[side] += np.histogram(pc.drop_null(table["score"].filter(pa.array(here))), SHARE)[0]
    return histogram("score", "score", SHARE, dict(zip(("kept", "refused"), found, strict=True)))


def _hosts(told: Ran) -> dict[str, Any] | None:
    """Documents and what is left of them, by host."""
    judged = [told.input(address, "documents") for address in told.of("Corpus") or told.of("Refine")][-1:]
    plain = [told.datasets[address] for address in [*told.of("Extract"), *told.of("Read")]]
    came: Counter[Any] = sum((counted(dataset, "host") for dataset in judged or plain if dataset), Counter())
    found = _ranked(came, counted(_corpus(told), "host"), HOSTS)
    return found | {"judged": _corpus(told) is not None} if came else None


def _crawl(told: Ran) -> list[dict[str, Any]]:
    """What became of the URLs: outcome, how many, examples."""
    found = []
    for log in (told.inside(address, "log") for address in told.of("Crawl")):
        examples = chosen(log, "outcome", "status", "reason") if log else {}
        for outcome, count, _ in _ranked(counted(log, "outcome"), Counter(), 100)["rows"]:
            found.append({"outcome": outcome, "count": count, "examples": examples.get(outcome, [])})
    return found


def _training(told: Ran, address: str) -> dict[str, Any]:
    """The result and its curve; a long log is thinned to `POINTS` means of equal spans of steps."""
    dataset = told.datasets[address]
    result = dict(dataset.about["result"])
    span = max(1, math.ceil(result["steps"] / POINTS))
    loss: dict[int, list[float]] = {}
    held: list[tuple[float, float]] = []
    for line in lines_of(dataset.path("log")):
        loss.setdefault(line["step"] // span, []).append(line["loss"])
        held += [(line["step"], line["holdout"])] if line.get("holdout") is not None else []
    held += [(result["steps"], result["holdout_last"])] if result.get("holdout_last") is not None else []
    training = [(span * (at + 0.5) - 0.5, sum(some) / len(some)) for at, some in sorted(loss.items())]
    picture = curves(f"loss-{address}", "Loss by step", training, held, result["unigram_entropy"])
    said = _outcome(result["forecast"]) if result.get("forecast") else []
    return {"result": result, "picture": picture, "model": told.field(address, "model"), "forecast": said}


def _tuning(told: Ran) -> list[dict[str, Any]]:
    """The sections of each fine-tuning; their ids begin with its address."""
    found = {address: told.datasets[address].about["result"] or {} for address in told.of("Finetune")}
    took = {address: store.read_json(store.join(told.datasets[address].uri, "compute.json")) for address in found}
    each = {address: result for address, result in found.items() if "parts" in result}
    return [tuned_page.shown(result, {"compute": took[address]}, name=address) for address, result in each.items()]


def _outcome(told: dict[str, Any]) -> list[str]:
    from tundish.stages.pretrain_outcome import spoken  # torch comes in here

    return spoken(told)
