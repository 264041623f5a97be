"""A batch: rows made ready for one objective, and the same with sizes that never change, as compiled code wants them.

Promises: `Static.of` adds what no loss counts, and nothing else: labels of `IGNORED`, segments of no length, padding in
a segment of its own. Costs a copy of what grows. Refuses a batch that is larger than the sizes given.

B rows, T places of a row, K guessed places, S segments, E places of the encoder, D of the decoder.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

IGNORED = -100  # the label of what is not guessed; the value torch's cross-entropy leaves out


class Batch(NamedTuple):
    """Rows ready to train on.

    `inputs` (B, T) int32, or (E,) where an objective shortens rows. `bounds` (S + 1,) int32: where segments begin in
    the flattened rows (padding is one of its own) and their end last, as variable-length attention takes them. `sizes`
    (B,) int64: places not padded. `places` (K,) int64 in the flattened rows, what stands there `labels` (K,) int64;
    `counts` (B,) int64: how many a row. `digest`: a 64-bit sum that adds up, wrapping, over parts of a batch.

    Some objectives have more. `uniforms` (K,) float32 in [0, 1), to sample by. `prefixes` (S,) int32: so many tokens at
    a segment's beginning see one another. `answers` (D,) int32: what the decoder is given, its segment s answering
    segment s of the inputs, from `answer_bounds` (S + 1,) int32; `places` are then the decoder's.
    """

    inputs: np.ndarray
    bounds: np.ndarray
    sizes: np.ndarray
    places: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    digest: int
    uniforms: np.ndarray | None = None
    prefixes: np.ndarray | None = None
    answers: np.ndarray | None = None
    answer_bounds: np.ndarray | None = None

    @property
    def longest(self) -> int:
        """Places of the longest segment."""
        return int(np.diff(self.bounds).max())

    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Segments and positions, each (B, T) int32: the number of a place's segment, -1 for padding, and its place
        in it. For attention over whole rows with a mask."""
        shape = self.inputs.shape
        segments = np.repeat(np.arange(len(self.bounds) - 1, dtype=np.int32), np.diff(self.bounds))
        positions = (np.arange(len(segments), dtype=np.int32) - self.bounds[segments]).reshape(shape)
        segments = segments.reshape(shape)
        padded = np.arange(shape[1]) >= self.sizes[:, None]
        segments[padded], positions[padded] = -1, 0
        return segments, positions


@dataclass(frozen=True)
class Static:
    """Sizes that every batch is brought to: `places` K and `segments` S; where rows are shortened, also `inputs` E and
    `answers` D (K is then D). `pad`: the id of padding."""

    places: int
    segments: int
    inputs: int = 0
    answers: int = 0
    pad: int = 0

    def of(self, batch: Batch) -> Batch:
        if batch.answers is not None:
            batch = self._answered(batch)
        more, segments = self.places - len(batch.labels), self.segments - len(batch.bounds) + 1
        if more < 0 or segments < 0:
            raise ValueError(
                f"a batch has {len(batch.labels)} guessed places and {len(batch.bounds) - 1} segments, and there is "
                f"room for {self.places} and {self.segments}; give more room, or fewer rows a batch"
            )
        return batch._replace(
            places=_longer(batch.places, more, 0),
            labels=_longer(batch.labels, more, IGNORED),
            uniforms=_longer(batch.uniforms, more, 0),
            bounds=_longer(batch.bounds, segments, batch.bounds[-1]),
            prefixes=_longer(batch.prefixes, segments, 0),
            answer_bounds=_longer(batch.answer_bounds, segments, None),
        )

    def _answered(self, batch: Batch) -> Batch:
        """With padding behind inputs and answers, which is one more segment of both."""
        assert batch.answers is not None
        assert batch.answer_bounds is not None
        shown, said = self.inputs - len(batch.inputs), self.answers - len(batch.answers)
        if shown < 0 or said < 0:
            raise ValueError(
                f"a batch shows {len(batch.inputs)} tokens and asks for {len(batch.answers)}, and there is room for "
                f"{self.inputs} and {self.answers}; give more room, or fewer rows a batch"
            )
        return batch._replace(
            inputs=_longer(batch.inputs, shown, self.pad),
            bounds=np.append(batch.bounds, np.int32(self.inputs)),
            answers=_longer(batch.answers, said, self.pad),
            answer_bounds=np.append(batch.answer_bounds, np.int32(self.answers)),
        )


def _longer(array: np.ndarray | None, more: int, value: int | None) -> np.ndarray | None:
    """The array with so many values behind it; None: its last once more."""
    if array is None:
        return None
    return np.concatenate([array, np.full(more, array[-1] if value is None else value, array.dtype)])
