"""How good a language model is, of any folder that holds one: minimal pairs, and the length of texts in its code.

    pairs    of two sentences the acceptable one should be likelier (BLiMP's form, Warstadt et al. 2020): the
             log-likelihood of a causal model, the pseudo-log-likelihood of a masked one
    texts    bits per byte and perplexity per token: of a causal model a code length; of a masked model each token is
             guessed from all others, which is no code and is called pseudo

Promises: every share with its Wilson interval, every mean with a bootstrap interval over segments; what is too long is
cut into segments of the model's length, and counted. Costs one pass a text, of masked models as many as it has tokens
(`most` segments at most are asked). Refuses models that guess no tokens, folders without a vocabulary, and pairs
without their two columns.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from tundish.cluster import store
from tundish.operators.model import likelihood
from tundish.operators.model.certainty import bootstrap, wilson
from tundish.operators.model.family import Model
from tundish.operators.text import tokenizer
from tundish.operators.text.word_begins import begins
from tundish.stages import hub
from tundish.stages.pretrain_pieces import FILES
from tundish.stages.read import picked, records
from tundish.stages.read_lines import Broken

KINDS = ("linguistics_term", "phenomenon", "UID", "kind")  # columns that say what a pair is about; the first there
GOOD, BAD = "sentence_good", "sentence_bad"


class Asked(NamedTuple):
    """A model that is asked, and its vocabulary. `words`: which pieces begin one; None where that cannot be told."""

    model: Model
    pieces: tokenizer.Tokenizer
    causal: bool
    words: np.ndarray | None
    where: str


class Pair(NamedTuple):
    good: str
    bad: str
    kind: str


def asked(folder: str, *, causal: bool | None = None, device: str = "") -> Asked:
    """The model in a folder, ours or Hugging Face's, ready to be asked. `causal`: as a model of what comes next; of an
    encoder, if it was trained so. Raises ValueError for what cannot predict tokens."""
    where = device_of(device)
    beside = hub.generator_of(folder)  # of a detection: its discriminator tells, and guesses nothing
    found = hub.read(folder)
    shape, tensors = beside if beside is not None else (found.shape, found.tensors)
    if beside is None and any(name.startswith("detector.") for name in tensors):
        raise ValueError(f"{folder} holds a discriminator, which guesses no tokens; give the folder of its generator")
    if shape.stack == "pair":
        raise ValueError(f"{folder} holds an encoder with a decoder, which has no likelihood of one text; give another")
    model = Model(shape)
    model.load_state_dict({name: each.float() for name, each in tensors.items()})
    body = vocabulary_in(folder)
    try:
        words = begins(body).astype(bool)
    except ValueError:
        words = None
    causal = shape.stack == "decoder" if causal is None else causal
    return Asked(model.eval().to(where), tokenizer.load(body), causal, words, folder)


def device_of(name: str = "") -> torch.device:
    """The device of this name; without one a GPU, if there is one. Raises ValueError for what is not there."""
    try:
        return torch.empty(0, device=name or ("cuda" if torch.cuda.is_available() else "cpu")).device
    except (AssertionError, RuntimeError) as error:  # a torch without CUDA asserts it
        known = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ValueError(f"there is no device {name!r} here; give one of {', '.join(known)}") from error


def vocabulary_in(folder: str) -> bytes:
    """The vocabulary that lies beside the weights of a folder."""
    usable = [name for name in FILES if name.endswith((".model", tokenizer.JSON))]
    name = next((each for each in usable if store.exists(store.join(folder, each))), None)
    if name is None and not store.exists(folder):
        raise ValueError(f"there is no folder {folder}; give one that holds a model and its tokenizer")
    if name is None:
        raise ValueError(f"{folder} holds none of {', '.join(usable)}; save its tokenizer there (save_pretrained does)")
    return store.read(store.join(folder, name))


def pairs_of(uri: str) -> list[Pair]:
    """The minimal pairs of a file of rows (JSONL, CSV, TSV, Parquet, Arrow)."""
    found = []
    for number, row in enumerate(records(uri), 1):
        if isinstance(row, Broken):
            raise ValueError(f"row {number} of {uri} cannot be read ({row.reason}: {row.detail}); mend it")
        good, bad = picked(row, GOOD), picked(row, BAD)
        if not isinstance(good, str) or not isinstance(bad, str) or not good.strip() or not bad.strip():
            names = ", ".join(list(row)[:8])
            raise ValueError(f"row {number} of {uri} lacks {GOOD} or {BAD} (it has {names}); give both sentences")
        kind = next((str(picked(row, name)) for name in KINDS if picked(row, name)), "")
        found.append(Pair(good, bad, kind))
    if not found:
        raise ValueError(f"{uri} holds no pair; give rows with {GOOD} and {BAD}")
    return found


def framed(it: Asked, texts: Sequence[str]) -> list[np.ndarray]:
    """Ids of texts between [CLS] and [SEP]."""
    found = it.pieces.encode(pa.array(texts, pa.large_string())).to_pylist()
    first, last = (it.pieces.specials[name] for name in ("[CLS]", "[SEP]"))
    return [np.array([first, *ids, last], np.int64) for ids in found]


def scores(it: Asked, documents: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Log-probabilities in nats of each document's own tokens (of a causal model its end as well)."""
    if it.causal:
        return likelihood.before(it.model, documents)
    return likelihood.pseudo(it.model, documents, mask=it.pieces.specials["[MASK]"], words=it.words)


def judged(it: Asked, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Share of pairs of which the acceptable sentence is the likelier: whole, and by kind. Ties are wrong, and told."""
    texts = [text for pair in pairs for text in (pair.good, pair.bad)]
    longest = max(map(len, documents := framed(it, texts)))
    if longest > it.model.shape.length:
        raise ValueError(
            f"a sentence of the pairs has {longest} tokens and the model reads {it.model.shape.length}; leave it out"
        )
    totals = np.array([each.sum() for each in scores(it, documents)]).reshape(-1, 2)
    right = totals[:, 0] > totals[:, 1]
    by: dict[str, list[bool]] = defaultdict(list)
    for pair, each in zip(pairs, right.tolist(), strict=True):
        by[pair.kind].append(each)
    told = {kind: _share(each) for kind, each in sorted(by.items())}
    measure = "log-likelihood" if it.causal else "pseudo-log-likelihood"
    return {
        "measure": measure,
        "all": _share(right.tolist()),
        "by": told,
        "ties": int((totals[:, 0] == totals[:, 1]).sum()),
    }


def _share(right: Sequence[bool]) -> dict[str, Any]:
    found = wilson(sum(right), len(right))
    return {"pairs": len(right), "accuracy": found.value, "interval": [found.low, found.high]}


def coded(it: Asked, texts: Sequence[str], *, most: int = 0) -> dict[str, Any]:
    """Bits per byte and perplexity of texts; `most` segments at most, spread evenly over all of them (0: all)."""
    segments, sizes, last = _segments(it, texts)
    count = len(segments)
    if not count:
        raise ValueError("the texts hold no token; give some that are not blank")
    kept = np.unique(np.linspace(0, count - 1, most).astype(int)) if 0 < most < count else np.arange(count)
    found = scores(it, [segments[number] for number in kept])
    if it.causal:  # the end of a segment is the text's where it is its last, and else no part of it
        found = [each if last[number] else each[:-1] for number, each in zip(kept, found, strict=True)]
    nats = np.array([-each.sum() for each in found])
    tokens, bytes_ = np.array([len(each) for each in found]), np.array([sizes[number] for number in kept])
    per_byte = bootstrap(lambda n, b: float(n.sum() / math.log(2) / b.sum()), nats, bytes_, seed=1)
    return {
        "measure": "code length" if it.causal else "pseudo",
        "bits_per_byte": per_byte.value,
        "interval": [per_byte.low, per_byte.high] if len(kept) > 1 else None,  # one segment says not how they differ
        "perplexity": float(np.exp(nats.sum() / tokens.sum())),
        "tokens": int(tokens.sum()),
        "bytes": int(bytes_.sum()),
        "segments": len(kept),
        "of": count,
    }


def _segments(it: Asked, texts: Sequence[str]) -> tuple[list[np.ndarray], list[float], list[bool]]:
    """Framed segments of texts, none longer than the model reads, the bytes of text that each stands for, and whether
    it is the last of its text."""
    found, sizes, last, room = [], [], [], it.model.shape.length - 2
    for text, document in zip(texts, framed(it, texts), strict=True):
        inner, size = document[1:-1], len(text.encode())
        for at in range(0, len(inner), room):
            part = inner[at : at + room]
            found.append(np.concatenate([document[:1], part, document[-1:]]))
            sizes.append(size * len(part) / len(inner))
            last.append(at + room >= len(inner))
    return found, sizes, last


def texts_of(uri: str, column: str = "text") -> list[str]:
    """The texts of a file: a column of rows, or a plain file as one."""
    found = []
    for number, row in enumerate(records(uri), 1):
        text = None if isinstance(row, Broken) else picked(row, column)
        if not isinstance(text, str):
            raise ValueError(f"row {number} of {uri} has no text in {column!r}; name the column that has")
        found.append(text)
    return [text for text in found if text.strip()]
