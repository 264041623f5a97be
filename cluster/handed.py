"""What this shell hands to a cluster: variables of its environment, and nothing that is secret.

Promises: drivers and workers elsewhere read the same stores, keep the same share of a disk free and cache in the same
place as was said here (`TUNDISH_STORAGE`, `TUNDISH_MIN_FREE`, `TUNDISH_TOKENS`); a job and `--on ADDRESS` hand over the
same. Costs nothing. Refuses, in one sentence, a credential: a dashboard shows commands and variables to all.

Not handed over: `TUNDISH_SIGNING_KEY` (a key), and `TUNDISH_CACHE` (each machine has a folder of its own).
"""

import json
import os
from collections.abc import Mapping, Sequence

from tundish.cluster.credentials import HIDDEN, redacted, secret

OURS = (
    "TUNDISH_WIRE",
    "TUNDISH_MIN_FREE",
    "TUNDISH_STORAGE",
    "TUNDISH_TOKENS",
    "TUNDISH_TORCH_THREADS",
    "TUNDISH_TRACE",
    "TUNDISH_RAY_LOGS",
)
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # how Ray tells the driver of a job what the job was given


def variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Those of ours that are set here; `environment` is this process's unless given.

    >>> variables({"TUNDISH_MIN_FREE": "5GB", "TUNDISH_SIGNING_KEY": "key.pem", "HOME": "/root"})
    {'TUNDISH_MIN_FREE': '5GB'}
    """
    environment = os.environ if environment is None else environment
    found = {name: environment[name] for name in OURS if name in environment}
    harmless([], found, {})
    return found


def of_job(environment: Mapping[str, str] | None = None) -> set[str]:
    """Names of the variables that the job gave which this process drives: its workers have them, and Ray refuses a
    driver that says them again."""
    text = (os.environ if environment is None else environment).get(JOB) or "{}"
    return set((json.loads(text).get("runtime_env") or {}).get("env_vars") or {})


def harmless(entrypoint: Sequence[str] | str, env: Mapping[str, str], metadata: Mapping[str, str]) -> None:
    """Refuse what would show a credential: a job's command, variables and metadata stand in the dashboard."""
    shown = [(word, redacted(word)) for word in ([entrypoint] if isinstance(entrypoint, str) else entrypoint)]
    shown += [(text, redacted(text)) for text in metadata.values()]
    shown += [(f"{k}={v}", f"{k}={HIDDEN if secret(k) else redacted(v)}") for k, v in env.items()]
    for text, told in shown:
        if told != text:
            raise ValueError(
                f"{told!r} carries a credential (where the *** are), and the dashboard shows a job's command and "
                "variables to all; set it on the machines of the cluster, by their environment, a profile or a role"
            )
