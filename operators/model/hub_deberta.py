"""DeBERTa v2 and v3: disentangled attention under the names of Hugging Face's transformers.

What is taken over: buckets of distances or distances as they are, projections shared with the content or their own, a
norm over the distances or none, positions at the input or none, the convolution of v2-xlarge. The head goes by two
sets of names (`legacy` or not) and computes the same; both are read and the first is written, since transformers 5.17
cannot load what it saves under the other. Refused: attention with one of its two terms only, or without
relative positions; embeddings narrower than the stack (theirs are widened before the norm, ours behind it); a
convolution in groups.

The decoder with absolute positions at the end (`Shape.enhanced`) is in no class of theirs, so a shape with it is not
written: leave it out, and the table `stack.absolute` with it, and the trunk stays what it is.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tundish.operators.model.hub_bert import OLDER, block, embedded, head
from tundish.operators.model.hub_kin import ACTS, Kin, Settings, Weight, act_named, linear, refused
from tundish.operators.model.shape import Shape

TERMS = ("c2p", "p2c")
HEADS = ("query_proj", "key_proj", "value_proj")
WORDS = "deberta.embeddings.word_embeddings.weight"
LEGACY = "cls.predictions"
NEW = "lm_predictions.lm_head"


def _shape(given: Settings) -> Shape:
    given.only("relative_attention", True, default=False)
    _both_terms(given)
    width = given.size("hidden_size")
    given.only("embedding_size", width, default=width)
    length = given.size("max_position_embeddings")
    distance, buckets = given.count("max_relative_positions", -1), given.count("position_buckets", -1)
    distance = distance if distance > 0 else length
    act = given.act("hidden_act", "gelu")
    heads = given.size("num_attention_heads")
    own = given.count("attention_head_size", 0)
    # of what comes behind the trunk in classes for other tasks
    given.get("pooler_dropout", "pooler_hidden_act", "pooler_hidden_size", "cls_dropout", "legacy")
    return Shape(
        vocabulary=given.size("vocab_size"),
        width=width,
        layers=given.size("num_hidden_layers"),
        heads=heads,
        ff=given.size("intermediate_size"),
        length=length,
        head=0 if own * heads == width else own,
        norm="post",
        eps=given.number("layer_norm_eps", 1e-7),
        final_norm=False,
        bias=True,
        positions="disentangled",
        buckets=buckets if buckets > 0 else distance,
        distance=distance if buckets > 0 else 0,
        absolute=bool(given.get("position_biased_input", default=True)),
        far_norm=_normed(given),
        far_own=not given.get("share_att_key", default=False),
        span=_span(given, act),
        act=act,
        gated=False,
        types=given.count("type_vocab_size", 0),
        tied=bool(given.config.get("tie_word_embeddings", True)),
        dropout=given.number("hidden_dropout_prob", 0.1),
    )


def _both_terms(given: Settings) -> None:
    terms = given.get("pos_att_type", default=[])
    listed = [each.strip() for each in terms.lower().split("|")] if isinstance(terms, str) else list(terms)
    if sorted(listed) != sorted(TERMS):
        raise refused("pos_att_type", terms, ["|".join(TERMS)])


def _normed(given: Settings) -> bool:
    words = [each.strip() for each in given.get("norm_rel_ebd", default="none").lower().split("|")]
    return "layer_norm" in words


def _span(given: Settings, act: str) -> int:
    span = given.count("conv_kernel_size", 0)
    groups, named = given.count("conv_groups", 1), given.get("conv_act", default="tanh")
    if span > 0 and groups != 1:
        raise refused("conv_groups", groups, [1])
    if span > 0 and ACTS.get(named) != act:
        raise refused("conv_act", named, [each for each, ours in ACTS.items() if ours == act])
    return max(span, 0)


def _config(shape: Shape) -> dict[str, Any]:
    found = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.ff,
        "max_position_embeddings": shape.length,
        "layer_norm_eps": shape.eps,
        "type_vocab_size": shape.types,
        "hidden_act": act_named(shape.act),
        "hidden_dropout_prob": shape.dropout,
        "relative_attention": True,
        "pos_att_type": list(TERMS),
        "position_buckets": shape.buckets if shape.distance else -1,
        "max_relative_positions": shape.distance or shape.buckets,
        "position_biased_input": shape.absolute,
        "norm_rel_ebd": "layer_norm" if shape.far_norm else "none",
        "share_att_key": not shape.far_own,
        "legacy": True,
        "tie_word_embeddings": shape.tied,
    }
    if shape.head:
        found["attention_head_size"] = shape.head
    if shape.span:
        found |= {"conv_kernel_size": shape.span, "conv_groups": 1, "conv_act": act_named(shape.act)}
    return found


def _bare(given: Settings) -> Shape:
    return replace(_shape(given), transform=False, head_bias=False, tied=True)


def _trunk(shape: Shape, config: Mapping[str, Any]) -> list[Weight]:
    """The trunk alone, under the names of its own class."""
    found = _weights(replace(shape, tied=True), config)
    kept = [each for each in found if not each.ours.startswith("head.")]
    return [each._replace(theirs=tuple(one.removeprefix("deberta.") for one in each.theirs)) for each in kept]


def _weights(shape: Shape, config: Mapping[str, Any]) -> list[Weight]:
    theirs = "deberta.encoder"
    found = embedded(shape, "deberta.embeddings")
    for layer in range(shape.layers):
        mine, its = f"stack.blocks.{layer}", f"{theirs}.layer.{layer}"
        found += block(mine, its, HEADS)
        if shape.far_own:
            own = f"{its}.attention.self"
            found += linear(f"{mine}.attention.far", f"{own}.pos_query_proj", f"{own}.pos_key_proj")
    found.append(Weight("stack.far", (f"{theirs}.rel_embeddings.weight",)))
    if shape.far_norm:
        found += linear("stack.far_norm", f"{theirs}.LayerNorm")
    if shape.span:
        found += [Weight("stack.beside.weight", (f"{theirs}.conv.conv.weight",), "places")]
        found += [Weight("stack.beside.bias", (f"{theirs}.conv.conv.bias",))]
        found += linear("stack.beside.norm", f"{theirs}.conv.LayerNorm")
    if config.get("legacy", True):
        own = f"{LEGACY}.transform"
        return found + head(shape, f"{own}.dense", f"{own}.LayerNorm", f"{LEGACY}.bias", f"{LEGACY}.decoder.weight")
    return found + head(shape, f"{NEW}.dense", f"{NEW}.LayerNorm", f"{NEW}.bias", f"{LEGACY}.decoder.weight")


KINS: dict[str, Kin] = {
    "DebertaV2ForMaskedLM": Kin(
        family="deberta-v2",
        shape=_shape,
        config=_config,
        weights=_weights,
        copies=(
            (f"{LEGACY}.decoder.weight", WORDS),
            (f"{LEGACY}.decoder.bias", f"{LEGACY}.bias"),
            (f"{NEW}.weight", WORDS),
        ),
        older=OLDER,
        left=(".position_ids", "mask_predictions.", "deberta.pooler.", "classifier.", "pooler.dense."),
    ),
    "DebertaV2Model": Kin(
        family="deberta-v2",
        shape=_bare,
        config=_config,
        weights=_trunk,
        older=OLDER,
        left=(".position_ids", "position_ids", "pooler.dense."),
    ),
}
