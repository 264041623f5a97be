"""The corpora of curves.py: novels and articles, pieces learned from what is trained on, shards, passages to probe.

    FOLDER/vocabulary.model, train.arrow, held.arrow      token shards as Tokenize writes them; `held` is of whole works
    FOLDER/learn.npz, ask.npz                             the probe's passages and the number of the work each is from
    FOLDER/about.json                                     sizes, and which works are held out

Promises: no text is in two of train, held, learn, ask. Costs half a minute for the novels.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import zstandard

from tundish.operators.text import tokenizer, vocabulary

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LEARNED = 8_000_000  # characters that pieces are learned from, at most


@dataclass(frozen=True)
class Corpus:
    """`probe`: share of every work, its last, that the probe has. `passages` of each work to learn from and as many to
    be asked about, of so many `places`."""

    pieces: int
    probe: float
    passages: int
    places: int


CORPORA = {"novels": Corpus(8192, 0.2, 16, 128), "wikitext2": Corpus(4096, 1 / 3, 12, 64)}


def unpacked(path: Path) -> bytes:
    with path.open("rb") as stream:
        return zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(stream).read()


def works(corpus: str) -> dict[str, list[str]]:
    """Lines of every novel, or article, by its name."""
    if corpus == "novels":
        with tarfile.open(fileobj=io.BytesIO(unpacked(DATA / "lm-novels" / "novels.tar.zst"))) as tar:
            files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
            texts = {name: stream.read().decode("utf-8-sig") for name, stream in files.items() if stream}
    else:
        whole = unpacked(DATA / "lm-wikitext2" / "valid.txt.zst").decode()
        parts = re.split(r"^ = ([^=\n]+) = *$", whole, flags=re.MULTILINE)
        titled = zip(parts[1::2], parts[2::2], strict=True)
        texts = {f"{number:02} {title}": text for number, (title, text) in enumerate(titled)}  # some share a title
    split = {name: [" ".join(line.split()) for line in text.split("\n")] for name, text in sorted(texts.items())}
    return {name: [line for line in lines if line] for name, lines in split.items()}


def documents(lines: Iterable[str], least: int = 2000) -> list[str]:
    """Lines joined to documents of some 2,000 characters and more."""
    found: list[list[str]] = [[]]
    for line in lines:
        if sum(map(len, found[-1])) >= least:
            found.append([])
        found[-1].append(line)
    return ["\n".join(each) for each in found if each]


def prepare(corpus: str, folder: Path) -> None:
    """All files of a corpus, once."""
    if (folder / "about.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    told, texts = CORPORA[corpus], {name: documents(lines) for name, lines in works(corpus).items()}
    lots = sorted(texts, key=lambda name: blake2b(name.encode(), digest_size=8).digest())
    held = sorted(lots[:: len(lots) // 10])
    seen = [name for name in texts if name not in held]
    ends = {name: round(len(texts[name]) * (1 - told.probe)) for name in seen}
    sides = {
        "train": [text for name in seen for text in texts[name][: ends[name]]],
        "held": [text for name in held for text in texts[name]],
    }
    step = -(-sum(map(len, sides["train"])) // LEARNED)
    model = vocabulary.train((line for text in sides["train"][::step] for line in text.split("\n")), size=told.pieces)
    pieces = tokenizer.load(model)
    (folder / "vocabulary.model").write_bytes(model)
    ids = {side: pieces.encode(pa.array(some, pa.large_string())) for side, some in sides.items()}
    for side, tokens in ids.items():
        batch = pa.record_batch({"tokens": tokens})
        with pa.ipc.new_file(str(folder / f"{side}.arrow"), batch.schema) as writer:
            writer.write_batch(batch)
    rest = pieces.encode(pa.array(["\n".join(texts[name][ends[name] :]) for name in seen], pa.large_string()))
    counts = passages(folder, told, [tokens.values.to_numpy() for tokens in rest])
    size = sum(len(text.encode()) for text in sides["held"])
    about = {
        "pieces": told.pieces,
        "bytes_a_token": size / len(ids["held"].values),
        "tokens": {side: len(some.values) for side, some in ids.items()},
        "held": held,
        "works": len(seen),
        "passages": counts,
        "specials": {name: int(number) for name, number in pieces.specials.items()},
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1))


def passages(folder: Path, told: Corpus, rest: list[np.ndarray]) -> dict[str, int]:
    """Of the tokens behind what is trained on of each work, passages of the first half to learn from and of the second
    to be asked about; how many there are."""
    sides: dict[str, list[np.ndarray]] = {"learn": [], "ask": []}
    length = told.places - 2
    for flat in rest:
        whole = flat[: len(flat) // length * length].reshape(-1, length)
        half = len(whole) // 2
        for side, some in (("learn", whole[:half]), ("ask", whole[half + 1 :])):  # one between them is left out
            sides[side].append(some[np.unique(np.linspace(0, len(some) - 1, told.passages).round().astype(int))])
    for side, found in sides.items():
        labels = np.repeat(np.arange(len(found)), [len(each) for each in found])
        np.savez(folder / f"{side}.npz", passages=np.concatenate(found), labels=labels)
    return {side: sum(map(len, found)) for side, found in sides.items()}
