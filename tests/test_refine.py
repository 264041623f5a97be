"""Refine: what stays, what is counted, what stops a run."""

import io
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import yaml
from rich.console import Console

from tests import toys
from tundish.cluster.local import Local
from tundish.cluster.verbs import At
from tundish.operators.text.rule_sets import FINEWEB2_WORDS
from tundish.operators.text.rules import rules
from tundish.pipeline import firing, recipe, spoken
from tundish.pipeline.funnel import ran
from tundish.pipeline.run import run
from tundish.stages import fired
from tundish.stages.bucket import Bucket
from tundish.stages.gather import Gather
from tundish.stages.identify import Identify
from tundish.stages.judge import Judge
from tundish.stages.lines import Lines
from tundish.stages.read import Read
from tundish.stages.refine import Keep, Own, Refine
from tundish.stages.stage import Stage
from tundish.stages.vet import Vet

DOCUMENTS = Read(("x.txt",))


@dataclass(frozen=True)
class Rated(Stage):
    """A model's column."""

    makes: ClassVar[tuple[str, ...]] = ("quality_good", "perplexity")
    documents: Stage


def refine(**fields: Any) -> Refine:
    given = {"language": Identify(DOCUMENTS), "quality": Judge(DOCUMENTS)} | fields
    return Refine(DOCUMENTS, **given)


def columns(stage: Refine, **table: Any) -> tuple[pa.Table, Counter]:
    at = At("part-00000", 0)
    return stage.columns(pa.table(table), at), at.tally


def test_rule_sets_and_rules_of_ones_own_are_asked_in_their_order() -> None:
    own = {"signal": "quality_good", "op": "<", "value": 0.1, "reason": "unlike"}
    keep = {"rules": ["urls", own, "fineweb"]}
    stage = refine(keep=keep, addresses=Vet(DOCUMENTS), scores={"rated": Rated(DOCUMENTS)})
    reasons = [rule.reason for rule in stage.decisive]
    assert reasons == [*(r.reason for r in rules("urls")), "unlike", *(r.reason for r in rules("fineweb"))]
    assert {"quality_good", "url_hard_words", "open_newlines", "characters"} <= {*stage.needs}
    assert (
        refine(keep=Keep(rules=("urls", Own(**own), "fineweb")), addresses=stage.addresses, scores=stage.scores)
        == stage
    )


def test_a_recipe_spells_rules_of_its_own_and_further_columns() -> None:
    stage = recipe.build(
        yaml.safe_load(
            """
            documents: {Read: {files: [x.txt]}}
            vetted: {Vet: {documents: documents}}
            quality: {Judge: {documents: documents}}
            kept:
              Refine:
                documents: documents
                quality: quality
                scores: {vetted: vetted}
                keep: {rules: [gopher, {signal: url_subwords, op: ">", value: 3, reason: odd_address}]}
                rules: {odd_address: 4}
            """
        )
    )
    assert isinstance(stage, Refine)
    rule = stage.decisive[-1]
    assert (rule.signal, rule.op, rule.value, rule.reason) == ("url_subwords", ">", 4, "odd_address")
    assert [*stage.inputs] == ["documents", "quality", "vetted"]


def test_a_value_is_changed_by_its_reason_for_all_or_for_one_language() -> None:
    stage = refine(keep=Keep(rules="fineweb2"), rules={"list_ratio": 0.5, "line_punct_ratio.fr": 0.2})
    by = {rule.reason: rule for rule in stage.decisive}
    assert (by["list_ratio"].value, dict(by["list_ratio"].languages)) == (0.5, {})
    assert by["line_punct_ratio"].languages["fr"] == 0.2
    assert by["line_punct_ratio"].languages["es"] == 0.182


def test_the_command_line_reaches_every_value() -> None:
    sets = ["Refine.rules.line_punct_ratio=0.1", "Refine.keep.rules=[fineweb]", "Refine.rules.list_ratio=0.4"]
    stage = recipe.changed(refine(), sets)
    assert isinstance(stage, Refine)
    assert dict(stage.rules) == {"line_punct_ratio": 0.1, "list_ratio": 0.4}
    assert stage.keep.rules == ("fineweb",)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rules": {"list_rato": 1}, "keep": Keep(rules="fineweb")}, "'list_rato', no rule .* mean 'list_ratio'"),
        ({"keep": {"rules": "finewep"}}, "did you mean 'fineweb'"),
        ({"keep": {"rules": "dclm"}}, "'words_dclm', which none of its stages gives; add dclm to Judge.semantics"),
        ({"keep": {"rules": "dclm", "semantics": "paper"}}, "it has dclm, so choose one of these in keep.semantics"),
        ({"rules": {"zebra": 1}}, "'zebra', no rule of this recipe; take it out .*--set 'Refine.rules={}'"),
        ({"keep": {"rules": "refinedweb"}, "scores": {"lines": Lines(DOCUMENTS, rules="c4")}},
          "none of its stages gives; .* with Lines.rules refinedweb"),
        ({"keep": {"rules": [{"signal": "language", "op": "<", "value": 1, "reason": "r"}]}}, "which is no number"),
        ({"keep": {"rules": [{"signal": "perplexity_bucket", "op": ">", "value": 1, "reason": "r"}]},
          "scores": {"b": Bucket(Rated(DOCUMENTS))}}, "no number; ask for bucket_number"),
        ({"keep": {"rules": [{"signal": "zebra", "op": "<", "value": 1, "reason": "r"}]}}, "not measured; docs/rules"),
        ({"keep": {"semantics": "gopher"}}, "Refine.keep"),
        ({"keep": {"semantics": "dclm"}}, "'words_dclm', which none of its stages gives; add dclm to Judge.semantics"),
        ({"keep": {"rules": "refinedweb"}}, "'refined_removed', which none .* scores: {lines: Lines}"),
        ({"keep": {"rules": ["urls"]}}, "add addresses: Vet"),
        ({"quality": None}, "there is no quality to judge by; add quality: Judge"),
        ({"keep": {"rules": ["gopher", "fineweb2"]}}, "two rules have the reason 'dup_line_frac'"),
        ({"keep": {"rules": "fineweb2"}, "language": None}, "add language: Identify"),
        ({"keep": {"rules": [{"signal": "quality_god", "op": "<", "value": 1, "reason": "r"}]},
          "scores": {"rated": Rated(DOCUMENTS)}}, "is it 'quality_good'"),
        ({"keep": {"rules": [{"signal": "perplexity", "op": "<", "value": 1, "reason": "r"}]}}, "none of its stages"),
        ({"keep": {"rules": [{"signal": "words", "op": "=", "value": 1, "reason": "r"}]}}, "Refine.keep"),
        ({"scores": {"quality": Rated(DOCUMENTS)}}, "choose another name"),
        ({"keep": {"language": ["eng"]}}, "keep.language is about 'eng', which lid.176 calls no language"),
        ({"rules": {"top_2_gram.xx": 0.3}}, "rules.top_2_gram.xx is about 'xx', which lid.176 calls no language"),
        ({"rules": {"top_2_gram.": 0.3}}, "is about the language ''; give a code"),
        ({"max_loss": 2}, "from 0 to 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_decided_is_refused_at_load(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as told:
        refine(**fields)
    assert "\n" not in str(told.value)


def test_languages_are_asked_before_any_rule() -> None:
    keep = Keep(
        language=("en", "de"), confidence=0.5, rules=({"signal": "words", "op": "<", "value": 50, "reason": "few"},)
    )
    table, tally = columns(
        refine(keep=keep),
        language=pa.array(["en", "fr", "de", None, "en"]),
        confidence=pa.array([0.9, 0.9, 0.2, 0.9, None], pa.float32()),
        words=[10, 10, 10, 90, 90],
        origin=["a", "a", "b", "b", "b"],
    )
    assert table["reason"].to_pylist() == [
        "few",
        "language_not_kept",
        "language_unsure",
        "language_not_kept",
        "language_unsure",
    ]
    assert table["value"].to_pylist() == [10, None, pytest.approx(0.2), None, None]
    assert table["threshold"].to_pylist() == [50, None, 0.5, None, None]
    assert table["margin"].to_pylist() == pytest.approx([-0.8, -1, 0.2 / 0.5 - 1, -1, -1]), "a rule's is no language's"
    assert table["nearest"].to_pylist() == table["reason"].to_pylist()
    assert table["stratum"].to_pylist() == ["a", "a", "b", "b", "b"]
    assert {k: n for k, n in tally.items() if ":" not in k or k.startswith(("dropped", "alone"))} == {
        "dropped:few": 1, "dropped:language_not_kept": 2, "dropped:language_unsure": 2,
        "alone:few": 2, "alone:language_not_kept": 2, "alone:language_unsure": 2,
    }  # fmt: skip
    assert tally["source:b:"] == 3
    assert tally["source:b:language_unsure"] == 2
    assert tally["language:none:language_not_kept"] == 1


def test_the_counts_are_those_of_a_loop_over_the_documents() -> None:
    draw = np.random.default_rng(3)
    words, names = draw.integers(0, 100, 500), draw.choice(["web", "a:b", "c"], 500)
    stage = refine(keep=Keep(rules=({"signal": "words", "op": "<", "value": 50, "reason": "few"},)), by="host")
    _, tally = columns(stage, words=words, host=names, language=["en"] * 500)
    found = {group.name: (group.came, dict(group.drops)) for group in fired.groups(tally, "source")}
    for name in ("web", "a:b", "c"):
        assert found[name] == ((names == name).sum(), {"few": ((names == name) & (words < 50)).sum()})
    assert [group.came for group in fired.groups(tally, "language")] == [500]


def test_a_language_nobody_is_sure_of_is_no_language() -> None:
    """Pages of code are French to the model, at 0.14."""
    names = pa.array(["fr", "fr", None, "fr"])
    found = fired.certain(names, pa.array([0.14, 0.5, 0.0, None], pa.float32()))
    assert found.to_pylist() == ["unsure", "fr", None, "unsure"]
    assert fired.certain(names, None) is names
    fired.refuse_losses("Refine", {"language:unsure:": 500, "language:unsure:few": 500}, 0.5)


def test_a_lost_source_or_language_stops_and_says_how_to_allow_it() -> None:
    counts = {
        "source:web:": 1000,
        "source:web:few": 700,
        "source:web:odd": 290,
        "source:small:": 99,
        "source:small:few": 99,
    }
    with pytest.raises(ValueError, match="99 % of the 1,000 documents of the source 'web'") as told:
        fired.refuse_losses("Refine", counts, 0.98)
    assert "most by few, 700" in str(told.value)
    assert "--set Refine.max_loss=1" in str(told.value)
    fired.refuse_losses("Refine", counts, 0.99)
    unwanted = {
        "language:de:": 500,
        "language:de:language_not_kept": 500,
        "language:none:": 500,
        "language:none:empty": 500,
    }
    fired.refuse_losses("Refine", unwanted, 0.5)
    with pytest.raises(ValueError, match="the language 'ja'"):
        fired.refuse_losses("Refine", {"language:ja:": 100, "language:ja:few": 100}, 0.98)


def test_rules_are_not_asked_of_documents_in_languages_nobody_wants() -> None:
    """300 wanted documents of 100 too short, 700 others, all too short: 33 % of the wanted, not 80 %."""
    keep = {"language": ["en"], "rules": [{"signal": "words", "op": "<", "value": 50, "reason": "few"}]}
    names = ["en"] * 300 + ["zh"] * 700
    _, tally = columns(refine(keep=keep), language=names, words=[10] * 100 + [90] * 200 + [10] * 700)
    assert tally["alone:few"] == 100
    rows = [firing.Row("language_not_kept", 700, 700), firing.Row("few", 100, tally["alone:few"])]
    by = {kind: fired.groups(tally, kind) for kind in fired.KINDS}
    found = firing.Firing("refine-0", 300, 700, rows, by)
    assert list(firing.warnings(found)) == []
    assert [row["share"] for row in found.plain()["rules"]] == [0.7, pytest.approx(1 / 3, abs=1e-6)]
    _, tally = columns(refine(keep=keep), language=names, words=[90] * 300 + [10] * 700)
    assert tally["alone:few"] == 0, "it never fires where it is asked"


def test_a_late_rule_is_warned_of_though_an_early_one_takes_its_documents() -> None:
    """`late` would drop 60 % of the source a, all of it after `early`; of b it drops nothing where 40 are expected."""
    signals = {"early": "words", "late": "tokens"}
    own = tuple({"signal": s, "op": "<", "value": 50, "reason": reason} for reason, s in signals.items())
    stage = refine(keep=Keep(rules=own))
    low = np.array([True] * 120 + [False] * 480)
    table, tally = columns(
        stage, words=np.where(low, 10, 90), tokens=np.where(low, 10, 90), origin=["a"] * 200 + ["b"] * 400
    )
    assert {*table["reason"].to_pylist()} == {"early", None}
    assert tally["behind:source:a:late"] == tally["source:a:early"] == tally["alone:late"] == 120
    rows = [firing.Row(r, tally[f"dropped:{r}"], tally[f"alone:{r}"]) for r in signals]
    found = firing.Firing("refine-0", 600, 0, rows, {kind: fired.groups(tally, kind) for kind in fired.KINDS})
    assert sorted(firing.warnings(found)) == [
        "early alone would drop 60.0 % of the 200 documents of the source 'a'",
        "late alone would drop 60.0 % of the 200 documents of the source 'a'",
        "never fire on any of the 400 documents of the source 'b': early, late",
    ]


def test_a_terminal_shows_the_first_warnings_and_how_many_more_there_are() -> None:
    hosts = [fired.Group("source", f"h{n}.example", 100, {"few": 60}) for n in range(40)]
    found = firing.Firing("refine-0", 4800, 0, [firing.Row("few", 2400, 2400)], {"source": hosts, "language": []})
    paper = io.StringIO()
    spoken.firing_of(Console(file=paper, width=200), found)
    assert paper.getvalue().count("alone would drop") == spoken.SAID
    assert f"and {40 - spoken.SAID} more such sentences" in paper.getvalue()


def test_languages_that_words_or_thresholds_are_not_for_are_said_beforehand() -> None:
    spacy = {"quality": Judge(DOCUMENTS, splitter="spacy-en")}
    assert "splits words as English, and every language is decided" in refine(**spacy).notes()
    assert "English, and de is decided" in refine(**spacy, keep={"language": ["en", "de"]}).notes()
    assert refine(**spacy, keep={"language": ["en"]}).notes() == refine(keep={"language": ["zh"]}).notes() == ""
    told = refine(keep={"language": ["en", "de", "ie"], "rules": "fineweb2"}).notes()
    assert told == "fineweb2 has no thresholds for ie; FineWeb's for English are taken"
    every = refine(keep={"rules": "fineweb2"}).notes().split("\n")
    assert every[0] == "fineweb2 has thresholds for 49 languages; in all others FineWeb's for English are taken"
    assert [line.split()[1] for line in every[1:]] == [*FINEWEB2_WORDS]


def test_rules_that_are_silent_in_a_language_are_said_and_speak_when_they_are_given_a_value() -> None:
    keep = {"language": ["ka", "de"], "rules": "fineweb2"}
    assert refine(keep=keep).notes() == (
        "in ka gopher_below_alpha_threshold of fineweb2 says nothing: its value is for words of spaCy (xx); "
        "give your own, such as {gopher_below_alpha_threshold.ka: ...} in Refine.rules"
    )
    for own in ({"gopher_below_alpha_threshold.ka": 0.7}, {"gopher_below_alpha_threshold": 0.7}):
        assert refine(keep=keep, rules=own).notes() == ""
    by = {r.reason: r for r in refine(keep=keep, rules={"gopher_below_alpha_threshold.ka": 0.7}).decisive}
    rule = by["gopher_below_alpha_threshold"]
    assert (rule.languages["ka"], rule.languages["fr"], rule.silent) == (0.7, 0.812, ("ko", "hu"))


def test_a_silent_rule_is_counted_nowhere() -> None:
    stage = refine(keep={"rules": "fineweb2"})
    names = ("reason", "language", "confidence", "origin", "spaced", "opt_outs")
    signals = {name: [None, None] for name in stage.needs if name not in names}
    table = {name: pa.array(values, pa.float64()) for name, values in signals.items()}
    table |= {"mean_word_length": pa.array([20.0, 20.0]), "language": ["ko", "de"], "confidence": [0.9, 0.9]}
    found, counts = columns(stage, **table, origin=["a", "a"])
    assert found["reason"].to_pylist() == [None, "gopher_above_avg_threshold"]
    assert counts["alone:gopher_above_avg_threshold"] == 1


def test_a_value_that_is_no_number_is_refused_for_a_language_too() -> None:
    with pytest.raises(ValueError, match="'top_2_gram' has the value nan for the language 'de'"):
        refine(keep={"rules": "fineweb2"}, rules={"top_2_gram.de": float("nan")})
    for code in ("ger", "DE", ""):
        with pytest.raises(ValueError, match=f"about '{code}', which lid.176 calls no language|give a code"):
            refine(keep={"rules": "fineweb2"}, rules={f"top_2_gram.{code}": 0.5})


def test_other_models_have_languages_of_their_own() -> None:
    assert refine(language=Identify(DOCUMENTS, "glotlid.bin"), keep={"language": ["deu_Latn"]}).keep.language


def test_a_set_that_only_one_system_has_takes_its_quantities() -> None:
    stage = refine(
        keep={"rules": "dclm"}, quality=Judge(DOCUMENTS, semantics=("dclm",)), scores={"l": Lines(DOCUMENTS)}
    )
    assert stage.decisive == rules("dclm", "dclm")


@pytest.fixture
def two_sources(tmp_path: Path) -> Refine:
    for name, text in (("good", toys.prose), ("poor", lambda n: f"number {n}")):
        rows = [json.dumps({"url": f"http://{name}.example/{n}", "text": text(n)}) for n in range(150)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    reads = {name: Read((str(tmp_path / f"{name}.jsonl"),)) for name in ("good", "poor")}
    documents = Gather(reads)
    return Refine(documents, quality=Judge(documents))


def test_a_run_that_loses_a_source_stops_every_time_until_it_is_allowed(two_sources: Refine, tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    for _ in range(2):  # what is sealed is asked again
        with pytest.raises(ValueError, match="100 % of the 150 documents of the source 'poor'"):
            run(two_sources, Local(), root)
    outcome = run(replace(two_sources, max_loss=1.0), Local(), root)
    told = ran(root)
    (address,) = told.of("Refine")
    found = firing.firing(told, address)
    by = {row.reason: row for row in found.rows}
    lost = found.groups["source"][1]
    assert (lost.name, lost.came, sum(lost.drops.values())) == ("poor", 150, 150)
    assert sum(row.fired for row in found.rows) == sum(
        n for k, n in outcome.dataset.counts.items() if k[:8] == "dropped:"
    )
    assert by["gopher_short_doc"].alone == 150
    assert by["gopher_short_doc"].fired <= 150
    assert by["top_2_gram"].where["source"] == {"poor": by["top_2_gram"].fired}
    warned = list(firing.warnings(found))
    assert any("rules never fire: " in sentence and "gopher_long_doc" in sentence for sentence in warned)
    assert found.plain()["rules"][0]["reason"] == "empty"


def test_an_interrupted_run_counts_each_document_once(two_sources: Refine, tmp_path: Path) -> None:
    whole = run(replace(two_sources, max_loss=1.0), Local(), str(tmp_path / "whole")).dataset
    root = str(tmp_path / "cut")
    made = run(replace(two_sources, max_loss=1.0), Local(), root).dataset
    for name in ("manifest.json", f"commits/{made.names[0]}.json"):
        Path(made.uri, name).unlink()
    again = run(replace(two_sources, max_loss=1.0), Local(), root).dataset
    assert again.counts == whole.counts
    assert again.digest == whole.digest


def test_what_the_corpus_leaves_out_says_the_rule_its_value_and_its_threshold(tmp_path: Path) -> None:
    told = ran(toys.small_root(tmp_path))
    (corpus,), (address,) = told.of("Corpus"), told.of("Refine")
    dropped = told.inside(corpus, "dropped")
    assert dropped is not None
    decided = told.datasets[address].beside(told.datasets[told.of("Judge")[0]]).table().to_pylist()
    expected = {row["id"]: row for row in decided if row["reason"]}
    rules_ = {rule.reason: rule for rule in rules("gopher")}
    rows = [row for row in dropped.table().to_pylist() if row["stage"] == "refine"]
    assert {row["id"] for row in rows} == {*expected}
    for row in rows:
        rule, found = rules_[row["reason"]], expected[row["id"]]
        assert (row["value"], row["threshold"]) == (found[rule.signal], rule.value)


def test_who_keeps_a_text_out_of_training_is_obeyed_and_is_no_loss() -> None:
    opted = [["tdm-reservation (header)"], None, ["search=n (robots.txt)"], ["disallow gptbot (robots.txt)"]]
    given = {"words": [200, 200, 200, 200], "opt_outs": pa.array(opted, pa.list_(pa.string())), "origin": ["a"] * 4}
    rules = [{"signal": "words", "op": "<", "value": 50, "reason": "short"}]
    found, counts = columns(refine(keep={"rules": rules}), **given)
    assert found["reason"].to_pylist() == ["opt_out", None, None, None]
    assert (counts["dropped:opt_out"], counts["kept"]) == (1, 3)
    found, _ = columns(refine(keep={"rules": rules}, opt_outs="by_name"), **given)
    assert found["reason"].to_pylist() == ["opt_out", None, None, "opt_out"]
    found, _ = columns(refine(keep={"rules": rules}, opt_outs="ignore"), **given)
    assert found["reason"].to_pylist() == [None] * 4
    many = {"words": [200] * 200, "opt_outs": pa.array([["noai (meta)"]] * 200, pa.list_(pa.string()))}
    _, counts = columns(refine(keep={"rules": rules}), **many, origin=["a"] * 200)
    fired.refuse_losses("Refine", counts, 0.5)  # nobody's rule took them
    assert fired.groups(counts, "source") == []
