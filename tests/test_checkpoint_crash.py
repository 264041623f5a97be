"""Saving in the background, and what stops it: kill -9 at any moment, a disk that fails, a folder that is not ours."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.test_checkpoint_save import blank, holds, state
from tundish.cluster.checkpoint_load import load
from tundish.cluster.checkpoint_save import Saver

TOP = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def child(*lines, folder):
    """A process with a saver, the state of these tests, and lines of its own."""
    code = [
        "import os, time, torch",
        "from tests.test_checkpoint_save import state",
        "from tundish.cluster import store",
    ]
    code += ["from tundish.cluster.checkpoint_save import Saver", f"saver = Saver({str(folder)!r})", *lines]
    return subprocess.Popen([sys.executable, "-c", "\n".join(code)], stdout=subprocess.PIPE, text=True, cwd=TOP)


@pytest.mark.slow
def test_a_disk_that_fails_in_the_middle_of_a_file(tmp_path):
    """The limit on a file's size is the system's: writing fails after some bytes, as on a full disk."""
    told = child(
        "import resource",
        "saver.save(state(10), 10, block=True)",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))",
        "saver.save(dict(reversed(state(20).items())), 20)",  # the small file first
        "try: saver.wait()",
        "except ValueError as error: print(error)",
        folder=tmp_path,
    ).communicate(timeout=300)[0]
    assert "checkpoint of step 20 was not written" in told
    assert "File too large" in told
    assert list((tmp_path / "step-000000020").iterdir()) == [], "no part is left in the way of the next try"
    target = blank()
    assert load(str(tmp_path), target).step == 10
    holds(target, 10)


def test_a_folder_that_may_not_be_written(tmp_path):
    told = child(
        "saver.save(state(10), 10, block=True)",
        f"os.chmod({str(tmp_path)!r}, 0o500)",
        "if os.geteuid() == 0: os.setuid(65534)",  # root may write anywhere
        "try: saver.save(state(20), 20, block=True)",
        "except ValueError as error: print(error)",
        folder=tmp_path,
    ).communicate(timeout=300)[0]
    tmp_path.chmod(0o700)
    assert "checkpoint of step 20 was not written" in told
    assert "Permission denied" in told
    assert load(str(tmp_path), blank()).step == 10


@pytest.mark.slow
def test_kill_9_at_any_moment(tmp_path):
    """A process that saves without a break; whenever it dies, what is loaded is one state, and not older than told."""
    last = 0
    for seed in range(3):
        process = child(
            f"step = {last}",
            "big = {'a': torch.zeros(300_000), 'b': torch.zeros(200_000)}",
            "while True:",
            "    step += 1",
            "    [each.fill_(step) for each in big.values()]",
            "    saver.save({'model': big, 'small': {'c': torch.tensor(step)}, 'at': step}, step)",
            "    print(step - 1, flush=True)",  # it is on disk when the next is taken
            folder=tmp_path,
        )
        first = next(line for line in process.stdout if int(line))  # of the first step on, one is on disk
        time.sleep(random.Random(seed).uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        told = int((first + process.stdout.read()).split()[-1])
        process.wait()
        target = {"a": torch.zeros(300_000), "b": torch.zeros(200_000)}
        small = {"c": torch.tensor(0)}
        found = load(str(tmp_path), {"model": target, "small": small})
        assert found.step >= told >= last
        assert found.plain == {"at": found.step}
        assert all((each == found.step).all() for each in (*target.values(), small["c"]))
        last = found.step


@pytest.mark.parametrize("moment", ["in the first file", "before the seal", "in the seal"])
def test_kill_9_in_the_middle_of_writing(tmp_path, moment):
    """The process is killed while its thread is at work; the checkpoint before is what is loaded."""
    name = {"in the first file": "model", "before the seal": "whole.json", "in the seal": "whole.json"}[moment]
    process = child(
        "saver.save(state(10), 10, block=True)",
        "written = store.written",
        "def slow(uri):",
        f"    if {name!r} in uri and {moment == 'before the seal'}: print('now', flush=True); time.sleep(60)",
        "    return written(uri)",
        "def stuck(*what): print('now', flush=True); time.sleep(60)",
        f"if {moment == 'in the first file'}: store.require_space = lambda folder: None; os.fsync = stuck",
        f"if {moment == 'in the seal'}:",
        "    publish = store._publish",
        "    store._publish = lambda a, t, uri: stuck() if 'whole' in uri else publish(a, t, uri)",
        "store.written = slow",
        "saver.save(state(20), 20)",
        "time.sleep(60)",
        folder=tmp_path,
    )
    assert process.stdout.readline() == "now\n"
    left = [path.name for path in (tmp_path / "step-000000020").iterdir()]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert left or moment == "in the first file"
    target = blank()
    found = load(str(tmp_path), target)
    assert found.step == 10
    assert "was never written" in found.passed[0]
    holds(target, 10)
    with Saver(str(tmp_path)) as saver:  # the run comes by again
        saver.save(state(20), 20)
    assert load(str(tmp_path), target).step == 20
    holds(target, 20)
    assert len(list((tmp_path / "step-000000020").iterdir())) == 3, "attempts are gone"
