"""`tundish vocabulary`: what a file or a root holds, how it suits texts, and the exported file."""

import io
import json
from pathlib import Path

import pytest
import sentencepiece as spm
from click.testing import CliRunner
from tokenizers import Tokenizer

from tests.test_text_vocabulary import sentences
from tests.toys import small_root
from tundish.operators.text import vocabulary
from tundish.operators.text.fertility import words
from tundish.operators.text.tokenizer_json import export
from tundish.pipeline.cli import cli
from tundish.pipeline.report import report


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "mine.model"
    path.write_bytes(vocabulary.train(sentences(), size=400))
    return path


def said(*parts: object) -> str:
    found = CliRunner().invoke(cli, ["vocabulary", *map(str, parts)], catch_exceptions=False, standalone_mode=False)
    return found.output


def test_what_a_file_is(model: Path) -> None:
    found = json.loads(said(model, "--json"))
    assert (found["kind"], found["size"], found["type"]) == ("sentencepiece unigram", 400, "uint16")
    assert found["digest"] == vocabulary.digest(model.read_bytes())
    assert found["specials"] == vocabulary.SPECIALS
    assert found["languages"] is None
    assert "400 pieces" in said(model)


def test_fertility_on_files_by_language_and_by_file(model: Path, tmp_path: Path) -> None:
    texts = sentences(6, seed=2)
    rows = [{"text": text, "language": "xx" if n % 2 else "yy"} for n, text in enumerate(texts)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"text": None}])) + "\n")
    (tmp_path / "plain.txt").write_text(texts[0])
    found = json.loads(said(model, tmp_path / "rows.jsonl", tmp_path / "plain.txt", "--json"))
    by_name = {row["name"]: row for row in found["languages"]["rows"]}
    assert set(by_name) == {"xx", "yy", "plain.txt", "all"}
    loaded = vocabulary.load(model.read_bytes())
    assert by_name["xx"]["tokens"] == sum(len(loaded.encode(text)) for text in texts[1::2])
    assert by_name["all"]["documents"] == 7
    assert by_name["all"]["bytes"] == sum(len(text.encode()) for text in [*texts, texts[0]])
    import pyarrow as pa

    counted = int(words(pa.array(texts[1::2], pa.large_string())).sum())
    assert by_name["xx"]["tokens_per_word"] == by_name["xx"]["tokens"] / counted
    assert found["broken"] == {"no_text": 1}
    assert "left out: 1 rows no_text" in said(model, tmp_path / "rows.jsonl")


def test_an_export_that_is_proven_and_one_that_is_not(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokenizer.json"
    (tmp_path / "plain.txt").write_text("\n".join(sentences(30, seed=2)))
    shown = said(model, tmp_path / "plain.txt", "--to", out)
    assert "the same ids for every text, by construction" in shown
    assert out.read_bytes() == export(model.read_bytes())
    body = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()), model_writer=body, vocab_size=400, byte_fallback=True, minloglevel=2,
        control_symbols=["[PAD]", "[MASK]"],
    )  # fmt: skip
    theirs = tmp_path / "theirs.model"
    theirs.write_bytes(body.getvalue())
    found = json.loads(said(theirs, tmp_path / "plain.txt", "--to", out, "--json"))["export"]
    assert len(found["doubts"]) == 2
    assert found["checked"] > 30
    assert "because it normalises by a table of its own" in said(theirs, "--to", out)
    assert "differ" in said(theirs, "--to", out)
    said(model, "--to", out, "--framed")
    assert Tokenizer.from_file(str(out)).encode("bada [MASK]").ids[0] == 2


def test_a_root_tells_its_own(tmp_path: Path) -> None:
    root = small_root(tmp_path)
    found = json.loads(said(root, "--json"))
    assert found["file"] == "vocabulary.model"
    place = next(Path(root).glob("tokenize-*"))
    own = json.loads((place / "fertility.json").read_text())["language"]
    assert {row["name"]: row["tokens"] for row in found["languages"]["rows"][:-1]} == {
        name or "none": sums["tokens"] for name, sums in own.items()
    }
    page = Path(report(root)).read_text()
    assert "tokens a word" in page
    assert f"{found['languages']['rows'][-1]['bytes_per_token']:.2f}" in page
    assert "Learned from" in page


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (["/nowhere"], "there is nothing at '/nowhere'"),
        (["MODEL", "/nowhere/x.txt"], "there is no file '/nowhere/x.txt'"),
        (["MODEL", "--framed"], "give --to FILE as well"),
        (["JSON", "--to", "x.json"], "is a tokenizer.json already"),
        (["FOLDER"], "there is no run under"),
        (["BAD"], "no SentencePiece model"),
        (["MODEL", "EMPTY"], "there is no text in"),
    ],
)
def test_refusals(model: Path, tmp_path: Path, parts: list[str], sentence: str) -> None:
    places = {"MODEL": model, "FOLDER": tmp_path}
    places |= {name: tmp_path / f"{name.lower()}.jsonl" for name in ("JSON", "BAD", "EMPTY")}
    places["JSON"].write_bytes(export(model.read_bytes()))
    places["BAD"].write_bytes(b"nothing")
    places["EMPTY"].write_bytes(b"")
    with pytest.raises(ValueError, match=sentence):
        said(*(places.get(part, part) for part in parts))
