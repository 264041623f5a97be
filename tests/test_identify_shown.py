"""What Identify found, as `why` and the report show it."""

import json
from pathlib import Path

import pytest

from tundish.cluster.assets import asset
from tundish.cluster.local import Local
from tundish.pipeline.report import report
from tundish.pipeline.run import run
from tundish.pipeline.why import why
from tundish.stages.identify import Identify
from tundish.stages.judge import Judge
from tundish.stages.read import Read
from tundish.stages.refine import Refine

ENGLISH, GERMAN = (
    "The water rises twice a day along this coast. ",
    "Das Wasser steigt zweimal am Tag und fällt wieder. ",
)
TEXTS = [
    ENGLISH * 3,
    f"{ENGLISH * 2}\n{GERMAN * 3}\nMenü",
    "Вода растёт дважды в день.",
    "Kva er klokka no, og kvar bur du?",
    "42",
]
RULES = {"rules": [{"signal": "words", "op": "<", "value": 0, "reason": "none"}]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        asset("lid.176")
    except ValueError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("shown")
    (folder / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    documents = Read((str(folder / "texts.jsonl"),))
    goal = Refine(
        documents, Identify(documents, top=2, lines=True), Judge(documents), keep={"confidence": 0.2, **RULES}
    )
    run(goal, Local, str(folder / "root"))
    return folder / "root"


def test_why_tells_margin_script_and_shares(root: Path) -> None:
    found = {n: next(e for e in why(str(root), f"texts.jsonl:{n}") if e.stage == "Identify") for n in range(len(TEXTS))}
    assert [found[n].what for n in (0, 1, 2)] == ["language en", "language de", "language ru"]
    assert found[2].facts["script"] == "Cyrl"
    assert {*found[1].facts} == {"confidence", "margin", "script", "candidates", "shares"}
    assert found[1].facts["candidates"].startswith("de 0.")
    assert found[1].facts["shares"].split()[0::2] == ["de", "en"]
    assert 0 < float(found[3].facts["margin"]) < float(found[3].facts["confidence"])
    assert "script" not in found[4].facts


def test_the_report_counts_scripts_doubts_and_mixed_pages(root: Path) -> None:
    page = Path(report(str(root))).read_text()
    assert "Documents by script: Latn 3, Cyrl 1, none 1." in page
    assert "Lines in more than one language: 1 documents." in page
    assert "margin under 0.1): " in page
