"""`benchmarks/gpu.py`: what stands in for numba gives the kernels' bits; its end comes in time, and tells all."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tundish.operators.model import hiding, kernels
from tundish.operators.model.hiding import Hiding, Masked
from tundish.operators.model.rows import Frame, Layout, Shard, counted, fill
from tundish.stages import pretrain_loop

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
NOTHING = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numba", "llvmlite", "safetensors", "tokenizers", "transformers"):
            raise ModuleNotFoundError(f"no {name} here")
sys.meta_path.insert(0, Gone())
sys.argv = ["gpu.py", *sys.argv[2:]]
import runpy
runpy.run_path(%r, run_name="__main__")
"""


@pytest.fixture
def bare(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("bare")


@pytest.mark.parametrize("seed", range(20))
def test_what_stands_in_for_the_kernels_gives_their_bits(seed, bare, monkeypatch):
    source = np.random.default_rng(seed)
    sizes = source.integers(0, 60, source.integers(1, 30))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    tokens = source.integers(5, 500, max(1, offsets[-1])).astype(np.uint16)
    row = int(source.integers(8, 80))
    layout = Layout(row, int(source.integers(3, row + 1)))
    told = Hiding(500, IDS, int(source.integers(100)), 0.3)
    frame, masked, found = Frame(2, 3, 0), Masked(shares=(70, 20)), []
    for instead in (False, True):
        if instead:
            for name in ("cut", "fill", "joined"):
                monkeypatch.setattr(kernels, name, getattr(bare, name))
            monkeypatch.setattr(hiding, "hide", bare.hide)
        starts, places = counted(offsets, layout)
        rows = np.arange(len(starts) - 1)
        if not len(rows):
            pytest.skip("no row")
        filled = fill([Shard(tokens, offsets, starts)], np.zeros(len(rows), np.int64), rows, layout, frame)
        keys, epochs = rows.astype(np.uint64) * np.uint64(7919), rows % 3
        batch = masked.batch(filled._replace(tokens=filled.tokens.copy()), keys, epochs, told, 0.25)
        found.append([starts, places, *filled, *batch[:7]])
    for kernel, own in zip(*found, strict=True):
        np.testing.assert_array_equal(kernel, own)


@pytest.mark.parametrize("again", [False, True])
def test_a_run_that_compiles_in_timed_steps_has_failed(again, bare, monkeypatch, tmp_path):
    """A function of one shape, compiled before the clock begins; or one whose shape changes in timed steps too."""
    gpu, calls = importlib.import_module("gpu"), []
    compiled = torch.compile(lambda x: x + 1, backend="eager", dynamic=False)
    plain = pretrain_loop.losses_of

    def losses_of(*given):
        calls.append(1)
        compiled(torch.ones(8 + (again and len(calls) > 2 * gpu.WARM + 3)))  # two parts a step
        return plain(*given)

    monkeypatch.setattr(gpu, "SCRATCH", tmp_path)
    monkeypatch.setattr(pretrain_loop, "losses_of", losses_of)
    small = {"shape": {"layers": 1, "width": 32, "heads": 2, "ff": 48}, "row": 64, "length": 64}
    found = gpu.ours("tiny", 0.01, time.monotonic() + 60, False, batch=4, at_once=2, compiled=False, **small)
    assert found["recompiled"] == again
    assert found.get("failed", "") == ("1 graphs were compiled anew in timed steps, the first in 6" if again else "")
    assert found["steps"] >= gpu.WARM + gpu.LEAST
    told = {"results": {"bert 512": found, "HF bert 512 padded": {"tokens_per_second": 1.0}}}
    gpu.ratio(told)
    assert ("ratio bert 512 / HF bert 512 padded" in told) != again


def run(folder, *arguments):
    script = folder / "bare_run.py"
    script.write_text(NOTHING % str(FOLDER / "gpu.py"))
    command = [sys.executable, str(script), "-", "--out", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return done, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_it_runs_with_torch_numpy_and_pyarrow_alone(tmp_path):
    """And a peer that is not there is told, not missed."""
    done, told = run(tmp_path, "--each", "1", "--only", "modern-base 1024,HF bert 512 padded")
    assert {"numba", "safetensors", "tokenizers"} <= set(told["missing"])
    assert told["results"]["modern-base 1024"]["tokens_per_second"] > 0
    assert "transformers" in told["results"]["HF bert 512 padded"]["left out"]
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "gpu.json").read_text()) == told


@pytest.mark.slow
def test_its_end_comes_whatever_it_does(tmp_path):
    """A training of an hour: broken off, told, and on disk."""
    done, told = run(tmp_path, "--each", "3600", "--seconds", "45", "--only", "modern-base 1024,bert 512")
    found = told["results"]["modern-base 1024"]
    assert "broken off" in found.get("failed", "") or found["timed_seconds"] < 45
    assert done.returncode == (1 if any("failed" in each for each in told["results"].values()) else 0)
    assert json.loads((tmp_path / "gpu.json").read_text()) == told
