"""Ids back to texts, by the file that made them: what a model wrote, as people read it.

Promises: for a SentencePiece `.model` what SentencePiece's own `decode` gives, for a `tokenizer.json` what `tokenizers`
gives; special tokens, and ids beyond the vocabulary (tables are padded), are left out. Bytes that make no character
become U+FFFD. What a normaliser changed stays changed: texts come back as the vocabulary keeps them. Costs some 10 us a
text. Refuses what `tokenizer.load` refuses.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial

from tokenizers import Tokenizer as Library

from tundish.operators.text import tokenizer, vocabulary

Speller = Callable[[Iterable[Sequence[int]]], list[str]]


@lru_cache(maxsize=4)
def speller(data: bytes) -> Speller:
    """What spells lists of ids, for the vocabulary in a file's bytes."""
    pieces = tokenizer.load(data)
    silent = {number for name, number in pieces.specials.items() if name != "[UNK]"}
    one: Callable[[list[int]], str]
    if isinstance(pieces, tokenizer.Model):
        one = vocabulary.load(data).decode
    else:  # special ones went before, and the unknown one is to be seen
        one = partial(Library.from_str(data.decode()).decode, skip_special_tokens=False)
    return lambda texts: [
        one([id_ for id_ in map(int, ids) if id_ < pieces.size and id_ not in silent]) for ids in texts
    ]
