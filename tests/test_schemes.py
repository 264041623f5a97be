"""Which filesystem a URI means, whose credentials go with it, and what is refused: nothing here asks a network."""

import traceback
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from tests.s3_server import S3, serving
from tundish.cluster import schemes, store
from tundish.cluster.schemes import Access, access_of

AZURE = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN", "TUNDISH_STORAGE")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in AZURE:
        monkeypatch.delenv(name, raising=False)
    store._filesystem.cache_clear()
    yield
    store._filesystem.cache_clear()


@pytest.fixture
def s3() -> Iterator[S3]:
    with serving() as server:
        yield server


@pytest.mark.parametrize("uri", ["s3://corpora/a", "s3a://corpora/a", "s3n://corpora/a", "s3://anonymous@corpora/a"])
def test_every_spelling_of_s3_is_asked(s3: S3, uri: str) -> None:
    s3.objects["a"] = b"text"
    assert store.read(uri) == b"text"
    assert {each.who for each in s3.asked} == ({""} if "anonymous" in uri else {"testing"})


def test_files_found_by_a_pattern_are_asked_as_the_pattern_was(s3: S3) -> None:
    s3.objects["in/a.gz"] = b"text"
    assert store.matching("s3://anonymous@corpora/in/*.gz") == ["s3://anonymous@corpora/in/a.gz"]


def test_a_place_is_asked_with_its_own_profile(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text("[writer]\naws_access_key_id = WRITER\naws_secret_access_key = x\n[bare]\n")
    (tmp_path / "config").write_text("[profile writer]\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv(
        "TUNDISH_STORAGE", "s3://corpora/out?profile=writer s3://corpora?anonymous=true s3://x?profile=bare"
    )
    for place in ("out", "in"):
        store.write(f"s3://corpora/{place}/a", b"text")
    by_place = {each.path.split("/")[2]: each.who for each in s3.asked}
    assert by_place == {"out": "WRITER", "in": ""}
    with pytest.raises(ValueError, match="profile 'bare' has no keys"):
        store.read("s3://x/a")


def test_a_place_is_asked_at_its_own_endpoint(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.objects["a"] = b"text"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TUNDISH_STORAGE", f"s3://corpora?endpoint={s3.address}&region=us-east-1")
    assert store.read("s3://corpora/a") == b"text"


AWS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
SERVICES = """[default]
endpoint_url = http://default
[profile near]
endpoint_url = http://profile
[profile both]
endpoint_url = http://profile
services = mine
[services mine]
dynamodb =
  endpoint_url = http://dynamo
s3 =
  endpoint_url = http://services
[profile none]
ignore_configured_endpoint_urls = true
endpoint_url = http://profile
"""


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, "default"), ({"AWS_PROFILE": "near"}, "profile"), ({"AWS_PROFILE": "both"}, "services"),
        ({"AWS_PROFILE": "both", "AWS_ENDPOINT_URL": "http://all"}, "all"), ({"AWS_PROFILE": "none"}, ""),
        ({"AWS_ENDPOINT_URL": "http://all", "AWS_ENDPOINT_URL_S3": "http://s3"}, "s3"),
        ({"AWS_ENDPOINT_URL_S3": "http://s3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, ""),
        ({"TUNDISH_STORAGE": "s3://corpora?endpoint=http://place", "AWS_ENDPOINT_URL_S3": "http://s3"}, "place"),
        ({"TUNDISH_STORAGE": "s3://corpora?profile=near"}, "profile"),
        ({"TUNDISH_STORAGE": "s3://corpora?profile=near", "AWS_ENDPOINT_URL": "http://all"}, "all"),
    ],
)  # fmt: skip
def test_s3_is_asked_where_the_aws_tools_would_ask(
    said: dict[str, str], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(SERVICES)
    (tmp_path / "credentials").write_text("[near]\naws_access_key_id = A\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in AWS:
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    asked: list[str] = []
    monkeypatch.setattr(schemes.pafs, "S3FileSystem", lambda **told: asked.append(told.get("endpoint_override", "")))
    monkeypatch.setattr(schemes.pafs, "resolve_s3_region", lambda bucket: "us-east-1")
    schemes.opened("s3://corpora", access_of("s3://corpora/a", said.get("TUNDISH_STORAGE", "")))
    assert asked == [found]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[writer]\naws_access_key_id = A\naws_secret_access_key WJALRXUT\n", " at line 3"),
        ("aws_secret_access_key = WJALRXUT\n", " at line 1"),
        ("[writer]\na = 1\na = WJALRXUT\n", " at line 3"),
        ("[writer]\nx = \udcffWJALRXUT\n", ""),
    ],
)
def test_a_broken_file_of_credentials_is_told_by_its_line_number_alone(
    text: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_bytes(text.encode(errors="surrogateescape"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("TUNDISH_STORAGE", "s3://corpora?profile=writer")
    with pytest.raises(ValueError, match=rf"credentials cannot be understood{line} \(not shown") as told:
        store.read("s3://corpora/a")
    assert "WJALRXUT" not in "".join(traceback.format_exception(told.value))


def test_the_longest_place_counts_and_only_at_a_folders_end() -> None:
    said = "s3://corpora?profile=one s3://corpora/deep?profile=two"
    assert access_of("s3://corpora/a", said).profile == "one"
    assert access_of("s3://corpora/deep/a", said).profile == "two"
    assert access_of("s3://corpora/deeper", said).profile == "one"
    assert access_of("s3://corpora2/a", said) == Access()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("s3://a?secret_key=x", "'secret_key' of 's3://a'; it may say anonymous, endpoint, profile, region"),
        ("gs://a?profile=x", "'profile' of 'gs://a'; it may say anonymous, endpoint"),
        ("hdfs://a?profile=x", "say something of s3://, gs:// or abfs:// places"),
        ("s3://a?anonymous=maybe", "say anonymous=true or leave it out"),
        ("s3://a?endpoint=ftp://x", "'ftp://x' is no address of a store"),
        ("s3://a?profile=x&anonymous=true", "both profile and anonymous"),
    ],
)
def test_what_cannot_be_said_of_a_place_is_refused(said: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNDISH_STORAGE", said)
    with pytest.raises(ValueError, match=reason.replace("(", r"\(")):
        store.resolve(f"{said.split('?')[0]}/b")


@pytest.mark.parametrize("uri", ["gs://corpora/a/b", "gcs://corpora/a/b", "gs://anonymous@corpora/a/b"])
def test_gcs_is_opened(uri: str) -> None:
    filesystem, path = store.resolve(uri)
    assert (type(filesystem), path) == (pafs.GcsFileSystem, "corpora/a/b")


@pytest.mark.parametrize(
    "uri", ["abfss://corpora@lake.dfs.core.windows.net/a/b", "abfs://corpora/a/b", "az://corpora/a/b"]
)
def test_azure_is_opened(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "@" not in uri:
        with pytest.raises(ValueError, match="of which account, it does not say"):
            store.resolve(uri)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "lake")
    monkeypatch.setenv("AZURE_STORAGE_KEY", "a2V5")
    filesystem, path = store.resolve(uri)
    assert (type(filesystem), path) == (pafs.AzureFileSystem, "corpora/a/b")


def test_azure_without_tls_and_a_key_is_refused_and_does_not_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNDISH_STORAGE", "abfs://corpora?endpoint=http://127.0.0.1:9&account=lake")
    with pytest.raises(ValueError, match="set AZURE_STORAGE_KEY"):
        store.resolve("abfs://corpora/a")


@pytest.mark.parametrize("uri", ["hdfs://namenode:8020/a", "viewfs://cluster/a"])
def test_hadoop_is_opened_or_named_as_missing(uri: str) -> None:
    try:
        pafs.HadoopFileSystem.from_uri("hdfs://namenode:8020")
    except OSError:
        said = rf"cannot read the URI '{uri}' \(no Hadoop client is installed here\); install Java[^\n]*$"
        with pytest.raises(ValueError, match=said):
            schemes.opened(uri)
    else:
        assert isinstance(schemes.opened(uri)[0], pafs.HadoopFileSystem)


@pytest.mark.parametrize("uri", ["nosuch://a/b", "oss://a/b"])
def test_a_scheme_nobody_reads_is_one_sentence(uri: str) -> None:
    with pytest.raises(
        ValueError, match=r"cannot read the URI .*; use a path or a URI such as s3://bucket/folder"
    ) as told:
        store.resolve(uri)
    assert "\n" not in str(told.value)
