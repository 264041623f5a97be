"""The form of a head, as each family has it: what lies between a trunk's states and the logits.

    family        sequence                                        tokens             spans
    BERT, ALBERT  [CLS], dense tanh, chooser                      chooser            chooser
    RoBERTa       [CLS], dense tanh, chooser                      chooser            chooser
    ELECTRA       [CLS], dense gelu, chooser                      chooser            chooser
    DeBERTa       [CLS], dense gelu, chooser                      chooser            chooser
    ModernBERT    mean or [CLS], dense, norm, chooser             dense, norm, …     dense, norm, …
    GPT-2         last token, chooser without a bias              chooser            chooser
    others        mean, dense tanh, chooser                       chooser            chooser

Sources: the classes `...ForSequenceClassification`, `...ForTokenClassification`, `...ForQuestionAnswering` of Hugging
Face's transformers 5.17, which fine-tuned models are handed over as. Others are T5 and Switch, whose classes ask a
decoder, and shapes that no architecture of theirs has. ModernBERT's head has the activation and the biases of its
blocks; its pooling here is the mean, which they have as a choice. An embedding has a pooling alone, and that is the
mean in every family (Reimers & Gurevych 2019), of a decoder the last token.

Promises: a form is a function of the shape, the head and the pooling asked for; `same` forms give the same logits of
the same weights. Costs nothing. Refuses poolings and activations it does not know.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from tundish.operators.model import hub
from tundish.operators.model.hub_kin import Settings
from tundish.operators.model.layers import ACTS
from tundish.operators.model.shape import Shape

POOLINGS = ("mean", "cls", "last")
DENSE_ACTS = ACTS | {"tanh": torch.tanh}
BEFORE = ("dense", "chooser")  # layers of a head that dropout may stand before
FAMILIES = {  # -> an architecture whose trunk it is
    "bert": "BertForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "electra": "ElectraForPreTraining",
    "albert": "AlbertForMaskedLM",
    "deberta-v2": "DebertaV2ForMaskedLM",
    "gpt2": "GPT2LMHeadModel",
    "modernbert": "ModernBertForMaskedLM",
    "t5": "T5ForConditionalGeneration",
    "switch_transformers": "SwitchTransformersForConditionalGeneration",
}
TRUNK = {"transform": True, "head_bias": True, "tied": True, "shrunk": False, "pooler": False, "enhanced": 0}


@dataclass(frozen=True)
class Form:
    """`act` of the dense layer; without one there is no such layer. `bias` of it, `norm` behind its activation, with or
    without `norm_bias`; `chooser_bias` of the last layer. `drops`: the layers that dropout stands before."""

    pooling: str = "mean"
    act: str = ""
    bias: bool = True
    norm: bool = False
    norm_bias: bool = True
    chooser_bias: bool = True
    drops: tuple[str, ...] = BEFORE

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"states cannot be pooled by {self.pooling!r}; choose one of {', '.join(POOLINGS)}")
        if self.act and self.act not in DENSE_ACTS:
            known = ", ".join(DENSE_ACTS)
            raise ValueError(f"a head's dense layer has no activation {self.act!r}; choose one of {known}")
        if unknown := [each for each in self.drops if each not in BEFORE]:
            raise ValueError(f"dropout stands before no {unknown[0]!r} of a head; choose of {', '.join(BEFORE)}")


def form_for(shape: Shape, head: str, pooling: str = "") -> Form:
    """The form that the shape's family has; with another pooling, if one is asked for."""
    family = next(iter(families(shape)), "")
    form = family_form(family, head, shape)
    return replace(form, pooling=pooling) if pooling else form


def families(shape: Shape) -> Iterator[str]:
    """The families whose trunk computes what a shape says, that of the shape's own architecture first. What only the
    head over the vocabulary has is not looked at, nor are DeBERTa's last passes (`enhanced`), which stand in none."""
    try:
        own = hub.KINS[hub.architecture_for(shape)].family
    except ValueError:
        own = ""
    for family, architecture in sorted(FAMILIES.items(), key=lambda each: each[0] != own):
        kin, asked = hub.KINS[architecture], replace(shape, **TRUNK)
        try:
            back = kin.shape(Settings(kin.config(asked)))
        except (ValueError, KeyError, StopIteration):
            continue
        if hub.plain(replace(back, **TRUNK)) == hub.plain(asked):
            yield family


def family_form(family: str, head: str, shape: Shape) -> Form:
    """The form of a head in a family; of none that is known, that of `others` above."""
    last = "last" if shape.stack == "decoder" else "mean"
    if head == "embedding":
        return Form(last, drops=())
    if family == "modernbert":
        return Form("mean", shape.act, shape.bias, norm=True, norm_bias=shape.bias, drops=("chooser",))
    if head == "tokens":
        return Form(last, drops=("chooser",))
    if head == "spans":
        return Form(last, drops=())
    return {
        "bert": Form("cls", "tanh", drops=("chooser",)),
        "albert": Form("cls", "tanh", drops=("chooser",)),
        "roberta": Form("cls", "tanh"),
        "electra": Form("cls", "gelu"),
        "deberta-v2": Form("cls", "gelu", drops=("chooser",)),
        "gpt2": Form("last", chooser_bias=False, drops=("chooser",)),
    }.get(family, Form(last, "tanh"))


def former_form(head: str, pooling: str) -> Form:
    """That of models which say none: they were tuned when all families had one."""
    return Form(pooling, "tanh" if head == "sequence" else "")


def form_told(told: Mapping[str, Any], head: str) -> Form:
    """The form that the configuration of a fine-tuned model says."""
    said = told.get("form")
    if said is None:
        return former_form(head, told["pooling"])
    try:
        return Form(**{**said, "drops": tuple(said["drops"])})
    except (TypeError, KeyError) as error:
        raise ValueError(f"the form {said} of a head is none here ({error}); give a model tuned by tundish") from None


def same(one: Form, other: Form, head: str) -> bool:
    """Whether both give the same logits: what only training knows, and what the head has no place for, aside."""
    return _plain(one, head) == _plain(other, head)


def _plain(form: Form, head: str) -> Form:
    found = replace(form, drops=())
    if head in ("tokens", "spans"):
        found = replace(found, pooling="mean")
    if head == "embedding":
        return Form(found.pooling, drops=())
    if not form.act:
        found = replace(found, bias=True, norm=False)
    return found if found.norm else replace(found, norm_bias=True)
