"""Configurations as they come: of version 4 and 5, with older names, and with what would change the numbers."""

import math
from dataclasses import fields, replace

import pytest
import torch

from tundish.operators.model import hub
from tundish.operators.model.family import Model
from tundish.operators.model.hub_kin import Settings
from tundish.operators.model.init import initialise
from tundish.operators.model.packed import packed
from tundish.operators.model.shape import Shape

torch.set_num_threads(1)
BERT = {
    "architectures": ["BertForMaskedLM"],
    "model_type": "bert",
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}


def of(architecture, family, **settings):
    return BERT | {"architectures": [architecture], "model_type": family} | settings


ALBERT = of("AlbertForMaskedLM", "albert", embedding_size=16)
ELECTRA = of("ElectraForMaskedLM", "electra", embedding_size=16)
ROBERTA = of("RobertaForMaskedLM", "roberta", type_vocab_size=1, pad_token_id=1)
MODERN = of("ModernBertForMaskedLM", "modernbert", local_attention=16)
DEBERTA = of("DebertaV2ForMaskedLM", "deberta-v2", relative_attention=True, pos_att_type="p2c|c2p")
DEBERTA |= {"position_biased_input": False, "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_buckets": 8}
GPT = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 60, "n_embd": 32, "n_layer": 2}
GPT |= {"n_head": 4, "n_positions": 40}
T5 = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "vocab_size": 60, "d_model": 32, "d_kv": 8}
T5 |= {"num_layers": 4, "num_heads": 4, "d_ff": 48}
SWITCH = T5 | {"architectures": ["SwitchTransformersForConditionalGeneration"], "model_type": "switch_transformers"}
SWITCH |= {"num_experts": 4, "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 2}
ALL = [BERT, ALBERT, ELECTRA, ROBERTA, MODERN, DEBERTA, GPT, T5, SWITCH]

REFUSED = [
    (BERT, {"hidden_act": "gelu_fast"}, "hidden_act is 'gelu_fast'.*tundish knows 'gelu', 'gelu_new', 'relu', 'silu'"),
    (BERT, {"is_decoder": True}, "is_decoder is True"),
    (BERT, {"add_cross_attention": True}, "add_cross_attention is True"),
    (BERT, {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
    (BERT, {"pruned_heads": {"1": [0]}}, "pruned_heads is {'1'"),
    (BERT, {"auto_map": {"AutoModel": "own.Model"}}, "auto_map is"),
    (BERT, {"quantization_config": {"bits": 4}}, "quantization_config is"),
    (BERT, {"hidden_size": None}, "hidden_size is None"),
    (BERT, {"type_vocab_size": 0}, "type_vocab_size is 0"),
    (BERT, {"layer_norm_eps": "1e-5"}, "layer_norm_eps is '1e-5'; give it a number from 0 to below 1"),
    (BERT, {"hidden_dropout_prob": 10}, "hidden_dropout_prob is 10"),
    (BERT, {"num_hidden_layers": 2.5}, "num_hidden_layers is 2.5"),
    (DEBERTA, {"position_buckets": "256"}, "position_buckets is '256'; give it a whole number"),
    (BERT, {"num_attention_heads": 5}, "does not divide into 5 heads"),
    (BERT, {"architectures": ["BertForQuestionAnswering"]}, "none that tundish knows"),
    (BERT, {"model_type": "roberta"}, "of model_type 'roberta' are none"),
    (ROBERTA, {"hidden_act": "relu"}, "hidden_act is 'relu'.*knows 'gelu':"),
    (ELECTRA, {"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'"),
    (ALBERT, {"num_hidden_groups": 2}, "num_hidden_groups is 2"),
    (ALBERT, {"inner_group_num": 3}, "inner_group_num is 3"),
    (ALBERT, {"embedding_size": 32}, "embedding_size is 32 like hidden_size"),
    (MODERN, {"mlp_bias": True}, "all parts have them or none"),
    (MODERN, {"classifier_activation": "relu"}, "classifier_activation is 'relu'"),
    (MODERN, {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type is 'yarn'"),
    (MODERN, {"rope_parameters": {"full_attention": {"rope_type": "linear"}}}, "rope_type is 'linear'"),
    (MODERN, {"layer_types": ["sliding_attention"] * 6}, "layer_types is"),
    (MODERN, {"local_attention": 1}, "local_attention is 1"),
    (DEBERTA, {"relative_attention": False}, "relative_attention is False"),
    (DEBERTA, {"pos_att_type": "c2p"}, "pos_att_type is 'c2p'"),
    (DEBERTA, {"embedding_size": 16}, "embedding_size is 16"),
    (DEBERTA, {"conv_kernel_size": 3, "conv_groups": 2, "conv_act": "gelu"}, "conv_groups is 2"),
    (DEBERTA, {"conv_kernel_size": 3}, "conv_act is 'tanh'"),
    (DEBERTA, {"conv_kernel_size": 4, "conv_act": "gelu"}, "has no middle"),
    (GPT, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
    (GPT, {"add_cross_attention": True}, "add_cross_attention is True"),
    (T5, {"feed_forward_proj": "gated-tanh"}, "feed_forward_proj is 'gated-tanh'"),
    (SWITCH, {"router_bias": True}, "router_bias is True"),
    (SWITCH, {"router_dtype": "bfloat16"}, "router_dtype is 'bfloat16'"),
    (SWITCH, {"router_ignore_padding_tokens": True}, "router_ignore_padding_tokens is True"),
    (SWITCH, {"num_sparse_decoder_layers": 4}, "every 2 blocks in the encoder and every 1 in the decoder"),
]


@pytest.mark.parametrize(("config", "change", "said"), REFUSED)
def test_what_would_change_the_numbers_is_refused_by_name(config, change, said):
    hub.shape_of(config)
    with pytest.raises(ValueError, match=said):
        hub.shape_of(config | change)


@pytest.mark.parametrize("config", ALL, ids=lambda each: each["model_type"])
def test_a_shape_written_and_read_is_the_shape(config):
    shape = hub.shape_of(config)
    name = config["architectures"][0]
    again = hub.config_of(shape, name, {})
    assert hub.plain(hub.KINS[name].shape(Settings(again))) == hub.plain(shape)


@pytest.mark.parametrize("config", ALL, ids=lambda each: each["model_type"])
def test_every_weight_has_one_place(config):
    """The table of names covers a model's weights, each once, on both sides."""
    shape = hub.shape_of(config)
    for tied in (True, False):
        each = replace(shape, tied=tied)
        kin = hub.KINS[config["architectures"][0]]
        table = kin.weights(each, config)
        mine = [weight.ours for weight in table]
        assert sorted(mine) == sorted(hub.sizes_of(each))
        theirs = [name for weight in table for name in weight.theirs]
        assert len(set(theirs)) == len(theirs)


def test_the_first_of_a_family_is_taken_where_no_architecture_is_said():
    for config in ALL:
        bare = {key: value for key, value in config.items() if key != "architectures"}
        assert hub.architecture_of(bare) == config["architectures"][0]


def test_settings_nobody_asks_for_are_told():
    settings = Settings(BERT | {"my_own": 3, "id2label": {}, "use_cache": True})
    hub.KINS["BertForMaskedLM"].shape(settings)
    assert settings.unread() == ("my_own",)


def test_both_versions_of_modernbert_say_the_same():
    new = {
        "layer_types": ["full_attention", "sliding_attention"] * 3,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 80_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5_000.0},
        },
    }
    old = {"global_attn_every_n_layers": 2, "global_rope_theta": 80_000.0, "local_rope_theta": 5_000.0}
    shape = hub.shape_of(MODERN | new)
    assert shape == hub.shape_of(MODERN | old)
    assert (shape.every, shape.window, shape.theta, shape.theta_local) == (2, 8, 80_000.0, 5_000.0)
    written = hub.config_of(shape, "ModernBertForMaskedLM", {})
    assert {key: written[key] for key in new} == new
    assert {key: written[key] for key in old} == old
    without = hub.shape_of(MODERN | old | {"local_rope_theta": None})  # as version 4 understood it
    assert without.theta_local == without.theta == 80_000.0
    plain = hub.shape_of(MODERN)
    assert (plain.every, plain.theta, plain.theta_local) == (3, 160_000.0, 10_000.0)


def test_t5_says_twice_what_it_divides():
    """Version 4 took the table and the division from one setting; version 5 wrote a setting of its own."""
    assert hub.shape_of(T5).shrunk
    older = hub.shape_of(T5 | {"tie_word_embeddings": False})
    assert (older.tied, older.shrunk) == (False, False)
    newer = hub.shape_of(T5 | {"tie_word_embeddings": True, "scale_decoder_outputs": False})
    assert (newer.tied, newer.shrunk) == (True, False)
    gated = hub.shape_of(T5 | {"feed_forward_proj": "gated-gelu"})
    assert (gated.gated, gated.act) == (True, "gelu_tanh")


XXLARGE = {  # as transformers 4.28 prints microsoft/deberta-v2-xxlarge
    **{"attention_head_size": 64, "attention_probs_dropout_prob": 0.1, "conv_act": "gelu", "conv_kernel_size": 3},
    **{"hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 1536, "initializer_range": 0.02},
    **{
        "intermediate_size": 6144,
        "layer_norm_eps": 1e-07,
        "max_position_embeddings": 512,
        "max_relative_positions": -1,
    },
    **{"model_type": "deberta-v2", "norm_rel_ebd": "layer_norm", "num_attention_heads": 24, "num_hidden_layers": 48},
    **{"pad_token_id": 0, "pooler_dropout": 0, "pooler_hidden_act": "gelu", "pooler_hidden_size": 1536},
    **{"pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "position_buckets": 256},
    **{"relative_attention": True, "share_att_key": True, "type_vocab_size": 0, "vocab_size": 128100},
}


def test_published_configurations_are_read_to_the_last_setting():
    shape = hub.shape_of(XXLARGE)
    assert shape == Shape(
        **{"vocabulary": 128_100, "width": 1536, "layers": 48, "heads": 24, "ff": 6144, "length": 512, "eps": 1e-7},
        **{"norm": "post", "bias": True, "gated": False, "final_norm": False, "positions": "disentangled"},
        **{"buckets": 256, "distance": 512, "span": 3, "dropout": 0.1},
    )
    settings = Settings(XXLARGE)
    hub.KINS["DebertaV2ForMaskedLM"].shape(settings)
    assert settings.unread() == ()
    assert hub.shape_of(T5 | {"architectures": ["T5WithLMHeadModel"]}) == hub.shape_of(T5)


def test_an_odd_head_is_kept():
    shape = hub.shape_of(T5 | {"d_kv": 24})
    assert shape.head == 24
    assert hub.config_of(shape, "T5ForConditionalGeneration", {})["d_kv"] == 24
    assert math.prod(Model(shape).stack.blocks[0].attention.out.weight.shape) == 32 * 96


def test_what_besides_says_stands_only_beside():
    shape = hub.shape_of(BERT)
    config = hub.config_of(shape, "BertForMaskedLM", {"pad_token_id": 3, "hidden_size": 999, "id2label": {"0": "no"}})
    assert (config["pad_token_id"], config["hidden_size"], config["id2label"]) == (3, 32, {"0": "no"})
    assert config["bos_token_id"] is None


@pytest.mark.parametrize(
    "config", [*ALL, DEBERTA | {"position_biased_input": True}], ids=lambda each: each["model_type"]
)
def test_only_what_tells_in_no_number_may_be_lost(config):
    """A field that is left out where shapes are compared changes no logit; every other one is kept or named."""
    shape, name = hub.shape_of(config), config["architectures"][0]
    tokens, layout = torch.arange(3, 25) % 60, packed([0, 7, 22])
    for field in fields(Shape):
        value = getattr(shape, field.name)
        for other in OTHERS.get(field.name, [not value] if isinstance(value, bool) else [value * 2 or 2]):
            try:
                changed = replace(shape, **{field.name: other})
            except ValueError:
                continue
            if field.name not in ("dropout", "capacity") and hub.plain(changed) == hub.plain(shape):
                assert torch.equal(logits(shape, tokens, layout), logits(changed, tokens, layout)), field.name
                continue
            try:
                back = hub.KINS[name].shape(Settings(hub.config_of(changed, name, {})))
            except (ValueError, StopIteration):
                continue  # refused
            kept = getattr(back, field.name) == other
            assert kept or field.name in hub._differing(changed, back) or field.name == "capacity", field.name


def logits(shape, tokens, layout):
    model = Model(shape).eval()
    initialise(model, shape, seed=1)
    with torch.no_grad():
        return model.logits(model(tokens, layout, *((tokens, layout) if shape.decoder else ())))


OTHERS = {
    "stack": ["encoder", "decoder"],
    "norm": ["pre", "post"],
    "positions": ["rotary", "learned", "none", "buckets", "disentangled"],
    "act": ["relu", "gelu", "gelu_tanh", "silu"],
    "span": [3],
    "head": [24],
    "embedding": [16],
}
