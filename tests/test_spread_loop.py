"""A training goes on whichever way its weights lie, and comes to the same end."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.spreading import on_ranks
from tests.test_model_pretrain import losses, silent, toy
from tundish.stages.pretrain_loop import pretrain

pytestmark = pytest.mark.slow


def goes_on(ranks, task):
    pretrain(task, ranks.rank, ranks.world, silent)


def cut(task, step):
    """As if the training had died after a checkpoint."""
    for each in Path(task.out, "checkpoints").iterdir():
        if int(each.name.rpartition("-")[2]) > step:
            shutil.rmtree(each)
    for name in ("model.safetensors", "result.json", "config.json"):
        Path(task.out, name).unlink()


def test_one_rank_then_slices_then_shards(tmp_path):
    alone = toy(tmp_path / "alone", tokens=2000, checkpoint_every=4, keep=9)
    pretrain(alone, 0, 1, silent)
    wanted, weights = losses(alone), load_file(Path(alone.out, "model.safetensors"))
    assert len(wanted) > 10

    task = replace(alone, out=str(tmp_path / "out"))
    shutil.copytree(alone.out, task.out)
    for step, other in ((4, {"tensor": 2}), (8, {"spread": "sharded", "at_once": 1, "recompute": 2})):
        cut(task, step)
        folder = tmp_path / str(step)
        folder.mkdir()
        on_ranks(goes_on, folder, 2, replace(task, **other))
        np.testing.assert_allclose(losses(task), wanted, rtol=0, atol=1e-10)
        found = load_file(Path(task.out, "model.safetensors"))
        assert found.keys() == weights.keys()
        for name, weight in weights.items():
            torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-10)
