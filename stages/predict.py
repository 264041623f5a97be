"""Predict: what a fine-tuned model says of files, row by row, as lines of JSON.

    classify     label, probability, probabilities     calibrated where a temperature was fitted
    multilabel   labels, probabilities
    regress      value
    tag          words, tags, and of running text entities     start and end in characters, label, text
    answer       answer, start (in characters, -1 without one), margin
    embed        vector, and second_vector where a row has a second text
    write        text, written

Each line begins with file, row and id: the digest of the text, of a question the file's own id where it has one.
`margin` is the score of no answer less that of the answer, in logits, as SQuAD 2.0's script has it (`null_odds`; Devlin
et al. 2019, 4.3): at most 0 where the answer is likelier, and so a question that may have none is answered where margin
is at most 0, which is how scores were told; null where no answer was possible. Columns are found as
`stages/predict_columns` says. Running text is split into words as `operators/text/words` does; entities are those that
scores count, read without a scheme, and of tags without prefixes every word that is tagged.

Promises: rows in the order of the files; what is predicted of a row does not
depend on the others, but for rounding. A row that cannot be read is refused, or told in its place: file, row, error.
Texts that are cut are counted. Costs `size` rows in memory at a time. Refuses folders that hold no fine-tuned model,
and what `predict_columns` and `examples` refuse.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load

from tundish.cluster import store
from tundish.operators.model import calibration
from tundish.operators.model.decoding import Decoding
from tundish.operators.model.family import Model
from tundish.operators.model.shape import Shape
from tundish.operators.model.writer import Writer
from tundish.operators.text import spans, tokenizer
from tundish.operators.text.words import pattern_for
from tundish.stages.examples import SCHEMAS, Examples, batches
from tundish.stages.examples_cells import Layout
from tundish.stages.examples_tags import spanned
from tundish.stages.finetune_files import tokens_of
from tundish.stages.finetune_kinds import answers_of, asked, place_of, sentences
from tundish.stages.finetune_rows import Rows
from tundish.stages.finetune_task import TuneTask
from tundish.stages.finetune_write import spelling, texts_of
from tundish.stages.language_model import device_of, vocabulary_in
from tundish.stages.predict_columns import Learnt, learnt_in, sources
from tundish.stages.tuned import load_tuned, told_in

ROUND = 6


@dataclass(frozen=True)
class Predictor:
    """A fine-tuned model, ready. `heat`: the temperature that its logits are divided by. `learnt`: which columns it
    learnt from, if its folder says so."""

    task: TuneTask
    model: Any
    pieces: tokenizer.Tokenizer
    names: tuple[str, ...]
    heat: float
    device: torch.device
    learnt: Learnt = field(default_factory=Learnt)


@dataclass
class Met:
    """What was met on the way: `rows` in all, `longer` of which were cut at `length` pieces, and `faulty` of which
    could not be read, as `first` says of the first."""

    rows: int = 0
    longer: int = 0
    length: int = 0
    faulty: int = 0
    first: str = ""

    @property
    def told(self) -> list[str]:
        """A sentence for each thing that is odd."""
        said = [f"{self.longer:,} of {self.rows:,} texts are cut at {self.length} pieces"] if self.longer else []
        return said + ([f"{self.faulty:,} of {self.rows:,} rows are faulty (first: {self.first})"] * bool(self.faulty))


class Running(NamedTuple):
    """Texts that are tagged, and where in each its words begin and end, in characters."""

    texts: list[str]
    places: list[list[tuple[int, int]]]


def predictor(folder: str, *, device: str = "", batch: int = 32, calibrated: bool = True) -> Predictor:
    """What a fine-tuning left in a folder, or a model of Hugging Face's with a head. Raises ValueError where there is
    none."""
    own = told_in(folder)
    if own is not None and own.get("head") == "write":
        return _writer(folder, own, device, batch)
    where = device_of(device)
    model, told = load_tuned(folder)
    task = TuneTask(folder, told["task"], {"train": ""}, told["specials"], folder, scheme=told["scheme"], batch=batch)
    task = replace(task, length=told["length"])
    pieces = tokenizer.load(vocabulary_in(folder))
    heat, learnt = told["temperature"] if calibrated else 1.0, learnt_in(folder, task.kind)
    return Predictor(task, model.to(where), pieces, tuple(told["names"]), heat, where, learnt)


def _writer(folder: str, told: Mapping[str, Any], device: str, batch: int) -> Predictor:
    """One that writes: as it was scored, unless `writing` says otherwise."""
    where, form = device_of(device), Decoding(**told["form"])
    model = Writer(Model(Shape(**told["shape"])), form=form)
    model.load_state_dict(load(store.read(store.join(folder, "model.safetensors"))))
    task = TuneTask(folder, told["task"], {"train": ""}, told["specials"], folder, batch=batch, writing=form)
    task, pieces = replace(task, length=int(told.get("length", 0))), tokenizer.load(vocabulary_in(folder))
    return Predictor(task, model.eval().to(where), pieces, (), 1.0, where, learnt_in(folder, task.kind))


def writing(it: Predictor, said: Mapping[str, Any]) -> Predictor:
    """The same, with these fields of `Decoding` otherwise; greedy and draws go with beams of 1 unless told."""
    if said and it.task.kind != "write":
        raise ValueError(f"{it.task.out} is of {it.task.kind} and writes no texts; leave {', '.join(said)} out")
    if said.get("sample") and "beams" not in said:
        said = {**said, "beams": 1}
    if said.get("beams", 1) > 1 and "sample" not in said:
        said = {**said, "sample": False}
    return replace(it, task=replace(it.task, writing=replace(it.task.writing, **said))) if said else it


def predictions(
    it: Predictor,
    files: str | Sequence[str],
    columns: Mapping[str, Any] | None = None,
    *,
    faulty: Literal["refuse", "tell"] = "refuse",
    met: Met | None = None,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """A dict a row, in order. `faulty`: "tell" gives a row that cannot be read a dict with `error`. `met`: counts what
    was cut and what was faulty. `options`: as `examples.batches` takes them."""
    met = met or Met()
    for some, running in _read(it, files, columns or {}, faulty=faulty, **options):
        met.rows += len(some) + len(some.faults)
        yield from _merged(_asked(it, some, running, met) if len(some) else iter(()), some, met)


def _asked(it: Predictor, some: Examples, running: Running | None, met: Met) -> Iterator[dict[str, Any]]:
    table, about = tokens_of(some, it.pieces, it.task.length or it.model.encoder.shape.length)
    if it.task.kind not in ("tag", "answer"):  # which are read in windows
        met.longer, met.length = met.longer + about["longer"], about["length"]
    rows = Rows(it.task.kind, it.names, table, it.task.specials)
    said = asked(it.task, it.model, rows, it.device, torch.float32)
    if it.task.kind == "write":
        return _written(it, some, said)
    found = _told(it, some, rows, said["logits"])
    return found if running is None else _spotted(it, running, found)


def _merged(lines: Iterator[dict[str, Any]], some: Examples, met: Met) -> Iterator[dict[str, Any]]:
    """The lines of good rows with those of faulty ones in their places."""
    before = 0
    for number, one in enumerate(some.faults):
        for _ in range(before, one.at - number):
            yield next(lines)
        before = one.at - number
        met.faulty, met.first = met.faulty + 1, met.first or str(one.fault)
        yield {"file": one.file, "row": one.row, "error": str(one.fault)}
    yield from lines


def _spotted(it: Predictor, running: Running, lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Lines of tags with the entities that lie in the texts."""
    for text, places, line in zip(running.texts, running.places, lines, strict=True):
        found = []
        for first, last, label in entities_of(line["tags"], it.task.scheme):
            start, end = places[first][0], places[last - 1][1]
            found.append({"start": start, "end": end, "label": label, "text": text[start:end]})
        yield line | {"entities": found}


def entities_of(tags: Sequence[str], scheme: str) -> list[tuple[int, int, str]]:
    """(first word, the word behind the last, label) of each entity, in order.

    >>> entities_of(["O", "B-PER", "I-PER", "I-LOC"], "IOB2"), entities_of(["NN", "O"], "plain")
    ([(1, 3, 'PER'), (3, 4, 'LOC')], [(0, 1, 'NN')])
    """
    if scheme == "plain":
        return [(at, at + 1, tag) for at, tag in enumerate(tags) if tag != "O"]
    found = spans.spans_of([spanned(tags)])
    ends = zip(found.start.tolist(), found.end.tolist(), found.kind.tolist(), strict=True)
    return [(first, last, found.kinds[kind]) for first, last, kind in ends]


def _read(
    it: Predictor,
    files: str | Sequence[str],
    columns: Mapping[str, Any],
    *,
    layout: Layout | None = None,
    **options: Any,
) -> Iterator[tuple[Examples, Running | None]]:
    """Batches, and of texts that are to be tagged where their words lie."""
    for uri, own in sources(it.task.kind, it.learnt, it.task.out, files, columns, layout or Layout()):
        running = it.task.kind == "tag" and "text" in own
        for some in batches("write" if running else it.task.kind, uri, own, layout=layout, **options):
            yield split_into_words(some) if running else (some, None)


def split_into_words(some: Examples) -> tuple[Examples, Running]:
    """Texts as examples to tag; what has no word at all is one."""
    texts = some.table["source"].to_pylist()
    places = [[one.span() for one in pattern_for(text).token.finditer(text)] or [(0, len(text))] for text in texts]
    words = [[text[a:b] for a, b in each] for text, each in zip(texts, places, strict=True)]
    schema = SCHEMAS["tag"]
    columns = {name: some.table[name].combine_chunks() for name in ("id", "file", "row")}
    columns |= {"words": pa.array(words, schema.field("words").type)}
    columns |= {"tags": pa.nulls(len(texts), schema.field("tags").type)}
    return replace(some, kind="tag", table=pa.table(columns, schema=schema)), Running(texts, places)


def _written(it: Predictor, some: Examples, said: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    given = some.table["source"].to_pylist()
    for where, source, text in zip(_places(some), given, texts_of(spelling(it.task), said), strict=True):
        yield where | {"text": source, "written": text}


def _places(some: Examples) -> list[dict[str, Any]]:
    """Where each row lies, and its id."""
    found = some.table.select(["file", "row", "id"]).to_pylist()
    if "key" in some.table.column_names:
        keys = some.table["key"].to_pylist()
        found = [one | ({} if key is None else {"id": key}) for one, key in zip(found, keys, strict=True)]
    return found


def _told(it: Predictor, some: Examples, rows: Rows, logits: np.ndarray) -> Iterator[dict[str, Any]]:
    for where, one in zip(_places(some), _each(it, some, rows, logits), strict=True):
        yield where | one


def _each(it: Predictor, some: Examples, rows: Rows, logits: np.ndarray) -> Iterator[dict[str, Any]]:
    kind = it.task.kind
    if kind == "classify":
        for shares in calibration.softmax(logits, it.heat):
            best = int(shares.argmax())
            told = {"label": it.names[best], "probability": round(float(shares[best]), ROUND)}
            yield told | {"probabilities": _named(it, shares)}
    elif kind == "multilabel":
        for shares in calibration.sigmoid(logits, it.heat):
            held = [name for name, share in zip(it.names, shares, strict=True) if share > 0.5]
            yield {"labels": held, "probabilities": _named(it, shares)}
    elif kind == "regress":
        yield from ({"value": round(float(value), ROUND)} for value in logits.reshape(-1))
    elif kind == "tag":
        words = some.table["words"].to_pylist()
        tags = iter(sentences(rows, logits.argmax(1)))
        yield from ({"words": each, "tags": next(tags) if each else []} for each in words)
    elif kind == "answer":
        yield from _answers(some, rows, logits)
    else:
        single = some.table["second"].is_null().to_pylist()
        for vectors, alone in zip(logits, single, strict=True):
            first, second = np.round(vectors.astype(np.float64), ROUND).tolist()  # of float32 they would end in dust
            yield {"vector": first} if alone else {"vector": first, "second_vector": second}


def _named(it: Predictor, shares: np.ndarray) -> dict[str, float]:
    return {name: round(float(share), ROUND) for name, share in zip(it.names, shares, strict=True)}


def _answers(some: Examples, rows: Rows, logits: np.ndarray) -> Iterator[dict[str, Any]]:
    questions = some.table.to_pylist()
    truth = {place_of(row["file"], row["row"]): {"context": row["context"], "answers": []} for row in questions}
    texts, none, spans = answers_of(rows, logits, truth)
    for row, text, margin, span in zip(questions, texts, none.tolist(), spans, strict=True):
        start = span[0] if span else -1
        ahead = round(margin, ROUND) if span else None  # JSON has no infinity
        yield {"question": row["question"], "answer": text, "start": start, "margin": ahead}
