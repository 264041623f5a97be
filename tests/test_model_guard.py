"""The guard and the clipping of gradients: what they let through, against plain statistics and torch."""

import math
import statistics

import pytest
import torch

from tundish.operators.model.clip import clip, norm_of
from tundish.operators.model.descent import StableAdamW
from tundish.operators.model.guard import Guard

torch.set_num_threads(1)


def number(value):
    return torch.tensor(value, dtype=torch.float32)


def noise(count, seed=0, mean=3.0, spread=0.1):
    source = torch.Generator().manual_seed(seed)
    return (mean + spread * torch.randn(count, generator=source)).tolist()


def slow_guard(series, *, window=128, sigmas=6.0, least=64, floor=1e-3):
    """Which values pass, and what each is held to, with lists and the standard library."""
    history, passed, limits = [], [], []
    for value in series:
        recent, limit = history[-window:], math.inf
        if len(recent) >= least:
            mean = statistics.fmean(recent)
            limit = mean + sigmas * max(statistics.stdev(recent), floor * abs(mean))
        passed.append(math.isfinite(value) and value <= limit)
        limits.append(limit)
        if math.isfinite(value):
            history.append(min(value, limit))
    return passed, limits


@pytest.mark.parametrize("seed", range(4))
def test_it_decides_as_plain_statistics_do(seed):
    source = torch.Generator().manual_seed(seed)
    series = noise(400, seed)
    for at in torch.randint(0, 400, (30,), generator=source).tolist():
        series[at] = [math.nan, math.inf, -math.inf, 9.0, 3.8, 1e30, 0.0][at % 7]
    series = [number(each) for each in series]
    guard = Guard("cpu", watched=("loss",), window=32, least=16)
    found = [bool(guard.look(at, each)) for at, each in enumerate(series)]
    passed, limits = slow_guard([float(each) for each in series], window=32, least=16)
    assert found == passed
    assert [each.limits["loss"] for each in guard.due()] == pytest.approx(limits, rel=1e-9)
    assert 0 < found.count(False) < 40


def test_each_value_is_watched_by_itself():
    guard = Guard("cpu", least=8, window=16)
    for at, (loss, norm) in enumerate(zip(noise(20), noise(20, 1, 0.5, 0.02), strict=True)):
        assert guard.look(at, number(loss), number(norm)) == 1
    assert guard.look(20, number(3.0), number(2.0)) == 0
    assert guard.look(21, number(9.0), number(0.5)) == 0
    assert guard.look(22, number(math.nan), number(0.5)) == 0
    assert guard.look(23, number(3.0), number(0.5)) == 1
    *_, norm, loss, nan, fine = guard.due()
    assert "gradient norm 2 is beyond 0." in norm.why
    assert "loss" not in norm.why
    assert "loss 9 is beyond 3." in loss.why
    assert nan.why == "the loss is nan"
    assert (fine.step, fine.taken, fine.why) == (23, True, "")
    assert fine.values == {"loss": 3.0, "gradient norm": 0.5}


def test_nothing_is_a_spike_before_there_is_a_history():
    guard = Guard("cpu", watched=("loss",), least=64)
    assert all(guard.look(at, number(10.0**at)) == 1 for at in range(30))
    assert guard.look(30, number(math.inf)) == 0


def test_a_falling_loss_and_one_that_stands_still_are_no_accident():
    guard = Guard("cpu", watched=("loss",))
    assert all(guard.look(at, number(11.0 / (1 + at / 50))) == 1 for at in range(600))
    guard = Guard("cpu", watched=("loss",))
    assert all(guard.look(at, number(2.0 + 1e-6 * (at % 2))) == 1 for at in range(200))
    assert guard.look(200, number(2.0 + 1e-3)) == 1
    assert guard.look(201, number(2.1)) == 0


def test_one_spike_does_not_blind_and_a_new_level_is_accepted():
    guard = Guard("cpu", watched=("loss",))
    for at, value in enumerate(noise(200)):
        guard.look(at, number(value))
    assert guard.look(200, number(1e6)) == 0
    assert guard.look(201, number(5.0)) == 0
    assert all(guard.look(202 + at, number(value)) == 1 for at, value in enumerate(noise(50, 5)))
    taken = [bool(guard.look(300 + at, number(value))) for at, value in enumerate(noise(60, 6, mean=6.0))]
    assert not any(taken[:3])
    assert all(taken[30:])


def test_a_guarded_training_survives_what_kills_another():
    """The same gradients; the guarded one is bit for bit the training that never saw the bad steps."""

    def trained(bad, guarded):
        weight = torch.nn.Parameter(torch.zeros(4))
        optimizer, guard = StableAdamW([("weight", weight)]), Guard("cpu", least=8, window=32)
        for at in range(60):
            source = torch.Generator().manual_seed(at)
            weight.grad = weight.detach() - 1 + 0.1 * torch.randn(4, generator=source)
            loss = weight.grad.square().sum() + 1
            if at in bad:
                if not guarded:
                    continue
                weight.grad *= bad[at]
                loss = loss * bad[at]
            factor = guard.look(at, loss, norm_of([weight]))
            optimizer.step(0.05, factor)
        return weight.detach(), [each.step for each in guard.drain() if not each.taken]

    bad = {20: math.nan, 21: 1e20, 40: math.inf}
    saved, told = trained(bad, True)
    wanted, none = trained(bad, False)
    assert (told, none) == ([20, 21, 40], [])
    assert torch.equal(saved, wanted)


def test_the_host_hears_late_in_order_and_of_every_step():
    guard = Guard("cpu", watched=("loss",), lag=3)
    heard = []
    for at in range(10):
        guard.look(at, number(math.nan if at == 5 else 1.0))
        heard.append([(each.step, each.taken) for each in guard.due()])
    assert heard == [[]] * 3 + [[(at, at != 5)] for at in range(7)]
    assert [each.step for each in guard.drain()] == [7, 8, 9]
    assert guard.drain() == guard.due() == []


def test_the_state_carries_over():
    series = [number(each) for each in noise(300)]
    series[250] = number(8.0)
    one, two = Guard("cpu", watched=("loss",)), Guard("cpu", watched=("loss",), lag=2)
    for at in range(200):
        one.look(at, series[at])
    two.look(0, series[0])
    two.restore({name: tensor.clone() for name, tensor in one.state().items()})
    assert two.drain() == []
    one.drain()
    for at in range(200, 300):
        assert one.look(at, series[at]) == two.look(at, series[at]) == (at != 250)
    assert one.drain() == two.drain()
    with pytest.raises(ValueError, match="the window it had"):
        Guard("cpu", watched=("loss",), window=64).restore(one.state())


def test_looking_and_clipping_take_nothing_to_the_host():
    """On the meta device there are no numbers, so whoever asks for one is told off."""
    weight = torch.nn.Parameter(torch.ones(3, device="meta"))
    weight.grad = torch.ones(3, device="meta")
    guard = Guard("meta")
    factor = guard.look(0, torch.ones((), device="meta"), clip([weight], 0.5))
    assert factor.shape == ()
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        guard.due()


def test_what_a_guard_refuses():
    for options, told in (
        ({"window": 32}, "a ring of 32 values never holds the 64"),
        ({"least": 1}, "at least 2"),
        ({"watched": ()}, "watch something"),
        ({"sigmas": 0.0}, "above 0"),
    ):
        with pytest.raises(ValueError, match=told):
            Guard("cpu", **options)
    with pytest.raises(ValueError, match="1 values were given for loss, gradient norm"):
        Guard("cpu").look(0, number(1.0))


@pytest.mark.parametrize("longest", [0.5, 3.0, 1e6])
def test_clipping_is_torchs(longest):
    def weights():
        source = torch.Generator().manual_seed(0)
        found = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (5,), (2, 2, 2), ())]
        for weight in found:
            weight.grad = torch.randn(weight.shape, generator=source)
        return [*found, torch.nn.Parameter(torch.zeros(7))]  # one without a gradient

    ours, theirs = weights(), weights()
    length = torch.nn.utils.clip_grad_norm_(theirs, longest)
    assert float(norm_of(ours)) == pytest.approx(float(length), rel=1e-6)
    assert float(clip(ours, longest)) == pytest.approx(float(length), rel=1e-6)
    for one, two in zip(ours[:-1], theirs[:-1], strict=True):
        torch.testing.assert_close(one.grad, two.grad, atol=1e-7, rtol=1e-6)
    assert float(norm_of(ours)) <= longest * 1.00001 or longest > float(length)


def test_what_clipping_refuses():
    with pytest.raises(ValueError, match="no weight has a gradient"):
        norm_of([torch.nn.Parameter(torch.zeros(2))])
    with pytest.raises(ValueError, match="above 0"):
        clip([], 0.0)


def test_each_value_has_a_floor_of_its_own():
    guard = Guard("cpu", least=2, window=8, floor=(1e-3, 0.5))
    for step in range(4):
        guard.look(step, torch.tensor(1.0), torch.tensor(1.0))
    assert float(guard.look(4, torch.tensor(1.0), torch.tensor(3.9))) == 1.0
    assert float(guard.look(5, torch.tensor(1.1), torch.tensor(1.0))) == 0.0
    assert float(guard.look(6, torch.tensor(1.0), torch.tensor(9.9))) == 0.0
    with pytest.raises(ValueError, match="are no guard"):
        Guard("cpu", floor=(0.1,))
