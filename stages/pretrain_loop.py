"""The pretraining loop, on one page: the same alone, under torchrun and in Ray Train.

    out/log.jsonl          one line per step: loss, gradient norm, learning rate, tokens, speed, and what went wrong
    out/ledger.jsonl       one line per step: its rows by number and digest, how many places were guessed, which
    out/plan.json          the plan: from it and the shards every step's rows follow
    out/checkpoints/       cluster/checkpoint
    out/model.safetensors, config.json, result.json      at the end

Promises: the ledger is a function of the task, whatever the number of ranks and however often the run was killed; the
loss is the mean over the global batch, so it does not depend on how that was shared (but for what is dropped out, which
each rank draws for its own rows); a spike, or a loss that is no
number, never enters the weights: training goes back to before it, skips its rows and says so in the plan, so that a
replay goes the same way. Only rank 0 writes; nothing in a step waits for the device. Costs, beside the model, one
gradient buffer, the optimiser's, and one copy of all that on the host; shards are memory-mapped. Refuses a folder that
holds the state of another task.
"""

import contextlib
import gc
import time

import torch

from tundish.operators.model import clip
from tundish.operators.model.guard import Guard
from tundish.operators.model.objective import GUESSED, TOKENS, part_of, whole
from tundish.operators.model.order import keyed
from tundish.stages.blockwise import compilations
from tundish.stages.pretrain_feed import Feed
from tundish.stages.pretrain_held import Held
from tundish.stages.pretrain_log import Log, Tell, on_host
from tundish.stages.pretrain_memory import BACKWARD, FORWARD, KEPT, MOVING, START, too_large, within
from tundish.stages.pretrain_model import losses_of, optimizer_of, terms_of, trainee_of
from tundish.stages.pretrain_result import finish
from tundish.stages.pretrain_state import State, Stopped
from tundish.stages.pretrain_task import PretrainTask
from tundish.stages.ranks import Ranks, joined
from tundish.stages.scale import Scale
from tundish.stages.spread import precision_of, spread_of

# least deviations of loss and gradient norm, in means: norms of small batches often double and do no harm, so that
# a spike of theirs is four times the mean and more
FLOOR = (1e-3, 0.5)

__all__ = ["PretrainTask", "Stopped", "Tell", "pretrain"]


def pretrain(task: PretrainTask, rank: int, world: int, tell: Tell) -> None:
    """Train to the end of the task's tokens, from the last checkpoint in `task.out` if there is one."""
    with joined(rank, world, together=task.tensor) as ranks:
        try:
            _train(task, ranks, tell)
        except torch.OutOfMemoryError as error:
            raise ValueError(too_large(task, ranks.shares, error)) from None
        finally:
            gc.collect()  # what still knew the ranks would keep their threads alive beyond the interpreter


def _train(task: PretrainTask, ranks: Ranks, tell: Tell) -> None:
    with contextlib.ExitStack() as leaving:
        weights, states = precision_of(task.dtype)
        feed = Feed(task, ranks)
        leaving.callback(feed.close)
        held = Held(task, feed, ranks, states)
        compiled = ranks.device.type == "cuda" if task.compiled is None else task.compiled
        compiled = compiled and task.shapes[0].stack != "pair"  # batches of spans are of another length each
        leaving.enter_context(within(START))  # but for what is named more closely below
        spread = spread_of(task, trainee_of(task, weights), ranks, compiled=compiled)
        feed.even, feed.static = spread.even, compiled
        model, rates, names = spread.model, task.rates(feed.steps), terms_of(task)
        optimizer = optimizer_of(task, spread.named(), task.shapes[0], compiled)
        guard = Guard(ranks.device, sigmas=task.sigmas, floor=FLOOR, kinds=len(task.kinds))
        scale = Scale(ranks.device, task.dtype == "float16")
        state = leaving.enter_context(State(task, feed, ranks, spread, optimizer, guard, scale))
        step, tokens = state.begin()
        log = Log(task, feed, ranks, tell, step, tokens)
        leaving.callback(log.close)

        while step < feed.steps:
            began, waited = time.perf_counter(), 0.0
            for batch in feed.batches(step):
                step, waited = batch.number, time.perf_counter() - began
                if batch.stop:
                    if bad := log.settled(guard.drain()):
                        step, _ = state.rewind(bad, log)
                    state.save(step, log, block=True)
                    raise Stopped(
                        f"the training was asked to stop and lies at step {step} in {task.out}; start it again"
                    )
                if held and step % (task.evaluate_every or feed.steps) == 0:
                    log.note(step, log.lap("held", held.measure, model))

                # loss and gradient: each rank's sums over the global counts, then the sum over ranks
                counts = {GUESSED: batch.guessed, TOKENS: batch.tokens}
                spread.clear()
                if model.training and task.shapes[0].dropout:  # what is dropped is a function of the step as well
                    torch.manual_seed(keyed(task.seed, step, ranks.share))
                numbers = [torch.zeros(1 + len(names), dtype=weights, device=ranks.device)]
                for number, rows in enumerate(batch.batches, 1):
                    with within(FORWARD, len(rows.sizes), batch.setting.row):
                        part = part_of(rows, ranks.device, longest=batch.setting.context, static=compiled)
                        terms = losses_of(model, part, task, batch.setting.objective, states)
                        loss = whole(terms, counts)
                    with within(BACKWARD, len(rows.sizes), batch.setting.row):
                        spread.backward(scale.up(loss), last=number == len(batch.batches))
                    means = [term.total.detach() / max(1, counts[term.over]) for term in terms]
                    numbers.append(torch.stack([each.to(weights) for each in (loss.detach(), *means)]))
                sums = log.lap("summed", spread.summed, torch.stack(numbers).sum(0))
                loss, means = sums[0], on_host(sums[1:])  # begun before the guard looks, so over when it has spoken

                # the step, unless the guard sees a spike
                norm = clip.norm_of(spread.weights) / scale.value
                usable = scale.down(norm)
                kind = task.kinds[batch.setting.phase, batch.setting.name]
                if step in state.levels or feed.changes(step):
                    for each in range(len(task.kinds)):
                        guard.forget(each)
                factor = guard.look(step, loss, torch.where(usable, norm, torch.zeros_like(norm)), kind=kind) * usable
                rate = task.lr * batch.setting.lr * rates(step)
                with within(MOVING):
                    scale.gradients(spread.weights, norm, task.clip)
                    optimizer.step(rate, factor)

                # what happened, as far as the device has told
                tokens += batch.tokens
                told = {"lr": rate, "tokens": tokens, "waited": waited, "compiled": compilations()}
                log.step(batch, told, dict(zip(names, means, strict=True)))
                if bad := log.settled(guard.drain() if state.due(step + 1) else guard.due()):
                    step, tokens = state.rewind(bad, log)
                    break
                if state.due(step + 1):
                    log.lap("saved", state.keep, step + 1, log)
                step += 1
                began = time.perf_counter()

        last = log.lap("held", held.measure, model)
        log.lap("saved", state.saver.wait)
        with within(KEPT):
            finish(task, feed, held, state, last, ranks, log.spent)
        ranks.wait()
