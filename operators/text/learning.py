"""What a language identifier learns, and how long: settings of `identifier.learn`, apart from what compiles."""

from dataclasses import dataclass
from typing import Literal

Loss = Literal["softmax", "hierarchical"]


@dataclass(frozen=True)
class Settings:
    """What is learned, and how long. `shortest`, `longest`: of the n-grams of characters; `least`: times a word must
    occur to have a vector of its own beside its n-grams."""

    dimension: int = 16
    shortest: int = 2
    longest: int = 4
    buckets: int = 200_000
    least: int = 5
    epochs: int = 25
    lr: float = 0.5
    loss: Loss = "softmax"
    seed: int = 1
