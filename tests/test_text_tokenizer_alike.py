"""Two files are one tokenizer where they make the same ids of every text, however they spell it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.test_text_tokenizer import HOSTILE, encoded, learned
from tests.test_text_tokenizer import model as model  # a fixture
from tests.test_text_vocabulary import sentences
from tundish.operators.text import vocabulary
from tundish.operators.text.tokenizer import KINDS, alike, load
from tundish.operators.text.tokenizer_json import export

Changed = Callable[[dict[str, Any]], Any]


def changed(kind: str, change: Changed) -> tuple[bytes, bytes]:
    """A tokenizer.json as the library saves it, and the same after a change, spelt in another way."""
    body = learned(kind).to_str().encode()
    said = json.loads(body)
    change(said)
    return body, json.dumps(dict(reversed(said.items())), indent=3, ensure_ascii=True).encode()


def words(said: dict[str, Any]) -> None:
    """Merges as older versions wrote them."""
    if "merges" in said["model"]:
        said["model"]["merges"] = [" ".join(each) for each in said["model"]["merges"]]


def unframed(said: dict[str, Any]) -> None:
    said.update(truncation=None, padding=None, post_processor=None, decoder=None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [lambda said: None, words, unframed])
def test_the_form_of_a_file_makes_no_difference(kind: str, change: Changed) -> None:
    one, other = changed(kind, change)
    assert load(one).digest != load(other).digest, "which shards know a file by, and is of its bytes"
    assert alike(load(one), load(other))
    texts = [*sentences(20, seed=4), *HOSTILE]
    assert encoded(one, texts) == encoded(other, texts)


def swapped(said: dict[str, Any]) -> None:
    """Two pieces have each other's ids."""
    vocab = said["model"]["vocab"]
    if isinstance(vocab, list):
        vocab[-1], vocab[-2] = vocab[-2], vocab[-1]
    else:
        one, two = list(vocab)[-2:]
        vocab[one], vocab[two] = vocab[two], vocab[one]


def cased(said: dict[str, Any]) -> None:
    said["normalizer"] = {"type": "Lowercase"}


def cut(said: dict[str, Any]) -> None:
    said["pre_tokenizer"] = {"type": "Whitespace"}


def added(said: dict[str, Any]) -> None:
    size = len(said["model"]["vocab"])
    said["added_tokens"].append({**said["added_tokens"][0], "id": size, "content": "qq", "special": False})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [swapped, cased, cut, added])
def test_what_makes_other_ids_is_another(kind: str, change: Changed) -> None:
    one, other = changed(kind, change)
    assert not alike(load(one), load(other))


def test_merges_in_another_order_are_another() -> None:
    one, other = changed("BPE", lambda said: said["model"]["merges"].reverse())
    assert not alike(load(one), load(other))


def test_a_model_is_like_its_export(model: bytes) -> None:
    """Framed or not, and spelt in another way."""
    for framed in (False, True):
        body = json.dumps(json.loads(export(model, framed=framed)), indent=1).encode()
        assert alike(load(model), load(body))
        assert alike(load(body), load(model))
    other = vocabulary.train(sentences(seed=9), size=400, kind="unigram")
    assert not alike(load(model), load(other))
    assert not alike(load(model), load(export(other)))
