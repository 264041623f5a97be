"""Folders of small fine-tuned models with wide weights and a vocabulary of words, upon every family's trunk."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from tests import theirs as their
from tundish.operators.model import heads, hub
from tundish.operators.model.packed import packed

NAMES = {"sequence": ("dull", "bright", "loud"), "tokens": ("O", "B-bird", "I-bird")}
KINDS = {"sequence": "classify", "tokens": "tag", "spans": "answer", "embedding": "embed"}
USUAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SPECIALS = {"roberta": ("<s>", "<pad>", "</s>", "<unk>", "<mask>")}
TEXTS = (("w9 w8 w7", "w60 w61"), ("w30", "w31 w32 w33 w34 w35 w36"), ("w11 w12 w13 w14 w15 w16 w17 w18", "w5"))


def words(kind, padding=None):
    """A tokenizer.json of 97 words for a kind of trunk: w5, w6, and so on, behind five specials."""
    specials = SPECIALS.get(kind, USUAL)
    vocab = {name: at for at, name in enumerate([*specials, *(f"w{at}" for at in range(5, their.V))])}
    made = Tokenizer(models.WordLevel(vocab, unk_token=next(each for each in specials if "unk" in each.lower())))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(list(specials))
    return made


def tuned_model(kind, head, pooling=None, classes=3, form=None):
    trunk = their.theirs(kind)
    found = hub.read(their.config_of(trunk), trunk.state_dict())
    model = heads.begun(found.shape, head, classes, seed=2, weights=found.tensors, pooling=pooling, form=form).eval()
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not name.startswith(heads.TRUNK):
                weight.copy_(torch.randn(weight.shape, generator=draw) * 0.3 + ("norm.weight" in name))
    return model


def folder_of(to: Path, kind, head, *, model=None, names=None, task=None, told=None, vocabulary=None):
    """As `tundish finetune` leaves one."""
    to.mkdir(parents=True, exist_ok=True)
    model = model or tuned_model(kind, head)
    body = (vocabulary or words(kind)).to_str()
    (to / "tokenizer.json").write_text(body)
    from tundish.operators.text import tokenizer

    names = NAMES.get(head, ()) if names is None else names
    config = {
        "kind": "tuned",
        "key": "toy",
        "task": task or KINDS[head],
        "head": head,
        "pooling": model.pooling,
        "form": asdict(model.form),
        "dropout": 0.2,
        "classes": len(names) or 1,
        "names": list(names),
        "scheme": "IOB2" if head == "tokens" else "",
        "shape": asdict(model.encoder.shape),
        "specials": dict(tokenizer.load(body.encode()).specials),
    }
    save_file({name: each.contiguous() for name, each in model.state_dict().items()}, to / "model.safetensors")
    (to / "config.json").write_text(json.dumps(config | (told or {})))
    return model


def framed(folder: Path, pairs):
    """Ids and types of texts or pairs, as fine-tuning frames them."""
    from tundish.operators.text import tokenizer

    body = (folder / "tokenizer.json").read_bytes()
    library, specials = Tokenizer.from_str(body.decode()), tokenizer.load(body).specials
    ids, types = [], []
    for pair in pairs:
        parts = [library.encode(text, add_special_tokens=False).ids for text in pair]
        row = [specials["[CLS]"], *parts[0], specials["[SEP]"]]
        kinds = [0] * len(row)
        for part in parts[1:]:
            row += [*part, specials["[SEP]"]]
            kinds += [1] * (len(part) + 1)
        ids.append(np.array(row))
        types.append(np.array(kinds))
    return ids, types


def answer(model, ids, types):
    bounds = np.concatenate([[0], np.cumsum([len(each) for each in ids])])
    flat = [torch.from_numpy(np.concatenate(each)) for each in (ids, types)]
    with torch.no_grad():
        return model(flat[0], packed(bounds), flat[1])


def card(architecture, parameters):
    return f"# {architecture} of {parameters}\n"
