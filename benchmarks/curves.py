"""Learning curves at equal tokens: masked, replaced-token detection, and causal then masked; several seeds, on a CPU.

    masked      30 % hidden, always [MASK]
    detection   ELECTRA: 15 % hidden, always [MASK], a generator a quarter as wide, one table, telling weighs 50
    causal      causal on the first half of the tokens, then masked as above, by a curriculum

One trunk (WIDTH, LAYERS, HEADS), one optimiser and schedule of rates, the same documents in the same order, one seed
for weights, order and hidden places. Held out are whole novels, or whole articles; on them, at every tenth of the
tokens, the loss where 15 % are hidden, the same places for all. Of a detection that is its generator's, which is
smaller; its discriminator guesses nothing, so its curve is how well it tells.

All three trunks take a probe: of which novel (article) is this passage? The mean of the frozen trunk's states,
whitened, under a logistic regression, at every depth. Its passages are from the last part of each novel, which no
training sees: the first half of that to learn from, the second to be asked about. Beside it fresh trunks, and the
counts of pieces.

    python benchmarks/curves.py FOLDER                 some 10 minutes a run on one idle core; every run is sealed to
                                                       JSON as it ends, so it may be stopped, and goes on where it was
    python benchmarks/curves.py FOLDER --quick         a tenth of the tokens, one seed
    python benchmarks/curves.py --table FOLDER         what is there by now: mean and standard deviation over seeds

Prints tables and last one line of JSON. One torch thread, at the lowest priority, one run at a time.
"""

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
if "tundish" not in sys.modules:  # the folders beside this file, whichever are installed
    package = types.ModuleType("tundish")
    package.__path__ = [str(TOP)]
    sys.modules["tundish"] = package

import numpy as np  # noqa: E402
import torch  # noqa: E402
from curves_corpora import CORPORA, prepare  # noqa: E402
from curves_probe import bag, probe  # noqa: E402

from tundish.cluster import checkpoint  # noqa: E402
from tundish.operators.model.hiding import Hiding, Masked  # noqa: E402
from tundish.operators.model.objective import Detection, part_of  # noqa: E402
from tundish.operators.model.plan import Plan, Stretch, weights_of  # noqa: E402
from tundish.operators.model.rows import Layout  # noqa: E402
from tundish.operators.model.stream import Aim, Stream  # noqa: E402
from tundish.stages.pretrain_feed import Feed  # noqa: E402
from tundish.stages.pretrain_loop import PretrainTask, pretrain  # noqa: E402
from tundish.stages.pretrain_model import trainee_of  # noqa: E402
from tundish.stages.ranks import joined  # noqa: E402
from tundish.stages.token_stream import Opened, TokenFiles  # noqa: E402

LENGTH, ROWS, TOKENS, POINTS = 128, 16, 2_000_000, 10
WIDTH, LAYERS, HEADS, INNER, RATE = 128, 4, 4, 352, 2e-3
HELD_ROWS = 256  # of LENGTH places
MASKED: Mapping[str, Any] = {"objective": "mlm", "shares": (100, 0), "mask": 0.3}
OBJECTIVES: Mapping[str, Mapping[str, Any]] = {
    "masked": MASKED,
    "detection": {"objective": "rtd", "shares": (100, 0), "mask": 0.15},
    "causal": MASKED
    | {"curriculum": [{"tokens": [0, "50%"], "objective": "clm"}, {"tokens": ["50%", "100%"], "objective": "mlm"}]},
}


# a run


def task_of(corpus: Path, out: Path, objective: str, seed: int, tokens: int) -> PretrainTask:
    about = json.loads((corpus / "about.json").read_text())
    heads = {"width": WIDTH, "layers": LAYERS, "heads": HEADS, "ff": INNER}
    made = PretrainTask(
        sources=(TokenFiles("train", (str(corpus / "train.arrow"),)),),
        holdout=(TokenFiles("held", (str(corpus / "held.arrow"),)),),
        specials=about["specials"],
        vocabulary=about["pieces"],
        out=str(out),
        model="tiny",
        shape=heads,
        holdout_bytes={"held": about["bytes_a_token"]},
        holdout_rows=HELD_ROWS,
        length=LENGTH,
        batch=ROWS,
        tokens=tokens,
        lr=RATE,
        seed=seed,
        snapshot_every=25,
        keep=POINTS + 20,  # one more each time that it is stopped
        **OBJECTIVES[objective],
    )
    with joined(0, 1) as ranks:
        feed = Feed(made, ranks)
        every = -(-feed.steps // POINTS)
        feed.close()
    return dataclasses.replace(made, evaluate_every=every, checkpoint_every=every)


def one(folder: Path, corpus: str, objective: str, seed: int, tokens: int) -> None:
    """Train, ask the probe, seal the numbers."""
    torch.set_num_threads(1)
    work = folder / "work" / f"{corpus}-{objective}-{seed}"
    task = task_of(folder / corpus, work, objective, seed, tokens)
    pretrain(task, 0, 1, lambda line: None)
    log = [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()]
    result = json.loads((work / "result.json").read_text())
    lines = [line for line in log if "holdout" in line] + [result | {"step": len(log)}]
    curve = []
    for line in lines:
        point = {"step": line["step"], "tokens": log[line["step"] - 1]["tokens"] if line["step"] else 0}
        point["holdout"] = line.get("holdout", line.get("holdout_last"))
        point["bits_per_byte"] = line["bits_per_byte"]["held"]
        if "holdout_detected" in line:
            point["detected"] = line["holdout_detected"]
        point |= checked(folder / corpus, task, line["step"], len(log))
        curve.append(point)
    speed = statistics.median(line["tokens_per_second"] for line in log)  # whatever stopped the process in between
    told = {"corpus": corpus, "objective": objective, "seed": seed, "steps": len(log), "tokens": log[-1]["tokens"]}
    told |= {"parameters": result["parameters"], "tokens_per_second": speed}
    told |= {"unigram": result["holdout_unigram"], "rewound": len(result["rewound"]), "curve": curve}
    part = sealed(folder, corpus, objective, seed).with_suffix(".part")
    part.write_text(json.dumps(told, indent=1))
    part.rename(part.with_suffix(".json"))
    shutil.rmtree(work / "checkpoints")  # what else was left stays


def sealed(folder: Path, corpus: str, objective: str, seed: int) -> Path:
    return folder / f"{corpus}-{objective}-{seed}.json"


def checked(corpus: Path, task: PretrainTask, step: int, steps: int) -> dict[str, float]:
    """How a detection tells, and at the beginning, half way and at the end what the probe says."""
    if step == steps:
        from safetensors.torch import load_file

        kept = load_file(Path(task.out) / "model.safetensors")
        beside = Path(task.out) / "generator.safetensors"
        made = load_file(beside) if beside.exists() else {}
        state = {f"generator.{name}": each for name, each in made.items()}
        for name, each in kept.items():
            inside = made and not name.startswith("detector.")
            state[f"discriminator.{name}" if inside else name] = each
    elif step:
        found = checkpoint.read(f"{task.out}/checkpoints", step)
        assert found is not None, f"every checkpoint is kept, and so is that of step {step}"
        state = found["model"]
    model = trainee_of(task, torch.float32).eval()
    if step:
        lacking = model.load_state_dict(state, strict=False)
        assert not lacking.unexpected_keys, lacking
        assert {name.rsplit(".", 2)[-2] for name in lacking.missing_keys} <= {"embedding"}, lacking  # one of two names
    told = telling(corpus, task, model) if isinstance(model, Detection) else {}
    middle = POINTS // 2 * task.evaluate_every
    if step in (0, middle, steps):
        trunk = model.discriminator if isinstance(model, Detection) else model
        told["probe"] = [round(each, 4) for each in probe(corpus, trunk)]
    return told


@torch.no_grad()
def telling(corpus: Path, task: PretrainTask, model: Detection) -> dict[str, float]:
    """Of the held-out tokens: which share is told rightly, which never was replaced, and how many of the replaced are
    found, and how many of all pairs of one replaced and one not are told apart (the area under the curve)."""
    layout, files = Layout(LENGTH, LENGTH), TokenFiles("held", (str(corpus / "held.arrow"),))
    files = files.counted(layout)
    plan = Plan(7, (files.source,), (Stretch(0, weights_of([files.source])),), ((0, 1),))
    stream = Stream(plan, layout, Hiding(task.vocabulary, dict(task.specials), 7, 0.15), Opened([files], layout))
    logits, changed = [], []
    rows = np.arange(min(HELD_ROWS, files.source.size))
    for some in np.array_split(rows, -(-len(rows) // 40)):
        batch = stream.batch(plan.places(some), Aim(Masked(shares=(100, 0), sampled=True), 0.15))
        part = part_of(batch, torch.device("cpu"))
        filled, other = model.filled(model.generator(part.tokens, part.packed)[part.places], part)
        found = model.detector(model.discriminator(filled, part.packed, table=model.table()))
        logits.append(found[part.present])
        changed.append(other[part.present])
    scores, truth = torch.cat(logits), torch.cat(changed)
    order = torch.empty(len(scores), dtype=torch.float64)
    order[scores.argsort()] = torch.arange(1, len(scores) + 1, dtype=torch.float64)
    many, few = int(truth.sum()), int((~truth).sum())
    area = (float(order[truth].sum()) - many * (many + 1) / 2) / max(1, many * few)
    right = (scores > 0) == truth
    numbers = {"told": right.float().mean(), "unchanged": (~truth).float().mean(), "found": right[truth].float().mean()}
    return {name: round(float(number), 4) for name, number in numbers.items()} | {"area": round(area, 4)}


# the table


def told_of(numbers: list[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds (of the sample, one less than seeds)."""
    if not numbers:
        return "-"
    spread = f" ± {statistics.stdev(numbers):.{digits}f}" if len(numbers) > 1 else " (one seed)"
    return f"{statistics.mean(numbers):.{digits}f}{spread}"


def drawn(heads: list[str], rows: list[list[str]]) -> None:
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


Runs = Mapping[str, list[dict[str, Any]]]  # by objective


def at(runs: Runs, name: str, point: int, what: str, depth: int | None = None) -> list[float]:
    """A number of every seed at a point of its curve; of a probe, at a depth."""
    found = [run["curve"][point][what] for run in runs[name] if what in run["curve"][point]]
    return found if depth is None else [each[depth] for each in found]


def curves(runs: Runs, points: Mapping[int, str]) -> None:
    """The tables of a corpus; `points` of the curve with their names."""

    def every(what: str, some: Mapping[int, str]) -> list[list[str]]:
        return [[said, *(told_of(at(runs, name, point, what)) for name in OBJECTIVES)] for point, said in some.items()]

    drawn(["tokens", "masked", "detection: its generator", "causal, then masked"], every("holdout", points))
    drawn(["", *OBJECTIVES], every("bits_per_byte", {-1: "bits a byte at the end"}))
    names = ("detected", "told", "unchanged", "found", "area")
    rows = [[said, *(told_of(at(runs, "detection", point, n)) for n in names)] for point, said in points.items()]
    drawn(["tokens", "loss of telling", "told rightly", "never replaced", "replaced and found", "area"], rows)
    for share, point in (("0 %", 0), ("50 %", len(points) // 2), ("100 %", -1)):
        depths = [[at(runs, name, point, "probe", depth) for name in OBJECTIVES] for depth in range(LAYERS + 1)]
        rows = [[f"block {depth}" if depth else "embeddings", *map(told_of, each)] for depth, each in enumerate(depths)]
        drawn([f"the probe at {share}, after", *OBJECTIVES], rows)


def table(folder: Path) -> dict[str, Any]:
    """What is sealed by now, drawn; means of the ends."""
    line: dict[str, Any] = {}
    for corpus in CORPORA:
        runs = {
            name: [json.loads(path.read_text()) for path in sorted(folder.glob(f"{corpus}-{name}-*.json"))]
            for name in OBJECTIVES
        }
        every = [run for each in runs.values() for run in each]
        if not every:
            continue
        about, last = json.loads((folder / corpus / "about.json").read_text()), len(every[0]["curve"]) - 1
        print(f"\n{corpus}: {every[0]['tokens']:,} tokens of {about['tokens']['train']:,}", end="; ")
        print(f"unigram {every[0]['unigram']:.3f} nats, {about['bytes_a_token']:.2f} bytes a token", end="; ")
        print(", ".join(f"{name} {len(each)} seeds" for name, each in runs.items()))
        curves(runs, {point: f"{100 * point // last} %" for point in range(last + 1)})
        counts = bag(folder / corpus, about["pieces"])
        print(f"\nprobe on counts of pieces {counts:.3f}, by chance {1 / about['works']:.3f}")
        for name, each in runs.items():
            final = {what: at(runs, name, -1, what) for what in ("holdout", "bits_per_byte", "told", "area")}
            speeds = [run["tokens_per_second"] for run in each]
            line[f"{corpus}-{name}"] = {
                "seeds": len(each),
                **{what: round(statistics.mean(found), 4) for what, found in final.items() if found},
                "probe": [
                    round(statistics.mean(each), 4)
                    for d in range(LAYERS + 1)
                    if (each := at(runs, name, -1, "probe", d))
                ],
                **({"tokens_per_second": round(statistics.median(speeds))} if speeds else {}),
            }
    return line


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--table", action="store_true", help="only tell what is there")
    options.add_argument("--quick", action="store_true", help="a tenth of the tokens, one seed")
    options.add_argument("--tokens", type=int, default=TOKENS)
    options.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    options.add_argument("--corpora", nargs="*", default=list(CORPORA), choices=list(CORPORA))
    options.add_argument("--one", nargs=3, metavar=("CORPUS", "OBJECTIVE", "SEED"), help="one run, in this process")
    said = options.parse_args()
    tokens, seeds = (said.tokens // 10, said.seeds[:1]) if said.quick else (said.tokens, said.seeds)
    if said.one:
        os.nice(19)
        return one(said.folder, said.one[0], said.one[1], int(said.one[2]), tokens)
    for corpus in said.corpora if not said.table else ():
        prepare(corpus, said.folder / corpus)
        for seed in seeds:
            for objective in OBJECTIVES:
                if sealed(said.folder, corpus, objective, seed).exists():
                    continue
                began = time.perf_counter()
                command = [sys.executable, __file__, str(said.folder), "--tokens", str(tokens)]
                command += ["--one", corpus, objective, str(seed)]
                subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
                print(f"{corpus} {objective} {seed}: {time.perf_counter() - began:,.0f} s", flush=True)
    line = table(said.folder)
    print(json.dumps({"runs": line, "quick": said.quick}))


if __name__ == "__main__":
    main()
