"""What lies in the folder that a fine-tuning is to go to: the same task, which goes on, or another model, which stays.

    out/asked.json    what was asked for when the parts were last laid there: the task's fields but for paths

A task is what is learnt and of which texts: its kind, its classes, the columns of its labels, and rows of train that
are there as well. Other settings, another model and rows that were mended or added are the same task.

Promises: nothing is written before it is allowed; runs that are sealed stay where they lie. Costs one reading of the
parts that lie there. Refuses a folder with another task's weights, with a model that no fine-tuning left, and the
folder of the very model that is to be tuned.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tundish.cluster import store
from tundish.cluster.shards import digest_of
from tundish.stages import hub
from tundish.stages.examples import Examples
from tundish.stages.examples_rows import TRUTH
from tundish.stages.examples_tokens import load
from tundish.stages.finetune_task import TuneTask
from tundish.stages.tuned import told_in

ASKED = "asked.json"
ELSEWHERE = "give another --out, or delete that folder if its model is of no use"
UNTOLD = ("out", "parts", "truth", "at_once", "specials", "digests", "scheme")
CALLED = {"rows": "rows", "weights": "bytes of the model", "truth": "true answers"}
FREE = ("model", "seeds", "scratch", "sizes", "columns")  # what decides no run by itself


def check(model: str, out: str, found: Mapping[str, Examples], columns: Mapping[str, Any]) -> None:
    """Whether these parts may be laid in `out`. Raises ValueError as the docstring above says."""
    if _same_place(model, out):
        raise ValueError(f"--out {out} is the folder of the model that is to be tuned; give another --out")
    if not store.exists(store.join(out, hub.CONFIG)):
        return
    own, train = told_in(out), found["train"]
    uri = store.join(out, "train.arrow")
    if own is None or not store.exists(uri):
        raise ValueError(f"{out} holds a model that no fine-tuning left there; {ELSEWHERE}")
    table, about = load(uri)
    kind, names = about["kind"], tuple(about["names"])
    asked = store.read_json(store.join(out, ASKED)) or {}
    if (kind, set(names)) != (train.kind, set(train.names)):
        raise ValueError(f"{out} holds a model of {_spoken(kind, names)}, not {_of(train)}; {ELSEWHERE}")
    for role in TRUTH if asked else ():
        before, now = (each.get(role, role) for each in (asked["columns"], columns))
        if before != now:
            raise ValueError(
                f"{out} holds a model of {kind} that learnt the column {before!r}, not {now!r}; {ELSEWHERE}"
            )
    if not {*table["id"].to_pylist()} & {*train.table["id"].to_pylist()}:
        files = ", ".join(sorted({*table["file"].to_pylist()})[:3])
        raise ValueError(
            f"{out} holds a model of {_spoken(kind, names)} that learnt other texts ({files}); {ELSEWHERE}"
        )


def _same_place(one: str, other: str) -> bool:
    return len({os.path.realpath(store.local(each) or each) for each in (one, other)}) == 1


def _of(one: Examples) -> str:
    return _spoken(one.kind, one.names)


def _spoken(kind: str, names: tuple[str, ...]) -> str:
    """
    >>> _spoken("classify", ("a", "b")), _spoken("answer", ())
    ('classify (a, b)', 'answer')
    """
    return f"{kind} ({', '.join(names[:6])}{', …' if len(names) > 6 else ''})" if names else kind


def since(task: TuneTask, columns: Mapping[str, Any]) -> list[str]:
    """What is asked for otherwise than the last time in this folder, in words; and what is asked for now is kept."""
    uri = store.join(task.out, ASKED)
    before, now = store.read_json(uri), _asked(task, columns)
    store.write_json(uri, now)
    if before is None:
        return []
    names = [name for name in now if before.get(name) != now[name]]
    if not names:
        return []
    anew = any(name not in FREE for name in names)
    if {"length", "weights"} & {*names}:  # rows are cut otherwise then, or into other pieces
        names = [name for name in names if name != "rows"]
    changed = "; ".join(_change(name, before.get(name), now[name]) for name in names)
    what = "runs are made anew, and the sealed ones stay" if anew else "sealed runs are kept"
    return [f"otherwise than the last time in {task.out}: {changed} ({what})"]


def _asked(task: TuneTask, columns: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    said = {name: value for name, value in asdict(task).items() if name not in UNTOLD}
    said |= {"model": task.model.rstrip("/").rpartition("/")[2], "columns": dict(columns)}
    said["weights"] = {name: each for name, each in task.digests.items() if name.startswith("model/")}
    said["rows"] = {name: each for name, each in task.digests.items() if not name.startswith("model/")}
    if task.truth:
        said["truth"] = {name: digest_of(each) for name, each in task.truth.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}


def _change(name: str, before: Any, now: Any) -> str:
    """
    >>> _change("lr", 0.1, 0.2), _change("rows", {"a": "1", "b": "2"}, {"a": "1", "b": "3"})
    ('lr was 0.1 and is 0.2', 'other rows in b')
    """
    if name in CALLED:
        before = before or {}  # an older tundish kept none
        other = sorted(key.removeprefix("model/") for key in {*before, *now} if before.get(key) != now.get(key))
        return f"other {CALLED[name]} in {', '.join(other)}"
    if isinstance(now, Mapping) and isinstance(before, Mapping):
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        return ", ".join(_change(key, before.get(key), now.get(key)) for key in keys)
    return f"{name} was {_value(before)} and is {_value(now)}"


def _value(value: Any) -> str:
    return "not said" if value is None else str(value)
