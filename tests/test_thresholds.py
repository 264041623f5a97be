"""Thresholds of confidence by language: FineWeb-2's files and tables of one's own, and what Refine makes of them."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tundish.cluster.local import Local
from tundish.cluster.verbs import At
from tundish.pipeline import recipe
from tundish.stages.identify import Identify
from tundish.stages.judge import Judge
from tundish.stages.read import Read
from tundish.stages.refine import Refine
from tundish.stages.stage import Place
from tundish.stages.thresholds import Thresholds, thresholds

# language_score of huggingface/fineweb-2, configs/*.yml, at 05e6729 and baedee4.
FINEWEB2 = {"deu_Latn": 0.821, "fra_Latn": 0.824, "srp_Cyrl": 0.872, "srp_Latn": 0.405, "jpn_Jpan": 0.886}
FINEWEB2 |= {"cmn_Hani": 0.692, "als_Latn": 0.757}
DOCUMENTS = Read(("x.txt",))
ANY = {"rules": [{"signal": "words", "op": "<", "value": 0, "reason": "none"}]}


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """Laid out and written as FineWeb-2's are."""
    folder = tmp_path / "configs"
    folder.mkdir()
    for name, score in FINEWEB2.items():
        body = (
            f"dup_line_frac: 0.263\ndup_n_grams:\n- - 5\n  - 0.141\nlanguage_score: {score}\nstopwords:\n- der\n- und\n"
        )
        (folder / f"{name}.yml").write_text(body)
    (folder / "README.md").write_text("thresholds")
    return folder


def refine(confidence: object, **keep: object) -> Refine:
    asked = {"confidence": str(confidence), **ANY, **keep}
    return Refine(DOCUMENTS, Identify(DOCUMENTS), Judge(DOCUMENTS), keep=asked)


def test_every_form_is_the_same_table(configs: Path, tmp_path: Path) -> None:
    nested = {name: {"language_score": score, "stopwords": ["der"]} for name, score in FINEWEB2.items()}
    (tmp_path / "plain.json").write_text(json.dumps(FINEWEB2))
    (tmp_path / "nested.yaml").write_text(json.dumps(nested))
    (tmp_path / "plain.yml").write_text("\n".join(f"{name}: {score}" for name, score in reversed(FINEWEB2.items())))
    found = thresholds(str(configs), 0.65)
    assert found.rows == FINEWEB2
    for name in ("plain.json", "nested.yaml", "plain.yml"):
        assert thresholds(str(tmp_path / name), 0.65) == found
    assert thresholds(str(configs / "deu_Latn.yml"), 0.65).rows == {"deu_Latn": 0.821}


def test_a_language_is_found_by_any_of_its_codes() -> None:
    known = Thresholds(FINEWEB2 | {"nob_Latn": 0.7, "en": 0.5}, 0.65)
    assert [known.of(code) for code in ("de", "deu", "deu_Latn", "eng_Latn", "no", "nb", "sq", "zh", "ja")] == [
        0.821, 0.821, 0.821, 0.5, 0.7, 0.7, 0.757, 0.692, 0.886,
    ]  # fmt: skip
    assert [known.of(code) for code in ("als", "nn", "tlh", "", None)] == [0.65] * 5, "als is Alemannic to lid.176"
    assert [known.of("sr", script) for script in ("Latn", "Cyrl", None, "Arab")] == [0.405, 0.872, 0.872, 0.872]
    assert known.of("srp_Latn", "Cyrl") == 0.405, "the script of a label goes before that of the letters"
    assert known.of("ja", "Latn") == 0.886, "one row, whatever the letters"


def test_refine_asks_each_language_for_its_own(configs: Path) -> None:
    rows = [  # language, confidence, script, kept
        ("de", 0.822, "Latn", True),
        ("de", 0.820, "Latn", False),
        ("sr", 0.5, "Latn", True),
        ("sr", 0.5, "Cyrl", False),
        ("en", 0.66, "Latn", True),
        ("en", 0.64, "Latn", False),
        (None, 0.0, None, False),
    ]
    languages, sure, scripts, kept = map(list, zip(*rows, strict=True))
    batch = pa.table(
        {
            "language": pa.array(languages, pa.string()),
            "confidence": pa.array(sure, pa.float32()),
            "script": pa.array(scripts, pa.string()),
            "words": [100] * len(rows),
            "origin": ["web"] * len(rows),
        }
    )
    stage = refine(configs)
    assert "script" in stage.needs
    found = stage.columns(batch, At("part-00000", 0))
    assert found["reason"].to_pylist() == [None if one else "language_unsure" for one in kept]
    bounds = [0.821, 0.821, 0.405, 0.872, 0.65, 0.65, 0.65]
    refused = [n for n, one in enumerate(kept) if not one]
    assert [found["threshold"][n].as_py() for n in refused] == [bounds[n] for n in refused]
    assert [found["margin"][n].as_py() for n in refused] == pytest.approx(
        [sure[n] / bounds[n] - 1 for n in refused], abs=1e-6
    )
    lax = refine(configs, unlisted=0.1).columns(batch, At("part-00000", 0))
    assert lax["reason"].to_pylist() == [
        None,
        "language_unsure",
        None,
        "language_unsure",
        None,
        None,
        "language_unsure",
    ]
    bare = stage.columns(batch.drop_columns(["script"]), At("part-00000", 0))  # a stage that tells no scripts
    assert bare["reason"].to_pylist()[2:4] == ["language_unsure"] * 2


def test_what_the_table_says_decides_what_is_run_again(configs: Path) -> None:
    before = refine(configs).outside()
    (configs / "deu_Latn.yml").write_text("language_score:   0.821")
    assert refine(configs).outside() == before
    (configs / "deu_Latn.yml").write_text("language_score: 0.9")
    assert refine(configs).outside() != before
    plain = Refine(DOCUMENTS, Identify(DOCUMENTS), Judge(DOCUMENTS), keep={"confidence": 0.5, **ANY})
    assert plain.outside() == []


def test_a_table_from_a_recipe(configs: Path, tmp_path: Path) -> None:
    text = f"""
        documents: {{Read: {{files: [x.txt]}}}}
        language: {{Identify: {{documents: documents}}}}
        quality: {{Judge: {{documents: documents}}}}
        kept: {{Refine: {{documents: documents, language: language, quality: quality,
                         keep: {{confidence: {configs}, unlisted: 0.7}}}}}}
    """
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    goal = recipe.load(str(path))
    assert goal.sure.of("fr") == 0.824
    assert goal.sure.of("en") == 0.7


def test_pages_of_capitals_and_all_are_decided_in_a_run(configs: Path, tmp_path: Path) -> None:
    """From texts in a file to decisions."""
    (tmp_path / "texts.jsonl").write_text(
        "\n".join(
            json.dumps({"text": text}) for text in ("Das Wasser steigt zweimal am Tag. " * 5, "asdf qwer yxcv " * 5)
        )
    )
    documents = Read((str(tmp_path / "texts.jsonl"),))
    stages = [documents, Identify(documents), Judge(documents)]
    kept = Refine(*stages, keep={"confidence": str(configs), **ANY}, max_loss=1.0)
    made: dict[str, object] = {}
    for stage in (*stages, kept):
        inputs = {name: made[one.address] for name, one in stage.inputs.items()}
        made[stage.address] = stage.run(Local(), inputs, Place(str(tmp_path / stage.address), stage.fingerprint))
    found = made[kept.address].table()
    assert found["reason"].to_pylist() == [None, "language_unsure"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("", "holds no table of thresholds"),
        ("- 1\n- 2\n", "holds no table of thresholds"),
        ("de: [", "is no YAML or JSON"),
        (b"\xff\xfe\xfa", "is no YAML or JSON"),
        ("german: 0.5", "names 'german', no code of a language; write de, deu or deu_Latn"),
        ("default: 0.5", "names 'default', no code"),
        ("1: 0.5", "names 1, no code"),
        ("de: high", "says 'high' for de; a threshold is a number from 0 to 1"),
        ("de: 82.1", "says 82.1 for de"),
        ("de: true", "says True for de"),
        ("de: .nan", "says nan for de"),
        ("de: {stopwords: [der]}", "has no language_score for de; add it"),
    ],
)
def test_a_malformed_table_is_refused_by_name(tmp_path: Path, body: str | bytes, told: str) -> None:
    path = tmp_path / "table.yml"
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    with pytest.raises(ValueError, match=r"table\.yml") as error:
        refine(path)
    assert told in str(error.value)


def test_norwegian_is_no_refusal(tmp_path: Path) -> None:
    """YAML reads a bare `no` as false."""
    (tmp_path / "t.yml").write_text("no: 0.8\nde: 0.7\n")
    assert thresholds(str(tmp_path / "t.yml"), 0.65).of("no") == 0.8


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "none.yml"):
        with pytest.raises(ValueError, match=r"there is no table of thresholds at|holds no thresholds of languages"):
            refine(path)
    keep = {"confidence": 1.5, **ANY}
    with pytest.raises(ValueError, match=r"Refine\.keep\.confidence is 1\.5; it is a likelihood"):
        Refine(DOCUMENTS, Identify(DOCUMENTS), Judge(DOCUMENTS), keep=keep)
    with pytest.raises(ValueError, match="no language to look at"):
        Refine(DOCUMENTS, None, Judge(DOCUMENTS), keep={"confidence": str(tmp_path / "none.yml"), **ANY})


def test_kept_languages_are_found_by_any_of_their_codes() -> None:
    model = Identify(DOCUMENTS, "glotlid.bin", codes="model")
    stage = Refine(DOCUMENTS, model, Judge(DOCUMENTS), keep={"language": ["de", "srp_Latn"], **ANY})
    said = ["deu_Latn", "srp_Latn", "srp_Cyrl", "nld_Latn", "de", None]
    batch = pa.table({"language": said, "confidence": [0.9] * 6, "words": [9] * 6, "origin": ["web"] * 6})
    found = stage.columns(batch, At("part-00000", 0))["reason"].to_pylist()
    assert [one is None for one in found] == [True, True, False, False, True, False]
    with pytest.raises(ValueError, match=r"'deu_Latn', which lid\.176 calls no language; did you mean 'de'"):
        Refine(DOCUMENTS, Identify(DOCUMENTS), Judge(DOCUMENTS), keep={"language": ["deu_Latn"], **ANY})


def test_a_rule_on_a_column_of_refines_own_is_refused() -> None:
    rule = {"signal": "margin", "op": "<", "value": 0.1, "reason": "close"}
    with pytest.raises(ValueError, match="'margin', a column of its own"):
        Refine(DOCUMENTS, Identify(DOCUMENTS), Judge(DOCUMENTS), keep={"rules": [rule]})
