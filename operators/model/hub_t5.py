"""T5 1.0 and 1.1, and Switch, which is T5 with experts: encoder and decoder under the names of transformers.

    1.0      relu, one table for input and output, and states divided by the root of the width before it
    1.1      gated gelu, a table of its own for the output, nothing divided
    Switch   relu; a block in so many has experts and a router in float32

Which table the output has is seen from the weights; `scale_decoder_outputs`, and before it was written
`tie_word_embeddings`, says whether states are divided. An expert's capacity is another thing there (64 tokens, and in
transformers 5.17 it never binds, because it is counted along an axis of length 1), so what is read has none: set
`capacity` to train with one. Refused: routers with a bias or below float32, different steps in encoder and decoder.
"""

from collections.abc import Mapping
from typing import Any

from tundish.operators.model.hub_kin import ACTS, Kin, Settings, Weight, act_named, refused
from tundish.operators.model.shape import Shape

GATED = "gated-"
SHARED = "shared.weight"
COPIES = (("lm_head.weight", SHARED), ("encoder.embed_tokens.weight", SHARED), ("decoder.embed_tokens.weight", SHARED))
LEFT = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.",)


def _pair(given: Settings, **besides: Any) -> Shape:
    given.only("is_decoder", False, default=False)
    given.only("add_cross_attention", False, default=False)
    layers, width, heads, head = (given.size(each) for each in ("num_layers", "d_model", "num_heads", "d_kv"))
    tied = bool(given.config.get("tie_word_embeddings", True))
    return Shape(
        vocabulary=given.size("vocab_size"),
        width=width,
        layers=layers,
        heads=heads,
        ff=given.size("d_ff"),
        length=given.size("n_positions", default=512),
        stack="pair",
        decoder=given.size("num_decoder_layers", default=layers),
        head=0 if head * heads == width else head,
        rms=True,
        eps=given.number("layer_norm_epsilon", 1e-6),
        embedding_norm=False,
        first_norm=True,
        positions="buckets",
        scaled=False,
        buckets=given.size("relative_attention_num_buckets", default=32),
        distance=given.size("relative_attention_max_distance", default=128),
        transform=False,
        head_bias=False,
        tied=tied,
        dropout=given.number("dropout_rate", 0.1),
        **besides,
    )


def _t5(given: Settings) -> Shape:
    written = given.get("feed_forward_proj", default="relu")
    given.get("dense_act_fn", "is_gated_act")  # both follow from the one above
    gated, name = written.startswith(GATED), written.removeprefix(GATED)
    if name not in ACTS:
        raise refused("feed_forward_proj", written, [*ACTS, *(GATED + each for each in ACTS)])
    # what is called gated-gelu has always been the approximation by tanh
    act = "gelu_tanh" if written == "gated-gelu" else ACTS[name]
    shrunk = given.get("scale_decoder_outputs", default=given.config.get("tie_word_embeddings") is not False)
    return _pair(given, act=act, gated=gated, shrunk=bool(shrunk))


def _t5_act(shape: Shape) -> str:
    if shape.gated:
        return GATED + ("gelu" if shape.act == "gelu_tanh" else "gelu_python" if shape.act == "gelu" else shape.act)
    return act_named(shape.act)


def _t5_config(shape: Shape) -> dict[str, Any]:
    # before 5.0 transformers took both, the table and the division, from tie_word_embeddings
    shrunk = {"scale_decoder_outputs": shape.shrunk, "tie_word_embeddings": shape.tied and shape.shrunk}
    return _written(shape) | {"feed_forward_proj": _t5_act(shape)} | shrunk


def _written(shape: Shape) -> dict[str, Any]:
    return {
        "is_encoder_decoder": True,
        "vocab_size": shape.vocabulary,
        "d_model": shape.width,
        "d_kv": shape.head_width,
        "d_ff": shape.ff,
        "num_layers": shape.layers,
        "num_decoder_layers": shape.decoder,
        "num_heads": shape.heads,
        "n_positions": shape.length,
        "layer_norm_epsilon": shape.eps,
        "relative_attention_num_buckets": shape.buckets,
        "relative_attention_max_distance": shape.distance,
        "dropout_rate": shape.dropout,
    }


def _switch(given: Settings) -> Shape:
    given.only("router_bias", False, default=False)
    given.only("router_dtype", "float32", default="float32")
    given.only("router_ignore_padding_tokens", False, default=False)
    # of training, of what is handed out besides, or without effect
    given.get(
        "router_jitter_noise", "router_z_loss_coef", "router_aux_loss_coef", "add_router_probs", "expert_capacity"
    )
    given.get("router_type", "batch_prioritized_routing", "num_selected_experts", "feed_forward_proj", "is_gated_act")
    given.only("num_selected_experts", 1, default=1)
    act = given.act("dense_act_fn", "relu")
    layers, experts = given.size("num_layers"), given.size("num_experts")
    steps = {
        name: _step(given.count(name, 3), count)
        for name, count in (
            ("num_sparse_encoder_layers", layers),
            ("num_sparse_decoder_layers", given.size("num_decoder_layers", default=layers)),
        )
    }
    given.get("encoder_sparse_step", "decoder_sparse_step")  # both follow from the two above
    if len(set(steps.values())) > 1:
        raise ValueError(
            f"experts come every {steps['num_sparse_encoder_layers']} blocks in the encoder and every "
            f"{steps['num_sparse_decoder_layers']} in the decoder; give a model with one step"
        )
    tied = bool(given.config.get("tie_word_embeddings", True))
    step = steps["num_sparse_encoder_layers"]
    return _pair(given, act=act, gated=False, shrunk=tied, experts=experts, sparse=step, capacity=0.0)


def _step(sparse: int, layers: int) -> int:
    return layers // sparse if sparse > 0 else layers


def _switch_config(shape: Shape) -> dict[str, Any]:
    return _written(shape) | {
        "dense_act_fn": act_named(shape.act),
        "num_experts": shape.experts,
        "num_sparse_encoder_layers": max(shape.layers // shape.sparse, 1),
        "num_sparse_decoder_layers": max(shape.decoder // shape.sparse, 1),
        "router_bias": False,
        "router_dtype": "float32",
        "tie_word_embeddings": shape.shrunk,
    }


def _stack(shape: Shape, ours: str, theirs: str, layers: int, *, across: bool, inner: str) -> list[Weight]:
    found = [Weight(f"{ours}.bias.weight", (f"{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",))]
    for layer in range(layers):
        mine, its = f"{ours}.blocks.{layer}", f"{theirs}.block.{layer}.layer"
        own = f"{its}.0.SelfAttention"
        found += [
            Weight(f"{mine}.attention.qkv.weight", tuple(f"{own}.{each}.weight" for each in "qkv")),
            Weight(f"{mine}.attention.out.weight", (f"{own}.o.weight",)),
            Weight(f"{mine}.attention_norm.weight", (f"{its}.0.layer_norm.weight",)),
        ]
        if across:
            own = f"{its}.1.EncDecAttention"
            found += [
                Weight(f"{mine}.across.q.weight", (f"{own}.q.weight",)),
                Weight(f"{mine}.across.kv.weight", tuple(f"{own}.{each}.weight" for each in "kv")),
                Weight(f"{mine}.across.out.weight", (f"{own}.o.weight",)),
                Weight(f"{mine}.across_norm.weight", (f"{its}.1.layer_norm.weight",)),
            ]
        last = f"{its}.{2 if across else 1}"
        found.append(Weight(f"{mine}.inner_norm.weight", (f"{last}.layer_norm.weight",)))
        found += _inner(shape, layer, f"{mine}.inner", f"{last}.{inner}")
    return [*found, Weight(f"{ours}.final.weight", (f"{theirs}.final_layer_norm.weight",))]


def _inner(shape: Shape, layer: int, ours: str, theirs: str) -> list[Weight]:
    if shape.sparse_at(layer):
        each = [f"{theirs}.experts.expert_{number}" for number in range(shape.experts)]
        return [
            Weight(f"{ours}.router", (f"{theirs}.router.classifier.weight",)),
            Weight(f"{ours}.up", tuple(f"{one}.wi.weight" for one in each), "stacked"),
            Weight(f"{ours}.down", tuple(f"{one}.wo.weight" for one in each), "stacked"),
        ]
    up = ("wi_0", "wi_1") if shape.gated else ("wi",)
    return [
        Weight(f"{ours}.up.weight", tuple(f"{theirs}.{one}.weight" for one in up)),
        Weight(f"{ours}.down.weight", (f"{theirs}.wo.weight",)),
    ]


def _weights(shape: Shape, inner: str) -> list[Weight]:
    found = [
        Weight("embedding.weight", (SHARED,)),
        *_stack(shape, "stack", "encoder", shape.layers, across=False, inner=inner),
        *_stack(shape, "decoder", "decoder", shape.decoder, across=True, inner=inner),
    ]
    return found if shape.tied else [*found, Weight("head.weight", ("lm_head.weight",))]


def _t5_weights(shape: Shape, config: Mapping[str, Any]) -> list[Weight]:
    return _weights(shape, "DenseReluDense")


def _switch_weights(shape: Shape, config: Mapping[str, Any]) -> list[Weight]:
    return _weights(shape, "mlp")


KINS: dict[str, Kin] = {
    "T5ForConditionalGeneration": Kin(
        family="t5", shape=_t5, config=_t5_config, weights=_t5_weights, copies=COPIES, left=LEFT, bound=True
    ),
    "SwitchTransformersForConditionalGeneration": Kin(
        family="switch_transformers",
        shape=_switch,
        config=_switch_config,
        weights=_switch_weights,
        copies=COPIES,
        left=LEFT,
    ),
}
