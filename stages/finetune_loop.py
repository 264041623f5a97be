"""The fine-tuning loop: an encoder learns to label sequences, several times over, and says how sure the score is.

    out/result.json          accuracy and F1 on the held-out part: mean and spread over seeds, beside the majority class
                             and beside the same training from fresh weights
    out/predictions.jsonl    per held-out sequence its label, each seed's guess, the mean probabilities
    out/model.safetensors, config.json      the classifier of the first seed

Promises: the last weights are scored, never the best on the held-out part; every seed's numbers are told; the same
result for any number of ranks of one machine kind, which share the runs between them. Costs one training per seed,
two with `scratch`. Refuses a training part with fewer than two classes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from safetensors.torch import save as bytes_of
from torch import Tensor

from tundish.cluster import store
from tundish.operators.model import scores
from tundish.operators.model.classifier import Classifier
from tundish.operators.model.descent import groups
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.order import keyed, shuffled
from tundish.operators.model.schedules import warm_linear
from tundish.operators.model.shape import Shape
from tundish.stages.hub import weights_of
from tundish.stages.ranks import joined

Tell = Callable[[dict[str, Any]], None]
Run = tuple[bool, int]  # from the pretrained weights or fresh ones; seed


@dataclass(frozen=True)
class Labelled:
    """Sequences with a class each: token ids without [CLS] and [SEP], labels 0 .. classes - 1, names for the record."""

    tokens: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...]
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.labels) or (self.ids and len(self.ids) != len(self.labels)):
            raise ValueError(f"{len(self.tokens)} sequences have {len(self.labels)} labels; give one to each")
        if not self.labels or min(self.labels) < 0:
            raise ValueError("there is no labelled sequence, or a label below 0; number the classes from 0")


def labelled(path: str) -> Labelled:
    """From an Arrow IPC file: columns `tokens` (lists of integers), `label` (integer) and, if it has one, `id`."""
    with pa.ipc.open_file(store.opened(path)) as reader:
        table = reader.read_all().to_pydict()
    return Labelled(tuple(map(tuple, table["tokens"])), tuple(table["label"]), tuple(table.get("id", ())))


@dataclass(frozen=True)
class FinetuneTask:
    """Everything a rank needs, as plain values. `train` and `test` are sequences or the path of a file of them."""

    model: str  # folder with model.safetensors and config.json, as pretraining leaves it
    train: Labelled | str
    test: Labelled | str
    out: str  # folder
    seeds: tuple[int, ...] = (1, 2, 3)
    scratch: bool = True  # also from fresh weights, to see what pretraining was worth
    epochs: int = 5
    batch: int = 16
    lr: float = 1e-3  # at its peak
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.01
    clip: float = 1.0  # longest gradient
    dropout: float = 0.1
    pooling: str = "mean"
    names: tuple[str, ...] = field(default=())  # of the classes, for the record


def finetune(task: FinetuneTask, rank: int, world: int, tell: Tell) -> None:
    """Train once per seed, score on the held-out part, write the result. `tell` is called by all ranks together."""
    if not task.seeds:
        raise ValueError("fine-tuning without a seed trains nothing; give at least one")
    with joined(rank, world) as ranks:
        train, test = (labelled(each) if isinstance(each, str) else each for each in (task.train, task.test))
        if len(set(train.labels)) < 2:
            raise ValueError(f"all {len(train.labels)} sequences to train on have one label; give at least two classes")
        classes = max(len(task.names), max(train.labels + test.labels) + 1)
        config = json.loads(store.read(store.join(task.model, "config.json")))
        shape, weights = weights_of(task.model)
        starts = (True, False) if task.scratch else (True,)
        runs: list[Run] = [(pretrained, seed) for pretrained in starts for seed in task.seeds]
        probabilities = torch.zeros(len(runs), len(test.labels), classes, dtype=torch.float64, device=ranks.device)
        for first in range(0, len(runs), world):
            line = {"step": min(first + world, len(runs)), "steps": len(runs)}
            if first + rank < len(runs):
                pretrained, seed = runs[first + rank]
                model = _classifier(task, shape, weights if pretrained else None, classes, seed).to(ranks.device)
                line["loss"] = _trained(task, model, train, config["specials"], seed)
                probabilities[first + rank] = _guessed(task, model, test, config["specials"])
                if first + rank == 0:
                    _keep(task, model, config, classes)
            tell(line)
        ranks.total(probabilities)
        if rank == 0:
            _write(task, runs, probabilities.cpu().numpy(), train, test)
        ranks.wait()


def _classifier(
    task: FinetuneTask, shape: Shape, weights: Mapping[str, Tensor] | None, classes: int, seed: int
) -> Classifier:
    """Fresh weights from the seed; the pretrained ones over them where there are any."""
    with torch.device("meta"):
        model = Classifier(Model(shape), classes, pooling=task.pooling, dropout=task.dropout)
    initialise(model, model.encoder.shape, seed=seed)
    if weights is not None:
        kept = {name: weight.float() for name, weight in weights.items() if not name.startswith("detector.")}
        model.encoder.load_state_dict(kept)
    return model


def _trained(task: FinetuneTask, model: Classifier, train: Labelled, specials: Mapping[str, int], seed: int) -> float:
    """Train in place; the mean loss of the last epoch. Dropout draws from a generator that is put back after."""
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(groups(model, decay=task.weight_decay), lr=task.lr, betas=(0.9, 0.999), eps=1e-8)
    size = len(train.labels)
    each = -(-size // task.batch)
    losses = []
    model.train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for step in range(task.epochs * each):
            epoch, part = divmod(step, each)
            places = np.arange(part * task.batch, min(size, (part + 1) * task.batch))
            rows = shuffled(places, size=size, key=keyed(seed, epoch))
            tokens, present = _padded(train, rows, model.encoder.shape.length, specials, device)
            labels = torch.tensor([train.labels[row] for row in rows], device=device)
            loss = F.cross_entropy(model(tokens, present), labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), task.clip)
            for group in optimizer.param_groups:
                group["lr"] = task.lr * warm_linear(step, steps=task.epochs * each, warm=task.warmup)
            optimizer.step()
            losses.append(float(loss.detach()))
    return sum(losses[-each:]) / each


@torch.no_grad()
def _guessed(task: FinetuneTask, model: Classifier, test: Labelled, specials: Mapping[str, int]) -> Tensor:
    """Probabilities (n, classes), float64."""
    device = next(model.parameters()).device
    model.eval()
    found = []
    for at in range(0, len(test.labels), 4 * task.batch):
        rows = np.arange(at, min(len(test.labels), at + 4 * task.batch))
        found.append(model(*_padded(test, rows, model.encoder.shape.length, specials, device)).double().softmax(1))
    return torch.cat(found)


def _padded(
    data: Labelled, rows: np.ndarray, longest: int, specials: Mapping[str, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Tokens between [CLS] and [SEP] and where they are, (B, L) of the longest; what the model cannot hold is cut."""
    texts = [[specials["[CLS]"], *data.tokens[row][: longest - 2], specials["[SEP]"]] for row in rows]
    length = max(map(len, texts))
    tokens = torch.tensor([text + [specials["[PAD]"]] * (length - len(text)) for text in texts], device=device)
    ends = torch.tensor([[len(text)] for text in texts], device=device)
    return tokens, torch.arange(length, device=device) < ends


def _keep(task: FinetuneTask, model: Classifier, config: Mapping[str, Any], classes: int) -> None:
    told = {"kind": "classifier", "classes": classes, "pooling": task.pooling, "names": list(task.names)}
    plain = {"shape": asdict(model.encoder.shape), "specials": config["specials"]}
    weights = {name: weight.cpu() for name, weight in model.state_dict().items()}
    store.write(store.join(task.out, "model.safetensors"), bytes_of(weights))
    store.write_json(store.join(task.out, "config.json"), told | plain)


def _write(task: FinetuneTask, runs: list[Run], probabilities: np.ndarray, train: Labelled, test: Labelled) -> None:
    guesses = probabilities.argmax(2)  # (runs, n)
    truth = np.asarray(test.labels)
    ours = [number for number, (pretrained, _) in enumerate(runs) if pretrained]
    common = int(np.bincount(train.labels).argmax())
    result = {
        **_scored(runs, guesses, truth, True),
        "majority": _score(truth, np.full_like(truth, common)),
        "scratch": _scored(runs, guesses, truth, False) if task.scratch else None,
        "train": len(train.labels),
        "test": len(truth),
        "classes": probabilities.shape[2],
    }
    names = test.ids or [str(number) for number in range(len(truth))]
    mean = probabilities[ours].mean(0)
    lines = [
        {
            "id": name,
            "label": label,
            "guesses": guesses[ours, at].tolist(),
            "probabilities": mean[at].round(6).tolist(),
        }
        for at, (name, label) in enumerate(zip(names, truth.tolist(), strict=True))
    ]
    body = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    store.write(store.join(task.out, "predictions.jsonl"), body.encode())
    store.write_json(store.join(task.out, "result.json"), result)


def _scored(runs: list[Run], guesses: np.ndarray, truth: np.ndarray, pretrained: bool) -> dict[str, Any]:
    """Mean and sample standard deviation over the seeds, and each seed's own numbers."""
    ours = [(number, seed) for number, (kind, seed) in enumerate(runs) if kind == pretrained]
    each = [{"seed": seed} | _score(truth, guesses[number]) for number, seed in ours]
    told: dict[str, Any] = {"seeds": each}
    for name in each[0].keys() - {"seed"}:
        values = [line[name] for line in each]
        told[name] = float(np.mean(values))
        told[f"{name}_spread"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return told


def _score(truth: np.ndarray, guesses: np.ndarray) -> dict[str, float]:
    """Accuracy, macro F1 over all classes, and F1 of class 1: the positive one where there are two."""
    told = {"accuracy": scores.accuracy(truth, guesses), "macro_f1": scores.macro_f1(truth, guesses)}
    return told | {"f1": scores.f1(truth, guesses, 1)}
