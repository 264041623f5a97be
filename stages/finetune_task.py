"""What a fine-tuning is: its files, its runs, and the aids that keep small data from ruining it; plain values.

A run is one training: from pretrained or fresh weights, with one seed, on so many of the examples. Every run is sealed
by itself, so a fine-tuning that is stopped goes on with the runs that are missing.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, NamedTuple

from tundish.cluster.shards import digest_of
from tundish.operators.model.decoding import Decoding

VERSION = 2  # raised by hand when code changes what a run comes to
VERSIONS = {"embed": 3}  # the same of one kind alone, of those that have changed apart from the others
UNSAID = ("out", "seeds", "scratch", "sizes", "at_once", "length")  # fields of a task that decide no run
HEADS = {  # kind of task -> head
    "classify": "sequence",
    "multilabel": "sequence",
    "regress": "sequence",
    "tag": "tokens",
    "answer": "spans",
    "embed": "embedding",
    "write": "write",
}
BALANCES = ("", "sampling", "inverse", "root", "effective")
MEASURES = {  # by which runs are compared, and the higher of which is better
    "classify": "accuracy",
    "multilabel": "micro_f1",
    "regress": "spearman",
    "tag": "span_f1",
    "answer": "f1",
    "embed": "found_first",
    "write": "rouge_l",
}
AIDED = {  # aid -> the kinds that can take it; the others are of every kind
    "balance": ("classify",),
    "smoothing": ("classify", "tag", "write"),
    "rdrop": ("classify", "multilabel", "regress", "tag", "write"),
    "sift": ("classify", "multilabel", "regress", "tag"),
    "unfreeze": ("classify", "multilabel", "regress", "tag", "answer"),  # vectors have no head to begin with
}
HOLDING = ("layerwise", "mixout", "lora", "unfreeze")  # aids that keep weights near what pretraining made of them
LIMITS = (  # of settings that a search may draw: what lies outside trains nothing, or cannot be computed
    ("warmup", 0.0, 1.0),
    ("weight_decay", 0.0, 1e6),
    ("clip", 1e-12, math.inf),
    ("dropout", 0.0, 1.0),
    ("temperature", 1e-6, 1e6),
)
LORA = 10  # times the rate of all weights


@dataclass(frozen=True)
class Aids:
    """Each off unless said. `balance`: sampling (every class is drawn as often) or weights of classes in the loss
    (inverse, root, effective). `smoothing` of labels. `layerwise`: how fast a layer learns, of the one above.
    `fresh_top`: blocks that are drawn anew. `patience`: epochs without a better score on dev; the best stays. `rdrop`,
    `sift`: weights of these losses. `mixout`, `layerdrop`: chances. `lora`: a rank. `unfreeze`: epochs after which one
    layer more learns."""

    balance: str = ""
    smoothing: float = 0.0
    layerwise: float = 1.0
    fresh_top: int = 0
    patience: int = 0
    rdrop: float = 0.0
    sift: float = 0.0
    mixout: float = 0.0
    layerdrop: float = 0.0
    lora: int = 0
    unfreeze: int = 0

    def __post_init__(self) -> None:
        if self.balance not in BALANCES:
            raise ValueError(f"classes are not balanced by {self.balance!r}; choose {', '.join(BALANCES[1:])} or none")
        for name, below in (("smoothing", 1.0), ("mixout", 1.0), ("layerdrop", 1.0)):
            if not 0 <= getattr(self, name) < below:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a share from 0 to below 1")
        if not 0 < self.layerwise <= 1:
            raise ValueError(f"layerwise is {self.layerwise}; it is above 0, and 1 where all layers learn alike")
        for name in ("fresh_top", "patience", "lora", "unfreeze", "rdrop", "sift"):
            if not 0 <= getattr(self, name) < math.inf:  # nor is it nan, which is below nothing
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it is 0 where it is off, else a finite number above 0"
                )
        if self.lora and (self.unfreeze or self.fresh_top):
            raise ValueError("LoRA keeps the trunk still, and fresh_top and unfreeze change it; choose one of them")
        if self.lora and self.mixout:
            raise ValueError("LoRA keeps the trunk still, so mixout has nothing to mix there; choose one of them")

    @property
    def held(self) -> dict[str, Any]:
        """Those that hold the trunk, by name."""
        off = Aids()
        return {name: own for name in HOLDING if (own := getattr(self, name)) != getattr(off, name)}


def aids_of(said: Mapping[str, Any]) -> Aids:
    """Aids by name, each a number or a word as its field is; a count is whole, and is never cut to be."""
    known = {each.name: type(each.default) for each in fields(Aids)}
    found: dict[str, Any] = {}
    for name, value in said.items():
        if name not in known:
            raise ValueError(f"there is no aid {name!r}; give some of {', '.join(known)}")
        try:
            found[name] = known[name](value)
        except (ValueError, TypeError, OverflowError):
            found[name] = None
        if found[name] is None or (isinstance(value, float) and known[name] is int and found[name] != value):
            raise ValueError(f"the aid {name} is {value!r}; give it as {known[name].__name__}")
    return Aids(**found)


class Run(NamedTuple):
    pretrained: bool
    seed: int
    size: int = 0  # so many examples, the first of the nested order; 0: all

    @property
    def name(self) -> str:
        return f"{'pretrained' if self.pretrained else 'fresh'}-{self.seed}" + (f"-of-{self.size}" if self.size else "")


@dataclass(frozen=True)
class TuneTask:
    """Everything a rank needs. `parts`: name -> file of `stages/examples_tokens`: train, dev, and what is tested; train
    lies in the order in which smaller samples are taken of it."""

    model: str  # folder of weights, ours or Hugging Face's
    kind: str
    parts: Mapping[str, str]
    specials: Mapping[str, int]
    out: str
    digests: Mapping[str, str] = field(default_factory=dict)  # of the model's files and the parts', in place of paths
    truth: Mapping[str, Any] = field(default_factory=dict)  # part -> what its scores need beside the tokens
    scheme: str = ""  # of tags
    length: int = 0  # tokens of a text with its frame, as the parts were cut; 0: what the model reads
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    scratch: bool = True  # also from fresh weights, to see what pretraining was worth
    sizes: tuple[int, ...] = ()  # also on the first so many examples
    epochs: int = 5
    batch: int = 16
    at_once: int = 0  # examples of a forward pass; 0: the batch
    lr: float = 0.0  # at its peak; 0: by the number of weights (`rate_of`)
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.01
    clip: float = 1.0
    dropout: float = 0.1
    pooling: str = ""
    temperature: float = 0.05  # of contrast
    dtype: str = "float32"  # of the states
    aids: Aids = field(default_factory=Aids)
    writing: Decoding = field(default_factory=Decoding)  # how texts are chosen; of no other kind

    def __post_init__(self) -> None:
        if self.kind not in HEADS:
            raise ValueError(f"{self.kind!r} is no kind of fine-tuning; choose one of {', '.join(HEADS)}")
        if "train" not in self.parts:
            raise ValueError(f"there is nothing to train on among {', '.join(self.parts) or 'no parts'}; give `train`")
        if self.aids.patience and "dev" not in self.parts:
            raise ValueError("patience asks for scores that are not the test's; give a dev part, or leave it out")
        if not self.seeds:
            raise ValueError("fine-tuning without a seed trains nothing; give at least one")
        for name, least in (("epochs", 1), ("batch", 1), ("at_once", 0), ("lr", 0)):
            if not least <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a finite number of at least {least}")
        for name, low, high in LIMITS:
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number from {low:g} to {high:g}")
        off = Aids()
        for name, kinds in AIDED.items():
            if self.kind not in kinds and getattr(self.aids, name) != getattr(off, name):
                raise ValueError(f"the aid {name} is of {', '.join(kinds)}, and not of {self.kind}; leave it out")
        self._check_writing()

    def _check_writing(self) -> None:
        if self.kind != "write":
            if self.writing != Decoding():
                raise ValueError(f"a task of {self.kind} writes no texts; leave out how they are chosen")
            return
        if self.pooling:
            raise ValueError(f"a model that writes pools no states, and not by {self.pooling!r}; leave pooling out")
        if self.writing.sequences > 1:
            raise ValueError(f"{self.writing.sequences} texts of each row cannot be scored; write one")

    @property
    def runs(self) -> tuple[Run, ...]:
        """The pretrained ones first, whole data first; what is interrupted has the most useful ones."""
        starts = (True, False) if self.scratch else (True,)
        sizes = (0, *sorted(self.sizes, reverse=True))
        return tuple(Run(start, seed, size) for size in sizes for start in starts for seed in self.seeds)

    def of(self, run: Run) -> "TuneTask":
        """What a run is made by. Fresh weights learn whole: a random trunk that is held (`HOLDING`) learns nothing, and
        to be ahead of it says nothing of pretraining."""
        if run.pretrained or not self.aids.held:
            return self
        off = Aids()
        return replace(self, aids=replace(self.aids, **{name: getattr(off, name) for name in HOLDING}))

    @property
    def key(self) -> str:
        """Digest of what decides a run's numbers, beside its name; of a fresh run that of what it is made by (`of`)."""
        said = asdict(self) | {"version": VERSION}
        if self.aids.lora and not self.lr:
            said["lora"] = LORA
        if not said["truth"]:  # keys of tasks without any are those of ever
            said.pop("truth")
        for name in (*UNSAID, *(("model", "parts") if self.digests else ())):
            said.pop(name)
        if self.kind != "write":
            said.pop("writing")
        if self.kind in VERSIONS:
            said["kind_version"] = VERSIONS[self.kind]
        return digest_of(said)[:12]


def rate_of(weights: int, *, lora: int = 0) -> float:
    """A learning rate to begin with, for so many weights: 3e-5 at BERT's 110 M, as its authors have it, and more for
    smaller ones (8e-4 at 2 M, found on small tasks here); 1e-3 at most. With LoRA, of any rank, ten times that, and
    1e-2 at most: Hu et al. 2021 (appendix D) take 4e-4 to 5e-4 for a base model, and Biderman et al. 2024 ("LoRA
    learns less and forgets less") find its best rate an order above that of all weights."""
    return float(min(1e-3, 3e-5 * (110e6 / max(1, weights)) ** 0.85)) * (LORA if lora else 1)
