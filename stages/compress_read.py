"""Folders of compressed models: written so that `tundish predict` reads them, and read, in each form there is.

    kind          weights                 read as
    tuned         model.safetensors       what a fine-tuning leaves (stages/predict)
    tuned-int8    model.safetensors       bytes and their scales (operators/model/quantized); asked on a CPU
    tuned-onnx    model.onnx              a graph, run by onnxruntime (stages/compress_onnx)

    config.json   as a fine-tuning writes it; in it (`tundish`) the temperature, which is in result.json too, and from
                  which columns it learnt, and whether pairs; written last, so what has one is whole

Promises: `reader` gives what `stages/predict.predictions` takes, whatever the form. Costs the weights once. Refuses
folders that hold no fine-tuned model.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from safetensors.torch import save as bytes_of
from torch import nn

from tundish.cluster import store
from tundish.operators.model import calibration
from tundish.operators.model.family import Model
from tundish.operators.model.head_forms import form_told
from tundish.operators.model.heads import Tuned, asked
from tundish.operators.model.quantized import Byte, Table, quantized
from tundish.operators.model.shape import Shape
from tundish.operators.text import tokenizer
from tundish.stages import hub
from tundish.stages.finetune_rows import Rows
from tundish.stages.finetune_task import TuneTask
from tundish.stages.language_model import vocabulary_in
from tundish.stages.predict import Predictor, predictor
from tundish.stages.predict_columns import Learnt
from tundish.stages.tuned import OWN

CONFIG, WEIGHTS, GRAPH = "config.json", "model.safetensors", "model.onnx"
BYTES, EXPORTED = "tuned-int8", "tuned-onnx"
HEATED = ("classify", "multilabel")  # kinds that have a temperature


@dataclass(frozen=True)
class Kept:
    """What of a model goes into its folder beside weights. `heat`: its temperature."""

    it: Predictor
    vocabulary: bytes
    key: str
    heat: float = 1.0


def reader(folder: str, *, device: str = "", batch: int = 32, calibrated: bool = True) -> Predictor:
    """The fine-tuned model in a folder, whatever its form."""
    told = store.read_json(store.join(folder, CONFIG))
    kind = told.get("kind") if isinstance(told, dict) else None
    if kind not in (BYTES, EXPORTED):
        it = predictor(folder, device=device, batch=batch, calibrated=calibrated)
        return replace(it, learnt=_learnt(told, it.learnt))
    if kind == EXPORTED:
        from tundish.stages.compress_onnx import Session

        graph = store.read(store.join(folder, GRAPH))
        model: nn.Module = Session(graph, told["head"], Shape(**told["shape"]))
    else:
        model = _bytes(told, folder)
    task = TuneTask(folder, told["task"], {"train": ""}, told["specials"], folder, scheme=told["scheme"], batch=batch)
    task = replace(task, length=int(told.get("length", 0)))
    heat = float(told.get(OWN, {}).get("temperature", 1.0)) if calibrated else 1.0
    pieces, names = tokenizer.load(vocabulary_in(folder)), tuple(told["names"])
    return Predictor(task, model.eval(), pieces, names, heat, torch.device("cpu"), _learnt(told, Learnt()))  # type: ignore[arg-type]


def _learnt(told: Any, known: Learnt) -> Learnt:
    """Which columns a model learnt from, and whether pairs: what is `known`, or what a configuration says."""
    own = told.get(OWN) if isinstance(told, dict) else None
    own = own if isinstance(own, dict) else {}
    return Learnt(known.columns or own.get("columns", {}), own.get("pair") if known.pair is None else known.pair)


def _bytes(told: Mapping[str, Any], folder: str) -> nn.Module:
    with torch.device("meta"):
        model = Tuned(Model(Shape(**told["shape"])), told["head"], told["classes"], form=form_told(told, told["head"]))
    quantized(model.to_empty(device="cpu"))
    model.load_state_dict(load(store.read(store.join(folder, WEIGHTS))))
    return model


def write(folder: str, model: nn.Module, kept: Kept, *, graph: bytes | None = None, like: Tuned | None = None) -> None:
    """Lay a model into a folder: its weights, or a `graph` that does what `like` does."""
    own = model if isinstance(model, Tuned) else like
    assert own is not None
    if graph is None:
        weights = {name: each.detach().cpu().contiguous() for name, each in model.state_dict().items()}
        store.write(store.join(folder, WEIGHTS), bytes_of(weights))
        form = BYTES if any(isinstance(each, Byte | Table) for each in model.modules()) else "tuned"
    else:
        store.write(store.join(folder, GRAPH), graph)
        form = EXPORTED
    store.write(store.join(folder, kept.it.pieces.file), kept.vocabulary)
    calibrated = {"dev": {"fitted_on": "dev", "temperatures": [kept.heat]}} if kept.heat != 1.0 else {}
    store.write_json(store.join(folder, "result.json"), {"task": kept.it.task.kind, "calibration": calibrated})
    store.write_json(store.join(folder, CONFIG), _told(own, kept) | {"kind": form})


def _told(model: Tuned, kept: Kept) -> dict[str, Any]:
    """As `finetune_runs` tells of a model."""
    return {
        "key": kept.key,
        "task": kept.it.task.kind,
        "head": model.head,
        "pooling": model.pooling,
        "form": asdict(model.form),
        "dropout": model.dropout,
        "classes": 0 if model.chooser is None else model.chooser.out_features,
        "names": list(kept.it.names),
        "length": kept.it.task.length,
        "scheme": kept.it.task.scheme,
        "shape": asdict(model.encoder.shape),
        "specials": dict(kept.it.task.specials),
        OWN: {"temperature": kept.heat, "columns": dict(kept.it.learnt.columns), "pair": kept.it.learnt.pair},
    }


def heat_of(rows: Rows, logits: np.ndarray, fits: np.ndarray) -> float:
    """The temperature of classes or labels, fitted on those of the rows that `fits` (n,) marks; 1 for other kinds, and
    where none can be."""
    if rows.kind not in HEATED or not fits.any():
        return 1.0
    return float(calibration.temperature(np.asarray(rows.targets)[fits], logits[fits].astype(np.float64)))


def lies(folder: str, key: str) -> bool:
    """Whether the model of this key lies there, whole."""
    told = store.read_json(store.join(folder, CONFIG))
    return isinstance(told, dict) and told.get("key") == key


def size_of(folder: str) -> int:
    """Bytes of a model's weights."""
    told = store.read_json(store.join(folder, CONFIG)) or {}
    names = [GRAPH] if told.get("kind") == EXPORTED else hub.files_of(folder)
    return sum(store.size(store.join(folder, name)) or 0 for name in names)


def parameters_of(model: Tuned) -> tuple[int, int]:
    """Numbers that a model's answer depends on, and how many of them are zero."""
    names = set(asked(model))
    state = model.state_dict()
    found = [each for name, each in state.items() if name in names or name.endswith((".body", ".scale"))]
    return sum(each.numel() for each in found), sum(int((each == 0).sum()) for each in found)
