"""The command that asks a model: a line of JSON for each row of some files, by what it was fine-tuned to say, or by the
words that a pretrained one would fill in."""

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from tundish.pipeline.cli_finetune import column_of, columns_of
from tundish.pipeline.cli_reading import COLUMNS, with_reading
from tundish.pipeline.cli_writing import with_writing

STANDARD = "-"  # input or output


@click.command("predict")
@click.argument("model", metavar="FOLDER")
@click.argument("files", nargs=-1, required=True)
@click.option("--column", "columns", multiple=True, metavar="ROLE=COLUMN", help=COLUMNS)
@click.option("--to", metavar="FILE", help="Where to write the lines (default, and -: standard output).")
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Rows of a forward pass.")
@click.option("--device", default="", help="Such as cpu or cuda:1 (default: a GPU, if there is one).")
@click.option("--raw", is_flag=True, help="Without the temperature that was fitted.")
@click.option("--fill", metavar="TEMPLATE", help="Ask a pretrained model, such as '{text} It was [MASK].'")
@click.option("--word", "words", multiple=True, metavar="WORD=LABEL", help="What may be filled in, and what it means.")
@click.option("--content-free", multiple=True, metavar="TEXT", help="Calibrate --fill by texts such as N/A.")
@click.option("--label", metavar="COLUMN", help="Of --fill: the true labels; accuracy and macro F1 are told.")
@with_reading
@with_writing
def predict_command(
    model: str, files: tuple[str, ...], columns: tuple[str, ...], to: str | None, batch: int, device: str, raw: bool,
    fill: str | None, words: tuple[str, ...], content_free: tuple[str, ...], label: str | None,
    reading: dict[str, Any], writing: dict[str, Any],
) -> None:  # fmt: skip
    """What a model says of every row: labels, numbers, tags, answers, vectors, texts; or words that it fills in.

    Columns are found where they lay when FOLDER was fine-tuned, else under the names of their roles; --column names
    others. The file - is standard input, read to its end first; say its --form. A row that cannot be read has a line
    with `error`.
    """
    own, to = columns_of(columns), None if to == "-" else to
    check_files(tuple(one for one in files if one != STANDARD))
    if fill is None:
        if words or content_free or label:
            raise ValueError("--word, --content-free and --label are of --fill; give its template, or leave them out")
        from tundish.stages.compress_read import reader
        from tundish.stages.predict import Met, predictions
        from tundish.stages.predict import writing as written_so

        with _named(files, reading) as named:
            it, met = written_so(reader(model, device=device, batch=batch, calibrated=not raw), writing), Met()
            _laid(predictions(it, named, own, faulty="tell", met=met, **reading), to)
        for sentence in met.told:
            click.echo(sentence, err=True)
        return
    if writing or raw:
        raise ValueError("--fill writes no text and knows no temperature; leave the options of these out")
    pairs = words_of(words)
    from tundish.stages.fill import filler, fills, measured

    it = filler(model, fill, pairs, content_free=content_free, device=device)
    truth = None if label is None else column_of(label)
    seen: list[tuple[str, str]] = []
    with _named(files, reading) as named:
        _laid(_noted(fills(it, named, own, label=truth, **reading), seen), to)
    if seen:
        click.echo(_told(measured(*map(list, zip(*seen, strict=True)), it.names)), err=True)


def check_files(given: tuple[str, ...]) -> None:
    """Whether they are there, before torch is: it takes seconds to come."""
    from tundish.stages.examples_files import files_of

    if given:
        files_of(given)


@contextlib.contextmanager
def _named(files: tuple[str, ...], reading: dict[str, Any]) -> Iterator[list[str]]:
    """The files, standard input as one of them while this lasts: files are looked at before they are read."""
    if STANDARD not in files:
        yield list(files)
        return
    if "layout" not in reading or reading["layout"].form is None:
        raise ValueError("standard input has no name that says its form; say it, as in --form jsonl")
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / STANDARD
        with whole.open("wb") as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream)
        yield [str(whole) if one == STANDARD else one for one in files]


def words_of(given: tuple[str, ...]) -> list[tuple[str, str]]:
    """Words and their labels.

    >>> words_of(("great=positive", "terrible=negative"))
    [('great', 'positive'), ('terrible', 'negative')]
    """
    parted = [one.rpartition("=") for one in given]
    if odd := ["".join(one) for one in parted if not (one[0] and one[1] and one[2])]:
        raise ValueError(f"--word {odd[0]!r} is not understood; write it as word=label, such as great=positive")
    return [(word, label) for word, _, label in parted]


def _noted(lines: Iterable[dict[str, Any]], seen: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """The same, while true labels and guesses are put to `seen`."""
    for line in lines:
        if "truth" in line:
            seen.append((line["truth"], line["label"]))
        yield line


def _told(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    common = found["majority"]
    return (
        f"{found['rows']:,} rows: accuracy {found['accuracy']:.3f} ({low:.3f} to {high:.3f}), "
        f"macro F1 {found['macro_f1']:.3f}; always {common['label']!r}: {common['accuracy']:.3f}, "
        f"{common['macro_f1']:.3f}"
    )


def _laid(rows: Iterable[dict[str, Any]], to: str | None) -> None:
    """A line of JSON for each, on standard output or in a file, there whole or not at all."""
    from tundish.cluster import store

    lines = (json.dumps(one, ensure_ascii=False) + "\n" for one in rows)
    if to is None:
        sys.stdout.writelines(lines)
        return
    count = 0
    with store.written(to) as (stream, _):
        for line in lines:
            stream.write(line.encode())
            count += 1
    click.echo(f"{to}: {count:,} rows")
