"""The command that fine-tunes a model on labelled files, with honest numbers at its end."""

import json
import re
from functools import partial
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tundish.pipeline import cli_company, cli_search, tuned_classes, tuned_training
from tundish.pipeline.cli_options import ERR, Trainers, cluster_of, laid_folder, named_tests
from tundish.pipeline.cli_reading import COLUMNS, with_reading
from tundish.pipeline.cli_writing import with_writing, written_so

OUT = Console(emoji=False)
KINDS = ("classify", "multilabel", "regress", "tag", "answer", "embed", "write")
INTERVAL = "95 % over seeds\n(one test set)"  # other examples would move it further
COMMON = {  # what the majority is
    "classify": "the most frequent class",
    "multilabel": "the most frequent labels",
    "regress": "the mean",
    "tag": "the most frequent tag",
    "answer": "no answer",
    "write": "the first sentence",
}


@click.command("finetune")
@click.argument("model", metavar="FOLDER")
@click.option("--task", "kind", type=click.Choice(KINDS), default="classify", show_default=True)
@click.option("--train", multiple=True, required=True, metavar="FILE")
@click.option("--dev", multiple=True, metavar="FILE", help="Without it a tenth of train.")
@click.option(
    "--test", multiple=True, metavar="[NAME=]FILE", help="Without it a fifth of train; several are told side by side."
)
@click.option("--column", "columns", multiple=True, metavar="ROLE=COLUMN", help=COLUMNS)
@click.option("--out", required=True, metavar="DIR")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True)
@click.option("--lr", type=float, default=0.0, help="At its peak (default: by the model's size).")
@click.option("--length", type=click.IntRange(0), default=0, help="Tokens of a text (default: what the model reads).")
@click.option(
    "--pooling", type=click.Choice(["mean", "cls", "last"]), help="Of states (default: as the model's family has it)."
)
@click.option("--sizes", default="", metavar="N,N", help="Also learn from so many examples only: a curve.")
@click.option("--aid", "aids", multiple=True, metavar="NAME=VALUE", help="See docs/finetune.md, such as rdrop=1.")
@click.option("--fresh/--no-fresh", default=True, show_default=True, help="Beside it, the same from fresh weights.")
@click.option("--apart", is_flag=True, help="Texts of the tests leave train.")
@click.option("--slice", "slices", multiple=True, metavar="COLUMN", help="Also score by the values of this column.")
@click.option("--on", default="local", show_default=True, help="local | ray (started here) | ADDRESS of a Ray cluster.")
@click.option("--trainers", type=Trainers(), default="1", show_default=True, help="Workers that share the runs.")
@click.option("--json", "as_json", is_flag=True)
@with_reading
@with_writing
@cli_search.with_search
@cli_company.with_company
def finetune_command(
    model: str, kind: str, train: tuple[str, ...], dev: tuple[str, ...], test: tuple[str, ...],
    columns: tuple[str, ...], out: str, seeds: int, epochs: int, batch: int, lr: float, length: int,
    pooling: str | None, sizes: str, aids: tuple[str, ...], fresh: bool, apart: bool, slices: tuple[str, ...], on: str,
    trainers: tuple[int, int], as_json: bool, reading: dict[str, Any], writing: dict[str, Any],
    wanted: cli_search.Wanted, company: cli_company.Wanted,
) -> None:  # fmt: skip
    """Fine-tune a model on labelled files: several seeds, intervals, calibration, beside the majority.

    FOLDER holds weights and their tokenizer: what `tundish export` wrote, what a training left, one of Hugging Face's,
    or a model that was fine-tuned, whose head is left out.
    """
    asked = {
        "aids": aids_of(aids), "seeds": tuple(range(1, seeds + 1)), "epochs": epochs, "batch": batch, "lr": lr,
        "pooling": pooling or "", "scratch": fresh, "sizes": sizes_of(sizes), **written_so(writing),
    }  # fmt: skip
    files: dict[str, Any] = {"train": list(train), **({"dev": list(dev)} if dev else {}), **named_tests(test)}
    own = columns_of(columns)
    cli_search.refuse(wanted, kind, on, tests=[name for name in files if name not in ("train", "dev")] or ["test"])
    refuse(kind, files, asked)
    if reading and company.corpus:
        raise ValueError("--corpus reads files as they are by default; save them as UTF-8 with commas or tabs")
    from tundish.cluster import store
    from tundish.pipeline.progress import Progressed
    from tundish.pipeline.tuned_page import page
    from tundish.stages.finetune_beside import keep
    from tundish.stages.finetune_files import prepared
    from tundish.stages.finetune_runs import tune
    from tundish.stages.finetune_splits import divided

    laid_folder(out)
    given = {"columns": own, "length": length, "apart": apart, "options": reading}
    task, report = prepared(model, kind, files, out, guarded=True, **given, **asked)
    keep(task, files, own, [column_of(each) for each in slices], **reading)
    cli_search.comparable(task, wanted)
    task, odd = cli_company.joined(task, company, files, splits=wanted.splits, **given)
    others = cli_company.on_split(model, company, length, apart)
    for sentence in filter(None, [tuned_classes.line(report), *report["told"], *odd]):
        ERR.print(sentence, highlight=False, soft_wrap=True, markup=False)
    with Progressed(ERR, quiet=as_json) as shown, cluster_of(on, None, shown.watch) as bring:
        cluster = bring()
        task, found, trials = cli_search.searched(task, wanted, cluster, trainers)
        cluster.gang("Finetune", partial(tune, task), size=trainers[1], least=trainers[0])
        again = partial(divided, task, files, others=others, **given)
        found |= cli_search.beside(task, wanted, cluster, trainers, again, trials)
        found |= cli_company.told(task, company, files, own, cluster)
    result = store.read_json(store.join(out, "result.json")) | found
    result |= {"f1_of": result["names"][1]} if kind == "classify" and len(result["names"]) == 2 else {}
    store.write_json(store.join(out, "result.json"), result)
    seen = page(out)
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
    else:
        OUT.print(table_of(result))
        said = fallen(result) + besides(result) + cli_search.lines(result)
        for line in [*said, *cli_company.lines(result), *tuned_training.lines(result), f"the page: {seen}"]:
            OUT.print(line, highlight=False, soft_wrap=True, markup=False)
    if result["kept"] is None:
        ERR.print(f"no run ended with weights, so {out} holds no model; lower --lr", highlight=False, soft_wrap=True)
        click.get_current_context().exit(1)


def refuse(kind: str, files: dict[str, Any], asked: dict[str, Any]) -> None:
    """What cannot be, before torch is there: it takes seconds to come."""
    from tundish.stages.examples_files import files_of
    from tundish.stages.finetune_task import TuneTask

    parts = dict.fromkeys(("train", "dev", *files), "")
    TuneTask("", kind, parts, {}, "", **asked)
    for given in files.values():
        files_of(given)


def sizes_of(given: str) -> tuple[int, ...]:
    """Numbers of examples, parted by commas.

    >>> sizes_of("100,200"), sizes_of("")
    ((100, 200), ())
    """
    each = [one.strip() for one in given.split(",") if one.strip()]
    if wrong := [one for one in each if not one.isdecimal() or int(one) < 1]:
        raise ValueError(f"--sizes has {wrong[0]!r}, which is no number of examples; write such as 100,200,400")
    return tuple(map(int, each))


def columns_of(given: tuple[str, ...]) -> dict[str, Any]:
    """Roles and their columns, by name or number.

    >>> columns_of(("text=sentence", "label=3"))
    {'text': 'sentence', 'label': 3}
    """
    found: dict[str, Any] = {}
    for one in given:
        role, sign, column = one.partition("=")
        if not sign or not role or not column:
            raise ValueError(f"--column {one!r} is not understood; write it as role=column, such as text=sentence")
        found[role] = column_of(column)
    return found


def column_of(given: str) -> str | int:
    """A column by its name, or by its number.

    >>> column_of("genre"), column_of("-1")
    ('genre', -1)
    """
    return int(given) if re.fullmatch("-?[0-9]+", given) else given


def aids_of(given: tuple[str, ...]) -> Any:
    """Training aids by name, each as its field is."""
    from tundish.stages import finetune_task

    parted = [one.partition("=") for one in given]
    if odd := ["".join(one) for one in parted if not one[1]]:
        raise ValueError(f"--aid {odd[0]!r} is not understood; write it as name=value, such as rdrop=1")
    return finetune_task.aids_of({name: value for name, _, value in parted})


def table_of(result: dict[str, Any]) -> Table:
    """A row for each measure of each tested part: mean and interval, beside fresh weights and the majority. Where every
    run failed, one row of dashes a part."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("part", "measure", "mean", INTERVAL, "fresh", "majority", "failed"):
        table.add_column(name, justify="left" if name in ("part", "measure") else "right", no_wrap=True)
    for part in result["tested"]:
        told = result["parts"][part]
        measures = sorted(_measures(told["pretrained"]), key=lambda e: e[0] != result["measure"])
        if not measures:
            table.add_row(*_dashes(part, result))
        for at, (measure, one) in enumerate(measures):
            low, high = one.get("interval", (None, None))
            between = "one seed" if low is None else tuned_training.equal(one) or f"{low:.3f} to {high:.3f}"
            fresh = told.get("fresh", {}).get(measure)
            common = (told["majority"] or {}).get(measure)
            lost = told["pretrained"].get("failed")
            table.add_row(
                part if not at else "", _called(measure, result), tuned_training.mean_of(one), between,
                "" if fresh is None else f"{fresh['mean']:.3f}", "" if common is None else f"{common:.3f}",
                f"{lost['runs']} of {lost['of']}" if lost and not at else "",
            )  # fmt: skip
    return table


def _dashes(part: str, result: dict[str, Any]) -> list[str]:
    """Of a part that no run from pretrained weights can say anything of."""
    told, measure = result["parts"][part], result["measure"]
    runs = [run for run in result["runs"] if run["pretrained"] and not run["size"]]
    fresh = told.get("fresh", {}).get(measure)
    common = (told["majority"] or {}).get(measure)
    beside = ["–" if one is None else f"{one:.3f}" for one in (fresh and fresh["mean"], common)]
    return [part, _called(measure, result), "–", "–", *beside, f"{len(runs)} of {len(runs)}"]


def _measures(told: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, one) for name, one in told.items() if isinstance(one, dict) and "mean" in one]


def _called(measure: str, result: dict[str, Any]) -> str:
    """Of two classes F1 is that of the second; whose it is, is said."""
    return f"f1 of {result['f1_of']}" if measure == "f1" and "f1_of" in result else measure


def fallen(result: dict[str, Any]) -> list[str]:
    """The seeds whose run failed, and those that answer no better than the majority does."""
    lines, measure = [], result["measure"]
    for start, weights in ((True, "pretrained weights"), (False, "fresh weights")):
        runs = [run for run in result["runs"] if run["pretrained"] == start and not run["size"]]
        lines += [f"{weights}: seed {run['seed']} failed: {run['failed']}" for run in runs if run["failed"]]
        for part in result["tested"]:
            common = (result["parts"][part]["majority"] or {}).get(measure)
            held = [run for run in runs if not run["failed"] and common is not None]
            if low := [str(run["seed"]) for run in held if not run["scores"][part][measure] > common]:
                which = f"{len(low)} of {tuned_training.counted(len(runs), 'seed')} ({', '.join(low)})"
                lines.append(
                    f"{weights}, {part}: {which} no better than {COMMON[result['task']]} ({measure} {common:.3f})"
                )
    return lines


def besides(result: dict[str, Any]) -> list[str]:
    """Calibration, and the curve."""
    lines = []
    for part, told in result.get("calibration", {}).items():
        before = told["before"]["expected_error"]["mean"]
        after = told.get("after", {}).get("expected_error", {}).get("mean")
        heats, none = told.get("temperatures", []), tuned_training.unfitted(told)
        fitted = after is not None and told.get("unfitted", 0) < len(heats)
        heat = sum(heats) / max(1, len(heats))
        scaled = f", {after:.3f} at a temperature of {heat:.2f} (fitted on dev)" if fitted else ""
        rest = [why for why in (none, told.get("unjudged") and f"not judged after scaling: {told['unjudged']}") if why]
        lines.append("; ".join([f"{part}: expected calibration error {before:.3f}{scaled}", *rest]))
    for kind, points in result.get("curve", {}).items():
        said = ", ".join(f"{point['mean']:.3f} of {tuned_training.sized(point)}" for point in points)
        lines.append(f"{result['measure']} by examples, {kind}: {said}")
    return lines
