"""Data sets as Hugging Face lays them in a folder: which files belong to which split.

    dataset_dict.json  a folder a split, each as below        (`DatasetDict.save_to_disk`)
    state.json         the Arrow files of one split           (`Dataset.save_to_disk`)
    README.md          `configs:` in its front matter: name, and `data_files` by split   (a repository of the hub)
    data/train-00000-of-00003.parquet and the like: a split is a word of the path        (a repository without configs)

Promises: nothing is loaded but these small files. Refuses a configuration or a split that is not there, with those that
are, and several splits where none was chosen: a test split read by mistake is worse than a question.
"""

import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from tundish.cluster import store
from tundish.stages.read_forms import READERS

ALL = "all"
OWN = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "README.md")  # about the texts
SPLITS = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev")}
SPLITS |= {"test": ("test", "testing", "eval", "evaluation")}
OF_FOLDER = re.compile(r"(?!\.{1,2}$)[^/\\\0]+")  # a name that leads to no other folder


def files_of(folder: str, subset: str | None, split: str | None) -> list[str] | None:
    """The files of a data set in a folder; None where the folder is none, or is a plain one and nothing was chosen."""
    names = set(store.listing(folder)) if _is_folder(folder) else set()
    if "dataset_dict.json" in names:
        held = _json(store.join(folder, "dataset_dict.json")).get("splits", [])
        chosen = _chosen(folder, {str(name): [str(name)] for name in held}, split)
        return [file for name in chosen for file in _saved(store.join(folder, name))]
    if "state.json" in names:
        return _saved(folder)
    configs = _configs(folder) if "README.md" in names else {}
    if configs:
        name = _named("configuration", folder, configs, subset)
        splits = {s: _matching(folder, patterns) for s, patterns in configs[name].items()}
        return _chosen(folder, splits, split)
    if subset or split:
        return _chosen(folder, _by_name(folder, subset), split) if names else None
    return None


def _is_folder(uri: str) -> bool:
    return "*" not in uri and "?" not in uri and store.info(uri).type.name == "Directory"


def _json(uri: str) -> Mapping[str, Any]:
    try:
        found = json.loads(store.read(uri))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{uri} is not JSON ({error}); mend it, or name the files themselves") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"{uri} holds no object; mend it, or name the files themselves")
    return found


def _saved(folder: str) -> list[str]:
    """The Arrow files that a saved data set lists."""
    held = _json(store.join(folder, "state.json")).get("_data_files")
    names = [one.get("filename") for one in held if isinstance(one, Mapping)] if isinstance(held, list) else []
    if not names or not all(isinstance(n, str) and OF_FOLDER.fullmatch(n) for n in names):
        raise ValueError(
            f"{folder}/state.json lists no files of its folder; save the data set again, or name its files"
        )
    return [store.join(folder, name) for name in names]


def _configs(folder: str) -> dict[str, dict[str, list[str]]]:
    """Configuration -> split -> patterns, from the front matter of README.md; the default one first."""
    front = re.match(
        r"---\s*\n(.*?)\n---", store.read(store.join(folder, "README.md")).decode("utf-8", "replace"), re.S
    )
    try:
        told = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError:
        return {}
    listed = told.get("configs") if isinstance(told, Mapping) else None
    configs = [c for c in listed if isinstance(c, Mapping) and "data_files" in c] if isinstance(listed, list) else []
    configs.sort(key=lambda c: not c.get("default"))
    return {str(c.get("config_name", "default")): _data_files(c["data_files"]) for c in configs}


def _data_files(value: Any) -> dict[str, list[str]]:
    """`data_files` in its spellings: a pattern, several, or a list or mapping by split."""
    if isinstance(value, Mapping):
        return {str(split): _strings(paths) for split, paths in value.items()}
    if isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        return {str(o.get("split", "train")): _strings(o.get("path")) for o in value if isinstance(o, Mapping)}
    return {"train": _strings(value)}


def _strings(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list) else [value]) if one]


def _matching(folder: str, patterns: Iterable[str]) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        if pattern.startswith("/") or ".." in pattern.split("/") or "://" in pattern:
            raise ValueError(
                f"{folder}/README.md names {pattern!r}, which lies outside of it; name the files themselves"
            )
        found += [uri for uri in store.matching(store.join(folder, pattern)) if uri.endswith(READERS)]
    return list(dict.fromkeys(found))


def _by_name(folder: str, subset: str | None) -> dict[str, list[str]]:
    """Splits of a folder without configurations: a word of the path below it; `subset` is a folder in it."""
    if subset is not None and subset not in store.listing(folder):
        raise ValueError(f"{folder} has no configuration {subset!r}; it holds {_listed(store.listing(folder))}")
    top = store.join(folder, subset) if subset else folder
    found: dict[str, list[str]] = {}
    for uri in store.matching(top):
        below = uri[len(top) :] if "://" in uri else uri[len(str(store.local(top))) :]
        words = {word.lower() for word in re.split(r"[^A-Za-z]+", below)}
        split = next((name for name, known in SPLITS.items() if words & set(known)), "train")
        if uri.endswith(READERS) and posixpath.basename(uri) not in OWN:
            found.setdefault(split, []).append(uri)
    return found


def _chosen(folder: str, splits: Mapping[str, list[str]], split: str | None) -> list[str]:
    if split == ALL:
        return [one for held in splits.values() for one in held]
    return splits[_named("split", folder, splits, split)]


def _named(what: str, folder: str, known: Mapping[str, Any], name: str | None) -> str:
    field = "subset" if what == "configuration" else "split"
    if name is None and len(known) == 1:
        return next(iter(known))
    if name in known and name is not None:
        return name
    if name is None and field == "subset" and "default" in known:
        return "default"
    wish = f"no {what} {name!r}" if name is not None else f"several {what}s"
    more = f", or {ALL}" if field == "split" else ""
    raise ValueError(f"{folder} has {wish}; choose with Read.{field} (there are {_listed(known)}{more})")


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
