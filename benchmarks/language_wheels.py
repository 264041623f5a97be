"""The fastText wheels that are public, each in a process of its own: CPU-seconds, labels and likelihoods.

They all call themselves `fasttext`, so each is installed in a folder that holds nothing else (once, under the cache).
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from corpora import CACHE

from tundish.cluster.assets import asset

WHEELS = {"fasttext-numpy2": "0.10.4", "fasttext-wheel": "0.9.2", "fasttext-predict": "0.9.2.4"}


def installed(name: str) -> Path:
    """A folder that holds this wheel and nothing else: they all call themselves `fasttext`."""
    folder = CACHE / f"{name}-{WHEELS[name]}-{sys.version_info.major}.{sys.version_info.minor}"
    if not folder.exists():
        part = folder.with_suffix(".part")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*pip, "--target", str(part), f"{name}=={WHEELS[name]}"], check=True, capture_output=True)
        part.rename(folder)
    return folder


def raced(name: str, path: Path, passes: int) -> dict[str, np.ndarray]:
    """CPU-seconds of each pass of a wheel over the texts of a file, its labels and likelihoods."""
    out = path.with_suffix(f".{name}.npz")
    there = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed(name)), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, __file__, str(path), str(out), str(passes)]
    subprocess.run(command, check=True, env=there)
    return dict(np.load(out, allow_pickle=True))


def as_wheel(path: str, out: str, passes: int) -> None:
    """What runs in that process."""
    import fasttext

    model = fasttext.load_model(str(asset("lid.176")))
    lines = [text.replace("\n", " ") for text in pq.read_table(path)["text"].to_pylist()]
    try:
        model.predict("one text")
        ask: Callable[[str], object] = model.predict
    except ValueError:  # numpy 2 has taken away what fasttext-wheel asks of it; its C++ still answers
        ask = lambda text: model.f.predict(f"{text}\n", 1, 0.0, "strict")  # noqa: E731
    seconds = []
    for _ in range(passes):
        start = time.process_time()
        answers = [ask(line) for line in lines]
        seconds.append(time.process_time() - start)
    labels, scores = zip(*(_answer(one) for one in answers), strict=True)
    np.savez(out, seconds=seconds, labels=np.array(labels, object), scores=np.array(scores, np.float64))


def _answer(answer: object) -> tuple[str, float]:
    """(label, likelihood) of what a wheel says: two tuples, or pairs of likelihood and label."""
    if isinstance(answer, tuple):
        names, chances = answer
        return (names[0], float(chances[0])) if len(names) else ("", 0.0)
    pairs = list(answer)  # type: ignore[call-overload]
    return (pairs[0][1], float(pairs[0][0])) if pairs else ("", 0.0)


if __name__ == "__main__":
    as_wheel(sys.argv[1], sys.argv[2], int(sys.argv[3]))
