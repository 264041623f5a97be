"""The parts of a block: linear layers and norms that follow their input's precision, the layer behind attention.

Promises: weights stay in the precision they were drawn in and are cast where they are used, so that float32 weights
serve bf16 states without autocast and gradients come back in float32. Costs one cast of each weight a forward pass.

T tokens, D width, F inner width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tundish.operators.model.losses import Graded
from tundish.operators.model.shape import Shape

ACTS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


GELUS = {"gelu": "none", "gelu_tanh": "tanh"}  # as torch names their forms


class Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class Norm(nn.Module):
    """LayerNorm (Ba et al. 2016), or of the root mean square alone (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, *, eps: float, rms: bool, bias: bool) -> None:
        super().__init__()
        self.eps, self.rms = eps, rms
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if bias and not rms else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        if self.rms:
            return F.rms_norm(x, (x.shape[-1],), weight, self.eps)
        return F.layer_norm(x, (x.shape[-1],), weight, None if self.bias is None else self.bias.to(x.dtype), self.eps)


def norm_of(shape: Shape, width: int = 0) -> Norm:
    return Norm(width or shape.width, eps=shape.eps, rms=shape.rms, bias=shape.bias)


class _Gated(torch.autograd.Function):
    """GELU of one half times the other. The gradients of both halves are written side by side where they are wanted:
    autograd's own way back makes them apart and joins them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, form: str) -> Tensor:
        gate, other = x.chunk(2, -1)
        shown = F.gelu(gate, approximate=form)
        ctx.save_for_backward(x, shown)
        ctx.form = form
        return shown * other

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, shown = ctx.saved_tensors
        gate, other = x.chunk(2, -1)
        found = torch.empty_like(x)
        to_gate, to_other = found.chunk(2, -1)
        torch.mul(grads[0], shown, out=to_other)
        torch.ops.aten.gelu_backward.grad_input(grads[0] * other, gate, approximate=ctx.form, grad_input=to_gate)
        return found, None


class Inner(nn.Module):
    """The layer behind attention: out to F, an activation, and back; gated, one half of 2F multiplies the other."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.act, self.gated = shape.act, shape.gated
        self.up = Linear(shape.width, shape.ff * (2 if shape.gated else 1), bias=shape.bias)
        self.down = Linear(shape.ff, shape.width, bias=shape.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        if self.gated:
            if self.act in GELUS and not torch.compiler.is_compiling():
                return self.down(_Gated.apply(x, GELUS[self.act]))
            gate, x = x.chunk(2, -1)
            return self.down(ACTS[self.act](gate) * x)
        return self.down(ACTS[self.act](x))


class Convolution(nn.Module):
    """DeBERTa-v2-xlarge's: of the embeddings over `span` places of a document, added to what the first block gives."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.act, self.dropout = shape.act, shape.dropout
        self.weight = nn.Parameter(torch.empty(shape.span, shape.width, shape.width))  # of each place, from left
        self.bias = nn.Parameter(torch.empty(shape.width))
        self.norm = norm_of(shape)

    def forward(self, given: Tensor, x: Tensor, documents: Tensor) -> Tensor:
        """(T, D) for the embeddings and the first block's states, (T, D), of documents numbered (T,)."""
        half = len(self.weight) // 2
        places, whose = F.pad(given, (0, 0, half, half)), F.pad(documents, (half, half), value=-1)
        found = self.bias.to(x.dtype).expand_as(x)
        for at, weight in enumerate(self.weight):
            here = slice(at, at + len(x))
            found = found + F.linear(places[here] * (whose[here] == documents)[:, None], weight.to(x.dtype))
        return self.norm(x + ACTS[self.act](F.dropout(found, self.dropout, self.training)))


class Embedding(nn.Module):
    """Tokens, and where the shape has them positions and types, summed, normed, and widened to the stack."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.embedded
        self.offset, self.dropout = shape.offset, shape.dropout
        self.weight = nn.Parameter(torch.empty(shape.vocabulary, width))
        learned = shape.positions == "learned" or shape.absolute
        self.positions = nn.Parameter(torch.empty(shape.length + shape.offset, width)) if learned else None
        self.types = nn.Parameter(torch.empty(shape.types, width)) if shape.types else None
        self.norm = norm_of(shape, width) if shape.embedding_norm else nn.Identity()
        self.wide = Linear(width, shape.width) if width != shape.width else nn.Identity()

    def forward(
        self, tokens: Tensor, positions: Tensor, types: Tensor | None, dtype: torch.dtype, weight: Tensor | None = None
    ) -> Tensor:
        """(T, D) for tokens, positions and types (T,); by another table of tokens where one is given."""
        x = F.embedding(tokens, self.weight if weight is None else weight)
        if self.positions is not None:
            x = x + F.embedding(positions + self.offset, self.positions)
        if self.types is not None:
            x = x + (self.types[0] if types is None else F.embedding(types, self.types))
        return self.wide(F.dropout(self.norm(x.to(dtype)), self.dropout, self.training))


class Head(nn.Module):
    """From states (K, D) to scores (K, V) by a table (V, E): a dense layer, activation and norm, then the table.
    `fused`: how a loss goes over the scores, where that is compiled."""

    fused: Graded | None = None

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.act = shape.act
        self.shrink = shape.width**-0.5 if shape.shrunk else 1.0
        self.dense = Linear(shape.width, shape.embedded, bias=shape.bias) if shape.transform else None
        self.norm = norm_of(shape, shape.embedded) if shape.transform else None
        self.weight = None if shape.tied else nn.Parameter(torch.empty(shape.vocabulary, shape.embedded))
        self.bias = nn.Parameter(torch.empty(shape.vocabulary)) if shape.head_bias else None

    def narrowed(self, states: Tensor) -> Tensor:
        """(K, E): what the table is multiplied with."""
        if self.dense is not None and self.norm is not None:
            return self.norm(ACTS[self.act](self.dense(states)))
        return states * self.shrink if self.shrink != 1.0 else states

    def forward(self, states: Tensor, table: Tensor) -> Tensor:
        weight = table if self.weight is None else self.weight
        x = self.narrowed(states)
        return F.linear(x, weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))
