"""Languages, on real sentences where the data lies beside the checkout."""

import random
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard

from tundish.cluster.assets import asset
from tundish.cluster.verbs import At
from tundish.operators.text import codes, fasttext_file, language
from tundish.operators.text.predict import Predictor
from tundish.stages.identify import Identify
from tundish.stages.read import Read

MEANT = re.findall("..", "arbgbncsdadeelenesetfafifrguhehihuhyitjakakkkoltlvmkmrnlpaplptrorusvtatethtrukvi")
ENGLISH, GERMAN = "The water rises twice a day. ", "Das Wasser steigt zweimal am Tag. "


@pytest.fixture(scope="module")
def model() -> Predictor:
    try:
        path = asset("lid.176")
    except ValueError as error:
        pytest.skip(str(error))
    return language.load(str(path))


@pytest.fixture(scope="module")
def lingua(data: Path) -> dict[str, dict[str, list[str]]]:
    """Length of text -> language -> texts."""
    packed = (data / "lid-lingua" / "lid.tsv.zst").read_bytes()
    lines = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(packed).read().decode().split("\n")
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in lines[1:-1]:
        code, kind, text = line.split("\t")
        found[kind][code].append(text)
    return found


def identified(model: Predictor, *texts: str | None, **asked: object) -> list[dict]:
    return language.identify(pa.array(texts, pa.large_string()), model, **asked).to_pylist()


def test_plain_cases(model: Predictor) -> None:
    found = identified(
        model,
        "The tide rises twice a day along this coast.",
        "Der Fahrplan der Kraniche ist älter als jede Karte.",
        "この町では、朝の潮が一番静かです。",
        "Река вскрывается в апреле, когда тает снег.",
    )
    assert [row["language"] for row in found] == ["en", "de", "ja", "ru"]
    assert [row["script"] for row in found] == ["Latn", "Latn", "Jpan", "Cyrl"]
    assert all(0.5 < row["confidence"] <= 1 for row in found)


def test_types_and_nothing_to_identify(model: Predictor) -> None:
    texts = pa.array([None, "", " \n\t ", "Hello there, friend"], pa.large_string())
    found = language.identify(texts, model, top=3, lines=True)
    assert [(field.name, str(field.type)) for field in found.schema] == [
        ("language", "string"),
        ("confidence", "float"),
        ("margin", "float"),
        ("script", "string"),
        ("candidates", "list<item: struct<language: string, score: float>>"),
        ("shares", "list<item: struct<language: string, share: float>>"),
    ]
    assert found["language"].to_pylist() == [None, None, None, "en"]
    assert found["confidence"].to_pylist()[:3] == found["margin"].to_pylist()[:3] == [0, 0, 0]
    assert found["candidates"].to_pylist()[:3] == found["shares"].to_pylist()[:3] == [[], [], []]
    empty = language.identify(pa.array([], pa.large_string()), model, top=3, lines=True)
    assert empty.num_rows == 0
    assert empty.schema == found.schema


def test_candidates_are_the_models_and_the_margin_is_between_the_first_two(model: Predictor) -> None:
    text = "Kva er klokka no, og kvar bur du?"
    [row] = identified(model, text, top=4)
    raw = model(pa.array([text], pa.large_string()), 4)
    assert [one["language"] for one in row["candidates"]] == [model.model.labels[label] for label in raw.labels[0]]
    scores = [one["score"] for one in row["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert (row["language"], row["confidence"]) == (row["candidates"][0]["language"], scores[0])
    assert row["margin"] == pytest.approx(scores[0] - scores[1], abs=1e-7)
    [every] = identified(model, text, top=1000)
    assert len(every["candidates"]) == len(set(map(str, every["candidates"])))


def test_line_breaks_are_spaces(model: Predictor) -> None:
    text = "Das Wasser steigt\nzweimal am Tag\n\nund fällt wieder."
    assert identified(model, text) == identified(model, text.replace("\n", " "))


def test_the_whole_text_decides(model: Predictor) -> None:
    """Not its first 4,000 characters, as once."""
    start = ENGLISH * 150
    assert len(start) > 4000
    assert identified(model, start)[0]["language"] == "en"
    assert identified(model, start + GERMAN * 2000)[0]["language"] == "de"


def test_a_slice_of_a_column_is_as_its_texts_are(model: Predictor) -> None:
    texts = pa.array([ENGLISH, None, GERMAN, "この町では、\n朝の潮が", "", ENGLISH + "\n" + GERMAN], pa.large_string())
    whole = language.identify(texts, model, top=2, lines=True).to_pylist()
    for start in range(len(texts)):
        assert language.identify(texts.slice(start), model, top=2, lines=True).to_pylist() == whole[start:]


def test_capitals_are_read_as_small_letters(model: Predictor) -> None:
    text = "Der Fahrplan der Kraniche ist älter als jede Karte"
    loud, quiet, named = identified(model, text.upper(), text.lower(), text.replace("Fahrplan", "FAHRPLAN"))
    assert loud == quiet
    raw = model(pa.array([text.replace("Fahrplan", "FAHRPLAN")], pa.large_string()))
    assert named["confidence"] == raw.scores[0, 0], "only where all letters are capitals"


def shares(model: Predictor, text: str) -> dict[str, float]:
    return {one["language"]: one["share"] for one in identified(model, text, lines=True)[0]["shares"]}


def test_a_mixed_page_has_shares(model: Predictor) -> None:
    page = "\n".join([ENGLISH * 3, "Menu", GERMAN * 3, "12.3.2024", "Impressum", "", ENGLISH * 3])
    found = shares(model, page)
    sizes = [len(line) + 1 for line in page.split("\n")]
    assert list(found) == ["en", "de"]
    assert sum(found.values()) == pytest.approx(1)
    assert found["de"] == pytest.approx(sum(sizes[2:5]) / (sum(sizes) - 2), abs=0.01), (
        "short lines go with the one above"
    )
    assert shares(model, "Menu\n" + GERMAN * 3) == {"de": 1.0}, "or with the first below"
    assert list(shares(model, "Karte\nheute\nWetter")) == ["de"], "a text of short lines is of one language"


def test_shares_of_real_sentences(model: Predictor, lingua: dict) -> None:
    """Pages of two languages, sentences and single words of each in turns; the truth is bytes."""
    draw, errors = random.Random(3), []
    for _ in range(60):
        first, second = draw.sample(["de", "en", "fr", "ru", "ja", "es", "pl", "tr", "el", "ko"], 2)
        lines = []
        for code, n in ((first, draw.randint(2, 9)), (second, draw.randint(2, 9))):
            for sentence in draw.sample(lingua["sentences"][code], n):
                lines += [(code, sentence), *([(code, draw.choice(lingua["single-words"][code]))] * draw.randint(0, 1))]
        bytes_ = defaultdict(int)
        for code, line in lines:
            bytes_[code] += len(line.encode()) + 1
        found = shares(model, "\n".join(line for _, line in lines))
        errors.append(abs(found.get(first, 0) - bytes_[first] / sum(bytes_.values())))
    assert np.mean(errors) < 0.01
    assert max(errors) < 0.3  # one long sentence the model is unsure of, in a short page


def test_one_model_a_process(model: Predictor) -> None:
    assert language.load(str(asset("lid.176"))) is model


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "page.ftz").write_text("<html>not found</html>")
    with pytest.raises(ValueError, match=r"page\.ftz is no supervised fastText model"):
        language.load(str(tmp_path / "page.ftz"))
    stage = Identify(Read(("x.txt",)), str(tmp_path / "page.ftz"))
    with pytest.raises(ValueError, match=r"page\.ftz is no supervised fastText model"):
        stage.prepare()
    with pytest.raises(ValueError, match="there is no model"):
        Identify(Read(("x.txt",)), str(tmp_path / "none.bin")).outside()


def test_accuracy_on_real_sentences(model: Predictor, lingua: dict) -> None:
    """20 sentences of each of 40 languages the model is meant for; measured 0.98, and 0.95 is asked."""
    right = total = 0
    for code in MEANT:
        sample = random.Random(7).sample(lingua["sentences"][code], 20)
        right += sum(row["language"] == code for row in identified(model, *sample))
        total += len(sample)
    assert total == 800
    assert right / total >= 0.95


@pytest.mark.parametrize("kind", ["sentences", "word-pairs", "single-words"])
@pytest.mark.parametrize("spoken", [str, str.upper])
def test_what_is_done_to_a_text_never_lowers_the_accuracy(
    model: Predictor, lingua: dict, kind: str, spoken: Callable[[str], str]
) -> None:
    """Against the wheel on the raw text, macro over the languages it knows; in capitals ours is far better."""
    import fasttext

    theirs, known = fasttext.load_model(str(asset("lid.176"))), set(model.model.labels)
    ours, raw = [], []
    for code in sorted({*lingua[kind]} & known):
        texts = [spoken(text) for text in random.Random(1).sample(lingua[kind][code], 60)]
        ours.append(np.mean([row["language"] == code for row in identified(model, *texts)]))
        raw.append(np.mean([theirs.predict(text)[0] == (f"__label__{code}",) for text in texts]))
    assert len(ours) == 66
    assert np.mean(ours) >= np.mean(raw)
    if spoken is str.upper:
        assert np.mean(ours) > np.mean(raw) + 0.2


def test_the_codes_a_recipe_is_checked_against_are_the_models(model: Predictor) -> None:
    assert {*model.model.labels} == {*language.LID_176}


@pytest.mark.parametrize(
    "text",
    [
        "\0" * 1000,
        "a\0b\x01\x1b[0m\x7f\x80\x9f",
        "\u202e\u200b\ufeff",
        "x" * 5_000_000,
        "wort " * 1_000_000,
        "ä" * 2_500_000,
        "\n" * 100_000,
        "__label__en " * 50 + "</s>",
        "\U0010ffff\ue000\ud7ff",
    ],
    ids=["nul", "controls", "marks", "one word of 5 MB", "one line of 5 MB", "wide", "breaks", "labels", "unassigned"],
)
def test_hostile_texts(model: Predictor, text: str) -> None:
    [alone] = identified(model, text, top=3, lines=True)
    _, among, plain = identified(model, GERMAN, text, GERMAN, top=3, lines=True)
    assert alone == among
    assert plain["language"] == "de"
    assert 0 <= alone["margin"] <= alone["confidence"] <= 1
    if alone["shares"]:
        assert sum(one["share"] for one in alone["shares"]) == pytest.approx(1)
    if not text.strip("\0\n"):
        assert alone["language"] is None or alone["confidence"] < 0.2


def test_labels_with_scripts_are_read_as_the_codes_rules_know(tmp_path: Path) -> None:
    """As GlotLID and OpenLID write them."""
    from tundish.operators.text.identifier import learn
    from tundish.operators.text.learning import Settings

    lines = {
        "deu_Latn": GERMAN,
        "srp_Latn": "Voda raste dva puta. ",
        "srp_Cyrl": "Вода расте два пута. ",
        "als_Latn": "Uji rritet.",
    }
    texts = [text for text in lines.values() for _ in range(20)]
    labels = [label for label in lines for _ in range(20)]
    body = learn(pa.array(texts, pa.large_string()), pa.array(labels), Settings(buckets=1000, least=1, epochs=20))
    path = tmp_path / "glotlid.bin"
    path.write_bytes(body)
    stage = Identify(Read(("x.txt",)), str(path), top=2, lines=True)
    asked = pa.table({"text": pa.array(list(lines.values()), pa.large_string())})
    found = stage.columns(asked, At("part-00000", 0)).to_pylist()
    assert [row["language"] for row in found] == ["de", "sr", "sr", "sq"]
    assert [row["script"] for row in found] == ["Latn", "Latn", "Cyrl", "Latn"]
    assert stage.makes == tuple(found[0])
    own = Identify(Read(("x.txt",)), str(path), codes="model").columns(asked, At("part-00000", 0))
    assert own["language"].to_pylist() == list(lines)
    assert own.column_names == ["language", "confidence", "margin", "script"]
    mixed = lines["srp_Latn"] * 3 + "\n" + lines["srp_Cyrl"] * 3
    page = pa.table({"text": pa.array([mixed], pa.large_string())})
    both = stage.columns(page, At("part-00000", 0))["shares"].to_pylist()
    assert both == [[{"language": "sr", "share": 1.0}]], "one language in two scripts"


def test_codes_of_languages() -> None:
    assert [codes.short(one) for one in ("eng_Latn", "eng", "en", "cmn_Hani", "zho_Hans", "arz_Arab", "xxx")] == [
        "en", "en", "en", "zh", "zh", "arz", "xxx",
    ]  # fmt: skip
    assert [codes.short(code) for code in language.LID_176] == list(language.LID_176), "lid.176 says short ones already"
    assert codes.means("nob_Latn", "no")
    assert not codes.means("nno_Latn", "no")
    assert codes.is_code("deu_Latn")
    assert not any(map(codes.is_code, ("", "german", "deu-Latn", "deu_latn", "d1", "DE")))


def test_a_stage_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"Identify\.top is 0; make it at least 1"):
        Identify(Read(("x.txt",)), top=0)
    with pytest.raises(ValueError, match=r"Identify\.codes cannot be 'long'"):
        Identify(Read(("x.txt",)), codes="long")


def test_a_model_read_from_bytes_is_the_one_in_the_file(model: Predictor) -> None:
    again = Predictor(fasttext_file.read(asset("lid.176").read_bytes()))
    texts = pa.array([ENGLISH, GERMAN], pa.large_string())
    assert np.array_equal(again(texts, 3).scores, model(texts, 3).scores)
