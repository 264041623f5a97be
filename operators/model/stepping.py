"""One token more: scores of the next token of many rows, step by step, for decoders and for pairs.

    rows = stepping(model, prompts, room=64)       prompts (decoder), or sources and what answers begin with (pair)
    scores = rows.first()                          (R, V)
    rows.keep(index); scores = rows.next(tokens)   rows may be dropped, doubled and put in another order in between

    Kept    keys and values of what has been read are kept, in room for the longest row; a step reads one token a row
    Anew    every step reads all of every row again, as `Model` does it; for what cannot be kept

Promises: both give the scores that `Model` gives, but for rounding; a row depends on no other. Costs, kept: two
numbers for each layer, place of the longest row and width; anew: a whole forward pass a step, so that n tokens cost
about n²/2. What cannot be kept: disentangled positions, experts with a capacity (what an expert takes depends on the
whole document), convolutions.

R rows, n tokens read at once, M places there is room for, D width, H heads, d width of a head, V vocabulary.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tundish.operators.model.attention import turned, turns
from tundish.operators.model.experts import Experts
from tundish.operators.model.family import Across, Attention, Block, Model, Stack
from tundish.operators.model.heads import states_of
from tundish.operators.model.packed import Packed, packed

Rows = Sequence[Sequence[int]]


class Steps(Protocol):
    def first(self) -> Tensor: ...
    def next(self, tokens: Tensor) -> Tensor: ...
    def keep(self, index: Tensor) -> None: ...


def can_keep(model: Model) -> bool:
    shape = model.shape
    return not (shape.positions == "disentangled" or shape.span or (shape.experts and shape.capacity))


def stepping(model: Model, prompts: Rows, sources: Rows | None = None, *, room: int, kept: bool | None = None) -> Steps:
    """`prompts`: what each row begins with, at least one token; `sources`: of a pair, what is answered; `room`: so many
    tokens may follow; `kept`: as can be, unless told."""
    kept = can_keep(model) if kept is None else kept
    if kept and not can_keep(model):
        raise ValueError("keys and values of this model cannot be kept; let it read anew (kept=False)")
    memory = None if sources is None else _read(model, sources)
    return Kept(model, prompts, memory, room) if kept else Anew(model, prompts, memory)


def _read(model: Model, sources: Rows) -> tuple[Tensor, Packed]:
    """The encoder's states, flat."""
    tokens, layout = flat(sources, model.embedding.weight.device)
    return states_of(model, tokens, layout), layout


def flat(rows: Rows, device: torch.device) -> tuple[Tensor, Packed]:
    bounds = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    tokens = torch.tensor([token for row in rows for token in row], dtype=torch.long, device=device)
    return tokens, packed(bounds, device=device, grouped=True)


class Anew:
    def __init__(self, model: Model, prompts: Rows, memory: tuple[Tensor, Packed] | None) -> None:
        self.model, self.rows = model, [list(row) for row in prompts]
        self.memory = memory
        self.whose = list(range(len(self.rows)))  # the source of each row

    def first(self) -> Tensor:
        return self._scores()

    def next(self, tokens: Tensor) -> Tensor:
        for row, token in zip(self.rows, tokens.tolist(), strict=True):
            row.append(token)
        return self._scores()

    def keep(self, index: Tensor) -> None:
        self.rows = [list(self.rows[row]) for row in index.tolist()]
        self.whose = [self.whose[row] for row in index.tolist()]

    def _scores(self) -> Tensor:
        model = self.model
        tokens, layout = flat(self.rows, model.embedding.weight.device)
        if model.decoder is None:
            states = model(tokens, layout)
        else:
            x = model.embedding(tokens, layout.positions, None, model.embedding.weight.dtype)
            states, _ = model.decoder(x, layout, memory=self._remembered())
        return model.logits(states[layout.bounds[1:].long() - 1])

    def _remembered(self) -> tuple[Tensor, Packed]:
        """The encoder's states once for every row."""
        assert self.memory is not None
        states, layout = self.memory
        parts = [states[layout.bounds[each] : layout.bounds[each + 1]] for each in self.whose]
        bounds = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        return torch.cat(parts), packed(bounds, device=states.device, grouped=True)


class Kept:
    """`keys`, `values`: of each layer (R, M, H, d); `sizes` (R,): places of them that are read."""

    def __init__(self, model: Model, prompts: Rows, memory: tuple[Tensor, Packed] | None, room: int) -> None:
        self.model, self.prompts = model, prompts
        self.stack: Stack = model.stack if model.decoder is None else model.decoder
        device, shape = model.embedding.weight.device, model.shape
        self.sizes = torch.zeros(len(prompts), dtype=torch.long, device=device)
        most = max(len(prompt) for prompt in prompts) + room
        size = (len(prompts), most, shape.heads, shape.head_width)
        self.keys, self.values = (
            [model.embedding.weight.new_zeros(size) for _ in range(self.stack.layers)] for _ in "kv"
        )
        self.whose = torch.arange(len(prompts), device=device)
        self.across = None if memory is None else [_across(block, memory) for block in self.stack.blocks]
        self.there = None if memory is None else _there(memory[1])
        self._spread()

    def first(self) -> Tensor:
        lengths = [len(prompt) for prompt in self.prompts]
        tokens = np.zeros((len(lengths), max(lengths)), np.int64)
        for row, prompt in zip(tokens, self.prompts, strict=True):
            row[: len(prompt)] = prompt
        sizes = torch.tensor(lengths, device=self.sizes.device)
        states = self._forward(torch.from_numpy(tokens).to(sizes.device))
        self.sizes = sizes  # what was read beyond a row's own end is written over before it is seen
        return self.model.logits(states[torch.arange(len(lengths), device=sizes.device), sizes - 1])

    def next(self, tokens: Tensor) -> Tensor:
        states = self._forward(tokens[:, None])
        self.sizes = self.sizes + 1
        return self.model.logits(states[:, 0])

    def keep(self, index: Tensor) -> None:
        self.sizes = self.sizes[index]
        self.keys, self.values = ([each[index] for each in part] for part in (self.keys, self.values))
        whose = self.whose[index]
        if not torch.equal(whose, self.whose):
            self.whose = whose
            self._spread()

    def _spread(self) -> None:
        """The encoder's keys and values once for every row: only made anew where rows came to other sources."""
        if self.across is not None and self.there is not None:
            self.remembered = [tuple(part[self.whose] for part in each) for each in self.across]
            self.seen = self.there[self.whose][:, None, None]

    def _forward(self, tokens: Tensor) -> Tensor:
        """States (R, n, D) of tokens (R, n) that follow what has been read."""
        model, stack = self.model, self.stack
        rows, count = tokens.shape
        places = self.sizes[:, None] + torch.arange(count, device=tokens.device)
        dtype = model.embedding.weight.dtype
        x = model.embedding(tokens.flatten(), places.flatten(), None, dtype).view(rows, count, -1)
        sight = _Sight(stack, places, dtype)
        for layer in range(stack.layers):
            number = 0 if model.shape.shared else layer
            x = self._block(stack.blocks[number], x, layer, number, sight)
        return stack.final(x)  # type: ignore[no-any-return]

    def _block(self, block: Block, x: Tensor, layer: int, number: int, sight: "_Sight") -> Tensor:
        pre = block.shape.norm == "pre"
        given = block.attention_norm(x) if pre else x
        x = x + self._attended(block.attention, given, layer, sight, local=block.local)
        x = x if pre else block.attention_norm(x)
        if block.across is not None and block.across_norm is not None:
            x = x + self._asked(block.across, block.across_norm(x) if pre else x, number)
            x = x if pre else block.across_norm(x)
        x = x + _inner(block, block.inner_norm(x) if pre else x)
        return x if pre else block.inner_norm(x)

    def _attended(self, attention: Attention, x: Tensor, layer: int, sight: "_Sight", *, local: bool) -> Tensor:
        shape = attention.shape
        q, k, v = attention.qkv(x).unflatten(-1, (3, shape.heads, -1)).unbind(2)
        if attention.normed is not None:
            q, k = (norm(each) for norm, each in zip(attention.normed, (q, k), strict=True))
        q, k = (sight.turned(each, local=local) for each in (q, k))
        own = torch.arange(len(x), device=x.device)[:, None].expand_as(sight.places)
        self.keys[layer][own, sight.places], self.values[layer][own, sight.places] = k, v
        k, v = (part[layer][:, : sight.most] for part in (self.keys, self.values))
        return attention.out(_met(q, k, v, sight.added[1 if local else 0], shape.scaled))  # type: ignore[no-any-return]

    def _asked(self, across: Across, x: Tensor, number: int) -> Tensor:
        q = across.q(x).unflatten(-1, (across.shape.heads, -1))
        k, v = self.remembered[number]
        return across.out(_met(q, k, v, self.seen, across.shape.scaled))  # type: ignore[no-any-return]


class _Sight:
    """What the tokens at `places` (R, n) see of the first `most` places, and how they turn; for layers that see all,
    and for local ones."""

    def __init__(self, stack: Stack, places: Tensor, dtype: torch.dtype) -> None:
        shape = stack.shape
        self.places, self.most = places, int(places.max()) + 1
        ahead = torch.arange(self.most, device=places.device) - places[:, :, None]  # (R, n, M)
        bias = None
        if stack.bias is not None:
            bias = stack.bias(ahead.flatten(0, 1))[0].unflatten(1, places.shape).transpose(0, 1)  # (R, H, n, M)
        self.added = tuple(_added(ahead, bias, window, dtype) for window in (0, shape.window))
        self.turns = None
        if shape.positions == "rotary":
            told = places.flatten(), shape.head_width
            self.turns = tuple(turns(*told, theta, dtype) for theta in (shape.theta, shape.theta_local))

    def turned(self, x: Tensor, *, local: bool) -> Tensor:
        if self.turns is None:
            return x
        return turned(x.flatten(0, 1), self.turns[1 if local else 0]).view_as(x)


def _added(ahead: Tensor, bias: Tensor | None, window: int, dtype: torch.dtype) -> Tensor:
    """To scores: a bias where a place is seen, minus infinity where not; (R, H or 1, n, M)."""
    seen = (ahead <= 0) & (ahead >= -window) if window else ahead <= 0
    shut = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, float("-inf"))[:, None]
    return shut if bias is None else shut + bias.to(dtype)


def _met(q: Tensor, k: Tensor, v: Tensor, added: Tensor, scaled: bool) -> Tensor:
    """(R, n, H d) for queries (R, n, H, d) over keys and values (R, M, H, d)."""
    parts = (each.transpose(1, 2) for each in (q, k, v))
    found = F.scaled_dot_product_attention(*parts, attn_mask=added, scale=None if scaled else 1.0)
    return found.transpose(1, 2).flatten(2)


def _inner(block: Block, x: Tensor) -> Tensor:
    if not isinstance(block.inner, Experts):
        return block.inner(x)  # type: ignore[no-any-return]
    rows = x.flatten(0, 1)
    return block.inner(rows, packed([0, len(rows)], device=x.device, grouped=False))[0].view_as(x)  # type: ignore[no-any-return]


def _across(block: Block, memory: tuple[Tensor, Packed]) -> tuple[Tensor, Tensor]:
    """Keys and values of the encoder's states, padded: each (E, M, H, d) for E sources."""
    states, layout = memory
    assert block.across is not None
    k, v = block.across.kv(states).unflatten(-1, (2, block.shape.heads, -1)).unbind(1)
    return _padded(k, layout), _padded(v, layout)


def _padded(x: Tensor, layout: Packed) -> Tensor:
    whole = x.new_zeros(len(layout.bounds) - 1, layout.longest, *x.shape[1:])
    whole[layout.documents.long(), layout.positions] = x
    return whole


def _there(layout: Packed) -> Tensor:
    """Which places of the padded sources are theirs, (E, M) bool."""
    sizes = layout.bounds.diff().long()
    return torch.arange(layout.longest, device=sizes.device) < sizes[:, None]
