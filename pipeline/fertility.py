"""How a vocabulary suits a corpus or files, language by language: the table of the report and of `tundish vocabulary`.

A corpus's sums stand in the manifest of its token shards, so its table costs nothing. Files are read and encoded here,
batch after batch; a row's language is its own `language`, else the file's name stands for it. Refuses files without
text; rows that cannot be read are counted and told.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.shards import Dataset
from tundish.operators.text.fertility import COUNTS, counted, rates
from tundish.operators.text.tokenizer import Tokenizer
from tundish.pipeline.funnel import Ran
from tundish.stages.read import picked, records, storable
from tundish.stages.read_lines import Broken
from tundish.stages.vocabulary_grown import said

SUMS = ("documents", "tokens", "bytes", *COUNTS)
BATCH = 1024  # texts
ALL = "all"
Sums = dict[str, int]


def shown(sums: Mapping[str, Mapping[str, int]], most: int | None = None) -> dict[str, Any]:
    """Rows of languages, those with the most tokens first and all of them last; how many are not among them."""
    ranked = sorted(sums.items(), key=lambda each: (-each[1]["tokens"], each[0]))
    rows = [_row(name or "none", own) for name, own in ranked[:most]]
    return {"rows": [*rows, _row(ALL, summed(sums))], "more": max(0, len(ranked) - len(rows))}


def summed(sums: Mapping[str, Mapping[str, int]]) -> Sums:
    return {name: sum(own.get(name, 0) for own in sums.values()) for name in SUMS}


def _row(name: str, sums: Mapping[str, int]) -> dict[str, Any]:
    return {"name": name, **{key: sums.get(key, 0) for key in SUMS}, **rates(dict(sums))}


def of_corpus(tokens: Dataset | None) -> dict[str, Sums]:
    """Language -> sums, of token shards."""
    return dict(tokens.about["totals"]["language"]) if tokens else {}


def page(told: Ran, most: int) -> dict[str, Any] | None:
    """What the report says of a run's tokens."""
    if not told.of("Tokenize"):
        return None
    address = told.of("Tokenize")[-1]
    tokens, held = told.datasets[address], told.inside(address, "holdout")
    learned = tokens.about["vocabulary"].get("sample")
    return {
        "vocabulary": tokens.about["vocabulary"],
        "grown": said(grown) if (grown := tokens.about["vocabulary"].get("grown")) else "",
        "held": summed(of_corpus(held)),
        "sample": shares(learned["languages"], most) if learned else [],
        "sampled": learned,
        **shown(of_corpus(tokens), most),
    }


def shares(languages: Mapping[str, Mapping[str, int]], most: int) -> list[tuple[str, int, float]]:
    """(language, bytes, share of all bytes) of a sample, the largest first."""
    whole = sum(own["bytes"] for own in languages.values()) or 1
    ranked = sorted(languages.items(), key=lambda each: (-each[1]["bytes"], each[0]))
    return [(name, own["bytes"], own["bytes"] / whole) for name, own in ranked[:most]]


def of_files(found: Tokenizer, uris: Sequence[str]) -> tuple[dict[str, Sums], Counter[str]]:
    """(language or file -> sums, reason -> rows that could not be read)."""
    sums: dict[str, Sums] = defaultdict(lambda: dict.fromkeys(SUMS, 0))
    broken: Counter[str] = Counter()
    for uri in (one for pattern in uris for one in _matched(pattern)):
        for names, texts in _batches(uri, broken):
            column = pa.array(texts, pa.large_string())
            tokens = found.encode(column)
            told = counted(column, tokens, found.odd, found.specials["[UNK]"])
            sizes = tokens.value_lengths().to_pylist()
            for at, (name, text) in enumerate(zip(names, texts, strict=True)):
                new = (1, sizes[at], len(text.encode()), *(told[key][at].as_py() for key in COUNTS))
                for key, value in zip(SUMS, new, strict=True):
                    sums[name][key] += value
    if not sums:
        why = "".join(f"; {count} rows are {reason}" for reason, count in broken.items())
        raise ValueError(f"there is no text in {', '.join(uris)}{why}; give files whose rows have a text")
    return dict(sums), broken


def _matched(pattern: str) -> list[str]:
    if found := store.matching(pattern):
        return found
    raise ValueError(f"there is no file {pattern!r}; check the path")


def _batches(uri: str, broken: Counter[str]) -> Iterator[tuple[list[str], list[str]]]:
    """(names, texts) of a file's rows."""
    names, texts = [], []
    for row in records(uri):
        if isinstance(row, Broken):
            broken[row.reason] += row.rows
            continue
        text = picked(row, "text")
        if not isinstance(text, str):
            broken["no_text"] += 1
            continue
        language = picked(row, "language")
        names.append(language if isinstance(language, str) and language else uri.rsplit("/", 1)[-1])
        texts.append(storable(text))
        if len(texts) == BATCH:
            yield names, texts
            names, texts = [], []
    if texts:
        yield names, texts
