"""`make bench NAME=finetune`: what pretraining is worth, task by task, on a CPU.

One small encoder (2.8 M parameters) is pretrained on the novels, web pages and articles of `shared/data` (16 M tokens,
an hour of a core), then fine-tuned on each task: at most 4,000 training examples, 3 epochs, 5 seeds. Beside it, on the
same examples,

    fresh       the same architecture from random weights, trained alike
    fastText    a supervised fastText classifier (bag of words and word pairs)
    majority    the most frequent answer

    make bench NAME=finetune                            hours on two cores: every run is sealed in FOLDER as it ends,
                                                        so it may be stopped, and goes on where it was
    make bench NAME=finetune ARGS="--tasks sst2 --seeds 2"
    make bench NAME=finetune ARGS="--encoder DIR"       any exported model, or one of Hugging Face's
    make bench NAME=finetune ARGS=--table               what is there by now

Prints a table of means with 95 % intervals over seeds, how far the encoder is ahead of fastText on the same rows, and
how many test rows stand in the pretraining texts (finetune_paired); last one line of JSON of scores by task. One torch
thread.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TUNDISH_TORCH_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from curves_corpora import DATA, unpacked, works
from finetune_paired import beside, cells
from finetune_tasks import TASKS, baseline, lead, parts_of, summarised

from tundish.cluster.local import Local
from tundish.cluster.shards import digest_of
from tundish.pipeline.run import run
from tundish.stages.corpus import Corpus
from tundish.stages.export import exported
from tundish.stages.finetune_files import digests_of, laid
from tundish.stages.finetune_means import over
from tundish.stages.finetune_runs import found, tune
from tundish.stages.finetune_task import MEASURES, VERSION, TuneTask
from tundish.stages.gather import Gather
from tundish.stages.judge import Judge
from tundish.stages.pretrain import Pretrain
from tundish.stages.read import Read
from tundish.stages.refine import Keep, Refine
from tundish.stages.tokenize import Tokenize

SEALED = Path(__file__).resolve().parent / "finetune_runs"
FOLDER = Path(__file__).resolve().parents[1] / ".bench-finetune"
SHAPE = {"width": 160, "layers": 6, "heads": 5, "ff": 320, "dropout": 0.0}
PIECES, TOKENS, LENGTH = 8192, "16M", 128
SHARES = {"novels": 0.55, "pages": 0.4, "articles": 0.05}
CURRICULUM = (  # causal first was better in every seed of benchmarks/curves.py
    {"tokens": [0, "25%"], "objective": "clm"},
    {"tokens": ["25%", "100%"], "objective": "mlm", "rate": 0.3},
)


def encoder(folder: Path, tokens: str) -> str:
    """The small encoder, pretrained once for a folder; where it lies as `transformers` has it."""
    to = folder / f"encoder-{tokens}"
    if (to / "config.json").exists():
        return str(to)
    folder.mkdir(parents=True, exist_ok=True)
    read = {name: Read((written(folder / f"{name}.jsonl", texts()),)) for name, texts in CORPORA.items()}
    documents = Gather(read)
    corpus = Corpus(documents, Refine(documents, quality=Judge(documents), keep=Keep(rules="none")))
    shards = Tokenize(corpus, vocabulary=PIECES, holdout=0.02)
    goal = Pretrain(
        shards, model="tiny", shape=SHAPE, tokens=tokens, lr=2e-3, length=LENGTH, batch=32, window=0,
        curriculum=CURRICULUM, shares=(100, 0), weights=SHARES,
    )  # fmt: skip
    made = run(goal, Local(), str(folder / f"root-{tokens}")).datasets[goal.address]
    vocabulary = (Path(made.uri) / "vocabulary.model").read_bytes()
    exported(made.uri, vocabulary, str(to), card="# Of benchmarks/finetune.py\n")
    return str(to)


def written(path: Path, texts: Iterable[str]) -> str:
    """A file of rows, each a text."""
    rows = (json.dumps({"text": text, "url": f"http://texts/{number}"}) + "\n" for number, text in enumerate(texts))
    path.write_text("".join(rows))
    return str(path)


def pages() -> list[str]:
    """Main texts of web pages, as people marked them."""
    lines = unpacked(DATA / "web-wcxb" / "gold.jsonl.zst").decode().split("\n")
    return [text for line in lines if line and (text := json.loads(line).get("main_content"))]


CORPORA: dict[str, Callable[[], list[str]]] = {
    "novels": lambda: ["\n".join(lines) for lines in works("novels").values()],
    "pages": pages,
    "articles": lambda: ["\n".join(lines) for lines in works("wikitext2").values()],
}


def marked(model: str) -> str:
    """Of a model's bytes and of what the code makes of a run: another encoder of the same name has other results."""
    return str(digest_of([VERSION, digests_of(model)]))[:8]


def tuned(name: str, model: str, folder: Path, seeds: tuple[int, ...], most: int) -> dict[str, Any]:
    """The result of a task: its runs are made where they are missing. What is sealed in SEALED is read from there."""
    file = f"{name}-{Path(model).name}-{most}-{marked(model)}.json"
    for kept in (folder / file, SEALED / file):
        if kept.exists() and len((result := json.loads(kept.read_text()))["seeds"]) >= len(seeds):
            return result  # type: ignore[no-any-return]
    out = folder / file.removesuffix(".json")
    out.mkdir(parents=True, exist_ok=True)
    given = parts_of(name, most)
    task, report = laid(model, given, str(out), length=LENGTH, seeds=seeds, epochs=3, batch=16)
    Local().gang("Finetune", lambda rank, world, tell: tune(task, rank, world, tell), size=1)
    result = json.loads((out / "result.json").read_text())
    result["fasttext"] = baseline(name, given)
    if name == "scitldr":
        chosen(task, result)
    result["cut"] = report["parts"]["train"].get("pieces", {}).get("longer_share")
    for name in ("hardest", "suspects", "slices"):  # texts of the sets stay where they are
        result.pop(name, None)
    (folder / file).write_text(json.dumps(result, indent=1))
    return result


def chosen(task: TuneTask, result: dict[str, Any]) -> None:
    """Of SciTLDR what the sentences that were chosen score, beside the first ones."""
    told = result["parts"]["test"]
    for kind in ("pretrained", "fresh"):
        runs = [found(task, run) for run in task.runs if run.pretrained == (kind == "pretrained")]
        scores = []
        for about, said in runs:
            if not about["failed"]:
                logits = said["test"]["logits"].astype(float)
                scores.append(summarised(logits[:, 1] - logits[:, 0])["rouge_1"])
        told[kind]["rouge_1"] = over("rouge_1", scores)
        told[kind].pop("failed", None)  # to say that no sentence is a summary is no failure here
    told["majority"] = {**told["majority"], **lead()}


def told_beside(name: str, folder: Path, stem: str, most: int) -> dict[str, Any]:
    """What is found without a training run; of a table in SEALED from the file that lies there."""
    kept = SEALED / "beside" / f"{stem}.json"
    if kept.exists() and not (folder / stem).is_dir():
        return json.loads(kept.read_text())  # type: ignore[no-any-return]
    return beside(name, folder, stem, lambda: parts_of(name, most), CORPORA)


def line_of(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """What of a result is in the table."""
    measure, told = MEASURES[result["task"]], result["parts"]["test"]
    measure = TASKS[name].measure or measure
    common, each = (told["majority"] or {}).get(measure), {}
    for kind in ("pretrained", "fresh"):  # an older interval may lie outside the measure's range
        one = told.get(kind, {}).get(measure)
        each[kind] = one and over(measure, one["seeds"]) | {"mean": one["mean"]}
    mine, fresh = each["pretrained"], each["fresh"]
    return {
        "measure": measure,
        "pretrained": mine["mean"],
        "interval": mine.get("interval"),
        "fresh": fresh and fresh["mean"],
        "fresh_interval": fresh and fresh.get("interval"),
        "fasttext": (result["fasttext"] or {}).get(measure),
        "majority": common,
        "failed": told["pretrained"].get("failed", {}).get("share"),
        "seeds": len(result["seeds"]),
        "train": result["examples"]["train"],
        "test": result["examples"]["test"],
    }


def shown(lines: dict[str, dict[str, Any]]) -> None:
    names = ("task", "measure", "examples", "seeds", "pretrained", "fresh", "fastText", "less fastText", "majority")
    print(f"| {' | '.join((*names, 'failed', 'in the corpus'))} |")
    print("|---" * (len(names) + 2) + "|")
    for name, one in lines.items():
        both = [_between(one[key], one[f"{more}interval"]) for key, more in (("pretrained", ""), ("fresh", "fresh_"))]
        theirs, common = ("-" if one[key] is None else f"{one[key]:.3f}" for key in ("fasttext", "majority"))
        failed = "-" if one["failed"] is None else f"{one['failed']:.0%}"
        ahead, seen = cells(one.get("beside"))
        about = [name, one["measure"], f"{one['train']:,} / {one['test']:,}", str(one["seeds"])]
        print(f"| {' | '.join([*about, *both, theirs, ahead, common, failed, seen])} |")


def _between(mean: float | None, interval: list[float] | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.3f}" if not interval else f"{mean:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--folder", type=Path, default=FOLDER)
    options.add_argument("--encoder", default="", help="a folder; without it one is pretrained")
    options.add_argument("--tokens", default=TOKENS, help="to pretrain on")
    options.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--most", type=int, default=4000, help="training examples")
    options.add_argument("--quick", action="store_true", help="400 examples, 2 seeds, 200k tokens of pretraining")
    options.add_argument("--table", action="store_true", help="only tell what is there")
    said = options.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"this needs the labelled data beside the checkout, at {DATA}")
    if said.quick:
        said.most, said.seeds, said.tokens = min(said.most, 400), min(said.seeds, 2), "200k"
    model = said.encoder or str(said.folder / f"encoder-{said.tokens}")
    lines = {}
    if not said.table and not said.encoder:
        encoder(said.folder, said.tokens)
    for name in said.tasks:
        file = f"{name}-{Path(model).name}-{said.most}-*.json"
        sealed = [path for folder in (said.folder, SEALED) for path in sorted(folder.glob(file))]
        if said.table and not sealed:
            continue
        seeds = tuple(range(1, said.seeds + 1))
        result = json.loads(sealed[0].read_text()) if said.table else tuned(name, model, said.folder, seeds, said.most)
        stem = sealed[0].stem if said.table else f"{name}-{Path(model).name}-{said.most}-{marked(model)}"
        lines[name] = line_of(name, result) | {"beside": told_beside(name, said.folder, stem, said.most)}
        print(json.dumps({name: lines[name]}), flush=True)
    shown(lines)
    print(json.dumps({name: round(one["pretrained"], 4) for name, one in lines.items()}))


if __name__ == "__main__":
    main()
