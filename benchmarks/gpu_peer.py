"""Hugging Face's Trainer for `gpu.py`, with everything that makes it fast: bf16, compiled, fused AdamW, 30 % hidden.

`padded`: each batch to its longest document, in buckets of 128; else documents joined into full rows, as its example
does. It stops after so many seconds of timed steps, and at `until` (by time.monotonic()) whatever it has.
"""

import tempfile
import time

import numpy as np
import torch
from torch._dynamo.utils import counters

from tundish.operators.model.presets import PRESETS, shape_of

WARM, LEAST = 5, 3  # steps before the clock begins, and at least so many that are timed


def theirs(
    name: str, seconds: float, until: float, cuda: bool, *, pages: np.ndarray, length: int, rows: int, padded: bool
) -> dict:
    """Real tokens a second on documents of so many tokens as `pages` has."""
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        ModernBertConfig,
        ModernBertForMaskedLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    preset = PRESETS[name]
    vocabulary = preset.vocabulary
    if name == "bert":
        model = BertForMaskedLM(
            BertConfig(vocab_size=vocabulary, hidden_dropout_prob=0, attention_probs_dropout_prob=0)
        )
    else:
        shape = shape_of(name, vocabulary=vocabulary, length=length)
        settings = {"hidden_size": shape.width, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads}
        settings |= {"intermediate_size": shape.ff, "vocab_size": vocabulary, "pad_token_id": 0}
        model = ModernBertForMaskedLM(ModernBertConfig(**settings))
    source = np.random.default_rng(2)
    pieces = np.concatenate([[length - 2] * (size // (length - 2)) + [size % (length - 2) or 1] for size in pages]) + 2
    source.shuffle(pieces)
    if not padded:
        pieces = np.full(int(pieces.sum() // length), length)

    class Documents(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 10**7

        def __getitem__(self, number: int) -> int:
            return int(pieces[number % len(pieces)])

    def collated(sizes: list[int]) -> dict:
        longest = min(length, -(-max(sizes) // 128) * 128)
        ids = torch.from_numpy(source.integers(5, vocabulary, (len(sizes), longest)))
        there = torch.arange(longest) < torch.tensor(sizes)[:, None]
        hidden = (torch.rand(ids.shape) < 0.3) & there
        labels = torch.where(hidden, ids, -100)
        ids = torch.where(hidden, 4, torch.where(there, ids, 0))
        return {"input_ids": ids, "attention_mask": there.long(), "labels": labels}

    def compilations() -> int:
        return int(counters["stats"]["unique_graphs"])

    began: dict[str, float] = {}
    ended: dict[str, float] = {}

    class Clock(TrainerCallback):
        """Waits for the device where the timed steps begin and where they end, and nowhere between."""

        def on_step_end(self, arguments, state, control, **rest):  # type: ignore[no-untyped-def]
            if state.global_step == WARM:
                synchronised()
                began.update(at=time.perf_counter(), step=state.global_step, compiled=compilations())
            elif began and over(state.global_step):
                synchronised()
                ended.update(at=time.perf_counter(), step=state.global_step, compiled=compilations())
                control.should_training_stop = True

        def on_train_end(self, arguments, state, control, **rest):  # type: ignore[no-untyped-def]
            assert ended, "the steps came to their end before the clock did"

    def over(step: int) -> bool:
        late = time.perf_counter() - began["at"] > seconds and step >= WARM + LEAST
        return late or time.monotonic() > until

    def synchronised() -> None:
        if cuda:
            torch.cuda.synchronize()

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=rows,
        max_steps=10**6,
        bf16=cuda,
        torch_compile=cuda,
        optim="adamw_torch_fused" if cuda else "adamw_torch",
        learning_rate=1e-4,
        report_to=[],
        logging_steps=10**6,
        save_strategy="no",
        dataloader_num_workers=4 if cuda else 0,
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=not cuda,
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=Documents(), data_collator=collated, callbacks=[Clock()]
    )
    trainer.train()
    steps, passed = ended["step"] - began["step"], ended["at"] - began["at"]
    tokens = rows * float(pieces.mean()) * steps
    return {
        "tokens_per_second": tokens / passed,
        "timed_seconds": passed,
        "steps": int(ended["step"]),
        "recompiled": int(ended["compiled"] - began["compiled"]),
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else 0.0,
    }
