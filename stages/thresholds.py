"""Thresholds of confidence, language by language: FineWeb-2's own files, or a table of your own.

    a folder     FineWeb-2's `configs` as they lie: files `deu_Latn.yml`, whose `language_score` is the threshold
    one file     YAML or JSON, `{deu_Latn: 0.821, fr: 0.82}`, or with its keys, `{deu_Latn: {language_score: …}}`

A language may be written as any of `de`, `deu`, `deu_Latn` (operators/text/codes). Where a table has a language in
several scripts, that of the document decides, and the strictest row where the document is in none of them.

Promises: the same table however its files are ordered. Costs a file read each, once a run. Refuses what is no table, a
code that is none, and a threshold that is no share, with the file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from tundish.cluster import store
from tundish.operators.text.codes import is_code, parts, same

SCORE = "language_score"
ENDINGS = (".yml", ".yaml", ".json")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where libyaml is there


@dataclass(frozen=True)
class Thresholds:
    """`rows`: threshold by label, as the table writes it; `unlisted`: of every other language."""

    rows: Mapping[str, float]
    unlisted: float

    def of(self, language: str | None, script: str | None = None) -> float:
        """The threshold of one language; `script`: that of the document (ISO 15924).

        >>> known = Thresholds({"deu_Latn": 0.8, "srp_Latn": 0.4, "srp_Cyrl": 0.9}, 0.65)
        >>> known.of("de"), known.of("sr", "Latn"), known.of("sr", "Arab"), known.of("en")
        (0.8, 0.4, 0.9, 0.65)
        """
        if language in self.rows:
            return self.rows[language]
        code, own = parts(language or "")
        known = self._scripts.get(same(code), {})
        for one in (own, script or "", ""):
            if one in known:
                return known[one]
        return max(known.values(), default=self.unlisted)

    def bounds(self, languages: pa.Array, scripts: pa.Array) -> np.ndarray:
        """(n,) the threshold of each document, float64."""
        told = [pc.dictionary_encode(column, null_encoding="encode") for column in (languages, scripts)]
        codes, named = (one.dictionary.to_pylist() for one in told)
        row, column = (one.indices.to_numpy() for one in told)
        table = np.array([[self.of(code, script) for script in named] for code in codes], np.float64)
        return table[row, column] if len(row) else np.zeros(0)

    @property
    def _scripts(self) -> dict[str, dict[str, float]]:
        return _by_script(tuple(self.rows.items()))


@lru_cache(maxsize=8)
def _by_script(rows: tuple[tuple[str, float], ...]) -> dict[str, dict[str, float]]:
    """Short code -> script -> threshold. Of two labels of one language and script, as `ara_Arab` and `arb_Arab`, the
    stricter counts."""
    found: dict[str, dict[str, float]] = {}
    for label, value in rows:
        code, script = parts(label)
        own = found.setdefault(same(code), {})
        own[script] = max(value, own.get(script, 0.0))
    return found


def thresholds(uri: str, unlisted: float) -> Thresholds:
    """The table in a file, or in the files of a folder."""
    if store.info(uri).is_file:
        return Thresholds(dict(sorted(_rows(uri).items())), unlisted)
    if not store.exists(uri):
        raise ValueError(f"there is no table of thresholds at {uri}; give a YAML or JSON file, or a folder of them")
    rows: dict[str, float] = {}
    for name in store.listing(uri):
        if name.endswith(ENDINGS):
            rows |= _rows(store.join(uri, name))
    if not rows:
        raise ValueError(
            f"{uri} holds no thresholds of languages; give a YAML or JSON file of them, or a folder such as "
            "FineWeb-2's configs"
        )
    return Thresholds(dict(sorted(rows.items())), unlisted)


def _rows(uri: str) -> dict[str, float]:
    """Label -> threshold of one file."""
    try:
        told: Any = yaml.load(store.read(uri), _LOADER)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{uri} is no YAML or JSON ({str(error).splitlines()[0]}); mend the file") from None
    if not isinstance(told, dict) or not told:
        raise ValueError(f"{uri} holds no table of thresholds; write it as {{deu_Latn: 0.821, fra_Latn: 0.824}}")
    if SCORE in told:  # one of FineWeb-2's, of the language in its name
        told = {PurePosixPath(uri).stem: told}
    return dict(_checked(uri, told))


def _checked(uri: str, told: dict[Any, Any]) -> Iterator[tuple[str, float]]:
    for key, value in told.items():
        label = "no" if key is False else key  # YAML reads Norwegian's code as a refusal
        if not isinstance(label, str) or not is_code(label):
            raise ValueError(f"{uri} names {label!r}, no code of a language; write de, deu or deu_Latn")
        if isinstance(value, dict) and SCORE not in value:
            raise ValueError(f"{uri} has no {SCORE} for {label}; add it")
        score = value[SCORE] if isinstance(value, dict) else value
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise ValueError(f"{uri} says {score!r} for {label}; a threshold is a number from 0 to 1")
        yield label, float(score)
