"""How many tokens a vocabulary saves on a new domain when it grows, by kind and by number of pieces added.

An old vocabulary of 8,000 pieces is learned from English novels (the first 60,000 characters of each), and grows by
three quarters of the abstracts, introductions and conclusions of SciTLDR (computer science); the last quarter is
measured. For each kind and number: tokens saved on the text it grew by and on the rest, tokens a word of the rest
before and after, pieces that are never used, and seconds. For the unigram model also what choosing among the pieces of
a vocabulary learned anew from the same text would save, as `anew`: the N that are lacking in the old one and save most
by its estimate, tried and scored in the same way.

    make bench NAME=grow                 300, 1,000 and 3,000 pieces; some three minutes
    make bench NAME=grow ARGS=--quick    1,000 pieces

Prints a table and last one line of JSON. Needs the novels and the summaries of `shared/data`.
"""

import argparse
import io
import json
import math
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import zstandard
from tokenizers import Tokenizer as Library
from tokenizers import models, normalizers, pre_tokenizers, trainers

from tundish.operators.text import fertility, growth, tokenizer, vocabulary
from tundish.operators.text.grown import Grown, grown
from tundish.operators.text.growth import Piece
from tundish.operators.text.sentencepiece_file import read

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SIZE = 8000
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def unpacked(path: str) -> bytes:
    return zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader((DATA / path).read_bytes()).read()


def novels() -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(unpacked("lm-novels/novels.tar.zst"))) as files:
        bodies = [files.extractfile(one).read().decode() for one in files if one.isfile()]  # type: ignore[union-attr]
    return [line for body in bodies for line in body[:60_000].split("\n") if line.strip()]


def papers() -> tuple[list[str], list[str]]:
    rows = [json.loads(line) for line in unpacked("summ-scitldr/train.jsonl.zst").decode().split("\n") if line]
    texts = [" ".join(row["source"]) for row in rows]
    return [text for number, text in enumerate(texts) if number % 4 != 3], texts[3::4]


def old_of(kind: str, lines: list[str]) -> bytes:
    if kind in ("unigram", "bpe"):
        return vocabulary.train(lines, size=SIZE, kind=kind)
    more = {"vocab_size": SIZE, "special_tokens": SPECIALS, "show_progress": False}
    if kind == "wordpiece":
        made, trainer = Library(models.WordPiece(unk_token="[UNK]")), trainers.WordPieceTrainer(**more)
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    else:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        made, trainer = Library(models.BPE()), trainers.BpeTrainer(initial_alphabet=alphabet, **more)
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train_from_iterator(lines, trainer)
    return made.to_str().encode()


def anew(data: bytes, texts: list[str]) -> Callable[..., list[Piece]]:
    """Candidates from a vocabulary learned anew, in place of runs of old pieces."""
    old, loaded = read(data), vocabulary.load(data)
    lines = [line for text in texts for line in text.split("\n")]
    found = read(vocabulary.train(lines, size=SIZE + 1000))
    tokens = sum(map(len, vocabulary.load(data).encode(lines)))
    pool = []
    for piece, score, kind in zip(found.pieces, found.scores, found.types, strict=True):
        name = piece.decode()
        begins = name.startswith(growth.MARK)
        if kind != 1 or piece in old.pieces or not growth.fits(name.removeprefix(growth.MARK)):
            continue
        parts = tuple(loaded.encode(name[1:] if begins else name))[0 if begins else 1 :]
        if len(parts) > 1:
            pool.append(Piece(name, parts, max(2, round(math.exp(score) * tokens))))
    pool.sort(key=lambda one: (-one.saved, one.name))
    return lambda words, spelling: pool


def measured(data: bytes, after: Grown, seen: pa.Array, rest: pa.Array, seconds: float) -> dict[str, float]:
    old, new = tokenizer.load(data), tokenizer.load(after.data)
    tokens = [len(one.encode(rest).values) for one in (old, new)]
    words = int(fertility.words(rest).sum())
    used = np.bincount(new.encode(seen).values.to_numpy(), minlength=new.size)[after.first :]
    return {
        "saved_seen": 1 - after.tokens[1] / after.tokens[0],
        "saved_rest": 1 - tokens[1] / tokens[0],
        "before": tokens[0] / words,
        "after": tokens[1] / words,
        "unused": int((used == 0).sum()),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    lines, (seen, rest) = novels(), papers()
    columns = [pa.array(texts, pa.large_string()) for texts in (seen, rest)]
    print(
        f"{sum(map(len, lines)):,} characters of novels; {sum(map(len, seen)):,} and {sum(map(len, rest)):,} of papers"
    )
    print("kind         added  saved, seen  saved, rest  tokens a word  unused  seconds")
    told = {}
    for kind in ("unigram", "anew", "bpe", "wordpiece", "byte-level"):
        data = old_of("unigram" if kind == "anew" else kind, lines)
        runs = growth.runs
        growth.runs = anew(data, seen) if kind == "anew" else runs  # type: ignore[assignment]
        for most in (1000,) if quick else (300, 1000, 3000):
            start = time.perf_counter()
            after = grown(data, [columns[0]], most)
            own = told[f"{kind} {most}"] = measured(data, after, *columns, time.perf_counter() - start)
            print(
                f"{kind:12}{most:6,}{own['saved_seen']:13.1%}{own['saved_rest']:13.1%}"
                f"{own['before']:8.3f} -> {own['after']:.3f}{own['unused']:6}{own['seconds']:9.1f}",
                flush=True,
            )
        growth.runs = runs
    print(
        json.dumps(
            {"benchmark": "grow", **{name: {k: round(v, 4) for k, v in own.items()} for name, own in told.items()}}
        )
    )


if __name__ == "__main__":
    main()
