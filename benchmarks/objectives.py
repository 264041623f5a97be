"""What each objective costs on the host: tokens a CPU-second, one process on one core, from token shards to batches.

Documents as long as real ones (a log-normal with the median and spread of extracted web pages), 32,768 ids, rows of
1,024 places, 256 a batch, shuffled; a third of the pieces continue a word. `whole` is the stream as a trainer has it
(places, filling, the objective), `alone` the objective on rows that are filled already. Turns are interleaved and the
median is told, since other work on the machine comes and goes.

    make bench NAME=objectives                 about two minutes
    make bench NAME=objectives ARGS=--quick    a third of the turns

Prints a table and last one line of JSON: millions of tokens a CPU-second of each objective, `whole` and `alone`, and
the slowest of both.
"""

import argparse
import json
import os
import time
from statistics import median

import numpy as np

from tundish.operators.model.corrupting import Corrupted
from tundish.operators.model.following import Following
from tundish.operators.model.hiding import Hiding, Masked, uniform
from tundish.operators.model.plan import Plan, Source, Stretch, weights_of
from tundish.operators.model.rows import Layout, Shard, cut
from tundish.operators.model.stream import Aim, Stream

VOCABULARY, ROW, BATCH, TOKENS = 32_768, 1024, 256, 12_000_000
SPECIALS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
AIMS = {
    "masked, tokens, 30 %": Aim(Masked(), 0.3),
    "masked, tokens, 15 %": Aim(Masked(), 0.15),
    "replaced-token detection, 15 %": Aim(Masked(shares=(85, 0), sampled=True), 0.15),
    "masked, whole words, 15 %": Aim(Masked(unit="word"), 0.15),
    "masked, spans (SpanBERT), 15 %": Aim(Masked(unit="span"), 0.15),
    "masked, spans (1 to 3), 30 %": Aim(Masked(unit="span", lengths=uniform(3)), 0.3),
    "causal": Aim(Following()),
    "prefix": Aim(Following(prefixed=True)),
    "span corruption (T5)": Aim(Corrupted(VOCABULARY - 1)),
}


def streamed() -> Stream:
    source = np.random.default_rng(1)
    sizes = np.maximum(1, source.lognormal(6.2, 1.1, TOKENS // 500)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    layout = Layout(ROW, ROW)
    tokens = source.integers(5, VOCABULARY - 100, int(offsets[-1]), dtype=np.uint16)
    shard = Shard(tokens, offsets, cut(offsets, layout))
    one = Source("web", (len(shard.starts) - 1,))
    plan = Plan(1, (one,), (Stretch(0, weights_of([one])),), ((0, BATCH),))
    words = (source.random(VOCABULARY) < 2 / 3).astype(np.uint8)
    return Stream(plan, layout, Hiding(VOCABULARY, SPECIALS, 1, 0.3, words), lambda *_: shard)


def turn(stream: Stream, aim: Aim, step: int) -> tuple[float, float]:
    """Tokens a CPU-second of a few batches: from places on, and of the objective alone."""
    tokens, whole, alone = 0, 0.0, 0.0
    for _, places in stream.shares(range(step, step + 8)):
        begin = time.process_time()
        stream.batch(places, aim)
        whole += time.process_time() - begin
        rows, keys = stream.filled(places), stream.keys(places)
        begin = time.process_time()
        aim.objective.batch(rows, keys, places.epoch, stream.hiding, aim.rate)
        alone += time.process_time() - begin
        tokens += int(rows.sizes.sum())
    return tokens / whole, tokens / alone


def main() -> None:
    parser = argparse.ArgumentParser(description="What each objective costs on the host.")
    parser.add_argument("--quick", action="store_true")
    turns = 3 if parser.parse_args().quick else 9
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    stream = streamed()
    for aim in AIMS.values():
        turn(stream, aim, 0)  # compiled
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in AIMS}
    for each in range(turns):
        for name, aim in AIMS.items():
            found[name].append(turn(stream, aim, 8 * each))
    whole = {name: median(each[0] for each in all_) / 1e6 for name, all_ in found.items()}
    alone = {name: median(each[1] for each in all_) / 1e6 for name, all_ in found.items()}
    print(f"{'M tokens a CPU-second':>34} {'whole':>8} {'alone':>8}")
    for name in AIMS:
        print(f"{name:>34} {whole[name]:8.1f} {alone[name]:8.1f}")
    line = {
        "whole": {name: round(rate, 1) for name, rate in whole.items()},
        "alone": {name: round(rate, 1) for name, rate in alone.items()},
        "slowest_whole": round(min(whole.values()), 1),
        "slowest_alone": round(min(alone.values()), 1),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
