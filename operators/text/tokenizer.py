"""Text to ids, by a SentencePiece `.model` or a Hugging Face `tokenizer.json`: one door for both.

Promises: a text's ids are a function of the text and the file. No special token is added, and none is found in a text:
what spells `[MASK]` gets ordinary pieces, even where `tokenizers` itself would see the special one. The five specials a
masked language model needs are found by their usual names, or their lack is named. Costs: a `.model` goes through our
own kernels, a `tokenizer.json` through the library at about 3 MB a second and core. Refuses what is neither.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer as Library

from tundish.operators.text import vocabulary
from tundish.operators.text.encode import Encoder
from tundish.operators.text.sentencepiece_file import BYTE, CONTROL, SPACE, UNKNOWN, read
from tundish.operators.text.tokenizer_json import cut_of, cutting, export

MODEL, JSON = "vocabulary.model", "tokenizer.json"  # the names of such files beside token shards
NAMES = {  # of each special, and what it is called elsewhere
    "[PAD]": ("[PAD]", "<pad>", "<|padding|>"),
    "[UNK]": ("[UNK]", "<unk>"),
    "[CLS]": ("[CLS]", "<cls>", "<s>"),
    "[SEP]": ("[SEP]", "<sep>", "</s>"),
    "[MASK]": ("[MASK]", "<mask>"),
}
KINDS = ("Unigram", "BPE", "WordPiece", "WordLevel")
WIDE, WIDEST = 1 << 16, 1 << 32


class Tokenizer(Protocol):
    """`size`: ids are below it. `specials`: the five of NAMES, and what else no text becomes, to their ids. `odd`:
    (size,) bool, the ids of unknown characters and of single bytes they are spelt in. `apart`: no piece crosses a
    space, so ids before one are known without what follows. `file`: its name beside shards. `digest` of the file, by
    which shards know it; `content` of what it says (`alike`).
    """

    kind: str
    file: str
    size: int
    digest: str
    content: str
    specials: Mapping[str, int]
    odd: np.ndarray
    apart: bool

    def encode(self, texts: pa.LargeStringArray) -> pa.LargeListArray:
        """(n,) lists of ids, uint16 while `size` fits, else uint32. Null counts as empty."""


@lru_cache(maxsize=4)
def load(data: bytes) -> Tokenizer:
    """The tokenizer in a file's bytes. Raises ValueError for what is none, or lacks a special."""
    return Described(data) if data[:64].lstrip()[:1] == b"{" else Model(data)


def alike(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether both cut texts alike into the same pieces under the same ids, however their files spell that, and
    whatever frame, truncation and padding they add. A SentencePiece model is like its export."""
    return one.digest == other.digest or one.content == other.content


def wide(size: int) -> type[np.uint16] | type[np.uint32]:
    """The type of ids of a vocabulary of this size."""
    if size > WIDEST:
        raise ValueError(f"a vocabulary of {size} pieces has ids that no uint32 holds; take one of at most {WIDEST}")
    return np.uint16 if size <= WIDE else np.uint32


class Model:
    """A SentencePiece model."""

    file = MODEL

    def __init__(self, data: bytes) -> None:
        found = read(data)
        self.data, self.kind, self.size = data, f"sentencepiece {found.kind}", len(found.pieces)
        wide(self.size)
        names = {piece.decode(): number for number, piece in enumerate(found.pieces)}
        hidden = {name for name, number in names.items() if found.types[number] in (UNKNOWN, CONTROL)}
        self.specials = specials_of(names, hidden, "control_symbols of SentencePiece's trainer")
        self.odd = (found.types == BYTE) | (found.types == UNKNOWN)
        self.apart = not (found.suffix or any(SPACE in piece[1:] for piece in found.pieces))

    @cached_property
    def digest(self) -> str:
        return vocabulary.digest(self.data)

    @cached_property
    def content(self) -> str:
        try:
            return content_of(export(self.data), self.specials)
        except ValueError:  # which no tokenizer.json can say, and so none is like it
            return self.digest

    def encode(self, texts: pa.LargeStringArray) -> pa.LargeListArray:
        return self._encoder(texts)

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.data)


class Described:
    """A tokenizer.json, as the library `tokenizers` runs it; its truncation, padding and frame are left aside."""

    file = JSON
    apart = False

    def __init__(self, data: bytes) -> None:
        self.data, self.digest = data, hashlib.sha256(data).hexdigest()
        try:
            self._take(_parsed(data))
        except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:  # of another form somewhere
            raise ValueError(
                f"this tokenizer.json is of a form that is not known ({type(error).__name__}: {error}); "
                "give the file that `tokenizers` saves"
            ) from None

    def _take(self, said: dict[str, Any]) -> None:
        self.kind = f"tokenizers {said['model'].get('type', 'BPE')}"
        names = dict(entries(said))
        self.size = max(names.values(), default=-1) + 1
        wide(self.size)
        hidden = {token["content"] for token in said.get("added_tokens") or () if token.get("special")}
        hidden |= {name for spellings in NAMES.values() for name in spellings if name in names}  # made quiet below
        unknown = _unknown(said["model"], names)
        self.specials = specials_of(names, hidden | {unknown or ""}, "added_tokens, with special: true")
        if said["model"].get("type") == "Unigram" and unknown is None and not _spells_all(said["model"], names):
            raise ValueError(
                "this tokenizer.json has no id for what it does not know; set unk_id, or add the 256 bytes"
            )
        bytes_ = [names[name] for byte in range(256) if (name := f"<0x{byte:02X}>") in names]
        odd = bytes_ if said["model"].get("byte_fallback") else []
        self.odd = np.isin(np.arange(self.size), [*odd, *([names[unknown]] if unknown else [])])
        self._silent = np.isin(np.arange(self.size), [i for n, i in self.specials.items() if n != "[UNK]"])
        self.runs = _quiet(said, names, hidden)

    @cached_property
    def content(self) -> str:
        return content_of(self.data, self.specials)

    def encode(self, texts: pa.LargeStringArray) -> pa.LargeListArray:
        found = [self.runs.encode(text or "", add_special_tokens=False).ids for text in texts.to_pylist()]
        made = lists_of(found, wide(self.size))
        flat = made.values.to_numpy()
        if self._silent[flat].any():
            name = next(n for n, i in self.specials.items() if i in flat[self._silent[flat]])
            raise ValueError(
                f"this tokenizer.json makes its special token {name!r} of ordinary text; give it a name no text spells"
            )
        return made


def lists_of(ids: Sequence[Sequence[int]], kind: type[np.generic]) -> pa.LargeListArray:
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in ids], dtype=np.int64)])
    flat = np.concatenate([np.zeros(0, kind), *(np.array(one, kind) for one in ids)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat))


def specials_of(names: Mapping[str, int], hidden: set[str], where: str) -> dict[str, int]:
    """The five specials under our names, then the others under their own. Refuses a lack, and what texts can spell."""
    found: dict[str, int] = {}
    for special, spellings in NAMES.items():
        name = next((one for one in spellings if one in hidden), None)
        if name is None and (open_ := next((one for one in spellings if one in names), None)):
            raise ValueError(
                f"the vocabulary has {open_!r} as an ordinary piece, which a text can spell; name it among the {where}"
            )
        if name is None:
            raise ValueError(
                f"the vocabulary has no {special} ({' or '.join(spellings[1:])}), which a masked language model needs; "
                f"add it to the {where}"
            )
        found[special] = names[name]
    rest = {name: names[name] for name in hidden if name in names and names[name] not in found.values()}
    return found | dict(sorted(rest.items(), key=lambda each: each[1]))


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        said = json.loads(data)
        kind = said["model"].get("type", "BPE")  # files of old leave it out
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"these {len(data)} bytes begin like a tokenizer.json and are none ({type(error).__name__}: {error}); "
            "give the file that `tokenizers` saves, or a SentencePiece .model"
        ) from None
    if kind not in KINDS:
        raise ValueError(f"this tokenizer.json has a model of type {kind!r}; it is one of {', '.join(KINDS)}")
    return said


def content_of(data: bytes, specials: Mapping[str, int]) -> str:
    """Digest of what a tokenizer.json makes of texts, as the library spells it: space, order of keys, merges as words
    or pairs, and what is not about ids make no difference, nor whether the five specials, which no text becomes, are
    listed as added. Costs it twice in memory."""
    aside: dict[str, Any] = dict.fromkeys(("truncation", "padding", "post_processor", "decoder"))
    said = json.loads(Library.from_str(json.dumps({**_parsed(data), **aside})).to_str())
    five = {name: specials[name] for name in NAMES}
    said["added_tokens"] = [each for each in said["added_tokens"] if each["id"] not in five.values()]
    said["specials"] = five
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def entries(said: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    vocab = said["model"].get("vocab") or {}
    listed = isinstance(vocab, list)
    yield from ((each[0], number) for number, each in enumerate(vocab)) if listed else vocab.items()
    yield from ((token["content"], token["id"]) for token in said.get("added_tokens") or ())


def _unknown(model: Mapping[str, Any], names: Mapping[str, int]) -> str | None:
    if isinstance(number := model.get("unk_id"), int):
        return next((name for name, one in names.items() if one == number), None)
    return name if (name := model.get("unk_token")) in names else None


def _spells_all(model: Mapping[str, Any], names: Mapping[str, int]) -> bool:
    return bool(model.get("byte_fallback")) and all(f"<0x{byte:02X}>" in names for byte in range(256))


def _quiet(said: dict[str, Any], names: Mapping[str, int], hidden: set[str]) -> Library:
    """The library's tokenizer, which finds no special token in a text, neither as one nor as an entry of its model."""
    own = [name for name in hidden if len(name) > 1 and name in names]
    joined = {name[at : at + 2] for name in names if name not in hidden for at in range(len(name) - 1)}
    cuts = cutting([(name, cut_of(name, joined) or 1) for name in sorted(own)])
    before = said.get("pre_tokenizer")
    steps = before["pretokenizers"] if before and before["type"] == "Sequence" else [before] if before else []
    plain = {"truncation": None, "padding": None, "post_processor": None}
    made = {**said, **plain, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, cuts]} if own else before}
    try:
        library = Library.from_str(json.dumps(made))
    except Exception as error:  # the library raises Exception itself
        raise ValueError(
            f"`tokenizers` cannot read this tokenizer.json ({error}); save it anew with that library"
        ) from None
    library.encode_special_tokens = True
    return library
