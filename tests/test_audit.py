"""What could run or write what others say: calls that are refused in all four packages, and hostile names at the doors
where data name files."""

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import pytest
import yaml

from tests.test_house import FILES, TOP
from tundish.cluster.local import Local
from tundish.cluster.shards import Damaged, Shard, opened
from tundish.cluster.target import Target
from tundish.pipeline import recipe
from tundish.pipeline.run import run
from tundish.stages import hub, read_hub, thresholds
from tundish.stages.read import Read

ALLOWED = {  # (file, call) -> why it may stand there
    ("cluster/on_ray.py", "pickle.loads"): "what the driver hands to its own workers, and they to it, over Ray",
    ("cluster/on_ray.py", "ray.cloudpickle.loads"): "the same, of keepers",
    ("cluster/ray_tasks.py", "pickle.loads"): "the same, of tasks",
    ("cluster/local.py", "pickle.loads"): "the driver's own file in a temporary folder of its own",
    ("cluster/killable.py", "pickle.loads"): "pipes between this process and those it started",
    ("pipeline/recipe.py", "import runpy"): "a recipe in Python is a program, and whoever says `run` runs it",
    ("pipeline/recipe.py", "runpy.run_path"): "the same",
    ("stages/compress_onnx.py", "importlib.import_module"): "names of packages that stand in the code",
}
RUNS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "runpy.run_path", "importlib.import_module"}
RUNS |= {"torch.load", "joblib.load", "tempfile.mktemp", "ssl._create_unverified_context", "shutil.unpack_archive"}
LOADERS = {"load", "loads", "Unpickler"}
MODULES = {"shelve", "marshal", "dill", "joblib", "tarfile", "jsonpickle", "runpy"}
PICKLES = ("pickle", "cloudpickle", "_pickle", "ray.cloudpickle")
NAMES = ("../../x", "/etc/passwd", "a\0b", "x" * 5000, "..", "sub/../../x")


def said(node: ast.AST) -> str:
    """A dotted name as it is written; "" for what is none."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{inner}.{node.attr}" if isinstance(node, ast.Attribute) and (inner := said(node.value)) else ""


def keyword(call: ast.Call, name: str) -> object:
    found = [each.value for each in call.keywords if each.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else (found[0] if found else None)


def suspects(source: str) -> Iterator[str]:
    """Calls and imports of a source that let data run or write."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (f"import {each.name}" for each in node.names if each.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if node.module in PICKLES or (node.module or "").split(".")[0] in MODULES:
                yield f"import {node.module}"  # a bare name would hide from this test
        elif isinstance(node, ast.Call):
            name = said(node.func)
            module, _, last = name.rpartition(".")
            refused = (
                name in RUNS,
                module in PICKLES and last in LOADERS,
                last in ("extract", "extractall") and "zip" in module.lower(),
                name in ("yaml.unsafe_load", "yaml.full_load") or (name == "yaml.load" and not _safe(node)),
                name in ("np.load", "numpy.load") and keyword(node, "allow_pickle") is not False,
            )
            if any(refused):
                yield name
            elif keyword(node, "shell") is True:
                yield f"{name}(shell=True)"
            elif keyword(node, "trust_remote_code") is True or keyword(node, "verify") is False:
                yield f"{name}(…)"


def _safe(call: ast.Call) -> bool:
    """By one of the two loaders of ours, which `test_the_loaders_of_yaml_make_no_objects` looks at."""
    given = [*call.args[1:], *(each.value for each in call.keywords)]
    return [said(each) for each in given] in (["_LOADER"], ["_Loader"], ["yaml.SafeLoader"])


def test_nothing_runs_or_unpacks_what_data_say() -> None:
    found = {(p.relative_to(TOP).as_posix(), call) for p in FILES for call in suspects(p.read_text())}
    assert found <= set(ALLOWED), sorted(found - set(ALLOWED))


@pytest.mark.parametrize(
    "source",
    [
        "eval(x)",
        "import pickle\npickle.load(f)",
        "from pickle import loads",
        "import ray\nray.cloudpickle.loads(b)",
        "yaml.load(t, yaml.Loader)",
        "yaml.load(t)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)",
        "subprocess.run(x, shell=True)",
        "zipfile.ZipFile(f).extractall()\nzip_file.extractall(p)",
        "import tarfile",
        "load(m, trust_remote_code=True)",
    ],
)
def test_the_audit_sees_what_it_looks_for(source: str) -> None:
    assert list(suspects(source))


def test_the_loaders_of_yaml_make_no_objects() -> None:
    evil = "x: !!python/object/apply:os.system ['true']"
    for loader in (thresholds._LOADER, recipe._Loader):
        with pytest.raises(yaml.YAMLError, match="could not determine a constructor"):
            yaml.load(evil, loader)


def forged(folder: Path, about: Mapping[str, object] = MappingProxyType({}), **changed: object) -> str:
    """A sealed dataset whose manifest was changed by hand."""
    target = Target(str(folder / "toy-0123456789"), "key")
    writer = target.writer("part-00000")
    writer.write(pa.table({"n": [1, 2]}))
    target.seal([writer.finish({}, {})], **about)
    manifest = folder / "toy-0123456789/manifest.json"
    told = json.loads(manifest.read_text())
    told["shards"][0] |= changed
    manifest.write_text(json.dumps(told))
    return target.uri


@pytest.mark.parametrize("name", [*NAMES, ".hidden", "", "a\\b"])
def test_a_shards_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    """What is made of a shard is written under its name."""
    with pytest.raises(Damaged, match="is no name of a shard") as told:
        opened(forged(tmp_path, name=name))
    assert len(str(told.value)) < 500
    with pytest.raises(ValueError, match="is no name of a shard"):
        Shard.of({"name": name, "file": "x", "rows": 0, "size": 0, "digest": "", "columns": []})


def test_a_shard_whose_file_lies_elsewhere_is_read_only_if_its_digest_is_right(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"a file of this machine")
    uri = forged(tmp_path, {"kind": "archives"}, file=str(tmp_path / "secret"))
    found = opened(uri)
    assert found is not None
    with pytest.raises(Damaged, match="does not match its digest"):
        found.read("part-00000")


OUT = ["../runs/x.json", "/etc/hostname", "file:///etc/hostname", "http://127.0.0.1/a", "../../x", "../lease.json",
       "..", ".", "", "a\\b", "../../read-0123456789/a", "../read-0123456789", "a/../../../etc/x",
       "../read-0123456789/../../x"]  # fmt: skip


@pytest.mark.parametrize("file", OUT)
def test_a_shards_file_leads_nowhere_out_of_its_root(tmp_path: Path, file: str) -> None:
    with pytest.raises(Damaged, match=r"names the file .* which is none of its root\); restore it, or delete it"):
        opened(forged(tmp_path, file=file))


@pytest.mark.parametrize(
    ("file", "about"),
    [
        ("../read-0123456789/part-00000.parquet", {}), ("ranges/part-00000.parquet", {}), ("a..b", {}),
        ("../gather-0123456789/../extract-0123456789/part-00000.parquet", {}),
        ("/data/a.warc.gz", {"kind": "archives"}), ("s3://corpora/a.warc.gz", {"kind": "archives"}),
        ("s3://corpora/tokenize-0123456789/part-00000.arrow", {"origins": {}}),
    ],
)  # fmt: skip
def test_files_of_the_same_root_and_what_is_read_in_place_are_let_be(tmp_path: Path, file: str, about: dict) -> None:
    found = opened(forged(tmp_path, about, file=file))
    assert found is not None
    assert found.shards[0].file == file


def test_token_shards_alone_are_mixed_in_from_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="none of its root"):
        opened(forged(tmp_path, {"origins": {}}, file="/etc/hostname"))


@pytest.mark.parametrize("name", NAMES)
def test_an_index_of_weights_names_files_of_its_folder_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(b"")
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    (folder / hub.INDEX).write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises((ValueError, OSError)):
        hub.tensors_in(str(folder))


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_data_set_names_files_of_its_folder_alone(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    if name == "x" * 5000:  # a name, if one that no file has
        assert read_hub._saved(str(folder)) == [str(folder / name)]
        return
    with pytest.raises(ValueError, match="lists no files of its folder"):
        read_hub._saved(str(folder))


@pytest.mark.parametrize("pattern", ["../../x", "/etc/passwd", "sub/../../x", "file:///etc/passwd", ".."])
def test_a_card_names_files_of_its_folder_alone(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match="lies outside of it"):
        read_hub._matching(str(tmp_path), [pattern])


def test_odd_names_of_files_and_origins_make_no_odd_files(tmp_path: Path) -> None:
    """What is read may be called as it likes: what is written is called by numbers."""
    odd = ["CON", "a b;rm -rf", "ä\u202egpj", "-rf", "x" * 200, "$(true)", "%2e%2e%2fx"]
    (tmp_path / "in").mkdir()
    for name in odd:
        (tmp_path / "in" / f"{name}.txt").write_text(f"The text of a file with an odd name, {len(name)}.\n")
    root = tmp_path / "root"
    made = run(Read((f"{tmp_path}/in/*.txt",)), Local(), str(root))
    (dataset,) = made.datasets.values()
    assert dataset.rows == len(odd)
    written = {path.name for path in root.rglob("*")}
    assert not [
        name for name in written if not name.isascii() or any(one in name for one in (" ", "$", "%", ";", "CON"))
    ]
