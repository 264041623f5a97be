"""Loss scaling for float16: small gradients are lifted over what float16 can hold, without asking the device.

Promises: the scale doubles after `GROW` steps whose gradients were numbers, and halves after one whose were not, which
is then not taken (Micikevicius et al. 2018, arXiv 1710.03740); all of it on the device. In every other precision it is
1 and does nothing. State in two tensors.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from tundish.operators.model.clip import multiply, share_of

FIRST, GROW = 2.0**16, 2000


class Scale:
    def __init__(self, device: torch.device, needed: bool) -> None:
        self.needed = needed
        self.value = torch.tensor(FIRST if needed else 1.0, device=device)
        self.good = torch.zeros((), dtype=torch.int64, device=device)

    def up(self, loss: Tensor) -> Tensor:
        return loss * self.value.to(loss.dtype) if self.needed else loss

    def down(self, norm: Tensor) -> Tensor:
        """Whether a step of gradients of this length can be taken, 0-d bool; and the scale of the next one. Where no
        scale is needed every step can: what is no number is then the guard's affair."""
        usable = torch.isfinite(norm)
        if not self.needed:
            return torch.ones_like(usable)
        self.used = self.value.clone()
        self.good.copy_(torch.where(usable, self.good + 1, 0))
        grown = self.good >= GROW
        self.value.copy_(torch.where(usable, torch.where(grown, self.value * 2, self.value), self.value / 2))
        self.good.copy_(torch.where(grown, 0, self.good))
        return usable

    def gradients(self, weights: Iterable[nn.Parameter], norm: Tensor, longest: float) -> None:
        """Take the scale out of the gradients, and shorten them to `longest`, if that is above 0."""
        if not self.needed and not longest:
            return
        share = share_of(norm, longest) if longest else torch.ones_like(norm)
        multiply(weights, share / self.used if self.needed else share)

    def state(self) -> dict[str, Tensor]:
        return {"value": self.value, "good": self.good}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.value.copy_(state["value"])
        self.good.copy_(state["good"])
