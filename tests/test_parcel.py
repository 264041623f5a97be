"""What of a folder goes with a job: the same as Ray's own packer takes, and no key among it."""

import os
import random
import zipfile
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package

from tundish.cluster import parcel

PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----\n"


def laid(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def sent(folder: Path, made: parcel.Parcel, to: Path) -> dict[str, int]:
    """What Ray would send, by its own packer: names and bytes of files, empty folders left aside."""
    create_package(str(folder), to / "sent.zip", include_gitignore=True, excludes=made.excludes)
    with zipfile.ZipFile(to / "sent.zip") as archive:
        return {one.filename: one.file_size for one in archive.infolist() if not one.is_dir()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def test_no_key_goes_and_each_that_stays_is_named(
    folder: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of docs/storage.md lies beside the recipe; so do others, by content, by name and by a link."""
    keys = {
        "key.pem": PEM,
        "deep/plain.txt": f"Bag Attributes\n{PEM}",
        "chain.crt": "-----BEGIN CERTIFICATE-----\n" + "MIIB\n" * 3000 + "-----END CERTIFICATE-----\n" + PEM,
        "old": PEM.replace("PRIVATE", "RSA PRIVATE"),
        "ssh": PEM.replace("PRIVATE", "OPENSSH PRIVATE"),
        "armoured.asc": "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOY",
        "deploy.yaml": "key: |\n    " + PEM.replace("\n", "\n    "),
        "project-1a2b.json": '{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\\nMC4C"}',
        "id_ed25519": "what is in it does not matter",
        "cert.p12": "0",
        "sub/.env": "A=1",
        ".env.production": "A=1",
        ".netrc": "machine h0.example",
        "aws_credentials": "",
        "hf-token.txt": "",
        "Secrets.YAML": "",
        "deploy-key.pem": "",
        "me_accessKeys.csv": "",
        "chosen": "a key that nobody could tell",
    }
    goes = {
        "recipe.yaml": "rows: {Read: {files: [./rows.jsonl]}}",
        "rows.jsonl": '{"text": "-----BEGIN PRIVATE KEY----- stands here, and \\"private_key\\": \\"-----BEGIN too"}\n',
        "key.pub": "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n",
        "ca.pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "tokenizer.json": "{}",
        "monkey.txt": "the secret of the private key",
        "tokens.tsv": "",
        "keys.tsv": "",
        "deep/secretary.jsonl": "",
    }
    laid(folder, keys | goes)
    (folder / "harmless").symlink_to("key.pem")
    (folder / "plain.txt").symlink_to("cert.p12")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TUNDISH_SIGNING_KEY", "chosen")
    made = parcel.packed(folder)
    assert set(sent(folder, made, out)) == set(goes)
    assert set(made.stays) == {*keys, "harmless", "plain.txt"}
    assert made.size == sum(len(text) for text in goes.values())
    why = made.stays
    assert why["chosen"] == "the key of TUNDISH_SIGNING_KEY"
    assert why["id_ed25519"] == "called like a key"
    assert why["ssh"] == "holds a private key"
    assert "key.pem (called like a key)" in made.says()
    assert "\n" not in made.says()
    assert made.keeps("deep/plain.txt") == "holds a private key"
    assert not made.keeps("deep/secretary.jsonl")
    assert made.keeps("sub/.env") == "called like a key"


def test_links_are_followed_as_far_as_the_folder_goes(folder: Path, out: Path, tmp_path: Path) -> None:
    laid(tmp_path / "elsewhere", {"a.txt": "12345", "deep/b.txt": "1"})
    laid(folder, {"2026-11/rows.txt": "123", "root/lease.json": "{}", "root/part": "1", ".git/x": "1", "one.txt": "1"})
    links = {
        "latest": "2026-11",  # a folder inside: its files go along under this name too
        "again.txt": "2026-11/rows.txt",
        "out": "../elsewhere",
        "out.txt": "../elsewhere/a.txt",
        "2026-11/absolute": str(tmp_path / "elsewhere"),
        "2026-11/up": "..",
        "2026-11/self": "self",
        "gone": "nowhere",
        "behind": "root",
        "part": "root/part",
        "hidden": ".git/x",
    }
    for name, to in links.items():
        (folder / name).symlink_to(to)
    made = parcel.packed(folder)
    found = sent(folder, made, out)
    assert found == {"2026-11/rows.txt": 3, "latest/rows.txt": 3, "again.txt": 3, "one.txt": 1}
    assert made.size == sum(found.values())
    assert made.stays == {
        "out": "a link out of the folder",
        "out.txt": "a link out of the folder",
        "2026-11/absolute": "a link out of the folder",
        "latest/absolute": "a link out of the folder",
        "2026-11/up": "a link in a circle",
        "latest/up": "a link in a circle",
        "behind": "a link to what stays here",
        "part": "a link to what stays here",
        "hidden": "a link to what stays here",
    }


def test_what_lies_behind_a_link_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcel, "LARGEST", 1000)
    laid(folder, {"data/large.txt": "x" * 400})
    (folder / "one").symlink_to("data")
    assert parcel.packed(folder).size == 800
    (folder / "two.txt").symlink_to("data/large.txt")
    with pytest.raises(ValueError, match=r"holds more than 0 MB, and no more may go with a job; put the recipe"):
        parcel.packed(folder)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_links_there_are_ray_sends_what_was_counted(folder: Path, out: Path, seed: int) -> None:
    """Folders, files and links between them by chance: circles, links to links, links out; Ray's packer ends, and what
    it sends weighs what was counted and lies inside."""
    rng = random.Random(seed)
    outside = laid(out / "outside", {"secret.txt": "1234567890"})
    folders = [folder]
    for n in range(6):
        folders.append(rng.choice(folders) / f"d{n}")
        folders[-1].mkdir()
    for n in range(8):
        (rng.choice(folders) / f"f{n}").write_text("x" * 3**n)
    for n in range(7):
        to = rng.choice([*folders, *folder.rglob("*"), outside, outside / "secret.txt"])
        there = rng.choice(folders)
        (there / f"l{n}").symlink_to(to if rng.random() < 0.5 else os.path.relpath(to, there))
    made = parcel.packed(folder)
    found = sent(folder, made, out)
    assert sum(found.values()) == made.size
    assert not any(name.endswith("secret.txt") for name in found)
    assert {size for size in found.values()} == {3**n for n in range(8)}


@pytest.mark.parametrize("name", ["a[1]", "a*", "b?", "!c", "#d", "e ", "e  ", " f", "g\\h", "i{j}", "k\nl", "**"])
def test_a_folder_of_any_name_is_left_out_and_no_other(folder: Path, out: Path, name: str) -> None:
    laid(folder, {f"{name}/lease.json": "{}", f"{name}/x": "1", "a1/x": "1", "ab/x": "1", "b1/x": "1", "z/x": "1"})
    made = parcel.packed(folder)
    assert set(sent(folder, made, out)) == {"a1/x", "ab/x", "b1/x", "z/x"}


def test_a_pipe_is_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert parcel.packed(folder).size == 0
