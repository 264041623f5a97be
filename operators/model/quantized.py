"""int8 on a CPU: linear layers and the table of tokens in a byte a number, activations as they come.

    weights       W ~ s_o Q, a scale for each row of outputs, the largest of it at 127 (symmetric, no zero point)
    activations   x ~ a_t X, a scale for each token, found as it comes ("dynamic"); for each token, and not for all of a
                  batch, so that what is said of a document depends on no other
    product       sum_i X_ti Q_oi exactly, in int32 (`torch._int_mm`, oneDNN's kernels where the CPU has VNNI or AMX),
                  times a_t s_o, plus the bias in float32
    tokens        a scale for each row of the table; a row is widened as it is looked up

Weights with a scale a channel and no zero points as Wu et al. 2020 recommend for int8; embeddings in 8 bits, which
Shen et al. 2020 (Q-BERT) found them to bear.

Promises: weights within half a scale of what they were; names stay but for `weight`, in whose place stand `body` (int8)
and `scale`; a state that was saved loads into `quantized(model)` of a fresh model. Costs a quarter of float32's bytes,
and a pass to scale each input. Norms, biases, positions and experts stay as they are. Where there is no such product
(other devices) weights are widened and multiplied in float32: the numbers are the weights', and nothing is faster.

T tokens, I inputs, O outputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tundish.operators.model.layers import Embedding, Linear

LARGEST = 127
LEAST = 1e-12  # a scale of rows that are zero


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(n, m) as int8, and the scale (n,) of each row."""
    wide = weight.detach().float()
    scale = (wide.abs().amax(1) / LARGEST).clamp(min=LEAST)
    return (wide / scale[:, None]).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale


class Byte(nn.Module):
    """What stands in the place of a `Linear`."""

    body: Tensor
    scale: Tensor

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        body, scale = rounded(linear.weight)
        self.register_buffer("body", body)
        self.register_buffer("scale", scale)
        self.bias = linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features

    @property
    def weight(self) -> Tensor:
        """The weights that it computes with, (O, I); made anew each time."""
        return self.body.float() * self.scale[:, None]

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not x.numel():
            return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))
        return self._product(x.reshape(-1, self.in_features).float()).view(*x.shape[:-1], -1).to(x.dtype)

    def _product(self, x: Tensor) -> Tensor:
        """(T, O) for (T, I), float32."""
        each = (x.abs().amax(1, keepdim=True) / LARGEST).clamp_(min=LEAST)
        found = torch._int_mm((x / each).round_().to(torch.int8), self.body.t()).float()
        found.mul_(each).mul_(self.scale)
        return found if self.bias is None else found.add_(self.bias)


class Table(nn.Module):
    """What stands in the place of an `Embedding`: its tokens in bytes, the rest as it was."""

    body: Tensor
    scale: Tensor

    def __init__(self, embedding: Embedding) -> None:
        super().__init__()
        body, scale = rounded(embedding.weight)
        self.register_buffer("body", body)
        self.register_buffer("scale", scale)
        self.offset, self.dropout = embedding.offset, embedding.dropout
        self.positions, self.types = embedding.positions, embedding.types
        self.norm, self.wide = embedding.norm, embedding.wide

    @property
    def weight(self) -> Tensor:
        """The whole table, (V, D), made anew each time; name a `dtype` of the states, and nobody asks for it."""
        return self.body.float() * self.scale[:, None]

    def forward(
        self, tokens: Tensor, positions: Tensor, types: Tensor | None, dtype: torch.dtype, weight: Tensor | None = None
    ) -> Tensor:
        """As `Embedding` does it, of rows that are widened here."""
        rows = self.body[tokens].float() * self.scale[tokens][:, None] if weight is None else weight[tokens]
        own = torch.arange(len(tokens), device=tokens.device)
        return Embedding.forward(self, own, positions, types, dtype, rows)  # type: ignore[arg-type]


def quantized(model: nn.Module) -> nn.Module:
    """The model with its linear layers and its table of tokens in bytes, changed in place, for asking alone."""
    for name, child in list(model.named_children()):
        quantized(child)
        if isinstance(child, Linear):
            setattr(model, name, Byte(child))
        elif isinstance(child, Embedding):
            setattr(model, name, Table(child))
    return model.eval().requires_grad_(False)
