"""From files that people have to a fine-tuning that can start: read, checked, split, tokenized, laid beside its result.

    out/train.arrow, dev.arrow, NAME.arrow     the parts as tokens (stages/examples_tokens)
    out/vocabulary.model or tokenizer.json     what they were tokenized with
    out/data.json                              what is known of the files: balance, lengths, repeats, what was cut,
                                               and by which columns they were read
    out/asked.json                             of a guarded folder what was asked for (stages/finetune_again)

Promises: without a dev file a share of train is dev, and without a test file a share is test, by the hash of the text:
equal texts never lie on both sides. Train lies in the nested order, so its first rows are a fair sample of every size.
Refuses what `examples` and `examples_checks` refuse. Costs the files in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tundish.cluster import store
from tundish.cluster.digests import digest_once
from tundish.operators.model import writer
from tundish.operators.model.shape import Shape
from tundish.operators.text import tokenizer
from tundish.stages import examples_checks, examples_splits, finetune_again, finetune_fits, hub
from tundish.stages.examples import Examples
from tundish.stages.examples_tokens import Tokens, save, tokenized
from tundish.stages.finetune_kinds import place_of
from tundish.stages.finetune_rows import windows_of
from tundish.stages.finetune_task import Aids, TuneTask
from tundish.stages.language_model import vocabulary_in

DATA = "data.json"
TRAIN, DEV, TEST = "train", "dev", "test"
HELD, DEVELOPED = 0.2, 0.1  # shares of what is given, where no file is


def prepared(
    model: str,
    kind: str,
    files: Mapping[str, str | Sequence[str]],
    out: str,
    *,
    columns: Mapping[str, Any] | None = None,
    length: int = 0,
    apart: bool = False,
    aids: Aids | None = None,
    options: Mapping[str, Any] | None = None,
    guarded: bool = False,
    **more: Any,
) -> tuple[TuneTask, dict[str, Any]]:
    """The task, and what is known of its data. `files`: train, and if they are there dev and any tests, by name.
    `length`: tokens of a text with its frame; 0: what the model reads. `apart`: texts of the tests leave train.
    `options`: as `examples.read` takes them; `guarded`: what lies in `out` is looked at first (stages/finetune_again);
    `more`: fields of the task. Refuses what cannot be learned."""
    given = examples_checks.parts(kind, files, columns, **(options or {}))
    odd = examples_checks.checked(given)
    found, gone = split(given, apart=apart)
    if guarded:
        finetune_again.check(model, out, found, columns or {})
    task, report = laid(model, found, out, length=length, aids=aids, **more)
    report |= {"columns": dict(columns or {}), "removed_from_train": gone, "told": odd + cut(report)}
    store.write_json(store.join(out, DATA), report)
    asked = replace(task, sizes=tuple(more.get("sizes") or ()))  # as they were said: of examples, not windows
    since = finetune_again.since(asked, columns or {}) if guarded else []
    return task, {**report, "told": report["told"] + since}


def cut(report: Mapping[str, Any]) -> list[str]:
    """A sentence for each part of which texts lost their ends; those of tags and answers are read in windows."""
    if report["kind"] in ("tag", "answer"):
        return []
    told = {name: part["pieces"] for name, part in report["parts"].items() if part.get("pieces", {}).get("longer")}
    return [
        f"{name}: {one['longer']} of {report['parts'][name]['rows']} texts are cut at {one['length']} pieces"
        for name, one in told.items()
    ]


def laid(
    model: str, found: Mapping[str, Examples], out: str, *, length: int = 0, aids: Aids | None = None, **more: Any
) -> tuple[TuneTask, dict[str, Any]]:
    """The same of parts that were read and split already: train in the order in which samples of it are taken. Sizes
    count examples of the files; those of the task are of its parts, so all windows of an example are in a sample."""
    body = vocabulary_in(model)
    pieces = tokenizer.load(body)
    kind, shape = found[TRAIN].kind, hub.read(model, partial=True, outlined=True).shape
    refuse_unfit(found, shape, length, more.get("sizes") or ())  # before anything is laid
    finetune_fits.refuse(shape, aids or Aids(), more.get("pooling") or "")
    reads = shape.length
    tokens = {name: tokens_of(one, pieces, length or reads) for name, one in found.items()}
    if more.get("sizes"):  # a run knows rows of the part alone
        more["sizes"] = tuple(windows_of(tokens[TRAIN].table, size) for size in more["sizes"])
    for name, one in tokens.items():
        save(store.join(out, f"{name}.arrow"), one)
    store.write(store.join(out, pieces.file), body)
    task = TuneTask(
        model=model,
        kind=kind,
        parts={name: store.join(out, f"{name}.arrow") for name in found},
        specials=dict(pieces.specials),
        out=out,
        digests={name: digest_once(store.join(out, f"{name}.arrow")) for name in found} | digests_of(model),
        truth={name: truth_of(one) for name, one in found.items() if kind == "answer" and name != TRAIN},
        scheme=found[TRAIN].scheme,
        length=length or reads,
        aids=aids or Aids(),
        **more,
    )
    return task, examples_checks.report(found, tokens)


def refuse_unfit(found: Mapping[str, Examples], shape: Shape, length: int, sizes: Sequence[int]) -> None:
    """Refuse a model that does not write where texts are written, samples larger than train, and texts longer than the
    model reads."""
    if found[TRAIN].kind == "write":
        writer.check(shape)
    if (most := max(sizes, default=0)) > len(found[TRAIN]):
        raise ValueError(f"there are {len(found[TRAIN])} examples to train on, and not {most}; ask for smaller samples")
    if length > shape.length:
        raise ValueError(f"length is {length}, and the model reads {shape.length} tokens; give at most as many")


def digests_of(model: str) -> dict[str, str]:
    """Of the files that decide what a model says."""
    names = ("config.json", *hub.files_of(model))
    return {f"model/{name}": digest_once(store.join(model, name)) for name in names}


def split(found: Mapping[str, Examples], *, apart: bool) -> tuple[dict[str, Examples], int]:
    """Train in its nested order, dev, and the tests; and how many rows of train a test had as well."""
    train, others = found[TRAIN], {name: one for name, one in found.items() if name != TRAIN}
    stratified = train.kind == "classify"
    by = "context" if train.kind == "answer" else None  # questions about one text are no surprise to each other
    if not set(others) - {DEV}:
        train, others[TEST] = examples_splits.split(train, HELD, stratified=stratified, by=by)
    gone = 0
    if apart:
        train, gone = examples_checks.without(train, *others.values())
    if DEV not in others:
        train, others[DEV] = examples_splits.split(train, DEVELOPED, seed=1, stratified=stratified, by=by, part=DEV)
    train = train.take(examples_splits.order(train))
    return {TRAIN: train, DEV: others.pop(DEV), **others}, gone


def tokens_of(one: Examples, pieces: tokenizer.Tokenizer, length: int) -> Tokens:
    """`length`: of a row with its frame, which is one token longer for a pair."""
    frame = 2 if one.kind in ("tag", "embed", "write") or _single(one) else 3
    return tokenized(one, pieces, length=length - frame)


def _single(one: Examples) -> bool:
    return "second" in one.table.column_names and one.table["second"].null_count == len(one)


def truth_of(one: Examples) -> dict[str, Any]:
    """Of questions, by their place: the text they are about, and its true answers."""
    rows = one.table.to_pylist()
    return {place_of(r["file"], r["row"]): {"context": r["context"], "answers": r["answers"] or []} for r in rows}
