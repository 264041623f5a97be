"""The probe of curves.py: of which work is this passage? A logistic regression on a frozen trunk's mean states.

Promises: the trunk is not trained, what is asked about was neither trained on nor learned from, and the decay is chosen
without it. Costs a forward pass over the passages and a second or two.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tundish.operators.model.family import Model
from tundish.operators.model.packed import packed

CLS, SEP = 2, 3


@torch.no_grad()
def states_of(model: Model, passages: np.ndarray) -> list[torch.Tensor]:
    """The mean states of every passage (n, L) of pieces, framed as in training, as they enter the first block and as
    they leave each: (n, D) each."""
    found: list[list[torch.Tensor]] = [[] for _ in range(len(model.stack.blocks) + 1)]
    size = passages.shape[1] + 2

    def keep(depth: int, states: torch.Tensor) -> None:
        found[depth].append(states.view(-1, size, states.shape[1])[:, 1:-1].mean(1))

    hooks = [model.stack.blocks[0].register_forward_pre_hook(lambda block, given: keep(0, given[0]))]
    for depth, block in enumerate(model.stack.blocks, 1):
        hooks.append(block.register_forward_hook(lambda block, given, left, depth=depth: keep(depth, left)))
    for some in np.array_split(passages.astype(np.int64), -(-len(passages) // 32)):
        framed = np.pad(some, ((0, 0), (1, 1)), constant_values=((0, 0), (CLS, SEP)))
        model(torch.from_numpy(framed.ravel()), packed(np.arange(len(some) + 1) * size))
    for hook in hooks:
        hook.remove()
    return [torch.cat(each) for each in found]


def regression(x: torch.Tensor, labels: torch.Tensor, decay: float) -> torch.Tensor:
    """Weights (D + 1, C) of a logistic regression, L2 on all but the constant."""
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    weights = torch.zeros(x.shape[1], int(labels.max()) + 1, requires_grad=True)
    descent = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        descent.zero_grad()
        found = F.cross_entropy(x @ weights, labels) + decay / 2 * weights[:-1].square().sum()
        found.backward()
        return found

    descent.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()


def right(x: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> float:
    return float(((x @ weights[:-1] + weights[-1]).argmax(1) == labels).float().mean())


def asked(learn: torch.Tensor, ask: torch.Tensor, labels: list[torch.Tensor], decays: tuple[float, ...]) -> float:
    """The share of passages whose work is told. The decay is chosen on every fourth passage to learn from."""
    fourth = torch.arange(len(learn)) % 4 == 3

    def of(decay: float) -> float:
        return right(learn[fourth], labels[0][fourth], regression(learn[~fourth], labels[0][~fourth], decay))

    return right(ask, labels[1], regression(learn, labels[0], max(decays, key=of)))


def read(corpus: Path) -> tuple[list[np.ndarray], list[torch.Tensor]]:
    sides = [np.load(corpus / f"{side}.npz") for side in ("learn", "ask")]
    return [side["passages"] for side in sides], [torch.from_numpy(side["labels"]) for side in sides]


def whitened(learn: torch.Tensor, *others: torch.Tensor) -> list[torch.Tensor]:
    """Along the principal axes of the first, each of unit variance there. Nine tenths of the variance of a trunk that
    was trained lie in three directions, a fresh one's in all: scaled by dimension alone a probe would ask for that."""
    mean = learn.mean(0)
    _, values, axes = torch.linalg.svd((learn - mean).double(), full_matrices=False)
    spread = (values / len(learn) ** 0.5).clamp(min=1e-6 * float(values[0]))
    return [((each - mean).double() @ (axes.T / spread)).float() for each in (learn, *others)]


def probe(corpus: Path, model: Model) -> list[float]:
    """The share of passages whose work is told, by depth: from the embeddings, and from the states after each block."""
    passages, labels = read(corpus)
    each = zip(*(states_of(model, some) for some in passages), strict=True)
    return [asked(*whitened(learn, ask), labels, (1e-2, 1e-1, 1.0)) for learn, ask in each]


def bag(corpus: Path, pieces: int) -> float:
    """The same of the square roots of the counts of pieces, without any trunk."""
    passages, labels = read(corpus)
    counts = [np.stack([np.bincount(each, minlength=pieces) for each in some]) for some in passages]
    learn, ask = (torch.from_numpy(np.sqrt(each)).float() for each in counts)
    return asked(learn, ask, labels, (1e-4, 1e-3, 1e-2))
