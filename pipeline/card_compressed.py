"""The card of a compressed model: what was done to which model, what that cost in score, and what it saves.

Promises: every number is one of `compressed.json`, `config.json` or the weights; scores stand beside those of the model
it was made of and of its reference (`stages/compress_result`), with their intervals; the header is what the Hub reads,
with the score of these very weights; of folders their last names alone are told. Costs milliseconds.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import yaml

from tundish.pipeline.card_tuned import (
    DIGITS,
    DOES,
    METRICS,
    PIPELINES,
    SPREADS,
    named_labels,
    plain,
    template_of,
    three,
)
from tundish.pipeline.compressed_table import WHOLE, done, faster, known_told
from tundish.pipeline.templates import counted, spoken
from tundish.pipeline.tuned_training import equal

Result = Mapping[str, Any]


def card_compressed(
    config: Mapping[str, Any],
    result: Result,
    path: str,
    *,
    architecture: str,
    parameters: int,
    temperature: float,
    name: str,
    licence: str = "",
) -> str:
    """Markdown with the header that the Hub reads. `config`: of the folder; `result`: the `compressed.json` above it,
    and `path` its step. `licence`: as whoever exports it says."""
    task, names, step = config["task"], config["names"], result["steps"][path]
    listed = [WHOLE, *([step["reference"]] if step["reference"] else []), path]
    body = template_of("card_compressed.md.j2").render(
        header=yaml.safe_dump(_header(result, path, name, licence), sort_keys=False, allow_unicode=True),
        name=plain(name),
        task=task,
        summary=_summary(config, result, path, f"{architecture} of {parameters:,} parameters"),
        spread=SPREADS.get(task, ""),
        calibrated=task in SPREADS and temperature != 1.0,
        temperature=f"{temperature:.4g}",
        worth="",
        labels=named_labels(names) if task != "regress" else "",
        made=list(_made(result, path)),
        measure=spoken(result["measure"]),
        whole=_called(result, WHOLE),
        referred=bool(step["reference"]),
        scores=[row for part in result["tested"] for row in _scores(result, listed, part)],
        reading=" ".join(_reading(result, path)),
        costs=[_cost(result, each) for each in listed],
        where=_where(result, path),
        training=list(_training(config, result, path)),
        limits=list(_limits(config, result)),
    )
    return "\n".join(line.rstrip() for line in body.split("\n")) + "\n"


def _last(folder: str) -> str:
    return folder.rstrip("/").rpartition("/")[2]


def _called(result: Result, path: str) -> str:
    return _last(result["model"]) if path == WHOLE else path


def _header(result: Result, path: str, name: str, licence: str) -> dict[str, Any]:
    task, embeds = result["task"], result["task"] == "embed"
    index = [_indexed(result, path, part) for part in result["tested"]]
    library = "sentence-transformers" if embeds else "transformers"
    tags = ["tundish", *(["sentence-transformers", "feature-extraction"] if embeds else [])]
    said = {"license": licence or "unknown", "library_name": library, "pipeline_tag": PIPELINES[task], "tags": tags}
    return said | {"model-index": [{"name": name, "results": index}]}


def _indexed(result: Result, path: str, part: str) -> dict[str, Any]:
    """The score of these weights."""
    measure, value = result["measure"], _own(result, path, part)
    metric = {"type": METRICS.get(measure, measure), "value": round(value, DIGITS), "name": measure}
    task = {"type": PIPELINES[result["task"]]}
    return {"task": task, "dataset": {"name": part, "type": "custom"}, "metrics": [metric]}


def _own(result: Result, path: str, part: str) -> float:
    """Of the seed whose weights were kept."""
    step = result["steps"][path]
    one = step["seeds"]["" if path == WHOLE else step["kept"]]
    return float(one["scores"][part][result["measure"]])


def _summary(config: Mapping[str, Any], result: Result, path: str, what: str) -> str:
    does = DOES[config["task"]].format(count=len(config["names"]))
    return (
        f"{what} that {does}. It is the step {plain(path)} of a compression of {plain(_last(result['model']))}, by "
        f"tundish {version('tundish')}. Every number on this page is read off the files that the compression left."
    )


def _made(result: Result, path: str) -> Iterator[str]:
    """Each step on the way."""
    words = path.split("+")
    for at, word in enumerate(words):
        one = result["steps"].get("+".join(words[: at + 1]))
        said = re.sub(r"\bfrom (?:\S*/)(?=[^/\s,]+)", "from ", done(one).replace("/,", ",").rstrip("/")) if one else ""
        yield f"{word}: {plain(said)}" if said else word
    if (compared := result["steps"][path]["reference"]) != "":
        yield f"Its reference is {compared}: as much training, with nothing taken away."


def _scores(result: Result, listed: list[str], part: str) -> Iterator[dict[str, str]]:
    for each in listed:
        one = result["steps"][each]["parts"][part]
        reference = one["less"].get(result["steps"][each]["reference"])
        yield {
            "part": part,
            "name": _called(result, each),
            "mean": three(one["mean"]),
            "own": three(_own(result, each, part)),
            "interval": equal(one) or _between(one, "{:.3f}"),
            "model": _differs(one["less"].get(WHOLE)),
            "reference": _differs(reference),
        }


def _between(one: Mapping[str, Any], form: str) -> str:
    ends = one.get("interval")
    return f"{form.format(ends[0])} to {form.format(ends[1])}" if ends else ""


def _differs(one: Mapping[str, Any] | None) -> str:
    """A difference, with its interval where it has one."""
    if not one:
        return ""
    between = _between(one, "{:+.3f}")
    return f"{one['difference']:+.3f}" + (f" ({between})" if between else "")


def _reading(result: Result, path: str) -> Iterator[str]:
    step = result["steps"][path]
    seeds = len(step["parts"][result["tested"][0]]["seeds"])
    if step["kept"]:
        yield f"Means of {counted(seeds, 'seed')}; these weights are of seed {step['kept']}, which no score chose."
    yield "Differences below 0 are worse; their 95 % intervals are over tested texts, and over seeds where some are."
    for part in result["tested"]:
        if (before := step["parts"][part].get("before")) is not None:
            yield f"Before its training it scored {three(before)} on {plain(part)}."
    if failed := step["parts"]["failed"]:
        yield f"{counted(failed, 'seed')} came to no number, and {'is' if failed == 1 else 'are'} not among them."


def _cost(result: Result, path: str) -> tuple[str, ...]:
    step = result["steps"][path]
    speed, share = step["speed"], step["zeros"] / max(1, step["parameters"])
    size = (f"{step['bytes'] / 1e6:.2f}", f"{step['parameters']:,}", f"{100 * share:.1f} %")
    return (_called(result, path), *size, f"{speed['latency']:.2f}", f"{speed['throughput']:,.0f}")


def _where(result: Result, path: str) -> str:
    m = result["machine"]
    machine = m["gpu"] or f"{m['processor']} ({m['instructions']})"
    threads = f"{counted(m['threads'], 'thread')}, batches of {m['batch']}, torch {m['torch']}"
    return f"Measured before the export: {faster(result['steps'], path)}. On {plain(machine)}, {threads}."


def _training(config: Mapping[str, Any], result: Result, path: str) -> Iterator[tuple[str, str]]:
    step, shape = result["steps"][path], config["shape"]
    if step["kept"]:  # of what learns
        yield "seeds", ", ".join(step["seeds"])
        yield "epochs of each training", str(result["epochs"])
        yield "batch", str(result["batch"])
        rates = {one["rate"] for one in step["seeds"].values() if "rate" in one}
        yield "learning rate at its peak", ", ".join(f"{rate:.3g}" for rate in sorted(rates)) or f"{result['rate']:.3g}"
        yield "examples to learn from", f"{result['examples']['train']:,}"
    for part in result["tested"]:
        yield f"examples of {plain(part)}", f"{result['examples'][part]:,}"
    yield "trunk", f"{shape['layers']} layers, {shape['width']} wide, {shape['heads']} heads"


def _limits(config: Mapping[str, Any], result: Result) -> Iterator[str]:
    yield f"It reads {config['shape']['length']:,} tokens at once; what is longer has to be cut."
    yield f"In training and in tests texts were cut at {result['length']:,} tokens."
    yield from (f"{plain(line[0].upper() + line[1:])}." for line in known_told(result))
    yield f"What {plain(_last(result['model']))} learnt from, and where that ends, stands in its own card."
