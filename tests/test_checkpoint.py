"""A training state at rest, saved and read by one process: whole or not at all."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import save as bytes_of

from tundish.cluster import checkpoint, store
from tundish.cluster.checkpoint_load import load
from tundish.cluster.checkpoint_save import Saver

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def state(number):
    tensors = {
        "a": torch.full((3, 2), float(number), dtype=torch.float64),
        "b": torch.tensor([number], dtype=torch.int64),
        "c": torch.full((4,), number, dtype=torch.bfloat16).expand(2, 4),
    }
    return {"model": tensors, "optimizer": {"mean": torch.ones(2) * number}, "tokens": number, "key": "k"}


def same(found, number):
    wanted = state(number)
    for name in ("model", "optimizer"):
        assert found[name].keys() == wanted[name].keys()
        for key, tensor in wanted[name].items():
            assert found[name][key].dtype == tensor.dtype
            assert (found[name][key] == tensor).all()
    assert (found["tokens"], found["key"]) == (number, "k")


def test_what_was_saved_comes_back_and_old_ones_go(tmp_path):
    uri = str(tmp_path / "checkpoints")
    assert checkpoint.restore(uri) is None
    assert checkpoint.latest(uri) is None
    for step in (10, 20, 30, 40):
        checkpoint.save(state(step), uri, step, keep=2)
    assert checkpoint.steps(uri) == [30, 40]
    step, found = checkpoint.restore(uri)
    assert step == checkpoint.latest(uri) == 40
    same(found, 40)
    checkpoint.save(state(50), uri, 50, keep=1)
    assert checkpoint.steps(uri) == [50]
    with pytest.raises(ValueError, match="keeps none"):
        checkpoint.save(state(1), uri, 60, keep=0)


def flip(path):
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)


DAMAGES = {
    "the last file was never written": lambda folder: (folder / "whole.json").unlink(),
    "half of the last file": lambda folder: (folder / "whole.json").write_text('{"schema": 1, "st'),
    "weights are gone": lambda folder: (folder / "model.safetensors").unlink(),
    "weights are cut": lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 40),
    "one bit changed": lambda folder: flip(folder / "optimizer.safetensors"),
    "another schema": lambda folder: (folder / "whole.json").write_text('{"schema": 99}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_torn_checkpoint_is_passed_over(tmp_path, damage):
    uri = str(tmp_path)
    checkpoint.save(state(10), uri, 10)
    checkpoint.save(state(20), uri, 20)
    DAMAGES[damage](tmp_path / "step-000000020")
    step, found = checkpoint.restore(uri)
    assert step == checkpoint.latest(uri) == 10
    same(found, 10)
    checkpoint.save(state(20), uri, 20)  # the run comes by again
    step, found = checkpoint.restore(uri)
    same(found, 20)


def test_a_torn_one_does_not_push_out_a_whole_one(tmp_path):
    uri = str(tmp_path)
    for step in (10, 20):
        checkpoint.save(state(step), uri, step)
    (tmp_path / "step-000000020" / "whole.json").unlink()
    checkpoint.save(state(30), uri, 30, keep=2)
    assert checkpoint.steps(uri) == [10, 30]


@pytest.mark.parametrize("dies_at", range(3))
def test_a_writer_that_dies_at_any_file_leaves_the_one_before(tmp_path, monkeypatch, dies_at):
    uri = str(tmp_path)
    checkpoint.save(state(10), uri, 10)
    publish, published = store._publish, []

    def dying(*what):
        if len(published) == dies_at:
            raise KeyboardInterrupt
        published.append(what)
        publish(*what)

    monkeypatch.setattr(store, "_publish", dying)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(state(20), uri, 20)
    monkeypatch.undo()
    step, found = checkpoint.restore(uri)
    assert step == 10
    same(found, 10)


def test_a_checkpoint_of_the_format_before_is_read(tmp_path):
    """Schema 1: files are named by their mapping, and whole.json has no digest of its own."""
    folder, files = tmp_path / "step-000000010", {}
    folder.mkdir()
    for name in ("model", "optimizer"):
        body = bytes_of({key: tensor.contiguous() for key, tensor in state(10)[name].items()})
        (folder / f"{name}.safetensors").write_bytes(body)
        files[name] = {"size": len(body), "digest": hashlib.sha256(body).hexdigest()}
    plain = {"tokens": 10, "key": "k"}
    (folder / "whole.json").write_text(json.dumps({"schema": 1, "step": 10, "files": files, "plain": plain}))
    step, found = checkpoint.restore(str(tmp_path))
    assert step == 10
    same(found, 10)
    target = {name: {key: torch.zeros_like(t).contiguous() for key, t in found[name].items()} for name in files}
    assert load(str(tmp_path), target).plain == plain
    same(target | plain, 10)
    flip(folder / "model.safetensors")
    assert load(str(tmp_path), target) is None


def test_a_plain_value_that_changed_is_noticed(tmp_path):
    for step in (10, 20):
        checkpoint.save(state(step), str(tmp_path), step)
    whole = tmp_path / "step-000000020" / "whole.json"
    whole.write_text(whole.read_text().replace('"tokens": 20', '"tokens": 21'))
    assert checkpoint.latest(str(tmp_path)) == 10


def test_what_cannot_be_read_is_no_reason_to_begin_anew(tmp_path):
    for step in (10, 20):
        checkpoint.save(state(step), str(tmp_path), step)
    for step in ("20", "10"):
        whole = tmp_path / f"step-0000000{step}" / "whole.json"
        whole.unlink()
        whole.mkdir()
        if step == "20":
            assert checkpoint.latest(str(tmp_path)) == 10
    with pytest.raises(ValueError, match=r"no checkpoint under .* can be used \(cannot read the URI"):
        checkpoint.restore(str(tmp_path))
    with pytest.raises(ValueError, match=r"no checkpoint under .* can be used \(cannot read the URI"):
        load(str(tmp_path), {})


def test_what_comes_after_a_step_is_dropped_on_demand(tmp_path):
    for step in (10, 20, 30):
        checkpoint.save(state(step), str(tmp_path), step, keep=9)
    checkpoint.drop_after(str(tmp_path), 10)
    assert checkpoint.steps(str(tmp_path)) == [10]


def test_a_remote_root(tmp_path):
    """Staged on this disk, and put file by file before the seal."""
    uri = f"memory://{tmp_path.name}/checkpoints"
    with Saver(uri, keep=2) as saver:
        for step in (10, 20, 30):
            saver.save(state(step), step)
    assert checkpoint.steps(uri) == [20, 30]
    same(checkpoint.restore(uri)[1], 30)
    store.write(store.join(uri, "step-000000030", "model.safetensors"), b"short")
    target = {
        name: {key: torch.zeros_like(tensor).contiguous() for key, tensor in state(1)[name].items()}
        for name in ("model", "optimizer")
    }
    found = load(uri, target)
    assert found.step == 20
    assert "has 5 bytes" in found.passed[0]
    same(target | found.plain, 20)
