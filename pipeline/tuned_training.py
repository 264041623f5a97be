"""How a fine-tuned model was trained, in words for terminal, page and card: other tasks, aids, what it took.

    stayed(result)      the run whose weights stayed
    company(result)     what was trained beside it or first, in what shares of the steps, what it came to, and the gain
    aided(result)       the aids that were on, and what weights from scratch went without
    compute(told)       operations, seconds and devices of `stages/finetune_compute`, by kind of run

Promises: one wording for all places; nothing where nothing is known. Numbers are those of the files.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tundish.pipeline import templates
from tundish.pipeline.templates import counted
from tundish.stages.finetune_means import shortfall
from tundish.stages.finetune_task import MEASURES

HOWS = {
    "proportional": "in proportion to their examples",
    "root": "in proportion to the root of their examples",
    "temperature": "in proportion to their examples to the power of 1 / {temperature:g}",
    "equal": "all equally often",
    "annealed": "in proportion to their examples to a power that falls from 1 to 0.2 with the epochs",
}
UNITS = tuple((10.0**power, f"{letter}FLOP") for power, letter in zip(range(24, 5, -3), "YZEPTGM", strict=True))
BESIDE = {"search": "trials of the search", "code_length": "the code length", "splits": "random splits"}
Told = Mapping[str, Any]


def operations(value: float) -> str:
    """
    >>> operations(3.2e12), operations(999e15), operations(999.6e9), operations(12.0)
    ('3.2 TFLOP', '999 PFLOP', '1 TFLOP', '1.2e-05 MFLOP')
    """
    value = float(f"{value:.3g}")  # rounded first: 999.6 of one unit are 1 of the next
    size, unit = next((each for each in UNITS if value >= each[0]), UNITS[-1])
    return f"{value / size:.3g} {unit}"


def sized(point: Told) -> str:
    """How many examples a score is of, and in how many windows they were read, where those are more.

    >>> sized({"size": 1200}), sized({"size": 200, "windows": 410})
    ('1,200', '200 (410 windows)')
    """
    windows = f" ({point['windows']:,} windows)" if point.get("windows") else ""
    return f"{point['size']:,}{windows}"


def lasted(seconds: float | None) -> str:
    """
    >>> lasted(4.21), lasted(400.0), lasted(7200.0), lasted(None)
    ('4.2 s', '6.7 min', '2.0 h', 'no clock kept')
    """
    if seconds is None:
        return "no clock kept"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def unfitted(calibration: Told) -> str:
    """That runs of a part have no temperature, and why; nothing where each has one.

    >>> unfitted({"temperatures": [1.0, 1.4], "unfitted": 1})
    'no temperature was fitted for 1 of 2 seeds (dev is all told rightly, or its logits tell nothing)'
    """
    none, of = calibration.get("unfitted", 0), len(calibration.get("temperatures") or [])
    if not none:
        return ""
    which = f" for {none} of {counted(of, 'seed')}" if none < of else ""
    return f"no temperature was fitted{which} (dev is all told rightly, or its logits tell nothing)"


def equal(told: Told) -> str:
    """What an interval of no width says: it is of equal seeds, and no sign that others would be like them.

    >>> equal({"seeds": [1.0, 1.0]}), equal({"seeds": [1.0]}), equal({"seeds": [0.5, 1.0]})
    ('all seeds equal', '', '')
    """
    seeds = told.get("seeds") or []
    return "all seeds equal" if len(seeds) > 1 and len(set(seeds)) == 1 else ""


def called(measure: str, result: Told) -> str:
    """A measure as people write it; F1 of one of two classes with the name of that class.

    >>> called("f1", {"task": "classify", "names": ["no", "yes"]}), called("f1", {"task": "answer", "names": []})
    ('F1 of yes', 'F1')
    """
    one = measure == "f1" and result["task"] == "classify" and len(result.get("names", ())) == 2
    return templates.spoken(measure) + (f" of {result['names'][1]}" if one else "")


def stayed(result: Told) -> Told:
    """The run whose weights stayed: the first by the order of the seeds, from pretrained weights on all examples, that
    did not fail (stages/finetune_runs); empty where all failed.

    >>> runs = [{"pretrained": True, "size": 0, "failed": "no number"}, {"pretrained": True, "size": 0, "failed": ""}]
    >>> stayed({"runs": runs}) == runs[1], stayed({"runs": runs[:1]})
    (True, {})
    """
    whole = (run for run in result.get("runs", []) if run["pretrained"] and not run["size"])
    return next((run for run in whole if not run["failed"]), {})


def ranged(one: Told, form: str) -> str:
    """A mean with its interval over seeds, where it has one, or that all seeds are equal.

    >>> ranged({"mean": 0.5, "interval": [0.25, 0.75], "seeds": [0.25, 0.75]}, ".2f"), ranged({"mean": 0.5}, "+.2f")
    ('0.50 (0.25 to 0.75)', '+0.50')
    >>> ranged({"mean": 0.5, "interval": [0.5, 0.5], "seeds": [0.5, 0.5]}, ".2f")
    '0.50 (all seeds equal)'
    """
    low, high = one.get("interval") or (None, None)
    between = "" if low is None else equal(one) or f"{low:{form}} to {high:{form}}"
    return f"{one['mean']:{form}}" + (f" ({between})" if between else "")


# -- other tasks


def company(result: Told) -> dict[str, Any] | None:
    """`how` it was mixed, a row for each task, itself first, and for each tested part and measure the gain."""
    beside, mixing = result.get("beside"), result.get("mixing")
    if not beside or not mixing:
        return None
    own, others = own_steps(result), sum(one["steps"] for one in beside.values())
    mine = {"name": "this task", "task": result["task"], "examples": result["examples"]["train"], "steps": own}
    mine |= {"windows": result["windows"]["train"]} if "windows" in result else {}
    rows: list[dict[str, Any]] = [mine, *({"name": name, **one} for name, one in beside.items())]
    for row in rows:
        measure = MEASURES[row["task"]]
        score = row.get("dev", {}).get(measure)
        shown = {"measure": measure if score else "", "score": score}
        row |= {"share": row["steps"] / max(1, own + others), **shown}
    how = ". ".join([how_of(mixing), *leaks(result)])
    return {"how": how, "rows": rows, "gains": list(gains(result))}


def leaks(result: Told) -> list[str]:
    """That other tasks learnt texts of a tested part, or of dev.

    >>> for part in ("test", "dev"):
    ...     leaks({"beside": {"nli": {"shared": {part: {"exact": 3, "alike": 4}}}}})
    ['nli beside learnt 4 texts of test, so scores on test are too high by what the trunk learned of them']
    ['nli beside learnt 4 texts of dev, so what dev chooses is chosen on texts that the trunk learned']
    """
    each = [(name, *both) for name, one in result.get("beside", {}).items() for both in one.get("shared", {}).items()]
    so = {"dev": "so what dev chooses is chosen on texts that the trunk learned"}
    other = "so scores on {part} are too high by what the trunk learned of them"
    return [
        f"{name} beside learnt {counted(both['alike'], 'text')} of {part}, {so.get(part, other).format(part=part)}"
        for name, part, both in each
    ]


def own_steps(result: Told) -> int:
    """Of one run on all examples, in the epochs that it had."""
    runs = [run for run in result.get("runs", []) if run["pretrained"] and not run["size"] and not run["failed"]]
    epochs = len(runs[0]["losses"]) if runs else result["epochs"]
    rows = result.get("windows", result["examples"])["train"]  # a batch is of windows, where there are some
    return epochs * -(-int(rows) // int(result["batch"]))


def how_of(mixing: Told) -> str:
    if mixing["how"] == "first":
        epochs = f" {mixing['epochs']} epochs" if mixing.get("epochs") else " as many epochs as it"
        return f"Other tasks learnt first,{epochs}, and it went on from their trunk"
    counted = f", none counted for more than {mixing['limit']:,}" if mixing.get("limit") else ""
    shares = HOWS.get(mixing["how"], f"by {mixing['how']}").format(**mixing)
    return f"Other tasks learnt on the same trunk, each step a batch of one task, {shares}{counted}"


def gains(result: Told) -> Iterator[dict[str, Any]]:
    """Of each tested part, the measure that runs are compared by first: with the others less alone, seed by seed."""
    for part in result["tested"]:
        each = (result.get("gain") or {}).get(part, {})
        for measure in sorted(each, key=lambda name: name != result["measure"]):
            yield {"part": part, "measure": measure, "called": called(measure, result), **each[measure]}


# -- aids


def aided(result: Told) -> str:
    """The aids that were on, as they are given; "" for none.

    >>> aided({"aids": {"lora": 8, "smoothing": 0.1}})
    'lora=8, smoothing=0.1'
    """
    return ", ".join(f"{name}={value}" for name, value in (result.get("aids") or {}).items())


def alike(result: Told) -> str:
    """What fresh weights are the counterpart by, in a few words."""
    told = result.get("baseline")
    return f"the same training without {' and '.join(told['without'])}" if told else "the same training"


def baseline(result: Told) -> str:
    """What weights from scratch went without, as a sentence; "" where they were trained alike."""
    told = result.get("baseline")
    if not told:
        return ""
    held = " and ".join(told["without"])
    return (
        f"Fresh weights learnt whole, without {held} and at a rate of {told['rate']:.3g}: what holds a trunk where "
        "pretraining left it would keep a random one from learning"
    )


# -- what it took


def compute(told: Told | None, kept: str = "") -> dict[str, Any] | None:
    """A row for each kind of run, and the pretraining; of a file without runs nothing. `kept`: the name of the run
    whose weights stayed; the first one unless told."""
    runs = (told or {}).get("runs")
    if not told or not runs:
        return None
    kinds: dict[str, list[Told]] = {}
    for run in runs:
        kinds.setdefault(BESIDE.get(run.get("of", ""), "") or _kind(run["name"]), []).append(run)
    return {
        "rows": [_row(kind, each) for kind, each in kinds.items()],
        "all": _row("all", runs),
        "first": _row("these weights", [one for one in runs if one["name"] == kept and "of" not in one] or runs[:1]),
        "pretraining": _pretraining(told.get("pretraining")),
    }


def _kind(name: str) -> str:
    """
    >>> _kind("pretrained-1"), _kind("fresh-2-of-100")
    ('pretrained weights', 'fresh weights, fewer examples')
    """
    start = "pretrained weights" if name.startswith("pretrained") else "fresh weights"
    return start + (", fewer examples" if "-of-" in name else "")


def _row(name: str, runs: list[Told]) -> dict[str, Any]:
    known = [run for run in runs if run.get("seconds") is not None]
    seconds = sum(run["seconds"] for run in known) if known else None
    clock = lasted(seconds) + (f" of {len(known)}" if known and len(known) < len(runs) else "")
    devices = ", ".join(sorted({str(run["device"]) for run in known}))
    return {"name": name, "runs": len(runs), "operations": operations(sum(run["flops"] for run in runs)),
            "clock": clock, "device": devices}  # fmt: skip


def spoken(row: Told) -> str:
    """A row of `compute` in words."""
    return f"{row['operations']}, {row['clock']}" + (f" on {row['device']}" if row["device"] else "")


def _pretraining(told: Told | None) -> str:
    if not told:
        return ""
    return str(told["said"]) if "said" in told else f"{operations(told['flops'])}, {lasted(told['seconds'])}"


def mean_of(one: Told) -> str:
    """
    >>> mean_of({"mean": 0.6, "seeds": [0.5, 0.7], "of": 3}), mean_of({"mean": 0.6, "seeds": [0.5, 0.7], "of": 2})
    ('0.600, mean of 2 of 3', '0.600')
    """
    return ", ".join(filter(None, (f"{one['mean']:.3f}", shortfall(one))))


def lines(result: Told) -> list[str]:
    """For a terminal: the baseline, and what it took."""
    said, told = [baseline(result)] if baseline(result) else [], compute(result.get("compute"))
    if told:
        runs = counted(told["all"]["runs"], "run")
        said.append(f"{runs} took {spoken(told['all'])}; operations of training, by formula")
    return said
