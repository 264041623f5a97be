"""What `gpu.py` is sure of before it measures: that this device gives the numbers it should.

Each check is a relative error against float64 on the same inputs, or a truth, with a bound; one beyond its bound, and
one that cannot be made, fail the run.
"""

import traceback
from collections.abc import Callable

import torch
from torch import Tensor

from tundish.operators.model import attention, masking
from tundish.operators.model.losses import fused, vocabulary_loss
from tundish.operators.model.packed import packed
from tundish.operators.model.relative import Buckets
from tundish.operators.model.sight import VARLEN, sights

BOUNDS = {torch.bfloat16: 2e-2, torch.float32: 1e-5}  # bfloat16 keeps eight bits: half a percent and more a step
DOCUMENTS = [0, 1, 130, 130, 700, 1000, 1024]


def agreement(cuda: bool) -> dict:
    device = torch.device("cuda" if cuda else "cpu")
    dtype = torch.bfloat16 if cuda else torch.float32
    checks: dict[str, Callable[[], float]] = {
        "attention": lambda: attended(device, dtype, 0, False),
        "attention, window": lambda: attended(device, dtype, 64, False),
        "attention, causal": lambda: attended(device, dtype, 0, True),
        "attention, biases": lambda: biased(device, dtype),
        "head": lambda: headed(device, dtype, compiled=False),
        "head, compiled": lambda: headed(device, dtype, compiled=cuda),
        "masks": lambda: masked(device),
    }
    torch.manual_seed(0)
    found: dict[str, object] = {}
    for name, check in checks.items():
        try:
            found[name] = check()
        except Exception as error:
            traceback.print_exc()
            found[name] = f"{type(error).__name__}: {error}"
    bound = BOUNDS[dtype]
    bad = [name for name, each in found.items() if isinstance(each, str) or not each <= bound]  # type: ignore[operator]
    told = {"relative error": found, "bound": bound, "kernel for variable lengths": cuda and VARLEN is not None}
    return told | ({"failed": f"beyond the bound: {', '.join(bad)}"} if bad else {})


def attended(device: torch.device, dtype: torch.dtype, window: int, causal: bool) -> float:
    """Attention and its gradients by the way this device takes, against rows in float64."""
    states = [torch.randn(1024, 4, 64, device=device).to(dtype).requires_grad_() for _ in "qkv"]
    wide = [each.detach().double().requires_grad_() for each in states]
    given = {"window": window, "causal": causal}
    out = attention.attend(*states, packed(DOCUMENTS, device=device), **given)
    plain = attention.attend(*wide, packed(DOCUMENTS, row=1024, device=device, grouped=False), **given)
    return compared(out, plain, states, wide)


def biased(device: torch.device, dtype: torch.dtype) -> float:
    """Attention with T5's biases by blocks of the band, against groups in float64."""
    bias = Buckets(4, buckets=32, distance=128, causal=False).to(device)
    torch.nn.init.normal_(bias.weight)
    states = [torch.randn(1024, 4, 64, device=device).to(dtype).requires_grad_() for _ in "qkv"]
    wide = [each.detach().double().requires_grad_() for each in states]
    found = []
    for each, grouped in ((states, False), (wide, True)):
        layout = packed(DOCUMENTS, device=device, grouped=grouped)
        found.append(attention.attend(*each, layout, seen=sights(layout, like=each[0], bias=bias)))
    return compared(found[0], found[1], states, wide)


def headed(device: torch.device, dtype: torch.dtype, *, compiled: bool) -> float:
    """The loss over a vocabulary and its gradients, as a compiler gets it, against plain scores in float64."""
    states = torch.randn(3000, 64, device=device).to(dtype).requires_grad_()
    table = (0.1 * torch.randn(5003, 64, device=device)).to(dtype).float().requires_grad_()
    labels = torch.randint(-1, 5003, (3000,), device=device)
    labels[labels < 0] = -100
    one = torch.compile(fused, fullgraph=True, dynamic=False) if compiled else fused
    out = vocabulary_loss(states, table, None, labels, at_once=512, fused=one)
    wide = [each.detach().double().requires_grad_() for each in (states, table)]
    plain = torch.nn.functional.cross_entropy(wide[0] @ wide[1].T, labels, ignore_index=-100, reduction="sum")
    return compared(out, plain, [states, table], wide)


def compared(out: Tensor, plain: Tensor, some: list[Tensor], wide: list[Tensor]) -> float:
    """The largest relative error among a result and its gradients."""
    out.double().square().sum().backward()
    plain.square().sum().backward()
    pairs = [(out.detach(), plain.detach()), *((a.grad, b.grad) for a, b in zip(some, wide, strict=True))]
    return max(float((a.double() - b).norm() / b.norm()) for a, b in pairs)


def masked(device: torch.device) -> float:
    """How many masks are others than the host's: none may be."""
    tokens = torch.randint(5, 1000, (8, 256))
    told = {"seed": 1, "rate": 0.3, "vocabulary": 1000, "specials": [0, 1, 2, 3, 4], "mask_id": 4}
    rows, epochs = torch.arange(8), torch.zeros(8, dtype=torch.long)
    here = masking.mask(tokens, rows, epochs, **told)
    there = masking.mask(tokens.to(device), rows.to(device), epochs.to(device), **told)
    return float(sum(int((a != b.cpu()).sum()) for a, b in zip(here, there, strict=True)))
