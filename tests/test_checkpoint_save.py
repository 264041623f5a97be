"""Saving in the background, by one process: what was there at the call is written, whatever comes after it."""

import concurrent.futures
import logging
import threading
import time

import pytest
import torch

from tundish.cluster import checkpoint, store
from tundish.cluster.checkpoint_load import load
from tundish.cluster.checkpoint_save import Saver

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def state(number):
    tensors = {
        "a": torch.full((30, 20), float(number), dtype=torch.float64),
        "b": torch.tensor(number),
        "c": torch.full((4,), number, dtype=torch.bfloat16).expand(2, 4),
        "d": torch.arange(6.0).reshape(2, 3).t() * number,
    }
    return {"model": tensors, "optimizer": {"a.mean": torch.ones(2) * number}, "tokens": number, "notes": [number]}


def blank():
    return {
        group: {name: torch.full_like(each, 77).contiguous() for name, each in value.items()}
        for group, value in state(1).items()
        if isinstance(value, dict)
    }


def holds(found, number):
    for group in ("model", "optimizer"):
        assert found[group].keys() == state(number)[group].keys()
        for name, tensor in state(number)[group].items():
            assert found[group][name].dtype == tensor.dtype
            assert torch.equal(found[group][name], tensor)


@pytest.fixture
def gate(monkeypatch):
    """Writing waits until the gate is set."""
    opened, written = threading.Event(), store.written

    def behind(uri):
        assert opened.wait(20)
        return written(uri)

    monkeypatch.setattr(store, "written", behind)
    yield opened
    opened.set()


def test_what_was_saved_is_loaded_and_old_ones_go(tmp_path):
    uri = str(tmp_path / "checkpoints")
    target = blank()
    assert load(uri, target) is None
    with Saver(uri, keep=2) as saver:
        for step in (10, 20, 30):
            saver.save(state(step), step)
    assert checkpoint.steps(uri) == [20, 30]
    addresses = [each.data_ptr() for group in target.values() for each in group.values()]
    found = load(uri, target | {"tokens": 0})
    assert (found.step, found.plain, found.passed) == (30, {"tokens": 30, "notes": [30]}, ())
    holds(target, 30)
    assert addresses == [each.data_ptr() for group in target.values() for each in group.values()], "in place"
    assert load(uri, target, 20).step == 20
    holds(target, 20)
    assert checkpoint.restore(uri)[0] == checkpoint.latest(uri) == 30
    holds(checkpoint.restore(uri)[1], 30)
    holds(checkpoint.read(uri, 20), 20)


def test_training_on_changes_nothing_of_what_is_written(tmp_path, gate):
    """Of torch.distributed.checkpoint.async_save it is told that tensors on the CPU are written as they are later."""
    uri = str(tmp_path)
    given = state(10)
    saver = Saver(uri)
    saver.save(given, 10)
    assert not saver.under_way.done(), "the call does not wait for the disk"
    for group in ("model", "optimizer"):
        for tensor in given[group].values():
            if not (tensor.stride() and min(tensor.stride()) == 0):
                tensor.mul_(-1).add_(5)
    given["notes"].append("later")
    given["tokens"] = 0
    gate.set()
    saver.close()
    target = blank()
    assert load(uri, target).plain == {"tokens": 10, "notes": [10]}
    holds(target, 10)


def test_one_is_written_at_a_time_and_memory_is_used_again(tmp_path, gate):
    uri = str(tmp_path)
    saver = Saver(uri)
    saver.save(state(10), 10)
    memory = {name: buffer.data_ptr() for name, buffer in saver.buffers.items()}
    second = threading.Thread(target=saver.save, args=(state(20), 20))
    second.start()
    second.join(0.3)
    assert second.is_alive(), "the second waits for the first"
    assert checkpoint.read(uri, 10) is None, "and nothing of the first is seen before it is whole"
    gate.set()
    second.join(20)
    saver.close()
    assert memory.keys() == {"model", "optimizer"}
    target = blank()
    assert load(uri, target).step == 20
    holds(target, 20)
    holds(checkpoint.read(uri, 10), 10)

    saver = Saver(uri)
    saver.save(state(30), 30)
    memory = {name: buffer.data_ptr() for name, buffer in saver.buffers.items()}
    saver.save(state(40), 40)
    assert memory == {name: buffer.data_ptr() for name, buffer in saver.buffers.items()}
    saver.close()


def test_block_is_there_when_the_call_returns(tmp_path):
    saver = Saver(str(tmp_path))
    saver.save(state(10), 10, block=True)
    holds(checkpoint.read(str(tmp_path), 10), 10)
    saver.close()


def test_an_error_of_the_background_is_raised_by_the_next_call(tmp_path, monkeypatch, caplog):
    uri = str(tmp_path / "checkpoints")
    saver = Saver(uri)
    saver.save(state(10), 10, block=True)
    monkeypatch.setenv("TUNDISH_MIN_FREE", "100%")  # a full disk
    saver.save(state(20), 20)
    with pytest.raises(ValueError, match=r"checkpoint of step 20 was not written.*are free.*save again"):
        saver.wait()
    saver.wait()  # once is enough
    saver.save(state(20), 20)
    with pytest.raises(ValueError, match="step 20 was not written"):
        saver.save(state(30), 30)
    saver.save(state(30), 30)
    concurrent.futures.wait([saver.under_way])
    monkeypatch.undo()
    with caplog.at_level(logging.WARNING):
        saver.save(state(40), 40, block=True)  # before the process is stopped, the state is what counts
    assert "step 30 was not written" in caplog.text
    saver.close()
    target = blank()
    assert load(uri, target).step == 40
    holds(target, 40)


def test_a_place_that_is_no_folder(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with Saver(str(tmp_path / "checkpoints")) as saver:
        saver.save(state(10), 10)
        with pytest.raises(ValueError, match=r"was not written under .*; the ones before it"):
            saver.wait()


def test_leaving_by_an_error_keeps_that_error_and_finishes_the_writing(tmp_path, gate):
    def trained():
        with Saver(str(tmp_path)) as saver:
            saver.save(state(10), 10)
            threading.Timer(0.2, gate.set).start()
            raise KeyError

    with pytest.raises(KeyError):
        trained()
    holds(checkpoint.read(str(tmp_path), 10), 10)


def test_a_step_written_anew_stays_whole_meanwhile(tmp_path, gate):
    """As when the signal to stop comes right after a step that was saved."""
    uri = str(tmp_path)
    gate.set()
    saver = Saver(uri, keep=1)
    saver.save(state(10), 10, block=True)
    gate.clear()
    saver.save(state(11), 10)
    time.sleep(0.1)
    holds(checkpoint.read(uri, 10), 10)
    gate.set()
    saver.close()
    holds(checkpoint.read(uri, 10), 11)
    assert len(list((tmp_path / "step-000000010").iterdir())) == 3, "what was there before is gone"


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "one bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 4])),
    "gone": lambda path: path.unlink(),
    "another's": lambda path: path.write_bytes(path.read_bytes()[::-1]),
}
SAID = {"cut": "bytes and was sealed with", "one bit": "changed", "gone": "is gone", "another's": "changed"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over_and_told(tmp_path, damage, caplog):
    with Saver(str(tmp_path)) as saver:
        saver.save(state(10), 10)
        saver.save(state(20), 20)
    DAMAGES[damage](tmp_path / "step-000000020" / "optimizer.safetensors")
    target = blank()
    found = load(str(tmp_path), target)
    assert found.step == 10
    assert SAID[damage] in found.passed[0]
    assert "step-000000020" in found.passed[0]
    assert found.passed[0] in caplog.text
    holds(target, 10)
    target = blank()
    with pytest.raises(ValueError, match="step 20 is not whole"):
        load(str(tmp_path), target, 20)
    assert all((each == 77).all() for group in target.values() for each in group.values()), "nothing was touched"
    DAMAGES[damage](tmp_path / "step-000000010" / "model.safetensors")
    assert load(str(tmp_path), target) is None


def test_another_model_is_refused_before_anything_is_read(tmp_path):
    with Saver(str(tmp_path)) as saver:
        saver.save(state(10), 10)
    for change, said in {
        "a": r"holds float64 \(30, 20\) as model/a and float64 \(30, 21\) is asked for",
        "b": r"holds int64 \(\) as model/b and nothing is asked for",
        "c": r"holds bfloat16 \(2, 4\) as model/c and float32 \(2, 4\) is asked for",
        "z": r"holds nothing as model/z and float32 \(1,\) is asked for",
    }.items():
        target = blank()
        model = target["model"]
        if change == "a":
            model["a"] = torch.zeros(30, 21, dtype=torch.float64)
        elif change == "b":
            del model["b"]
        elif change == "c":
            model["c"] = model["c"].float()
        else:
            model["z"] = torch.zeros(1)
        with pytest.raises(ValueError, match=said):
            load(str(tmp_path), target)
        assert (model["d"] == 77).all()
    weights = {"model": blank()["model"]}
    assert load(str(tmp_path), weights).step == 10, "the weights alone may be asked for"
    holds(weights | {"optimizer": state(10)["optimizer"]}, 10)
    with pytest.raises(ValueError, match=r"no memory yet"):
        load(str(tmp_path), {"optimizer": {"a.mean": torch.empty(2, device="meta")}})


def test_values_that_cannot_be_saved_are_refused_at_the_call(tmp_path):
    with Saver(str(tmp_path)) as saver:
        for bad, said in (
            ({"a/b": 1}, "cannot name"),
            ({"model": {"a": torch.ones(1), "b": 2}}, "mixes tensors"),
            ({"thing": object()}, r"of 'thing' not all is JSON"),
            ({"model": {"x": torch.zeros(1, dtype=torch.complex128)}}, "complex128"),
        ):
            with pytest.raises(ValueError, match=said):
                saver.save(bad, 10)
        saver.save({"tokens": 1, "nothing": {}}, 20)  # no tensors at all
    assert checkpoint.read(str(tmp_path), 20) == {"tokens": 1, "nothing": {}}
    with pytest.raises(ValueError, match="keeps none"):
        Saver(str(tmp_path), keep=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_tensors_of_a_gpu_come_through_pinned_memory(tmp_path):
    given = {"model": {"a": torch.arange(1 << 24, device="cuda"), "b": torch.ones(3, dtype=torch.bfloat16)}}
    with Saver(str(tmp_path)) as saver:
        for step in (1, 2, 3):
            saver.save(given, step)
            given["model"]["a"].add_(1)
            assert saver.buffers["model"].is_pinned()
    target = {name: torch.zeros_like(each) for name, each in given["model"].items()}
    assert load(str(tmp_path), {"model": target}).step == 3
    assert torch.equal(target["a"], torch.arange(1 << 24, device="cuda") + 2)
