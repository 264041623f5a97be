"""Tasks that are ended in the instant in which they end by themselves: the driver lives, and nothing of them does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a Ray of its own, for half a minute

DRIVER = """
import random, time
import ray
from tundish.cluster import ray_cancel

@ray.remote(max_retries=8)
def ending(instant, ballast):
    time.sleep(max(0.0, instant - time.time()))

def whole(reference):
    try:
        ray.get(reference, timeout=0)
    except ray.exceptions.RayError:
        return False
    return True

with ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False):
    bell, ballast = ray_cancel.bell(), bytes(90_000)  # ballast: Ray is longer at the next task, and so at a reply
    ray.get([ending.remote(time.time() + 1, ballast) for _ in range(4)])
    ends, until = [], time.monotonic() + 15
    while time.monotonic() < until:
        instant = time.time() + 0.05
        given = [ending.remote(instant, ballast) for _ in range(12)]
        late = random.uniform(-0.0002, 0.003) if len(ends) % 40 else -0.03  # those before their time cost a worker each
        time.sleep(max(0.0, instant + late - time.time()))
        ray_cancel.cancel(given[:2], bell)
        assert not ray.wait(given, num_returns=12, timeout=60)[1], "some have no end"
        assert all(map(whole, given[2:])), "others were ended with them"
        ends += map(whole, given[:2])
    at_work = [ending.remote(time.time() + 600, b"") for _ in range(6)]
    assert not ray.wait(at_work, timeout=5)[0]
    ray_cancel.cancel(at_work, bell)
    assert not ray.wait(at_work, num_returns=6, timeout=60)[1]
    assert not any(map(whole, at_work))
    ray.get(ending.remote(0, b""), timeout=60)
    print("ended", len(ends) - sum(ends), "of", len(ends), flush=True)
"""


def test_a_driver_outlives_what_it_cancels() -> None:
    """With `ray.cancel` in the driver's own thread it ended itself here within half a minute, five times of five."""
    top = Path(__file__).parents[1]
    told = subprocess.run([sys.executable, "-c", DRIVER], cwd=top, capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stderr[-2000:]
    [(ended, tried)] = re.findall(r"^ended (\d+) of (\d+)$", told.stdout, re.M)  # Ray may speak of killed workers
    assert 0 < int(ended) < int(tried)
