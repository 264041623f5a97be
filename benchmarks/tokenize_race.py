"""Text to ids: ours against SentencePiece, Hugging Face tokenizers and tiktoken; same text, ids compared, CPU-seconds.

Side by side in one process, one thread each, passes taken in turn; a rate is MB of UTF-8 over the median CPU-seconds.
Vocabularies are learned here from the text of the race, each once for all who use it:

* **wheel**: SentencePiece's own defaults (NFKC) with byte fallback, BPE and unigram. Ours against the wheel, as it is
  asked for (lists of ints) and in its fastest form (`out_type="numpy"`: buffers straight from C++, the nearest to its
  own time that can be had from outside).
* **tundish**: BPE and unigram as the Tokenize stage learns them, which tokenizers can hold exactly; beside the two
  above `encode_batch_fast` on the exported tokenizer.json (rayon and tokenizers told one thread; ids not read out).
* **byte level**: tiktoken cannot hold a SentencePiece vocabulary. So one byte-level BPE of the same size is learned
  from the same text by tokenizers and given to both; ours is on tundish's BPE, so its ids are others.

Ours three ways: from an empty table of chunks, with the table of a pass before, and from an empty table with Python
strings in and lists of ints out, as the wheel has it. Kernels are compiled before. Threads: wall-clock, many batches.
Input: labelled web text where it lies beside the checkout (pages, and manuals in many languages), else the built-in
sample web; or `--data FILE`, a document a line. `--quick`: every eighth document, one pass, 8,000 pieces.
"""

import argparse
import io
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import pyarrow as pa
import sentencepiece as spm
import tiktoken
from corpora import DATA, corpus
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tundish.operators.text import vocabulary
from tundish.operators.text.encode import Encoder
from tundish.operators.text.tokenizer_json import export

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LINES = 120_000  # at most, for a vocabulary to be learned from
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # what tokenizers' ByteLevel cuts by
Way = Callable[[], object]
Line = dict[str, object]


def texts_of(data: Path | None, quick: bool) -> dict[str, list[str]]:
    """The documents of each input."""
    if data:
        found = {data.name: [line for line in data.read_text(encoding="utf-8").split("\n") if line.strip()]}
    elif DATA.is_dir():
        found = {name: corpus(name)["text"].to_pylist() for name in ("web", "multi")}
    else:
        found = {"sample web": list(sample_web())}
    if quick:
        found = {name: [text for text in texts if eighth(text)] or texts for name, texts in found.items()}
    return found


def eighth(text: str) -> bool:
    return blake2b(text.encode(), digest_size=1).digest()[0] % 8 == 0


def sample_web() -> Iterator[str]:
    """The main texts of the pages of the sample web."""
    sys.path.append(str(EXAMPLES))
    from sample_web import site

    from tundish.operators.web import encoding, html

    for page in site.web().values():
        try:
            text = html.extract(encoding.decode(page.body).text).text
        except html.Unextractable:
            continue
        if text.strip():
            yield text


def learned(texts: dict[str, list[str]], size: int) -> tuple[dict[str, bytes], Tokenizer]:
    """SentencePiece models by name, and a byte-level BPE; all of about `size` pieces."""
    lines = [line for some in texts.values() for text in some for line in text.split("\n") if line.strip()]
    lines = random.Random(1).sample(lines, min(LINES, len(lines)))
    made = {}
    for kind in ("bpe", "unigram"):
        out = io.BytesIO()
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=out, vocab_size=size, model_type=kind, byte_fallback=True,
            hard_vocab_limit=False, num_threads=1, minloglevel=2,
        )  # fmt: skip
        made[f"wheel {kind}"] = out.getvalue()
        made[f"tundish {kind}"] = fitting(lines, size, kind)
    level = Tokenizer(models.BPE())
    level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    level.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=size,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[],
        ),
    )
    return made, level


def fitting(lines: list[str], size: int, kind: str) -> bytes:
    """As large as asked, or as this text allows."""
    while True:
        try:
            return vocabulary.train(lines, size=size, kind=kind)
        except ValueError:
            size = size * 3 // 4
            if size < 300:
                raise


def as_tiktoken(level: Tokenizer) -> tiktoken.Encoding:
    """The same byte-level BPE: bytes of each piece and its rank. Bytes are written there as the characters of GPT-2."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    bytes_ = {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(rest)}
    ranks = {bytes(bytes_[char] for char in piece): number for piece, number in level.get_vocab().items()}
    return tiktoken.Encoding("race", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={})


def raced(ways: dict[str, Way], passes: int) -> dict[str, float]:
    """Median CPU-seconds of each, passes in turn."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(passes):
        for name, way in ways.items():
            start = process_time()
            way()
            spent[name].append(process_time() - start)
    return {name: median(seconds) for name, seconds in spent.items()}


def lists(ids: pa.LargeListArray) -> list[list[int]]:
    """As Python has them, the quick way."""
    flat, ends = ids.values.to_numpy().tolist(), ids.offsets.to_pylist()
    return [flat[start:end] for start, end in pairwise(ends)]


def ours_and_wheel(model: bytes, texts: list[str], column: pa.LargeStringArray) -> dict[str, Way]:
    encoder, theirs = Encoder(model), spm.SentencePieceProcessor(model_proto=model)
    encoder(column.slice(0, 1))  # compiled, or loaded
    return {
        "ours, empty": lambda: encoder(column, warm=False),
        "ours, warm": lambda: encoder(column),
        "ours, lists": lambda: lists(encoder(pa.array(texts, pa.large_string()), warm=False)),
        "wheel, lists": lambda: theirs.encode(texts, num_threads=1),
        "wheel, numpy": lambda: theirs.encode(texts, num_threads=1, out_type="numpy"),
    }


def same(model: bytes, texts: list[str], column: pa.LargeStringArray) -> int:
    """Documents with the wheel's ids."""
    wanted = spm.SentencePieceProcessor(model_proto=model).encode(texts, num_threads=1)
    return sum(one == other for one, other in zip(lists(Encoder(model)(column)), wanted, strict=True))


def scaled(model: bytes, column: pa.LargeStringArray, passes: int) -> dict[str, float]:
    """Wall-clock of one thread over that of two: ours, each from an empty table; and numpy's sort beside it, which
    says whether the machine had a second core to give."""
    step = -(-len(column) // 32)
    batches = [column.slice(at, step) for at in range(0, len(column), step)]
    numbers = [np.random.default_rng(0).random(1 << 21)] * 8

    def wall(threads: int, work: Callable[[object], object], parts: list[object]) -> float:
        with ThreadPoolExecutor(threads) as pool:
            start = time.perf_counter()
            list(pool.map(work, parts))
            return time.perf_counter() - start

    ratios: dict[str, list[float]] = {"threads_2": [], "threads_2_sort": []}
    for _ in range(max(5, passes)):
        ours, sort = ((wall(1, *one), wall(2, *one)) for one in ((Encoder(model), batches), (np.sort, numbers)))
        ratios["threads_2"].append(ours[0] / ours[1])
        ratios["threads_2_sort"].append(sort[0] / sort[1])
    return {name: round(median(found), 2) for name, found in ratios.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="a text file, a document a line")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--size", type=int, help="pieces of each vocabulary (32768; quick: 8000)")
    parser.add_argument("--passes", type=int, help="the median counts (3; quick: 1)")
    given = parser.parse_args(arguments)
    os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    size, passes = given.size or (8000 if given.quick else 32_768), given.passes or (1 if given.quick else 3)
    documents = texts_of(given.data, given.quick)
    made, level = learned(documents, size)
    rates: dict[str, dict[str, float]] = {}
    alike = {"documents": 0, "same": 0, "tokenizers": 0}
    threads: dict[str, float] = {}
    for name, texts in documents.items():
        column = pa.array(texts, pa.large_string())
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        print(f"\n{name}: {len(texts)} documents, {megabytes:.1f} MB; MB a CPU-second")
        for which, model in made.items():
            ways = ours_and_wheel(model, texts, column)
            if which.startswith("tundish"):
                exported = Tokenizer.from_str(export(model).decode())
                ways["tokenizers"] = partial(exported.encode_batch_fast, texts, add_special_tokens=False)
                ids = [one.ids for one in exported.encode_batch_fast(texts, add_special_tokens=False)]
                alike["tokenizers"] += sum(a == b for a, b in zip(lists(Encoder(model)(column)), ids, strict=True))
            alike["documents"] += len(texts)
            alike["same"] += same(model, texts, column)
            shown(rates, f"{name}, {which}", ways, passes, megabytes)
        shown(rates, f"{name}, byte level", byte_level(level, texts), passes, megabytes)
        threads = scaled(made["tundish bpe"], column, passes)
    print(json.dumps(summed(documents, rates, alike) | threads | {"quick": given.quick}))


def byte_level(level: Tokenizer, texts: list[str]) -> dict[str, Way]:
    ticks = as_tiktoken(level)
    theirs = [one.ids for one in level.encode_batch_fast(texts, add_special_tokens=False)]
    alike = sum(ids == ticks.encode_ordinary(text) for ids, text in zip(theirs, texts, strict=True))
    print(f"  tiktoken gives the ids of tokenizers for {alike} of {len(texts)} documents")
    return {
        "tokenizers": partial(level.encode_batch_fast, texts, add_special_tokens=False),
        "tiktoken, lists": lambda: [ticks.encode_ordinary(text) for text in texts],
        "tiktoken, numpy": lambda: [ticks.encode_to_numpy(text, disallowed_special=()) for text in texts],
    }


def shown(rates: dict[str, dict[str, float]], name: str, ways: dict[str, Way], passes: int, megabytes: float) -> None:
    rates[name] = {way: round(megabytes / spent, 1) for way, spent in raced(ways, passes).items()}
    print(f"  {name:32}" + "".join(f"{way} {rate:<7}" for way, rate in rates[name].items()), flush=True)


def summed(documents: dict[str, list[str]], rates: dict[str, dict[str, float]], alike: dict[str, int]) -> Line:
    """Of each ratio the lowest of all inputs; ours from an empty table."""

    def least(model: str, theirs: Sequence[str], other: str = "", ours: str = "ours, empty") -> float:
        found = []
        for name in documents:
            best = max(rates[f"{name}, {other or model}"][one] for one in theirs)
            found.append(rates[f"{name}, {model}"][ours] / best)
        return round(min(found), 1)

    kinds = ("bpe", "unigram")
    line: Line = {f"ratio_{kind}": least(f"wheel {kind}", ["wheel, lists"]) for kind in kinds}
    line |= {f"ratio_{kind}_numpy": least(f"wheel {kind}", ["wheel, numpy"]) for kind in kinds}
    line |= {f"ratio_{kind}_lists": least(f"wheel {kind}", ["wheel, lists"], ours="ours, lists") for kind in kinds}
    line |= {f"ratio_{kind}_warm": least(f"wheel {kind}", ["wheel, lists"], ours="ours, warm") for kind in kinds}
    line |= {f"ratio_{kind}_tundish": least(f"tundish {kind}", ["wheel, lists"]) for kind in kinds}
    line |= {"ratio_tokenizers": min(least(f"tundish {kind}", ["tokenizers"]) for kind in kinds)}
    line |= {"ratio_tokenizers_byte_level": least("tundish bpe", ["tokenizers"], "byte level")}
    line |= {"ratio_tiktoken": least("tundish bpe", ["tiktoken, lists", "tiktoken, numpy"], "byte level")}
    line |= {"same_ids_share": alike["same"] / alike["documents"]}
    line |= {"same_ids_share_tokenizers": alike["tokenizers"] * 2 / alike["documents"]}
    return line | {"mb_s": rates}
