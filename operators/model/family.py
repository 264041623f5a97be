"""The family: one block, stacked once or twice, over documents that lie in one flat array.

    states = model(tokens, packed)                              an encoder or a decoder
    states = model(tokens, packed, answers, packed_answers)     a pair: the decoder's
    logits = model.logits(states[places])

Promises: documents never see each other and count positions from zero, so a packed row computes what its documents
would alone; nothing depends on padding. Knows no device, no rank, no data and no parallelism: what shards, recomputes
or compiles it does so from outside, block by block. Costs as `attention` says.

T tokens, D width, H heads, d width of a head, K places that are predicted, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tundish.operators.model.attention import attend, turned, turns
from tundish.operators.model.experts import Experts
from tundish.operators.model.layers import ACTS, Convolution, Embedding, Head, Inner, Linear, norm_of
from tundish.operators.model.packed import Packed
from tundish.operators.model.relative import Buckets, Distances, Slopes, disentangled
from tundish.operators.model.shape import Shape
from tundish.operators.model.sight import Sights, sights

Turn = tuple[Tensor, Tensor]


class Around:
    """What all blocks of a stack share in one forward pass. `turns`, `seen`: of layers that see all, and of local
    ones; `across`: of what a decoder sees of its encoder."""

    def __init__(self, packed: Packed, *, causal: bool) -> None:
        self.packed, self.causal = packed, causal
        self.turns: tuple[Turn, Turn] | None = None
        self.seen: tuple[Sights, Sights]
        self.across: Sights | None = None
        self.far: Tensor | None = None  # (2P, D): embeddings of distances
        self.memory: tuple[Tensor, Packed] | None = None
        self.balance: list[Tensor] = []


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        inner = shape.heads * shape.head_width
        self.qkv = Linear(shape.width, 3 * inner, bias=shape.bias)
        self.out = Linear(inner, shape.width, bias=shape.bias)
        self.normed = nn.ModuleList(norm_of(shape, shape.head_width) for _ in "qk") if shape.qk_norm else None
        self.far = Linear(shape.width, 2 * inner, bias=shape.bias) if shape.far_own else None

    def forward(self, x: Tensor, around: Around, *, local: bool, asking: Tensor | None = None) -> Tensor:
        """(T, D) for (T, D); `asking` gives the queries where it is not x itself."""
        shape = self.shape
        size = shape.heads * shape.head_width
        if asking is None:
            q, k, v = self._split(self.qkv(x)).unbind(1)
        else:
            q, k, v = (self._split(self._part(part, part_of)) for part, part_of in ((asking, 0), (x, 1), (x, 2)))
            q, k, v = q[:, 0], k[:, 0], v[:, 0]
        if self.normed is not None:
            q, k = (norm(each) for norm, each in zip(self.normed, (q, k), strict=True))
        if around.turns is not None:
            turn = around.turns[1 if local else 0]  # a bool as an index is more than torch 2.11 compiles
            q, k = turned(q, turn), turned(k, turn)
        scale, bias = (None if shape.scaled else 1.0), None
        if around.far is not None:
            both = self._both(around.far) if self.far is None else self.far(around.far)
            far_q, far_k = self._split(both).permute(1, 2, 0, 3)
            scale = (3 * shape.head_width) ** -0.5

            def bias(each_q: Tensor, each_k: Tensor, number: Tensor) -> Tensor:
                return disentangled(each_q, each_k, far_q, far_k, number)

        window, seen = (shape.window if local else 0), around.seen[1 if local else 0]
        found = attend(q, k, v, around.packed, scale=scale, window=window, causal=around.causal, bias=bias, seen=seen)
        return self.out(found.reshape(-1, size))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1, self.shape.heads, self.shape.head_width)

    def _both(self, x: Tensor) -> Tensor:
        """The queries and keys of x, side by side."""
        return self._part(x, 0, 2)

    def _part(self, x: Tensor, part: int, count: int = 1) -> Tensor:
        """The queries (0), keys (1) or values (2) of x alone, or so many from there on."""
        size = self.shape.heads * self.shape.head_width
        mine = slice(part * size, (part + count) * size)
        bias = self.qkv.bias
        return F.linear(x, self.qkv.weight[mine].to(x.dtype), None if bias is None else bias[mine].to(x.dtype))


class Across(nn.Module):
    """Attention of a decoder's tokens over the states of its encoder."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        inner = shape.heads * shape.head_width
        self.q = Linear(shape.width, inner, bias=shape.bias)
        self.kv = Linear(shape.width, 2 * inner, bias=shape.bias)
        self.out = Linear(inner, shape.width, bias=shape.bias)

    def forward(self, x: Tensor, around: Around) -> Tensor:
        assert around.memory is not None
        states, packed = around.memory
        heads, size = self.shape.heads, self.shape.head_width
        k, v = self.kv(states).view(-1, 2, heads, size).unbind(1)
        scale = None if self.shape.scaled else 1.0
        q = self.q(x).view(-1, heads, size)
        found = attend(q, k, v, around.packed, packed, scale=scale, seen=around.across)
        return self.out(found.reshape(len(x), -1))


class Block(nn.Module):
    """Attention, in a pair's decoder attention over the encoder, and the inner layer; each added to what came in."""

    def __init__(self, shape: Shape, layer: int, *, across: bool = False) -> None:
        super().__init__()
        self.shape, self.local = shape, shape.local(layer)
        normed = layer > 0 or shape.first_norm or shape.norm == "post"
        self.attention = Attention(shape)
        self.attention_norm = norm_of(shape) if normed else nn.Identity()
        self.across = Across(shape) if across else None
        self.across_norm = norm_of(shape) if across else None
        self.inner = Experts(shape) if shape.sparse_at(layer) else Inner(shape)
        self.inner_norm = norm_of(shape)

    def forward(self, x: Tensor, around: Around, asking: Tensor | None = None) -> Tensor:
        pre = self.shape.norm == "pre"
        given = self.attention_norm(x) if pre else x
        found = self.attention(given, around, local=self.local, asking=asking)
        x = self._added(x if asking is None else asking, found, self.attention_norm)
        if self.across is not None and self.across_norm is not None:
            x = self._added(x, self.across(self.across_norm(x) if pre else x, around), self.across_norm)
        given = self.inner_norm(x) if pre else x
        if isinstance(self.inner, Experts):
            found, balance = self.inner(given, around.packed)
            around.balance.append(balance)
        else:
            found = self.inner(given)
        return self._added(x, found, self.inner_norm)

    def _added(self, x: Tensor, found: Tensor, norm: nn.Module) -> Tensor:
        x = x + F.dropout(found, self.shape.dropout, self.training)
        return x if self.shape.norm == "pre" else norm(x)


class Stack(nn.Module):
    """Blocks one upon the other, and what tells them of positions."""

    def __init__(self, shape: Shape, layers: int, *, causal: bool, across: bool = False) -> None:
        super().__init__()
        self.shape, self.layers, self.causal = shape, layers, causal
        own = 1 if shape.shared else layers
        self.blocks = nn.ModuleList(Block(shape, layer, across=across) for layer in range(own))
        self.final = norm_of(shape) if shape.final_norm else nn.Identity()
        self.bias = self.far = self.far_norm = self.absolute = None
        if shape.positions == "buckets":
            self.bias = Buckets(shape.heads, buckets=shape.buckets, distance=shape.distance, causal=causal)
        if shape.positions == "alibi":
            self.bias = Slopes(shape.heads)
        if shape.positions == "disentangled":
            self.far = nn.Parameter(torch.empty(2 * shape.buckets, shape.width))
            self.far_norm = norm_of(shape) if shape.far_norm else nn.Identity()
        self.beside = Convolution(shape) if shape.span else None
        if shape.enhanced:
            self.absolute = nn.Parameter(torch.empty(shape.length, shape.width))

    def forward(
        self, x: Tensor, packed: Packed, *, causal: bool | None = None, memory: tuple[Tensor, Packed] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """States (T, D) and the losses of balance of its experts."""
        around = self.around(x, packed, causal=self.causal if causal is None else causal)
        if memory is not None:
            around.memory, around.across = memory, sights(packed, memory[1], like=x)
        given = x
        for layer in range(self.layers - bool(self.shape.enhanced)):
            x = self.blocks[0 if self.shape.shared else layer](x, around)
            if layer == 0 and self.beside is not None:
                x = self.beside(given, x, packed.documents)
        if self.absolute is not None:  # DeBERTa: the last block, asked from absolute positions and then from its answer
            asking = x + F.embedding(packed.positions, self.absolute).to(x.dtype)
            for _ in range(self.shape.enhanced):
                asking = self.blocks[-1](x, around, asking)
            x = asking
        return self.final(x), around.balance

    def around(self, x: Tensor, packed: Packed, *, causal: bool) -> Around:
        around, shape = Around(packed, causal=causal), self.shape
        numbers = None
        if shape.positions == "disentangled":
            numbers = Distances(buckets=shape.buckets, distance=shape.distance)
        told = {"like": x, "causal": causal, "bias": self.bias, "numbers": numbers}
        everywhere = sights(packed, **told)
        around.seen = everywhere, sights(packed, window=shape.window, **told) if shape.window else everywhere
        if shape.positions == "rotary":
            whole = turns(packed.positions, shape.head_width, shape.theta, x.dtype)
            near = whole
            if shape.theta_local != shape.theta:
                near = turns(packed.positions, shape.head_width, shape.theta_local, x.dtype)
            around.turns = whole, near
        if self.far is not None and self.far_norm is not None:
            around.far = self.far_norm(self.far.to(x.dtype))
        return around


class Model(nn.Module):
    """`forward` gives states, `logits` scores of tokens at chosen states. Weights are drawn by `initialise` only."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = Embedding(shape)
        self.stack = Stack(shape, shape.layers, causal=shape.stack == "decoder")
        self.decoder = Stack(shape, shape.decoder, causal=True, across=True) if shape.decoder else None
        self.head = Head(shape)
        self.pooler = Linear(shape.width, shape.width) if shape.pooler else None
        self.follows = Linear(shape.width, 2) if shape.pooler else None

    def forward(
        self,
        tokens: Tensor,
        packed: Packed,
        answers: Tensor | None = None,
        packed_answers: Packed | None = None,
        *,
        types: Tensor | None = None,
        causal: bool | None = None,
        dtype: torch.dtype | None = None,
        balance: list[Tensor] | None = None,
        table: Tensor | None = None,
    ) -> Tensor:
        """States (T, D) of tokens (T,), or of a pair's `answers` (U,), which see the documents of the same numbers.

        `causal`: other than the shape has it (an encoder trained as a language model). `dtype` of the states, if not
        that of the weights. `balance` is given the experts' losses of balance. `table`: another one of tokens.
        """
        shape = self.shape
        if packed.longest > shape.length and (shape.positions == "learned" or shape.absolute or shape.enhanced):
            raise ValueError(f"a document of {packed.longest} tokens is longer than the model's {shape.length}")
        dtype = dtype or self.embedding.weight.dtype
        x = self.embedding(tokens, packed.positions, types, dtype, table)
        x, uneven = self.stack(x, packed, causal=causal)
        if self.decoder is not None:
            if answers is None or packed_answers is None:
                raise ValueError("a pair of encoder and decoder needs answers; give the decoder's tokens as well")
            y = self.embedding(answers, packed_answers.positions, None, dtype, table)
            x, more = self.decoder(y, packed_answers, memory=(x, packed))
            uneven = uneven + more
        if balance is not None:
            balance += uneven
        return x

    def logits(self, states: Tensor) -> Tensor:
        """Scores of every token, (K, V), for states (K, D)."""
        return self.head(states, self.embedding.weight)

    def following(self, states: Tensor, packed: Packed) -> Tensor:
        """Two logits a document, (N, 2), of what BERT's second part is; from each document's first state."""
        if self.pooler is None or self.follows is None:
            raise ValueError("this model has no pooler; give its shape one")
        first = packed.bounds[:-1].long().clamp(max=len(states) - 1)  # documents of no tokens may lie at the end
        return self.follows(torch.tanh(self.pooler(states[first])))


class Detector(nn.Module):
    """ELECTRA's discriminator: which tokens were replaced? One logit (T,) for each state of a stack."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.act = shape.act
        self.dense = Linear(shape.width, shape.width)
        self.score = Linear(shape.width, 1)

    def forward(self, states: Tensor) -> Tensor:
        return self.score(ACTS[self.act](self.dense(states))).squeeze(-1)
