"""FineWeb-2's rules, language by language: tundish on its own words beside datatrove's filters on FineWeb-2's.

Texts: sentences of lid-lingua, 2 to 15 together; the same with a phrase planted 2 to 20 times; the same as lists. Two
tables of the languages that have a row in fineweb2.tsv and sentences:

1. Fifteen sentences a text, in their order: what datatrove's filter classes keep with the language's splitter, what
   tundish keeps with its default one, and (`same words`) how often both give the same reason where that splitter sees
   a chunk at a time and tundish is given it.
2. All texts, rule by rule, each alone: documents it drops by FineWeb-2's words, by ours, and those decided otherwise.
   A rule that decides otherwise more often than those words drop anything would be righter if it said nothing: where
   that is so by more than 1 % of the texts it is listed, and `rule_sets.FINEWEB2_SILENT` should name it.

Stop words are tundish's for both. Needs, beside requirements.txt, `pythainlp kiwipiepy pyvi indic-nlp-library`; a
language whose splitter is not here is left out, and said. Costs some five minutes.
Run: `python benchmarks/fineweb2.py [--data FOLDER] [--languages ko th ...]`.
"""

import argparse
import csv
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from datatrove.data import Document
from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.filters.gopher_repetition_filter import find_all_duplicate, find_top_duplicate, get_n_grams
from datatrove.utils.text import PUNCTUATION_SET
from datatrove.utils.word_tokenizers import load_word_tokenizer
from parity import _measured, _splitter, table
from segment import DATA, plant, unpacked

from tundish.operators.text import rule_sets
from tundish.operators.text.rule import Rule
from tundish.operators.text.rules import decide, rules
from tundish.operators.text.signals import signals
from tundish.operators.text.stop_words import STOP_WORDS

CHANCE = 0.01  # share of texts
KEEP = "keep"


def sentences(data: Path) -> dict[str, list[str]]:
    """Language -> its sentences."""
    found: dict[str, list[str]] = {}
    for line in unpacked(data / "lid-lingua" / "lid.tsv.zst").decode().split("\n")[1:]:
        code, kind, text = line.split("\t") if line else ("", "", "")
        if kind == "sentences":
            found.setdefault(code, []).append(text)
    return found


def configurations() -> dict[str, dict[str, str]]:
    """Language -> its row of fineweb2.tsv."""
    text = Path(rule_sets.__file__).with_name("fineweb2.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.split("\n"), delimiter="\t")
    return {language: row for row in rows for language in row["languages"].split()}


def chain(language: str, row: Mapping[str, str]) -> list[BaseFilter]:
    """The filters as fineweb-2-pipeline.py (7ee60b3) sets them up."""

    def of(name: str) -> float:
        return float(row[name])

    named = row["config"]
    return [
        GopherRepetitionFilter(
            language=named, dup_para_frac=0, dup_line_char_frac=0, dup_para_char_frac=0,
            dup_line_frac=of("dup_line_frac"), top_n_grams=[(n, of(f"top_{n}_gram")) for n in range(2, 5)],
            dup_n_grams=[(n, of(f"duplicated_{n}_n_grams")) for n in range(5, 11)],
        ),
        FineWebQualityFilter(
            language=named, short_line_thr=999, char_duplicates_ratio=0.1, line_punct_thr=of("line_punct_ratio"),
            new_line_ratio=of("list_ratio"),
        ),
        GopherQualityFilter(
            language=named, max_avg_word_length=of("gopher_above_avg_threshold"),
            min_avg_word_length=of("gopher_below_avg_threshold"), stop_words=sorted(STOP_WORDS.get(language, ())),
            max_non_alpha_words_ratio=of("gopher_below_alpha_threshold"), min_stop_words=2,
        ),
    ]  # fmt: skip


def first_reason(filters: Sequence[BaseFilter], text: str) -> str:
    for each in filters:
        found = each.filter(Document(text=text, id=""))
        if found is not True:
            return found[1] if isinstance(found, tuple) else "dropped"
    return KEEP


def decided(measured: pa.RecordBatch, language: str, chosen: Sequence[Rule]) -> list[str]:
    told = pa.Table.from_batches([measured]).append_column("language", pa.array([language] * measured.num_rows))
    return [reason or KEEP for reason in decide(told, chosen)["reason"].to_pylist()]


def whole(language: str, texts: Sequence[str], row: Mapping[str, str]) -> dict[str, object]:
    """Table 1, one language."""
    filters = chain(language, row)
    theirs = [first_reason(filters, text) for text in texts]
    column = pa.array(texts, pa.large_string())
    ours = decided(signals(column, pa.array([language] * len(texts))), language, rules("fineweb2"))
    try:
        spoken = [replace(rule, silent=()) for rule in rules("fineweb2")]
        same = decided(_measured(column, language, _splitter(language)), language, spoken)
        alike = str(sum(a == b for a, b in zip(same, theirs, strict=True)))
    except (ValueError, ImportError):  # it reads across whitespace, or is none of spaCy's
        alike = "-"
    return {
        "language": language,
        "texts": len(texts),
        "datatrove keeps": theirs.count(KEEP),
        "tundish keeps": ours.count(KEEP),
        "same verdict": sum((a == KEEP) == (b == KEEP) for a, b in zip(ours, theirs, strict=True)),
        "same words, same reason": alike,
    }


def varied(known: Sequence[str], draw: random.Random) -> list[str]:
    """Texts of 2 to 15 sentences; with planted phrases; as lists of a few words a line."""
    plain = [
        draw.choice("\n ").join(known[at : at + size])
        for size in (2, 3, 5, 8, 15)
        for at in range(0, min(len(known), 300) - size, size)
    ]
    plain = draw.sample(plain, min(220, len(plain)))
    lists = []
    for text in plain[:80]:
        parts, width = text.split(), draw.choice((2, 3, 4, 6))
        lists.append("\n".join(" ".join(parts[at : at + width]) for at in range(0, len(parts), width)))
    return [*plain, *(repeating(text, draw) for text in plain), *lists]


def repeating(text: str, draw: random.Random) -> str:
    """A phrase of the text 2 to 20 times among its words; in scripts without spaces, anywhere."""
    if " " not in text:
        return plant(text, draw)
    length, times = draw.choice((8, 12, 20, 40)), draw.choice((2, 3, 5, 8, 12, 20))
    at = draw.randrange(max(1, len(text) - length))
    phrase, parts = text[at : at + length].replace("\n", " "), text.split(" ")
    for _ in range(times):
        parts.insert(draw.randrange(len(parts) + 1), phrase)
    return " ".join(parts)


def quantities(text: str, words: Sequence[str]) -> dict[str, float]:
    """What datatrove compares, by our names of it, from words that another cut."""
    tokens, proper = len(words), [word for word in words if any(sign not in PUNCTUATION_SET for sign in word)]
    found = {
        "words": len(proper),
        "mean_word_length": sum(map(len, proper)) / len(proper) if proper else np.nan,
        "hash_ratio": text.count("#") / tokens,
        "ellipsis_ratio": (text.count("...") + text.count("…")) / tokens,
        "alpha_words": sum(any(map(str.isalpha, word)) for word in words) / tokens,
        "newlines": text.count("\n") / tokens,
    }
    for n in range(2, 5):
        grams = get_n_grams(list(words), n)
        found[f"top_{n}gram"] = find_top_duplicate(grams) / len(text) if grams else 0.0
    return found | {f"dup_{n}gram": find_all_duplicate(list(words), n) / len(text) for n in range(5, 11)}


def one_by_one(language: str, texts: Sequence[str], config: str) -> tuple[dict[str, object], list[str]]:
    """Table 2, one language, and the rules that would be righter silent."""
    cut = load_word_tokenizer(config).word_tokenize
    theirs = [quantities(text, cut(text)) for text in texts]
    measured = signals(pa.array(texts, pa.large_string()), pa.array([language] * len(texts)))
    chosen = [rule for rule in rules("fineweb2") if rule.signal in theirs[0]]
    any_, other, silent = np.zeros((2, len(texts)), bool), {}, []
    for rule in chosen:
        bound = rule.languages.get(language, rule.value)
        there = np.array([row[rule.signal] for row in theirs])
        here = measured[rule.signal].cast(pa.float64()).to_numpy(zero_copy_only=False)
        drops = [(values < bound) if rule.op == "<" else (values > bound) for values in (there, here)]
        other[rule.reason] = wrong = int((drops[0] != drops[1]).sum())
        if wrong - int(drops[0].sum()) > CHANCE * len(texts):
            silent.append(rule.reason)
            print(f"  {language} {rule.reason}: drops {drops[0].sum()} there, {drops[1].sum()} here, {wrong} otherwise")
        any_[0] |= drops[0]
        any_[1] |= drops[1] & (language not in rule.silent)
    return {
        "language": language,
        "texts": len(texts),
        "words": round(float(np.median(measured["words"].to_numpy() / [max(1, row["words"]) for row in theirs])), 2),
        "some rule drops there": int(any_[0].sum()),
        "here": int(any_[1].sum()),
        "same": int((any_[0] == any_[1]).sum()),
        "furthest rule": max(other, key=other.__getitem__),
    }, silent


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--data", type=Path, default=DATA)
    options.add_argument("--languages", nargs="*")
    given = options.parse_args()
    known, rows = sentences(given.data), configurations()
    first, second, missing, differ = [], [], [], []
    for language in given.languages or rows:
        texts = known.get(language)
        if not texts:
            missing.append(f"{language}: no sentences")
            continue
        try:
            first.append(
                whole(language, ["\n".join(texts[n : n + 15]) for n in range(0, len(texts) - 14, 15)], rows[language])
            )
            row, silent = one_by_one(language, varied(texts, random.Random(7)), rows[language]["config"])
        except ImportError as error:
            missing.append(f"{language}: {error}")
            continue
        second.append(row)
        if more := sorted({*silent} - {*rule_sets.FINEWEB2_SILENT.get(language, ())}):
            differ.append(f"{language}: {', '.join(more)}")
    print("\nFifteen sentences a text\n" + table(first) + "\n\nRule by rule\n" + table(second))
    print("Not compared: " + ("; ".join(missing) or "none"))
    print("Righter silent and not in FINEWEB2_SILENT: " + ("; ".join(differ) or "none"))
    kept = {name: sum(int(row[name]) for row in first) for name in ("texts", "datatrove keeps", "same verdict")}  # type: ignore[call-overload]
    share = sum(int(row["same"]) for row in second) / max(1, sum(int(row["texts"]) for row in second))  # type: ignore[call-overload]
    print(json.dumps({"languages": len(first), **kept, "same_of_varied": round(share, 4), "differ": len(differ)}))


if __name__ == "__main__":
    main()
