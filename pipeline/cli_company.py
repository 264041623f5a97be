"""What a fine-tuning may have for company: other tasks on its trunk, and the corpus that its model was trained on.

    nli: {task: classify, train: nli.tsv, columns: {text: sentence1, second: sentence2, label: gold}}
    ner: {task: tag, train: [a.conll, b.conll], dev: dev.conll}

is a file of other tasks, YAML or JSON; paths are those of the command line. `task` is classify unless said, columns as
`--column` has them. Told in the terminal, and in `result.json` under `mixing`, `beside`, `gain` and `contamination`.
Refuses what is no mapping of names to tasks, with the file.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import click
import yaml

from tundish.cluster import store
from tundish.pipeline.contaminated_told import lines_of
from tundish.pipeline.tuned_training import leaks, ranged
from tundish.stages.finetune_task import MEASURES

OPTIONS = (
    click.option("--beside", metavar="FILE", help="Other tasks that learn on the same trunk (docs/finetune.md)."),
    click.option("--mixing", default="proportional", show_default=True, metavar="HOW[=N]", help="Of the tasks."),
    click.option("--corpus", metavar="ROOT", help="Tell which tested texts this root's model was trained on."),
)
Told = dict[str, Any]


class Wanted(NamedTuple):
    beside: str | None = None
    mixing: str = "proportional"
    corpus: str | None = None


def with_company(command: Callable[..., Any]) -> Callable[..., Any]:
    """These options, given to the command together: `company`."""

    @functools.wraps(command)
    def taking(**given: Any) -> Any:
        return command(company=Wanted(*(given.pop(name) for name in Wanted._fields)), **given)

    for option in reversed(OPTIONS):
        taking = option(taking)
    return taking


def joined(
    task: Any,
    wanted: Wanted,
    files: Mapping[str, Any],
    *,
    columns: Mapping[str, Any] | None = None,
    length: int = 0,
    apart: bool = False,
    options: Mapping[str, Any] | None = None,
    splits: int = 0,
) -> tuple[Any, list[str]]:
    """The task with the others beside it, and what is to be said of them; the task itself where none was named. `files`
    and the rest as `finetune_files.prepared` had them; `splits`: how many random ones are made too. A root without a
    corpus is refused here, before anything is trained."""
    from tundish.stages.examples_checks import parts
    from tundish.stages.finetune_files import split
    from tundish.stages.finetune_mixed import mixed, planned
    from tundish.stages.finetune_others import drawn_from, mixing_of, others_of

    if wanted.corpus is not None:
        from tundish.pipeline.contaminated import looked_in

        looked_in(wanted.corpus)
    mixing = mixing_of(wanted.mixing)
    if wanted.beside is None:
        if wanted.mixing != Wanted().mixing:
            raise ValueError(f"--mixing {wanted.mixing} mixes tasks, and there is one; name others with --beside FILE")
        return task, []
    own, _ = split(parts(task.kind, files, columns, **(options or {})), apart=apart)
    others, odd = others_of(task.model, read_tasks(wanted.beside), task.out, length=length, of=own, apart=apart)
    made = mixed(task, others, mixing)
    odd += drawn_from(others, own) if splits and not apart else []
    steps = ", ".join(f"{count:,} of {name}" for name, count in planned(made).items())
    return made, [*odd, f"beside its own steps a run takes {steps}"]


def on_split(model: str, wanted: Wanted, length: int, apart: bool) -> Callable[[Mapping[str, Any], str], Any] | None:
    """The others beside a random split of these parts, laid under a folder; None where they are those of the standard
    split: there are none, or nothing leaves their trains."""
    if wanted.beside is None or not apart:
        return None
    from tundish.stages.finetune_others import others_of

    written = read_tasks(wanted.beside)
    return lambda found, out: others_of(model, written, out, length=length, of=found, apart=True)[0]


def read_tasks(uri: str) -> Told:
    """The tasks of a file, by name."""
    try:
        found = yaml.safe_load(store.read(uri).decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{uri} cannot be read ({' '.join(str(error).split())[:200]}); write YAML or JSON") from None
    if not isinstance(found, Mapping) or not found:
        raise ValueError(
            f"{uri} names no tasks; write a line for each, such as nli: {{task: classify, train: nli.tsv}}"
        )
    return {str(name): one for name, one in found.items()}


def told(task: Any, wanted: Wanted, files: Mapping[str, Any], columns: Mapping[str, Any], cluster: Any) -> Told:
    """What the company of a task came to, whose runs are made."""
    from tundish.stages.finetune_mixed import MixedTask
    from tundish.stages.finetune_mixed import told as beside

    found: Told = beside(task) if isinstance(task, MixedTask) else {}
    if wanted.corpus is not None:
        from tundish.pipeline.contaminated import of_tuned

        found["contamination"] = of_tuned(wanted.corpus, task, files, columns, cluster)
    return found


def lines(result: Mapping[str, Any]) -> list[str]:
    """For a terminal: what other tasks came to on their dev parts, the gain of the one that counts, contamination."""
    said = []
    for name, one in result.get("beside", {}).items():
        measure = MEASURES[one["task"]]
        said.append(f"beside, {name}: {measure} {ranged(one['dev'][measure], '.3f')} on dev, {one['steps']:,} steps")
    for part, measures in result.get("gain", {}).items():
        if part in result["tested"]:
            gain = ranged(measures[result["measure"]], "+.3f")
            said.append(f"gain over the same training alone, {part}: {result['measure']} {gain}")
    said += leaks(result)
    return said + (lines_of(result["contamination"]) if "contamination" in result else [])
