"""GPT-2 under the names of transformers, which keeps the weights of its linear layers with inputs first.

Refused: scores scaled by the number of the layer, and attention over another model's states.
"""

from collections.abc import Mapping
from typing import Any

from tundish.operators.model.hub_kin import Kin, Settings, Weight, act_named, linear
from tundish.operators.model.shape import Shape

WORDS = "transformer.wte.weight"


def _shape(given: Settings) -> Shape:
    given.only("scale_attn_by_inverse_layer_idx", False, default=False)
    given.only("add_cross_attention", False, default=False)
    given.get("reorder_and_upcast_attn", "embd_pdrop", "attn_pdrop", "n_ctx")  # of precision, of training, of old
    width = given.size("n_embd", "hidden_size")
    return Shape(
        vocabulary=given.size("vocab_size"),
        width=width,
        layers=given.size("n_layer", "num_hidden_layers"),
        heads=given.size("n_head", "num_attention_heads"),
        ff=given.size("n_inner", default=4 * width),
        length=given.size("n_positions", "max_position_embeddings"),
        stack="decoder",
        eps=given.number("layer_norm_epsilon", 1e-5),
        embedding_norm=False,
        first_norm=True,
        bias=True,
        positions="learned",
        scaled=bool(given.get("scale_attn_weights", default=True)),
        act=given.act("activation_function", "gelu_new"),
        gated=False,
        transform=False,
        head_bias=False,
        tied=bool(given.config.get("tie_word_embeddings", True)),
        dropout=given.number("resid_pdrop", 0.1),
    )


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "vocab_size": shape.vocabulary,
        "n_embd": shape.width,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_inner": shape.ff,
        "n_positions": shape.length,
        "layer_norm_epsilon": shape.eps,
        "scale_attn_weights": shape.scaled,
        "activation_function": act_named(shape.act),
        "resid_pdrop": shape.dropout,
        "embd_pdrop": shape.dropout,
        "tie_word_embeddings": shape.tied,
    }


def _weights(shape: Shape, config: Mapping[str, Any]) -> list[Weight]:
    found = [Weight("embedding.weight", (WORDS,)), Weight("embedding.positions", ("transformer.wpe.weight",))]
    for layer in range(shape.layers):
        ours, theirs = f"stack.blocks.{layer}", f"transformer.h.{layer}"
        found += [
            *linear(f"{ours}.attention_norm", f"{theirs}.ln_1"),
            *linear(f"{ours}.attention.qkv", f"{theirs}.attn.c_attn", form="turned"),
            *linear(f"{ours}.attention.out", f"{theirs}.attn.c_proj", form="turned"),
            *linear(f"{ours}.inner_norm", f"{theirs}.ln_2"),
            *linear(f"{ours}.inner.up", f"{theirs}.mlp.c_fc", form="turned"),
            *linear(f"{ours}.inner.down", f"{theirs}.mlp.c_proj", form="turned"),
        ]
    found += linear("stack.final", "transformer.ln_f")
    return found if shape.tied else [*found, Weight("head.weight", ("lm_head.weight",))]


KINS: dict[str, Kin] = {
    "GPT2LMHeadModel": Kin(
        family="gpt2",
        shape=_shape,
        config=_config,
        weights=_weights,
        copies=(("lm_head.weight", WORDS),),
        left=(".attn.bias", ".attn.masked_bias"),  # masks that older versions kept among the weights
    )
}
