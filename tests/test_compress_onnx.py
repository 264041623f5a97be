"""ONNX: rows that are filled up say what documents in one array say; a graph that says something else is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tuned import SHAPES, TIGHT, batch, model_of, widened
from tundish.operators.model.heads import Tuned
from tundish.operators.model.packed import packed
from tundish.operators.model.pruning import bare, without_heads
from tundish.stages import compress_onnx
from tundish.stages.compress_onnx import Padded, Session, exported, in_bytes

torch.set_num_threads(1)
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
LENGTHS = (5, 1, 9, 20)
SHAPED = {
    **SHAPES,
    "t5": replace(SHAPES["modern"], positions="buckets", buckets=8, distance=16, window=0, rms=True),
    "alibi": replace(SHAPES["modern"], positions="alibi", window=0),
    "convolved": replace(SHAPES["deberta"], enhanced=0, span=3),
    "thetas": replace(SHAPES["modern"], theta_local=100.0, norm="pre", qk_norm=True),
}


def asked(model: torch.nn.Module, *, types: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model says of documents, and what `Padded` says of the same as rows."""
    tokens, documents = batch(LENGTHS)
    kinds = torch.arange(len(tokens)) % 2 if types else None
    there = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    rows = [torch.zeros(there.shape, dtype=torch.long) for _ in range(2 if types else 1)]
    for row, flat in zip(rows, (tokens, kinds), strict=False):
        row[there] = flat
    with torch.no_grad():
        found = Padded(model)(rows[0], there.long(), *rows[1:])
        whole = model(tokens, documents, kinds)
    return whole, found[there] if model.head in ("tokens", "spans") else found


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize("head", ["sequence", "tokens"])
def test_rows_say_what_documents_say(name: str, head: str) -> None:
    model = bare(model_of(SHAPED[name], head).eval())
    whole, found = asked(model, types=name == "bert")
    torch.testing.assert_close(found, whole, **TIGHT)


@pytest.mark.parametrize(("head", "pooling"), [("embedding", "mean"), ("sequence", "last"), ("spans", None)])
def test_every_head_and_pooling(head: str, pooling: str | None) -> None:
    whole, found = asked(bare(model_of(SHAPES["modern"], head, pooling=pooling).eval()))
    torch.testing.assert_close(found, whole, **TIGHT)


def test_the_model_itself_is_left_alone() -> None:
    model = bare(model_of(SHAPES["modern"]).eval())
    before = asked(model)[0]
    Padded(model)
    assert "around" not in vars(model.encoder.stack)
    torch.testing.assert_close(asked(model)[0], before)


@pytest.fixture(scope="module")
def graphed() -> tuple[Tuned, bytes]:
    """The oddest of all: blocks that answer twice, distances, types, answers token by token, and fewer heads."""
    model = bare(model_of(replace(SHAPES["deberta"], types=2), "spans").eval())
    model = without_heads(model, [[1], [0]])
    return model, exported(model)


def test_a_graph_says_what_the_model_says(graphed: tuple[Tuned, bytes]) -> None:
    """For batches and lengths it was not traced with, with types and without, and in bytes nearly."""
    model, graph = graphed
    session, closely = Session(graph, "spans"), Session(in_bytes(graph), "spans")
    assert session.names == ["input_ids", "attention_mask", "token_type_ids"]
    assert b"MatMulInteger" in in_bytes(graph)
    for lengths in (LENGTHS, (3,), (32, 32), (8,) * 11):
        tokens, documents = batch(lengths)
        for types in (None, torch.arange(len(tokens)) % 2):
            with torch.no_grad():
                ours = model(tokens, documents, types)
            torch.testing.assert_close(session(tokens, documents, types), ours, atol=1e-4, rtol=1e-4)
            error = (closely(tokens, documents, types) - ours).norm() / ours.norm()
            assert 0 < error < 0.2
    assert b"compress_onnx" not in graph, "nor any other file of this machine"


def test_a_graph_that_says_something_else_is_refused(graphed: tuple[Tuned, bytes]) -> None:
    model, graph = graphed
    compress_onnx._checked(model, graph)
    with pytest.raises(ValueError, match="else than the model of rows of 9, 1, 30, 4, 17 tokens"):
        compress_onnx._checked(widened(bare(model), 1.01), graph)


def test_what_no_graph_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = replace(SHAPES["modern"], experts=2, sparse=1, gated=False, window=0)
    with pytest.raises(ValueError, match="experts"):
        Padded(bare(model_of(switch)))
    monkeypatch.setattr(compress_onnx, "NEEDED", ("onnx", "no_such_package_here"))
    with pytest.raises(ValueError, match=r"needs no_such_package_here.*tundish\[onnx\]"):
        exported(bare(model_of(SHAPES["modern"])))


def test_empty_rows_and_batches_of_one() -> None:
    model = bare(model_of(SHAPES["modern"]).eval())
    there = torch.tensor([[1, 1, 1], [0, 0, 0]])
    ids = torch.tensor([[7, 8, 9], [0, 0, 0]])
    with torch.no_grad():
        found = Padded(model)(ids, there)
        alone = model(ids[0], packed(np.array([0, 3])))
    torch.testing.assert_close(found[:1], alone, **TIGHT)
    assert found.isfinite().all()
