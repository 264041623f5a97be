"""The command line: what a user's mistake gets, and what a user gets."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TUNDISH = [sys.executable, "-m", "tundish.pipeline.cli"]
TEXT = (
    "The tide comes in twice a day, and the harbour has to be ready for it. When the water is high the boats leave, "
    "and those that have been out come home with what they caught. When it is low the mud lies bare and the birds "
    "walk about on it, looking for worms. Nobody here needs a clock to know which of the two it is, because the smell "
    "of the air and the noise of the ropes against the masts say it long before the eye has had a look."
)
AGENT = "tundish-test/1 (+https://heron.example/bot)"


def tundish(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TUNDISH, *words], capture_output=True, text=True, env={**os.environ, **(env or {})})


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    rows = [{"url": f"http://heron.example/{n}", "text": TEXT + f" That is page {n}."} for n in range(3)]
    rows.append({"url": "http://heron.example/short", "text": "Too short to be of use."})
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "texts.jsonl"


def recipe(tmp_path: Path, text: str) -> str:
    (tmp_path / "recipe.yaml").write_text(text)
    return str(tmp_path / "recipe.yaml")


KEPT = """
documents: {{Read: {{files: [{files}]}}}}
quality: {{Judge: {{documents: documents}}}}
kept: {{Refine: {{documents: documents, quality: quality, rules: {rules}}}}}
"""


@pytest.mark.parametrize(
    ("text", "words", "sentence"),
    [
        ("a: {Judge: {documants: b}}", [], "did you mean 'documents'"),
        ("a: {Read: {files: [nowhere.txt]}}", [], "'nowhere.txt' matches no"),
        ("a: {Ingest: {archives: ['nowhere/*.warc.gz']}}", [], "matches no file"),
        ("a: {Ingest: {archives: ['quux://bucket/a.warc.gz']}}", [], "cannot read the URI 'quux://bucket/a.warc.gz'"),
        (
            f"a: {{Crawl: {{seeds: ['ftp://heron.example'], agent: '{AGENT}', as_of: '2026-11-21'}}}}",
            [],
            "ftp://heron.example",
        ),
        ("a: {Crawl: {seeds: ['http://heron.example/'], agent: bot, as_of: '2026-11-21'}}", [], "agent"),
        ("a: {Read: {files: [x.txt]}}", ["--set", "Sign.bands=1"], "which the recipe does not use"),
        ("a: {Read: {files: [x.txt]}}", ["--wire", "heron"], "--wire 'heron' is not understood"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path: Path, text: str, words: list[str], sentence: str) -> None:
    told = tundish("run", recipe(tmp_path, text), "--on", "local", "--root", str(tmp_path / "root"), *words)
    assert told.returncode == 2, told.stderr
    assert sentence in told.stderr
    assert "Traceback" not in told.stderr
    assert told.stderr.strip().count("\n") == 0


def test_a_missing_recipe_and_an_unknown_command(tmp_path: Path) -> None:
    assert tundish("run", str(tmp_path / "none.yaml")).returncode == 2
    assert tundish("rum").returncode == 2


def test_zero_documents_left_names_the_stage_and_the_reasons(tmp_path: Path, texts: Path) -> None:
    path = recipe(tmp_path, KEPT.format(files=texts, rules="{gopher_short_doc: 1000}"))
    told = tundish("run", path, "--on", "local", "--root", str(tmp_path / "root"))
    assert told.returncode == 2
    assert "no document is left after Refine (top reasons: gopher_short_doc 3" in told.stderr


def test_a_damaged_shard_is_named_and_verify_finds_it(tmp_path: Path, texts: Path) -> None:
    path, root = recipe(tmp_path, KEPT.format(files=texts, rules="{}")), tmp_path / "root"
    assert tundish("run", path, "--on", "local", "--root", str(root), "--until", "Read").returncode == 0
    assert tundish("verify", str(root)).returncode == 0
    (shard,) = root.glob("read-*/part-00000.parquet")
    body = bytearray(shard.read_bytes())
    body[100] ^= 0xFF
    shard.write_bytes(bytes(body))
    told = tundish("run", path, "--on", "local", "--root", str(root))
    assert told.returncode == 2
    assert "part-00000.parquet does not match its digest" in told.stderr
    assert not list(root.glob("refine-*/manifest.json"))
    told = tundish("verify", str(root))
    assert told.returncode == 2
    assert "part-00000" in told.stderr


def test_a_refused_run_says_by_which_rule_and_plan_that_it_would_stop(tmp_path: Path, texts: Path) -> None:
    path, root = recipe(tmp_path, KEPT.format(files=texts, rules="{gopher_short_doc: 9999}")), str(tmp_path / "root")
    for _ in range(2):  # what is sealed is refused again
        told = tundish("run", path, "--on", "local", "--root", root)
        assert told.returncode == 2
        assert "no document is left after Refine" in told.stderr
        assert re.search(r"gopher_short_doc +\d+ +4 +100.0 %", told.stdout), told.stdout
    told = tundish("run", path, "--on", "local", "--root", root, "--json")
    (fired,) = json.loads(told.stdout)["firing"].values()
    assert {rule["reason"]: rule["alone"] for rule in fired["rules"]}["gopher_short_doc"] == 4
    plan = " ".join(tundish("plan", path, "--root", root).stdout.split())
    assert "a run stops here: no document is left after Refine" in plan


def test_run_plan_and_a_changed_threshold(tmp_path: Path, texts: Path) -> None:
    path, root = recipe(tmp_path, KEPT.format(files=texts, rules="{}")), str(tmp_path / "root")
    told = tundish("run", path, "--on", "local", "--root", root, "--json")
    assert told.returncode == 0, told.stderr
    goal = json.loads(told.stdout)
    assert goal["datasets"][goal["goal"]]["rows"] == 4
    fired = {rule["reason"]: rule for rule in goal["firing"][goal["goal"]]["rules"]}
    assert fired["top_2_gram"]["fired"] + fired["gopher_short_doc"]["fired"] == 1
    assert fired["gopher_short_doc"]["alone"] == 1
    assert fired["gopher_short_doc"]["share"] == 0.25
    assert goal["firing"][goal["goal"]]["groups"]["source"] == [{"name": "read", "documents": 4, "lost": 1}]
    steps = json.loads(tundish("plan", path, "--root", root, "--json").stdout)
    assert all(step["current"] for step in steps)
    changed = tundish("plan", path, "--root", root, "--json", "--set", "Refine.rules.gopher_short_doc=60")
    assert [s["because"] for s in json.loads(changed.stdout) if not s["current"]] == [
        "Refine.rules.gopher_short_doc: None -> 60.0"
    ]


def test_stage_prints_a_table_without_ray(texts: Path) -> None:
    told = tundish("stage", "Refine", str(texts), "--json")
    assert told.returncode == 0, told.stderr
    rows = [json.loads(line) for line in told.stdout.split("\n") if line]
    reasons = {row["url"].rsplit("/", 1)[1]: row["reason"] for row in rows}
    assert [name for name, reason in reasons.items() if reason] == ["short"]
    table = tundish("stage", "judge", str(texts))
    assert "Judge: 4 rows" in table.stdout
    assert tundish("stage", "Juge", str(texts)).returncode == 2


def test_ctrl_c_leaves_a_root_that_goes_on(tmp_path: Path, texts: Path) -> None:
    """Exit code 130, one sentence, and the next run ends with the digests of an undisturbed one."""
    rows = [{"url": f"http://heron.example/{n}", "text": TEXT * 20 + str(n)} for n in range(200)]
    for part in range(6):
        with open(tmp_path / f"many-{part}.jsonl", "w") as lines:
            lines.writelines(json.dumps(row | {"url": f"{row['url']}/{part}"}) + "\n" for row in rows)
    text = KEPT.format(files=tmp_path / "many-*.jsonl", rules="{}, keep: {rules: none}")
    path = recipe(tmp_path, text)
    for attempt in range(3):  # Python drops an interrupt that comes within a finaliser
        root = tmp_path / f"root-{attempt}"
        with subprocess.Popen(
            [*TUNDISH, "run", path, "--on", "local", "--root", str(root)], stderr=subprocess.PIPE, text=True
        ) as running:
            while not list(root.glob("judge-*/commits/*.json")) and running.poll() is None:
                time.sleep(0.02)
            running.send_signal(signal.SIGINT)
            stderr = running.communicate()[1]
        if running.returncode:
            break
    assert running.returncode == 130, stderr
    assert "run the same command again" in stderr
    assert "Traceback" not in stderr
    again = tundish("run", path, "--on", "local", "--root", str(root), "--json")
    whole = tundish("run", path, "--on", "local", "--root", str(tmp_path / "other"), "--json")
    assert again.returncode == whole.returncode == 0, again.stderr + whole.stderr
    digests = [{a: d["digest"] for a, d in json.loads(t.stdout)["datasets"].items()} for t in (again, whole)]
    assert digests[0] == digests[1]
