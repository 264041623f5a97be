"""Generations: the journal of how far each archive of a crawl was taken, generation by generation.

    <root>/follow/harvest.json      crawl, recipe, and for each generation {archive: [from, to)}
    <root>/follow/gen-0003/         a root of its own: archives/ and what the recipe makes of them

Promises: a generation's ranges stand in the journal before a byte of it is copied, so whoever goes on after a kill
takes the same bytes; no byte is in two generations, none is left out. Costs a file written per harvest. Refuses to go
on with another recipe than it began with: its earlier generations were made by that one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tundish.cluster import store
from tundish.stages.harvest import Growing, Range, file_of, fresh

FOLLOW, JOURNAL, LIST = "follow", "harvest.json", "generations.jsonl"


@dataclass(frozen=True)
class Journal:
    """What was taken. `crawl` and `recipe` are addresses of stages."""

    root: str
    crawl: str
    recipe: str
    generations: tuple[Mapping[str, Range], ...] = field(default=())

    @classmethod
    def of(cls, root: str, crawl: str, recipe: str) -> "Journal":
        """The journal of a root, empty if it has none yet."""
        told = store.read_json(store.join(root, FOLLOW, JOURNAL))
        if told is None:
            return cls(root, crawl, recipe)
        if (told["crawl"], told["recipe"]) != (crawl, recipe):
            raise ValueError(
                f"{store.join(root, FOLLOW)} was begun with another recipe ({told['recipe']} of {told['crawl']}, not "
                f"{recipe} of {crawl}); give that one, or another --root"
            )
        ranges = ({name: (start, stop) for name, (start, stop) in one.items()} for one in told["generations"])
        return cls(root, crawl, recipe, tuple(ranges))

    def taken(self, before: int | None = None) -> dict[str, int]:
        """How far each archive was taken by the generations `before` a number, or by all."""
        return {name: stop for one in self.generations[:before] for name, (_, stop) in one.items()}

    def harvested(self, now: Mapping[str, int], number: int) -> "Journal":
        """With what is new as generation `number`: the next one, or the last one grown. The same if nothing is."""
        ranges = fresh(self.taken(number), now)
        if ranges == dict(self.generations[number] if number < len(self.generations) else {}):
            return self
        if number < len(self.generations):  # never less than it had: a crawl near its budget shows nothing
            ranges = {**self.generations[number], **{k: v for k, v in ranges.items() if v[1] > self._stop(number, k)}}
        return replace(self, generations=(*self.generations[:number], ranges))

    def _stop(self, number: int, name: str) -> int:
        return self.generations[number].get(name, (0, 0))[1]

    def write(self) -> None:
        plain = {"crawl": self.crawl, "recipe": self.recipe, "generations": [dict(one) for one in self.generations]}
        store.write_json(store.join(self.root, FOLLOW, JOURNAL), plain)

    def copied(self, growing: Growing, number: int) -> str:
        """Lay the archives of a generation into its root; gives their folder."""
        folder = store.join(root_of_generation(self.root, number), "archives")
        store.sweep(folder)
        for name, taken in self.generations[number].items():
            growing.copied(name, taken, store.join(folder, file_of(name, taken[0])))
        return folder


def root_of_generation(root: str, number: int) -> str:
    return store.join(root, FOLLOW, f"gen-{number:04d}")
