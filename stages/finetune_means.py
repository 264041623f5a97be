"""Means over runs with their doubt, the same wherever they are told, and the one verdict on two of them.

    over("accuracy", [0.8, 0.9])      mean, every seed's, and an interval that stays where accuracy does
    gained("accuracy", [0.1, 0.2])    of differences of such scores
    shortfall(told)                   "mean of 4 of 5", where runs are left out of a mean
    verdict_of(result, "test")        whether pretrained weights are ahead of fresh ones, behind, or neither is shown

Promises: intervals of the 95 % level (`certainty.over_seeds`), within the range of the measure; of one run there is
none, and no verdict but "open". Costs nothing. A measure that is not listed here has no ends.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tundish.operators.model import certainty
from tundish.operators.model.certainty import FREE, Bounds

ROUND = 6
SHARE, CORRELATION, LOSS = (0.0, 1.0), (-1.0, 1.0), (0.0, math.inf)
SHARES = ("accuracy", "f1", "exact", "found_first", "reciprocal_rank", "expected_error", "maximum_error", "ended")
RANGES: dict[str, Bounds] = {
    **dict.fromkeys((*SHARES, "sources_cut", "targets_cut", "span_precision", "span_recall"), SHARE),
    **dict.fromkeys(("rouge_1", "rouge_2", "rouge_l"), SHARE),
    **dict.fromkeys(("matthews", "spearman", "pearson"), CORRELATION),
    **dict.fromkeys(("log_loss", "squared_error", "absolute_error", "loss", "bits", "compression"), LOSS),
    "brier": (0.0, 2.0),
}
Told = dict[str, Any]
Ends = Sequence[tuple[float, float]]


def range_of(measure: str) -> Bounds:
    """The least and the most that a measure can be; kinds of F1 and accuracy by the ends of their names.

    >>> range_of("span_macro_f1"), range_of("matthews"), range_of("seconds")
    ((0.0, 1.0), (-1.0, 1.0), (-inf, inf))
    """
    known = RANGES.get(measure)
    return known or (SHARE if measure.endswith(("_f1", "_accuracy")) else FREE)


def over(measure: str, values: Sequence[float]) -> Told:
    """Mean over runs; one run, and one whose score is no number, leave no interval."""
    return _over(values, range_of(measure))


def gained(measure: str, values: Sequence[float]) -> Told:
    """The same of differences, which can be no larger than the measure's range."""
    return _over(values, apart(measure))


def apart(measure: str) -> Bounds:
    """Between what differences of a measure lie."""
    least, most = range_of(measure)
    return FREE if math.isinf(most) else (least - most, most - least)


def _over(values: Sequence[float], bounds: Bounds) -> Told:
    told: Told = {"mean": float(np.mean(values)), "seeds": [round(float(each), ROUND) for each in values]}
    if len(values) > 1 and all(map(math.isfinite, values)):
        told["interval"] = list(certainty.over_seeds(values, bounds=bounds)[1:])
    return told


def shortfall(told: Mapping[str, Any]) -> str:
    """Of how many runs a mean is where some have no score; nothing where it is of all, or where that is not known.

    >>> shortfall({"seeds": [0.5, 0.7], "of": 3}), shortfall({"seeds": [0.5, 0.7], "of": 2}), shortfall({"seeds": []})
    ('mean of 2 of 3', '', '')
    """
    count, of = len(told.get("seeds") or []), told.get("of", 0)
    return f"mean of {count} of {of}" if count < of else ""


def verdict(ends: Ends, runs: int) -> str:
    """`ends`: the intervals of a difference. All of them have to lie on one side of 0; and of one run nobody knows how
    far another would lie from it.

    >>> verdict([(0.1, 0.2)], 2), verdict([(-0.2, -0.1), (-0.3, 0.1)], 5), verdict([(0.1, 0.2)], 1)
    ('ahead', 'open', 'open')
    """
    if runs < 2 or not ends:
        return "open"
    return "ahead" if all(low > 0 for low, _ in ends) else "behind" if all(high < 0 for _, high in ends) else "open"


def verdict_of(result: Mapping[str, Any], part: str) -> str:
    """Of pretrained less fresh weights on a part: that of `compared` (stages/finetune_against) where the runs' answers
    were compared, else one over the differences of seeds that both have; "" where no fresh runs were asked for."""
    compared = ((result.get("compared") or {}).get("parts") or {}).get(part, {}).get("fresh")
    if compared:
        return str(compared["verdict"])
    if "fresh" not in result["parts"][part]:
        return ""
    measure, sides = result["measure"], dict[bool, dict[int, float]]({True: {}, False: {}})
    for run in result.get("runs", []):
        score = run.get("scores", {}).get(part, {}).get(measure)
        if not run["failed"] and not run["size"] and score is not None and math.isfinite(score):
            sides[run["pretrained"]][run["seed"]] = score
    gains = [sides[True][seed] - sides[False][seed] for seed in sorted(sides[True].keys() & sides[False].keys())]
    interval = gained(measure, gains).get("interval") if gains else None
    return verdict([interval] if interval else [], len(gains))
