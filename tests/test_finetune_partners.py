"""Pairs of which several rows want the same text: none of them counts against another, in training or in scoring."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_finetune_runs import IDS, part, rows
from tundish.stages import finetune_kinds, finetune_mixed, finetune_task
from tundish.stages.finetune_mixed import Other, mixed
from tundish.stages.finetune_rows import Rows, rows_of
from tundish.stages.finetune_task import TuneTask

GROUPS = [0, 1, 0, 2, 1, 0]  # which of three texts each row wants


@pytest.fixture
def shared(tmp_path: Path) -> Rows:
    made = rows("embed", len(GROUPS), 1)
    seconds = [[20, 21, 22], [20, 21], [22]]
    for row, group in zip(made, GROUPS, strict=True):
        first = row["tokens"][: row["second"]]
        row |= {"tokens": first + seconds[group], "second": len(first)}
    return rows_of(part(tmp_path, "train", "embed", made), IDS, 48)


def task() -> TuneTask:
    return TuneTask("model", "embed", {"train": "x"}, IDS, "out", temperature=0.5)


def unit(*size: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / drawn.norm(dim=-1, keepdim=True)


def test_equal_texts_are_found_by_their_tokens(shared: Rows) -> None:
    assert shared.partners.tolist() == [GROUPS.index(group) for group in GROUPS]


def test_an_equal_text_is_no_negative(shared: Rows) -> None:
    order = [5, 1, 0, 3]
    batch, asking, texts = shared.batch(order), unit(4, 8), unit(3, 8, seed=1)
    wanted = torch.stack([texts[GROUPS[row]] for row in order])
    found = finetune_kinds.loss_of(task(), torch.cat([asking, wanted]), batch, None)
    twin = 0.0
    for at, row in enumerate(order):
        others = [other for other in range(4) if other == at or GROUPS[order[other]] != GROUPS[row]]
        scores = {other: float(asking[at] @ wanted[other]) / 0.5 for other in others}
        twin -= scores[at] - math.log(sum(map(math.exp, scores.values())))
    assert float(found.total) == pytest.approx(twin)
    assert float(found.count) == 4


def test_what_another_row_does_not_want_is_no_negative_of_the_row_that_wants_it(tmp_path: Path) -> None:
    """Row 1 names the text that rows 0 and 2 want; row 2 one that nobody wants; row 3 none."""
    made = rows("embed", 4, 1)
    seconds = [[20, 21, 22], [20, 21], [20, 21, 22], [22]]
    for row, second, negative in zip(made, seconds, [None, [20, 21, 22], [30], None], strict=True):
        first = row["tokens"][: row["second"]]
        row |= {"tokens": first + second, "second": len(first), "negative": negative}
    found = rows_of(part(tmp_path, "train", "embed", made), IDS, 48)
    batch = found.batch([0, 1, 2, 3])
    assert batch.unwanted is not None
    assert batch.unwanted.target is not None
    assert batch.target.tolist() == [0, 1, 0, 3]
    assert batch.unwanted.target.tolist() == [0, -1]
    asking, texts, unwanted = unit(4, 8), unit(3, 8, seed=1), unit(2, 8, seed=2)
    wanted = texts[[0, 1, 0, 2]]
    loss = finetune_kinds.loss_of(task(), torch.cat([asking, wanted, unwanted]), batch, None)
    scores = asking @ torch.cat([wanted, unwanted]).t() / 0.5
    kept = ([0, 1, 3, 5], [0, 1, 2, 3, 4, 5], [1, 2, 3, 5], [0, 1, 2, 3, 4, 5])
    by_hand = sum(float(torch.logsumexp(scores[i, these], 0) - scores[i, i]) for i, these in enumerate(kept))
    assert float(loss.total) == pytest.approx(by_hand)


def test_a_text_stands_in_the_ranking_once_whatever_its_noise(shared: Rows) -> None:
    draw = np.random.default_rng(3)
    texts = draw.normal(size=(3, 8))
    asking = np.stack([texts[group] for group in GROUPS]) + draw.normal(size=(6, 8)) * 2
    second = np.stack([texts[group] for group in GROUPS]) + draw.normal(size=(6, 8)) * 1e-7
    vectors = np.stack([asking, second], 1)
    places = [1 + sum(texts[other] @ asking[row] > texts[own] @ asking[row] for other in range(3))
              for row, own in enumerate(GROUPS)]  # fmt: skip
    assert len(set(places)) > 1
    found = finetune_kinds.scored(task(), shared, {"logits": vectors})
    assert found["found_first"] == np.mean([place == 1 for place in places])
    assert found["reciprocal_rank"] == pytest.approx(np.mean([1 / place for place in places]))
    assert finetune_kinds.pair_places(vectors, shared.partners).tolist() == places
    perfect = np.stack([second, second], 1)
    assert finetune_kinds.scored(task(), shared, {"logits": perfect})["found_first"] == 1.0


def test_runs_of_embeddings_alone_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealed ones were trained and scored otherwise; of other kinds nothing has changed."""
    other = {kind: replace(task(), kind=kind, out="o") for kind in ("embed", "classify", "regress")}
    beside = {kind: mixed(other["classify"], [Other("a", kind, "x", "y", "d")]) for kind in ("embed", "regress")}
    before = {kind: each.key for kind, each in other.items()}, {kind: each.key for kind, each in beside.items()}
    for module in (finetune_task, finetune_mixed):
        monkeypatch.setattr(module, "VERSIONS", {})
    after = {kind: each.key for kind, each in other.items()}, {kind: each.key for kind, each in beside.items()}
    assert [before[0][kind] == after[0][kind] for kind in other] == [False, True, True]
    assert [before[1][kind] == after[1][kind] for kind in beside] == [False, True]
