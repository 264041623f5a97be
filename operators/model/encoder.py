"""A bidirectional transformer encoder with a masked-language-model head.

Pre-norm blocks (Xiong et al. 2020), rotary positions (Su et al. 2021), GeGLU (Shazeer 2020), bias-free layers, a norm
after the embedding in place of the first block's own, tied input and output embeddings: ModernBERT's choices
(Warner et al. 2024) with attention over the whole row. The prediction head keeps the one bias, per token.

Promises: documents that share a row never see each other and count positions from zero, so a packed row computes
what its documents would alone; logits are computed for the hidden tokens only. Knows no device, no rank and no
data. Costs O(L^2) memory per row and head group for the document mask.

B rows, L places, D width, H heads, V vocabulary, K hidden tokens.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SPREAD = 0.02  # standard deviation of fresh weights, cut at two of them


@dataclass(frozen=True)
class Shape:
    """What decides the weights' sizes. `ff` is the inner width of the gated layer, `length` the longest document."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    ff: int
    length: int = 512
    theta: float = 10_000.0

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"width {self.width} does not divide into {self.heads} heads of even size; choose other heads"
            )


PRESETS = {  # width, layers, heads, ff; parameters without the embedding
    "tiny": (192, 4, 3, 512),  # 1.8 M
    "mini": (256, 7, 4, 384),  # 4.0 M
    "small": (384, 10, 6, 576),  # 12.7 M
    "base": (768, 22, 12, 1152),  # 111 M: ModernBERT-base
}


def preset(name: str, *, vocabulary: int, length: int) -> Shape:
    """A named shape for a vocabulary (pieces) and the longest row (tokens)."""
    if name not in PRESETS:
        raise ValueError(f"no model is called {name!r}; choose one of {', '.join(PRESETS)}")
    width, layers, heads, ff = PRESETS[name]
    return Shape(vocabulary, width, layers, heads, ff, length)


def rotation(positions: Tensor, size: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B, 1, L, size) for rotary positions; angles in float64, because bf16 cannot count to 512."""
    rates = theta ** (-torch.arange(0, size, 2, dtype=torch.float64, device=positions.device) / size)
    angles = positions[:, None, :, None].double() * rates
    angles = torch.cat([angles, angles], -1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return (x * cos + torch.cat([-second, first], -1) * sin).to(x.dtype)


class Block(nn.Module):
    """Attention, then the gated layer, each added to what came in."""

    def __init__(self, shape: Shape, *, normed: bool) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.before = nn.Identity() if normed else nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width, bias=False)
        self.between = nn.LayerNorm(width, bias=False)
        self.gate = nn.Linear(width, 2 * shape.ff, bias=False)
        self.down = nn.Linear(shape.ff, width, bias=False)

    def forward(self, x_BLD: Tensor, turn: tuple[Tensor, Tensor], seen: Tensor | None) -> Tensor:
        rows, length, width = x_BLD.shape
        qkv = self.qkv(self.before(x_BLD)).view(rows, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, L, D/H)
        mixed = F.scaled_dot_product_attention(_rotated(q, *turn), _rotated(k, *turn), v, attn_mask=seen)
        x_BLD = x_BLD + self.attended(mixed.transpose(1, 2).reshape(rows, length, width))
        gate, up = self.gate(self.between(x_BLD)).chunk(2, -1)
        return x_BLD + self.down(F.gelu(gate) * up)


class Encoder(nn.Module):
    """`forward` gives states, `logits` predictions from chosen states. Weights are drawn by `initialise` only."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.embedded = nn.LayerNorm(shape.width, bias=False)
        self.blocks = nn.ModuleList(Block(shape, normed=number == 0) for number in range(shape.layers))
        self.final = nn.LayerNorm(shape.width, bias=False)
        self.guess = nn.Linear(shape.width, shape.width, bias=False)
        self.guessed = nn.LayerNorm(shape.width, bias=False)
        self.bias = nn.Parameter(torch.zeros(shape.vocabulary))

    def forward(self, tokens: Tensor, segments: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """States (B, L, D) of `tokens` (B, L). `segments` (B, L) number the documents of a row, -1 is padding; without
        them a row is one document. Without `positions` (B, L) they count from the row's start."""
        rows, length = tokens.shape
        if segments is None and length > self.shape.length:
            raise ValueError(f"a row of {length} tokens is longer than the model's {self.shape.length}; cut it first")
        if positions is None:
            positions = torch.arange(length, device=tokens.device).expand(rows, length)
        # padding sees padding: a place that sees nothing would turn into NaN
        seen = None if segments is None else (segments[:, :, None] == segments[:, None, :])[:, None]
        x = self.embedded(self.embedding(tokens))
        turn = rotation(positions, self.shape.width // self.shape.heads, self.shape.theta, x.dtype)
        for block in self.blocks:
            x = block(x, turn, seen)
        return self.final(x)

    def logits(self, states: Tensor) -> Tensor:
        """Scores of every token, (K, V), for states (K, D)."""
        return F.linear(self.guessed(F.gelu(self.guess(states))), self.embedding.weight, self.bias)

    def flops_per_token(self, *, length: int, hidden: float) -> float:
        """Floating-point operations of one training step per token of full rows of `length`, a share `hidden` of
        which is predicted: multiply and add count two, the backward pass twice the forward (Kaplan et al. 2020)."""
        s = self.shape
        block = 4 * s.width**2 + 3 * s.width * s.ff + 2 * length * s.width
        head = s.width**2 + s.width * s.vocabulary
        return 6.0 * (s.layers * block + hidden * head)


def initialise(model: nn.Module, *, seed: int, layers: int) -> None:
    """Draw every weight, in float32 on the CPU: normal(0, 0.02) cut at two deviations; what is added to the residual
    stream divided by sqrt(2 layers) (Radford et al. 2019); norms one, biases zero. The same for the same seed.

    A model built on the meta device gets its memory here, so nothing is drawn twice."""
    if any(weight.is_meta for weight in model.parameters()):
        model.to_empty(device="cpu")
    source = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        fresh = torch.zeros(weight.shape)
        if weight.dim() > 1:
            spread = SPREAD / math.sqrt(2 * layers) if name.endswith(("attended.weight", "down.weight")) else SPREAD
            nn.init.trunc_normal_(fresh, 0.0, spread, -2 * spread, 2 * spread, generator=source)
        elif name.endswith("weight"):
            fresh.fill_(1.0)
        with torch.no_grad():
            weight.copy_(fresh)


def parameters_of(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())
