import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tundish.operators.model.rows import FRAME, WASTE, Frame, Layout, Shard, cut, fill

CLS, SEP, PAD = 2, 3, 0
FRAMED = Frame(CLS, SEP, PAD)


def slow_rows(lengths, layout):
    """Rows as lists of (document, start, stop), one place after the other."""
    rows, used = [], layout.row
    spare = max(FRAME, int(WASTE * layout.row))
    for document, size in enumerate(lengths):
        at = 0
        while at < size:
            part, left = min(layout.context - FRAME, size - at), layout.row - used
            if part + FRAME > left and left <= spare:
                rows.append([])
                used = 0
                continue
            part = min(part, left - FRAME)
            rows[-1].append((document, at, at + part))
            at, used = at + part, used + part + FRAME
    return rows


def shard_of(lengths, layout, first=0):
    """Documents whose tokens are 10, 11, 12 …, behind `first` tokens of another slice of the file."""
    offsets = first + np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.concatenate([np.full(first, 9), np.arange(sum(lengths)) + 10]).astype(np.uint16)
    return Shard(tokens, offsets, cut(offsets, layout))


LENGTHS = st.lists(st.integers(0, 60), max_size=40)
LAYOUTS = st.tuples(st.integers(3, 25), st.integers(1, 5)).map(lambda it: Layout(it[0] * it[1], it[0]))


@settings(max_examples=200, deadline=None)
@given(LENGTHS, LAYOUTS, st.integers(0, 5))
def test_rows_equal_the_slow_way_and_lose_nothing(lengths, layout, first):
    shard = shard_of(lengths, layout, first)
    wanted = slow_rows(lengths, layout)
    assert len(shard.starts) - 1 == len(wanted)
    found = fill([shard], np.zeros(len(wanted), int), np.arange(len(wanted)), layout, FRAMED)
    assert found.tokens[found.tokens >= 10].tolist() == list(range(10, 10 + sum(lengths)))
    tokens, bounds = [], []
    before = np.concatenate([[0], np.cumsum(lengths)])
    for number, row in enumerate(wanted):
        line = []
        for document, start, stop in row:
            bounds.append(number * layout.row + len(line))
            line += [CLS, *range(10 + before[document] + start, 10 + before[document] + stop), SEP]
        assert found.sizes[number] == len(line)
        if len(line) < layout.row:
            bounds.append(number * layout.row + len(line))
        tokens.append(line + [PAD] * (layout.row - len(line)))
    assert found.tokens.tolist() == tokens
    assert found.bounds.tolist() == [*bounds, len(wanted) * layout.row]
    for number, row in enumerate(wanted):
        documents = sorted({document for document, _, _ in row})
        assert shard.documents(number).tolist() == documents
        assert all(number in shard.rows(document) for document in documents)
    for document, size in enumerate(lengths):
        assert list(shard.rows(document)) == [
            n for n, row in enumerate(wanted) if any(d == document for d, _, _ in row)
        ], size


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=60), st.sampled_from([(128, 128), (1024, 128), (4096, 512)]))
def test_no_row_but_the_last_is_padded_by_more_than_two_percent(lengths, form):
    layout = Layout(*form)
    shard = shard_of(lengths, layout)
    count = len(shard.starts) - 1
    found = fill([shard], np.zeros(count, int), np.arange(count), layout, FRAMED)
    assert (layout.row - found.sizes[:-1] <= max(FRAME, WASTE * layout.row)).all()


def test_a_batch_takes_rows_of_many_shards_in_its_own_order():
    layout = Layout(8, 8)
    shards = [shard_of([6, 3, 9], layout), shard_of([4, 20], layout)]
    alone = [
        fill([shard], [0] * (len(shard.starts) - 1), range(len(shard.starts) - 1), layout, FRAMED) for shard in shards
    ]
    which, rows = np.array([1, 0, 1, 0, 1]), np.array([2, 1, 0, 0, 2])
    found = fill(shards, which, rows, layout, FRAMED)
    assert found.tokens.tolist() == [alone[s].tokens[r].tolist() for s, r in zip(which, rows, strict=True)]
    assert found.sizes.tolist() == [alone[s].sizes[r] for s, r in zip(which, rows, strict=True)]
    assert found.bounds[-1] == 40


def test_a_row_is_one_number_and_tokens_may_be_wide_or_mapped(tmp_path):
    wide = np.array([70_000, 5, 6], np.uint32)
    wide.tofile(tmp_path / "tokens")
    offsets, layout = np.array([0, 2, 3]), Layout(8, 8)
    shard = Shard(np.memmap(tmp_path / "tokens", np.uint32, "r"), offsets, cut(offsets, layout))
    assert shard.starts.tolist() == [0, 3]
    assert shard.starts.nbytes == 16
    assert fill([shard], [0], [0], layout, FRAMED).tokens.tolist() == [[2, 70_000, 5, 3, 2, 6, 3, 0]]


def test_no_documents_give_no_rows_and_no_room_is_refused():
    assert len(cut(np.array([4]), Layout(8, 8))) == 1
    assert len(cut(np.array([4, 4, 4]), Layout(8, 8))) == 1
    assert fill([], [], np.zeros(0, int), Layout(8, 8), FRAMED).tokens.shape == (0, 8)
    with pytest.raises(ValueError, match="at least 3 places"):
        Layout(2, 2)
    with pytest.raises(ValueError, match="no more than its row"):
        Layout(8, 9)
    with pytest.raises(ValueError, match="do not ascend"):
        cut(np.array([0, 5, 3]), Layout(8, 8))
    with pytest.raises(ValueError, match="cut them anew"):
        fill([Shard(np.zeros(3, np.uint16), np.array([0, 5]), np.array([0, 5]))], [0], [0], Layout(8, 8), FRAMED)
