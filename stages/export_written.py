"""Export of a model that was tuned to write: a Hugging Face directory whose `generate` writes what it writes here.

    model.safetensors  config.json  generation_config.json  tokenizer.json  tokenizer_config.json
    special_tokens_map.json  README.md

A pair of encoder and decoder (T5, Switch) reads `a [SEP]` and begins to write at [PAD], a decoder (GPT-2) goes on from
`[CLS] a [SEP]`; both end at [SEP]. `generation_config.json` has how its texts were chosen when it was scored.

Promises and costs are those of `stages/export`. Refuses a folder that holds another model, and shapes that no
architecture of theirs computes.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tundish.cluster import store
from tundish.operators.model.decoding import Decoding
from tundish.operators.model.hub import architecture_for, written
from tundish.operators.model.hub_heads import OURS
from tundish.operators.model.shape import Shape
from tundish.stages import hub
from tundish.stages.export import CARD, doubts_of, tokenizer_files
from tundish.stages.export_frame import framed
from tundish.stages.language_model import vocabulary_in
from tundish.stages.tuned import OWN

GENERATION = "generation_config.json"


def exported_written(
    folder: str, told: Mapping[str, Any], to: str, *, card: Callable[[str, int], str], precision: str = "float32"
) -> dict[str, Any]:
    """Lay the model of a folder, whose configuration is `told`, into another one; what was written, in words and
    numbers. Raises ValueError as the docstring above says."""
    if store.exists(store.join(to, hub.CONFIG)):
        raise ValueError(f"{to} holds a model already ({hub.CONFIG}); give another folder, or delete that one")
    shape, vocabulary = Shape(**told["shape"]), vocabulary_in(folder)
    name = architecture_for(shape)
    found = hub.tensors_in(folder)
    tensors = {each.removeprefix(OURS): one for each, one in found.items() if each.startswith(OURS)}
    pair, count = shape.stack == "pair", sum(each.numel() for each in tensors.values())
    ids = {setting: told["specials"].get(token) for setting, token in hub.SPECIALS.items()}
    ids |= {"decoder_start_token_id": ids["pad_token_id"]} if pair else {}
    form = Decoding(**told["form"])
    reads = replace(shape, length=source_length(shape, int(told.get("length", 0)), form))
    words = tokenizer_files(framed(vocabulary, shape, started=not pair), to, reads)
    store.write_json(store.join(to, GENERATION), generation(form, ids))
    store.write(store.join(to, CARD), card(name, count).encode())
    config, theirs = written(shape, tensors, name, ids)
    hub.lay(to, config | {OWN: {"task": told["task"]}}, theirs, precision, checked=True)
    return {
        "to": to,
        "architecture": name,
        "parameters": count,
        "precision": precision,
        "files": {
            each: store.size(store.join(to, each)) for each in (hub.WEIGHTS, hub.CONFIG, GENERATION, *words, CARD)
        },
        "doubts": list(doubts_of(vocabulary)),
    }


def source_length(shape: Shape, length: int, form: Decoding) -> int:
    """Tokens of a source with its frame, as it is cut here (`finetune_write.fitted`): `length` counts two of a frame,
    and a pair's has one; of a decoder what is written shares the room, but for its last token, which nobody reads."""
    read = length or shape.length
    return read - 1 if shape.stack == "pair" else min(read, shape.length - form.longest + 1)


def generation(form: Decoding, ids: Mapping[str, Any]) -> dict[str, Any]:
    """Their names of how a text is chosen; what is drawn is drawn otherwise there, from the same probabilities."""
    said: dict[str, Any] = {
        "max_new_tokens": form.longest,
        "min_new_tokens": form.shortest,
        "num_return_sequences": form.sequences,
        "num_beams": form.beams,
        "length_penalty": form.length_penalty,
        "early_stopping": form.early,
        "no_repeat_ngram_size": form.no_repeat,
        "do_sample": form.sample,
    }
    if form.sample:
        said |= {"temperature": form.temperature, "top_k": form.top_k, "top_p": form.top_p}
    if form.beams == 1:
        said = {name: value for name, value in said.items() if name not in ("length_penalty", "early_stopping")}
    asked = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    return said | {name: ids[name] for name in asked if ids.get(name) is not None}
