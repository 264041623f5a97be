"""What a fine-tuning may have beside its runs: a search before them, other splits and code lengths behind, comparison.

Each is told in the terminal, and stands in `result.json` under its name: `search`, `compared`, `splits`, `code_length`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import click

WAYS = ("random", "asha")
BAR = 30  # characters of the longest bar
OPTIONS = (
    click.option("--search", type=click.Choice(WAYS), help="Before the runs, find settings on dev (docs/search.md)."),
    click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Of the search."),
    click.option("--space", multiple=True, metavar="NAME=RANGE", help="Such as lr=1e-5..1e-3:log, batch=8,16,32."),
    click.option("--splits", type=click.IntRange(0), default=0, help="Also on so many random splits."),
    click.option("--code-length", is_flag=True, help="Also in how few bits the labels of train can be sent."),
    click.option("--against", default="", metavar="RESULT", help="Compare with another, by its result.json."),
)
Told = dict[str, Any]
Trainers = tuple[int, int]
Trials = list[Any]  # of stages/finetune_compute.Beside


class Wanted(NamedTuple):
    search: str | None = None
    trials: int = 20
    space: tuple[str, ...] = ()
    splits: int = 0
    code_length: bool = False
    against: str = ""


def with_search(command: Callable[..., Any]) -> Callable[..., Any]:
    """These options, given to the command together: `wanted`."""

    @functools.wraps(command)
    def taking(**given: Any) -> Any:
        return command(wanted=Wanted(*(given.pop(name) for name in Wanted._fields)), **given)

    for option in reversed(OPTIONS):
        taking = option(taking)
    return taking


def refuse(wanted: Wanted, kind: str, on: str, tests: Sequence[str] = ("test",)) -> None:
    """What cannot be, before anything is read; torch comes in only where it is asked for. `tests`: their names."""
    if wanted.space and not wanted.search:
        raise ValueError(
            f"--space {wanted.space[0]!r} says where to search, and nothing is searched; add --search random"
        )
    if wanted.search:
        from tundish.stages.search_space import space_of

        space_of(wanted.space)
    if wanted.search == "asha" and on == "local":
        raise ValueError("--search asha stops poor trials through Ray Tune; add --on ray, or take --search random")
    if wanted.code_length:
        from tundish.stages import finetune_code

        if kind not in finetune_code.KINDS:
            raise ValueError(f"{kind} has no classes to send; --code-length is of {', '.join(finetune_code.KINDS)}")
    if wanted.against:
        from tundish.stages import finetune_units

        finetune_units.measure_of(kind)
        theirs = finetune_units.load(wanted.against)
        if not {*tests} & {*theirs}:
            raise ValueError(
                f"{wanted.against} was tested on {', '.join(theirs) or 'nothing'}, and this is to be on "
                f"{', '.join(tests)}; name a test alike, as in --test {next(iter(theirs), 'test')}=FILE"
            )


def comparable(task: Any, wanted: Wanted) -> None:
    """Refuse another kind of task to compare with, and other examples, before anything is trained."""
    if not wanted.against:
        return
    from tundish.stages import finetune_units as units
    from tundish.stages.finetune_runs import read

    theirs = units.load(wanted.against)
    for part, rows in read(task, 1 << 40).items():
        if part not in theirs:
            continue
        if theirs[part].kind != task.kind:
            raise ValueError(f"{part} is of {theirs[part].kind} there and of {task.kind} here; compare one kind alone")
        own = units.keys_of(task, rows, task.truth.get(part))
        mine, other = ({*keys.tolist()} for keys in (own, theirs[part].keys))
        if mine != other:
            raise ValueError(
                f"{part} has {len(mine)} units here and {len(other)} in {wanted.against}, of which {len(mine & other)} "
                "are the same; test both on the same file"
            )


def searched(task: Any, wanted: Wanted, cluster: Any, trainers: Trainers) -> tuple[Any, Told, Trials]:
    """The task with the best setting there is, what the search told, and its trials; the task itself where none was
    asked for."""
    if not wanted.search:
        return task, {}, []
    from tundish.stages.search import Search, chosen, made_for, search
    from tundish.stages.search_space import space_of

    plan = Search(task, space_of(wanted.space), wanted.trials, wanted.search)
    if wanted.search == "asha":
        from tundish.stages.search_asha import search_by_halving

        search_by_halving(plan, cluster, max(1, trainers[1]))
    else:
        cluster.gang("Search", partial(search, plan), size=trainers[1], least=trainers[0])
    best, told = chosen(plan)
    return best, {"search": told}, made_for(plan)


def beside(
    task: Any,
    wanted: Wanted,
    cluster: Any,
    trainers: Trainers,
    divided: Callable[[Sequence[int]], list[Any]],
    trials: Trials,
) -> Told:
    """What stands beside a task whose runs are made. `divided(seeds)`: the task on random splits; `trials`: of its
    search."""
    from tundish.cluster import store
    from tundish.stages import finetune_compute
    from tundish.stages.finetune_code import code_length, made_for
    from tundish.stages.finetune_runs import tune
    from tundish.stages.finetune_splits import splits_of

    told, others = _compared(task, wanted.against), []
    named = {"search": trials} if trials else {}
    if wanted.splits:
        others = divided(range(1, wanted.splits + 1))
        for number, other in enumerate(others, 1):
            cluster.gang(f"Split-{number}", partial(tune, other), size=trainers[1], least=trainers[0])
        told["splits"] = splits_of(task, others, lambda one: store.read_json(store.join(one.out, "result.json")))
    if wanted.code_length:
        cluster.gang("Code-length", partial(code_length, task), size=trainers[1], least=trainers[0])
        told["code_length"] = store.read_json(store.join(task.out, "code.json"))
        named["code_length"] = made_for(task, told["code_length"]["sizes"])
    told["compute"] = finetune_compute.besides(task, named, others)
    return told


def _compared(task: Any, against: str) -> Told:
    """Where there is something to compare: units are saved in any case, for others that come."""
    from tundish.stages import finetune_units as units
    from tundish.stages.finetune_against import compared
    from tundish.stages.finetune_runs import found, read

    try:
        units.measure_of(task.kind)
    except ValueError:
        return {}
    mine = units.gathered(task, read(task, 1 << 40), lambda run: found(task, run))
    units.save(task.out, mine)
    told = compared(task, mine, against)
    return {"compared": told} if told["parts"] else {}


def lines(result: Mapping[str, Any]) -> list[str]:
    """What a terminal shows of all this."""
    said: list[str] = []
    for name, spoken in (("search", _search), ("compared", _comparison), ("splits", _splits), ("code_length", _code)):
        if name in result:
            said += spoken(result[name])
    return said


def _search(told: Told) -> list[str]:
    from tundish.stages.search_space import spoken

    best, ends = told["best"], ", ".join(f"{many} {end}" for end, many in told["ends"].items() if many)
    said = [
        f"search: trial {best['number']} of {len(told['trials'])} ({ends}) is best, {told['measure']} "
        f"{best['score']:.3f} on dev: {spoken(best['setting'])}",
        f"best {told['measure']} on dev to expect of so many trials, with its deviation:",
    ]
    points = [each for each in told["expected_best"] if _shown(each["trials"], len(told["expected_best"]))]
    least, most = min(each["mean"] for each in points), max(each["mean"] for each in points)
    for each in points:
        part = (each["mean"] - least) / (most - least) if most > least else 1.0
        bar = "█" * (1 + round((BAR - 1) * part))
        said.append(f"  {each['trials']:>5}  {each['mean']:.3f} ± {each['deviation']:.3f}  {bar}")
    return said


def _shown(number: int, last: int) -> bool:
    """Powers of two, and the last."""
    return number == last or number & (number - 1) == 0


def _comparison(told: Told) -> list[str]:
    said = []
    for part, each in told["parts"].items():
        for name, one in each.items():
            other = "fresh ones" if name == "fresh" else told["against"]
            mine = "pretrained weights are" if name == "fresh" else "this is"
            what = {"ahead": f"{mine} ahead of {other}", "behind": f"{mine} behind {other}"}.get(
                one["verdict"], f"whether {mine} ahead of {other} is open"
            )
            if "difference" not in one:
                said.append(f"{part}: {what}: no seed ended on both sides")
                continue
            chance = f"{one['chance']:.3f} by chance"
            said.append(f"{part}: {what}: {told['measure']} {one['difference']:+.3f} ({_range(one)}; {chance})")
    return said


def _splits(told: Told) -> list[str]:
    from tundish.pipeline.templates import counted
    from tundish.pipeline.tuned_beside import agreement

    over, standard = told["over_splits"], told["standard"]["pretrained"]
    if not standard or not over["pretrained"]:
        return ["splits: every run of a split failed"]
    many = len(told["random"])
    said = [
        f"{told['measure']} on {told['part']}: {standard['mean']:.3f} ({_range(standard)}, over seeds) on the standard "
        f"split, {over['pretrained']['mean']:.3f} ({_range(over['pretrained'])}, over splits) on "
        + counted(many, "random one", "random ones")
    ]
    if "keeps_its_sign" in told:
        gains = [one["difference"]["mean"] for one in (told["standard"], *told["random"]) if one.get("difference")]
        said.append(
            f"pretrained less fresh, split by split: {', '.join(f'{each:+.3f}' for each in gains)}: {agreement(told)}"
        )
    return said


def _code(told: Told) -> list[str]:
    said = []
    for name in ("pretrained", "fresh"):
        if name in told:
            bits, compression = told[name]["bits"], told[name]["compression"]
            said.append(
                f"labels of {told['examples']:,} examples sent in {bits['mean']:,.0f} bits from {name} weights, "
                f"where equal chances take {told['uniform']:,.0f}: "
                f"{compression['mean']:.3f} times as many ({_range(compression)})"
            )
    if "saved" in told:
        said.append(f"pretraining saves {told['saved']['mean']:z,.0f} bits ({_range(told['saved'], '{:z,.0f}')})")
    return said


def _range(told: Mapping[str, Any], form: str = "{:z.3f}") -> str:
    """
    >>> _range({"interval": [0.1, 0.25]}), _range({}), _range({"interval": [-0.4, 0.2]}, "{:z,.0f}")
    ('0.100 to 0.250', 'no interval', '0 to 0')
    """
    low, high = told.get("interval") or (None, None)
    return "no interval" if low is None else f"{form.format(low)} to {form.format(high)}"
