"""The scope of a running crawl, as a file beside its archives that may be edited while it runs.

    scope.json    {"include": [...], "exclude": [...]}

Promises: an edit holds within seconds for all parts, for addresses that wait and for those that were kept out; one that
cannot be read (no JSON, no regular expression) changes nothing and is told once. The manifest says what held in the
end. Costs a look at the file every two seconds a part.
"""

import json
import logging
import re
from dataclasses import dataclass, replace
from typing import Any

from tundish.cluster import store
from tundish.stages.crawl_scope import Rules

EVERY = 2.0  # seconds
FILE = "scope.json"
LOG = logging.getLogger("tundish.crawl")


@dataclass(frozen=True)
class Scope:
    """`uri`: the folder of the crawl."""

    uri: str

    def offered(self, rules: Rules) -> Rules:
        """Lay the file down, or take what was edited in it before the crawl was interrupted."""
        if not store.exists(store.join(self.uri, FILE)):
            value = {"include": list(rules.include), "exclude": list(rules.exclude)}
            store.write_json(store.join(self.uri, FILE), value)
        return self.edited(rules) or rules

    def stamp(self, before: Any = None) -> Any:
        """What differs when the file was edited; as before where that cannot be seen just now."""
        try:
            found = store.info(store.join(self.uri, FILE))
        except Exception as error:  # of whatever storage
            LOG.warning("%s cannot be looked at (%s); the scope stays as it is", store.join(self.uri, FILE), error)
            return before
        return found.mtime_ns, found.size

    def now(self) -> dict[str, list[str]]:
        """What the file says. Raises ValueError for what cannot be read."""
        try:
            value = json.loads(store.read(store.join(self.uri, FILE)))
            if not all(isinstance(value[name], list) for name in ("include", "exclude")):
                raise TypeError("not a list")
            return {name: [re.compile(rule).pattern for rule in value[name]] for name in ("include", "exclude")}
        except (json.JSONDecodeError, UnicodeDecodeError, re.error, KeyError, TypeError) as error:
            raise ValueError(
                f"{store.join(self.uri, FILE)} cannot be read ({error}); it holds two lists of regular expressions, "
                "include and exclude"
            ) from None

    def edited(self, rules: Rules) -> Rules | None:
        """The rules with what the file says; None when it says nothing new, or nothing that can be read."""
        try:
            value = self.now()
        except (ValueError, OSError) as error:
            LOG.warning("%s; the scope stays as it is", error)
            return None
        include, exclude = tuple(value["include"]), tuple(value["exclude"])
        if (include, exclude) == (rules.include, rules.exclude):
            return None
        return replace(rules, include=include, exclude=exclude)
