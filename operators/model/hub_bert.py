"""BERT and those who kept its block: RoBERTa, ELECTRA's generator and discriminator, ALBERT.

    BERT      a dense tanh layer over the first token and two logits, where it was trained with a second task
    RoBERTa   positions begin behind the number of the padding token; its head's activation is always gelu
    ELECTRA   embeddings narrower than the stack; the discriminator has one logit a token, and no vocabulary
    ALBERT    one block for all layers; one that has several groups, or several blocks in one, is refused

Names of settings and weights are those of Hugging Face's transformers.
"""

from collections.abc import Mapping
from typing import Any

from tundish.operators.model.hub_kin import Kin, Settings, Weight, act_named, linear, refused
from tundish.operators.model.shape import Shape

OLDER = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
LEFT = (".position_ids", ".token_type_ids")
EPS = 1e-12


def _trunk(given: Settings, **besides: Any) -> Shape:
    """What all four read alike."""
    given.only("is_decoder", False, default=False)
    given.only("add_cross_attention", False, default=False)
    given.only("position_embedding_type", "absolute", default="absolute")
    plain = {
        "vocabulary": given.size("vocab_size"),
        "width": given.size("hidden_size"),
        "layers": given.size("num_hidden_layers"),
        "heads": given.size("num_attention_heads"),
        "ff": given.size("intermediate_size"),
        "length": given.size("max_position_embeddings"),
        "eps": given.number("layer_norm_eps", EPS),
        "types": given.size("type_vocab_size", default=2),
        "act": given.act("hidden_act", "gelu"),
        "dropout": given.number("hidden_dropout_prob", 0.1),
        "tied": bool(given.config.get("tie_word_embeddings", True)),
    }
    return Shape(
        **plain | besides, norm="post", bias=True, positions="learned", gated=False, first_norm=False, final_norm=False
    )


def _written(shape: Shape) -> dict[str, Any]:
    return {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.ff,
        "max_position_embeddings": shape.length + shape.offset,
        "layer_norm_eps": shape.eps,
        "type_vocab_size": shape.types,
        "hidden_act": act_named(shape.act),
        "hidden_dropout_prob": shape.dropout,
        "tie_word_embeddings": shape.tied,
    }


def embedded(shape: Shape, theirs: str) -> list[Weight]:
    found = [Weight("embedding.weight", (f"{theirs}.word_embeddings.weight",))]
    if shape.positions == "learned" or shape.absolute:
        found.append(Weight("embedding.positions", (f"{theirs}.position_embeddings.weight",)))
    if shape.types:
        found.append(Weight("embedding.types", (f"{theirs}.token_type_embeddings.weight",)))
    return found + linear("embedding.norm", f"{theirs}.LayerNorm")


def block(ours: str, theirs: str, heads: tuple[str, str, str] = ("query", "key", "value")) -> list[Weight]:
    return [
        *linear(f"{ours}.attention.qkv", *(f"{theirs}.attention.self.{each}" for each in heads)),
        *linear(f"{ours}.attention.out", f"{theirs}.attention.output.dense"),
        *linear(f"{ours}.attention_norm", f"{theirs}.attention.output.LayerNorm"),
        *linear(f"{ours}.inner.up", f"{theirs}.intermediate.dense"),
        *linear(f"{ours}.inner.down", f"{theirs}.output.dense"),
        *linear(f"{ours}.inner_norm", f"{theirs}.output.LayerNorm"),
    ]


def trunk(shape: Shape, theirs: str) -> list[Weight]:
    found = embedded(shape, f"{theirs}.embeddings")
    for layer in range(shape.layers):
        found += block(f"stack.blocks.{layer}", f"{theirs}.encoder.layer.{layer}")
    return found


def head(shape: Shape, dense: str, norm: str, bias: str, table: str) -> list[Weight]:
    found = [*linear("head.dense", dense), *linear("head.norm", norm), Weight("head.bias", (bias,))]
    return found if shape.tied else [*found, Weight("head.weight", (table,))]


def _bert_weights(shape: Shape, config: Mapping[str, Any]) -> list[Weight]:
    words = "cls.predictions"
    found = trunk(shape, "bert")
    found += head(shape, f"{words}.transform.dense", f"{words}.transform.LayerNorm", f"{words}.bias", TABLE)
    if shape.pooler:
        found += linear("pooler", "bert.pooler.dense") + linear("follows", "cls.seq_relationship")
    return found


TABLE = "cls.predictions.decoder.weight"
BERT = {
    "family": "bert",
    "config": _written,
    "weights": _bert_weights,
    "copies": (
        (TABLE, "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ),
    "older": OLDER,
}


def _roberta(given: Settings) -> Shape:
    pad = given.count("pad_token_id", 1)
    found = _trunk(given, offset=pad + 1, length=given.size("max_position_embeddings") - pad - 1)
    if found.act != "gelu":
        raise refused("hidden_act", given.get("hidden_act"), ["gelu"])  # the head's is gelu whatever the blocks have
    return found


def _roberta_weights(shape: Shape, config: Mapping[str, Any]) -> list[Weight]:
    return trunk(shape, "roberta") + head(
        shape, "lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "lm_head.decoder.weight"
    )


def _electra(given: Settings, *, generator: bool) -> Shape:
    bare = {} if generator else {"transform": False, "head_bias": False, "tied": True}
    found = _trunk(given, embedding=_narrow(given, 128), **bare)
    if generator and found.act != "gelu":
        raise refused("hidden_act", given.get("hidden_act"), ["gelu"])  # as RoBERTa's
    return found


def _narrow(given: Settings, default: int) -> int:
    width = given.size("embedding_size", default=default)
    return 0 if width == given.size("hidden_size") else width


def _electra_trunk(shape: Shape) -> list[Weight]:
    found = trunk(shape, "electra")
    return found + linear("embedding.wide", "electra.embeddings_project") if shape.embedding else found


def _generator_weights(shape: Shape, config: Mapping[str, Any]) -> list[Weight]:
    own = "generator_predictions"
    return _electra_trunk(shape) + head(
        shape, f"{own}.dense", f"{own}.LayerNorm", "generator_lm_head.bias", "generator_lm_head.weight"
    )


def _discriminator_weights(shape: Shape, config: Mapping[str, Any]) -> list[Weight]:
    own = "discriminator_predictions"
    return [
        *_electra_trunk(shape),
        *linear("detector.dense", f"{own}.dense"),
        *linear("detector.score", f"{own}.dense_prediction"),
    ]


def _discriminator_config(shape: Shape) -> dict[str, Any]:
    return _written(shape) | {"embedding_size": shape.embedded, "tie_word_embeddings": True}


def _albert(given: Settings, *, pooler: bool) -> Shape:
    given.only("num_hidden_groups", 1, default=1)
    given.only("inner_group_num", 1, default=1)
    given.get("classifier_dropout_prob", "down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks")
    width = given.size("embedding_size", default=128)
    if width == given.size("hidden_size"):
        raise ValueError(
            f"embedding_size is {width} like hidden_size, and a layer between the two has no place here; "
            "give an ALBERT with narrower embeddings"
        )
    act = given.act("hidden_act", "gelu_new")
    dropout = given.number("hidden_dropout_prob", 0.0)
    return _trunk(given, embedding=width, shared=True, pooler=pooler, act=act, dropout=dropout)


def _albert_weights(shape: Shape, config: Mapping[str, Any]) -> list[Weight]:
    ours, theirs = "stack.blocks.0", "albert.encoder.albert_layer_groups.0.albert_layers.0"
    found = [
        *embedded(shape, "albert.embeddings"),
        *linear("embedding.wide", "albert.encoder.embedding_hidden_mapping_in"),
        *linear(f"{ours}.attention.qkv", *(f"{theirs}.attention.{each}" for each in ("query", "key", "value"))),
        *linear(f"{ours}.attention.out", f"{theirs}.attention.dense"),
        *linear(f"{ours}.attention_norm", f"{theirs}.attention.LayerNorm"),
        *linear(f"{ours}.inner.up", f"{theirs}.ffn"),
        *linear(f"{ours}.inner.down", f"{theirs}.ffn_output"),
        *linear(f"{ours}.inner_norm", f"{theirs}.full_layer_layer_norm"),
        *head(shape, "predictions.dense", "predictions.LayerNorm", "predictions.bias", "predictions.decoder.weight"),
    ]
    if shape.pooler:
        found += linear("pooler", "albert.pooler") + linear("follows", "sop_classifier.classifier")
    return found


def _embedded_config(shape: Shape) -> dict[str, Any]:
    return _written(shape) | {"embedding_size": shape.embedded}


def _albert_config(shape: Shape) -> dict[str, Any]:
    return _embedded_config(shape) | {"num_hidden_groups": 1, "inner_group_num": 1}


ALBERT = {
    "family": "albert",
    "config": _albert_config,
    "weights": _albert_weights,
    "copies": (
        ("predictions.decoder.weight", "albert.embeddings.word_embeddings.weight"),
        ("predictions.decoder.bias", "predictions.bias"),
    ),
    "older": OLDER,
}
ELECTRA = {"family": "electra", "older": OLDER}
WORDS = "electra.embeddings.word_embeddings.weight"
KINS: dict[str, Kin] = {
    "BertForMaskedLM": Kin(**BERT, shape=_trunk, left=(*LEFT, "bert.pooler.", "cls.seq_relationship.")),
    "BertForPreTraining": Kin(**BERT, shape=lambda given: _trunk(given, pooler=True), left=LEFT),
    "RobertaForMaskedLM": Kin(
        family="roberta",
        shape=_roberta,
        config=lambda shape: _written(shape) | {"pad_token_id": shape.offset - 1},
        weights=_roberta_weights,
        copies=(
            ("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
            ("lm_head.decoder.bias", "lm_head.bias"),
        ),
        older=OLDER,
        left=(*LEFT, "roberta.pooler."),
    ),
    "ElectraForMaskedLM": Kin(
        **ELECTRA,
        shape=lambda given: _electra(given, generator=True),
        config=_embedded_config,
        weights=_generator_weights,
        copies=(("generator_lm_head.weight", WORDS),),
        left=(*LEFT, "discriminator_predictions."),
    ),
    "ElectraForPreTraining": Kin(
        **ELECTRA,
        shape=lambda given: _electra(given, generator=False),
        config=_discriminator_config,
        weights=_discriminator_weights,
        left=(*LEFT, "generator_predictions.", "generator_lm_head."),
        detector=True,
    ),
    "AlbertForMaskedLM": Kin(
        **ALBERT,
        shape=lambda given: _albert(given, pooler=False),
        left=(*LEFT, "albert.pooler.", "sop_classifier."),
    ),
    "AlbertForPreTraining": Kin(**ALBERT, shape=lambda given: _albert(given, pooler=True), left=LEFT),
}
