"""Manifests signed: nothing changes without a key, and nothing passes that the key did not sign."""

import json
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tundish.cluster import signing, store
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset, opened
from tundish.cluster.target import Target
from tundish.pipeline.cli import call
from tundish.pipeline.run import run
from tundish.pipeline.verify import sign, verify
from tundish.stages.read import Read

PLAIN, PEM, PKCS8 = serialization.NoEncryption(), serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def written(folder: Path, name: str, key: ed25519.Ed25519PrivateKey | None = None) -> tuple[str, str]:
    """The paths of a key and of its public half."""
    key = key or ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(PEM, PKCS8, PLAIN))
    public.write_bytes(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return str(private), str(public)


def sealed(uri: str, rows: int = 3) -> Dataset:
    target = Target(uri, "key")
    writer = target.writer("part-00000")
    writer.write(pa.table({"n": pa.array(range(rows), pa.int64())}))
    return target.seal([writer.finish({}, {})])


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    private, public = written(tmp_path, "own")
    monkeypatch.setenv("TUNDISH_SIGNING_KEY", private)
    return private, public


def test_without_a_key_nothing_is_written_and_with_one_no_other_byte_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tundish.cluster.target.time.time", lambda: 1.5)
    monkeypatch.delenv("TUNDISH_SIGNING_KEY", raising=False)
    sealed(str(tmp_path / "plain" / "toy-0123456789"))
    monkeypatch.setenv("TUNDISH_SIGNING_KEY", written(tmp_path, "own")[0])
    sealed(str(tmp_path / "signed" / "toy-0123456789"))

    def files(name: str) -> dict[str, bytes]:
        folder = tmp_path / name
        found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return {path: body for path, body in found.items() if "/commits/" not in path}

    plain, both = files("plain"), files("signed")
    assert set(both) - set(plain) == {"toy-0123456789/manifest.sig"}
    assert all(both[name] == body for name, body in plain.items())


def test_a_run_signs_every_dataset_and_the_public_half_checks_them(tmp_path: Path, keys: tuple[str, str]) -> None:
    (tmp_path / "a.txt").write_text("one line of text\nanother line\n")
    root = str(tmp_path / "root")
    run(Read((str(tmp_path / "a.txt"),)), Local(), root)
    assert verify(root) == verify(root, keys[1]) == []
    found = list(Path(root).rglob("manifest.json"))
    assert found
    assert all(path.with_name("manifest.sig").is_file() for path in found)


def test_the_signature_is_plain_ed25519_over_what_the_docs_say(tmp_path: Path, keys: tuple[str, str]) -> None:
    """Checked by the library itself, beside our code, over the bytes as they lie."""
    sealed(str(tmp_path / "toy-0123456789"))
    told = json.loads((tmp_path / "toy-0123456789/manifest.sig").read_text())
    body = (tmp_path / "toy-0123456789/manifest.json").read_bytes()
    public = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(told["key"]))
    public.verify(bytes.fromhex(told["signature"]), b"tundish manifest 1\0toy-0123456789\0" + body)


def test_a_changed_manifest_a_missing_signature_and_another_key_are_told_apart(
    tmp_path: Path, keys: tuple[str, str]
) -> None:
    root = tmp_path / "root"
    for name in ("changed", "missing", "fine", "torn"):
        sealed(str(root / f"{name}-0123456789"))
    changed = root / "changed-0123456789/manifest.json"
    changed.write_text(changed.read_text().replace('"key": "key"', '"key": "yek"'))
    (root / "missing-0123456789/manifest.sig").unlink()
    (root / "torn-0123456789/manifest.sig").write_text('{"key": "00')
    assert verify(str(root)) == []
    wrong = {line.partition("-")[0]: line for line in verify(str(root), keys[1])}
    assert set(wrong) == {"changed", "missing", "torn"}
    assert "is not what was signed" in wrong["changed"]
    assert "has no signature" in wrong["missing"]
    assert "cannot be read" in wrong["torn"]
    other = written(tmp_path, "other")[1]
    assert "was signed by another key" in {line.partition("-")[0]: line for line in verify(str(root), other)}["fine"]


def test_a_signed_manifest_cannot_stand_for_another_dataset(tmp_path: Path, keys: tuple[str, str]) -> None:
    sealed(str(tmp_path / "root/small-0123456789"), 3)
    sealed(str(tmp_path / "root/large-0123456789"), 30)
    shutil.rmtree(tmp_path / "root/large-0123456789")
    shutil.copytree(tmp_path / "root/small-0123456789", tmp_path / "root/large-0123456789")
    (wrong,) = verify(str(tmp_path / "root"), keys[1])
    assert wrong.startswith("large-0123456789: the manifest is not what was signed")


def test_a_root_may_be_moved(tmp_path: Path, keys: tuple[str, str]) -> None:
    sealed(str(tmp_path / "here/toy-0123456789/inner"))
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert verify(str(tmp_path / "there"), keys[1]) == []


def test_sealed_again_without_the_key_is_no_longer_signed(
    tmp_path: Path, keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "root/toy-0123456789")
    sealed(uri)
    monkeypatch.delenv("TUNDISH_SIGNING_KEY")
    sealed(uri, 4)
    (wrong,) = verify(str(tmp_path / "root"), keys[1])
    assert "the manifest has no signature" in wrong


def test_the_signature_comes_before_the_manifest(
    tmp_path: Path, keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in between, there is a signature of nothing, and never a manifest that should be signed and is not."""
    uri = str(tmp_path / "toy-0123456789")
    honest = store.write

    def killed(where: str, body: bytes) -> store.Written:
        if where.endswith("manifest.json"):
            raise KeyboardInterrupt
        return honest(where, body)

    monkeypatch.setattr(store, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        sealed(uri)
    assert opened(uri) is None
    assert Path(uri, "manifest.sig").is_file()


def test_an_old_root_is_signed_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TUNDISH_SIGNING_KEY", raising=False)
    root = str(tmp_path / "root")
    made = sealed(f"{root}/toy-0123456789")
    with pytest.raises(ValueError, match="set TUNDISH_SIGNING_KEY"):
        sign(root)
    private, public = written(tmp_path, "own")
    monkeypatch.setenv("TUNDISH_SIGNING_KEY", private)
    with open(made.path("part-00000"), "r+b") as shard:
        shard.write(b"XXXX")
    with pytest.raises(ValueError, match=r"the bytes differ.*; nothing was signed"):
        sign(root)
    assert not Path(root, "toy-0123456789/manifest.sig").exists()
    sealed(f"{root}/toy-0123456789")
    call(["verify", root, "--sign"])
    call(["verify", root, "--key", public])
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if not line.startswith("not known: whether all is there")] == [
        "every shard matches its manifest",
        "1 manifests are signed",
        "every shard matches its manifest, every manifest its signature",
    ]
    assert len(said) == 5, "no run has told what should be there"
    Path(root, "toy-0123456789/manifest.sig").unlink()
    with pytest.raises(SystemExit) as ended:
        call(["verify", root, "--key", public])
    assert ended.value.code == 2
    assert "has no signature" in capsys.readouterr().err


def test_a_key_that_cannot_sign_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("a line of text\n")
    locked, curve = tmp_path / "locked.pem", tmp_path / "curve.pem"
    secret = serialization.BestAvailableEncryption(b"a word")
    locked.write_bytes(ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, secret))
    curve.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, PLAIN))
    (tmp_path / "no.pem").write_text("no key at all\n")
    said = {"locked.pem": "has a passphrase", "curve.pem": "of another kind", "no.pem": "is no Ed25519 key in PEM"}
    for name, reason in {**said, "gone.pem": "there is no file"}.items():
        monkeypatch.setenv("TUNDISH_SIGNING_KEY", str(tmp_path / name))
        with pytest.raises(ValueError, match=reason):
            run(Read((str(tmp_path / "a.txt"),)), Local(), str(tmp_path / "root"))
        assert not (tmp_path / "root").exists()
    with pytest.raises(ValueError, match="is no Ed25519 key in PEM"):
        signing.public_of(str(tmp_path / "no.pem"))


def test_keys_of_openssl_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = str(tmp_path / "key"), str(tmp_path / "pub")
    try:
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True, capture_output=True
        )
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no openssl that makes such keys")
    monkeypatch.setenv("TUNDISH_SIGNING_KEY", private)
    sealed(str(tmp_path / "root/toy-0123456789"))
    assert verify(str(tmp_path / "root"), public) == verify(str(tmp_path / "root"), private) == []
