"""Other tasks for a fine-tuning in company, from files: read, checked, split, tokenized, laid beside its parts.

    out/beside/NAME/train.arrow, dev.arrow    the parts as tokens, in the vocabulary of the model
    out/beside/NAME/data.json                 what is known of them
    out/beside/NAME/truth.json                of questions alone: the texts and answers of dev

Promises: without a dev file a tenth of train is dev, by the hash of the text; equal texts never lie on both sides. What
their trains share with dev and the tests of the task that counts is told with counts, or leaves them (`apart`): what a
trunk has learnt of a tested text beside a task, it knows in the task. Costs the files in memory. Refuses what cannot be
learned, and a key that a task does not have, with the nearest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tundish.cluster import store
from tundish.cluster.shards import digest_of
from tundish.stages import examples_checks, examples_splits
from tundish.stages.examples import Examples
from tundish.stages.examples_cells import nearest
from tundish.stages.examples_tokens import load
from tundish.stages.finetune_files import DATA, DEV, DEVELOPED, TRAIN, laid
from tundish.stages.finetune_mixed import FIRST, Mixing, Other
from tundish.stages.finetune_task import HEADS

KEYS = ("task", "train", "dev", "columns")  # of a task, as it is written down
NUMBERS = {"temperature": "temperature", "proportional": "limit", FIRST: "epochs"}  # what a number says of a mixture


def mixing_of(given: str) -> Mixing:
    """A mixture as it is written: a word, and for some of them a number.

    >>> mixing_of("annealed").how, mixing_of("temperature=4").temperature, mixing_of("first=3").epochs
    ('annealed', 4.0, 3)
    """
    how, sign, number = given.partition("=")
    if not sign:
        return Mixing(how)
    if how not in NUMBERS:
        raise ValueError(f"a mixture {how!r} has no number; one of {', '.join(NUMBERS)} has, such as temperature=4")
    kind = float if how == "temperature" else int
    try:
        return Mixing(how, **{NUMBERS[how]: kind(number)})  # type: ignore[arg-type]
    except ValueError as error:
        if "invalid literal" not in str(error) and "could not convert" not in str(error):
            raise
        raise ValueError(f"{NUMBERS[how]} of a mixture is {number!r}; give a number, such as {how}=4") from None


def others_of(
    model: str,
    written: Mapping[str, Mapping[str, Any]],
    out: str,
    *,
    length: int = 0,
    of: Mapping[str, Examples] | None = None,
    apart: bool = False,
) -> tuple[tuple[Other, ...], list[str]]:
    """The tasks as they are written down (name -> task, train and, if there, dev and columns), read, checked and laid
    under `out`/beside, and what is odd about them. Without a dev file a tenth of train is dev, by the hash of the
    text. `of`: parts of the task that they learn beside; `apart`: texts of its dev and tests, and of their
    own dev, leave their trains."""
    if not isinstance(written, Mapping) or not written:
        raise ValueError("no task beside is named; write them as name: {task: classify, train: nli.tsv}")
    found, odd = [], []
    held = {part: one for part, one in (of or {}).items() if part != TRAIN}
    for name, one in written.items():
        _check(str(name), one)
        other, told = _laid(model, str(name), one, store.join(out, "beside", str(name)), length, held, apart)
        found.append(other)
        odd += [f"{name}: {sentence}" for sentence in told]
    return tuple(found), odd


def _check(name: str, one: Any) -> None:
    if not name or set(name) & set("/\\\0"):
        raise ValueError(f"a task beside cannot be called {name!r}; give it a plain name, for a folder has it")
    if not isinstance(one, Mapping):
        raise ValueError(f"the task {name!r} beside is {one!r}; write it as {{task: classify, train: nli.tsv}}")
    for key in one:
        if key not in KEYS:
            near = nearest(str(key), KEYS)
            hint = f"did you mean {near!r}?" if near else f"it has {', '.join(KEYS)}"
            raise ValueError(f"the task {name!r} beside has no {key!r}; {hint}")
    if "train" not in one:
        raise ValueError(f"the task {name!r} beside has nothing to train on; give it train: FILE")
    if one.get("task", "classify") not in HEADS:
        raise ValueError(f"the task {name!r} beside is a {one['task']!r}; choose one of {', '.join(HEADS)}")


def _laid(
    model: str, name: str, one: Mapping[str, Any], folder: str, length: int, held: Mapping[str, Examples], apart: bool
) -> tuple[Other, list[str]]:
    kind = one.get("task", "classify")
    given = examples_checks.parts(kind, {part: one[part] for part in (TRAIN, DEV) if one.get(part)}, one.get("columns"))
    gone = 0
    if apart and held:
        mine = {"its own dev": given[DEV]} if DEV in given else {}
        given[TRAIN], gone = _apart(name, given[TRAIN], mine | dict(held))
    odd, train, dev = examples_checks.checked(given), given[TRAIN], given.get(DEV)
    if gone:
        odd.append(f"{gone} rows leave its train: its own dev, or dev or a test of the task beside it, has their texts")
    if dev is None:
        by = "context" if kind == "answer" else None
        train, dev = examples_splits.split(train, DEVELOPED, seed=1, stratified=kind == "classify", by=by)
    found: dict[str, Examples] = {TRAIN: train.take(examples_splits.order(train)), DEV: dev}
    task, report = laid(model, found, folder, length=length)
    shared = {part: examples_checks.shared(train, each) for part, each in held.items()}
    odd += [sentence for part, both in shared.items() for sentence in _learnt(part, held[part], both)]
    about = {"told": odd, "removed_from_train": gone, "shared_with": shared}
    store.write_json(store.join(folder, DATA), report | about)
    truth = ""
    if task.truth:
        truth = store.join(folder, "truth.json")
        store.write_json(truth, task.truth[DEV])
    digest = digest_of([*(store.digest(task.parts[part]) for part in (TRAIN, DEV)), *task.truth.values()])
    both = {part: each for part, each in shared.items() if each["alike"]}
    return Other(name, kind, task.parts[TRAIN], task.parts[DEV], digest, task.scheme, truth, both), odd


def _apart(name: str, train: Examples, held: Mapping[str, Examples]) -> tuple[Examples, int]:
    try:
        return examples_checks.without(train, *held.values())
    except ValueError:
        raise ValueError(
            f"every row that the task {name!r} beside learns has a text of {', '.join(held)}; give it another train"
        ) from None


def _learnt(part: str, one: Examples, both: Mapping[str, int]) -> list[str]:
    """That a trunk learns texts of a part beside the task."""
    why = "its score is too high by what the trunk learned of them"
    if part == DEV:
        why = "settings, epochs and a temperature that it chooses are chosen on texts that the trunk learned"
    why += " (--apart takes them out of the train of the task beside)"
    return examples_checks.in_both(part, one, "its train", both, why)


def drawn_from(others: Sequence[Other], parts: Mapping[str, Examples]) -> list[str]:
    """Of each task that texts of `parts` are learned by beside: random splits test some of all parts."""
    told = []
    for other in others:
        texts, _ = load(other.train)
        known = {*texts["id"].to_pylist()}
        many = sum(each in known for one in parts.values() for each in one.table["id"].to_pylist())
        if many:
            told.append(
                f"{other.name}: random splits draw tests from all parts, and {many} of {sum(map(len, parts.values()))} "
                "texts are in its train; scores there are too high by what the trunk learned of them (--apart takes "
                "those of each split's dev and test out)"
            )
    return told
