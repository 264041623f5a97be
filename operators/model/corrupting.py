"""Span corruption on the host (T5; Raffel et al., arXiv 1910.10683): spans are taken out, and said by the decoder.

    segment    [CLS] Thank you for inviting me to your party last week [SEP]
    inputs     Thank you <0> me to your party <1> week [SEP]
    labels     <0> for inviting <1> last [SEP]
    answers    [PAD] <0> for inviting <1> last           what the decoder is given: the labels, one place later

Of n tokens between [CLS] and [SEP], round(rate x n) are noise (1 to n - 1), in round(noise / mean) spans, at least 1;
lengths of spans, and of what lies between them, are compositions drawn with equal chances; a segment begins with what
is kept and ends with noise. That is `random_spans_noise_mask` of the T5 code, with two differences: segments are
documents, not runs across them, and there are never more spans than sentinels (they grow longer instead).

Promises: a function of (seed, epoch, row key, place) and the rate; no token is lost: labels put in place of the
sentinels of the inputs give the segment; a segment of one token is shown whole and answered by [SEP] alone; padding is
left out. Costs some 10 ns a token, without the GIL. Refuses sentinels outside the vocabulary or among [CLS], [SEP],
[PAD], and tokens outside the vocabulary. A text that holds a sentinel keeps it: take ids that no text becomes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tundish.operators.model import kernels_corrupting
from tundish.operators.model.batch import Batch
from tundish.operators.model.hiding import NOISE, Hiding, check_rate, place_words, words_of
from tundish.operators.model.rows import Filled, Frame


@dataclass(frozen=True)
class Corrupted:
    """`sentinel`: id of the first; the others follow downwards, as `<extra_id_0>` of T5 is the highest, or upwards.
    `start`: what the decoder is given first; None: [PAD], as T5 is."""

    sentinel: int
    descending: bool = True
    sentinels: int = 100
    rate: float = 0.15
    mean: float = 3.0
    start: int | None = None

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if not self.mean >= 1 or self.sentinels < 1:
            raise ValueError(
                f"spans of {self.mean} tokens with {self.sentinels} sentinels cannot be drawn; give at least 1 of each"
            )

    @property
    def ids(self) -> range:
        """The sentinels in their order."""
        step = -1 if self.descending else 1
        return range(self.sentinel, self.sentinel + step * self.sentinels, step)

    def batch(self, rows: Filled, keys: np.ndarray, epochs: np.ndarray, hiding: Hiding, rate: float | None) -> Batch:
        frame = hiding.frame
        if min(self.ids) < 0 or max(self.ids) >= hiding.vocabulary or {frame.cls, frame.sep, frame.pad} & {*self.ids}:
            raise ValueError(
                f"the sentinels {self.ids[0]} to {self.ids[-1]} are not all free ids of the vocabulary of "
                f"{hiding.vocabulary}; give as many ids of their own, which no text becomes"
            )
        rate = float(self.rate if rate is None else rate)
        check_rate(rate)
        count, length = rows.tokens.shape
        size, most = rows.tokens.size, len(rows.bounds) - 1
        (inputs, answers), labels = np.empty((2, size), np.int32), np.empty(size, np.int64)
        ends, answer_ends = np.zeros((2, most + 1), np.int32)
        shown, counts, told = np.empty(count, np.int64), np.empty(count, np.int64), np.zeros(1, np.uint64)
        segments = kernels_corrupting.corrupt(
            rows.tokens.reshape(-1),
            length,
            rows.bounds,
            rows.sizes,
            words_of(NOISE, hiding.seed, keys, epochs),
            place_words(length),
            rate,
            float(self.mean),
            self.sentinel,
            self.ids.step,
            self.sentinels,
            frame.pad if self.start is None else self.start,
            hiding.vocabulary,
            np.empty(length, np.uint64),
            np.empty((2, length), np.int64),
            inputs,
            ends[1:],
            answers,
            labels,
            answer_ends[1:],
            shown,
            counts,
            told,
        )
        if segments < 0:
            raise hiding.refuse(-1 - segments)
        e, d = int(shown.sum()), int(counts.sum())
        return Batch(
            inputs[:e],
            ends[: segments + 1],
            shown,
            np.arange(d),
            labels[:d],
            counts,
            int(told[0]),
            answers=answers[:d],
            answer_bounds=answer_ends[: segments + 1],
        )

    def room(self, tokens: int, segments: int, rate: float | None = None) -> tuple[int, int]:
        """No batch of so many tokens ([CLS] and [SEP] not counted) in so many segments shows or asks for more."""
        rate = self.rate if rate is None else rate
        noise, spans = tokens * rate, tokens * rate / self.mean  # a segment rounds each up by no more than one
        shown = min(tokens + segments, tokens - noise + spans + 4 * segments)
        return math.ceil(shown), math.ceil(min(tokens + segments, noise + spans + 4 * segments))


def sentinels_of(specials: Mapping[str, int]) -> Corrupted:
    """T5's corruption with the sentinels a vocabulary has: `<extra_id_0>`, `<extra_id_1>`, …"""
    ids = [specials[name] for number in range(len(specials)) if (name := f"<extra_id_{number}>") in specials]
    kind = Corrupted(ids[0], len(ids) > 1 and ids[1] < ids[0], len(ids)) if ids else None
    if kind is None or ids != [*kind.ids]:
        raise ValueError(
            f"the vocabulary has the sentinels {ids}, and spans need neighbouring ids from <extra_id_0> on; name 100 "
            "among Tokenize.specials, or give Corrupted ids that no text becomes"
        )
    return kind


def paired(texts: Sequence[np.ndarray], answers: Sequence[np.ndarray], frame: Frame, start: int | None = None) -> Batch:
    """Texts and their answers, each (n,) ids, as a batch of text-to-text: [SEP] ends both. One text is one row."""
    shown = [np.append(text, frame.sep).astype(np.int32) for text in texts]
    said = [np.append(answer, frame.sep).astype(np.int64) for answer in answers]
    if len(shown) != len(said) or not shown:
        raise ValueError(f"{len(texts)} texts have {len(answers)} answers; give as many of both, at least one")
    first = frame.pad if start is None else start
    given = [np.append(first, answer[:-1]).astype(np.int32) for answer in said]
    sizes, counts = (np.array([len(each) for each in side]) for side in (shown, said))
    bounds, answer_bounds = (np.concatenate([[0], np.cumsum(each)]).astype(np.int32) for each in (sizes, counts))
    labels = np.concatenate(said)
    return Batch(
        np.concatenate(shown),
        bounds,
        sizes,
        np.arange(len(labels)),
        labels,
        counts,
        0,
        answers=np.concatenate(given),
        answer_bounds=answer_bounds,
    )
