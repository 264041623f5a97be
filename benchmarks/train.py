"""`make bench NAME=train`: pretraining on this machine's CPU, beside Hugging Face's Trainer on the same tokens.

The same small model (ModernBERT's shape, weights copied, so both begin alike), the same documents as long as web pages
(log-normal, median 530, sigma 1.05) cut at the context, 30 % hidden, AdamW at one rate, float32, all cores. The Trainer
pads each batch to its longest document, as its collator does; ours is the plain loop (`stages/pretrain_loop`). Turns
are interleaved, and run at contexts of 256, 512 and 1,024.

    ratio_hf              real tokens a second, ours over theirs, median of the turns, at the context that the preset of
                          this model names: 1,024
    ratios_hf             the same at each context
    loss_gap              difference of the mean losses of the last third of equal tokens, in nats; noise is some 0.02
    stall_share           share of the time in which our loop waited for its batch
    ray_overhead_share    how much longer a step takes with two workers (`--workers`) under Ray Train than under
                          torchrun; on as many cores that is what Ray itself takes, with one free what the loop feels

    make bench NAME=train                 about half an hour on two free cores
    make bench NAME=train ARGS=--quick    a third of the tokens, and no Ray
    make bench NAME=train ARGS=--ray      the last of these figures alone

Prints a table and last one line of JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from tundish.operators.model import hub
from tundish.operators.model.presets import shape_of
from tundish.stages.pretrain_loop import PretrainTask, pretrain
from tundish.stages.pretrain_model import trainee_of
from tundish.stages.token_stream import TokenFiles

IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
VOCABULARY, LENGTH, PLACES = 8192, 256, 2048  # places of a step, or as many documents as hold so many
CONTEXTS = (256, 512, 1024)  # the last is the preset's own
RATE, SEED = 1e-3, 1


def documents(tokens: int, length: int = LENGTH) -> list[np.ndarray]:
    """Pieces of at most length - 2 tokens of a language in which neighbours tell something."""
    source = np.random.default_rng(1)
    following = source.integers(5, VOCABULARY, (VOCABULARY, 4))
    found, total = [], 0
    while total < tokens:
        size = int(np.clip(source.lognormal(np.log(530), 1.05), 8, 20_000))
        text, token = np.empty(size, np.uint16), int(5 + source.zipf(1.3) % (VOCABULARY - 5))
        for place in range(size):
            text[place] = token
            token = (
                int(following[token, source.integers(4)])
                if source.random() < 0.8
                else int(5 + source.zipf(1.3) % (VOCABULARY - 5))
            )
        found += [text[at : at + length - 2] for at in range(0, size, length - 2)]
        total += size
    return found


def task(folder: Path, texts: list[np.ndarray], tokens: int, **other: object) -> PretrainTask:
    folder.mkdir(parents=True, exist_ok=True)
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    batch = pa.record_batch(
        {"tokens": pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(texts)))}
    )
    with pa.ipc.new_file(str(folder / "tokens.arrow"), batch.schema) as writer:
        writer.write_batch(batch)
    told: dict = {"model": "modern-tiny", "length": LENGTH, "batch": PLACES // LENGTH, "tokens": tokens, "seed": SEED}
    told |= {"optimizer": "adamw", "schedule": "warm-constant", "warmup": 0.0, "betas": (0.9, 0.999), "eps": 1e-8}
    told |= {"lr": RATE, "weight_decay": 0.0, "mask": 0.3, "checkpoint_every": 10**6, "snapshot_every": 10**6}
    source = TokenFiles("web", (str(folder / "tokens.arrow"),))
    out = str(folder / "out")
    return PretrainTask(
        **{"sources": (source,), "holdout": (), "specials": IDS, "vocabulary": VOCABULARY, "out": out, **told, **other}
    )  # type: ignore[arg-type]


def lines(wanted: PretrainTask) -> list[dict]:
    return [json.loads(line) for line in (Path(wanted.out) / "log.jsonl").read_text().splitlines()]


def ours(folder: Path, texts: list[np.ndarray], tokens: int, length: int = LENGTH) -> dict:
    wanted = task(folder, texts, tokens, length=length, batch=PLACES // length)
    pretrain(wanted, 0, 1, lambda line: None)
    log = lines(wanted)[3:]
    seconds = sum(line["seconds"] for line in log)
    return {
        "speed": (log[-1]["tokens"] - log[0]["tokens"]) / sum(line["seconds"] for line in log[1:]),
        "loss": statistics.mean(line["loss"] for line in log[-len(log) // 3 :]),
        "stall": sum(line["waited"] for line in log) / seconds,
    }


def theirs(folder: Path, texts: list[np.ndarray], tokens: int, length: int = LENGTH) -> dict:
    """The Trainer on whole documents, in an order of its own; documents a step such that it holds as many tokens."""
    from transformers import ModernBertConfig, ModernBertForMaskedLM, Trainer, TrainerCallback, TrainingArguments

    shape = shape_of("modern-tiny", vocabulary=VOCABULARY, length=length)
    model = trainee_of(task(folder, texts[:8], tokens, length=length), torch.float32)
    config, weights = hub.written(shape, dict(model.named_parameters()), "ModernBertForMaskedLM")
    peer = ModernBertForMaskedLM(ModernBertConfig(**{k: v for k, v in config.items() if k not in ("architectures",)}))
    missing = peer.load_state_dict({name: each.detach().clone() for name, each in weights.items()}, strict=False)
    assert not missing.unexpected_keys, missing
    assert set(missing.missing_keys) <= {"decoder.weight"}, missing
    places = 2 + statistics.mean(len(text) for text in texts)
    each, source = max(1, round(PLACES / places)), np.random.default_rng(2)
    steps = round(tokens / (each * places))

    class Documents(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(texts)

        def __getitem__(self, number: int) -> np.ndarray:
            return texts[number]

    sums: list[tuple[float, int]] = []

    def collated(batch: list[np.ndarray]) -> dict:
        longest = max(map(len, batch)) + 2
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, text in enumerate(batch):
            ids[row, : len(text) + 2] = torch.tensor([2, *text.tolist(), 3])
        there, ordinary = ids > 0, ids > 4
        hidden = ordinary & (torch.from_numpy(source.random(ids.shape)) < 0.3)
        labels, lot = torch.where(hidden, ids, -100), torch.from_numpy(source.random(ids.shape))
        drawn = torch.from_numpy(source.integers(5, VOCABULARY, tuple(ids.shape)))
        shown = torch.where(hidden & (lot < 0.8), 4, torch.where(hidden & (lot >= 0.9), drawn, ids))
        sums.append((time.perf_counter(), int(there.sum())))
        return {"input_ids": shown, "attention_mask": there.long(), "labels": labels}

    losses: list[float] = []
    ends: list[float] = []

    class Seen(TrainerCallback):
        def on_step_end(self, arguments, state, control, **rest):  # type: ignore[no-untyped-def]
            ends.append(time.perf_counter())

        def on_log(self, arguments, state, control, logs=None, **rest):  # type: ignore[no-untyped-def]
            if logs and "loss" in logs:
                losses.append(logs["loss"])

    arguments = TrainingArguments(
        output_dir=str(folder / "theirs"),
        per_device_train_batch_size=each,
        max_steps=steps,
        optim="adamw_torch_fused",
        learning_rate=RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        adam_epsilon=1e-8,
        max_grad_norm=0.0,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=True,
        seed=SEED,
    )
    Trainer(model=peer, args=arguments, train_dataset=Documents(), data_collator=collated, callbacks=[Seen()]).train()
    counted = [count for _, count in sums[: len(ends)]]
    return {
        "speed": sum(counted[4:]) / (ends[-1] - ends[3]),
        "loss": statistics.mean(losses[-len(losses) // 3 :]),
        "stall": 0.0,
    }


RANKED = """
import sys, pickle
sys.path.insert(0, {top!r})
from tundish.stages.pretrain_loop import pretrain
import os
task = pickle.load(open({pickled!r}, "rb"))
pretrain(task, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), lambda line: None)
"""


def ray_overhead(
    folder: Path, texts: list[np.ndarray], tokens: int, turns: int, workers: int = 2
) -> dict[str, list[float]]:
    """Workers of one thread each on the same tokens, under torchrun and as Ray Train starts them, turn by turn:
    seconds of a step, all steps but the first five together (so what Ray does now and then counts), and seconds before
    the first step, which a long training does not feel."""
    import pickle
    from functools import partial

    from tundish.cluster.on_ray import OnRay

    found: dict[str, list[float]] = {name: [] for name in ("torchrun", "ray", "torchrun_start", "ray_start")}
    os.environ |= {"TUNDISH_TORCH_THREADS": "1", "OMP_NUM_THREADS": "1"}

    def torchrun(wanted: PretrainTask, turn: int) -> None:
        pickled, script = folder / f"task{turn}.pickle", folder / f"ranked{turn}.py"
        pickled.write_bytes(pickle.dumps(wanted))
        script.write_text(RANKED.format(top=str(Path(__file__).resolve().parents[1]), pickled=str(pickled)))
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            f"--nproc-per-node={workers}",
            "--standalone",
            str(script),
        ]
        subprocess.run(command, check=True)

    def ray(wanted: PretrainTask, turn: int) -> None:
        with OnRay(cpus=3, dashboard=False) as cluster:
            cluster.gang("Pretrain", partial(pretrain, wanted), size=workers)

    for turn in range(turns):
        both = [("torchrun", torchrun), ("ray", ray)]
        losses = []
        for name, run in both if turn % 2 == 0 else both[::-1]:
            wanted = task(folder / f"{name}{turn}", texts, tokens)
            began = time.perf_counter()
            run(wanted, turn)
            log, whole = lines(wanted), time.perf_counter() - began
            losses.append([line["loss"] for line in log])
            found[name].append(statistics.mean(line["seconds"] for line in log[5:]))
            found[f"{name}_start"].append(whole - sum(line["seconds"] for line in log[1:]))
            print(f"{name:8} {found[name][-1]:>10.4f} s a step, {len(log)} of them", flush=True)
        assert losses[0] == losses[1], "both did the same work, to the last bit"
    return found


def ray_told(found: dict[str, list[float]]) -> dict[str, object]:
    """The median of the turns' ratios, and each, for what one machine does beside it is in every one of them."""
    if not found:
        return {"ray_overhead_share": None}
    shares = [ray / plain - 1 for ray, plain in zip(found["ray"], found["torchrun"], strict=True)]
    middle = {name: round(statistics.median(each), 4) for name, each in found.items()}
    return {
        "ray_overhead_share": round(statistics.median(shares), 4),
        "ray_turns": [round(share, 4) for share in shares],
        "ray_seconds": middle,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--turns", type=int, default=3)
    options.add_argument("--ray", action="store_true", help="only what Ray Train costs")
    options.add_argument("--workers", type=int, default=2, help="of --ray; as many as CPUs leave none to Ray itself")
    said = options.parse_args()
    torch.set_num_threads(os.cpu_count() or 2)
    tokens = 100_000 if said.quick else 300_000
    texts = documents(4 * tokens)
    if said.ray:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(ray_told(ray_overhead(Path(folder), texts, tokens // 3, said.turns, said.workers))))
        return
    middle: dict[int, dict[str, dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for length in CONTEXTS:
            cut = documents(4 * tokens, length)
            turns: dict[str, list[dict]] = {"ours": [], "theirs": []}
            for number in range(1 if said.quick else said.turns):
                for name, run in (("theirs", theirs), ("ours", ours)):
                    found = run(Path(folder) / f"{name}{length}-{number}", cut, tokens, length)
                    turns[name].append(found)
                    line = f"{found['speed']:>10,.0f} tokens/s   loss {found['loss']:.4f}"
                    print(f"context {length:>5}   {name:8} {line}", flush=True)
            middle[length] = {
                name: {key: statistics.median(each[key] for each in found) for key in found[0]}
                for name, found in turns.items()
            }
        ray = {} if said.quick else ray_overhead(Path(folder), texts, tokens // 3, said.turns)
    ratios = {length: round(each["ours"]["speed"] / each["theirs"]["speed"], 2) for length, each in middle.items()}
    own = middle[CONTEXTS[-1]]
    told = {
        "ratio_hf": ratios[CONTEXTS[-1]],
        "ratios_hf": ratios,
        "loss_gap": round(own["ours"]["loss"] - own["theirs"]["loss"], 4),
        "loss_gaps": {k: round(each["ours"]["loss"] - each["theirs"]["loss"], 4) for k, each in middle.items()},
        "stall_share": round(max(each["ours"]["stall"] for each in middle.values()), 5),
        **ray_told(ray),
        "tokens_per_second": {
            length: {name: round(each["speed"]) for name, each in both.items()} for length, both in middle.items()
        },
        "quick": said.quick,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
