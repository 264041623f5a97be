"""Small models of transformers with weights wide enough that errors show, and the same texts padded and packed."""

import os

import numpy as np
import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

from tundish.operators.model import hub  # noqa: E402
from tundish.operators.model.family import Detector, Model  # noqa: E402
from tundish.operators.model.packed import packed  # noqa: E402

TABLES = ("embeddings.weight", "shared.weight", "wte.weight", "wpe.weight", "relative_attention_bias.weight")
LENGTHS = (7, 1, 19, 33, 12)
ANSWERS = (5, 3, 1, 11, 8)
V = 97

BERT = {
    "vocab_size": V,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 64,
}
DEBERTA = BERT | {
    "relative_attention": True,
    "pos_att_type": "p2c|c2p",
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
}
T5 = {"vocab_size": V, "d_model": 40, "d_kv": 8, "d_ff": 72, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4}
T5 |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 24, "decoder_start_token_id": 0}
GPT = {
    "vocab_size": V,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MODERN = BERT | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
MODERN |= {"num_hidden_layers": 5, "local_attention": 8}
SWITCH = T5 | {"num_experts": 4, "num_layers": 4, "num_decoder_layers": 4}
SWITCH |= {"num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 2, "expert_capacity": 64}

KINDS = {  # name -> architecture, settings
    "bert": ("BertForMaskedLM", BERT),
    "bert-pretraining": ("BertForPreTraining", BERT | {"hidden_act": "gelu_new"}),
    "bert-untied": ("BertForMaskedLM", BERT | {"tie_word_embeddings": False, "hidden_act": "silu"}),
    "roberta": ("RobertaForMaskedLM", BERT | {"type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "albert": ("AlbertForMaskedLM", BERT | {"embedding_size": 24}),
    "albert-pretraining": ("AlbertForPreTraining", BERT | {"embedding_size": 24}),
    "electra-generator": ("ElectraForMaskedLM", BERT | {"embedding_size": 24}),
    "electra-discriminator": ("ElectraForPreTraining", BERT | {"embedding_size": 24}),
    "electra-base": ("ElectraForPreTraining", BERT | {"embedding_size": 48}),
    "deberta": ("DebertaV2ForMaskedLM", DEBERTA),
    "deberta-new-head": ("DebertaV2ForMaskedLM", DEBERTA | {"legacy": False}),
    "deberta-plain": (
        "DebertaV2ForMaskedLM",
        DEBERTA
        | {"share_att_key": False, "norm_rel_ebd": "none", "position_buckets": -1, "max_relative_positions": 16}
        | {"position_biased_input": True, "type_vocab_size": 2},
    ),
    "deberta-xlarge": ("DebertaV2ForMaskedLM", DEBERTA | {"conv_kernel_size": 3, "conv_act": "gelu"}),
    "t5": ("T5ForConditionalGeneration", T5),
    "t5-1.1": (
        "T5ForConditionalGeneration",
        T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "d_kv": 16},
    ),
    "switch": ("SwitchTransformersForConditionalGeneration", SWITCH),
    "switch-every-block": (
        "SwitchTransformersForConditionalGeneration",
        SWITCH | {"num_sparse_encoder_layers": 4, "num_sparse_decoder_layers": 4, "tie_word_embeddings": False},
    ),
    "switch-every-third": (  # blocks 1 and 4 of 6
        "SwitchTransformersForConditionalGeneration",
        SWITCH | {"num_layers": 6, "num_decoder_layers": 6},
    ),
    "gpt": ("GPT2LMHeadModel", GPT),
    "gpt-unscaled": (
        "GPT2LMHeadModel",
        GPT | {"scale_attn_weights": False, "n_inner": 56, "tie_word_embeddings": False},
    ),
    "modernbert": ("ModernBertForMaskedLM", MODERN),
    "modernbert-whole": (
        "ModernBertForMaskedLM",
        MODERN
        | dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), True)
        | {"decoder_bias": False, "layer_types": ["full_attention"] * 5},
    ),
    "modernbert-every-second": (
        "ModernBertForMaskedLM",
        MODERN | {"global_attn_every_n_layers": 2, "local_attention": 6},
    ),
}


def theirs(kind, seed=1):
    """Their model, in eval mode, with weights of deviation 0.1 around what they begin as."""
    architecture, settings = KINDS[kind]
    cls = getattr(transformers, architecture)
    torch.manual_seed(seed)
    config = cls.config_class(**settings)
    for name in ("layer_norm_eps", "norm_eps", "layer_norm_epsilon"):
        if hasattr(config, name) and kind != "bert":
            setattr(config, name, 0.01)  # large, so that it shows where it is not taken over
    model = cls(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name.lower() or "ln_" in name:
                weight.add_(torch.randn_like(weight) * 0.1)
            else:
                weight.copy_(torch.randn_like(weight) * (0.5 if name.endswith(TABLES) else 0.12))
    if kind.startswith("switch"):  # without tied tables these three are three weights there, and one here
        model.encoder.embed_tokens.weight = model.decoder.embed_tokens.weight = model.shared.weight
    if kind == "t5-1.1":  # as in the published ones; transformers 5 ties what it makes itself
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight) * 0.2)
    return model


def config_of(model):
    return model.config.to_dict() | {"architectures": [type(model).__name__]}


def texts(lengths=LENGTHS, seed=2):
    draw = np.random.default_rng(seed)
    return [draw.integers(3, V, size) for size in lengths]


def padded(documents, fill=0):
    """Rows and what of them is there."""
    rows = np.full((len(documents), max(map(len, documents))), fill)
    present = np.zeros_like(rows)
    for row, here, each in zip(rows, present, documents, strict=True):
        row[: len(each)], here[: len(each)] = each, 1
    return torch.from_numpy(rows), torch.from_numpy(present)


def flat(documents):
    bounds = np.concatenate([[0], np.cumsum([len(each) for each in documents])])
    return torch.from_numpy(np.concatenate(documents)), packed(bounds)


def their_logits(model, documents, answers=None, types=None):
    """Of each document's tokens one behind the other, (T, V) or (T,); and of a second task, or None."""
    rows, present = padded(documents, fill=model.config.pad_token_id or 0)
    given = {"input_ids": rows, "attention_mask": present}
    if types is not None:
        given["token_type_ids"] = padded(types)[0]
    if answers is not None:
        given["decoder_input_ids"], seen = padded(answers)
        given["decoder_attention_mask"] = present_of_answers = seen
        present = present_of_answers
    out = model(**given)
    logits = next(out[key] for key in ("logits", "prediction_logits") if key in out)
    second = next((out[key] for key in ("seq_relationship_logits", "sop_logits") if key in out), None)
    return logits[present.bool()], second


def ours(found, device="cpu"):
    model = Model(found.shape)
    detector = Detector(found.shape) if any(name.startswith(hub.DETECTOR) for name in found.tensors) else None
    model.load_state_dict({k: v for k, v in found.tensors.items() if not k.startswith(hub.DETECTOR)})
    if detector is not None:
        mine = {k.removeprefix(hub.DETECTOR): v for k, v in found.tensors.items() if k.startswith(hub.DETECTOR)}
        detector.load_state_dict(mine)
        model.detector = detector
    return model.eval()


def our_logits(model, documents, answers=None, types=None):
    tokens, layout = flat(documents)
    kinds = None if types is None else torch.from_numpy(np.concatenate(types))
    states = model(tokens, layout, *(() if answers is None else flat(answers)), types=kinds)
    second = model.following(states, layout) if model.pooler is not None else None
    return (model.detector(states) if hasattr(model, "detector") else model.logits(states)), second


def is_pair(model):
    return bool(model.config.is_encoder_decoder)
