"""Language identification, ours against every fastText wheel that installs: same labels, likelihoods, CPU-seconds.

One model (lid.176.ftz), one core, the same texts in one run. Each wheel works in a process of its own, one text a call
as its users do it; ours takes the column. A pass of ours is cold (a new Predictor, which has seen no word) or warm (it
has seen these texts); `ratio_wheel` is the quickest wheel's seconds over our cold ones on web text, medians of passes.

Then macro accuracy on lid-lingua by length of text, over the languages lid.176 knows (its `no` counts for `nb`), beside
what lingua publishes for others on the same texts (LINGUA below); what text preparations do to it; the declared
languages of site-httpd; a hundred small tasks on one thread and on two.

    make bench NAME=language                  some three minutes
    make bench NAME=language ARGS=--quick     every eighth text
    make bench NAME=language ARGS="--data FILE"   one label<TAB>text a line in place of lid-lingua and of the web pages

Prints tables and last one line of JSON. A wheel that cannot be installed is left out, and named.
"""

import argparse
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from corpora import DATA, corpus
from language_wheels import WHEELS, raced
from parity import table
from segment import unpacked

from tundish.cluster.assets import asset
from tundish.operators.text import codes, fasttext_file
from tundish.operators.text.language import identify
from tundish.operators.text.predict import Predictor

LENGTHS = ("sentences", "word-pairs", "single-words")
PASSES, EIGHTH = 5, 8
# lingua-py's accuracy-reports/aggregated-accuracy-values.csv at 3f1359c (whole per cent a language): the mean over the
# 66 languages it has figures of fastText for, and of each other over those of the 66 that it knows. fastText there is
# the full lid.176.bin, ours the quantized lid.176.ftz.
LINGUA = {
    "fastText": (92.0, 73.7, 58.0, 66),
    "Lingua, high accuracy": (96.0, 89.5, 75.2, 66),
    "Lingua, low accuracy": (93.3, 79.0, 62.3, 66),
    "CLD3": (93.0, 67.7, 49.6, 63),
    "CLD2": (93.5, 68.6, 35.6, 65),
    "langid": (92.5, 67.4, 50.1, 64),
    "langdetect": (98.4, 81.7, 64.7, 50),
    "FastSpell, aggressive": (95.6, 81.8, 66.0, 66),
}


def of_lingua(data: Path) -> list[tuple[str, str, str]]:
    """(label, length, text) of lid-lingua."""
    lines = unpacked(data / "lid-lingua" / "lid.tsv.zst").decode().split("\n")[1:]
    return [(row[0], row[1], row[2]) for row in (line.split("\t") for line in lines if line)]


def of_file(path: Path) -> list[tuple[str, str, str]]:
    """(label, length, text) of label<TAB>text lines; the length goes by the number of words."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        label, tab, text = line.partition("\t")
        if not tab or not label.strip():
            raise SystemExit(f"line {number} of {path} has no label and tab; write label<TAB>text")
        count = len(text.split())
        kind = LENGTHS[2] if count <= 1 and len(text) < 20 else LENGTHS[1] if count == 2 else LENGTHS[0]
        found.append((label.strip().removeprefix("__label__"), kind, text))
    return found


def eighth(text: str) -> bool:
    return blake2b(text.encode(), digest_size=1).digest()[0] % EIGHTH == 0


# --- ours -----------------------------------------------------------------------------------------------------------


def ours(model: fasttext_file.Model, texts: pa.LargeStringArray, passes: int) -> tuple[list[float], list[float]]:
    """CPU-seconds of cold and of warm passes."""
    Predictor(model)(texts.slice(0, 10))  # compiled
    cold, warm = [], []
    for _ in range(passes):
        predictor = Predictor(model)
        for seconds in (cold, warm):
            start = time.process_time()
            predictor(texts)
            seconds.append(time.process_time() - start)
    return cold, warm


def compared(name: str, texts: Sequence[str], passes: int, folder: Path, failed: dict[str, str]) -> dict[str, float]:
    """A corpus raced: MB a CPU-second of everyone, and how often the labels are the wheels'."""
    column = pa.array(texts, pa.large_string())
    model, size = fasttext_file.load(str(asset("lid.176"))), sum(len(text.encode()) for text in texts) / 1e6
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table({"text": column}), path)
    found = Predictor(model)(column)
    mine = [model.labels[one] if one >= 0 else "" for one in found.labels[:, 0].tolist()]
    cold, warm = ours(model, column, passes)
    rates = {"ours, cold": size / median(cold), "ours, warm": size / median(warm)}
    said = np.array([bool(text.strip()) for text in texts])
    alike, error, theirs = 1.0, 0.0, []
    for wheel in WHEELS:
        if wheel in failed:
            continue
        try:
            told = raced(wheel, path, passes)
        except (subprocess.CalledProcessError, OSError) as problem:
            words = getattr(problem, "stderr", None) or str(problem)
            failed[wheel] = str(words.decode() if isinstance(words, bytes) else words).strip().split("\n")[-1][:200]
            continue
        theirs.append(median(told["seconds"].tolist()))
        rates[wheel] = size / theirs[-1]
        labels = [str(label).removeprefix("__label__") for label in told["labels"]]
        alike = min(alike, float(np.mean([a == b for a, b, one in zip(mine, labels, said, strict=True) if one])))
        error = max(error, float(np.abs(told["scores"] - found.scores[:, 0])[said].max()))
    again, _ = ours(model, column, passes)  # before and after the others, should the machine have grown slower
    rates["ours, cold"] = size / median(cold + again)
    told = [{"corpus": name, "texts": len(texts), "MB": round(size, 1)} | {k: round(v, 1) for k, v in rates.items()}]
    print(table(told), flush=True)
    ratio = min(theirs) / median(cold + again) if theirs else float("nan")
    best = min(theirs) / median(warm) if theirs else float("nan")
    return {"ratio": ratio, "warm": best, "alike": alike, "error": error, "rate": rates["ours, cold"]}


def threads(texts: Sequence[str]) -> float:
    """How many times as fast two threads of one process are as one."""
    model = fasttext_file.load(str(asset("lid.176")))
    parts = [pa.array(texts[at::100], pa.large_string()) for at in range(100)]
    seconds = {}
    for workers in (1, 2, 1, 2, 1, 2):
        predictor = Predictor(model)
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(predictor, parts))  # each thread has seen words of these texts
            start = time.perf_counter()
            for _ in range(3):
                list(pool.map(predictor, parts))
            seconds.setdefault(workers, []).append(time.perf_counter() - start)
    return min(seconds[1]) / min(seconds[2])


# --- accuracy -------------------------------------------------------------------------------------------------------


def guessed(predictor: Predictor, texts: Sequence[str]) -> list[str | None]:
    """What Identify says."""
    found = identify(pa.array(texts, pa.large_string()), predictor)
    return [None if one is None else codes.same(one) for one in found["language"].to_pylist()]


def raw(predictor: Predictor, texts: Sequence[str]) -> list[str | None]:
    """What the model says of the texts as they are."""
    found = predictor(pa.array(texts, pa.large_string())).labels[:, 0].tolist()
    return [codes.same(codes.short(predictor.model.labels[one])) if one >= 0 else None for one in found]


def macro(truth: Sequence[str], guesses: Sequence[str | None], known: set[str]) -> tuple[float, int]:
    """Mean over the languages the model knows of the share that is right, and how many they are."""
    right: dict[str, list[bool]] = {}
    for label, guess in zip(truth, guesses, strict=True):
        if (code := codes.same(label)) in known:
            right.setdefault(label, []).append(code == guess)
    return (float(np.mean([np.mean(one) for one in right.values()])), len(right)) if right else (float("nan"), 0)


_ADDRESS, _DIGITS = re.compile(r"https?://\S+|www\.\S+"), re.compile(r"\d+")
_SIGNS = re.compile(r"[^\w\s]+")
Asked = Callable[[Predictor, Sequence[str]], list[str | None]]
IDENTIFY = "Identify"
WAYS: dict[str, tuple[Asked, Callable[[str], str]]] = {
    IDENTIFY: (guessed, lambda text: text),
    "the model, as it is": (raw, lambda text: text),
    "the model, small letters": (raw, str.lower),
    "the model, addresses out": (raw, lambda text: _ADDRESS.sub(" ", text)),
    "the model, digits out": (raw, lambda text: _DIGITS.sub(" ", text)),
    "the model, signs out": (raw, lambda text: _SIGNS.sub(" ", text)),
    "in capitals: Identify": (guessed, str.upper),
    "in capitals: the model": (raw, str.upper),
}


def accuracies(rows: Sequence[tuple[str, str, str]]) -> dict[str, dict[str, float]]:
    """Macro accuracy by preparation and length of text."""
    predictor = Predictor(fasttext_file.load(str(asset("lid.176"))))
    known = {codes.same(label) for label in predictor.model.labels}
    found: dict[str, dict[str, float]] = {}
    for name, (asked, prepared) in WAYS.items():
        for kind in LENGTHS:
            here = [row for row in rows if row[1] == kind]
            truth = [codes.short(row[0]) for row in here]
            guesses = asked(predictor, [prepared(row[2]) for row in here]) if here else []
            found.setdefault(name, {})[kind], _ = macro(truth, guesses, known)
    print(
        "\n"
        + table([{"macro accuracy": name} | {k: round(v, 4) for k, v in row.items()} for name, row in found.items()])
    )
    return found


def published(rows: Sequence[tuple[str, str, str]]) -> None:
    """Ours over the languages that lingua has a figure of fastText for, beside its figures."""
    predictor = Predictor(fasttext_file.load(str(asset("lid.176"))))
    shared = {label for label in predictor.model.labels} - {"no"}
    line: dict[str, object] = {"detector": "tundish, lid.176.ftz"}
    for kind in LENGTHS:
        here = [row for row in rows if row[1] == kind and row[0] != "nb"]
        value, line["languages"] = macro([row[0] for row in here], guessed(predictor, [row[2] for row in here]), shared)
        line[kind] = round(value, 3)
    others = [
        {"detector": name, "languages": row[3]} | dict(zip(LENGTHS, (round(v / 100, 3) for v in row[:3]), strict=True))
        for name, row in LINGUA.items()
    ]
    print("\n" + table([line, *others]))


def declared(data: Path) -> dict[str, object]:
    """Pages of site-httpd whose declared language is the one identified."""
    truth = {}
    for line in unpacked(data / "site-httpd" / "crawl-truth.jsonl.zst").decode().split("\n"):
        row = json.loads(line) if line else {}
        if row.get("content_language"):
            truth[f"site-httpd:{row['file']}"] = row["content_language"].split("-")[0].lower()
    documents = corpus("multi", data)
    rows = [
        (truth[i], t)
        for i, t in zip(documents["id"].to_pylist(), documents["text"].to_pylist(), strict=True)
        if i in truth
    ]
    if not rows:
        return {}
    predictor = Predictor(fasttext_file.load(str(asset("lid.176"))))
    guesses = guessed(predictor, [text for _, text in rows])
    wrong: dict[tuple[str, str | None], int] = {}
    for (label, _), guess in zip(rows, guesses, strict=True):
        if label != guess:
            wrong[label, guess] = wrong.get((label, guess), 0) + 1
    ranked = sorted(wrong.items(), key=lambda one: -one[1])
    share = 1 - sum(wrong.values()) / len(rows)
    print(f"\nsite-httpd: {len(rows)} pages, of the declared language {share:.4f}; else", end=" ")
    print(", ".join(f"{label} read as {guess} {n}" for (label, guess), n in ranked[:8]) or "none")
    return {
        "pages": len(rows),
        "share": share,
        "macro": macro([label for label, _ in rows], guesses, {*truth.values()})[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="label<TAB>text, one a line")
    parser.add_argument("--folder", type=Path, default=DATA, help="the labelled data")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--passes", type=int, default=PASSES)
    given = parser.parse_args()
    rows = of_file(given.data) if given.data else of_lingua(given.folder)
    web = [text for _, _, text in rows] if given.data else corpus("web", given.folder)["text"].to_pylist()
    if given.quick:
        rows, web = [row for row in rows if eighth(row[2])], [text for text in web if eighth(text)]
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        races = {"web": compared("web", web, given.passes, Path(folder), failed)}
        if not given.data:
            short = [text for _, _, text in rows]
            races["lid-lingua"] = compared("lid-lingua", short, max(1, given.passes // 2), Path(folder), failed)
    scaling = threads(web)
    found = accuracies(rows)[IDENTIFY]
    site: dict[str, object] = {}
    if not given.data:
        published(rows)
        site = declared(given.folder)
    for name, why in failed.items():
        print(f"{name} was left out: {why}")
    print(f"two threads are {scaling:.2f} times as fast as one")
    line = {
        "ratio_wheel": races["web"]["ratio"],
        "same_label_share": min(one["alike"] for one in races.values()),
        "macro_accuracy_sentences": found[LENGTHS[0]],
        "macro_accuracy_pairs": found[LENGTHS[1]],
        "macro_accuracy_words": found[LENGTHS[2]],
        "max_probability_error": max(one["error"] for one in races.values()),
        "ratio_wheel_warm": races["web"]["warm"],
        "ratio_wheel_short": races.get("lid-lingua", {}).get("ratio"),
        "threads_1_to_2": scaling,
        "mb_per_cpu_second": races["web"]["rate"],
        "site_httpd": site,
        "left_out": failed,
        "quick": given.quick,
    }
    print(json.dumps({k: (None if isinstance(v, float) and np.isnan(v) else v) for k, v in line.items()}))


if __name__ == "__main__":
    main()
