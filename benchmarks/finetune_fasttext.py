"""fastText in a process of its own: what a classifier says that learnt from a file of labelled lines.

    said(["__label__1 good", …], ["a film", …], seed=1)      of every asked line its two likeliest labels, with shares

Promises: the same for the same lines and seed: word pairs, 25 epochs, one thread. In a process that had looked through
70 MB of texts before, the same call ended with "Encountered NaN" each time (fasttext-numpy2), in a fresh one never; so
it gets a fresh one. Costs its start and seconds. Refuses what fastText refuses, in fastText's words.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SETTINGS = {"wordNgrams": 2, "epoch": 25, "lr": 0.5, "dim": 50, "minCount": 1, "bucket": 200_000}
Said = list[dict[str, float]]  # of each line, shares by label


def said(train: Sequence[str], asked: Sequence[str], *, seed: int) -> Said:
    """Lines have no line ends in them."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "train.txt", Path(folder) / "asked.txt"
        for file, lines in zip(files, (train, asked), strict=True):
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        call = [sys.executable, __file__, *map(str, files), str(seed)]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"fastText ended with {done.stderr.strip().rpartition(chr(10))[2]!r}; look at the lines given")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def main(train: str, asked: str, seed: str) -> None:
    import fasttext

    model = fasttext.train_supervised(train, **SETTINGS, thread=1, seed=int(seed), verbose=0)
    lines = Path(asked).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    each = [dict(zip(*model.predict(line, k=2), strict=True)) for line in lines]
    told = [{label.removeprefix("__label__"): float(share) for label, share in one.items()} for one in each]
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
