"""Export of a fine-tuned model: a Hugging Face directory that `AutoModelFor…` loads with the logits it has here.

    model.safetensors  config.json  tokenizer.json  tokenizer_config.json  special_tokens_map.json  README.md
    modules.json  1_Pooling/config.json  sentence_bert_config.json        of vectors, for sentence-transformers

`config.json` has the classes' names, the kind of problem, and under `tundish` what transformers has no place for: the
temperature that logits are to be divided by, the task, the scheme of tags, `length`: tokens of a text with its frame
that were learnt, and `pair`: whether they were two texts. The tokenizer frames texts and pairs as the model learnt them
(`stages/export_frame`), and cuts them at that length where it is asked to. A model that writes goes the way of
`stages/export_written`.

Promises: weights are read again once written and held against what was given; `config.json` is written last, so a
folder that has one is whole. Costs the weights twice in memory. Refuses a folder that holds another model, and heads,
trunks and vocabularies that no class of theirs computes or reads (`operators/model/hub_heads`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tundish.cluster import store
from tundish.operators.model.head_forms import form_told
from tundish.operators.model.heads import Tuned
from tundish.operators.model.hub_heads import PROBLEMS, Told, class_for, written
from tundish.operators.model.shape import Shape
from tundish.operators.text import tokenizer
from tundish.stages import hub
from tundish.stages.examples_tokens import load
from tundish.stages.export import CARD, doubts_of, tokenizer_files
from tundish.stages.export_frame import framed
from tundish.stages.export_step import refusal, refuse_forms
from tundish.stages.export_written import exported_written
from tundish.stages.language_model import vocabulary_in
from tundish.stages.predict_columns import learnt_in
from tundish.stages.tuned import MODES, MODULES, OWN, POOLING, load_tuned, told_in

LIBRARY = "sentence_transformers.models."


def exported_tuned(
    folder: str, to: str, *, card: Callable[[str, int], str], precision: str = "float32"
) -> dict[str, Any]:
    """Lay the fine-tuned model of a folder into another one; what was written, in words and numbers. `card`: the words
    of it, by the architecture and how many parameters it has. Raises ValueError as the docstring above says."""
    own = told_in(folder)
    if own is not None and own.get("head") == "write":
        return exported_written(folder, own, to, card=card, precision=precision)
    if store.exists(store.join(to, hub.CONFIG)):
        raise ValueError(f"{to} holds a model already ({hub.CONFIG}); give another folder, or delete that one")
    if precision not in hub.PRECISIONS:
        raise ValueError(f"precision {precision!r} is none of weights; choose one of {', '.join(hub.PRECISIONS)}")
    refuse_forms(folder)
    model, told = load_tuned(folder)
    plain, vocabulary = told_of(told), vocabulary_in(folder)
    try:
        name = class_for(plain)[1]
    except ValueError as error:
        raise refusal(folder, plain.shape, error) from None
    _fitting(plain.shape, name, vocabulary)
    config, tensors = written(plain, model.state_dict(), settings(told))
    reads, pair = told["length"] or plain.shape.length, learnt_in(folder, told["task"]).pair
    words = tokenizer_files(framed(vocabulary, plain.shape), to, replace(plain.shape, length=reads))
    words += _vectors(model, to, reads) if plain.head == "embedding" else []
    count = sum(each.numel() for each in tensors.values())
    store.write(store.join(to, CARD), card(name, count).encode())
    hub.lay(to, config | {OWN: _own(told, pair)}, tensors, precision, checked=True)
    return {
        "to": to,
        "architecture": name,
        "parameters": count,
        "precision": precision,
        "files": {each: store.size(store.join(to, each)) for each in (hub.WEIGHTS, hub.CONFIG, *words, CARD)},
        "doubts": list(doubts_of(vocabulary)),
    }


def told_of(told: Mapping[str, Any]) -> Told:
    """What `hub_heads` asks of a configuration of ours."""
    problem = PROBLEMS.get(told["task"], "") if told["head"] == "sequence" else ""
    form, dropout = form_told(told, told["head"]), told.get("dropout", 0.1)
    shape, names = Shape(**told["shape"]), tuple(told["names"])
    return Told(shape, told["head"], form, names, problem, dropout, told.get("architecture", ""))


def settings(told: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of special tokens, under their names."""
    return {name: told["specials"].get(token) for name, token in hub.SPECIALS.items()}


def _own(told: Mapping[str, Any], pair: bool | None) -> dict[str, Any]:
    own = {name: told[name] for name in ("task", "scheme", "length") if told.get(name)}
    own |= {} if pair is None else {"pair": pair}
    return own | ({"temperature": told["temperature"]} if told["task"] in ("classify", "multilabel") else {})


def _fitting(shape: Shape, name: str, vocabulary: bytes) -> None:
    """Whether ids of the vocabulary mean in their class what they mean here."""
    pieces = tokenizer.load(vocabulary)
    if pieces.size > shape.vocabulary:
        raise ValueError(
            f"the vocabulary has {pieces.size} pieces and the model's table {shape.vocabulary}; give the model's own"
        )
    pad = pieces.specials["[PAD]"]
    if name.startswith("Roberta") and pad != shape.offset - 1:
        raise ValueError(
            f"a {name} counts positions by the id {shape.offset - 1} of its padding, and [PAD] is {pad} here; "
            "train with a vocabulary whose padding has that id"
        )
    if name.startswith("GPT2") and pad == pieces.specials["[SEP]"]:
        raise ValueError(f"[PAD] and [SEP] are both {pad}, and {name} asks the last token but padding; part them")


def _vectors(model: Tuned, to: str, reads: int) -> list[str]:
    """What sentence-transformers asks beside a trunk: pooled, and at length one; of texts of so many tokens."""
    named = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": LIBRARY + name} for at, (name, path) in enumerate(named)
    ]
    modes = dict.fromkeys(MODES.values(), False) | {MODES[model.pooling]: True}
    pooling = {"word_embedding_dimension": model.encoder.shape.width, **modes, "include_prompt": True}
    read = {"max_seq_length": reads, "do_lower_case": False}
    files: dict[str, Any] = {MODULES: modules, POOLING: pooling, "sentence_bert_config.json": read}
    for name, value in files.items():
        store.write_json(store.join(to, name), value)
    return list(files)


def files_in(folder: str, parts: Iterable[str]) -> dict[str, dict[str, int]]:
    """Of each part, rows by the file they came from, the windows of one counted once; nothing of a part that does not
    lie there."""
    uris = {part: store.join(folder, f"{part}.arrow") for part in parts}
    return {part: _files(uri) for part, uri in uris.items() if store.exists(uri)}


def _files(uri: str) -> dict[str, int]:
    table = load(uri)[0]
    rows = set(zip(table["file"].to_pylist(), table["row"].to_pylist(), strict=True))
    return dict(sorted(Counter(file for file, _ in rows).items(), key=lambda each: (-each[1], each[0])))
