"""What docs/reliability.md says of stages and faults is what the recipes and the passes of the chaos suite hold."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests import chaos, chaos_stages, test_chaos_crawl, test_chaos_stages, test_chaos_tuned
from tundish.pipeline.recipe import STAGES

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "reliability.md").read_text()


def named(text: str) -> set[str]:
    return {*re.findall(r"[A-Z][A-Za-z]+", text)} & {*STAGES}


def used(value: Any) -> set[str]:
    """The stages that a recipe has, nested ones too."""
    if isinstance(value, dict):
        return {*value} & {*STAGES} | set[str]().union(*map(used, value.values()))
    return set[str]().union(*map(used, value)) if isinstance(value, list) else set()


def recipe(text: str, **places: str) -> set[str]:
    return used(yaml.safe_load(text.format(**places) if places else text))


FIRST = recipe(chaos.RECIPE, files="x")
THIRD = recipe(chaos_stages.RECIPE, files="x", goal="index")
FOURTH = recipe(test_chaos_tuned.RECIPE, labels="x", seeds="[1]", goal="graded")
CRAWLED = recipe(test_chaos_crawl.RECIPE)
ROWS = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", PAGE.partition("## Which stages")[2], re.MULTILINE))


def test_no_stage_is_in_none_of_the_recipes() -> None:
    assert {*STAGES} == FIRST | THIRD | FOURTH | CRAWLED
    assert "No stage is left that was under none of these" in " ".join(PAGE.split())


def test_the_page_names_what_the_third_recipe_adds() -> None:
    [added] = re.findall(r"through what the first has not:(.*?)\.\s", PAGE, re.DOTALL)
    assert named(added) == THIRD - FIRST


def test_workers_die_in_every_stage_that_has_a_pass() -> None:
    passes = {name.partition(":")[0] for names in test_chaos_stages.AT.values() for name in names}
    assert passes == THIRD - {"Gather", "Mix"}
    assert named(ROWS["a worker dies"]) == passes | FOURTH | {"Pretrain", "Crawl"}


def test_every_row_is_of_known_stages() -> None:
    listed = set[str]().union(*(named(stages) for fault, stages in ROWS.items() if "dies" in fault))
    assert listed == FIRST | THIRD | FOURTH | CRAWLED
    on_ray = ROWS["the driver dies"].partition(";")[0]
    assert {name.lower() for name in named(on_ray)} >= {s for each in test_chaos_stages.BEGUN.values() for s in each}
    assert named(on_ray) >= FOURTH
