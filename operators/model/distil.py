"""Distillation: a small model learns what a large one says, and of its states, beside the labels themselves.

    soft     KL(teacher || student) of both at a temperature, times its square, so that the gradient is of the size of
             the labels' own (Hinton, Vinyals & Dean 2015, section 2)
    hidden   squared error of states behind matched layers, through one linear map where widths differ (TinyBERT's
             W_h, Jiao et al. 2020)
    mixed    (1 - alpha) own + alpha soft + hidden

Labels of their own are Bernoulli each; numbers are met by squared error; of spans the places of a document are the
classes; vectors are met by whom they resemble in a batch (Park et al. 2019 name it relational), so that widths may
differ.

Promises: every loss is (sum, count) over documents or tokens, so parts of a batch add up as `head_losses` do, but for
vectors, whose batch is what they see; nothing flows to the teacher. Costs a pass over the answers, and of hidden states
one of the student's. Refuses temperatures that are not above 0, and layers that are not there.

N documents, T tokens, C classes, D width of the student, E of the teacher.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tundish.operators.model.family import Stack
from tundish.operators.model.head_losses import SHUT, Summed, wide
from tundish.operators.model.heads import means
from tundish.operators.model.layers import Linear
from tundish.operators.model.packed import Packed

MAPPINGS = ("uniform", "top", "last")
TEXTS = 3  # passes of one step at most: a text, what belongs to it, what does not
Pairs = tuple[tuple[int, int], ...]


def soft_classes(found: Tensor, taught: Tensor, temperature: float, counted: Tensor | None = None) -> Summed:
    """Of logits (n, C) and the teacher's; `counted` (n,) bool: which rows count, all where None."""
    each = _divergence(*_softened(found, taught, temperature)) * temperature**2
    return _summed(each, counted)


def soft_labels(found: Tensor, taught: Tensor, temperature: float) -> Summed:
    """Of logits (N, C) of labels of their own; over N times C."""
    mine, its = _divided(found, taught, temperature)
    both = torch.stack([mine, -mine], -1), torch.stack([its, -its], -1)
    each = _divergence(*(F.logsigmoid(part) for part in both)) * temperature**2
    return _summed(each.flatten(), None)


def soft_numbers(found: Tensor, taught: Tensor) -> Summed:
    """Squared error of (N, 1) against the teacher's."""
    _alike(found, taught)
    return _summed((wide(found) - wide(taught).detach()).square().sum(1), None)


def soft_spans(found: Tensor, taught: Tensor, packed: Packed, context: Tensor, temperature: float) -> Summed:
    """Of scores (T, 2) of first and last tokens, over the places of each document where an answer may lie: `context`
    (T,) bool, and the first, which means that there is none; the mean of both ends, over N."""
    mine, its = _divided(found, taught, temperature)
    allowed = context | (packed.positions == 0)
    rows, places = packed.documents.long(), packed.positions
    shape = len(packed.bounds) - 1, packed.longest, 2

    def spread(scores: Tensor) -> Tensor:
        room = scores.new_full(shape, SHUT)
        return room.index_put((rows, places), scores.masked_fill(~allowed[:, None], SHUT)).log_softmax(1)

    log_mine, log_its = spread(mine), spread(its)
    shut = log_its == SHUT
    each = log_its.exp() * (log_its.masked_fill(shut, 0.0) - log_mine.masked_fill(shut, 0.0))
    return _summed(each.sum((1, 2)) / 2 * temperature**2, None)


def soft_pairs(found: Tensor, taught: Tensor, asking: int, temperature: float) -> Summed:
    """Of vectors at length one, (M, D) and (M, E): the first `asking` rows each resemble all the others, and the
    student's resemblances over the temperature follow the teacher's."""
    if len(found) != len(taught):
        raise ValueError(f"{len(found)} vectors and {len(taught)} of the teacher are not of one batch; give the same")
    _positive(temperature)
    found, taught = wide(found), wide(taught).detach()
    mine, its = (each[:asking] @ each[asking:].t() / temperature for each in (found, taught))
    return _summed(_divergence(mine.log_softmax(1), its.log_softmax(1)), None)


def mixed(own: Summed, soft: Summed, alpha: float, hidden: Summed | None = None, weight: float = 0.0) -> Summed:
    """(1 - alpha) of the own mean, alpha of the soft one, and `weight` of the hidden one, over the own count."""
    total = (1 - alpha) * own.total + alpha * _share(soft, own.count)
    return Summed(total if hidden is None else total + weight * _share(hidden, own.count), own.count)


def hidden_loss(mine: Sequence[Tensor], its: Sequence[Tensor], packed: Packed, fit: nn.Module | None = None) -> Summed:
    """Squared error of matched states (T, D) and (T, E), the mean over numbers, tokens of a document and layers; over
    N. `fit`: from D to E."""
    total = torch.zeros(())
    for one, other in zip(mine, its, strict=True):
        one = one if fit is None else fit(one)
        _alike(one, other)
        error = (wide(one) - wide(other).detach()).square().mean(1, keepdim=True)
        total = total.to(error) + means(error, packed).sum() / len(mine)
    return Summed(total, total.new_tensor(float(len(packed.bounds) - 1)))


def fit_of(width: int, to: int, *, seed: int) -> Linear | None:
    """The map from the student's width to the teacher's, a function of the seed; None where they are one."""
    if width == to:
        return None
    fit = Linear(width, to, bias=False)
    with torch.no_grad():
        fit.weight.normal_(0.0, width**-0.5, generator=torch.Generator().manual_seed(seed))
    return fit


def matched(student: int, teacher: int, how: str = "uniform") -> Pairs:
    """Which layer of the student learns from which, as (student's, teacher's) from 0.

    uniform   evenly, the last from the last (TinyBERT)       top    each from the one as far from the top
    last      the last alone (MiniLM, Wang et al. 2020)       or given, such as 0:1,2:5

    >>> matched(3, 6), matched(2, 6, "top"), matched(3, 6, "last"), matched(3, 6, "0:1,2:5")
    (((0, 1), (1, 3), (2, 5)), ((0, 4), (1, 5)), ((2, 5),), ((0, 1), (2, 5)))
    """
    if how == "last":
        return ((student - 1, teacher - 1),)
    if how == "uniform":
        return tuple((own, -(-(own + 1) * teacher // student) - 1) for own in range(student))
    if how == "top" and student <= teacher:
        return tuple((own, teacher - student + own) for own in range(student))
    pairs = _given(how)
    if wrong := [pair for pair in pairs if not (pair[0] < student and pair[1] < teacher)]:
        raise ValueError(
            f"layers {wrong[0][0]}:{wrong[0][1]} are not both there, of {student} and {teacher}; number them from 0"
        )
    return pairs


def _given(how: str) -> Pairs:
    each = [one.partition(":") for one in how.split(",")]
    if not all(sign and left.strip().isdecimal() and right.strip().isdecimal() for left, sign, right in each):
        raise ValueError(
            f"layers are not matched by {how!r}; choose {', '.join(MAPPINGS)} (top of a student that is no deeper), or "
            "write pairs such as 0:1,2:5"
        )
    return tuple((int(left), int(right)) for left, _, right in each)


@contextmanager
def tapped(stack: Stack, layers: Collection[int]) -> Iterator[deque[Mapping[int, Tensor]]]:
    """The states behind these layers, of the last passes of a stack, newest last. One block called many times counts
    call by call; what answers several times (DeBERTa's last) is known by its last answer."""
    passes: deque[dict[int, Tensor]] = deque(maxlen=TEXTS)
    calls = [0]

    def begin(*_: object) -> None:
        passes.append({})
        calls[0] = 0

    def keep(_: nn.Module, __: object, found: Tensor) -> None:
        layer = min(calls[0], stack.layers - 1)
        calls[0] += 1
        if layer in layers:
            passes[-1][layer] = found

    hooks = [stack.register_forward_pre_hook(begin), *(each.register_forward_hook(keep) for each in stack.blocks)]
    try:
        yield passes  # type: ignore[misc]
    finally:
        for hook in hooks:
            hook.remove()


def _share(loss: Summed, count: Tensor) -> Tensor:
    """A loss's mean, so many times."""
    return loss.total / loss.count.clamp(min=1e-12) * count


def _softened(found: Tensor, taught: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    mine, its = _divided(found, taught, temperature)
    return mine.log_softmax(-1), its.log_softmax(-1)


def _divided(found: Tensor, taught: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    _positive(temperature)
    _alike(found, taught)
    return wide(found) / temperature, wide(taught).detach() / temperature


def _divergence(mine: Tensor, its: Tensor) -> Tensor:
    """KL(its || mine) over the last dimension, both logarithms of shares."""
    return (its.exp() * (its - mine)).sum(-1)


def _summed(each: Tensor, counted: Tensor | None) -> Summed:
    if counted is None:
        return Summed(each.sum(), each.new_tensor(float(len(each))))
    return Summed(each.masked_fill(~counted, 0.0).sum(), counted.sum().to(each.dtype))


def _positive(temperature: float) -> None:
    if temperature <= 0:
        raise ValueError(f"a temperature of {temperature} softens nothing; give one above 0")


def _alike(found: Tensor, taught: Tensor) -> None:
    if found.shape != taught.shape:
        raise ValueError(
            f"the student says {tuple(found.shape)} and the teacher {tuple(taught.shape)}; both must say the same kind "
            "of thing, of the same classes"
        )
