"""train-language: a fastText language identifier from labelled texts, and how good it is on those it never saw.

Promises: the same texts in any files and order give the same model and the same figures; a text is held out by its own
hash, so no text is on both sides; what is scored is the file as it was written. Costs the texts in memory and one core.
Refuses one label alone, a label of which every text is held out, and an `out` that is neither .bin nor .ftz.
"""

import tempfile
from collections import Counter
from dataclasses import asdict
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tundish.cluster import store
from tundish.operators.text import fasttext_file
from tundish.operators.text.identifier import learn
from tundish.operators.text.learning import Settings
from tundish.operators.text.predict import Predictor
from tundish.stages.labelled import labelled

HELD_KEY = b"tundish train-language"
PLAIN, PACKED = ".bin", ".ftz"


def train(paths: tuple[str, ...], out: str, settings: Settings, *, holdout: float, keep: int) -> dict[str, Any]:
    """Learn from the files, write the model to `out`, and tell how it does on the texts held out, as plain values.

    `holdout`: share of the texts; `keep`: words and n-grams that a quantized model (`.ftz`) keeps, 0 for all.
    """
    _check(out, settings, holdout, keep)
    found = labelled(paths)
    held = _held(found.texts, holdout)
    _check_labels(found.labels, held)
    here = pa.array(~held)
    body = learn(found.texts.filter(here), found.labels.filter(here), settings)
    if out.endswith(PACKED):
        body = _quantized(body, keep)
    store.write(out, body)
    scored = _scored(body, found.texts.filter(pa.array(held)), found.labels.filter(pa.array(held)))
    every = Counter(found.labels.to_pylist())
    for name, count in sorted(every.items()):
        scored["languages"].setdefault(name, {"held_out": 0, "right": 0, "accuracy": None})["texts"] = count
    told = {"model": out, "bytes": len(body), "sha256": sha256(body).hexdigest(), "texts": len(held)}
    told |= {"held_out": int(held.sum()), "blank": found.blank, "settings": asdict(settings)}
    return told | scored


def _check(out: str, settings: Settings, holdout: float, keep: int) -> None:
    if not out.endswith((PLAIN, PACKED)):
        raise ValueError(f"--out {out} is no name of a fastText model; end it in {PLAIN}, or {PACKED} for a small one")
    if not 0 < holdout < 1:
        raise ValueError(f"--holdout is {holdout}; it is a share between 0 and 1, such as 0.1")
    if settings.longest and not 1 <= settings.shortest <= settings.longest:
        raise ValueError(
            f"--shortest is {settings.shortest} and --longest {settings.longest}; make shortest at least 1 and longest "
            "no less, or longest 0 for words alone"
        )
    if settings.seed < 0:
        raise ValueError(f"--seed is {settings.seed}; give 0 or more")
    for name in ("dimension", "buckets", "least", "epochs"):
        if getattr(settings, name) < 1:
            raise ValueError(f"--{name} is {getattr(settings, name)}; make it at least 1")
    if settings.lr <= 0 or keep < 0:
        raise ValueError(f"--lr is {settings.lr} and --keep {keep}; make lr more than 0 and keep no less")


def _held(texts: pa.LargeStringArray, share: float) -> np.ndarray:
    """(n,) which texts are held out: those whose hash is small."""
    bound = int(share * 2**64)
    lots = (blake2b(text.encode(), digest_size=8, key=HELD_KEY).digest() for text in texts.to_pylist())
    return np.fromiter((int.from_bytes(lot, "big") < bound for lot in lots), bool, len(texts))


def _check_labels(labels: pa.StringArray, held: np.ndarray) -> None:
    names = sorted(set(labels.to_pylist()))
    if len(names) < 2:
        raise ValueError(f"the files name one language alone, {names[0]}; an identifier needs at least two")
    if lost := sorted({*names} - {*labels.filter(pa.array(~held)).to_pylist()}):
        raise ValueError(f"every text of {lost[0]} is held out; give more of it, or a smaller --holdout")
    if not held.any():
        raise ValueError(f"no text of {len(held)} is held out, so nothing can be said of the model; give more texts")


def _quantized(body: bytes, keep: int) -> bytes:
    """The same model with its vectors product-quantized, by fastText itself: a tenth of the size or less."""
    import fasttext  # a fifth of a second that only this needs

    with tempfile.TemporaryDirectory() as folder:
        plain, packed = Path(folder, f"model{PLAIN}"), Path(folder, f"model{PACKED}")
        plain.write_bytes(body)
        model = fasttext.load_model(str(plain))
        try:
            model.quantize(qnorm=True, cutoff=keep)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"fastText cannot quantize this model ({error}); write it as {PLAIN}") from None
        model.save_model(str(packed))
        return packed.read_bytes()


def _scored(body: bytes, texts: pa.LargeStringArray, labels: pa.StringArray) -> dict[str, Any]:
    """Accuracy by language, their mean, and what was taken for what."""
    model = fasttext_file.read(body)
    guesses = [model.labels[one] if one >= 0 else "" for one in Predictor(model)(texts).labels[:, 0].tolist()]
    confusion: dict[str, Counter[str]] = {}
    for truth, guess in zip(labels.to_pylist(), guesses, strict=True):
        confusion.setdefault(truth, Counter())[guess] += 1
    languages: dict[str, dict[str, Any]] = {}
    for truth, row in sorted(confusion.items()):
        count = sum(row.values())
        languages[truth] = {"held_out": count, "right": row[truth], "accuracy": row[truth] / count}
    accuracies = [row["accuracy"] for row in languages.values()]
    right = sum(row["right"] for row in languages.values())
    told = {"accuracy": right / max(1, len(guesses)), "macro_accuracy": float(np.mean(accuracies))}
    pairs = {truth: dict(row.most_common()) for truth, row in sorted(confusion.items())}
    return told | {"languages": languages, "confusion": pairs}
