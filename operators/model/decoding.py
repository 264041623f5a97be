"""How a text is chosen, as one value: lengths, beams, draws.

Promises: what decides a text besides model, prompt and end tokens is a field here. Refuses what no text could be of.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Decoding:
    """`longest`, `shortest`: of new tokens. `sequences`: of each example. `length_penalty`, `early`: of beams, as
    transformers has them: a finished row's score is its logarithm over its length to that power; early True ends when
    as many rows are finished as there are beams, False when no open row is likely to be better, "never" when none can
    be. `no_repeat`: no run of so many tokens comes twice, prompt included; 0: all may."""

    longest: int = 64
    shortest: int = 0
    sequences: int = 1
    no_repeat: int = 0
    beams: int = 1
    length_penalty: float = 1.0
    early: bool | str = False
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.shortest <= self.longest or self.longest < 1:
            raise ValueError(f"texts of {self.shortest} to {self.longest} tokens are none; give ascending lengths")
        if self.beams < 1 or self.sequences < 1 or self.no_repeat < 0:
            raise ValueError(
                f"{self.beams} beams, {self.sequences} sequences and runs of {self.no_repeat} make no text; "
                "give at least 1, 1 and 0"
            )
        if self.sample and self.beams > 1:
            raise ValueError(f"{self.beams} beams are not sampled here; set beams to 1, or sample to false")
        if not self.sample and self.sequences > self.beams:
            raise ValueError(f"{self.sequences} sequences do not come of {self.beams} beams; sample, or give more")
        if self.temperature <= 0 or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ValueError(
                f"temperature {self.temperature}, top_k {self.top_k} and top_p {self.top_p} leave nothing to draw; "
                "give a temperature above 0, a count, and a share in (0, 1]"
            )
        if self.early not in (True, False, "never"):
            raise ValueError(f"beams cannot end early as {self.early!r}; choose true, false or never")
