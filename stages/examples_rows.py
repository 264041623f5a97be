"""One row of a file as one example: what each kind of task asks of its values, and where they fall short.

    classify     text, second, label            a label is one name
    multilabel   text, second, labels           a list, a cell with a separator, or one column a class with 0 and 1
    regress      text, second, value            a finite number
    tag          words, tags                    as many tags as words
    answer       context, question, answers, start (and key, title)     starts count characters (code points)
    write        text (or source), target       a list of targets is several of them, a list of text is joined
    embed        text, second, negative, score  a negative is not to belong to the text

Promises: a value is taken or is a `Fault` that names the row, the value and what to do; labels stay as they are
spelt, without white space around them, whole numbers without a point. An answer that is not at its start is put where
its text stands, if that is one place. Costs nothing of note.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tundish.operators.text.lead import lead
from tundish.stages.examples_cells import Column, Fault, nearest

KINDS = ("classify", "multilabel", "regress", "tag", "answer", "write", "embed")
DEFAULTS: dict[str, dict[str, Column]] = {
    "classify": {"text": "text", "label": "label"},
    "multilabel": {"text": "text", "labels": "labels"},
    "regress": {"text": "text", "value": "value"},
    "tag": {"words": "words", "tags": "tags"},
    "answer": {
        "context": "context",
        "question": "question",
        "answers": "answers",
        "start": "start",
        "key": "id",
        "title": "title",
    },
    "write": {"text": "text", "source": "source", "target": "target"},
    "embed": {"text": "text", "second": "second"},
}
OPTIONAL = {
    "classify": ("second",),
    "multilabel": ("second",),
    "regress": ("second",),
    "tag": (),
    "answer": ("start", "key", "title"),
    "write": ("text", "source"),  # two names of one: the one that is told, else the one that is there
    "embed": ("negative", "score"),
}
TRUTH = {"label": "classify", "labels": "multilabel", "value": "regress", "tags": "tag", "answers": "answer"}
TRUTH |= {"target": "write"}  # roles that rows without a label lack
YES, NO = ("1", "true", "yes", "1.0"), ("0", "false", "no", "0.0", "")
UNPLACED = -1  # start of an answer whose text is nowhere in the context

Make = Callable[[Mapping[str, Any], str], dict[str, Any]]


@dataclass
class Seen:
    """What was met on the way, counted."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)  # where

    def note(self, what: str, where: str, rows: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + rows
        self.first.setdefault(what, where)


def maker(kind: str, columns: Mapping[str, Any], between: str, seen: Seen) -> Make:
    """What makes an example of (values of the roles, "row 7 of train.csv")."""
    if kind == "multilabel" and not isinstance(columns.get("labels"), Column):
        classes = [str(one) for one in columns.get("labels", ())]
        return lambda row, where: _texts(row, where) | {"labels": _ticked(row, where, classes)}
    made: dict[str, Make] = {
        "classify": lambda row, where: _texts(row, where) | {"label": _label(row, where)},
        "multilabel": lambda row, where: _texts(row, where) | {"labels": _labels(row, where, between)},
        "regress": lambda row, where: _texts(row, where) | {"value": _number(row, "value", where)},
        "tag": _tagged,
        "answer": lambda row, where: _answered(row, where, seen),
        "write": _written,
        "embed": _paired,
    }
    return made[kind]


def text_in(value: Any, role: str, where: str) -> str:
    """A text: lists of them are joined by a space, numbers spelt. Blank is a fault."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = " ".join(value)
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise Fault("undecodable", f"{where}: the {role} is not UTF-8 ({error}); save it as text") from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = spelt(value)
    if value is not None and not isinstance(value, str):
        raise Fault("no_text", f"{where}: the {role} is of the type {type(value).__name__}; make it a text")
    if not value or not value.strip():
        raise Fault("empty", f"{where} has an empty {role}; fill it in, or take the row out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Fault("undecodable", f"{where}: the {role} holds half a surrogate pair; write it as UTF-8") from None
    return value


def spelt(value: Any) -> str:
    """A label as text: whole numbers without a point.

    >>> spelt(2.0), spelt(True), spelt(" fine ")
    ('2', 'true', 'fine')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _name(value: Any, where: str) -> str:
    """A label, spelt; empty for none."""
    name = "" if value is None else spelt(value)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Fault("undecodable", f"{where} has a label with half a surrogate pair; write it as UTF-8") from None
    return name


def _texts(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    second = text_in(row["second"], "second text", where) if "second" in row else None
    return {"text": text_in(row.get("text"), "text", where), "second": second}


def _label(row: Mapping[str, Any], where: str) -> str | None:
    if "label" not in row:
        return None
    value = row["label"]
    if isinstance(value, list | dict):
        raise Fault("no_label", f"{where} has a {type(value).__name__} for a label; give one, or the kind multilabel")
    if not (name := _name(value, where)):
        raise Fault("no_label", f"{where} has no label; give it one, or take the row out")
    return name


def _labels(row: Mapping[str, Any], where: str, between: str) -> list[str] | None:
    if "labels" not in row:
        return None
    value = row["labels"]
    if isinstance(value, str):
        value = value.split(between)
    if value is None:
        value = []
    if not isinstance(value, list) or any(isinstance(one, list | dict) for one in value):
        raise Fault("no_label", f"{where} has labels of the type {type(value).__name__}; make it a list, or a text")
    return list(dict.fromkeys(name for one in value if (name := _name(one, where))))


def _ticked(row: Mapping[str, Any], where: str, classes: Sequence[str]) -> list[str] | None:
    """The classes whose column says yes."""
    if not any(f"labels.{name}" in row for name in classes):
        return None
    found = []
    for name in classes:
        value = row.get(f"labels.{name}")
        said = "" if value is None else spelt(value).lower()
        if said not in YES + NO:
            raise Fault("no_label", f"{where} has {value!r} in column {name!r}; write 1 or 0")
        found += [name] if said in YES else []
    return found


def _number(row: Mapping[str, Any], role: str, where: str) -> float | None:
    if role not in row:
        return None
    value = row[role]
    try:
        if isinstance(value, bool) or value is None:
            raise ValueError
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise Fault(
            "no_number", f"{where} has the {role} {str(value)[:40]!r}, which is no number; write one such as 3.5"
        ) from None
    return number


def _tagged(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    words, tags = row.get("words"), row.get("tags")
    words = words.split(" ") if isinstance(words, str) else words
    tags = tags.split(" ") if isinstance(tags, str) else tags
    if not isinstance(words, list) or not isinstance(tags, list | None):
        raise Fault("no_words", f"{where}: words and tags are no lists; give a list of each, or one text with spaces")
    if not words:
        raise Fault("empty", f"{where} has no words; fill them in, or take the row out")
    if tags is not None and len(words) != len(tags):
        raise Fault("lengths", f"{where} has {len(words)} words and {len(tags)} tags; give each word one tag")
    held = [_word(word, number, where) for number, word in enumerate(words, 1)]
    named = None if tags is None else [_name(tag, where) for tag in tags]
    if named is not None and "" in named:
        blank = named.index("")
        raise Fault("no_label", f"{where}: word {blank + 1} ({held[blank]!r}) has no tag; write O where there is none")
    return {"words": held, "tags": named}


def _word(value: Any, number: int, where: str) -> str:
    """A word as it is: one may be a space that no letter is."""
    return value if isinstance(value, str) and value.isspace() else text_in(value, f"word {number}", where)


def _answered(row: Mapping[str, Any], where: str, seen: Seen) -> dict[str, Any]:
    context = text_in(row.get("context"), "context", where)
    found: dict[tuple[str, int], None] = {}
    for text, start in _said(row, where):
        if text.strip():
            found[_placed(context, text, start, where, seen)] = None
    texts, starts = [text for text, _ in found], [start for _, start in found]
    if found and max(starts) == UNPLACED:
        seen.note("questions_unplaced", where)
    key, title = (None if row.get(name) is None else str(row[name]) for name in ("key", "title"))
    question = text_in(row.get("question"), "question", where)
    labels = {"answers": texts, "starts": starts} if "answers" in row else {"answers": None, "starts": None}
    return {"context": context, "question": question, **labels, "key": key, "title": title}


def _said(row: Mapping[str, Any], where: str) -> list[tuple[str, int | None]]:
    """(text, start) of each answer, in the spellings there are: objects, lists beside each other, one of each."""
    answers, starts = row.get("answers"), row.get("start")
    if isinstance(answers, Mapping):  # of lists, as Hugging Face keeps SQuAD
        starts = answers.get("answer_start", answers.get("start"))
        answers = answers.get("text")
    answers = [answers] if isinstance(answers, str) else answers or []
    if not isinstance(answers, list):
        raise Fault("no_text", f"{where} has answers of the type {type(answers).__name__}; make them texts")
    starts = starts if isinstance(starts, list) else [None if starts == "" else starts] * len(answers)
    if len(answers) != len(starts):
        raise Fault("lengths", f"{where} has {len(answers)} answers and {len(starts)} starts; give each its start")
    said = []
    for one, start in zip(answers, starts, strict=True):
        if isinstance(one, Mapping):
            one, start = one.get("text"), one.get("answer_start", one.get("start"))
        if not isinstance(one, str):
            raise Fault("no_text", f"{where}: an answer is of the type {type(one).__name__}; make it a text")
        try:
            said.append((one, None if start is None else int(start)))
        except (ValueError, TypeError, OverflowError):
            raise Fault("no_number", f"{where}: an answer starts at {start!r}; count characters from 0") from None
    return said


def _placed(context: str, text: str, start: int | None, where: str, seen: Seen) -> tuple[str, int]:
    """An answer without white space around it and where it begins; UNPLACED if that cannot be told."""
    bare = text.strip()
    lead = len(text) - len(text.lstrip())
    if start is not None and start >= 0 and context.startswith(bare, start + lead):
        return bare, start + lead
    first = context.find(bare)
    if first >= 0 and context.find(bare, first + 1) < 0:
        seen.note("answers_mended" if start is not None else "answers_found", where)
        return bare, first
    seen.note("answers_missing" if first < 0 else "answers_ambiguous", where)
    return bare, UNPLACED


def _written(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    role = next((name for name in ("text", "source") if name in row), None)
    if role is None:
        raise Fault("no_text", f"{where} has neither a text nor a source; name its column, such as text=abstract")
    source = text_in(row[role], role, where)
    sentences = [one for one in row[role] if one.strip()] if isinstance(row[role], list) else []
    made = {"source": source, "lead": sentences[0].strip() if sentences else lead(source)}
    if "target" not in row:
        return {**made, "targets": None}
    targets = row["target"] if isinstance(row["target"], list) else [row["target"]]
    if not targets:
        raise Fault("empty", f"{where} has no target; fill it in, or take the row out")
    return {**made, "targets": [text_in(one, "target", where) for one in targets]}


def _paired(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    negative = row.get("negative")
    if isinstance(negative, list):
        if len(negative) > 1:
            raise Fault("lengths", f"{where} has {len(negative)} negatives; give one, and a row for each")
        negative = negative[0] if negative else None
    blank = negative is None or (isinstance(negative, str) and not negative.strip())
    return {
        "text": text_in(row.get("text"), "text", where),
        "second": text_in(row["second"], "second text", where) if "second" in row else None,
        "negative": None if blank else text_in(negative, "negative", where),
        "score": _number(row, "score", where),
    }


def unknown(label: str, names: Sequence[str], where: str) -> Fault:
    """That a label is none of the known ones, with the nearest of these."""
    near = nearest(label, names)
    listed = ", ".join(map(repr, names[:12])) + (", …" if len(names) > 12 else "")
    hint = f"did you mean {near!r}?" if near else "mend it, or add the class to train"
    return Fault("unknown_label", f"{where} has the label {label[:60]!r}, and the classes are {listed}; {hint}")
