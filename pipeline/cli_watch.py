"""What looks at runs from outside: the dashboard for Grafana, and the file of metrics for who has no Ray."""

import contextlib
import os
from collections.abc import Iterator

import click

from tundish.cluster.verbs import Watch

NAME = "tundish_grafana_dashboard.json"  # in a folder, as Ray calls its own


@click.command("dashboard")
@click.option("--grafana", metavar="FILE|FOLDER", help="Write it there; in a folder as tundish_grafana_dashboard.json.")
def dashboard_command(grafana: str | None) -> None:
    """The Grafana dashboard of tundish's metrics, as JSON (default: to standard output)."""
    from tundish.cluster import dashboard

    if grafana is None:
        click.echo(dashboard.text(), nl=False)
        return
    path = os.path.join(grafana, NAME) if os.path.isdir(grafana) else grafana
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(dashboard.text())
    except OSError as error:
        raise ValueError(f"--grafana {grafana} cannot be written ({error.strerror}); give another place") from None
    click.echo(path)


@contextlib.contextmanager
def told_to(path: str | None, watch: Watch) -> Iterator[Watch]:
    """The same watch; what it is told is written to a file that Prometheus reads, if there is to be one."""
    if path is None:
        yield watch
        return
    from tundish.cluster.metrics import Observed
    from tundish.cluster.metrics_text import TextFile

    with TextFile(path) as sink:
        yield Observed(watch, sink)
