"""plan --probe: what a training of the recipe will take, before anything of it is there.

    ROOT/pretrain-…/forecast.json     what was said; the training that then runs tells what became of it

Promises: the numbers of `stages/pretrain_probe` for every Pretrain that would run. Once its token shards are there, the
vocabulary is theirs, and so are the lengths of documents; their rows are counted where they lie on this machine and
hold at most `FEW` documents, else reckoned from the manifest. Before that, vocabulary and special ids are those of the
file or of the other corpora that the recipe names, or as many pieces as it asks for. Costs some seconds a training.
Imports torch only when asked.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tundish.cluster import store
from tundish.cluster.shards import Dataset, opened
from tundish.operators.model.rows import Layout
from tundish.pipeline.foretold import keep, parts, reckoned
from tundish.pipeline.plan import Step
from tundish.stages.mix import Mix
from tundish.stages.pretrain import Pretrain
from tundish.stages.stage import Stage
from tundish.stages.token_stream import files_of

if TYPE_CHECKING:
    from tundish.stages.pretrain_probe import Forecast
    from tundish.stages.pretrain_task import PretrainTask

SPECIALS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
USUAL = 32_768
FEW = 20_000_000  # documents whose lengths are read in about a second


def of_step(step: Step, steps: Sequence[Step]) -> "Forecast | None":
    """The forecast of a training that would run, kept beside it where it can be; None for every other step."""
    if (told := _of_step(step, steps)) is not None:
        keep(step.place.uri, told.plain())
    return told


def _of_step(step: Step, steps: Sequence[Step]) -> "Forecast | None":
    if not isinstance(step.stage, Pretrain) or step.current:
        return None
    from tundish.stages import pretrain_probe
    from tundish.stages.ranks import require_place

    task, settings = task_of(step.stage, steps), step.place.settings
    require_place((max(phase.batch) for phase in task.aims.phases), settings.trainers, settings.least, task.tensor)
    return pretrain_probe.probe(task, workers=max(1, settings.trainers))


def task_of(stage: Pretrain, steps: Sequence[Step]) -> "PretrainTask":
    """What would be trained, as far as it is known before."""
    from tundish.stages.pretrain_task import PretrainTask

    tokens = next((one.sealed for one in steps if one.stage.address == stage.shards.address), None)
    if tokens is None:
        size, specials = vocabulary_of(stage.shards)
        told: Mapping[str, Any] = {"holdout": (), "specials": specials, "vocabulary": size}
        return PretrainTask(sources=(), out="", **told, **stage.recipe())
    task = PretrainTask(sources=(), out="", **stage.given(tokens), **stage.recipe())
    documents = sum(shard.counts.get("documents", 0) for shard in tokens.shards)
    if documents <= FEW and all(store.local(tokens.at(shard)) for shard in tokens.shards):
        sources: Any = files_of(tokens)
    else:
        layouts = dict.fromkeys((phase.row, phase.context) for phase in task.aims.phases)
        sources = {each: _reckoned(tokens, Layout(*each)) for each in layouts}
    return PretrainTask(sources=sources, out="", **stage.given(tokens), **stage.recipe())


def _reckoned(tokens: Dataset, layout: Layout) -> tuple[Any, ...]:
    return tuple(reckoned(tokens, name, first, count, layout) for name, (first, count) in parts(tokens))


def vocabulary_of(stage: Stage) -> tuple[int, Mapping[str, int]]:
    """Pieces and special ids of token shards that are not there yet."""
    if isinstance(stage, Mix):
        for uri in stage.elsewhere.values():
            found = opened(uri.rstrip("/"))
            if found is not None and "vocabulary" in found.about:
                return found.about["vocabulary"]["size"], found.about["specials"]
        return vocabulary_of(next(iter(stage.of.values()))) if stage.of else (USUAL, SPECIALS)
    wanted = getattr(stage, "vocabulary", USUAL)
    if not isinstance(wanted, str):
        return wanted, SPECIALS
    from tundish.operators.text import tokenizer

    given = tokenizer.load(store.read(str(Path(wanted).expanduser()) if wanted.startswith("~") else wanted))
    return given.size + getattr(stage, "extend", 0), given.specials


def lines_of(step: Step, steps: Sequence[Step]) -> list[str]:
    """What is said of a training that would run, which is kept beside it; nothing of every other step."""
    told = _of_step(step, steps)
    if told is None:
        return []
    from tundish.stages.pretrain_probe import spoken

    lost = keep(step.place.uri, told.plain())
    return [*spoken(told), *([lost] if lost else [])]
