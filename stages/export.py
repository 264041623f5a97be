"""Export: a model as everybody loads it: a Hugging Face directory with its tokenizer and a card.

    model.safetensors  config.json  tokenizer.json  tokenizer_config.json  special_tokens_map.json  README.md

Promises: `from_pretrained` loads it offline with the logits the model has here (tests/test_export.py); the weights are
read again once written, and held against those that were given; `config.json` is written last, so a folder that has
one is whole. Costs the weights twice in memory. Refuses a folder that holds another model, a shape that no
architecture of theirs computes, and a vocabulary that is not the model's.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tundish.cluster import store
from tundish.operators.model.shape import Shape
from tundish.operators.text import tokenizer, tokenizer_json
from tundish.stages import hub

CARD = "README.md"
ROLES = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
SETTINGS = {"pad_token_id": "[PAD]", "cls_token_id": "[CLS]", "sep_token_id": "[SEP]", "mask_token_id": "[MASK]"}


def exported(
    model: str, vocabulary: bytes, to: str, *, card: str, precision: str = "float32", generator: bool = False
) -> dict[str, Any]:
    """Lay what a training left in the folder `model` into the folder `to`; what was written, in words and numbers.

    `generator`: that of a detection, in place of its discriminator. Raises ValueError as the docstring above says."""
    if store.exists(store.join(to, hub.CONFIG)):
        raise ValueError(f"{to} holds a model already ({hub.CONFIG}); give another folder, or delete that one")
    shape, tensors, architecture, besides = _given(model, generator=generator)
    pieces = tokenizer.load(vocabulary)
    if pieces.size > shape.vocabulary:
        raise ValueError(
            f"the vocabulary has {pieces.size} pieces and the model's table {shape.vocabulary}; give the model's own"
        )
    ids = {name: pieces.specials.get(token) for name, token in SETTINGS.items()}
    besides = {**besides, **{name: number for name, number in ids.items() if besides.get(name) is None}}
    words = tokenizer_files(vocabulary, to, shape)
    store.write(store.join(to, CARD), card.encode())
    config = hub.write(to, shape, tensors, architecture=architecture, precision=precision, besides=besides)
    _same(to, tensors, precision)
    count = sum(each.numel() for each in tensors.values())
    files = [*hub.files_of(to), hub.CONFIG, *words, CARD]
    return {
        "to": to,
        "architecture": config["architectures"][0],
        "parameters": count,
        "precision": precision,
        "files": {name: store.size(store.join(to, name)) for name in files},
        "doubts": list(doubts_of(vocabulary)),
    }


def _given(model: str, *, generator: bool) -> tuple[Shape, Mapping[str, Tensor], str, Mapping[str, Any]]:
    if not generator:
        found = hub.read(model)
        kept = {name: each for name, each in found.tensors.items() if name not in found.left}
        return found.shape, kept, found.architecture, found.config
    beside = hub.generator_of(model)
    if beside is None:
        raise ValueError(f"{model} holds no generator; only what was trained by replaced-token detection has one")
    return *beside, "", {}


def doubts_of(vocabulary: bytes) -> tuple[str, ...]:
    """Why a text may get other ids by the tokenizer.json than by the vocabulary it was made from; empty: it cannot."""
    from tundish.operators.text import tokenizer_doubts

    return tuple(tokenizer_doubts.doubts(vocabulary)) if tokenizer.load(vocabulary).file == tokenizer.MODEL else ()


def tokenizer_files(vocabulary: bytes, to: str, shape: Shape) -> list[str]:
    """Write the tokenizer and what `AutoTokenizer` asks beside it; the names of the files."""
    pieces = tokenizer.load(vocabulary)
    body = vocabulary
    if pieces.file == tokenizer.MODEL:
        body = tokenizer_json.export(vocabulary, framed=True, second=min(1, max(0, shape.types - 1)))
    names = {number: name for name, number in tokenizer.entries(json.loads(body))}
    roles = {role: names[pieces.specials[token]] for role, token in ROLES.items() if token in pieces.specials}
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.length,
        "model_input_names": ["input_ids", *(["token_type_ids"] if shape.types > 1 else []), "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **roles,
    }
    store.write(store.join(to, tokenizer.JSON), body)
    for name, value in (("tokenizer_config.json", told), ("special_tokens_map.json", roles)):
        store.write_json(store.join(to, name), value)
    return [tokenizer.JSON, "tokenizer_config.json", "special_tokens_map.json"]


def _same(to: str, tensors: Mapping[str, Tensor], precision: str) -> None:
    """What was written is what was given, to the last bit of its precision."""
    kind = hub.PRECISIONS[precision]
    back = hub.read(to).tensors
    for name, each in tensors.items():
        if name in back and not torch.equal(back[name], each.detach().cpu().to(kind)):
            raise RuntimeError(f"{name} in {to} is not what was given to be written; write it anew")
