"""The verbs on Ray. A task is given the name of a shard; no payload passes the driver or the object store.

Promises: the bytes of `cluster/local`; worker and node loss are Ray's to repair, driver loss is repaired by commits;
tasks that drag are run twice (cluster/ray_tasks); workers read the stores this process reads (cluster/handed). Tasks
carry the stage's name, so the dashboard's page of the job shows the stages. Refuses a cluster that could never have
room for its gang, in one sentence.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from tundish.cluster import handed
from tundish.cluster.dragging import DRAGS
from tundish.cluster.ray_gang import run_gang
from tundish.cluster.ray_metrics import observed
from tundish.cluster.ray_tasks import Copies, each
from tundish.cluster.verbs import Keeper, Restart, Status, Watch, quiet, unwatched
from tundish.cluster.wire import answers
from tundish.cluster.wish import interrupted_still

POLL = 0.5  # seconds between looks at the keepers
TOKEN = os.path.join(os.path.expanduser("~"), ".ray", "auth_token")
WORKER_ENV = {"OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1", "RAY_TRAIN_ENABLE_STATE_TRACKING": "1"}


def workers_env() -> dict[str, str]:
    """What workers get: what keeps them to one thread, and what this process was told of stores, disks and caches; not
    what the job gave them that this process drives."""
    given = handed.of_job()
    return {name: text for name, text in (WORKER_ENV | handed.variables()).items() if name not in given}


def _without_largest_node() -> float:
    """CPUs of the cluster less those of its largest node; of a single node all."""
    cpus = sorted(node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"])
    return float(sum(cpus[:-1]) or cpus[-1])


@dataclass
class OnRay:
    """`address=None` starts a Ray in this machine; else joins the one there. Use as a context manager."""

    address: str | None = None
    cpus: int | None = None
    dashboard: bool = True
    watch: Watch = unwatched
    scratch: str = field(default_factory=lambda: os.path.join(os.path.expanduser("~"), ".cache", "tundish", "ray"))
    temporary: str | None = None  # Ray's own folder, when it is started here
    dashboard_url: str | None = None
    note: str = ""  # what a visitor of the dashboard has to know
    patience: float = DRAGS  # seconds at least that a task may drag before a second copy of it is begun
    gpu_share: float | None = None  # of a GPU for a task that wants one: asked for even where none is there yet
    copies: Copies = field(default_factory=Copies)  # second copies so far

    def __enter__(self) -> "OnRay":
        quiet_logs = {"logging_level": "ERROR", "log_to_driver": os.environ.get("TUNDISH_RAY_LOGS") == "1"}
        runtime = {"env_vars": workers_env()}
        os.environ["RAY_TRAIN_ENABLE_STATE_TRACKING"] = "1"
        with interrupted_still():
            context = self._begun(runtime, quiet_logs) if self.address is None else self._join(runtime, quiet_logs)
        self.dashboard_url = context.dashboard_url or None
        if os.environ.get("RAY_AUTH_MODE") != "disabled" and os.path.exists(TOKEN):
            self.note = f" (it asks for the token in {TOKEN})"
        self.watch = observed(self.watch)
        self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self.nodes = sum(node["Alive"] for node in ray.nodes())
        logging.getLogger("ray.train").setLevel(logging.ERROR)
        return self

    def _begun(self, runtime: dict[str, Any], quiet_logs: dict[str, Any]) -> Any:
        told = {"num_cpus": self.cpus, "include_dashboard": self.dashboard, "_temp_dir": self.temporary}
        return ray.init(address="local", runtime_env=runtime, **told, **quiet_logs)

    def _join(self, runtime: dict[str, Any], quiet_logs: dict[str, Any]) -> Any:
        knock = str(self.address).removeprefix("ray://")
        if ":" in knock and not answers(knock):  # Ray itself would go on asking for minutes
            raise ValueError(
                f"nobody answers at {self.address!r}; start a Ray with `ray start --head`, or use --on ray"
            )
        try:
            return ray.init(address=self.address, runtime_env=runtime, **quiet_logs)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"no Ray answers at {self.address!r} ({reason}); start one with `ray start --head`, or use --on ray"
            ) from None

    def __exit__(self, *_: object) -> None:
        ray.shutdown()

    def each(self, stage: str, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """`work(item)` for every item, in whatever order they end. Idle workers are used again from stage to stage."""
        yield from each(stage, work, items, patience=self.patience, copies=self.copies, gpu_share=self.gpu_share)

    def attend(
        self, stage: str, make: Callable[[int], Keeper], *, parts: int, stop: Callable[[list[Status]], bool]
    ) -> list[Any]:
        """Named actors with unlimited restarts, one a part, on as many nodes as there are; a restarted keeper goes on
        from what it had committed. They claim what is left without the largest node, so that they outlive any one."""
        run = f"{stage}-{os.getpid()}-{int(time.time())}"
        share = max(0.01, min(1.0, 0.9 * _without_largest_node() / parts))
        names = [f"{run}-{part}" for part in range(parts)]
        packed, claims = ray.cloudpickle.dumps(make), {"num_cpus": share, "scheduling_strategy": "SPREAD"}
        actors = [
            KeeperActor.options(name=name, **claims).remote(packed, part, names) for part, name in enumerate(names)
        ]
        working = [actor.work.remote() for actor in actors]
        before: list[Status] | None = None
        looked = _Looked(actors)
        try:
            while True:
                now = looked.now()
                if ended := ray.wait(working, num_returns=len(working), timeout=0)[0]:
                    ray.get(ended)
                done, queued = sum(s.done for s in now), sum(s.queued for s in now)
                self.watch(stage, done, done + queued, None)
                if quiet(now, before) or stop(now):
                    return ray.get([actor.close.remote() for actor in actors])
                before = now
                time.sleep(POLL)
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        finally:
            for actor in actors:
                with contextlib.suppress(Exception):
                    ray.kill(actor)

    def gang(self, stage: str, fn: Callable[..., None], *, size: int, least: int = 0) -> None:
        """Ray Train's torch workers; `size=0` runs in this process without Ray."""
        if size == 0:
            fn(0, 1, lambda row: None)
            return
        run_gang(stage, fn, size=size, least=least, cpus=self.workers, scratch=self.scratch, watch=self.watch)


class _Looked:
    """The last that was heard of each keeper; one that does not answer, because it is being restarted, is not idle."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self.actors = actors
        self.asked: dict[int, Any] = {}
        self.heard = [Status(idle=False)] * len(actors)

    def now(self) -> list[Status]:
        """After half a second at most."""
        for part, actor in enumerate(self.actors):
            if part not in self.asked:
                self.asked[part] = actor.status.remote()
        ray.wait(list(self.asked.values()), num_returns=len(self.asked), timeout=POLL)
        for part, asked in list(self.asked.items()):
            if ray.wait([asked], timeout=0)[0]:
                self.heard[part] = ray.get(asked)
                del self.asked[part]
            else:
                self.heard[part] = replace(self.heard[part], idle=False)
        return list(self.heard)


@ray.remote(max_restarts=-1, max_task_retries=-1, max_concurrency=64)
class KeeperActor:
    """One keeper in one actor: its methods share one event loop, so the keeper needs no locks."""

    def __init__(self, make: bytes, part: int, names: list[str]) -> None:
        self.part, self.names = part, names
        self.keeper: Keeper = ray.cloudpickle.loads(make)(part)
        self.peers: dict[int, Any] = {}

    async def work(self) -> None:
        try:
            await self.keeper.work(self._post)
        except Restart:
            os._exit(1)  # Ray makes it anew, here or elsewhere, and calls again

    async def _post(self, part: int, batch: str, rows: list[Any]) -> Any:
        if part == self.part:
            return await self.keeper.receive(self.part, batch, rows)
        if part not in self.peers:
            self.peers[part] = ray.get_actor(self.names[part])
        return await self.peers[part].receive.remote(self.part, batch, rows)

    async def receive(self, sender: int, batch: str, rows: list[Any]) -> Any:
        return await self.keeper.receive(sender, batch, rows)

    async def status(self) -> Status:
        return self.keeper.status()

    async def close(self) -> Any:
        return await self.keeper.close()
