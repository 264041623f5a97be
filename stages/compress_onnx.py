"""A fine-tuned model as an ONNX graph, of rows that are filled up, and its way back into `tundish predict`.

    input_ids       (batch, length) int64     a row each, framed by [CLS] and [SEP], from the left
    attention_mask  (batch, length) int64     1 where there is a token, 0 behind the end
    token_type_ids  (batch, length) int64     where the model has types
    found           (batch, classes), (batch, length, classes) of tags and answers, or vectors (batch, width)

Our trunk lays documents into one flat array; here they are rows of one length, and attention goes over whole rows with
a mask. What depends on places alone (rotary turns, biases and buckets of distances) is laid into the graph as tables up
to the model's length, so that no graph computes a cosine or a logarithm otherwise than torch.

Promises: batch and length are free, up to the model's length; what is exported says what the model says, within 1e-4
of its largest number, for rows of unlike lengths together and alone, checked by onnxruntime before anything is
written. Costs some seconds, and the weights three times. Needs `onnx`, `onnxscript` and `onnxruntime`. Refuses experts,
whose routing depends on the numbers, and graphs that say something else.

B rows, L places, H heads, T tokens, n the model's length.
"""

import contextlib
import copy
import importlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tundish.operators.model.attention import turns
from tundish.operators.model.family import Around
from tundish.operators.model.heads import Tuned
from tundish.operators.model.packed import Packed, packed
from tundish.operators.model.relative import Distances
from tundish.operators.model.shape import Shape
from tundish.operators.model.sight import Sight, Sights

CLOSE = 1e-4
LENGTHS = (9, 1, 30, 4, 17)  # of the rows by which a graph is checked
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
NEEDED = ("onnx", "onnxscript", "onnxruntime")


class Padded(nn.Module):
    """The same model, asked of rows."""

    def __init__(self, model: Tuned) -> None:
        super().__init__()
        shape = model.encoder.shape
        if shape.experts:
            raise ValueError("experts choose tokens by what these are, which no graph here says; export another model")
        self.model, self.shape = copy.deepcopy(model).eval().float(), shape
        stack, ahead = self.model.encoder.stack, torch.arange(1 - shape.length, shape.length)
        stack.around = self._around  # type: ignore[method-assign]
        for name, theta in (("far", shape.theta), ("near", shape.theta_local)):
            turn = turns(torch.arange(shape.length), shape.head_width, theta, torch.float32)
            for part, table in zip(("cos", "sin"), turn if shape.positions == "rotary" else (None, None), strict=True):
                self.register_buffer(f"{part}_{name}", table)
        bias = None if stack.bias is None else stack.bias(ahead[None])[0, :, 0].detach().clone()
        self.register_buffer("bias", bias)  # (H, 2n - 1), by key minus query place
        distances = Distances(buckets=shape.buckets, distance=shape.distance)
        self.register_buffer("numbers", distances(ahead) if shape.positions == "disentangled" else None)
        far = None if stack.far is None or stack.far_norm is None else stack.far_norm(stack.far.float()).detach()
        self.register_buffer("distances", far)  # a constant, so that what comes of it is computed once, at export

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        count, length = input_ids.shape
        there, trunk = attention_mask.bool(), self.model.encoder
        row = torch.arange(count)[:, None].expand(count, length)
        place = torch.arange(length)[None].expand(count, length).flatten()
        documents = torch.where(there, row, row + count).flatten()  # what fills a row up is a document of its own
        laid = Packed(torch.zeros(1), 0, place, documents, length, (), None, present=there)
        types = None if token_type_ids is None else token_type_ids.flatten()
        x = trunk.embedding(input_ids.flatten(), place, types, torch.float32)
        x = trunk.stack(x, laid)[0].unflatten(0, (count, length))
        if self.model.head in ("sequence", "embedding"):
            x = _pooled(x, there, self.model.pooling)
        return F.normalize(x, dim=1) if self.model.head == "embedding" else self.model.chosen(x)

    def _around(self, x: Tensor, laid: Packed, *, causal: bool) -> Around:
        """What `Stack.around` makes, of rows."""
        around, shape, there = Around(laid, causal=causal), self.shape, laid.present
        assert there is not None
        place = torch.arange(laid.row)
        ahead = place - place[:, None]
        seen = there[:, None, None, :] | (ahead == 0)  # what fills up sees itself: what sees nothing would become NaN
        seen = seen & (ahead <= 0) if causal else seen
        near = seen & (ahead.abs() <= shape.window) if shape.window else seen
        around.seen = self._sights(seen, ahead), self._sights(near, ahead)
        if self.cos_far is not None:
            at = laid.positions
            around.turns = (self.cos_far[at], self.sin_far[at]), (self.cos_near[at], self.sin_near[at])
        around.far = self.distances
        return around

    def _sights(self, seen: Tensor, ahead: Tensor) -> Sights:
        at = ahead + self.shape.length - 1
        added = torch.zeros(()).masked_fill(~seen, float("-inf"))
        added = added if self.bias is None else added + self.bias[:, at]
        return Sights("rows", (Sight(added, number=None if self.numbers is None else self.numbers[at]),))


def _pooled(x: Tensor, there: Tensor, pooling: str) -> Tensor:
    """(B, D) of states (B, L, D)."""
    if pooling == "cls":
        return x[:, 0]
    if pooling == "last":
        last = (there.long().sum(1) - 1).clamp(min=0)
        return x.gather(1, last[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]
    own = there.to(x.dtype)[:, :, None]
    return (x * own).sum(1) / own.sum(1).clamp(min=1)


class Session(nn.Module):
    """A graph in the place of a `Tuned`: the same questions, the same answers."""

    def __init__(self, graph: bytes, head: str, shape: Shape | None = None) -> None:
        super().__init__()
        needed("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.run = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.head, self.names = head, [each.name for each in self.run.get_inputs()]
        self.encoder = SimpleNamespace(shape=shape)  # who asks, asks how long a text it reads

    def forward(self, tokens: Tensor, packed: Packed, types: Tensor | None = None, **_: Any) -> Tensor:
        """As `Tuned` has it."""
        sizes = packed.bounds.diff().long()
        there = torch.arange(int(sizes.max())) < sizes[:, None]
        rows = [torch.zeros(there.shape, dtype=torch.long) for _ in INPUTS]
        for row, flat in zip(rows, (tokens, torch.ones_like(tokens), types), strict=True):
            if flat is not None:
                row[there] = flat.long()
        given = {name: row.numpy() for name, row in zip(INPUTS, rows, strict=True) if name in self.names}
        found = torch.from_numpy(self.run.run(None, given)[0])
        return found[there] if self.head in ("tokens", "spans") else found


def exported(model: Tuned) -> bytes:
    """The graph of a model, checked."""
    needed(*NEEDED)
    length = model.encoder.shape.length
    rows = Padded(model)
    given = tuple(each[:, : min(length, 5)] for each in _rows(model, (min(5, length), 3)))
    named = INPUTS[: len(given)]
    free = {name: {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=length)} for name in named}
    with _quiet(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            rows, given, str(path), input_names=list(named), output_names=["found"], dynamic_shapes=free,
            dynamo=True, verbose=False, external_data=False,
        )  # fmt: skip
        graph = _plain(path.read_bytes())
    _checked(model, graph)
    return graph


def _plain(graph: bytes) -> bytes:
    """Without what the exporter tells of where it stood: source files and lines, by their paths on this machine."""
    import onnx

    said = onnx.load_from_string(graph)
    for each in (said, said.graph, *said.graph.node, *said.graph.value_info, *said.graph.input, *said.graph.output):
        del each.metadata_props[:]
        each.ClearField("doc_string")
    said.graph.ClearField("value_info")  # sizes of before its own folding, which quantization takes for true
    return said.SerializeToString()  # type: ignore[no-any-return]


def in_bytes(graph: bytes) -> bytes:
    """The graph with its products in int8, weights by output, activations as they come (onnxruntime's dynamic
    quantization)."""
    needed("onnx", "onnxruntime")
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        first, then = Path(folder) / "float.onnx", Path(folder) / "bytes.onnx"
        first.write_bytes(_straight(graph))
        quantize_dynamic(
            first, then, per_channel=True, weight_type=QuantType.QInt8, nodes_to_exclude=_stacked(graph)
        )  # fmt: skip
        return then.read_bytes()


def _stacked(graph: bytes) -> list[str]:
    """Names of products with several constant matrices (DeBERTa's distances, one a head), which it cannot scale."""
    import onnx

    said = onnx.load_from_string(graph).graph
    several = {each.name for each in said.initializer if len(each.dims) > 2}
    return [node.name for node in said.node if node.op_type == "MatMul" and several & set(node.input)]


def _straight(graph: bytes) -> bytes:
    """With the weights of linear layers turned over: onnxruntime does that product by product, and turns one that
    serves several (ALBERT's block, DeBERTa's last) back again."""
    import onnx
    from onnx import numpy_helper

    said = onnx.load_from_string(graph)
    over = {}
    for node in said.graph.node:
        for each in node.attribute if node.op_type == "Gemm" else ():
            if each.name == "transB" and each.i:
                over.setdefault(node.input[1], []).append(each)
    for weight in said.graph.initializer:
        uses = sum(list(node.input).count(weight.name) for node in said.graph.node)
        if len(mine := over.get(weight.name, [])) == uses:
            turned = np.ascontiguousarray(numpy_helper.to_array(weight).T)
            weight.CopyFrom(numpy_helper.from_array(turned, weight.name))
            for each in mine:
                each.i = 0
    return said.SerializeToString()  # type: ignore[no-any-return]


def _checked(model: Tuned, graph: bytes) -> None:
    """Refuse a graph that says something else than the model, of rows together or of one alone."""
    session, own = Session(graph, model.head), copy.deepcopy(model).eval().float().cpu()
    most = model.encoder.shape.length
    for lengths in (tuple(min(each, most) for each in LENGTHS), (min(7, most),), (most, most)):
        ids, there, *types = _rows(model, lengths)
        inside, documents = there.bool(), packed(np.cumsum([0, *lengths]))
        flat = ids[inside], documents, *(each[inside] for each in types)
        with torch.no_grad():
            ours, its = own(*flat), session(*flat)
        apart, largest = float((ours - its).abs().max()), max(1.0, float(ours.abs().max()))
        if not apart <= CLOSE * largest:
            raise ValueError(
                f"the exported graph says {apart:.1e} else than the model of rows of {', '.join(map(str, lengths))} "
                "tokens; take other versions of torch or onnxruntime, and do not use the graph"
            )


def _rows(model: Tuned, lengths: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Token ids by lot, the mask, and types where the model has them, (B, L) each."""
    shape, source = model.encoder.shape, torch.Generator().manual_seed(len(lengths))
    size = len(lengths), max(lengths)
    there = torch.arange(size[1]) < torch.tensor(lengths)[:, None]
    ids = torch.randint(0, shape.vocabulary, size, generator=source) * there
    types = (torch.randint(0, 2, size, generator=source) * there,) if shape.types > 1 else ()
    return (ids, there.long(), *types)


def needed(*names: str) -> None:
    """Refuse to go on without these packages."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            raise ValueError(
                f"ONNX needs {name}, which is not there; install it (pip install 'tundish[onnx]'), or leave onnx out"
            ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters tell of what is none of the user's concern (operators of other packages, their own deprecations)."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "onnxruntime", "root", "")]
    levels = [each.level for each in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for each in loggers:
            each.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)
