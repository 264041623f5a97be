"""Fine-tuned models as Hugging Face's transformers keep them: a trunk's weights and its head's under one class's names.

    config, tensors = written(told, tensors)      for `AutoModelFor…Classification.from_pretrained`, or `AutoModel`
    told, tensors = read(config, tensors)         for `Tuned(Model(told.shape), …).load_state_dict`

Promises: the same logits either way; writing and reading again gives the same bits; a form or a trunk that no class of
theirs computes is refused, with the sentence saying what could be written. What a head never asks (the layers over the
vocabulary, a decoder) is left out. Knows no disk. Costs what `hub` costs. Refuses to read T5: a trunk is read whole
here, and those classes lack its decoder, or ask it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from tundish.operators.model import hub
from tundish.operators.model.head_forms import DENSE_ACTS, FAMILIES, TRUNK, Form, families, family_form, same
from tundish.operators.model.hub_kin import ACTS, Weight, act_named, parted
from tundish.operators.model.shape import Shape

STEMS = {  # how names of a family's classes begin
    "bert": "Bert",
    "roberta": "Roberta",
    "electra": "Electra",
    "albert": "Albert",
    "deberta-v2": "DebertaV2",
    "gpt2": "GPT2",
    "modernbert": "ModernBert",
    "t5": "T5",
}
ENDINGS = {
    "sequence": "ForSequenceClassification",
    "tokens": "ForTokenClassification",
    "spans": "ForQuestionAnswering",
    "embedding": "Model",
}
PLAIN = {"sequence": "classifier", "tokens": "classifier", "spans": "qa_outputs"}  # the chooser, where nothing is said
LAYERS: dict[str, dict[str, str]] = {  # of sequences: our layers and theirs
    "bert": {"dense": "bert.pooler.dense"},
    "albert": {"dense": "albert.pooler"},
    "roberta": {"dense": "classifier.dense", "chooser": "classifier.out_proj"},
    "electra": {"dense": "classifier.dense", "chooser": "classifier.out_proj"},
    "deberta-v2": {"dense": "pooler.dense"},
    "gpt2": {"chooser": "score"},
}
MODERN = {"dense": "head.dense", "norm": "head.norm", "chooser": "classifier"}  # of every head
UNASKED = (*hub.HEADS, "decoder.")
OURS = "encoder."
PROBLEMS = {
    "classify": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regress": "regression",
}
HEADLESS = {"transform": False, "head_bias": False, "tied": True, "shrunk": False, "pooler": False}
TANH = "tanh"


@dataclass(frozen=True)
class Told:
    """A fine-tuned model but for its weights. `names` of its classes; `problem`: a value of PROBLEMS, of sequences.
    `wish`: the class it was read from, which it goes back to where it can."""

    shape: Shape
    head: str
    form: Form
    names: tuple[str, ...] = ()
    problem: str = ""
    dropout: float = 0.1
    wish: str = ""

    @property
    def classes(self) -> int:
        return len(self.names) or 1


def class_for(told: Told) -> tuple[str, str]:
    """The family and the class of theirs that computes what a model does. Raises ValueError where none does."""
    if told.shape.enhanced:
        raise ValueError(
            "this trunk has DeBERTa's last passes over absolute positions, which are in no class of transformers; "
            "fine-tune from a folder with `enhanced` 0"
        )
    listed = sorted(families(told.shape), key=lambda each: f"{STEMS.get(each)}{ENDINGS[told.head]}" != told.wish)
    if not listed:
        raise ValueError("no architecture of transformers computes this trunk; fine-tune one listed in docs/models.md")
    for family in listed:
        if _computes(family, told):
            encoder = family == "t5" and told.head == "embedding"
            return family, "T5EncoderModel" if encoder else STEMS[family] + ENDINGS[told.head]
    raise ValueError(_why_not(listed[0], told))


def _computes(family: str, told: Told) -> bool:
    head, form = told.head, told.form
    if family == "switch_transformers" or (family == "t5" and head in ("sequence", "spans")):
        return False
    theirs = family_form(family, head, told.shape)
    if head == "embedding" or (family == "modernbert" and form.pooling != "last"):
        theirs = replace(theirs, pooling=form.pooling)
    if form.act and (family == "modernbert" or (family == "deberta-v2" and head == "sequence")):
        theirs = replace(theirs, act=form.act)
    if family == "modernbert":
        theirs = replace(theirs, bias=form.bias)
    return same(form, theirs, head)


def _why_not(family: str, told: Told) -> str:
    if family in ("t5", "switch_transformers"):
        can = "T5 with a head for tokens or embeddings" if family == "t5" else "no head on a Switch"
        return (
            f"transformers asks {family}'s decoder where this head for {told.head} asks its encoder; {can} is exported"
        )
    theirs = family_form(family, told.head, told.shape)
    return (
        f"{STEMS[family]}{ENDINGS[told.head]} computes {_words(theirs)}, and this head for {told.head} was tuned as "
        f"{_words(told.form)}; tune it again without `pooling`, in its family's form"
    )


def _words(form: Form) -> str:
    dense = f"a dense layer with {form.act}{' and a norm' if form.norm else ''}" if form.act else "no dense layer"
    return f"{form.pooling} pooling, {dense}{'' if form.chooser_bias else ', no bias at the end'}"


def written(
    told: Told, tensors: Mapping[str, Tensor], besides: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights of theirs, of what `Tuned.state_dict` gives. `besides`: settings that do not change the
    numbers, such as those of special tokens."""
    family, name = class_for(told)
    config = hub.config_of(told.shape, FAMILIES[family], besides or {}) | {"architectures": [name]}
    found: dict[str, Tensor] = {}
    for weight in trunk_weights(family, told):
        own = tensors.get(OURS + weight.ours)
        if own is None:
            raise ValueError(f"{OURS + weight.ours} is missing from the weights; give all of a fine-tuned model's")
        found |= dict(zip(weight.theirs, parted(weight, own), strict=True))
    for ours, theirs in layers_of(family, told.head).items():
        mine = {key.rpartition(".")[2]: each for key, each in tensors.items() if key.startswith(f"{ours}.")}
        found |= {f"{theirs}.{last}": each for last, each in mine.items()}
    return config | labelled(told) | _settings(family, told), found


def trunk_weights(family: str, told: Told) -> Iterator[Weight]:
    """Which weights of the trunk are which of theirs; what no head asks is not among them."""
    shape = replace(told.shape, **TRUNK)
    before, after = "", ""
    if family == "t5":
        after = "transformer." if told.head == "tokens" else ""
    elif told.head == "embedding":
        before = hub.PREFIXES[family][0]
    for weight in hub.KINS[FAMILIES[family]].weights(shape, {}):
        if not weight.ours.startswith(UNASKED):
            yield weight._replace(theirs=tuple(after + one.removeprefix(before) for one in weight.theirs))
    if told.head == "embedding" and told.shape.pooler:  # nobody asks it, and it is not drawn anew when loaded
        for named in {"bert": ("pooler.dense",), "albert": ("pooler",)}.get(family, ()):
            yield from (Weight(f"pooler.{each}", (f"{named}.{each}",)) for each in ("weight", "bias"))


def layers_of(family: str, head: str) -> dict[str, str]:
    """Our layers of a head, and what they are called in a family."""
    if head == "embedding":
        return {}
    if family == "modernbert":
        return MODERN
    own = LAYERS.get(family, {}) if head == "sequence" else {}
    return {"chooser": PLAIN[head]} | own


def labelled(told: Told) -> dict[str, Any]:
    """Names of classes, as every pipeline of theirs shows them, and the kind of problem."""
    if told.head == "embedding":
        return {}
    names = ("start", "end") if told.head == "spans" else told.names or ("value",)
    found: dict[str, Any] = {
        "id2label": {str(at): name for at, name in enumerate(names)},
        "label2id": {name: at for at, name in enumerate(names)},
    }
    return found | ({"problem_type": told.problem} if told.problem else {})


def _settings(family: str, told: Told) -> dict[str, Any]:
    """Of the head alone."""
    if told.head == "embedding":
        return {}
    form = told.form
    act = TANH if form.act == TANH else act_named(form.act) if form.act else ""
    if family == "modernbert":
        own: dict[str, Any] = {"classifier_activation": act, "classifier_bias": form.bias}
        return own | {"classifier_dropout": told.dropout, "classifier_pooling": form.pooling}
    if family == "albert":
        return {"classifier_dropout_prob": told.dropout}
    if family == "deberta-v2":
        if told.head != "sequence":
            return {}
        own = {"cls_dropout": told.dropout, "pooler_dropout": told.dropout if "dense" in form.drops else 0.0}
        return own | {"pooler_hidden_act": act, "pooler_hidden_size": told.shape.width}
    return {"classifier_dropout": told.dropout}


def head_in(config: Mapping[str, Any]) -> tuple[str, str, str]:
    """Family, class and head that a configuration is of. Raises ValueError where it has no head that is read here."""
    name = next(iter(config.get("architectures") or []), "")
    for family, stem in STEMS.items():
        for head, ending in ENDINGS.items():
            if name == stem + ending and family != "t5":
                return family, name, head
    known = ", ".join(each for head, each in ENDINGS.items() if head != "embedding")
    raise ValueError(f"{name or 'a configuration without architectures'} has no head that is read here; give {known}")


def read(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Told, dict[str, Tensor]]:
    """What a configuration and the weights beside it are here: for an embedding the trunk, pooled by the mean until
    more is known."""
    family, name, head = head_in(config)
    found = hub.read(_trunk_config(config, family), tensors, partial=True)
    shape = replace(found.shape, **HEADLESS)  # of the layers over the vocabulary there are none
    kept = {OURS + each: tensor for each, tensor in found.tensors.items() if not each.startswith(UNASKED)}
    form = _form(config, family, head, shape)
    for ours, theirs in layers_of(family, head).items():
        mine = {each: tensor for each, tensor in tensors.items() if each.rpartition(".")[0] == theirs}
        if not mine:
            raise ValueError(f"{theirs}.weight is missing from the weights; give the whole folder of a {name}")
        kept |= {f"{ours}.{each.rpartition('.')[2]}": tensor for each, tensor in mine.items()}
    names = _names(config, kept)
    problem = _problem(config, len(names)) if head == "sequence" else ""
    single = problem == PROBLEMS["regress"] and len(names) == 1
    names = () if head in ("spans", "embedding") or single else names
    return Told(shape, head, form, names, problem, _dropout(config, family), name), kept


def _trunk_config(config: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Without what is the head's own, where a trunk with another setting there would be refused."""
    biases = {"classifier_bias": config.get("norm_bias", False)} if family == "modernbert" else {}
    acts = {"classifier_activation": config.get("hidden_activation", "gelu")} if family == "modernbert" else {}
    return {**config, **biases, **acts}


def _form(config: Mapping[str, Any], family: str, head: str, shape: Shape) -> Form:
    form = family_form(family, head, shape)
    if family == "modernbert" and head != "embedding":
        act = _act(config, "classifier_activation")
        pooling = config.get("classifier_pooling") or "cls"
        form = replace(form, pooling=pooling, act=act, bias=bool(config.get("classifier_bias", False)))
    if family == "deberta-v2" and head == "sequence":
        before = ("dense",) if config.get("pooler_dropout") else ()
        form = replace(form, act=_act(config, "pooler_hidden_act"), drops=(*before, "chooser"))
    return form


def _act(config: Mapping[str, Any], name: str) -> str:
    said = config.get(name) or "gelu"
    act = ACTS.get(said, said)
    if act not in DENSE_ACTS:
        known = ", ".join(DENSE_ACTS)
        raise ValueError(f"{name} is {said!r}, which no head here has; give a model with one of {known}")
    return act


def _names(config: Mapping[str, Any], kept: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Of as many classes as the chooser has; their own way to count where nothing is said."""
    if "chooser.weight" not in kept:
        return ()
    count = len(kept["chooser.weight"])
    said = {int(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    return tuple(said.get(at, f"LABEL_{at}") for at in range(count))


def _problem(config: Mapping[str, Any], classes: int) -> str:
    said = config.get("problem_type") or PROBLEMS["regress" if classes == 1 else "classify"]
    if said not in PROBLEMS.values():
        raise ValueError(f"problem_type is {said!r}, and none of {', '.join(PROBLEMS.values())}; set one of them")
    if said == PROBLEMS["regress"] and classes > 1:
        raise ValueError(f"a regression of {classes} numbers at once has no place here; give a model of one")
    return str(said)


def _dropout(config: Mapping[str, Any], family: str) -> float:
    name = {"albert": "classifier_dropout_prob", "deberta-v2": "cls_dropout"}.get(family, "classifier_dropout")
    found = config.get(name)
    found = config.get("hidden_dropout_prob", 0.1) if found is None else found
    return float(found)
