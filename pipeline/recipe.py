"""Recipes: a nested value of stages, spelt in YAML or in Python; both load to the same frozen dataclasses.

    documents:
      Extract: {archives: {Crawl: {seeds: [http://heron.example/], agent: "…", as_of: "2026-11-21"}}}
    language:
      Identify: {documents: documents}
    goal: language

Each key names a stage; a string where a stage is wanted names another key. `goal` is the stage to reach (the last key,
when it is not said). Refuses an unknown key, stage or name with the nearest one it knows, a circle, a missing field.
"""

import dataclasses
import runpy
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tundish.cluster import store
from tundish.stages.bucket import Bucket
from tundish.stages.common_crawl import CommonCrawl
from tundish.stages.corpus import Corpus
from tundish.stages.crawl import Crawl
from tundish.stages.decontaminate import Decontaminate, covering, labelled_files
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.estimate import Estimate
from tundish.stages.extract import Extract
from tundish.stages.finetune import Finetune
from tundish.stages.gather import Gather
from tundish.stages.grade import Grade
from tundish.stages.identify import Identify
from tundish.stages.index import Index
from tundish.stages.ingest import Ingest
from tundish.stages.judge import Judge
from tundish.stages.lines import Lines
from tundish.stages.mask import Mask
from tundish.stages.mix import Mix
from tundish.stages.outlinks import Outlinks
from tundish.stages.perplex import Perplex
from tundish.stages.predict_corpus import Predict
from tundish.stages.pretrain import Pretrain
from tundish.stages.rate import Rate
from tundish.stages.read import Read
from tundish.stages.refine import Refine
from tundish.stages.repeated import Repeated
from tundish.stages.sign import Sign
from tundish.stages.stage import Stage, holds_stage, nearest, plain, refuse_unknown
from tundish.stages.substrings import Substrings
from tundish.stages.teach import Teach
from tundish.stages.tokenize import Tokenize
from tundish.stages.vet import Vet

STAGES: dict[str, type[Stage]] = {
    c.__name__: c
    for c in (
        Crawl, Ingest, CommonCrawl, Outlinks, Read, Extract, Gather, Identify, Vet, Judge, Lines, Repeated,
        Substrings, Mask, Sign, Refine, Deduplicate, Decontaminate, Index, Corpus, Tokenize, Mix, Pretrain, Finetune,
        Teach, Rate, Estimate, Perplex, Bucket, Grade, Predict,
    )
}  # fmt: skip


class _Loader(yaml.SafeLoader):
    """YAML whose days stay the text they are written as: `as_of: 2026-11-21` needs no quotes."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own name
        first: [rule for rule in rules if rule[0] != "tag:yaml.org,2002:timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _parsed(text: str | bytes, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{where} is not YAML: {' '.join(str(error).split())}") from None


def load(path: str) -> Stage:
    """The recipe in a file: `.yaml`/`.yml`, or `.py` with a function or value called `recipe`."""
    if not store.exists(path):
        raise ValueError(f"there is no recipe {path!r}; check the path")
    if path.endswith(".py"):
        return _python(path)
    if not path.endswith((".yaml", ".yml")):
        raise ValueError(f"{path!r} is no recipe; it ends in .yaml, .yml or .py")
    value = _parsed(store.read(path), path)
    if not isinstance(value, Mapping):
        raise ValueError(f"{path} holds no recipe; it is a mapping of names to stages")
    return build(_here(value, Path(path).parent) if "://" not in path else value)


def _python(path: str) -> Stage:
    found = runpy.run_path(path).get("recipe")
    stage = found() if callable(found) and not isinstance(found, Stage) else found
    if not isinstance(stage, Stage):
        raise ValueError(
            f"{path} defines no `recipe`; make it a stage, or a function without parameters that returns one"
        )
    return covered(stage, labelled_files(stage))


def _here(value: Any, folder: Path) -> Any:
    """Strings that begin with `./` or `../` are paths beside the recipe."""
    if isinstance(value, Mapping):
        return {k: _here(v, folder) for k, v in value.items()}
    if isinstance(value, list):
        return [_here(v, folder) for v in value]
    if isinstance(value, str) and value.startswith(("./", "../")):
        return str((folder / value).resolve())
    return value


def build(value: Mapping[str, Any]) -> Stage:
    """A recipe from plain values, as YAML gives them."""
    names = {k: v for k, v in value.items() if k != "goal"}
    if not names:
        raise ValueError("the recipe is empty; name at least one stage")
    goal = value.get("goal", list(names)[-1])
    builder = _Builder(names)
    for name in names:  # a mistake in a stage that the goal does not need is a mistake all the same
        builder.named(name, name, ())
    goal_stage = builder.named(goal, "goal", ())
    # every key counts, so that another goal of the same recipe does not change the corpus
    return covered(goal_stage, sorted({file for stage in builder.built.values() for file in labelled_files(stage)}))


def covered(goal: Stage, files: Iterable[str]) -> Stage:
    """The recipe with its Decontaminates told which labelled files it trains and measures with."""
    return replaced(goal, lambda stage: covering(stage, tuple(files)), {})


class _Builder:
    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names, self.built = names, {}

    def named(self, name: Any, asked_by: str, above: tuple[str, ...]) -> Stage:
        if name not in self.names:
            raise ValueError(
                f"{asked_by} names {name!r}, which the recipe does not define{nearest(str(name), self.names)}"
            )
        if name in above:
            raise ValueError(f"the recipe goes in a circle: {' -> '.join([*above, name])}")
        if name not in self.built:
            self.built[name] = self.stage(self.names[name], name, (*above, name))
        return self.built[name]

    def stage(self, value: Any, where: str, above: tuple[str, ...]) -> Stage:
        """`{Judge: {documents: documents}}` or the name of another key."""
        if isinstance(value, str):
            return self.named(value, where, above)
        if not isinstance(value, Mapping) or len(value) != 1:
            raise ValueError(
                f"{where} is {value!r}; a stage is written as its name and its fields, such as Judge: {{documents: …}}"
            )
        ((kind, given),) = value.items()
        if kind not in STAGES:
            raise ValueError(f"{where} asks for a stage {kind!r}, which there is not{nearest(str(kind), STAGES)}")
        return self.fields(STAGES[kind], given or {}, where, above)

    def fields(self, kind: type[Stage], given: Mapping[str, Any], where: str, above: tuple[str, ...]) -> Stage:
        if not isinstance(given, Mapping):
            raise ValueError(f"{where}: {kind.__name__} takes fields, not {given!r}")
        refuse_unknown(kind.__name__, given, [f.name for f in dataclasses.fields(kind)])
        hints = typing.get_type_hints(kind)
        values = {k: self.value(v, hints[k], f"{where}.{k}", above) for k, v in given.items()}
        missing = [
            f.name
            for f in dataclasses.fields(kind)
            if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise ValueError(f"{where}: {kind.__name__} needs {missing[0]!r}; add it")
        return kind(**values)

    def value(self, value: Any, hint: Any, where: str, above: tuple[str, ...]) -> Any:
        if not holds_stage(hint) or value is None:
            return value
        if typing.get_origin(hint) not in (None, typing.Union) and isinstance(value, Mapping) and _is_mapping(hint):
            return {name: self.stage(inner, f"{where}.{name}", above) for name, inner in value.items()}
        return self.stage(value, where, above)


def _is_mapping(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def changed(stage: Stage, settings: Iterable[str]) -> Stage:
    """The recipe with `Refine.keep.rules=none`-like settings applied to every stage of that name, all at once: two
    that only go together may come in any order."""
    known = {s.name for s in stage.walk()}
    asked: dict[str, list[tuple[list[str], str]]] = {}
    for setting in settings:
        path, sign, text = setting.partition("=")
        kind, _, field = path.partition(".")
        if not sign or not field:
            raise ValueError(f"--set {setting!r} is not understood; write it as Stage.field=value")
        if kind not in known:
            raise ValueError(f"--set names the stage {kind!r}, which the recipe does not use{nearest(kind, known)}")
        asked.setdefault(kind, []).append((field.split("."), text))
    before = labelled_files(stage)
    for kind, its in asked.items():
        stage = replaced(stage, lambda s, kind=kind, its=its: _set(s, its) if s.name == kind else s, {})
    after = labelled_files(stage)
    return stage if after == before else covered(stage, after)


def sampled(stage: Stage, rows: int) -> Stage:
    """The recipe with `sample` set in every source that has it."""

    def take(one: Stage) -> Stage:
        known = {f.name for f in dataclasses.fields(one)}
        return dataclasses.replace(one, sample=rows) if "sample" in known and not one.inputs else one

    return replaced(stage, take, {})


def _set(stage: Stage, settings: Iterable[tuple[list[str], str]]) -> Stage:
    new: dict[str, Any] = {}
    for path, text in settings:
        first, *inside = path
        refuse_unknown(stage.name, {first: None}, [f.name for f in dataclasses.fields(stage)])
        value = _parsed(text, f"the value of --set {stage.name}.{'.'.join(path)}")
        if inside:
            value = dict(new.get(first, plain(getattr(stage, first)))) | {".".join(inside): value}
        new[first] = value
    return dataclasses.replace(stage, **new)


def replaced(stage: Stage, change: Any, seen: dict[str, Stage]) -> Stage:
    """The same tree with `change` applied to each stage, sources first."""
    if stage.address in seen:
        return seen[stage.address]
    new: dict[str, Any] = {}
    for f in dataclasses.fields(stage):
        value = getattr(stage, f.name)
        if isinstance(value, Stage):
            new[f.name] = replaced(value, change, seen)
        elif isinstance(value, Mapping) and any(isinstance(v, Stage) for v in value.values()):
            new[f.name] = {k: replaced(v, change, seen) for k, v in value.items()}
    seen[stage.address] = change(dataclasses.replace(stage, **new) if new else stage)
    return seen[stage.address]
