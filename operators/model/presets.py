"""Models and recipes by name: shapes as their sources give them, and how each was trained.

Promises: every number of a shape is its source's; a recipe's too, where a laptop or a corpus of another size does not
make it senseless: tokens and batches are the user's. What differs from the source is said beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from tundish.operators.model.shape import Shape

Plain = Mapping[str, Any]

BERT = {"norm": "post", "positions": "learned", "bias": True, "gated": False, "final_norm": False, "eps": 1e-12}
MODERN = {"window": 64, "theta": 160_000.0}
LOCAL = {"window": 64}  # global and local layers turn alike at contexts of 1,024
DEBERTA = BERT | {"positions": "disentangled", "eps": 1e-7, "buckets": 256, "distance": 512, "enhanced": 2}
T5 = {
    **{"stack": "pair", "positions": "buckets", "rms": True, "eps": 1e-6, "scaled": False, "act": "gelu_tanh"},
    **{"embedding_norm": False, "first_norm": True, "transform": False, "head_bias": False, "head": 64},
}


@dataclass(frozen=True)
class Preset:
    """`shape`: fields of Shape but for the vocabulary. `recipe`: fields of Pretrain that the source gives. `generator`:
    fields that the generator of a detection has otherwise. `vocabulary`: pieces of the source's own."""

    source: str
    shape: Plain
    recipe: Plain = field(default_factory=dict)
    generator: Plain = field(default_factory=dict)
    vocabulary: int = 32_768
    length: int = 1024


def _modern(width: int, layers: int, heads: int, ff: int) -> dict[str, Any]:
    return {"width": width, "layers": layers, "heads": heads, "ff": ff} | LOCAL


def _bert(width: int = 768, layers: int = 12, heads: int = 12, ff: int = 3072, **rest: Any) -> dict[str, Any]:
    return BERT | {"width": width, "layers": layers, "heads": heads, "ff": ff} | rest


STABLE = {
    "optimizer": "stable-adamw",
    "schedule": "warm-stable-decay",
    "betas": (0.9, 0.98),
    "eps": 1e-6,
    "mask": (0.3, 0.15),
}

SPANS = {  # T5's recipe, which Switch kept; AdamW where they had Adafactor
    **{"objective": "spans", "optimizer": "adamw", "schedule": "inverse-root"},
    **{"lr": 1e-3, "weight_decay": 0.0, "mask": 0.15},
}

PRESETS: Mapping[str, Preset] = {
    "tiny": Preset(
        "ours: the smallest with which pretraining shows on two cores; attention over the whole row",
        {"width": 192, "layers": 4, "heads": 3, "ff": 512},
        STABLE | {"lr": 1.5e-3, "weight_decay": 0.01},
        length=128,
    ),
    "modern-tiny": Preset(
        "Ettin 17M (Weller et al. 2025, arXiv 2507.11412)",
        _modern(256, 7, 4, 384),
        STABLE | {"lr": 3e-3, "weight_decay": 3e-4, "decoupled": True},
    ),
    "modern-small": Preset(
        "Ettin 32M (Weller et al. 2025, arXiv 2507.11412)",
        _modern(384, 10, 6, 576),
        STABLE | {"lr": 3e-3, "weight_decay": 3e-4, "decoupled": True},
    ),
    "modern-base": Preset(
        "ModernBERT-base (Warner et al. 2024, arXiv 2412.13663); masks 30 to 15 % (Ankner et al. 2023, 2305.15096)",
        _modern(768, 22, 12, 1152),
        STABLE | {"lr": 8e-4, "weight_decay": 1e-5, "decoupled": True},
        vocabulary=50_368,
    ),
    "modern-large": Preset(
        "ModernBERT-large (Warner et al. 2024, arXiv 2412.13663); 3e-4, since 5e-4 did not go on learning there",
        _modern(1024, 28, 16, 2624),
        STABLE | {"lr": 3e-4, "weight_decay": 1e-5, "decoupled": True},
        vocabulary=50_368,
    ),
    "bert": Preset(
        "BERT-base (Devlin et al. 2019, arXiv 1810.04805); whole documents, so without its second task",
        _bert(types=2, dropout=0.1),
        {"optimizer": "adamw", "schedule": "warm-linear", "betas": (0.9, 0.999), "eps": 1e-6, "lr": 1e-4}
        | {"weight_decay": 0.01, "warmup": 0.01, "mask": 0.15, "clip": 1.0},
        vocabulary=30_522,
        length=512,
    ),
    "roberta": Preset(
        "RoBERTa-base (Liu et al. 2019, arXiv 1907.11692); positions begin behind the padding's id, which is 0 here",
        _bert(types=1, offset=1, dropout=0.1, eps=1e-5),
        {"optimizer": "adamw", "schedule": "warm-linear", "betas": (0.9, 0.98), "eps": 1e-6, "lr": 6e-4}
        | {"weight_decay": 0.01, "warmup": 0.048, "mask": 0.15},
        vocabulary=50_265,
        length=512,
    ),
    "electra-small": Preset(
        "ELECTRA-small (Clark et al. 2020, arXiv 2003.10555): masks 15 %, 85 % of them [MASK], discriminator weighs 50",
        _bert(256, 12, 4, 1024, embedding=128, types=2, dropout=0.1),
        {"objective": "rtd", "optimizer": "adamw", "schedule": "warm-linear", "betas": (0.9, 0.999), "eps": 1e-6}
        | {"lr": 5e-4, "weight_decay": 0.01, "warmup": 0.01, "mask": 0.15, "shares": (85, 0)}
        | {"clip": 1.0},
        {"width": 64, "heads": 1, "ff": 256},
        vocabulary=30_522,
        length=128,
    ),
    "deberta-v3": Preset(
        "DeBERTa-v3-base (He et al. 2021, arXiv 2111.09543): gradient-disentangled table, generator of half the layers",
        DEBERTA | {"width": 768, "layers": 12, "heads": 12, "ff": 3072, "dropout": 0.1, "enhanced": 0},
        {"objective": "rtd", "sharing": "gdes", "optimizer": "adamw", "schedule": "warm-linear"}
        | {"betas": (0.9, 0.98), "eps": 1e-6, "lr": 1e-4, "weight_decay": 0.01, "warmup": 0.02, "mask": 0.15}
        | {"shares": (100, 0)},
        {"layers": 6, "enhanced": 2},
        vocabulary=128_100,
        length=512,
    ),
    "deberta": Preset(
        "DeBERTa-base (He et al. 2020, arXiv 2006.03654) in v2's form: masked, absolute positions at the end",
        DEBERTA | {"width": 768, "layers": 12, "heads": 12, "ff": 3072, "dropout": 0.1},
        {"optimizer": "adamw", "schedule": "warm-linear", "betas": (0.9, 0.999), "eps": 1e-6, "lr": 2e-4}
        | {"weight_decay": 0.01, "warmup": 0.01, "mask": 0.15},
        vocabulary=128_100,
        length=512,
    ),
    "mosaic": Preset(
        "MosaicBERT-base (Portes et al. 2023, arXiv 2312.17482)",
        _bert(gated=True, positions="alibi", types=2),
        {"optimizer": "adamw", "schedule": "warm-linear", "floor": 0.02, "betas": (0.9, 0.98), "eps": 1e-6}
        | {"lr": 5e-4, "weight_decay": 1e-5, "decoupled": True, "warmup": 0.06, "mask": 0.3},
        vocabulary=30_528,
        length=128,
    ),
    "crammed": Preset(
        "crammed BERT (Geiping & Goldstein 2022, arXiv 2212.14034): no biases, gated, one rate up and down; rotary "
        "positions where it had scaled sinusoids",
        {"width": 768, "layers": 16, "heads": 12, "ff": 1536, "eps": 1e-12},
        {"optimizer": "adamw", "schedule": "triangle", "betas": (0.9, 0.98), "eps": 1e-12, "lr": 1e-3}
        | {"weight_decay": 0.01, "clip": 0.5, "mask": 0.25, "warmup": 0.0, "decay": 0.25},
        length=128,
    ),
    "albert": Preset(
        "ALBERT-base (Lan et al. 2019, arXiv 1909.11942), with masked tokens alone; AdamW where it had LAMB",
        _bert(embedding=128, shared=True, act="gelu_tanh", types=2),
        {
            "optimizer": "adamw",
            "schedule": "warm-linear",
            "lr": 1.76e-3,
            "weight_decay": 0.01,
            "warmup": 0.025,
            "mask": 0.15,
        },
        vocabulary=30_000,
        length=512,
    ),
    "gpt2": Preset(
        "GPT-2 small (Radford et al. 2019), trained as GPT-3's smallest (Brown et al. 2020, arXiv 2005.14165), but "
        "its cosine ends at 0 and not at a tenth, it warms up over 5 % and not 0.125 %, eps is 1e-6 and not 1e-8",
        {"stack": "decoder", "positions": "learned", "bias": True, "gated": False, "act": "gelu_tanh"}
        | {"embedding_norm": False, "first_norm": True, "transform": False, "head_bias": False}
        | {"width": 768, "layers": 12, "heads": 12, "ff": 3072},
        {"objective": "clm", "optimizer": "adamw", "schedule": "warm-cosine", "betas": (0.9, 0.95), "lr": 6e-4}
        | {"weight_decay": 0.1, "clip": 1.0},
        vocabulary=50_257,
    ),
    "t5-small": Preset(
        "T5 v1.1 small (Raffel et al. 2020, arXiv 1910.10683): spans of 3, 15 %; AdamW where it had Adafactor",
        T5 | {"width": 512, "layers": 8, "decoder": 8, "heads": 6, "ff": 1024, "tied": False},
        SPANS,
        vocabulary=32_128,
        length=512,
    ),
    "switch": Preset(
        "Switch-base with 8 experts (Fedus et al. 2021, arXiv 2101.03961); AdamW where it had Adafactor",
        T5
        | {"width": 768, "layers": 12, "decoder": 12, "heads": 12, "ff": 3072, "gated": False, "act": "relu"}
        | {"experts": 8, "sparse": 2, "capacity": 1.25, "shrunk": True},
        SPANS,
        vocabulary=32_128,
        length=512,
    ),
}


def preset(name: str) -> Preset:
    if name not in PRESETS:
        raise ValueError(f"no model is called {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def shape_of(name: str, *, vocabulary: int, length: int, changes: Plain | None = None) -> Shape:
    """A named shape for a vocabulary (pieces) and the longest document (tokens), with some fields changed."""
    open_ = [name for name in Shape.__dataclass_fields__ if name not in ("vocabulary", "length")]
    for each in changes or {}:
        if each not in open_:
            near = get_close_matches(each, open_, 1, 0.0)[0]
            raise ValueError(f"{each!r} of a shape cannot be changed so; did you mean {near!r}? ({', '.join(open_)})")
    return Shape(**{**preset(name).shape, "vocabulary": vocabulary, "length": length, **(changes or {})})


def generator_of(name: str, shape: Shape) -> Shape:
    """The generator beside a discriminator of a named shape: as its source has it, for the sizes changed a third."""
    given = preset(name).generator
    if not given:
        heads = max(1, shape.heads // 3)
        given = {"width": heads * shape.head_width, "heads": heads, "ff": max(1, shape.ff // 3)}
    fields = {each: getattr(shape, each) for each in Shape.__dataclass_fields__}
    return Shape(**{**fields, "embedding": shape.embedded, "head": 0, **given})
