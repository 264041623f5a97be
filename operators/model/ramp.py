"""Batches that grow: from the first size to the last over so many tokens, in the form `plan.Plan.batches` wants.

A larger batch is worth its tokens only later in a training, so the default recipe starts small (ModernBERT: over the
first 50 billion tokens). The size follows a straight line over the tokens that were seen, rounded down to a multiple
(of ranks times rows at once) that leaves no rank without work.

Promises: exact, in whole numbers: step s has the largest multiple that the line has reached when s begins. Costs one
entry a size. Refuses sizes that are no multiples, and batches that shrink.
"""

from collections.abc import Sequence


def ramp(first: int, last: int, *, tokens: int, row: int, multiple: int = 1) -> tuple[tuple[int, int], ...]:
    """((step, rows from there on), ...): from `first` to `last` rows of `row` tokens over the first `tokens` tokens.

    >>> ramp(2, 8, tokens=120, row=10, multiple=2)
    ((0, 2), (2, 4), (3, 6), (4, 8))
    >>> ramp(8, 8, tokens=0, row=10)
    ((0, 8),)
    """
    if min(first, row, multiple) < 1 or tokens < 0:
        raise ValueError(
            f"{first} rows of {row} tokens in multiples of {multiple} over {tokens} tokens are no batch; give at least "
            "one of each"
        )
    if first % multiple or last % multiple:
        raise ValueError(f"batches of {first} and {last} rows are no multiples of {multiple}; round them to such")
    if last < first:
        raise ValueError(f"a batch of {first} rows cannot grow to {last}; give a last size of at least the first")
    found: list[tuple[int, int]] = []
    step = seen = 0  # rows
    size = first
    while True:
        size = max(size, reached(seen, first, last, tokens=tokens, row=row, multiple=multiple))
        found.append((step, size))
        if size == last:
            return tuple(found)
        # the line reaches the next multiple when rows * row * (last - first) >= tokens * (next - first)
        due = -(-tokens * (size + multiple - first) // (row * (last - first)))
        steps = max(1, -(-(due - seen) // size))
        step, seen = step + steps, seen + steps * size


def reached(seen: int, first: int, last: int, *, tokens: int, row: int, multiple: int) -> int:
    """The largest multiple that the line from `first` to `last` has reached after `seen` rows.

    >>> reached(6, 2, 8, tokens=120, row=10, multiple=2)
    4
    """
    if seen * row >= tokens:
        return last
    return first + (last - first) * seen * row // tokens // multiple * multiple


def steps_for(rows: int, batches: Sequence[tuple[int, int]]) -> int:
    """How many steps see at least so many rows.

    >>> steps_for(100, ((0, 2), (2, 4), (3, 6), (4, 8)))
    15
    """
    if not batches or batches[0][0]:
        raise ValueError(f"the batches {list(batches)} begin late or never; give one at step 0")
    left = rows
    for (first, size), (after, _) in zip(batches, [*batches[1:], (0, 0)], strict=True):
        held = (after - first) * size
        if not after or left <= held:
            return first - (-left // size)
        left -= held
    raise AssertionError("the last batch goes on for ever")
