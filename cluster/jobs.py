"""Jobs: hand a command or a recipe to a Ray cluster, and see how it goes, through the dashboard of its head.

Promises: a job's id begins with the name of its recipe; a head that asks for a token gets the one Ray keeps on this
machine; what was chosen for the user (token, interpreter, what is uploaded) is said in one line. A head on this
machine reads the recipe and its files where they lie; one elsewhere is sent the recipe's folder, which becomes the
job's working directory, without the keys that lie in it (cluster/parcel), and this tundish as a wheel, which its driver
and workers import. Costs about 2 s a submission. Refuses, in one sentence, an address nobody answers at, a token that
does not fit, a folder too large to send, a root that would lie in the job's own temporary folder, and a credential:
whoever sees the dashboard would.

A job outlives the submitter, not the head; its root does, so the way back is to submit again.
Source: Ray 2.60, "Ray Jobs Overview" and "Token authentication".
"""

import asyncio
import contextlib
import difflib
import glob
import logging
import os
import re
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient
from ray.util.state import StateApiClient
from ray.util.state.common import ListApiOptions, StateResource

from tundish.cluster import handed, parcel, signing
from tundish.cluster.credentials import redacted
from tundish.cluster.wheel import built

LOUDER = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray would follow them instead of the address it was given
PATIENCE = 10.0  # seconds to wait for a stopped job to end, and for a new head to know its address
TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)

Note = Callable[[str], None]


def aloud(line: str) -> None:
    """One line to whoever sits at the terminal; standard output is for the job's id."""
    print(f"tundish: {line}", file=sys.stderr)


def submit(
    entrypoint: Sequence[str] | str,
    *,
    address: str,
    working_dir: str | None = None,
    env: Mapping[str, str] | None = None,
    name: str | None = None,
    metadata: Mapping[str, str] | None = None,
    wheel: bool = False,
    note: Note = aloud,
) -> str:
    """Start a command on the cluster whose dashboard is at `address`; returns the job's id, `<name>-<6 hex digits>`.

    A string is a line of shell, left as it is. Words are quoted, and a first word `python` becomes this interpreter
    when the head runs here; elsewhere it stays `python`, which is the one on the PATH of `ray start`. `wheel`: driver
    and workers import this tundish, sent along, and not the one that is installed there.
    """
    handed.harmless(entrypoint, env or {}, metadata or {})
    client = _client(address, note)
    if not isinstance(entrypoint, str):
        entrypoint = shlex.join(_with_interpreter(entrypoint, client, note))
    runtime: dict[str, Any] = {"env_vars": dict(env or {})}
    if working_dir is not None:
        goes = parcel.packed(Path(working_dir))
        runtime |= {"working_dir": working_dir, "excludes": goes.excludes}
        if goes.stays:
            note(f"of {working_dir} stays here: {goes.says()}")
    job = f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name or 'tundish')}-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory(prefix="tundish-") as folder, _asking(address):
        if wheel:
            made = built(Path(folder))
            runtime["py_modules"] = [str(made.path)]
            note(f"this tundish goes with the job: {made.path.name}, SHA-256 of its files {made.digest}")
        return client.submit_job(
            entrypoint=entrypoint, submission_id=job, runtime_env=runtime, metadata=dict(metadata or {})
        )


def submit_recipe(
    recipe: str,
    *,
    address: str,
    root: str,
    sets: Sequence[str] = (),
    until: str | None = None,
    sample: int | None = None,
    wire: Sequence[str] = (),
    trainers: int | str = 1,
    ship: bool | None = None,
    wheel: bool | None = None,
    note: Note = aloud,
) -> str:
    """Start `tundish run RECIPE` as a job that joins its cluster; returns the job's id, `tundish-<recipe>-<6 hex>`.

    `recipe` and `root` are paths or URIs. `ship`: send the recipe's folder along; `wheel`: and this tundish, as a
    wheel; unsaid, both when the head is elsewhere.
    """
    handed.harmless([recipe, root, *sets, *wire], {}, {})
    ship = not _here(_client(address, _silent)) if ship is None else ship
    root = _lasting(root, ship)
    lies, folder = recipe, None
    if "://" not in recipe:
        if not os.path.isfile(recipe):
            raise ValueError(f"there is no recipe {recipe!r}; check the path")
        lies = os.path.abspath(recipe)
        if ship:
            folder, lies = os.path.split(lies)
            _within(Path(folder), lies)
            note(f"the folder {folder} goes with the job")
    if signing.VARIABLE in os.environ:
        note(f"{signing.VARIABLE} stays here: sign what the job seals by `tundish verify {root} --sign`")
    options = [("--until", until), ("--sample", sample), *(("--set", s) for s in sets), *(("--wire", w) for w in wire)]
    words = ["python", "-m", "tundish.pipeline.cli", "run", lies, "--on", "auto", "--root", root]
    words += [str(word) for option, value in options if value is not None for word in (option, value)]
    return submit(
        [*words, "--trainers", str(trainers)],
        address=address,
        working_dir=folder,
        env=handed.variables(),
        name=f"tundish-{Path(lies).stem}",
        metadata={"recipe": recipe, "root": root},
        wheel=ship if wheel is None else wheel,
        note=note,
    )


def status(address: str, job: str | None = None) -> str | dict[str, str]:
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED; of every submitted job, the oldest first, without one."""
    client = _client(address, _silent)
    with _asking(address, client, job):
        if job is not None:
            return str(client.get_job_status(job).value)
        jobs = [told for told in client.list_jobs() if told.submission_id]
    return {str(told.submission_id): told.status.value for told in sorted(jobs, key=lambda told: told.start_time or 0)}


def logs(address: str, job: str, follow: bool = False) -> Iterator[str]:
    """What a job printed, in pieces with their line ends. `follow`: also what it prints until it has ended."""
    client = _client(address, _silent)
    with _asking(address, client, job):
        if not follow:
            yield from client.get_job_logs(job).splitlines(keepends=True)
            return
        client.get_job_status(job)  # an unknown job is refused; the stream of its log would merely end
        with asyncio.Runner() as loop, contextlib.closing(_stepped(client.tail_job_logs(job), loop)) as pieces:
            yield from pieces


def stop(address: str, job: str, wait: float = PATIENCE) -> str:
    """End a job: it may finish what it commits, and is killed after some seconds, as many as the head was started with
    (RAY_JOB_STOP_WAIT_TIME_S, else 3). Returns the state it came to, or is in still after `wait` seconds."""
    client = _client(address, _silent)
    with _asking(address, client, job):
        client.stop_job(job)
        until = time.monotonic() + wait
        while not (state := client.get_job_status(job)).is_terminal() and time.monotonic() < until:
            time.sleep(0.2)
        return str(state.value)


def _silent(line: str) -> None:
    """What was said when the job was submitted need not be said again."""


def _stepped(pieces: Any, loop: asyncio.Runner) -> Generator[str, None, None]:
    """An asynchronous iterator, step by step."""
    try:
        while True:
            try:
                yield loop.run(anext(pieces))
            except StopAsyncIteration:
                return
    finally:
        loop.run(pieces.aclose())


# -- the head: does it answer, does it ask for a token, is it here


def _client(address: str, note: Note) -> JobSubmissionClient:
    """The head's dashboard, with the token it asks for. The version it answers with is checked by Ray."""
    address = address if "://" in address else f"http://{address}"
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"{address!r} is no dashboard; jobs go to one such as http://127.0.0.1:8265")
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    with _asking(address), _unsaid(LOUDER):
        try:
            return JobSubmissionClient(address)
        except AuthenticationError:
            if os.environ.get("RAY_AUTH_MODE") or (held := _token()) is None:
                raise
            client = JobSubmissionClient(address, headers={"authorization": f"Bearer {held[1]}"})
            note(f"the cluster asks for a token; {held[0]} was sent (RAY_AUTH_MODE=token says so for ray's own tools)")
            return client


def _token() -> tuple[str, str] | None:
    """Where Ray has its token, and the token: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, else the file it keeps."""
    if said := os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN", said.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return (str(path), path.read_text().strip()) if path.is_file() else None


@contextlib.contextmanager
def _unsaid(names: Sequence[str]) -> Iterator[None]:
    """The environment without these variables, for as long as it takes."""
    held = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(held)


@contextlib.contextmanager
def _asking(address: str, client: JobSubmissionClient | None = None, job: str | None = None) -> Iterator[None]:
    """Ray's answers as sentences. What the user cannot mend goes up unchanged."""
    address = redacted(address)
    try:
        yield
    except AuthenticationError as error:
        if "Authentication failed" in str(error):
            raise ValueError(
                f"the cluster at {address} refuses the token; take the one of its head (`ray get-auth-token` there)"
            ) from None
        raise ValueError(
            f"the cluster at {address} asks for a token and there is none here; write the one of its head "
            "(`ray get-auth-token` there) into ~/.ray/auth_token, and unset RAY_AUTH_MODE"
        ) from None
    except RuntimeError as error:
        if client is None or job is None or "status code 404" not in str(error):
            raise
        raise ValueError(f"the cluster at {address} knows no job {job!r}{_nearest(client, job)}") from None
    except OSError as error:  # requests' errors are OSErrors too
        reason = redacted(re.sub(r"\s+", " ", str(error)).rstrip("."))
        raise ValueError(
            f"no Ray dashboard answers at {address} ({reason}); start a head with `ray start --head`, or check the port"
        ) from None


def _nearest(client: JobSubmissionClient, job: str) -> str:
    known = [told.submission_id for told in client.list_jobs() if told.submission_id]
    near = difflib.get_close_matches(job, known, 1, 0.0)
    return f"; did you mean {near[0]!r}?" if near else "; it has none yet"


def _here(client: JobSubmissionClient) -> bool:
    """Whether the head runs on this machine: by its own address, for a tunnel makes any head answer on loopback."""
    with _unsaid(LOUDER):
        state = StateApiClient(client.get_address(), headers=dict(client._headers))
    until = time.monotonic() + PATIENCE
    while not (heads := _heads(state)) and time.monotonic() < until:
        time.sleep(0.2)  # a head that has just come up takes jobs a little before it knows itself
    return bool(heads & {"127.0.0.1", "::1", ray.util.get_node_ip_address()})


def _heads(state: StateApiClient) -> set[str]:
    nodes: Any = state.list(StateResource.NODES, ListApiOptions(), raise_on_missing_output=False)
    return {node.node_ip for node in nodes if node.is_head_node and node.state == "ALIVE"}


def _with_interpreter(words: Sequence[str], client: JobSubmissionClient, note: Note) -> list[str]:
    if words[0] != "python":
        return list(words)
    if _here(client):
        note(f"the job runs with {sys.executable}")
        return [sys.executable, *words[1:]]
    note("the job runs with the `python` on the PATH of the head's `ray start`; what tundish needs has to be there")
    return list(words)


# -- what a job can reach, and what it must not show


def _lasting(root: str, elsewhere: bool) -> str:
    """The root as the job has to spell it."""
    if "://" in root or os.path.isabs(root):
        return root
    if elsewhere:
        raise ValueError(
            f"the root {root!r} would lie in the job's temporary folder; give a URI, or an absolute path on a disk "
            "that all machines of the cluster share"
        )
    return os.path.abspath(os.path.expanduser(root))


def _within(folder: Path, recipe: str) -> None:
    """Refuse a recipe that would stay here, and a YAML one that names what will not be there when its folder is sent
    alone: by `./` or `../`, or by a path that leads to something from where the command was given."""
    goes = parcel.packed(folder)
    if why := goes.keeps(recipe):
        raise ValueError(f"{recipe} would not go with the job ({why}); give the file itself, by a plain name")
    if not recipe.endswith((".yaml", ".yml")):
        return
    for text in _strings(yaml.safe_load((folder / recipe).read_text())):
        if not text.startswith(("./", "../")) and not _leads(folder, text):
            if _leads(Path.cwd(), text):
                raise ValueError(
                    f"{recipe} names {text!r}, which lies here and not beside the recipe, so it does not go with the "
                    "job; put it into the recipe's folder and name it by ./, or give a URI that the cluster reaches"
                )
            continue
        if not (folder / text).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{recipe} names {text!r}, which lies outside its folder and does not go with the job")
        if why := goes.keeps(os.path.normpath(text)):
            raise ValueError(
                f"{recipe} names {text!r}, which does not go with the job ({why}); give it another name, or a place "
                "that all machines of the cluster reach"
            )


def _leads(folder: Path, text: str) -> bool:
    """Whether a relative path, which may be a glob, leads to something from a folder; a mere word is no path."""
    if os.path.isabs(text) or "://" in text or not re.fullmatch(r"[^\n\0]{1,255}", text) or not re.search("[/.]", text):
        return False
    return next(glob.iglob(text, root_dir=folder, recursive=True), None) is not None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(inner)
