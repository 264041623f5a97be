"""What a run trained, handed over: picks the model of a root, writes its card, and lays both into a folder.

A folder that holds a fine-tuned model is handed over as it is. Refuses a root without a finished training, an address
that is none, a fine-tuning that left no weights, and for a fine-tuned model what chooses among the trainings of a root.
"""

import difflib
from typing import Any

from tundish.cluster import store
from tundish.pipeline.card import card
from tundish.pipeline.card_compressed import card_compressed
from tundish.pipeline.card_tuned import card_tuned
from tundish.pipeline.funnel import Ran, ran
from tundish.pipeline.tuned_training import stayed
from tundish.stages.pretrain import file_of
from tundish.stages.vocabulary import kept_in


def export(
    root: str,
    to: str,
    *,
    model: str | None = None,
    precision: str = "float32",
    generator: bool = False,
    licence: str = "",
) -> dict[str, Any]:
    """Write the folder; what was written, in words and numbers. `root`: of a run, or the folder of a fine-tuned model.
    Raises ValueError for what cannot be exported."""
    if store.exists(store.join(root, "config.json")):
        if model is not None or generator:
            raise ValueError(f"{root} is one fine-tuned model; leave --model and --generator out, or give a run's root")
        return _tuned(root, to, precision=precision, licence=licence)
    if "tested" in (result := store.read_json(store.join(root, "result.json")) or {}):
        what = "has lost its weights" if stayed(result) else "has no weights, for all its runs failed"
        raise ValueError(f"the fine-tuning in {root} {what}; fine-tune there again, with a lower --lr if they failed")
    from tundish.stages import hub  # torch comes in here
    from tundish.stages.export import exported

    told = ran(root)
    address = _chosen(told, model)
    dataset = told.datasets[address]
    name = kept_in(dataset)
    for file in ("model.safetensors", "config.json", name):
        file_of(dataset, file)  # what does not match its digest is not handed on
    found = hub.read(dataset.uri, outlined=True)
    shape = found.shape if not generator else (hub.generator_of(dataset.uri, outlined=True) or (found.shape, {}))[0]
    from tundish.operators.model import hub as names

    architecture = (found.architecture if not generator else "") or names.architecture_for(shape)
    words = card(told, address, shape, architecture=architecture, name=_called(told, address), licence=licence)
    vocabulary = store.read(store.join(dataset.uri, name))
    return exported(dataset.uri, vocabulary, to, card=words, precision=precision, generator=generator)


def _tuned(folder: str, to: str, *, precision: str, licence: str) -> dict[str, Any]:
    from tundish.stages.export_step import step_in
    from tundish.stages.export_tuned import exported_tuned, files_in
    from tundish.stages.tuned import temperature_of

    names = ("config.json", "result.json", "data.json", "compute.json")
    beside = {name: store.read_json(store.join(folder, name)) for name in names}
    step = step_in(folder)

    def card(architecture: str, parameters: int) -> str:
        config, result, data, compute = beside.values()
        if step is not None and result is not None:
            return card_compressed(
                config, step.told, step.path, architecture=architecture, parameters=parameters,
                temperature=temperature_of(folder), name=_named(folder), licence=licence,
            )  # fmt: skip
        if result is None or data is None:
            return f"# {architecture}\n\nNothing is known of how it was trained.\n"
        return card_tuned(
            config, result, data, architecture=architecture, parameters=parameters, temperature=temperature_of(folder),
            name=folder.rstrip("/").rpartition("/")[2], licence=licence, files=files_in(folder, data["parts"]),
            compute=compute,
        )  # fmt: skip

    return exported_tuned(folder, to, card=card, precision=precision)


def _named(folder: str) -> str:
    """Of a step that of its compression goes before its own."""
    return "-".join(folder.rstrip("/").split("/")[-2:])


def _chosen(told: Ran, model: str | None) -> str:
    known = told.of("Pretrain")
    if not known:
        raise ValueError(f"the latest run under {told.root!r} has no training that is done; run its recipe first")
    if model is None:
        return known[-1]
    if model not in known:
        near = difflib.get_close_matches(model, known, 1, 0.0)[0]
        raise ValueError(f"{model!r} is no finished training under {told.root!r}; did you mean {near!r}?")
    return model


def _called(told: Ran, address: str) -> str:
    preset = told.field(address, "model") or "model"
    return f"{preset}, {address.removeprefix('pretrain-')}"
