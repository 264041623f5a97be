"""A fine-tuned model, from any folder that holds one: ours, or Hugging Face's with a head.

    model, told = load_tuned(folder)

`told` is what `config.json` of a fine-tuning says, whichever folder it was: task, head, form, names of the classes,
specials, and besides `temperature`, what its logits are to be divided by (1 where none was fitted); `length`: tokens of
a text with its frame that it learnt to read, 0 where nobody knows; `doubts`: why texts may be framed otherwise than the
model learnt them. Promises: the weights as they lie there, in float32. Reads no code and asks no network. Costs the
weights twice in memory. Refuses folders that hold none, and heads that no form here is (`operators/model/hub_heads`).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from tundish.cluster import store
from tundish.operators.model import hub_heads
from tundish.operators.model.family import Model
from tundish.operators.model.head_forms import form_told
from tundish.operators.model.heads import HEADS, Tuned
from tundish.operators.model.shape import Shape
from tundish.operators.text import tokenizer
from tundish.stages import hub
from tundish.stages.finetune_task import HEADS as TASKS
from tundish.stages.language_model import vocabulary_in

OWN = "tundish"  # the key of what is ours in a configuration of theirs
MODULES, POOLING = "modules.json", "1_Pooling/config.json"  # of sentence-transformers
MODES = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "last": "pooling_mode_lasttoken"}
CARD = "README.md"
KNOWN = ("Transformer", "Pooling", "Normalize")


def load_tuned(folder: str) -> tuple[Tuned, dict[str, Any]]:
    """The model in a folder, ready to be asked on the CPU, and what is told of it."""
    config = store.read_json(store.join(folder, hub.CONFIG))
    if isinstance(config, dict) and config.get("kind") == "tuned" and config.get("head") in HEADS:
        return _ours(folder, config)
    if isinstance(config, dict) and "shape" not in config and _headed(folder, config):
        return _theirs(folder, config)
    raise ValueError(
        f"{folder} holds no fine-tuned model; give the folder that `tundish finetune --out` wrote, or one of Hugging "
        "Face's with a head for classes, tokens or spans"
    )


def told_in(folder: str) -> dict[str, Any] | None:
    """What a folder of ours says of the fine-tuned model in it; nothing where it holds none."""
    config = store.read_json(store.join(folder, hub.CONFIG))
    return config if isinstance(config, dict) and config.get("kind") == "tuned" else None


def _ours(folder: str, config: dict[str, Any]) -> tuple[Tuned, dict[str, Any]]:
    head, dropout, trunk = config["head"], config.get("dropout", 0.1), Model(Shape(**config["shape"]))
    model = Tuned(trunk, head, config["classes"], dropout=dropout, form=form_told(config, head))
    _filled(model, hub.tensors_in(folder), folder)
    own = {"form": asdict(model.form), "dropout": dropout, "temperature": temperature_of(folder)}
    return model.eval(), {"scheme": "", "length": 0, **config, **own, "doubts": []}


def temperature_of(folder: str) -> float:
    """That of the run whose weights stayed, as it was fitted on dev; 1 if none was. Of runs that failed there is none,
    so it is the first."""
    result = store.read_json(store.join(folder, "result.json")) or {}
    each = [part.get("temperatures") for part in result.get("calibration", {}).values()]
    return float(each[0][0]) if each and each[0] else 1.0


def _headed(folder: str, config: Mapping[str, Any]) -> bool:
    try:
        head = hub_heads.head_in(config)[2]
    except ValueError:
        return False
    return head != "embedding" or store.exists(store.join(folder, MODULES))


def _theirs(folder: str, config: dict[str, Any]) -> tuple[Tuned, dict[str, Any]]:
    found, tensors = hub_heads.read(config, hub.tensors_in(folder))
    if found.head == "embedding":
        found = replace(found, form=replace(found.form, pooling=pooling_in(folder)))
    model = Tuned(Model(found.shape), found.head, found.classes, dropout=found.dropout, form=found.form)
    _filled(model, tensors, folder)
    body = vocabulary_in(folder)
    own, specials = config.get(OWN) or {}, dict(tokenizer.load(body).specials)
    task = {problem: kind for kind, problem in hub_heads.PROBLEMS.items()}.get(found.problem)
    told = {
        "kind": "tuned",
        "task": task or next(kind for kind, head in TASKS.items() if head == found.head),
        "head": found.head,
        "pooling": found.form.pooling,
        "form": asdict(found.form),
        "dropout": found.dropout,
        "classes": found.classes,
        "names": list(found.names),
        "scheme": own.get("scheme", ""),
        "shape": asdict(found.shape),
        "specials": specials,
        "temperature": float(own.get("temperature", 1.0)),
        "length": min(int(own.get("length", 0)), found.shape.length),
        "architecture": found.wish,
        "doubts": list(doubts(body)),
    }
    return model.eval(), told


def _filled(model: Tuned, tensors: Mapping[str, Any], folder: str) -> None:
    try:
        model.load_state_dict({name: each.float() for name, each in tensors.items()})
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise ValueError(f"the weights in {folder} are not those its configuration says ({said}); copy both") from None


def pooling_in(folder: str) -> str:
    """How the vectors of a folder of sentence-transformers are pooled. Raises ValueError for what no form here is."""
    listed = [str(each.get("type", "")).rpartition(".")[2] for each in store.read_json(store.join(folder, MODULES))]
    if unknown := [each for each in listed if each not in KNOWN]:
        raise ValueError(f"{MODULES} lists a {unknown[0]}, which has no place here; give a model of {', '.join(KNOWN)}")
    said = store.read_json(store.join(folder, POOLING)) or {}
    on = sorted(name for name, value in said.items() if name.startswith("pooling_mode") and value is True)
    chosen = [pooling for pooling, name in MODES.items() if on == [name]]
    if not chosen and said.get("pooling_mode") in (*MODES, "lasttoken"):
        chosen = [str(said["pooling_mode"]).removesuffix("token")]
    if not chosen:
        said = ", ".join(on) or "no way"
        raise ValueError(f"{POOLING} says {said} of pooling; give a model with one of {', '.join(MODES)}")
    return chosen[0]


def doubts(vocabulary: bytes) -> Iterator[str]:
    """Where the frame that a `tokenizer.json` puts around texts is another than the one they get here."""
    pieces = tokenizer.load(vocabulary)
    if pieces.file != tokenizer.JSON:
        return
    cls, sep = pieces.specials["[CLS]"], pieces.specials["[SEP]"]
    from tokenizers import Tokenizer as Library

    library = Library.from_str(vocabulary.decode())
    library.no_truncation()
    library.no_padding()
    one, two = "a", "b"
    first, second = ([*library.encode(each, add_special_tokens=False).ids] for each in (one, two))
    for given, expected, said in (
        ((one,), [cls, *first, sep], "a text"),
        ((one, two), [cls, *first, sep, *second, sep], "a pair"),
    ):
        found = library.encode(*given).ids
        if found != expected:
            names = json.dumps([library.id_to_token(number) for number in found], ensure_ascii=False)
            here = "[CLS] a [SEP] b [SEP]" if len(given) > 1 else "[CLS] a [SEP]"
            yield f"its tokenizer frames {said} as {names}, and here it is {here}"


def trunk_told(folder: str) -> dict[str, Any]:
    """What a fine-tuned model keeps of the model it began from: its folder's last name, and where its card is one of
    ours, the summary, the license and what it was trained on, in the card's words."""
    name = folder.rstrip("/").rpartition("/")[2]
    uri = store.join(folder, CARD)
    card = store.read(uri).decode("utf-8", "replace") if store.exists(uri) else ""
    header, _, body = card.removeprefix("---\n").partition("\n---\n")
    if not body or "\n- tundish" not in header:
        return {"name": name}
    licenses = [line.partition(":")[2].strip() for line in header.split("\n") if line.startswith("license:")]
    paragraphs = [each.strip() for each in body.split("\n\n")]
    titled = next((at for at, each in enumerate(paragraphs) if each.startswith("# ")), len(paragraphs))
    found = {"name": name, "summary": " ".join(paragraphs[titled + 1 : titled + 2]).split(" Every number on this")[0]}
    data = next((at for at, each in enumerate(paragraphs) if each.startswith("## Data")), len(paragraphs))
    lines = [line[2:] for each in paragraphs[data + 1 : data + 2] for line in each.split("\n") if line.startswith("- ")]
    return found | {"license": next(iter(licenses), ""), "data": lines}
