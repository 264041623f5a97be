"""What the map of one kin of models is made of: how its settings are read, and which of its weights are which of ours.

    Weight("stack.blocks.0.attention.qkv.weight", ("….query.weight", "….key.weight", "….value.weight"))

Promises: one table serves both directions, so a round trip gives the same bits; a setting that would change the
numbers is either taken over or refused by its name and value. Costs views where it can, copies where weights are
joined. Refuses activations no block here has, settings of another kind than the kin's, and missing sizes.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tundish.operators.model.shape import Shape

ACTS = {  # their names of the activations in `layers.ACTS`; the first of one kind is what is written
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "swish": "silu",
}
IDS = ("pad_token_id", "bos_token_id", "eos_token_id")
# settings of every kin that are about something else than the numbers of trunk and head
WORDS = """architectures model_type transformers_version torch_dtype dtype _name_or_path name_or_path is_encoder_decoder
cls_token_id sep_token_id mask_token_id decoder_start_token_id task_specific_params use_cache initializer_range
initializer_factor initializer_cutoff_factor gradient_checkpointing finetuning_task id2label label2id num_labels
problem_type classifier_dropout classifier_dropout_prob language output_past output_attentions output_hidden_states
return_dict chunk_size_feed_forward directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers
pooler_size_per_head pooler_type summary_type summary_use_proj summary_activation summary_proj_to_labels
summary_first_dropout summary_last_dropout attention_probs_dropout_prob tie_word_embeddings model_max_length
tokenizer_class"""
QUIET = frozenset(WORDS.split())


class Weight(NamedTuple):
    """One of our weights and the one or several of theirs that it is made of.

    `form`: rows: one under the other; turned: transposed (GPT-2 keeps inputs first); stacked: one a layer of a cube;
    places: a convolution's, whose places come first here and last there."""

    ours: str
    theirs: tuple[str, ...]
    form: str = "rows"


class Kin(NamedTuple):
    """One architecture. `copies`: names that may stand for another weight once more, and that weight; the first is the
    table of the vocabulary. `bound`: whether the others are copies even where the table is not tied. `older`: parts of
    names as they were, and as they are. `left`: parts of names of weights that the trunk and this head have no use
    for. `detector`: whether it ends in ELECTRA's discriminator."""

    family: str
    shape: Callable[["Settings"], Shape]
    config: Callable[[Shape], dict[str, Any]]
    weights: Callable[[Shape, Mapping[str, Any]], list[Weight]]
    copies: tuple[tuple[str, str], ...] = ()
    older: tuple[tuple[str, str], ...] = ()
    left: tuple[str, ...] = ()
    detector: bool = False
    bound: bool = False


class Settings:
    """A configuration that remembers what it was asked for."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.asked = {*QUIET, *IDS}

    def get(self, *names: str, default: Any = None) -> Any:
        """The value under the first of these names that has one."""
        self.asked.update(names)
        return next((self.config[name] for name in names if self.config.get(name) is not None), default)

    def size(self, *names: str, default: int | None = None) -> int:
        """A size that no model is without."""
        found = self.get(*names, default=default)
        if not isinstance(found, int) or isinstance(found, bool) or found < 1:
            raise ValueError(f"the configuration says {names[0]} is {found!r}; give it a number from 1 on")
        return found

    def number(self, name: str, default: float) -> float:
        """A rate or a small number, as it is or by default."""
        found = self.get(name, default=default)
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 1:
            raise ValueError(f"the configuration says {name} is {found!r}; give it a number from 0 to below 1")
        return float(found)

    def count(self, name: str, default: int) -> int:
        """A whole number, which may mean nothing where it is 0 or below."""
        found = self.get(name, default=default)
        if isinstance(found, bool) or not isinstance(found, int):
            raise ValueError(f"the configuration says {name} is {found!r}; give it a whole number")
        return found

    def only(self, name: str, *known: Any, default: Any) -> Any:
        """The value, which must be one of those known."""
        found = self.get(name, default=default)
        if found not in known:
            raise refused(name, found, known)
        return found

    def act(self, name: str, default: str) -> str:
        return ACTS[self.only(name, *ACTS, default=default)]

    def unread(self) -> tuple[str, ...]:
        """Names of settings that nobody asked for."""
        return tuple(sorted(set(self.config) - self.asked))


def refused(name: str, found: Any, known: Iterable[Any]) -> ValueError:
    listed = ", ".join(repr(each) for each in known)
    return ValueError(
        f"{name} is {found!r}, which would change the numbers; tundish knows {listed}: give another model"
    )


def act_named(act: str) -> str:
    return next(theirs for theirs, ours in ACTS.items() if ours == act)


def linear(ours: str, *theirs: str, bias: bool = True, form: str = "rows") -> list[Weight]:
    """Weight, and bias where there is one, of a linear layer or a norm."""
    found = [Weight(f"{ours}.weight", tuple(f"{each}.weight" for each in theirs), form)]
    return [*found, Weight(f"{ours}.bias", tuple(f"{each}.bias" for each in theirs))] if bias else found


def joined(weight: Weight, parts: list[Tensor]) -> Tensor:
    """Ours, of theirs."""
    if weight.form == "stacked":
        return torch.stack(parts)
    if len(parts) > 1:
        return torch.cat(parts)
    if weight.form == "turned":
        return parts[0].t().contiguous()
    return parts[0].permute(2, 0, 1).contiguous() if weight.form == "places" else parts[0]


def parted(weight: Weight, ours: Tensor) -> list[Tensor]:
    """Theirs, of ours."""
    if weight.form == "stacked":
        return [part.contiguous() for part in ours.unbind(0)]
    if weight.form == "turned":
        return [ours.t().contiguous()]
    if weight.form == "places":
        return [ours.permute(1, 2, 0).contiguous()]
    return [part.contiguous() for part in ours.chunk(len(weight.theirs))] if len(weight.theirs) > 1 else [ours]
