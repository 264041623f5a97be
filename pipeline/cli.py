"""The command line. Errors are one sentence of what was wrong and one of what to do: exit code 2 for the user's input,
1 for a failure, 130 when stopped; no traceback for the user's mistake (`TUNDISH_TRACE=1` shows it)."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator

import click

from tundish.cluster.credentials import redacted
from tundish.cluster.wish import interrupts
from tundish.pipeline.cli_compress import compress_command
from tundish.pipeline.cli_contaminated import contaminated_command
from tundish.pipeline.cli_evaluate import evaluate_command
from tundish.pipeline.cli_export import export_command
from tundish.pipeline.cli_export_corpus import export_of
from tundish.pipeline.cli_finetune import finetune_command
from tundish.pipeline.cli_follow import follow_command
from tundish.pipeline.cli_language import train_language_command
from tundish.pipeline.cli_looks import drift_command, page_command, replay_command, report_command, why_command
from tundish.pipeline.cli_options import ERR, OUT, Trainers, cluster_of, loaded, settings_of, spelled, with_recipe
from tundish.pipeline.cli_plan import plan_command
from tundish.pipeline.cli_predict import predict_command
from tundish.pipeline.cli_stream import stream_command
from tundish.pipeline.cli_vocabulary import vocabulary_command
from tundish.pipeline.cli_watch import dashboard_command, told_to


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tundish")
def cli() -> None:
    """From the web to a clean corpus to a language model."""


@cli.command("run")
@with_recipe
@click.option("--until", help="Stop after the stages of this name.")
@click.option("--on", default="ray", show_default=True, help="local | ray (started here) | ADDRESS of a Ray cluster.")
@click.option(
    "--workers", type=click.IntRange(1), help="Processes on this machine (default: its CPUs on ray, 1 on local)."
)
@click.option(
    "--trainers", type=Trainers(), default="1", show_default=True,
    help="Workers that train together; 2-8 on Ray: as many of them as there is room for, while it lasts.",
)  # fmt: skip
@click.option("--metrics", metavar="FILE.prom", help="Keep metrics there too, for node_exporter.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
def run_command(
    recipe: str, root: str, sets: tuple[str, ...], sample: int | None, wire: tuple[str, ...], until: str | None,
    on: str, workers: int | None, trainers: tuple[int, int], metrics: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Run a recipe: what is current is kept, what was interrupted goes on."""
    from tundish.pipeline import spoken
    from tundish.pipeline.funnel import funnel
    from tundish.pipeline.progress import Progressed
    from tundish.pipeline.run import run
    from tundish.pipeline.table import table

    goal, settings = loaded(recipe, sets, sample), settings_of(wire, trainers)
    try:
        with (
            Progressed(ERR, quiet=as_json) as shown,
            told_to(metrics, shown.watch) as watch,
            cluster_of(on, workers, watch) as bring,
        ):
            outcome = run(goal, bring, root, settings=settings, until=until, say=shown.say)
    except ValueError:  # refused, maybe for what was lost: by which rule, then
        spoken.decided(OUT, root, {stage.address for stage in goal.walk()}, {} if as_json else None)
        raise
    told = {a: {"rows": d.rows, "digest": d.digest, "uri": d.uri} for a, d in outcome.datasets.items()}
    value = {"goal": outcome.goal.address, "datasets": told, "seconds": outcome.seconds}
    if not as_json:
        OUT.print(table(funnel(root)))
        spoken.quarantined(OUT, root)
        spoken.trained(OUT, {address: outcome.datasets[address] for address in outcome.seconds})
    spoken.decided(OUT, root, outcome.datasets, value if as_json else None)


@cli.command("stage")
@click.argument("name")
@click.argument("files", nargs=-1, required=True)
@click.option("--set", "sets", multiple=True, metavar="STAGE.FIELD=VALUE")
@click.option(
    "--rows", type=click.IntRange(1), default=100, show_default=True, help="At most this many rows of each file."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row.")
def stage_command(name: str, files: tuple[str, ...], sets: tuple[str, ...], rows: int, as_json: bool) -> None:
    """One stage on local files, printed as a table (no Ray)."""
    from tundish.pipeline import recipe, sample

    table = sample.station(name, files, lambda goal: recipe.changed(goal, sets), rows)
    if as_json:
        for row in table.to_pylist():
            click.echo(
                json.dumps(row, default=lambda v: v.hex() if isinstance(v, bytes) else str(v), ensure_ascii=False)
            )
        return
    OUT.print(sample.printed(name, table))


LOOKS = (plan_command, report_command, drift_command, why_command, page_command, replay_command)
MODELS = (finetune_command, compress_command, predict_command, evaluate_command, contaminated_command)
for command in (
    *LOOKS,
    *MODELS,
    export_of(export_command),
    train_language_command,
    vocabulary_command,
    stream_command,
    follow_command,
    dashboard_command,
):
    cli.add_command(command)


@cli.command("verify")
@click.argument("root")
@click.option("--key", default="", metavar="PUB", help="Also every manifest against its signature by this key (PEM).")
@click.option("--sign", is_flag=True, help="Sign what was found whole with the key in TUNDISH_SIGNING_KEY.")
def verify_command(root: str, key: str, sign: bool) -> None:
    """Every shard against its manifest, and that no dataset is gone."""
    from tundish.pipeline import verify as verifying

    count = verifying.sign(root) if sign else 0
    if (key or not sign) and (wrong := verifying.verify(root, key)):
        raise ValueError("; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""))
    click.echo("every shard matches its manifest" + (", every manifest its signature" if key else ""))
    if sign:
        click.echo(f"{count} manifests are signed")
    for sentence in verifying.unknown(root):
        click.echo(f"not known: {sentence}")


@cli.command("forget")
@click.argument("root")
@click.argument("what", metavar="DOMAIN|URL|ID...", nargs=-1)
@click.option("--reason", default="", help="Why, for the ledger.")
@click.option("--dry-run", "dry", is_flag=True, help="Say what would go, and leave it.")
@click.option("--json", "as_json", is_flag=True)
def forget_command(root: str, what: tuple[str, ...], reason: str, dry: bool, as_json: bool) -> None:
    """Take documents out of a root, for good: of a domain, a URL or an id. Without one, go on where it was stopped."""
    from tundish.pipeline.forget import forget
    from tundish.pipeline.forget_told import told

    answer = forget(root, what, reason=reason, dry=dry)
    click.echo(json.dumps(answer, indent=1, ensure_ascii=False)) if as_json else told(answer, OUT)


@cli.command("prune")
@click.argument("root")
@click.option("--keep", default=1, show_default=True, help="Runs whose stages stay.")
@click.option("--dry", is_flag=True, help="Say what would go, and leave it.")
def prune_command(root: str, keep: int, dry: bool) -> None:
    """Remove what no kept run refers to."""
    from tundish.pipeline.prune import prune

    gone = prune(root, keep_runs=keep, dry=dry)
    for name, size in gone:
        click.echo(f"{'would remove' if dry else 'removed'} {name} ({size / 1e6:.1f} MB)")
    click.echo(f"{len(gone)} entries, {sum(size for _, size in gone) / 1e6:.1f} MB")


@cli.command("submit")
@with_recipe
@click.option("--address", required=True, help="The cluster's dashboard, such as http://127.0.0.1:8265.")
@click.option("--until", help="Stop after the stages of this name.")
@click.option("--trainers", type=Trainers(), default="1", show_default=True)
@click.option("--follow", is_flag=True, help="Print the job's log until it ends.")
@click.option(
    "--wheel/--no-wheel", default=None, help="Send this tundish along (default: when the head is another machine)."
)
def submit_command(
    recipe: str, root: str, sets: tuple[str, ...], sample: int | None, wire: tuple[str, ...], address: str,
    until: str | None, trainers: tuple[int, int], follow: bool, wheel: bool | None,
) -> None:  # fmt: skip
    """Hand a recipe to a Ray cluster as a job."""
    from tundish.cluster import jobs
    from tundish.pipeline.run import wanted_of

    # what a run would refuse is refused here, not on a cluster that starts for it
    wanted_of(loaded(recipe, sets, sample), until)
    settings_of(wire, trainers)
    job = jobs.submit_recipe(
        recipe, address=address, root=root, sets=sets, until=until, sample=sample, wire=wire,
        trainers=spelled(trainers), wheel=wheel,
    )  # fmt: skip
    click.echo(job)
    if follow:
        with _runs_on(job, address):
            for line in jobs.logs(address, job, follow=True):
                click.echo(line, nl=False)
            state = jobs.status(address, job)
        click.echo(f"{job} {state}")
        if state != "SUCCEEDED":
            sys.exit(1)


@cli.command("status")
@click.argument("job", required=False)
@click.option("--address", required=True)
def status_command(job: str | None, address: str) -> None:
    """How a job stands; all jobs without one."""
    from tundish.cluster import jobs

    told = jobs.status(address, job)
    click.echo(told if isinstance(told, str) else "\n".join(f"{name} {state}" for name, state in told.items()))


@cli.command("logs")
@click.argument("job")
@click.option("--address", required=True)
@click.option("--follow", is_flag=True)
def logs_command(job: str, address: str, follow: bool) -> None:
    """What a job printed."""
    from tundish.cluster import jobs

    with _runs_on(job, address) if follow else contextlib.nullcontext():
        for line in jobs.logs(address, job, follow=follow):
            click.echo(line, nl=False)


@contextlib.contextmanager
def _runs_on(job: str, address: str) -> Iterator[None]:
    """Who looks away from a job does not end it: Ctrl-C says how to look again."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{job} runs on; `tundish logs {job} --address {address} --follow` shows it again, "
            f"`tundish stop {job} --address {address}` stops it"
        ) from None


@cli.command("stop")
@click.argument("job")
@click.option("--address", required=True)
@click.option(
    "--wait", type=click.FloatRange(0), default=10.0, show_default=True, metavar="SECONDS",
    help="For it to end; a training saves first.",
)  # fmt: skip
def stop_command(job: str, address: str, wait: float) -> None:
    """Stop a job; its root can be gone on with."""
    from tundish.cluster import jobs

    state = jobs.stop(address, job, wait)
    click.echo(f"{job} {state}")
    if state not in ("STOPPED", "SUCCEEDED", "FAILED"):
        _end(
            f"{job} was asked to stop and is still at work, as a training that saves first is; ask for its status "
            "again (its head kills it RAY_JOB_STOP_WAIT_TIME_S seconds after it was asked)",
            1,
        )


def main() -> None:
    """The entry point of `tundish`."""
    interrupts()
    call(sys.argv[1:])


def call(words: list[str]) -> None:
    """One command; errors become sentences and exit codes."""
    try:
        cli.main(words, prog_name="tundish", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt) as stop:  # a training says where it lies
        _end(str(stop.__cause__ or stop) or "stopped; run the same command again to go on from here", 130)
    except click.ClickException as error:
        error.message = redacted(error.message)
        error.show()
        sys.exit(2)
    except ValueError as error:
        _end(str(error), 2)
    except Exception as error:
        _end(f"{type(error).__name__}: {(str(error).strip() or 'no more is known').splitlines()[0][:400]}", 1)


def _end(sentence: str, code: int) -> None:
    if os.environ.get("TUNDISH_TRACE") == "1":
        with ERR.capture() as trace:
            ERR.print_exception()
        ERR.file.write(redacted(trace.get()))
    ERR.print(f"tundish: {redacted(sentence)}", highlight=False, markup=False, soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
