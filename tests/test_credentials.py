"""No secret in what is printed, recorded or sent: by shape, by name, and by canaries that go through whole runs."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_s3 import bucket  # noqa: F401 - a fixture
from tundish.cluster import jobs, store
from tundish.cluster.credentials import carried, redacted, refuse, refuse_within, secret
from tundish.pipeline.cli import call
from tundish.pipeline.recipe import load
from tundish.pipeline.run import run

CANARY = "wJalrXUtnFEMI+K7MDENG/bPxRfiCYzCANARY"
QUOTED = "wJalrXUtnFEMI%2BK7MDENG%2FbPxRfiCYzCANARY"
TOKEN = "".join(map(chr, range(ord("a"), ord("z"))))


# -- what it looks like


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"s3://AKIA123:{QUOTED}@bucket/root", "s3://***@bucket/root"),
        (f"s3://AKIA123:{CANARY}@bucket/root", "s3://***@bucket/root"),
        (f"https://:{TOKEN}@host/a", "https://***@host/a"),
        (f"two: a://b:{TOKEN}@c and d://e:{TOKEN}@f", "two: a://***@c and d://***@f"),
        (f"abfs://c@a.dfs/x?sv=1&sig={QUOTED}&se=2", "abfs://c@a.dfs/x?sv=1&sig=***&se=2"),
        (f"https://b/x?X-Amz-Credential={TOKEN}&X-Amz-Date=1", "https://b/x?X-Amz-Credential=***&X-Amz-Date=1"),
        (f"https://b/x?a=1&x-goog-signature={TOKEN}#f", "https://b/x?a=1&x-goog-signature=***#f"),
        (f"s3://b/x?access_key=k1&secret_key={TOKEN}", "s3://b/x?access_key=***&secret_key=***"),
        (f"AWS_SECRET_ACCESS_KEY={TOKEN} x", "AWS_SECRET_ACCESS_KEY=*** x"),
        (f'{{"HF_TOKEN": "{TOKEN}"}}', '{"HF_TOKEN": "***"}'),
        (f"Authorization: Bearer {TOKEN}", "Authorization: Bearer ***"),
        (f"'authorization': 'Basic {TOKEN}=='", "'authorization': 'Basic ***'"),
        (f"a\n-----BEGIN RSA PRIVATE KEY-----\n{TOKEN}\n-----END RSA PRIVATE KEY-----\nb",
         "a\n-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----\nb"),
        (f"by hf_{TOKEN}", "by hf_***"),
        (f"S3FileSystem(secret_key='{CANARY}', x=1)", "S3FileSystem(secret_key='***', x=1)"),
        (f"client_secret={CANARY}&x=1", "client_secret=***&x=1"), ("password: hunter2", "password: ***"),
        ('{"password": "two words"}', '{"password": "***"}'), ("--password=x1 -v", "--password=*** -v"),
        (f"x-amz-security-token: {CANARY}", "x-amz-security-token: ***"), ("X-Api-Key: 12345", "X-Api-Key: ***"),
        (f"aws_secret_access_key {CANARY}\n", "aws_secret_access_key ***\n"), ("sessionToken=ab", "sessionToken=***"),
        (f"<SecretAccessKey>{CANARY}</SecretAccessKey>", "<SecretAccessKey>***</SecretAccessKey>"),
        (f"token: {CANARY}", "token: ***"), (f"a secret={CANARY}", "a secret=***"),
        ("the key AKIAIOSFODNN7EXAMPLE is unknown", "the key AKIA*** is unknown"),
        ("'ASIAIOSFODNN7EXAMPLE'", "'ASIA***'"),
    ],
)  # fmt: skip
def test_a_credential_is_not_shown(text: str, told: str) -> None:
    assert redacted(text, {}) == told
    assert redacted(told, {}) == told


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8265/api/jobs/", "https://mastodon.example/@someone", "http://host:80/a@b", "gs://anonymous@b/c",
        "abfs://container@account.dfs.core.windows.net/a", "s3://bucket?endpoint_override=127.0.0.1%3A5000&scheme=http",
        "TUNDISH_TOKENS=8GB", "RAY_AUTH_TOKEN_PATH=/home/me/token", "RAY_AUTH_TOKEN=$(cat token)", "tokens=20k seed=1",
        "Basic English, and bearer certificates", "https://host/page?key=chapter-1&signal=2", "a signature: none",
        "mailto:someone@host and at 12:30@home", "Refine.keep.rules=none", "the password is wrong", "Enter password: ",
        "pad_token: 0, mask_token='<mask>'", "token: 17", "the next token: the", "a secret: none", "password=None",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile", "AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN",
        "the secret access key is unknown", "token: deduplicate-0123456789", "ASIAN and AKIAS", "password=${P}",
    ],
)  # fmt: skip
def test_what_is_none_stays_as_it_was(text: str) -> None:
    assert redacted(text, {"PATH": "signature", "HF_TOKEN": "seed"}) == text


@given(st.text("abcXYZ019+/%_-.~=", min_size=8, max_size=60), st.text(max_size=20), st.text(max_size=20))
def test_a_secret_of_the_environment_is_nowhere_in_what_is_told(value: str, before: str, after: str) -> None:
    told = redacted(f"{before} {value} {after}", {"SOME_SECRET": value})
    assert value not in told
    assert "***" in told


def test_of_two_secrets_the_longer_goes_first() -> None:
    held = {"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefghijkl"}
    assert redacted("abcdefghijkl abcdefgh", held) == "*** ***"


def test_names_that_hold_secrets_and_names_that_hold_places() -> None:
    yes = "AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN HF_TOKEN PASSWORD aws_secret_access_key OPENAI_API_KEY AZURE_SAS"
    no = "AWS_ACCESS_KEY_ID RAY_AUTH_TOKEN_PATH TUNDISH_TOKENS GOOGLE_APPLICATION_CREDENTIALS PASSAGE SECRETARY"
    assert [name for name in yes.split() if not secret(name)] == []
    assert [name for name in no.split() if secret(name)] == []


# -- where it is refused


@pytest.mark.parametrize("uri", [f"s3://key:{QUOTED}@bucket/a", f"https://host/a?sig={QUOTED}"])
def test_a_uri_with_a_credential_is_refused_without_repeating_it(uri: str) -> None:
    assert carried(uri)
    for ask in (refuse, store.read, store.exists, store.matching, lambda it: store.write(it, b"")):
        with pytest.raises(ValueError, match=r"carries a credential \(where the \*\*\* are\)") as told:
            ask(uri)
        assert QUOTED not in str(told.value)
    with pytest.raises(ValueError, match=r"^Read: 's.*carries"):
        refuse_within({"files": ["a.jsonl", ["b", {"c": "s3://k:secret@b"}]]}, "Read")
    refuse_within({"rules": ["?sig=abc", "drop *&token=*"], "files": ["s3://bucket/a"]}, "Vet")


def recipe(folder: Path, files: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({"rows": {"Read": {"files": [files]}}}))
    return str(path)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says on its way to exit code 2, all of it."""
    with pytest.raises(SystemExit) as end:
        call(words)
    told = capsys.readouterr()
    assert end.value.code == 2, told
    return told.out + told.err


def test_a_recipe_a_root_and_a_job_with_one_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, root = recipe(tmp_path, f"s3://key:{QUOTED}@bucket/*.jsonl"), str(tmp_path / "root")
    (tmp_path / "good").mkdir()
    good, there = recipe(tmp_path / "good", "s3://bucket/*.jsonl"), f"s3://key:{QUOTED}@bucket/root"
    at = ["--address", "http://127.0.0.1:1"]
    for words in (
        ["run", bad, "--root", root, "--on", "local"], ["plan", bad, "--root", root],
        ["submit", bad, *at, "--root", root], ["submit", good, *at, "--root", there],
        ["run", good, "--root", there, "--on", "local"],
        ["plan", good, "--root", root, "--set", f"Read.files=[s3://key:{QUOTED}@bucket/b.jsonl]"],
        ["report", there], ["verify", there], ["run", f"s3://key:{QUOTED}@bucket/recipe.yaml"],
    ):  # fmt: skip
        told = refused(words, capsys)
        assert "carries a credential" in told, words
        assert QUOTED not in told, words
    assert not os.path.exists(root)
    with pytest.raises(ValueError, match=r"^Read\.files: "):
        run(load(bad), lambda: pytest.fail("a cluster was brought up"), root)


def test_what_a_dashboard_would_show_is_refused_before_anybody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "http://127.0.0.1:1"
    monkeypatch.setenv("SOME_API_KEY", TOKEN)
    for words, env in (
        (["curl", f"https://user:{TOKEN}@host"], {}), (f"curl -H 'Authorization: Bearer {TOKEN}'", {}),
        (["echo", f"it is {TOKEN}"], {}), (["true"], {"aws_secret_access_key": "abc"}), (["true"], {"PLAIN": TOKEN}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"carries a credential .* the dashboard shows") as told:
            jobs.submit(words, address=nowhere, env=env)
        assert TOKEN not in str(told.value)
        assert "abc'" not in str(told.value)
    with pytest.raises(ValueError, match="carries a credential"):
        jobs.submit(["true"], address=nowhere, metadata={"note": TOKEN})
    with pytest.raises(ValueError, match=r"no Ray dashboard answers at http://\*\*\*@127\.0\.0\.1:1 ") as told:
        jobs.status("http://me:hidden-word@127.0.0.1:1")
    assert "hidden-word" not in str(told.value)


# -- canaries in whole runs

TALKATIVE = """
import os
from dataclasses import dataclass
from tundish.stages.stage import Stage

@dataclass(frozen=True)
class Talkative(Stage):
    def run(self, cluster, inputs, out):
        raise ERROR("a library said " + os.environ["AWS_SECRET_ACCESS_KEY"])

recipe = Talkative()
"""


def held(folder: Path) -> Iterator[bytes]:
    """The bytes of every file, and what a table says when it is decompressed."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            body = path.read_bytes()
            yield body
            if path.suffix == ".parquet":
                table = pq.read_table(io.BytesIO(body))
                yield repr((table.schema.metadata, table.to_pylist())).encode()


@pytest.mark.parametrize(("error", "trace"), [("ValueError", "0"), ("RuntimeError", "0"), ("RuntimeError", "1")])
def test_an_error_that_repeats_a_secret_is_told_and_recorded_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: str, trace: str
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("TUNDISH_TRACE", trace)
    path = tmp_path / "recipe.py"
    path.write_text(TALKATIVE.replace("ERROR", error))
    with pytest.raises(SystemExit) as end:
        call(["run", str(path), "--root", str(tmp_path / "root"), "--on", "local"])
    told = capsys.readouterr()
    assert end.value.code == (2 if error == "ValueError" else 1)
    assert "a library said ***" in told.err
    assert CANARY not in told.out + told.err
    (record,) = (tmp_path / "root" / "runs").glob("*.json")
    assert json.loads(record.read_text())["outcome"] == "failed: a library said ***"
    assert not [body for body in held(tmp_path / "root") if CANARY.encode() in body]


@pytest.mark.skipif(shutil.which("moto_server") is None, reason="moto's server is not installed")
def test_a_run_in_s3_leaves_no_trace_of_what_opened_it(
    bucket: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The canary is the secret key of the environment: all below the root, and all that is printed, is searched."""
    store.write(f"{bucket}/in/rows.jsonl", b"".join(b'{"text": "Row %d of a small table."}\n' % n for n in range(20)))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("HF_TOKEN", "hf_" + TOKEN)
    path, root = recipe(tmp_path, f"{bucket}/in/*.jsonl"), f"{bucket}/root"
    store._filesystem.cache_clear()  # made with another key
    for code, words in (
        (0, ["run", path, "--root", root, "--on", "local", "--json"]),
        (0, ["run", path, "--root", root, "--on", "local"]),
        (0, ["report", root]), (0, ["verify", root]), (2, ["run", path, "--root", f"s3://key:{QUOTED}@corpora/root"]),
        (2, ["run", path, "--root", "s3://no-such-bucket/root", "--on", "local"]),
    ):  # fmt: skip
        with contextlib.suppress(SystemExit) if code else contextlib.nullcontext():
            call(words)
    told = capfd.readouterr()
    s3 = pafs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"])
    pafs.copy_files(root.removeprefix("s3://"), str(tmp_path / "copy"), source_filesystem=s3)
    found = [*held(tmp_path / "copy"), told.out.encode(), told.err.encode()]
    assert any(b'"outcome": "done"' in body for body in found)
    assert any(b"Row 7 of a small table." in body for body in found)  # tables are looked into
    assert "carries a credential" in told.err
    assert "no-such-bucket" in told.err
    for word in (CANARY, QUOTED, TOKEN):
        assert not [body[:300] for body in found if word.encode() in body]
