"""plan --probe: what a Finetune of the recipe will take, with its trainers, before its encoder is there.

Promises: the shape is that of the encoder, or before it is trained the one that its Pretrain will make, with fresh
weights; the vocabulary is that of the token shards, of the file that the recipe names, or the one that a sample of the
corpus taught in this probe. Runs are shared by trainers as the stage shares them, one each and then the next: a round
takes as long as its longest. Seconds of what drives are reading, tokens and scores, and where no training comes before
it (torch is not loaded yet) or trainers are processes of their own, the start of a process, which is measured. Costs
what `stages/finetune_probe` costs, and such a start. Refuses where there is no vocabulary yet. Imports torch only when
asked.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tundish.cluster import store
from tundish.cluster.shards import Dataset, opened
from tundish.operators.ratio import Band
from tundish.pipeline.plan import Step
from tundish.pipeline.predicted import NOISE, NONE, Forecast
from tundish.stages.finetune import Finetune
from tundish.stages.mix import Mix
from tundish.stages.pretrain import Pretrain
from tundish.stages.stage import Stage

if TYPE_CHECKING:
    from tundish.operators.model.shape import Shape
    from tundish.stages.finetune_probe import Probed

FEW = 64 << 10  # bytes of what lies beside weights, parts and answers: result, configuration, manifest, commits
RECORD = 3 << 10  # bytes of a sealed run beside its answers
TOOK = "compute.json"
Vocabularies = Mapping[str, bytes]  # bytes of a vocabulary's file, by the address of the token shards


def foretold(step: Step, steps: Sequence[Step], vocabularies: Vocabularies) -> Forecast:
    """The forecast of a Finetune. Raises ValueError where it cannot be probed."""
    from tundish.stages import finetune_probe  # torch comes in here

    stage, trainers = step.stage, max(1, step.place.settings.trainers)
    assert isinstance(stage, Finetune), "asked of a Finetune"
    shape, body = shape_of(stage.encoder, steps), vocabulary_of(stage.encoder, steps, vocabularies)
    told = finetune_probe.probe(
        shape, body, stage.task, stage.files, columns=stage.columns, length=stage.length, apart=stage.apart,
        trainers=trainers, **stage._options(),
    )  # fmt: skip
    loaded = any(isinstance(one.stage, Pretrain) and not one.current for one in steps)
    return forecast_of(told, trainers, started() if trainers > 1 or not loaded else 0.0, loaded)


def forecast_of(told: "Probed", trainers: int, start: float, loaded: bool = False) -> Forecast:
    """What the runs of a task come to. `start`: seconds of a process; `loaded`: the one that drives has begun."""
    runs, weights = told.task.runs, {True: told.pretrained, False: told.fresh}
    each = [told.seconds(run, "wall") for run in runs]
    work, cpu = _summed(each).widened(NOISE), _summed(told.seconds(run, "cpu") for run in runs).widened(NOISE)
    driven = told.reading + sum(weights[run.pretrained].scoring for run in runs)
    driver = Band(driven, driven, driven).widened(2 * NOISE)  # measured once, and not in small parts
    if not loaded:
        driver = driver.plus(Band(start, start, start).widened(2 * NOISE))
    if trainers > 1:  # they begin together, and in each other's way
        driver = driver.plus(Band(start, start, start * trainers).widened(NOISE))
    size = told.weights + told.parts + FEW + sum(weights[run.pretrained].said + RECORD for run in runs)
    peak = Band(told.peak, told.floor, told.peak).widened(NOISE)
    turns = tuple(band.middle for band in each)
    disk = Band(size, size, size).widened(NOISE)
    return Forecast(
        work, cpu, driver, max(turns), peak, disk, NONE, 0, 0, _said(told, trainers), turns, min(trainers, len(runs))
    )


def _summed(bands: Any) -> Band:
    found = NONE
    for band in bands:
        found = found.plus(band)
    return found


def _said(told: "Probed", trainers: int) -> str:
    task, epoch = told.task, told.pretrained.epoch
    asked = sum(len(costs.sizes) for costs in told.pretrained.asked.values())
    apart = told.fresh is not told.pretrained
    shared = f"{trainers} trainers" if trainers > 1 else "one trainer"
    runs = "1 run" if len(task.runs) == 1 else f"{len(task.runs)} runs"
    epochs = "1 epoch" if task.epochs == 1 else f"{task.epochs} epochs"
    kept = ", all of them run" if task.aids.patience else ""
    written = ", texts as long as they may be" if task.kind == "write" else ""
    return (
        f"{runs} of up to {epoch.of} steps in each of {epochs}{kept}{written}, by {len(epoch.sizes)} steps and {asked} "
        f"asked batches{' from each start' if apart else ''} of rows drawn evenly over length, with {shared}"
    )


def started() -> float:
    """Seconds until a new process could train."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import tundish.stages.finetune_runs"], check=True, capture_output=True)
    return time.perf_counter() - began


# -- what there is of the encoder


def _sealed(stage: Stage, steps: Sequence[Step]) -> Dataset | None:
    return next((one.sealed for one in steps if one.stage.address == stage.address), None)


def shape_of(encoder: Stage, steps: Sequence[Step]) -> "Shape":
    """Of the weights that are there, or that its Pretrain will make."""
    from tundish.pipeline import forecast
    from tundish.stages import hub

    if (sealed := _sealed(encoder, steps)) is not None:
        return hub.read(sealed.uri, partial=True, outlined=True).shape
    if not isinstance(encoder, Pretrain):
        raise ValueError(
            f"{encoder.name} says no shape before it ran; run it with --until {encoder.name}, and probe then"
        )
    task = forecast.task_of(encoder, steps)
    shape = task.shapes[0]
    return replace(shape, transform=False, head_bias=False, tied=True) if task.detects else shape  # as hub reads it


def vocabulary_of(encoder: Stage, steps: Sequence[Step], found: Vocabularies) -> bytes:
    """The file's bytes."""
    from tundish.stages.vocabulary import kept_in

    if (sealed := _sealed(encoder, steps)) is not None:
        return store.read(store.join(sealed.uri, kept_in(sealed)))
    if isinstance(encoder, Pretrain) and (body := _of_tokens(encoder.shards, steps, found)) is not None:
        return body
    raise ValueError(
        "there is no vocabulary yet to tell the lengths of its rows by; run the recipe with --until Tokenize, and "
        "probe what follows"
    )


def _of_tokens(tokens: Stage, steps: Sequence[Step], found: Vocabularies) -> bytes | None:
    from tundish.stages import vocabulary

    sealed, given = _sealed(tokens, steps), getattr(tokens, "vocabulary", None)
    if sealed is None and isinstance(tokens, Mix):
        others = (opened(uri.rstrip("/")) for uri in tokens.elsewhere.values())
        sealed = next((one for one in others if one is not None and "vocabulary" in one.about), None)
    if sealed is not None:
        return vocabulary.vocabulary_of(sealed)[1]
    if isinstance(given, str):
        return store.read(str(Path(given).expanduser()) if given.startswith("~") else given)
    if tokens.address in found:
        return found[tokens.address]
    inside = (_of_tokens(one, steps, found) for one in (tokens.of.values() if isinstance(tokens, Mix) else ()))
    return next((body for body in inside if body is not None), None)


# -- what became of it


def spent_of(dataset: Dataset) -> dict[str, float]:
    """What the runs of a sealed fine-tuning took, as `run.spent_on` has it of others: `cpu`, `peak` and `workers`.
    Of all its runs, also of those before an interruption. Empty where none told of its CPU, and of other stages."""
    told = store.read_json(store.join(dataset.uri, TOOK))
    runs = [one for one in (told or {}).get("runs", ()) if one.get("cpu") is not None and "of" not in one]
    if not runs:
        return {}
    return {
        "cpu": sum(one["cpu"] for one in runs),
        "peak": max(one["peak"] for one in runs),
        "workers": told.get("workers", 1),
    }
