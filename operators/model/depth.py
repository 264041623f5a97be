"""How deep in a model a weight lies, and what fine-tuning makes of it: rates, fresh blocks, thawing.

    0          embeddings, and what all blocks of a stack share of positions
    1 … L      the blocks, the first L of an encoder and then those of its decoder; with the last what norms its states
    L + 1      heads: of a task, of the vocabulary, BERT's pooler

Promises: every weight has one depth, in `Model` and in what holds one as `encoder`; rates and thawing are functions of
it. Costs nothing but `reinitialised`: a second model for a moment. Refuses what a stack of shared blocks cannot have,
and names it knows nothing of.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tundish.operators.model.descent import matrices_decay
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise

TRUNK = "encoder."
LOW = ("bias", "far", "far_norm")  # parts of a stack that serve all its blocks


def trunk_of(model: nn.Module) -> Model:
    """The `Model` that this is, or holds as `encoder`."""
    trunk = getattr(model, "encoder", model)
    if not isinstance(trunk, Model):
        raise ValueError(f"a {type(model).__name__} holds no trunk as its encoder; give a Model, or what has one")
    return trunk


def heights(model: nn.Module) -> tuple[int, int]:
    """Blocks of the stack and of the decoder; shared ones count once."""
    trunk = trunk_of(model)
    return len(trunk.stack.blocks), len(trunk.decoder.blocks) if trunk.decoder is not None else 0


def depths(model: nn.Module) -> dict[str, int]:
    """The depth of every weight, by name."""
    below, above = heights(model)
    prefix = "" if isinstance(model, Model) else TRUNK
    return {name: _depth(name, prefix, below, above) for name, _ in model.named_parameters()}


def _depth(name: str, prefix: str, below: int, above: int) -> int:
    top = below + above + 1
    if not name.startswith(prefix):
        return top
    stack, *words = name.removeprefix(prefix).split(".")
    if stack == "embedding":
        return 0
    if stack not in ("stack", "decoder"):
        return top  # head, pooler, follows
    first, last = (0, below) if stack == "stack" else (below, below + above)
    if words[0] == "blocks":
        return first + 1 + int(words[1])
    if words[0] == "beside":
        return 1
    return 0 if words[0] in LOW else last  # else final, and absolute, which the last block asks from


def paces(model: nn.Module, decay: float) -> dict[str, float]:
    """Factor on the learning rate of every weight: 1 for heads, `decay` for the uppermost block, and each block below
    it `decay` times that, embeddings least (Howard & Ruder 2018, 3.2; Clark et al. 2020, appendix B). What
    `descent.AdamW` takes as `rates`."""
    if not 0 < decay <= 1:
        raise ValueError(f"a layer cannot learn {decay} times as fast as the one above; give a decay in (0, 1]")
    top = sum(heights(model)) + 1
    return {name: decay ** (top - depth) for name, depth in depths(model).items()}


def groups(
    model: nn.Module,
    *,
    decay: float,
    layerwise: float,
    rate: float,
    decays: Callable[[str, Tensor], bool] = matrices_decay,
) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimiser, from heads downwards: `lr` is `rate` times `pace`, which a schedule is to
    multiply again; weight `decay` as `descent.groups` has it. Frozen weights are in none."""
    factors = paces(model, layerwise)
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            found.setdefault((factors[name], decays(name, weight)), []).append(weight)
    order = sorted(found, key=lambda key: (-key[0], not key[1]))
    return [
        {"params": found[key], "weight_decay": decay if key[1] else 0.0, "pace": key[0], "lr": rate * key[0]}
        for key in order
    ]


def reinitialised(model: nn.Module, top: int, *, seed: int) -> list[str]:
    """Draw the uppermost `top` blocks of the stack anew, norms included (Zhang et al. 2021, "Revisiting few-sample BERT
    fine-tuning": one to six of the pooler and the highest blocks); the names of their weights. The model's decoder, if
    it has one, keeps what it has."""
    trunk = trunk_of(model)
    below, _ = heights(model)
    if trunk.shape.shared and top:
        raise ValueError("all layers of this model are one block, and no top of it can be drawn anew; set top to 0")
    if not 0 <= top <= below:
        raise ValueError(f"{top} of {below} blocks cannot be drawn anew; give a number between")
    with torch.device("meta"):
        fresh = Model(trunk.shape)
    initialise(fresh, trunk.shape, seed=seed)
    drawn = dict(fresh.named_parameters())
    chosen = tuple(f"stack.blocks.{number}." for number in range(below - top, below))
    found = [name for name in drawn if chosen and name.startswith(chosen)]
    with torch.no_grad():
        for name in found:
            trunk.get_parameter(name).copy_(drawn[name])
    return found


def thawed(depths: Mapping[str, int], epoch: int, *, each: int = 1) -> list[str]:
    """Names of the weights that learn in an epoch: heads alone in the first, and with every `each` epochs one depth
    more, down to the embeddings (gradual unfreezing, Howard & Ruder 2018, 3.3)."""
    if epoch < 0 or each < 1:
        raise ValueError(f"epoch {epoch} with a depth every {each} epochs is none; count epochs from 0, depths from 1")
    lowest = max(depths.values()) - epoch // each
    return [name for name, depth in depths.items() if depth >= lowest]


def thaw(model: nn.Module, names: Iterable[str]) -> None:
    """Let these weights learn, and no others. Gradients of those that stop are let go."""
    chosen, own = set(names), dict(model.named_parameters())
    if unknown := sorted(chosen - own.keys()):
        raise ValueError(f"{unknown[0]!r} is no weight of the model; name weights as named_parameters does")
    for name, weight in own.items():
        weight.requires_grad_(name in chosen)
        if name not in chosen:
            weight.grad = None
