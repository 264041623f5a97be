"""LoRA: a trunk keeps still, and to chosen linear layers a product of two thin matrices is added, which learns.

    adapt(model, Lora(rank=8), seed=1)       W x  becomes  W x + alpha / rank * B A x      (Hu et al. 2021)
    state_of(model), load(model, state)      what was learnt, alone: the thin matrices and the head
    merged(model)                            adds it to the weights, and the layers are what they were

Promises: every weight keeps its name; a freshly adapted model gives what it gave before, since B begins at zero; what
is frozen has no gradient and keeps its bits; merging changes outputs by rounding alone; A is a function of the seed.
Costs two thin products a layer. Where a block reads weights itself instead of calling its layer (DeBERTa's distances
and its last block), the whole product B A is made there and `dropout` has no place. Refuses layers and parts that are
not there, and layers adapted twice.

In a layer that joins queries, keys and values, `parts` says which of them are adapted, each with matrices of its own.

T tokens, I inputs and O outputs of a layer or part, P adapted parts, r rank.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tundish.operators.model.layers import Linear

PARTS = {"qkv": "qkv", "kv": "kv"}  # layers that are several: the letter of each part, in order
INITS = ("kaiming", "normal")
HEAD = ("dense.", "norm.", "chooser.")  # how names of the head of a `heads.Tuned` begin
NAMES = ("lora_a", "lora_b")


@dataclass(frozen=True)
class Lora:
    """`on`: last words of the layers' names. `parts`: which parts of joined layers; the paper's are queries and values.
    `dropout` of what goes into A. `init` of A: uniform by He et al. 2015 (what Microsoft's code does) or normal, of
    deviation 1 / r. `rooted`: alpha over the root of the rank (Kalajdzievski 2023), for large ranks."""

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    on: tuple[str, ...] = ("qkv",)
    parts: str = "qv"
    init: str = "kaiming"
    rooted: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"a rank of {self.rank} adds nothing; give at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout of LoRA is {self.dropout}; give a share below 1")
        if self.init not in INITS:
            raise ValueError(f"A cannot begin as {self.init!r}; choose one of {', '.join(INITS)}")
        if not self.parts or set(self.parts) - set("qkv") or len(set(self.parts)) < len(self.parts):
            raise ValueError(f"parts {self.parts!r} are not some of q, k and v; give each letter at most once")

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rooted else self.rank)


class Adapted(Linear):
    """A linear layer with what is added to it. `lora_a` (P, r, I), `lora_b` (P, O, r). `weight` read from outside is
    the sum, the parameter of that name stays what it was."""

    lora: Lora
    which: tuple[int, ...]  # parts that are adapted
    count: int  # of all parts
    lora_a: nn.Parameter
    lora_b: nn.Parameter
    lora_at: Tensor  # `which`, where the layer lies: a copy to a GPU would be waited for

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        kept = self._parameters["weight"]
        assert kept is not None
        if "lora_a" not in self._parameters:
            return kept
        return kept + self.added().to(kept.dtype)

    def added(self) -> Tensor:
        """The product, as large as the weight; zero for parts that are not adapted."""
        products = self.lora.scale * torch.bmm(self.lora_b, self.lora_a)
        whole = products.new_zeros(self.count, *products.shape[1:])
        return whole.index_copy(0, self.lora_at, products).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = self._parameters["weight"]
        assert kept is not None
        out = F.linear(x, kept.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))
        given = F.dropout(x, self.lora.dropout, self.training)
        thin = torch.einsum("...i,pri->...pr", given, self.lora_a.to(x.dtype))
        more = self.lora.scale * torch.einsum("...pr,por->...po", thin, self.lora_b.to(x.dtype))
        if self.count == 1:
            return out + more.squeeze(-2)
        return out.unflatten(-1, (self.count, -1)).index_add(-2, self.lora_at, more).flatten(-2)


def adapt(model: nn.Module, lora: Lora, *, seed: int, head: tuple[str, ...] = HEAD) -> list[str]:
    """Adapt the layers of a model in place; their names. All else is frozen, but for weights whose names begin as
    `head` says."""
    chosen = _chosen(model, lora)
    source = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith(head))
    for name, layer in chosen.items():
        letters = PARTS.get(name.rpartition(".")[2], "")
        which = tuple(letters.index(part) for part in lora.parts if part in letters) if letters else (0,)
        layer.__class__ = Adapted
        layer.lora, layer.which, layer.count = lora, which, len(letters) or 1
        kept = layer._parameters["weight"]
        size = len(which), lora.rank, layer.in_features
        fresh = torch.empty(size)
        if lora.init == "normal":
            fresh.normal_(0.0, 1 / lora.rank, generator=source)
        else:
            bound = 1 / math.sqrt(layer.in_features)  # kaiming_uniform with a = sqrt(5)
            fresh.uniform_(-bound, bound, generator=source)
        layer.lora_a = nn.Parameter(fresh.to(kept.device, kept.dtype))
        layer.register_buffer("lora_at", torch.tensor(which, device=kept.device), persistent=False)
        layer.lora_b = nn.Parameter(kept.new_zeros(len(which), layer.out_features // layer.count, lora.rank))
    return list(chosen)


def _chosen(model: nn.Module, lora: Lora) -> dict[str, nn.Module]:
    found = {name: each for name, each in model.named_modules() if name.rpartition(".")[2] in lora.on}
    lacking = [word for word in lora.on if not any(name.rpartition(".")[2] == word for name in found)]
    if lacking:
        raise ValueError(f"no layer of the model is called {lacking[0]!r}; its linear ones are {_linears(model)}")
    for name, layer in found.items():
        word = name.rpartition(".")[2]
        if isinstance(layer, Adapted):
            raise ValueError(f"{name} is adapted already; merge it first, or load a state into it")
        if type(layer) is not Linear:
            raise ValueError(f"{name} is no linear layer; choose among {_linears(model)}")
        if word in PARTS and not set(lora.parts) & set(PARTS[word]):
            raise ValueError(f"parts {lora.parts!r} leave nothing of {name} to adapt; add one of {PARTS[word]}")
    return found


def _linears(model: nn.Module) -> str:
    words = {name.rpartition(".")[2] for name, each in model.named_modules() if isinstance(each, Linear)}
    return ", ".join(sorted(words))


def adapted(model: nn.Module) -> dict[str, Adapted]:
    """The layers that are adapted, by name."""
    return {name: each for name, each in model.named_modules() if isinstance(each, Adapted)}


def merged(model: nn.Module) -> nn.Module:
    """The same model, its adapted layers plain ones again that give what they gave without dropout. All weights may
    learn again."""
    for layer in adapted(model).values():
        with torch.no_grad():
            kept = layer._parameters["weight"]
            assert kept is not None
            kept.add_(layer.added())
        for name in NAMES:
            del layer._parameters[name]
        del layer.lora_at, layer.lora, layer.which, layer.count
        layer.__class__ = Linear
    return model.requires_grad_(True)


def state_of(model: nn.Module, *, head: tuple[str, ...] = HEAD) -> dict[str, Tensor]:
    """What an adapted model has learnt: its thin matrices and its head, alive, by name."""
    return {name: each for name, each in model.state_dict().items() if name.endswith(NAMES) or name.startswith(head)}


def load(model: nn.Module, state: Mapping[str, Tensor], *, head: tuple[str, ...] = HEAD) -> None:
    """Put such a state into a model that was adapted in the same way."""
    own = {name: tuple(each.shape) for name, each in state_of(model, head=head).items()}
    given = {name: tuple(each.shape) for name, each in state.items()}
    if differing := sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name)):
        name = differing[0]
        raise ValueError(
            f"{name} is {given.get(name, 'missing')} in the state and {own.get(name, 'nowhere')} in the model; "
            "adapt the model as the one the state is of"
        )
    model.load_state_dict(state, strict=False)
