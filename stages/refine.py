"""Refine: which documents stay, decided from what was measured; a column with the reason, never a second text.

A changed threshold runs this stage and what follows, and no signal is measured again. A run stops where this would
take more than a stated share of a source or of a language, and says how to allow it.
"""

import difflib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.shards import Dataset, digest_of
from tundish.cluster.verbs import At
from tundish.operators.text.codes import means, short
from tundish.operators.text.language import LID_176
from tundish.operators.text.rule import KNOWN, Rule, checked
from tundish.operators.text.rule_sets import FINEWEB2_WORDS
from tundish.operators.text.rule_sets import table as thresholds
from tundish.operators.text.rules import RULE_SETS, Semantics, asked, decided, margins, rules
from tundish.operators.web.opt_outs import forbids_training
from tundish.stages import fired
from tundish.stages.documents import DOCUMENT
from tundish.stages.stage import Columns, Stage, nearest
from tundish.stages.thresholds import Thresholds
from tundish.stages.thresholds import thresholds as confidences

DEFAULT: Semantics = "datatrove"
SYSTEMS: tuple[Semantics, ...] = ("dclm", "dolma", "paper")  # whose quantities Judge.semantics measures
_TEXTS = (field.name for field in DOCUMENT if not pa.types.is_integer(field.type))
# Columns that are no numbers, and what is asked instead.
WORDS = {name: "" for name in (*_TEXTS, "edits", "twin", "kind", "cluster", "crawl", "quarantine", "contaminated")}
WORDS |= {"language": "ask for languages in keep.language"}
WORDS |= {"perplexity_bucket": "ask for bucket_number: 0 head, 1 middle, 2 tail"}


class Own(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule of the recipe's own: drop a document whose `signal` is `op` than `value`, for this `reason`."""

    signal: str
    op: Literal["<", ">"]
    value: float
    reason: str
    paper: str = "of this recipe"


class Keep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stays. `language`: codes, empty for all; `confidence`: of the language, or the path of a table of them
    (stages/thresholds), and then `unlisted` is that of a language it lacks; `rules`: rule sets by name and rules of
    your own, in the order they are asked; `semantics`: whose quantities they compare (a set that only another system
    has takes that system's where datatrove's, the default, are asked for)."""

    language: tuple[str, ...] = ()
    confidence: float | str = 0.0
    unlisted: float = 0.65  # FineWeb's, for English
    rules: str | tuple[str | Own, ...] = "gopher"
    semantics: Semantics = DEFAULT


@dataclass(frozen=True)
class Refine(Columns):
    """`rules` replaces the value of rules by their reason, in every language (values of their own go with it):
    `{gopher_short_doc: 30}`, or in one alone: `{gopher_short_doc.de: 30}`. `addresses`: Vet's columns, `scores`: those
    of any other stages, by names of your own. `by`: what a source is. `max_loss`: the share of a source or language
    that may go, of `fired.LEAST` documents up. `opt_outs`: whether documents go whose publishers say, so that a machine
    can read it, that they are not to be trained on; `by_name`: those too that turn crawlers for training away by name.
    """

    version: ClassVar[int] = 6
    makes: ClassVar[tuple[str, ...]] = ("reason", "value", "threshold", "margin", "nearest", "stratum")
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "documents": ("id", "text"),
        "language": ("language", "confidence"),
        "quality": ("words", "score"),
        "addresses": ("url_domain_listed",),
    }

    documents: Stage
    language: Stage | None = None
    quality: Stage | None = None
    keep: Keep = field(default_factory=Keep)
    rules: Mapping[str, float] = field(default_factory=dict)
    addresses: Stage | None = None
    scores: Mapping[str, Stage] = field(default_factory=dict)
    by: Literal["origin", "host"] = "origin"
    max_loss: float = 0.98
    opt_outs: Literal["obey", "by_name", "ignore"] = "obey"

    def check(self) -> None:
        if not 0 <= self.max_loss <= 1:
            raise ValueError(f"Refine.max_loss is {self.max_loss}; it is a share, from 0 to 1")
        if isinstance(self.scores, Mapping) and (taken := sorted({*self.scores} & {*self.__dataclass_fields__})):
            raise ValueError(f"Refine.scores calls a stage {taken[0]!r}, as one of its fields is; choose another name")
        if (self.keep.language or self.keep.confidence) and self.language is None:
            raise ValueError(
                "Refine.keep asks for languages and there is no language to look at; add language: Identify"
            )
        if any(rule.languages for rule in self.decisive) and self.language is None:
            raise ValueError(
                f"Refine.keep.rules is {self.keep.rules!r}, with thresholds of languages, and there is no language to "
                "look at; add language: Identify"
            )
        self._check_confidence()
        self._check_languages()
        self._check_measured()

    def _check_confidence(self) -> None:
        for name in ("confidence", "unlisted"):
            if not isinstance(value := getattr(self.keep, name), str) and not 0 <= value <= 1:
                raise ValueError(f"Refine.keep.{name} is {value}; it is a likelihood, from 0 to 1")
        if isinstance(self.keep.confidence, str):
            at = store.absolute(self.keep.confidence)  # whoever decides again may stand elsewhere
            object.__setattr__(self, "keep", msgspec.structs.replace(self.keep, confidence=at))
            _ = self.sure  # a table that is none is refused here

    @functools.cached_property
    def sure(self) -> Thresholds:
        """The confidence each language needs."""
        asked = self.keep.confidence
        return confidences(asked, self.keep.unlisted) if isinstance(asked, str) else Thresholds({}, asked)

    def outside(self) -> list[dict[str, Any]]:
        """The rows of a table of thresholds: what they say decides, not how they are written."""
        if not isinstance(at := self.keep.confidence, str):
            return []
        return [{"thresholds": at.rsplit("/", 1)[-1], "digest": digest_of(self.sure.rows)}]

    def _check_languages(self) -> None:
        """Codes that the model of the language never says; of models other than our own nobody knows them here."""
        if getattr(self.language, "model", None) != "lid.176":
            return
        asked = [("keep.language", code) for code in self.keep.language]
        asked += [(f"rules.{key}", key.partition(".")[2]) for key in self.rules if "." in key]
        for where, code in asked:
            if code not in LID_176:
                told = nearest(code, LID_176) or "; it says ISO 639-1 codes such as en, or 639-3 where there is none"
                told = f"; did you mean {short(code)!r}?" if short(code) in LID_176 else told
                raise ValueError(f"Refine.{where} is about {code!r}, which lid.176 calls no language{told}")

    def _check_measured(self) -> None:
        """Every signal must be a number and come from somewhere: a stage that names it, or one that does not say."""
        for rule in self.decisive:
            if rule.signal in WORDS:
                told = WORDS[rule.signal] or "a rule compares numbers"
                raise ValueError(f"Refine has the rule {rule.reason!r} on {rule.signal!r}, which is no number; {told}")
            if rule.signal in self.makes:
                raise ValueError(
                    f"Refine has the rule {rule.reason!r} on {rule.signal!r}, a column of its own; for languages that "
                    "are nearly as likely ask for more keep.confidence"
                )
        beside = [stage for name, stage in self.inputs.items() if name not in ("documents", "language")]
        given = {column for stage in self.inputs.values() for column in stage.makes}
        if not all(stage.makes for stage in beside):
            return
        for rule in self.decisive:
            if rule.signal not in given:
                raise ValueError(self._missing(rule))

    def _missing(self, rule: Rule) -> str:
        if rule.signal.startswith("url_"):
            return f"Refine has the rule {rule.reason!r} and no addresses to judge by; add addresses: Vet"
        if rule.signal in KNOWN and self.quality is None:
            return f"Refine.keep.rules is {self.keep.rules!r} and there is no quality to judge by; add quality: Judge"
        system = rule.signal.rpartition("_")[2]
        advice = "give the stage that makes it in scores"
        if system in SYSTEMS:
            advice = f"add {system} to Judge.semantics"
        elif rule.signal == "refined_removed":
            advice = "give it the lines it is about, scores: {lines: Lines}, with Lines.rules refinedweb"
        return f"Refine has the rule {rule.reason!r} on {rule.signal!r}, which none of its stages gives; {advice}"

    @functools.cached_property
    def decisive(self) -> tuple[Rule, ...]:
        """The rules in their order, with the values this recipe gives them."""
        chosen: list[Rule] = []
        for part in self._named:
            own = isinstance(part, Own)
            chosen += [Rule(**msgspec.to_builtins(part))] if own else rules(part, self._semantics(part))
        known = [*KNOWN, *(column for stage in self.inputs.values() for column in stage.makes)]
        return revalued(checked(chosen, known), self.rules)

    def _semantics(self, name: str) -> Semantics:
        """Whose quantities a set compares: those asked for, or where none are, those it has if it has no others."""
        known = [system for system in RULE_SETS.get(name, ()) if system in SYSTEMS]
        alone = len(known) == len(RULE_SETS.get(name, ())) == 1
        return known[0] if alone and self.keep.semantics == DEFAULT else self.keep.semantics

    def notes(self) -> str:
        """Languages that the rules are not made for."""
        told, kept = [], [code for code in self.keep.language if code != "en"]
        if getattr(self.quality, "splitter", "") == "spacy-en" and (kept or not self.keep.language):
            those = ", ".join(kept) or "every language"
            told.append(
                f"Judge.splitter spacy-en splits words as English, and {those} is decided by them; take unicode"
            )
        if "fineweb2" in self._named:
            told += self._unlike(set(self.keep.language))
        return "\n".join(told)

    def _unlike(self, kept: set[str]) -> Iterator[str]:
        """Languages that FineWeb-2's thresholds are not for: those without a row, those of other words than ours."""
        rows = {code for values in thresholds().values() for code in values}
        if lacking := sorted(kept - rows - {"en"}):
            yield f"fineweb2 has no thresholds for {', '.join(lacking)}; FineWeb's for English are taken"
        elif not kept:
            yield f"fineweb2 has thresholds for {len(rows)} languages; in all others FineWeb's for English are taken"
        for code, words in FINEWEB2_WORDS.items():
            silent = [rule.reason for rule in self.decisive if code in rule.silent]
            if silent and (code in kept or not kept):
                one = len(silent) == 1
                yield (
                    f"in {code} {', '.join(silent)} of fineweb2 {'says' if one else 'say'} nothing: "
                    f"{'its value is' if one else 'their values are'} for words of {words}; "
                    f"give your own, such as {{{silent[0]}.{code}: ...}} in Refine.rules"
                )

    @property
    def _named(self) -> tuple[str | Own, ...]:
        return (self.keep.rules,) if isinstance(self.keep.rules, str) else self.keep.rules

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """Only what the rules ask for: a column that no rule reads decides nothing."""
        script = ("script",) if isinstance(self.keep.confidence, str) else ()
        return tuple(dict.fromkeys(("language", "confidence", *script, "opt_outs", self.by, *asked(self.decisive))))

    def columns(self, batch: pa.Table, at: At) -> pa.Table:
        table, failing = self.judged(batch)
        sources = _text(batch, self.by)
        fired.tally(table["reason"], failing, {"source": sources, "language": spoken(batch)}, at.tally)
        return pa.table({**{c: table[c] for c in table.schema.names}, "stratum": sources})

    def judged(self, batch: pa.Table) -> tuple[pa.RecordBatch, dict[str, np.ndarray]]:
        """What the rules say of these documents, and the rows each would drop alone, of those in a wanted language.
        Opt-outs and languages are asked before any rule: rules are about a language."""
        table, counts = decided(batch, self.decisive)
        wanted = np.ones(len(batch), bool)
        if self.keep.language:
            said = _text(batch, "language")
            those = [one for one in pc.unique(said).drop_null().to_pylist() if self._wants(one)]
            wanted = pc.is_in(said, pa.array(those, pa.string())).to_numpy(zero_copy_only=False)
        opted = self._opted(batch)
        unwanted, wanted = ~wanted & ~opted, wanted & ~opted
        found = zip(self.decisive, counts, strict=True)
        failing = {rule.reason: np.flatnonzero(wanted & _fails(batch, rule)) for rule, count in found if count}
        if self.keep.confidence:
            sure = np.asarray(batch["confidence"].cast(pa.float64()).to_numpy(), np.float64)
            bounds = self.sure.bounds(_text(batch, "language"), _text(batch, "script"))
            failing["language_unsure"] = np.flatnonzero(wanted & ~(sure >= bounds))
            table = _refused(table, "language_unsure", ~(sure >= bounds), sure, bounds)
        if self.keep.language:
            failing[fired.UNWANTED] = np.flatnonzero(unwanted)
            table = _refused(table, fired.UNWANTED, unwanted, np.full(len(batch), np.nan), 1.0)
        if opted.any():
            failing[fired.OPTED] = np.flatnonzero(opted)
            table = _refused(table, fired.OPTED, opted, np.full(len(batch), np.nan), 1.0)
        return table, failing

    def _wants(self, said: str) -> bool:
        return any(means(asked, said) for asked in self.keep.language)

    def _opted(self, batch: pa.Table) -> np.ndarray:
        """(rows,) whether who published a document keeps it out of training."""
        found = np.zeros(len(batch), bool)
        if self.opt_outs == "ignore" or "opt_outs" not in batch.column_names:
            return found
        if not pa.types.is_list(batch.schema.field("opt_outs").type):
            raise ValueError("the documents' opt_outs are no lists of texts; leave the column out, or mend it")
        stated = pc.fill_null(pc.list_value_length(batch["opt_outs"]), 0).to_numpy() > 0
        for row in np.flatnonzero(stated).tolist():
            found[row] = forbids_training(batch["opt_outs"][row].as_py(), by_name=self.opt_outs == "by_name")
        return found

    def accept(self, made: Dataset) -> None:
        fired.refuse_losses(self.name, made.counts, self.max_loss)


def spoken(batch: pa.Table) -> pa.Array:
    """The languages these documents are counted under."""
    sure = batch["confidence"].combine_chunks() if "confidence" in batch.column_names else None
    return fired.certain(_text(batch, "language"), sure)


def revalued(chosen: tuple[Rule, ...], values: Mapping[str, float]) -> tuple[Rule, ...]:
    """The rules with these values, by reason, or by reason and language: `gopher_short_doc.de`.

    A value without a language is that of every language: those of their own are forgotten. A rule with a value of the
    recipe's speaks in the languages it is for, where it was silent too.
    """
    known = [rule.reason for rule in chosen]
    for key in values:
        if (reason := key.partition(".")[0]) not in known:
            near = difflib.get_close_matches(reason, known, 1)
            told = "take it out (with another set: --set 'Refine.rules={}'), or ask for a set that has it"
            if near:
                told = f"did you mean {near[0]!r}? (docs/rules.md lists them; --set 'Refine.rules={{}}' takes all out)"
            raise ValueError(f"Refine.rules names {reason!r}, no rule of this recipe; {told}")
    return tuple(_revalued(rule, values) for rule in chosen)


def _revalued(rule: Rule, values: Mapping[str, float]) -> Rule:
    if rule.reason in values:
        rule = replace(rule, value=values[rule.reason], languages={}, silent=())
    own = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{rule.reason}.")}
    silent = tuple(code for code in rule.silent if code not in own)
    return replace(rule, languages={**rule.languages, **own}, silent=silent) if own else rule


def _fails(batch: pa.Table, rule: Rule) -> np.ndarray:
    """(rows,) whether the rule would drop a document were it alone. Languages are looked at where it has its own."""
    wanted = [name for name in asked([rule]) if name in batch.column_names]
    return margins(batch.select(wanted), rule) < 0


def _refused(
    table: pa.RecordBatch, reason: str, rows: np.ndarray, found: np.ndarray, bound: float | np.ndarray
) -> pa.RecordBatch:
    """The decisions with these rows refused before all else. Where nothing was `found` (nan) there is no threshold
    either, and the margin is -1."""
    if not rows.any():
        return table
    here, why, none = pa.array(rows), pa.scalar(reason), np.isnan(found)
    bound = np.full(len(found), bound, np.float64)
    laid: dict[str, Any] = {
        "reason": why,
        "value": pa.array(found, mask=none),
        "threshold": pa.array(bound, mask=none),
        "margin": pa.array(np.where(none, -1.0, found / bound - 1.0)),
        "nearest": why,
    }
    return pa.RecordBatch.from_pydict({name: pc.if_else(here, value, table[name]) for name, value in laid.items()})


def _text(batch: pa.Table, column: str) -> pa.Array:
    """A column of names; nulls where there is none."""
    if column not in batch.column_names:
        return pa.nulls(len(batch), pa.string())
    found = batch[column].cast(pa.string())
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
