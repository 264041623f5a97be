"""The frame of an exported tokenizer: texts get the special tokens they had when the model was fine-tuned.

Whatever frame a `tokenizer.json` had (RoBERTa parts a pair by two tokens, T5 begins with none), here it is

    [CLS] a [SEP]        [CLS] a [SEP] b [SEP]        a [SEP], of an encoder with a decoder that writes

Promises: ids of the texts are untouched, as are what a text is cut into and its offsets. Costs the vocabulary once as
JSON. Refuses what `operators/text/tokenizer` refuses.
"""

import json
from collections.abc import Mapping
from typing import Any

from tundish.operators.model.shape import Shape
from tundish.operators.text import tokenizer, tokenizer_json


def framed(vocabulary: bytes, shape: Shape, *, started: bool = True) -> bytes:
    """A vocabulary as a `tokenizer.json` with that frame; the second text of a pair is of the second type where the
    model has two. `started`: whether a text begins with [CLS]."""
    pieces, kind = tokenizer.load(vocabulary), min(1, max(0, shape.types - 1))
    body = vocabulary
    if pieces.file == tokenizer.MODEL:
        body = tokenizer_json.export(vocabulary, framed=True, second=kind)
    said = json.loads(body)
    names = {number: name for name, number in tokenizer.entries(said)}
    first, last = (names[pieces.specials[token]] for token in ("[CLS]", "[SEP]"))
    frame = _template(first if started else "", last, kind, {name: number for number, name in names.items()})
    plain = {"truncation": None, "padding": None}
    return json.dumps({**said, **plain, "post_processor": _trimmed(said, frame)}, ensure_ascii=False).encode()


def _template(first: str, last: str, kind: int, ids: Mapping[str, int]) -> dict[str, Any]:
    start = [{"SpecialToken": {"id": first, "type_id": 0}}] if first else []
    one, two = ({"Sequence": {"id": each, "type_id": of}} for each, of in (("A", 0), ("B", kind)))
    middle, end = ({"SpecialToken": {"id": last, "type_id": of}} for of in (0, kind))
    return {
        "type": "TemplateProcessing",
        "single": [*start, one, middle],
        "pair": [*start, one, middle, two, end],
        "special_tokens": {
            name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in sorted({first, last} - {""})
        },
    }


def _trimmed(said: Mapping[str, Any], frame: dict[str, Any]) -> dict[str, Any]:
    """With what a vocabulary of bytes does besides: offsets without the space before a word."""
    before = said.get("post_processor") or {}
    steps = before.get("processors", [before])
    trims = next((each for each in steps if each.get("type") in ("ByteLevel", "RobertaProcessing")), None)
    if trims is None:
        return frame
    bytewise = {"type": "ByteLevel", "use_regex": True}
    bytewise |= {name: bool(trims.get(name, True)) for name in ("add_prefix_space", "trim_offsets")}
    return {"type": "Sequence", "processors": [bytewise, frame]}
