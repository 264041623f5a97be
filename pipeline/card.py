"""The card of an exported model: what it is, what it was made of, how, how good it is, and where that ends.

Promises: every number comes from a manifest or a log of the run, and what is not known is said to be so; words of
pages (a licence, say) cannot break out of their cell. Costs one pass over the column of licences. Refuses nothing.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2

from tundish.operators.model.shape import Shape
from tundish.pipeline import fertility
from tundish.pipeline.funnel import Ran, counted, funnel, lines_of, number

TEMPLATE = Path(__file__).with_name("card.md.j2")
LANGUAGES, LICENCES, REASONS = 20, 12, 4
WIDEST = 120  # characters of a cell
FEW = 1_000_000  # tokens of a language below which a model has hardly met it


def card(told: Ran, address: str, shape: Shape, *, architecture: str, name: str, licence: str) -> str:
    """Markdown with the header that the Hub reads. `licence`: as whoever exports it says; the pages' are listed."""
    result = dict(told.datasets[address].about["result"] or {})
    tokens = _tokens(told)
    languages = fertility.shown(fertility.of_corpus(tokens), LANGUAGES) if tokens else {"rows": [], "more": 0}
    whole = languages["rows"].pop()["tokens"] if languages["rows"] else 0
    rows = [row | {"share": row["tokens"] / max(1, whole)} for row in languages["rows"]]
    licences = _licences(told)
    ranked = sorted(licences.items(), key=lambda each: (-each[1], str(each[0])))
    body = _template().render(
        name=name,
        license=licence or "unknown",
        task="text-generation" if shape.stack == "decoder" else "fill-mask",
        loader=_loader(architecture),
        summary=_summary(shape, architecture, result, whole),
        sources=list(_sources(told)),
        funnel=[_line(line) for line in funnel(told.root, told.name) if line.documents_out is not None],
        filters=list(_filters(told)),
        languages=rows,
        languages_more=languages["more"],
        licences=[(found or "none stated", count) for found, count in ranked[:LICENCES]],
        pages=sum(licences.values()),
        training=list(_training(told, address, result)),
        scores=list(_scores(told, address, result)),
        limits=list(_limits(told, rows, shape, result)),
    )
    return "\n".join(line.rstrip() for line in body.splitlines()) + "\n"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cell": cell, "number": number, "percent": lambda share: f"{100 * share:.1f} %"}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def cell(words: Any) -> str:
    """On one line, and nothing in it is Markdown of a table or HTML.

    >>> cell("a|b <script>\\n`c`")
    'a\\\\|b &lt;script> c'
    """
    flat = " ".join(str(words).replace("`", " ").split())
    flat = flat if len(flat) <= WIDEST else flat[: WIDEST - 1] + "…"
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _loader(architecture: str) -> str:
    for ending, loader in (
        ("ForMaskedLM", "AutoModelForMaskedLM"),
        ("ForPreTraining", "AutoModelForPreTraining"),
        ("LMHeadModel", "AutoModelForCausalLM"),
        ("ForConditionalGeneration", "AutoModelForSeq2SeqLM"),
    ):
        if architecture.endswith(ending):
            return loader
    return "AutoModel"


def _tokens(told: Ran) -> Any:
    return told.datasets[told.of("Tokenize")[-1]] if told.of("Tokenize") else None


def _summary(shape: Shape, architecture: str, result: Mapping[str, Any], tokens: int) -> str:
    kind = {"encoder": "encoder", "decoder": "decoder", "pair": "encoder with a decoder"}[shape.stack]
    seen = f"trained on {result['tokens']:,} tokens" if result.get("tokens") else "of unknown training"
    corpus = f" of a corpus of {tokens:,}" if tokens else ""
    return (
        f"An {kind} ({architecture}) of {result.get('parameters', 0):,} parameters: {shape.layers} layers, "
        f"{shape.width} wide, {shape.heads} heads, {shape.length} tokens at once, a vocabulary of "
        f"{shape.vocabulary:,}; {seen}{corpus} by tundish {version('tundish')}."
    ).replace("An decoder", "A decoder")


def _sources(told: Ran) -> Iterator[str]:
    for address, stage in told.recipe.items():
        if address not in told.datasets:
            continue
        fields, dataset = stage["fields"], told.datasets[address]
        if stage["stage"] == "Crawl":
            day = f"as of {fields['as_of']}" if fields.get("as_of") else "of no stated day"
            stored = dataset.about.get("counts", {}).get("stored", 0)
            seeds, agent = len(fields.get("seeds") or ()), cell(fields.get("agent") or "of no name")
            yield f"crawled: {stored:,} pages, {day}, from {seeds:,} seeds, by the agent {agent}"
        elif stage["stage"] in ("Ingest", "Read", "CommonCrawl"):
            files = dataset.about.get("outside", [])
            what = cell(", ".join(str(each.get("file") or each.get("uri") or "") for each in files[:3]))
            more = f" and {len(files) - 3} more" if len(files) > 3 else ""
            yield f"read ({stage['stage']}): {dataset.rows:,} documents or records from {what or 'files'}{more}"


def _line(line: Any) -> dict[str, str]:
    gone = sorted(line.drops.items(), key=lambda each: (-each[1], each[0]))
    why = ", ".join(f"{reason} {count:,}" for reason, count in gone[:REASONS])
    more = f" and {len(gone) - REASONS} reasons more" if len(gone) > REASONS else ""
    return {
        "stage": line.stage,
        "came": number(line.documents_in),
        "left": number(line.documents_out),
        "why": why + more,
    }


def _filters(told: Ran) -> Iterator[str]:
    for address in told.of("Refine"):
        keep, rules = told.field(address, "keep") or {}, told.field(address, "rules") or {}
        changed = ", ".join(f"{name} = {value}" for name, value in rules.items())
        yield f"quality: rules of {keep.get('rules')}" + (f", with {changed}" if changed else "")
        if keep.get("language"):
            yield f"languages kept: {', '.join(keep['language'])}, at a confidence of {keep.get('confidence')}"
        obeyed = told.field(address, "opt_outs") == "obey"
        yield f"pages that opt out of machine learning were {'left out' if obeyed else 'kept'}"
    for address in told.of("Deduplicate"):
        certificate = told.datasets[address].about.get("certificate") or {}
        pairs = (certificate.get("acted") or {}).get("pairs")
        checked = f"; {pairs:,} pairs were compared whole to check the bands" if pairs else ""
        yield f"of near-duplicates one copy was kept{checked}"
    for address in told.of("Mask"):
        yield f"personal data masked: {', '.join(told.field(address, 'kinds') or ())}"
    against = [name for address in told.of("Decontaminate") for name in told.field(address, "against") or ()]
    yield (
        f"decontaminated against {', '.join(map(str, against))}"
        if against
        else ("not decontaminated against any test set")
    )


def _licences(told: Ran) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for address in told.of("Extract"):
        if (pages := told.inside(address, "pages")) is not None:
            found += counted(pages, "licence")
    return found


def _training(told: Ran, address: str, result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    fields, seconds, useful = told.recipe[address]["fields"], 0.0, 0.0
    for line in lines_of(told.datasets[address].path("log")):
        seconds += line["seconds"]
        useful += line.get("tflops", 0.0) * line["seconds"]
    names = ("objective", "curriculum", "mask", "batch", "optimizer", "lr", "schedule", "precision", "seed", "begin")
    yield "recipe", f"preset {fields.get('model') or 'of its folder'}"
    yield from ((name, str(fields[name])) for name in names if fields.get(name) not in (None, "", [], {}))
    yield "steps", f"{result.get('steps', 0):,}"
    yield "tokens", f"{result.get('tokens', 0):,}"
    if seconds:
        yield (
            "compute",
            f"{useful / 1e3:.3g} PFLOP (from the formula of operations a token) in {seconds / 3600:.2g} hours",
        )
    yield (
        "loss",
        f"{result.get('first_loss', 0):.3f} at the first step, {result.get('last_loss', 0):.3f} over the last 5 %",
    )
    if result.get("rewound"):
        yield "went back", f"{len(result['rewound'])} times, over rows at which the loss leapt"


def _scores(told: Ran, address: str, result: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if result.get("holdout_last") is not None:
        beside = f"{result['holdout_first']:.3f} before training" if result.get("holdout_first") else ""
        if result.get("holdout_unigram"):
            beside += f"; {result['holdout_unigram']:.3f} by frequencies alone"
        rows = f" ({result['holdout_rows']:,} rows)" if result.get("holdout_rows") else ""
        yield f"held-out loss, nats a token{rows}", f"{result['holdout_last']:.3f}", beside
    for source, bits in (result.get("bits_per_byte") or {}).items():
        first = (result.get("bits_per_byte_first") or {}).get(source)
        yield f"bits a byte, {cell(source)}", f"{bits:.3f}", f"{first:.3f} before training" if first else ""
    for tuned in told.of("Finetune"):
        if told.field(tuned, "encoder") == address:
            yield from _tuned(dict(told.datasets[tuned].about["result"] or {}))


def _tuned(result: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The measure that runs are compared by, of each tested part."""
    measure = result.get("measure", "")
    for part in result.get("tested", []):
        told = result["parts"][part]
        mean = told.get("pretrained", {}).get(measure)
        if mean is None:
            continue
        low, high = mean.get("interval", (None, None))
        value = f"{mean['mean']:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None else "")
        common, fresh = (told.get("majority") or {}).get(measure), told.get("fresh", {}).get(measure)
        beside = [f"{common:.3f} by the most frequent answer"] if common is not None else []
        beside += [f"{fresh['mean']:.3f} from fresh weights"] if fresh else []
        seeds, rows = len(result["seeds"]), result["examples"][part]
        words = f"fine-tuned, {measure.replace('_', ' ')} on {cell(part)} ({seeds} seeds, {rows:,} rows)"
        yield words, value, "; ".join(beside)


def _limits(told: Ran, rows: list[dict[str, Any]], shape: Shape, result: Mapping[str, Any]) -> Iterator[str]:
    yield f"It reads {shape.length:,} tokens at once; what is longer has to be cut."
    few = [row["name"] for row in rows if row["tokens"] < FEW]
    if few:
        yield f"Fewer than {FEW:,} tokens of {', '.join(few)} were seen: expect little there."
    parameters = result.get("parameters", 0)
    if parameters and result.get("tokens", 0) < 20 * parameters:
        ratio = result.get("tokens", 0) / parameters
        yield f"It saw {ratio:.1f} tokens a parameter; models of its size go on learning for far longer."
    if not told.of("Mask"):
        yield "Personal data in the texts was not masked."
    if told.of("Crawl") or told.of("Extract"):
        yield "Its texts come from the web, with the views and errors of those who write there; nobody read them all."
    yield "What it was not evaluated on above, it was not evaluated on."
