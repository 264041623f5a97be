"""The card of an exported corpus: what is in it, what was left out and for what, whose it is, where that ends.

Promises: every number comes from a manifest of the run or of the export; words of pages cannot break out of their cell;
no path of the machine it was made on stands in it. Costs a few small files. Refuses a licence that the Hub's header
could not hold.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2

from tundish.pipeline import funnel
from tundish.pipeline.card import cell
from tundish.pipeline.decisions import refined
from tundish.pipeline.export_corpus_rows import Leaving
from tundish.pipeline.firing import firing
from tundish.pipeline.funnel import Ran
from tundish.stages.fired import APART

TEMPLATE = Path(__file__).with_name("corpus_card.md.j2")
LISTED = 20  # languages; licences
SHARE = 0.001  # of the text, from which a language stands in the header
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10**7: "1M<n<10M"}
SIZES |= {10**8: "10M<n<100M", 10**9: "100M<n<1B", 10**10: "1B<n<10B", 10**11: "10B<n<100B", 10**12: "100B<n<1T"}
COLUMNS = {
    "id": "16 bytes of BLAKE2b over the address and the content, in hexadecimal; `tundish why` takes it",
    "url": "the canonical address, or the key of the row it was read from",
    "text": "the text, as the edits of the run leave it",
    "title": "as the page has it",
    "date": "when it was captured, or as its file says",
    "language": "ISO 639 code of the likeliest language",
    "confidence": "how sure the model of languages is, 0 to 1",
    "score": "quality, 0 to 1, by the formula of Judge",
    "licence": "as the page itself says, unchecked",
    "origin": "which source of the recipe",
    "source": "archive and offset of the record, or file and row",
    "host": "of the address",
    "copies": "documents of its cluster of duplicates, itself among them",
    "cluster": "the id that names the cluster",
    "repeats": "how often a mix should take it",
    "content_digest": "16 bytes of BLAKE2b over the payload, in hexadecimal",
    "author": "as the page says",
    "published": "the day, as the page says",
    "site": "as the page says",
    "canonical": "the address that the page gives as its own",
    "said_language": "as the page says",
    "expected": "F1 over words that the extractor expects of itself",
}
HEADER = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def card(leaving: Leaving, manifest: Mapping[str, Any], *, data: str, name: str, licence: str, contact: str) -> str:
    """Markdown with the header that the Hub reads. `manifest`: of the files; `data`: the folder they lie in."""
    if licence and not HEADER.fullmatch(licence):
        raise ValueError(f"the licence is {licence!r}; write it as the Hub spells it, such as odc-by or cc-by-4.0")
    told, counts = leaving.told, manifest["counts"]
    languages, licences = _by_bytes(counts, "language"), _ranked(counts, "licence")
    called = " ".join(name.split()) or leaving.address
    body = _template().render(
        rows=counts["documents"],
        bytes=counts["bytes"],
        name=called,
        pretty=_quoted(called),
        license=licence or "unknown",
        said=bool(licence),
        codes=[c for c, _, size in languages if re.fullmatch("[a-z]{2,3}", c) and size >= SHARE * counts["bytes"]],
        category=category(counts["documents"]),
        data=data,
        files=manifest["files"],
        months=_months(counts),
        version=version("tundish"),
        corpus=leaving.address,
        digest=manifest["digest"],
        columns=[(c, kind, COLUMNS[c]) for c, kind in manifest["columns"] if c in COLUMNS],
        signals=[c for c, _ in manifest["columns"] if c not in COLUMNS],
        sources=list(_sources(told)),
        origins=_by_bytes(counts, "origin"),
        funnel=[line for line in funnel.funnel(told.root, told.name) if _decides(line)],
        came=leaving.corpus.rows,
        left=", ".join(f"{reason} {count:,}" for reason, count in _ranked(counts, "left")) or "nothing",
        rules=[row for address in told.of("Refine") for row in _rules(told, address)],
        choices=list(_choices(told, leaving)),
        languages=languages[:LISTED],
        more=max(0, len(languages) - LISTED),
        licences=licences[:LISTED],
        rights=list(_rights(told, leaving, counts)),
        removal=_removal(told, contact),
        limits=list(_limits(told, leaving)),
    )  # fmt: skip
    return "\n".join(line.rstrip() for line in body.splitlines()) + "\n"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "cell": cell,
        "plain": plain,
        "number": funnel.number,
        "size": funnel.size,
        "reasons": funnel.reasons,
    }
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def plain(words: Any) -> str:
    """On one line, and nothing in it is HTML or Markdown that reaches beyond it.

    >>> plain("a <b> `c`  [d](e)")
    'a &lt;b> c \\\\[d](e)'
    """
    flat = " ".join(str(words).replace("`", " ").split())
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("[", "\\[")


def _quoted(words: str) -> str:
    """As a YAML scalar in one line."""
    return '"' + words.replace("\\", "\\\\").replace('"', '\\"') + '"'


def category(rows: int) -> str:
    """The Hub's name for so many rows.

    >>> category(999), category(1_000), category(3 * 10**12)
    ('n<1K', '1K<n<10K', 'n>1T')
    """
    return next((name for bound, name in SIZES.items() if rows < bound), "n>1T")


def _ranked(counts: Mapping[str, int], kind: str) -> list[tuple[str, int]]:
    found = [(k.removeprefix(f"{kind}:"), n) for k, n in counts.items() if k.startswith(f"{kind}:")]
    return sorted(found, key=lambda each: (-each[1], each[0]))


def _by_bytes(counts: Mapping[str, int], kind: str) -> list[tuple[str, int, int]]:
    """(name, documents, bytes), the most bytes first."""
    found = [(name, n, counts[f"{kind}_bytes:{name}"]) for name, n in _ranked(counts, kind)]
    return sorted(found, key=lambda each: (-each[2], each[0]))


def _months(counts: Mapping[str, int]) -> str:
    known = sorted(month for month, _ in _ranked(counts, "month") if re.fullmatch(r"\d{4}-\d{2}", month))
    return " to ".join(dict.fromkeys((known[0], known[-1]))) if known else ""


def _decides(line: funnel.Line) -> bool:
    """Stations that let documents through or not, where some did not pass, and the last."""
    return line.documents_out is not None and bool(line.drops or line.stage == "Corpus")


def _sources(told: Ran) -> Iterator[str]:
    for address, stage in told.recipe.items():
        fields, dataset = stage["fields"], told.datasets.get(address)
        if dataset is None:
            continue
        if stage["stage"] == "Crawl":
            stored, seeds = dataset.about.get("counts", {}).get("stored", 0), len(fields.get("seeds") or ())
            day, agent = fields.get("as_of") or "no stated day", fields.get("agent") or "of no name"
            yield f"crawled: {stored:,} pages as of {day}, from {seeds:,} seeds, by the agent {agent}, under robots.txt"
        elif stage["stage"] == "CommonCrawl":
            asked = {k: fields[k] for k in ("languages", "domains", "mimes") if fields.get(k)}
            wish = "; ".join(f"{k} {', '.join(map(str, v))}" for k, v in asked.items())
            yield f"Common Crawl {fields.get('crawl')}: {dataset.rows:,} captures" + (f"; {wish}" if wish else "")
        elif stage["stage"] == "Ingest":
            yield f"archives that lay there: {dataset.rows:,} records or captures"
        elif stage["stage"] == "Read":
            yield f"files of texts: {dataset.rows:,} documents"


def _rules(told: Ran, address: str) -> Iterator[dict[str, Any]]:
    """Each rule with its threshold and what it did."""
    known = {rule.reason: rule for rule in refined(told, address).decisive}
    sure = (told.field(address, "keep") or {}).get("confidence")
    for row in firing(told, address).rows:
        rule, where = known.get(row.reason), "its language is not as sure as asked"
        if rule is not None:
            own = f" ({len(rule.languages)} languages have their own)" if rule.languages else ""
            where = f"{rule.signal} {rule.op} {rule.value:g}{own}"
        elif row.reason in APART:
            where = "its publisher keeps it out of training" if row.reason == "opt_out" else "its language is another"
        elif isinstance(sure, float):
            where = f"confidence < {sure:g}"
        yield {"reason": row.reason, "told": where, "fired": row.fired, "alone": row.alone}


def _choices(told: Ran, leaving: Leaving) -> Iterator[str]:
    for address in told.of("Refine"):
        if wanted := (told.field(address, "keep") or {}).get("language"):
            yield f"languages kept: {', '.join(wanted)}"
    for address in told.of("Deduplicate"):
        yield from _duplicates(told, address)
    if not told.of("Deduplicate"):
        yield "duplicates were not looked for"
    against = [name for one in told.of("Decontaminate") for name in told.field(one, "against") or ()]
    names = sorted({str(name).rstrip("/").rsplit("/", 1)[-1] for name in against})
    held = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
    yield f"documents that hold rows of {held} were left out" if names else "no test set was kept out of it"


def _duplicates(told: Ran, address: str) -> Iterator[str]:
    found = told.datasets[address]
    gone = funnel.dropped(found)
    each = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in gone.items()) or "none"
    verify = told.field(address, "verify")
    yield f"duplicates that went: {each}; exact by {', '.join(told.field(address, 'exact') or ())}, near where {verify}"
    acted = (found.about.get("certificate") or {}).get("acted") or {}
    if acted.get("pairs"):
        yield f"{acted['pairs']:,} pairs of them were compared whole; the report of the run has the curve"
    held = sum(n for k, n in found.counts.items() if k.startswith("quarantine:"))
    if held:
        yield f"{held:,} documents of clusters too large to be believed were held back from that"


def _rights(told: Ran, leaving: Leaving, counts: Mapping[str, int]) -> Iterator[str]:
    gone = sum(told.datasets[one].counts.get("dropped:opt_out", 0) for one in told.of("Refine"))
    here = counts.get("left:opted_out", 0)
    named = "is one as well" if leaving.by_name else "is by itself none"
    way = f"a robots.txt that turns crawlers for training away by name {named}"
    yield (
        "opt-outs that a machine can read (TDMRep, Content-Usage, Content-Signal, noai) are honoured: "
        f"{gone + here:,} documents were left out for them; {way}"
    )
    if gone_here := counts.get("left:forgotten", 0):
        yield f"{gone_here:,} documents were left out because somebody asked for it"
    if bared := _ranked(counts, "bared"):
        each = ", ".join(f"{column} {count:,}" for column, count in bared)
        yield f"names and passwords that stood in addresses were taken out of them; by column: {each}"
    masked = {k.removeprefix("masked:"): n for one in told.of("Mask") for k, n in told.datasets[one].counts.items()
              if k.startswith("masked:")}  # fmt: skip
    kinds = sorted({str(kind) for one in told.of("Mask") for kind in told.field(one, "kinds") or ()})
    if kinds:
        each = ", ".join(f"{kind} {masked[kind]:,}" for kind in kinds if masked.get(kind)) or "none was found"
        yield f"personal data was masked by its looks ({', '.join(kinds)}); found before the filters: {each}"
    else:
        yield "personal data was not masked"


def _removal(told: Ran, contact: str) -> str:
    agents = [told.field(one, "agent") for one in told.of("Crawl") if told.field(one, "agent")]
    if contact:
        return f"write to {contact}"
    if agents:
        return f"write to whom the crawler names: {agents[-1]}"
    return "write to whoever published this collection"


def _limits(told: Ran, leaving: Leaving) -> Iterator[str]:
    if told.of("Crawl") or told.of("Extract"):
        yield "The texts come from the web, with the views and errors of those who write there; nobody read them all."
    yield "Names of people, and what is told of them in running text, are not masked."
    yield "Filters work by counts and thresholds: good texts in unusual forms are lost, and some bad ones stay."
    if told.of("Identify"):
        yield "Languages are guessed by a model, worst for short texts and for close relatives of a larger language."
    if told.of("Deduplicate"):
        yield "Near duplicates are found by MinHash: few are missed at the stated similarity, more just below it."
    if not told.of("Decontaminate"):
        yield "Evaluation sets may stand in it: look before you measure with them."
