"""What the stream is measured against, over the same rows: MosaicML Streaming and Hugging Face datasets.

Both are given rows packed beforehand, each in its own format, and hide by the same few lines of torch; what a batch
counts is its places that hold something.
"""

import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from tundish.operators.model.plan import Plan, Stretch, weights_of
from tundish.operators.model.rows import Layout
from tundish.operators.model.stream import Hiding, Stream
from tundish.stages.token_stream import Opened, TokenFiles

VOCABULARY, ROW, BATCH, RATE = 32_768, 1024, 256, 0.3
SPECIALS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}

Batches = Iterator[int]  # places that hold something, of each batch


def streamed(shards: list[str], row: int, batch: int, rate: float = RATE) -> Stream:
    layout = Layout(row, min(row, ROW))
    files = TokenFiles("web", tuple(shards), "bench").counted(layout)
    plan = Plan(1, (files.source,), (Stretch(0, weights_of([files.source])),), ((0, batch),))
    return Stream(plan, layout, Hiding(VOCABULARY, SPECIALS, 1, rate), Opened([files], layout))


def packed(shards: list[str]) -> np.ndarray:
    """(rows, ROW) uint16: our rows, for those who cannot pack while they read."""
    stream = streamed(shards, ROW, BATCH)
    size = stream.plan.sources[0].size
    return np.concatenate(
        [
            stream.filled(stream.plan.places(np.arange(at, min(size, at + 4096)))).tokens.astype(np.uint16)
            for at in range(0, size, 4096)
        ]
    )


def hidden(tokens: Any) -> tuple[Any, Any]:
    """30 % of a batch hidden, in torch: what a collator for masked-LM does."""
    import torch

    labels = tokens.clone()
    chosen = (torch.rand(tokens.shape) < RATE) & (tokens > 4)
    labels[~chosen] = -100
    lot = torch.rand(tokens.shape)
    inputs = tokens.masked_fill(chosen & (lot < 0.8), SPECIALS["[MASK]"])
    drawn = torch.randint(5, VOCABULARY, tokens.shape)
    other = chosen & (lot >= 0.8) & (lot < 0.9)
    inputs[other] = drawn[other]
    return inputs, labels


def _counted(loader: Any, take: Callable[[Any], Any], hide: bool) -> Batches:
    while True:
        for batch in loader:
            tokens = take(batch)
            if hide:
                hidden(tokens)
            yield int((tokens != 0).sum())


def without_vision() -> None:
    """MosaicML imports torchvision for its classes of images, and that has no build for a torch without CUDA. Names in
    its place let the rest load; nothing measured here touches them."""
    names = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")
    for name in names:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__spec__ = ModuleSpec(name, None)
    sys.modules["torchvision.datasets"].VisionDataset = type("VisionDataset", (), {})  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms.functional"].to_tensor = None  # type: ignore[attr-defined]


def mosaic(folder: Path, hide: bool = True) -> Batches:
    without_vision()
    import streaming
    import torch
    from torch.utils.data import DataLoader

    local = folder / "mosaic"
    if not local.exists():
        with streaming.MDSWriter(out=str(local), columns={"tokens": f"ndarray:uint16:{ROW}"}, size_limit="64mb") as out:
            for line in packed(sorted(map(str, folder.glob("part-*.arrow")))):
                out.write({"tokens": line})
    data = streaming.StreamingDataset(local=str(local), shuffle=True, batch_size=BATCH)

    def joined(samples: list[Any]) -> Any:
        return torch.from_numpy(np.stack([sample["tokens"] for sample in samples]).astype(np.int64))

    yield from _counted(DataLoader(data, batch_size=BATCH, collate_fn=joined), lambda batch: batch, hide)


def datasets(folder: Path, hide: bool = True, whole: bool = False, fixed: bool = False) -> Batches:
    import torch
    from datasets import Dataset, load_from_disk
    from torch.utils.data import DataLoader

    local = folder / ("datasets-fixed" if fixed else "datasets")
    if not local.exists():
        rows = packed(sorted(map(str, folder.glob("part-*.arrow"))))
        flat, ends = pa.array(rows.reshape(-1)), pa.array(np.arange(len(rows) + 1, dtype=np.int32) * ROW)
        column = pa.FixedSizeListArray.from_arrays(flat, ROW) if fixed else pa.ListArray.from_arrays(ends, flat)
        Dataset(pa.table({"tokens": column})).save_to_disk(str(local))
    data = load_from_disk(str(local)).shuffle(seed=1)
    if not whole:

        def joined(samples: list[Any]) -> Any:
            return torch.stack([sample["tokens"] for sample in samples])

        loader = DataLoader(data.with_format("torch"), batch_size=BATCH, collate_fn=joined)  # type: ignore[arg-type]
        yield from _counted(loader, lambda batch: batch, hide)

    numpy = data.with_format("numpy")

    class Batched:
        """Whole batches at a time, not row by row and collated: the fastest this library gives."""

        def __iter__(self) -> Iterator[Any]:
            return numpy.iter(batch_size=BATCH)

    yield from _counted(Batched(), lambda batch: torch.from_numpy(batch["tokens"].astype(np.int64)), hide)


def run_mlm(folder: Path) -> Batches:
    """As transformers' own example trains a masked LM: three columns of lists, and its collator."""
    import torch
    from datasets import Dataset, load_from_disk
    from tokenizers import Tokenizer, models
    from torch.utils.data import DataLoader
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

    local = folder / "run-mlm"
    if not local.exists():
        rows = packed(sorted(map(str, folder.glob("part-*.arrow"))))[:20_000]
        ends = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * ROW)
        columns = {"input_ids": rows.astype(np.int32), "attention_mask": rows > 0, "special_tokens_mask": rows < 5}
        lists = {
            name: pa.ListArray.from_arrays(
                ends, pa.array(each.astype(np.int32 if name == "input_ids" else np.int8).reshape(-1))
            )
            for name, each in columns.items()
        }
        Dataset(pa.table(lists)).save_to_disk(str(local))
    words = {**SPECIALS, **{str(number): number for number in range(5, VOCABULARY)}}
    names = {f"{name[1:-1].lower()}_token": name for name in SPECIALS}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="[UNK]")), **names)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=RATE)
    loader = DataLoader(load_from_disk(str(local)), batch_size=BATCH, shuffle=True, collate_fn=collator)  # type: ignore[arg-type]
    torch.manual_seed(1)
    while True:
        for batch in loader:
            yield int(batch["attention_mask"].sum())
