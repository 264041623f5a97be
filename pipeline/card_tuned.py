"""The card of a fine-tuned model: what it tells apart, from which data it learnt that, how well, and where that ends.

Promises: every number is one of `result.json`, `data.json`, `config.json`, `compute.json`, the parts beside them or
the weights; what it says of fresh weights is the verdict that is told everywhere (`finetune_means.verdict_of`); the
header is what the Hub reads, with the scores of these very weights and the mean over all seeds told apart; words of
files and labels cannot break out of their cell. Costs milliseconds. Refuses a folder without the two files.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import yaml

from tundish.pipeline import tuned_training
from tundish.pipeline.card import cell
from tundish.pipeline.templates import counted
from tundish.pipeline.tuned_classes import balance, counts
from tundish.stages.finetune_means import verdict_of

PIPELINES = {  # as the Hub calls the tasks
    "classify": "text-classification",
    "multilabel": "text-classification",
    "regress": "text-classification",
    "tag": "token-classification",
    "answer": "question-answering",
    "embed": "sentence-similarity",
    "write": "text2text-generation",
}
METRICS = {  # as the Hub calls the measures
    **{"accuracy": "accuracy", "micro_f1": "f1", "span_f1": "f1", "f1": "f1"},
    **{"spearman": "spearmanr", "pearson": "pearsonr"},
}
DOES = {
    "classify": "gives a text one of {count} labels",
    "multilabel": "gives a text any of {count} labels",
    "regress": "gives a text a number",
    "tag": "gives each word one of {count} tags",
    "answer": "finds the answer to a question in a text",
    "embed": "turns texts into vectors in which those that belong together find each other",
    "write": "writes a text to a text",
}
CALIBRATIONS = {
    "log_loss": "log loss",
    "brier": "Brier score",
    "expected_error": "expected calibration error",
    "maximum_error": "maximum calibration error",
}
WORTH = ("expected_error", "log_loss")  # neither of which a temperature may make worse, to be of use
SPREADS = {"classify": "softmax(-1)", "multilabel": "sigmoid()"}
LABELS, FILES, ODD = 40, 4, 8  # so many are listed
DIGITS = 6  # of a score in the header
AGAINST = {"open": "not shown to be better", "behind": "worse"}
FEW = 20  # examples of a label in train below which little is learnt of it


def card_tuned(
    config: Mapping[str, Any],
    result: Mapping[str, Any],
    data: Mapping[str, Any],
    *,
    architecture: str,
    parameters: int,
    temperature: float,
    name: str,
    licence: str = "",
    files: Mapping[str, Mapping[str, int]] | None = None,
    compute: Mapping[str, Any] | None = None,
) -> str:
    """Markdown with the header that the Hub reads. `config`, `result`, `data`, `compute`: the files of a fine-tuning;
    `files`: of each part, rows by the file they came from. `licence`: as whoever exports it says."""
    task, classes = config["task"], result.get("classes", {}).get("scores", [])
    ranked = sorted(classes, key=lambda each: -each["support"])[:LABELS]
    calibrated, asked = task in SPREADS and temperature != 1.0, result.get("calibration", {})
    body = template_of("card_tuned.md.j2").render(
        header=yaml.safe_dump(_header(config, result, name, licence), sort_keys=False, allow_unicode=True),
        name=plain(name),
        task=task,
        summary=_summary(config, result, architecture, parameters),
        spread=SPREADS.get(task, ""),
        loader="AutoModelForCausalLM" if config["shape"]["stack"] == "decoder" else "AutoModelForSeq2SeqLM",
        calibrated=calibrated,
        temperature=f"{temperature:.4g}",
        worth=" ".join(_worth(result)),
        unfitted=[f"{part}: {said}" for part, told in asked.items() if (said := tuned_training.unfitted(told))],
        labels=named_labels(config["names"]) if task != "regress" else "",
        data=list(_data(data, files or {})),
        balance=balance(data, LABELS),
        scores=list(_scores(result)),
        seeds=_seeds(result),
        reading=" ".join(_reading(result)),
        calibration=list(_calibration(result)),
        first=result["tested"][0] if result["tested"] else "",
        classes=[{**each, **{key: three(each[key]) for key in ("precision", "recall", "f1")}} for each in ranked],
        classes_more=len(classes) - len(ranked),
        training=[*_training(config, result), *_took(compute, str(config.get("run", "")))],
        company=_company(result),
        trunk=_trunk(config.get("trunk") or {}),
        limits=list(_limits(config, result, data)),
    )
    return "\n".join(line.rstrip() for line in body.splitlines()) + "\n"


def template_of(name: str) -> jinja2.Template:
    """That of a card beside this file."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader
    )
    environment.filters |= {"cell": cell}
    return environment.get_template(name)


def plain(words: Any) -> str:
    """On one line, and nothing in it is HTML or code.

    >>> plain("a <b>\\n`c`")
    'a &lt;b> c'
    """
    return " ".join(str(words).replace("`", " ").split()).replace("&", "&amp;").replace("<", "&lt;")


def three(value: float | None) -> str:
    """
    >>> three(0.12345), three(None)
    ('0.123', '')
    """
    return "" if value is None else f"{value:.3f}"


def own_scores(result: Mapping[str, Any], part: str) -> Mapping[str, float]:
    """The scores of the run whose weights stayed; empty where all failed."""
    return tuned_training.stayed(result).get("scores", {}).get(part, {})  # type: ignore[no-any-return]


def _header(config: Mapping[str, Any], result: Mapping[str, Any], name: str, licence: str) -> dict[str, Any]:
    task = config["task"]
    index = [each for part in result["tested"] for each in _indexed(result, part, PIPELINES[task])]
    own = ["sentence-transformers", "feature-extraction"] if task == "embed" else []
    return {
        "license": licence or "unknown",
        "library_name": "sentence-transformers" if task == "embed" else "transformers",
        "pipeline_tag": PIPELINES[task],
        "tags": ["tundish", *own],
    } | ({"model-index": [{"name": name, "results": index}]} if index else {})


def _indexed(result: Mapping[str, Any], part: str, pipeline: str) -> Iterator[dict[str, Any]]:
    """A part's result: of the measure runs are compared by, that of these weights. The Hub keeps one value of a type
    for a data set; means over seeds stand in the card."""
    measure = result["measure"]
    if (value := own_scores(result, part).get(measure)) is not None:
        metric = {"type": METRICS.get(measure, measure), "value": round(value, DIGITS), "name": measure}
        yield {"task": {"type": pipeline}, "dataset": {"name": part, "type": "custom"}, "metrics": [metric]}


def _seeds(result: Mapping[str, Any]) -> str:
    count = len(result["seeds"])
    return f"{count} seeds" if count > 1 else "one seed"


def _summary(config: Mapping[str, Any], result: Mapping[str, Any], architecture: str, parameters: int) -> str:
    does = DOES[config["task"]].format(count=len(config["names"]))
    trained = result["examples"].get("train", 0)
    return (
        f"{architecture} of {parameters:,} parameters that {does}. It learnt that from {trained:,} examples, by "
        f"tundish {version('tundish')}. Every number on this page is read off the files that the fine-tuning left."
    )


def named_labels(names: Sequence[str]) -> str:
    more = f" and {len(names) - LABELS} more" if len(names) > LABELS else ""
    return ", ".join(plain(name) for name in names[:LABELS]) + more


def _data(data: Mapping[str, Any], files: Mapping[str, Mapping[str, int]]) -> Iterator[dict[str, str]]:
    for part, told in sorted(data["parts"].items(), key=lambda each: (each[0] != "train", each[0])):
        mine, pieces = files.get(part, {}), told.get("pieces", {})
        named = ", ".join(f"{file} ({rows:,})" for file, rows in list(mine.items())[:FILES])
        more = f" and {len(mine) - FILES} more" if len(mine) > FILES else ""
        longer = f"{pieces['longer']:,}" if pieces.get("longer") is not None else ""
        yield {"part": part, "rows": f"{told['rows']:,}", "files": named + more, "longer": longer}


def _scores(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row for each measure of each tested part, that by which runs are compared first."""
    for part in result["tested"]:
        told, own = result["parts"][part], own_scores(result, part)
        measures = {name: one for name, one in told.get("pretrained", {}).items() if "mean" in one}
        for name, one in sorted(measures.items(), key=lambda each: each[0] != result["measure"]):
            low, high = one.get("interval", (None, None))
            between = "" if low is None else tuned_training.equal(one) or f"{low:.3f} to {high:.3f}"
            fresh = told.get("fresh", {}).get(name, {}).get("mean")
            common = (told.get("majority") or {}).get(name)
            own_one = three(own.get(name))
            yield (
                part,
                tuned_training.called(name, result),
                own_one,
                tuned_training.mean_of(one),
                between,
                three(fresh),
                three(common),
            )


def _reading(result: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"These weights are those of {_whose(result)}; no run was chosen by its score. Intervals are over seeds, of "
        "one and the same data, at a level of 95 %, and end where their measure does."
    )
    if told := tuned_training.baseline(result):
        yield f"{told}."
    for part in result["tested"]:
        for kind, words in (("pretrained", ""), ("fresh", " from fresh weights")):
            lost = result["parts"][part].get(kind, {}).get("failed")
            if lost:
                words = f"{counted(lost['of'], 'run')}{words} {'was' if lost['runs'] == 1 else 'were'}"
                yield f"On {plain(part)}, {lost['runs']} of {words} no better than the majority."


def _whose(result: Mapping[str, Any]) -> str:
    """The seed whose weights these are, and why it is that one."""
    seed = tuned_training.stayed(result).get("seed")
    if seed is None or seed == result["seeds"][0]:
        return "the first seed"
    return f"seed {seed}, the first whose run did not fail"


def _calibration(result: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for part, told in result.get("calibration", {}).items():
        for key, words in CALIBRATIONS.items():
            if key in told.get("before", {}):
                after = told.get("after", {}).get(key, {}).get("mean")
                yield part, words, three(told["before"][key]["mean"]), three(after)


def _worth(result: Mapping[str, Any]) -> Iterator[str]:
    """What the temperature did to the probabilities of these weights, on each tested part where that is known."""
    for part, told in result.get("calibration", {}).items():
        pairs = {key: tuple(_first(told.get(when, {}).get(key)) for when in ("before", "after")) for key in WORTH}
        if any(None in pair for pair in pairs.values()):
            continue
        good = all(after <= before for before, after in pairs.values())
        said = " and ".join(f"{CALIBRATIONS[key]} {three(a)} instead of {three(b)}" for key, (b, a) in pairs.items())
        yield f"On {plain(part)} that gave probabilities that {'mean more' if good else 'do not mean more'}: {said}."


def _first(one: Mapping[str, Any] | None) -> Any:
    """Of the first seed that did not fail, whose weights these are."""
    return None if one is None else next(iter(one.get("seeds") or []), one.get("mean"))


def _training(config: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    form = config.get("form") or {}
    yield "seeds", ", ".join(str(seed) for seed in result["seeds"])
    yield "epochs", str(result["epochs"])
    yield "batch", str(result["batch"])
    yield "learning rate at its peak", f"{result['rate']:.3g}"
    if aids := tuned_training.aided(result):
        yield "aids", aids
    if config["head"] in ("sequence", "embedding"):
        yield "pooling", config["pooling"]
    if form.get("act"):
        yield "head", f"a dense layer with {form['act']}{' and a norm' if form.get('norm') else ''}, and the last one"
    shape = config["shape"]
    yield "trunk", f"{shape['layers']} layers, {shape['width']} wide, {shape['heads']} heads"


def _took(told: Mapping[str, Any] | None, kept: str) -> Iterator[tuple[str, str]]:
    """Operations of training by formula, and the clock, of these weights and of all runs that are told of."""
    found = tuned_training.compute(told, kept)
    if found:
        yield "compute, these weights", f"{tuned_training.spoken(found['first'])} (operations by formula)"
        many = found["all"]["runs"]
        yield f"compute, {'all ' if many != 1 else ''}{counted(many, 'run')}", tuned_training.spoken(found["all"])
        if found["pretraining"]:
            yield "compute, the pretraining", found["pretraining"]


def _company(result: Mapping[str, Any]) -> dict[str, Any]:
    """Tasks that learnt with it, as rows of words."""
    told = tuned_training.company(result)
    if told is None:
        return {}
    rows = []
    for row in told["rows"]:
        spelt = tuned_training.ranged(row["score"], ".3f") if row["score"] else ""
        score = f"{row['measure'].replace('_', ' ')} {spelt}".strip()
        rows.append((row["name"], row["task"], f"{row['examples']:,}", f"{100 * row['share']:.1f} %", score))
    measure = result["measure"]
    gains = [
        f"On {plain(one['part'])} that changed {measure.replace('_', ' ')} by {tuned_training.ranged(one, '+.3f')} "
        "against the same training alone."
        for one in told["gains"] if one["measure"] == measure
    ]  # fmt: skip
    return {"how": told["how"], "rows": rows, "gains": gains or ["What that was worth was not measured."]}


def _trunk(told: Mapping[str, Any]) -> dict[str, Any]:
    """What the card of the model it began from says, where that was one of ours."""
    if not told.get("name"):
        return {}
    said = f"It began from `{plain(told['name'])}`."
    if told.get("summary"):
        said += f" Its card says: {plain(told['summary'])}"
    if told.get("license") not in (None, "", "unknown"):
        said += f" Its license: {plain(told['license'])}."
    return {"sentence": said, "data": [plain(line) for line in told.get("data", [])]}


def _lost(run: Mapping[str, Any]) -> bool:
    return bool(run["pretrained"] and not run["size"] and run["failed"])


def _limits(config: Mapping[str, Any], result: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[str]:
    yield f"It reads {config['shape']['length']:,} tokens at once; what is longer has to be cut."
    pieces = data["parts"].get("train", {}).get("pieces", {})
    if pieces.get("longer"):
        share = 100 * pieces["longer_share"]
        yield f"In training texts were cut behind {pieces['length']:,} pieces, which {share:.1f} % were longer than."
    few = [plain(name) for name, count in counts(data["parts"].get("train", {})).items() if count < FEW]
    if few:
        yield f"Fewer than {FEW} examples in train: {', '.join(few[:LABELS])}. Expect little there."
    for part in result["tested"]:
        shared = data["parts"].get(part, {}).get("shared", {}).get("alike", 0)
        if shared:
            yield f"{shared:,} texts of {plain(part)} were in train as well, so its scores there are too high."
        if said := AGAINST.get(verdict_of(result, part)):
            yield f"On {plain(part)} it is {said} than the same training from fresh weights."
    if lost := [str(run["seed"]) for run in result.get("runs", []) if _lost(run)]:
        yield f"Of {_seeds(result)} the run of {', '.join(lost)} failed: its loss was no number."
    yield from (f"{plain(said)}." for said in list(data.get("told", []))[:ODD])
    yield "On other texts than those of the parts above nothing is known of it."
