"""Main text of pages: Extract in its three ways beside trafilatura and Resiliparse; archive to text beside datatrove.

Quality is F1 over the bag of words (labelled_pages), the mean over pages, by page type. Of the folders that Extract was
fitted on only pages count whose domain no fitted page has; a folder given with --data is whole unless it is one of
those. Speed is CPU-seconds of this process, each extractor on every n-th page, one after the other page by page, so
that other work on the machine hits all alike; what is loaded once is loaded before.

The archive is a .warc.gz of pages of the folder. Either side is a program of its own (--work) from archive to documents
on disk: Ingest and Extract with all they do (charset, opt-outs, repair, process for hostile pages, Parquet), datatrove
0.10.1's WarcReader, Trafilatura with its defaults but a timeout of 20 s, and ParquetWriter. Its CPU is that of all
processes it starts, less what the same program takes for two pages; the least of three rounds.

    make bench NAME=extract [ARGS="--data DIR --quick"]     some eight minutes

Prints tables and last one line of JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from time import process_time

import numpy as np
import trafilatura
from labelled_pages import DATA, Labelled, f1, labelled, snippet_pages
from resiliparse.extract.html2text import extract_plain_text

from tundish.operators.web import html
from tundish.operators.web.guard import verdict
from tundish.operators.web.main_text import learnt
from tundish.operators.web.warc_write import pair

TIMED = 3  # every so manyth page is timed
ARCHIVED, FEW = 240, 2  # pages of the archive, and of the one that shows what a start takes
ROUNDS = 3  # of which the least counts: other work on the machine only adds
WAYS = ("fast", "cascade", "best")
THEIRS = ("trafilatura", "resiliparse")


def ours(page: Labelled, how: html.How) -> str:
    try:
        return html.extract(page.html, page.url, how=how).text
    except html.Unextractable:
        return ""


def theirs(page: Labelled, name: str) -> str:
    try:
        if name == "trafilatura":
            return trafilatura.extract(page.html, url=page.url) or ""
        return extract_plain_text(page.html, main_content=True, alt_texts=False)
    except Exception:  # the page is lost to it
        return ""


EXTRACTORS: dict[str, Callable[[Labelled], str]] = {
    **{name: (lambda page, name=name: ours(page, name)) for name in WAYS},
    **{name: (lambda page, name=name: theirs(page, name)) for name in THEIRS},
}


def unseen(pages: Iterator[Labelled]) -> list[Labelled]:
    """Pages of domains that nothing was fitted on."""
    known = set(learnt().about["domains"])
    return [page for page in pages if blake2b(page.domain.encode(), digest_size=4).hexdigest() not in known]


def measured(pages: list[Labelled]) -> tuple[dict[str, list[float]], dict[str, float]]:
    """(F1 of each page, CPU-seconds over the timed pages) by extractor."""
    scores: dict[str, list[float]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    for extractor in EXTRACTORS.values():
        extractor(pages[0])
    for number, page in enumerate(pages):
        for name, extractor in EXTRACTORS.items():
            began = process_time()
            text = extractor(page)
            if number % TIMED == 0:
                seconds[name] += process_time() - began
            scores[name].append(f1(text, page.gold))
    return scores, seconds


def table(pages: list[Labelled], scores: dict[str, list[float]], seconds: dict[str, float]) -> None:
    timed = len(pages[::TIMED])
    print(f"{'':>14} {'pages':>6} " + " ".join(f"{name:>12}" for name in EXTRACTORS))
    kinds = np.array([page.kind for page in pages])
    for kind in [*sorted(set(kinds)), "all"]:
        mask = kinds == kind if kind != "all" else np.ones(len(pages), bool)
        row = " ".join(f"{np.mean(np.array(scores[name])[mask]):12.3f}" for name in EXTRACTORS)
        print(f"{kind:>14} {mask.sum():6} {row}")
    print(f"{'ms CPU a page':>14} {timed:6} " + " ".join(f"{1e3 * seconds[n] / timed:12.2f}" for n in EXTRACTORS))


def snippets(folder: Path) -> None:
    """Of pages with snippets instead of a whole text: the share of those wanted and of those unwanted that is found."""
    found: dict[str, list[tuple[int, int, int, int]]] = defaultdict(list)
    for page, wanted, unwanted in snippet_pages(folder):
        for name, extractor in EXTRACTORS.items():
            text = " ".join(extractor(page).split())
            hits = [sum(" ".join(one.split()) in text for one in ones) for ones in (wanted, unwanted)]
            found[name].append((hits[0], len(wanted), hits[1], len(unwanted)))
    print(f"\n{folder.name}: {len(found['fast'])} pages; share of wanted snippets found, of unwanted left out")
    for name in EXTRACTORS:
        a, b, c, d = np.sum(found[name], axis=0)
        print(f"{name:>14} {a / b:8.3f} {1 - c / d:8.3f}")


def archived(pages: list[Labelled], file: Path) -> None:
    """A .warc.gz of pages that both sides take: none that the guard keeps from a parser."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    with file.open("wb") as out:
        for number, page in enumerate(pages):
            url = page.url or f"http://page.example/{number}"
            asked = b"GET / HTTP/1.1\r\nHost: page.example\r\n\r\n"
            out.write(pair(url, date="2026-01-01T00:00:00Z", request=asked, response=head + page.html.encode()))


def work_ours(archive: Path, folder: Path, how: str) -> int:
    from tundish.cluster.local import Local
    from tundish.stages.extract import Extract
    from tundish.stages.ingest import Ingest
    from tundish.stages.stage import Place

    ingest = Ingest((str(archive),))
    extract = Extract(ingest, how=how)
    extract.prepare()
    captured = ingest.run(Local(1), {}, Place(str(folder / "archives"), "key"))
    made = extract.run(Local(1), {"archives": captured}, Place(str(folder / "documents"), "key"))
    return sum(shard.rows for shard in made.shards)


def work_theirs(archive: Path, folder: Path) -> int:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.readers import WarcReader
    from datatrove.pipeline.writers import ParquetWriter

    reader = WarcReader(str(archive.parent), glob_pattern=archive.name)
    steps = [reader, Trafilatura(timeout=20), ParquetWriter(str(folder / "documents"))]
    LocalPipelineExecutor(pipeline=steps, logging_dir=str(folder / "logs")).run()
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(file).num_rows for file in (folder / "documents").glob("*.parquet"))


def session_seconds() -> float:
    """CPU-seconds of every process of this session, those that are gone included (Linux)."""
    ticks, mine = 0, os.getsid(0)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == mine:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def whole(side: str, archive: Path) -> tuple[float, int]:
    """(CPU-seconds, documents) of one side on an archive, as a program of its own."""
    with tempfile.TemporaryDirectory() as folder:
        told = subprocess.run(
            [sys.executable, __file__, "--work", side, str(archive), folder],
            capture_output=True,
            text=True,
            start_new_session=True,
        )
    if told.returncode:
        raise SystemExit(told.stderr[-3000:])
    seconds, documents = told.stdout.strip().split("\n")[-1].split()
    return float(seconds), int(documents)


def ratios(pages: list[Labelled]) -> dict[str, float]:
    """How many times datatrove's CPU-seconds ours are, archive to documents."""
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "large.warc.gz", Path(folder) / "small.warc.gz"
        archived(pages, large)
        archived(pages[:FEW], small)
        sides = ("datatrove", "fast", "cascade")
        runs = [(side, file) for _ in range(ROUNDS) for side in sides for file in (small, large)]
        told: dict[tuple[str, Path], list[tuple[float, int]]] = defaultdict(list)
        for side, file in runs:
            told[side, file].append(whole(side, file))
        print(f"\narchive of {len(pages)} pages to documents, CPU-seconds less those of {FEW} pages, least of {ROUNDS}")
        spent = {}
        for side in sides:
            (more, documents), (less, _) = min(told[side, large]), min(told[side, small])
            spent[side] = more - less
            each = 1e3 * spent[side] / len(pages)
            print(f"{side:>14} {spent[side]:8.2f} s, {documents} documents, {each:.1f} ms a page")
    return {f"warc_ratio_{how}": round(spent["datatrove"] / spent[how], 2) for how in ("fast", "cascade")}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="a folder laid out like web-wcxb")
    parser.add_argument("--quick", action="store_true", help="every fourth page")
    parser.add_argument("--work", nargs=3, metavar=("SIDE", "ARCHIVE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        side, archive, folder = args.work[0], Path(args.work[1]), Path(args.work[2])
        run = work_theirs if side == "datatrove" else lambda a, f: work_ours(a, f, side)
        documents = run(archive, folder)
        print(f"\n{session_seconds()} {documents}", flush=True)
        return
    folder = args.data or DATA / "web-wcxb"
    versions = ", ".join(f"{name} {version(name)}" for name in THEIRS)
    print(f"{versions}; fitted on {learnt().about['pages']}")
    pages = unseen(labelled(folder))[:: 4 if args.quick else 1]
    if not pages:
        raise SystemExit(f"{folder} has no page with a main text that was not fitted on; give another folder")
    print(f"{folder.name}: {len(pages)} pages of domains never fitted on")
    scores, seconds = measured(pages)
    table(pages, scores, seconds)
    if args.data is None:
        more = unseen(labelled(DATA / "web-magic-html"))
        print(f"\nweb-magic-html: {len(more)} pages of domains never fitted on")
        table(more, *measured(more))
        if not args.quick:
            snippets(DATA / "web-trafilatura")
    told = {f"f1_{name}": round(float(np.mean(scores[name])), 4) for name in EXTRACTORS}
    told |= {f"speed_{name}": round(seconds["trafilatura"] / seconds[name], 2) for name in WAYS}
    plain = [page for page in pages if verdict(page.html) is None]
    print(json.dumps(told | ratios(plain[:ARCHIVED])))


if __name__ == "__main__":
    main()
