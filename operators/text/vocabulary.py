"""SentencePiece vocabularies (Kudo and Richardson, arXiv 1808.06226): learn one, encode with it, name it by digest.

Promises: the same sentences in the same order give the same pieces and scores. One thread learns, because models
differ with the thread count. A character the vocabulary lacks falls back to its bytes, so nothing is unknown. A text
that spells `[MASK]` gets ordinary pieces, never the special one. Runs of white space become one space, line breaks
among them, and nothing else is changed: `operators/text/exact_model` says why. Refuses a corpus too small for the
asked size, and says which size it allows.
"""

import hashlib
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Literal

import sentencepiece as spm

from tundish.operators.text.exact_model import SPACES, exact, parts

SPECIALS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
LONGEST = 4192  # bytes of a sentence; SentencePiece leaves longer ones out without a word, so they are cut here
LAYOUT = dict(
    zip(("pad_piece", "unk_piece", "bos_piece", "eos_piece"), SPECIALS, strict=False),
    pad_id=0,
    unk_id=1,
    bos_id=2,
    eos_id=3,
)
SPECIAL = re.compile(r"\[[A-Za-z][A-Za-z0-9_]*\]|<[A-Za-z][A-Za-z0-9_]*>")  # no piece joins a bracket and a letter
OURS = ("<s>", "</s>", "<unk>", "<pad>")  # names SentencePiece takes for something
# SentencePiece leaves out sentences that hold its own mark U+2585, or a NUL, without a word
SPACED = str.maketrans(dict.fromkeys((*SPACES, "\u2585", "\0"), " "))
MODEL_FIELDS = (1, 3, 5)  # of ModelProto: pieces, normaliser, denormaliser; 2 is the training, 4 its self-test
TRAINER_FIELDS = (3, 24, 35)  # of TrainerSpec: model type, white space as suffix, byte fallback


def train(
    sentences: Iterable[str],
    *,
    size: int,
    kind: Literal["unigram", "bpe"] = "unigram",
    coverage: float = 0.9995,
    specials: Sequence[str] = (),
) -> bytes:
    """A model of `size` pieces, among them the five specials and the 256 bytes, as its serialized bytes.

    `coverage`: share of the characters of the corpus that get a piece of their own. `specials`: more of them, which
    get the ids from 5 on. Raises ValueError with the largest (or smallest) size this corpus allows when `size` is
    beyond it.
    """
    if kind not in ("unigram", "bpe"):
        raise ValueError(f"a vocabulary of kind {kind!r} is not known; it is unigram or bpe")
    check_specials(specials)
    out = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=itertools.chain.from_iterable(map(_cut, (s.translate(SPACED) for s in sentences))),
            model_writer=out,
            vocab_size=size,
            model_type=kind,
            character_coverage=coverage,
            byte_fallback=True,
            split_digits=True,
            max_sentence_length=LONGEST,
            num_threads=1,
            minloglevel=2,
            normalization_rule_name="identity",
            **LAYOUT,
            control_symbols=["[MASK]", *specials],  # control symbols are never found in a text
        )
    except RuntimeError as error:
        raise ValueError(_told(str(error), size)) from None
    return exact(out.getvalue())


def check_specials(specials: Sequence[str]) -> None:
    """Refuse names of special tokens that are taken, or that a piece could be confused with."""
    for number, name in enumerate(specials):
        if name in SPECIALS or name in specials[:number]:
            raise ValueError(
                f"the special token {name!r} is there already; name each once, and not {', '.join(SPECIALS)}"
            )
        if not SPECIAL.fullmatch(name) or name.lower() in OURS:
            raise ValueError(f"{name!r} is no name for a special token; write letters in brackets, as [SEP2] or <sep>")


def _cut(sentence: str) -> Iterator[str]:
    """Parts of at most LONGEST bytes, cut behind a space where there is one."""
    most = LONGEST // 4  # characters: none takes more than four bytes
    start = 0
    while len(sentence) - start > most and (start or len(sentence.encode()) > LONGEST):
        stop = sentence.rfind(" ", start, start + most) + 1 or start + most
        yield sentence[start:stop]
        start = stop
    yield sentence[start:]


def _told(error: str, size: int) -> str:
    """SentencePiece's complaint as one sentence with what to do."""
    if most := re.search(r"value <= (\d+)", error):
        return f"the corpus is too small for a vocabulary of {size} pieces; ask for at most {most[1]} or give more text"
    if least := re.search(r"required_chars\. \d+ vs (\d+)", error):
        return f"a vocabulary of {size} pieces cannot hold every character and byte; ask for at least {least[1]}"
    if "sentences_.empty" in error or "all_chars_count" in error:
        return "there is no text to learn a vocabulary from; give sentences that are not blank"
    return f"no vocabulary of {size} pieces could be learned ({' '.join(error.split())}); try another size or more text"


@lru_cache(maxsize=4)
def load(model: bytes) -> spm.SentencePieceProcessor:
    """The model, ready to encode. Refuses bytes that are none."""
    try:
        return spm.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise ValueError(f"these {len(model)} bytes are no SentencePiece model ({error}); give a .model file") from None


def digest(model: bytes) -> str:
    """SHA-256 in hex of what decides the ids: pieces, scores, types, normaliser, model type; of no path or thread."""
    load(model)  # refuses what is no model
    found = hashlib.sha256()
    for number, _, value in parts(model):
        if number in MODEL_FIELDS:
            found.update(b"%d:%d:" % (number, len(value)) + value)
        elif number == 2:
            kept = [(inner, said) for inner, _, said in parts(value) if inner in TRAINER_FIELDS]
            found.update(repr(kept).encode())
    return found.hexdigest()
