"""Kernels compiled and cached before work fans out: once a machine, so that no two workers compile the same one.

The first call on a machine takes half a minute for each half; every other a second. Nothing depends on it but time.
"""

import numpy as np
import pyarrow as pa

from tundish.operators.text import (
    chain,
    components,
    encode,
    minhash,
    overlap,
    passages,
    personal,
    repair,
    signals,
    similarity,
    windows,
)

_TEXTS = (
    "Warm text, once more: it’s 3 o'clock… [1]\n\nÇa va ?\r\n{x}; use cookies 東京へ\x85 \u3000a@b.example",
    "Ã© plain.",
)
_BPE = b"\n\x09\n\x05<unk>\x18\x02\n\x03\n\x01a\n\x04\n\x02aa\x12\x02\x18\x02"  # <unk>, a, aa; of type BPE


def texts() -> pa.LargeStringArray:
    """A few words that touch what there is to touch: citations, scripts, line ends, mojibake, an address."""
    return pa.array(_TEXTS, pa.large_string())


def measuring(splitter: str) -> None:
    """What Judge runs on."""
    meter = signals.meter_of(splitter)
    signals.signals(texts(), meter=meter)
    chain.fineweb(texts(), meter=meter)


def signing(scheme: minhash.Scheme = "tundish", unit: minhash.Unit = "words") -> None:
    """What Sign and Deduplicate run on."""
    known = minhash.shingler_for(scheme, unit)
    minhash.signatures(texts(), count=1, scheme=scheme, shingler=known)
    sets = similarity.Sets.of(texts(), 5, known)
    similarity.shared(sets, sets, np.arange(2), np.arange(2))
    similarity.Few(sets).alike(sets, 0.5)
    rows = np.arange(2, dtype=np.uint64)
    components.stars(rows, rows, rows)
    components.forest(rows, rows)


def repairing() -> None:
    """What Extract and Read run on."""
    repair.repair(texts())


def masking() -> None:
    """What Mask runs on."""
    personal.edits(texts())


def cutting() -> None:
    """What Repeated, Substrings and Decontaminate run on."""
    passages.passages(texts())
    windows.warmed(windows.Windows(50))
    overlap.Finder(overlap.benchmarks({"warm": [(0, [" ".join(_TEXTS) * 3])]})).find(texts())


def encoding() -> None:
    """What Tokenize runs on: a model of three pieces compiles what any model needs."""
    encode.Encoder(_BPE)(texts())


def everything() -> None:
    """All of it, for a set-up."""
    for splitter in ("unicode", "spacy-en"):
        measuring(splitter)
    signing()
    repairing()
    masking()
    cutting()
    encoding()
