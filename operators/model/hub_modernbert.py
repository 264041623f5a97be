"""ModernBERT under the names of transformers, of version 4 and of version 5.

    version 4   global_attn_every_n_layers, global_rope_theta, local_rope_theta
    version 5   layer_types, rope_parameters of either type

Both are read and both are written. `local_attention` is the whole window and is halved: a token sees as many to either
side, itself besides. Refused: layers of the two types in another order than every so-manieth global from the first on,
rotary positions that are stretched, biases in some parts only, a head with another activation than the blocks.
"""

from collections.abc import Mapping
from typing import Any

from tundish.operators.model.hub_kin import Kin, Settings, Weight, act_named, linear, refused
from tundish.operators.model.shape import Shape

WORDS = "model.embeddings.tok_embeddings.weight"
WHOLE, LOCAL = "full_attention", "sliding_attention"
THETAS = {WHOLE: ("global_rope_theta", 160_000.0), LOCAL: ("local_rope_theta", 10_000.0)}
BIASES = ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias")
OTHERS = (  # of speed, of other tasks, of training
    *("deterministic_flash_attn", "reference_compile", "repad_logits_with_grad", "sparse_prediction", "layer_norm_eps"),
    *("sparse_pred_ignore_index", "classifier_pooling", "embedding_dropout", "mlp_dropout", "position_embedding_type"),
)


def _shape(given: Settings) -> Shape:
    given.get(*OTHERS)
    biases = {name: bool(given.get(name, default=False)) for name in BIASES}
    if len(set(biases.values())) > 1:
        raise ValueError(f"biases are {biases}, and here all parts have them or none; give a model of one kind")
    act = given.act("hidden_activation", "gelu")
    if given.act("classifier_activation", "gelu") != act:
        raise refused("classifier_activation", given.get("classifier_activation"), [act_named(act)])
    layers = given.size("num_hidden_layers")
    every, window = _pattern(given, layers), given.size("local_attention", default=128) // 2
    if every and not window:
        raise refused("local_attention", given.get("local_attention"), ["from 2 on"])
    thetas = {kind: _theta(given, kind) for kind in THETAS}
    return Shape(
        vocabulary=given.size("vocab_size"),
        width=given.size("hidden_size"),
        layers=layers,
        heads=given.size("num_attention_heads"),
        ff=given.size("intermediate_size"),
        length=given.size("max_position_embeddings"),
        eps=given.number("norm_eps", 1e-5),
        bias=any(biases.values()),
        theta=thetas[WHOLE],
        theta_local=thetas[LOCAL] or thetas[WHOLE],
        window=window if every else 0,
        every=every or 3,
        act=act,
        head_bias=bool(given.get("decoder_bias", default=True)),
        tied=bool(given.config.get("tie_word_embeddings", True)),
        dropout=given.number("attention_dropout", 0.0),
    )


def _pattern(given: Settings, layers: int) -> int:
    """Each so-manieth layer sees all; 0 where all do."""
    every = given.size("global_attn_every_n_layers", default=3)
    kinds = given.get("layer_types") or _kinds(layers, every)
    if kinds == [WHOLE] * layers:
        return 0
    found = next((each for each in range(2, layers + 1) if kinds == _kinds(layers, each)), None)
    if found is None:
        raise refused("layer_types", kinds, ["every so-manieth from the first on " + WHOLE])
    return found


def _kinds(layers: int, every: int) -> list[str]:
    return [LOCAL if layer % every else WHOLE for layer in range(layers)]


def _theta(given: Settings, kind: str) -> float:
    older, default = THETAS[kind]
    said = given.get(older, default=default)
    found = (given.get("rope_parameters", default={}) or {}).get(kind) or {}
    for each in (found, given.get("rope_scaling", default={})):
        name = each.get("rope_type", each.get("type", "default"))
        if name != "default":
            raise refused("rope_type", name, ["default"])
    if found.get("rope_theta") is not None:
        return float(found["rope_theta"])
    if kind == LOCAL and older in given.config and given.config[older] is None:
        return 0.0  # version 4: as the global one
    return float(said)


def _config(shape: Shape) -> dict[str, Any]:
    every = shape.every if shape.window else 1
    thetas = {WHOLE: shape.theta, LOCAL: shape.theta_local}
    return {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.ff,
        "max_position_embeddings": shape.length,
        "norm_eps": shape.eps,
        **dict.fromkeys(BIASES, shape.bias),
        "decoder_bias": shape.head_bias,
        "hidden_activation": act_named(shape.act),
        "classifier_activation": act_named(shape.act),
        "local_attention": 2 * shape.window or 128,
        "layer_types": _kinds(shape.layers, every),
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()},
        "global_attn_every_n_layers": every,
        **{older: thetas[kind] for kind, (older, _) in THETAS.items()},
        "attention_dropout": shape.dropout,
        "cls_token_id": None,
        "sep_token_id": None,
        "tie_word_embeddings": shape.tied,
    }


def _weights(shape: Shape, config: Mapping[str, Any]) -> list[Weight]:
    bias = shape.bias
    found = [Weight("embedding.weight", (WORDS,)), *linear("embedding.norm", "model.embeddings.norm", bias=bias)]
    for layer in range(shape.layers):
        ours, theirs = f"stack.blocks.{layer}", f"model.layers.{layer}"
        if layer:
            found += linear(f"{ours}.attention_norm", f"{theirs}.attn_norm", bias=bias)
        found += [
            *linear(f"{ours}.attention.qkv", f"{theirs}.attn.Wqkv", bias=bias),
            *linear(f"{ours}.attention.out", f"{theirs}.attn.Wo", bias=bias),
            *linear(f"{ours}.inner_norm", f"{theirs}.mlp_norm", bias=bias),
            *linear(f"{ours}.inner.up", f"{theirs}.mlp.Wi", bias=bias),
            *linear(f"{ours}.inner.down", f"{theirs}.mlp.Wo", bias=bias),
        ]
    found += linear("stack.final", "model.final_norm", bias=bias)
    found += linear("head.dense", "head.dense", bias=bias) + linear("head.norm", "head.norm", bias=bias)
    if shape.head_bias:
        found.append(Weight("head.bias", ("decoder.bias",)))
    return found if shape.tied else [*found, Weight("head.weight", ("decoder.weight",))]


KINS: dict[str, Kin] = {
    "ModernBertForMaskedLM": Kin(
        family="modernbert",
        shape=_shape,
        config=_config,
        weights=_weights,
        copies=(("decoder.weight", WORDS),),
        left=(".inv_freq",),
    )
}
