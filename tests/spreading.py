"""What the tests of spread models share: small models of each family, a batch in parts, steps on several ranks."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from tundish.operators.model import clip
from tundish.operators.model.descent import StableAdamW
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.objective import GUESSED, TOKENS, Detection, Part, guess, whole
from tundish.operators.model.packed import packed
from tundish.operators.model.shape import Shape
from tundish.stages.ranks import Ranks, joined
from tundish.stages.spread import Copied, Spread, blank

torch.set_num_threads(1)

PARTS, ROW, TOKENS_EACH, GUESSES, SEGMENTS = 8, 16, 48, 9, 12
PLAIN = Shape(vocabulary=31, width=16, layers=3, heads=4, ff=24, length=ROW, window=3)
BERT = replace(
    PLAIN, window=0, norm="post", positions="learned", bias=True, gated=False, types=2, final_norm=False, layers=2
)
T5 = replace(
    PLAIN,
    window=0,
    positions="buckets",
    buckets=8,
    distance=12,
    rms=True,
    scaled=False,
    embedding_norm=False,
    first_norm=True,
    transform=False,
    head_bias=False,
    layers=2,
)
SHAPES = {
    "encoder": replace(PLAIN, qk_norm=True),
    "bert": BERT,
    "decoder": replace(BERT, norm="pre", stack="decoder", first_norm=True, final_norm=True, tied=False),
    "alibi": replace(BERT, positions="alibi"),
    "pair": replace(T5, stack="pair", decoder=2, shrunk=True),
    "albert": replace(BERT, shared=True, embedding=8),
    "deberta": replace(BERT, positions="disentangled", buckets=6, distance=12, enhanced=2, far_own=True),
    "switch": replace(T5, stack="pair", decoder=2, experts=4, gated=False, act="relu", head=4),
    "detection": replace(BERT, embedding=8),
    "gdes": replace(BERT, embedding=8, positions="disentangled", buckets=6, distance=12),
}


def made(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    shape = SHAPES[name]
    if name in ("detection", "gdes"):
        sharing = "all" if name == "detection" else "gdes"
        model: nn.Module = Detection(shape, replace(shape, heads=2, width=8, ff=12), sharing=sharing)
    else:
        model = Model(shape)
    initialise(model, shape, seed=7)
    with torch.no_grad():  # unlike the first weights, nothing is zero or one
        for weight in model.parameters():
            weight.add_(torch.sin(torch.arange(weight.numel()) * 0.7).view_as(weight) * 0.05)
    return model.to(dtype)


def part(number: int, *, answered: bool = False, grouped: bool | None = None, size: int = TOKENS_EACH) -> Part:
    """Rows of documents; `answered`: with a decoder's tokens, where the guessed places are then."""
    random = np.random.default_rng(number)

    def documents() -> np.ndarray:  # as many in each part, of which some are empty
        cuts = {*random.integers(1, size, 4).tolist(), *range(0, size + 1, ROW)}
        return np.array(sorted(cuts) + [size] * (SEGMENTS + 1 - len(cuts)))

    def laid(bounds: np.ndarray) -> object:
        return packed(bounds, row=ROW, longest=ROW, grouped=grouped)

    bounds = documents()
    answers = torch.from_numpy(random.integers(0, 31, size)) if answered else None
    return Part(
        torch.from_numpy(random.integers(0, 31, size)),
        laid(bounds),
        torch.arange(size) < size - number % 3,
        torch.from_numpy(random.choice(size, GUESSES, replace=False)),
        torch.from_numpy(random.integers(0, 31, GUESSES)),
        torch.from_numpy(random.random(GUESSES)),
        answers,
        laid(bounds) if answered else None,
    )


def parts(model: nn.Module) -> list[Part]:
    answered = isinstance(model, Model) and model.decoder is not None
    return [part(number, answered=answered) for number in range(PARTS)]


def loss_of(model: nn.Module, given: Part, dtype: torch.dtype | None = None) -> torch.Tensor:
    terms = model(given, dtype=dtype) if isinstance(model, Detection) else guess(model, given, causal=None, dtype=dtype)
    return whole(terms, {GUESSED: PARTS * GUESSES, TOKENS: PARTS * TOKENS_EACH})


@dataclass
class Trained:
    """After two steps: losses, lengths of gradients, the first gradients and the last weights and moments, whole, by
    name; weights on rank 0 only."""

    losses: list[float]
    norms: list[float]
    gradients: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    weights: dict[str, torch.Tensor]


def trained(spread: Spread, given: list[Part], *, dtype: torch.dtype | None = None, steps: int = 2) -> Trained:
    """The loop's own lines, as short as they are."""
    optimizer = StableAdamW(spread.named(), decay=0.1)
    mine = given[spread.ranks.share :: spread.ranks.shares]
    if spread.even:
        mine += [blank(mine[-1])] * (-(-len(given) // spread.ranks.shares) - len(mine))
    losses, norms, gradients = [], [], {}
    for step in range(steps):
        spread.clear()
        total = torch.zeros(1, dtype=dtype_of(spread))
        for number, each in enumerate(mine):
            loss = loss_of(spread.model, each, dtype)
            spread.backward(loss, last=number == len(mine) - 1)
            total += loss.detach()
        losses.append(float(spread.summed(total)))
        norms.append(float(clip.norm_of(spread.weights)))
        if step == 0:
            gradients = whole_of(spread, {name: weight.grad for name, weight in spread.named()})
        optimizer.step(1e-2)
    return Trained(losses, norms, gradients, whole_of(spread, optimizer.state()), dict(spread.whole()))


def dtype_of(spread: Spread) -> torch.dtype:
    return spread.weights[0].dtype


def whole_of(spread: Spread, live: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: full(each) for name, each in spread.stored(live).items()}


def full(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def alone(name: str, dtype: torch.dtype = torch.float64) -> Trained:
    model = made(name, dtype)
    return trained(Copied(model, Ranks(0, 1, torch.device("cpu"))), parts(model))


def on_ranks(work, folder: Path, world: int, *args, together: int = 1) -> list[object]:
    """What `work(ranks, *args)` finds on each of some processes."""
    mp.spawn(_rank, (work, folder, world, args, together), nprocs=world)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _rank(number: int, work, folder: Path, world: int, args: tuple, together: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=world)
    with joined(number, world, together=together) as ranks:
        torch.save(work(ranks, *args), folder / f"{number}.pt")
    dist.destroy_process_group()


def same(found: list[Trained], wanted: Trained, within: float = 1e-10) -> None:
    """What each rank found is what was wanted."""
    for rank, mine in enumerate(found):
        np.testing.assert_allclose(mine.losses, wanted.losses, rtol=0, atol=within)
        np.testing.assert_allclose(mine.norms, wanted.norms, rtol=0, atol=within)
        for kind in ("gradients", "moments", "weights"):
            theirs = getattr(wanted, kind) if kind != "weights" or rank == 0 else {}
            assert getattr(mine, kind).keys() == theirs.keys()
            for name, tensor in theirs.items():
                off = float((getattr(mine, kind)[name] - tensor).abs().max())
                assert off <= within, f"{kind} {name} on rank {rank} are off by {off}"
