"""The rule sets by name, each with the thresholds and the order of the system it is from; docs/rules.md lists them.

`semantics` says whose *quantities* are compared: implementations with the same thresholds measure different things
under the same words, so the rules name the signals of the system (suffixes `_dclm`, `_dolma`, `_paper`; none for
datatrove). Thresholds are facts of the papers and of: datatrove 0.10 (its filter classes), DCLM's
`baselines_configs/dclm_baseline_refinedweb.yaml` (8383011), Dolma's `configs/dolma-v1_6/mixing/cc-head.yaml` (9afab09),
FineWeb-2's `fineweb-2-pipeline.py` and `configs/*.yml`. Those of a language are in fineweb2.tsv, with their commits.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

from tundish.operators.text.rule import GOPHER, Rule, checked

REPETITION = "Rae et al., arXiv 2112.11446, table A1"
C4 = "Raffel et al., arXiv 1910.10683, section 2.2"
FINEWEB = "Penedo et al., arXiv 2406.17557, section 3.6"
FINEWEB2 = "Penedo et al., arXiv 2506.20920"
REFINEDWEB = "Penedo et al., arXiv 2306.01116, appendix G"
DOLMA = "Soldaini et al., arXiv 2402.00159"
URLS = "Penedo et al., arXiv 2306.01116, appendix G.1"

TOP = ((2, 0.20), (3, 0.18), (4, 0.16))
REPEATED = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
LINES = {"dup_para_frac": 0.30, "dup_para_char_frac": 0.20, "dup_line_frac": 0.30, "dup_line_char_frac": 0.20}

# datatrove refuses an empty text before it measures anything, and FineWeb's filter, which FineWeb-2 runs on the text
# itself, a blank one.
EMPTY = Rule("characters", "<", 1, "empty", "datatrove's filters")
BLANK = Rule("tokens", "<", 1, "empty", FINEWEB)

SetOf = dict[str, tuple[Rule, ...]]  # semantics -> rules


def _grams(suffix: str = "") -> tuple[Rule, ...]:
    return (
        *(Rule(f"top_{n}gram{suffix}", ">", value, f"top_{n}_gram", REPETITION) for n, value in TOP),
        *(Rule(f"dup_{n}gram{suffix}", ">", value, f"duplicated_{n}_n_grams", REPETITION) for n, value in REPEATED),
    )


def _repetition(suffix: str = "", order: tuple[str, ...] = tuple(LINES)) -> tuple[Rule, ...]:
    return (*(Rule(f"{name}{suffix}", ">", LINES[name], name, REPETITION) for name in order), *_grams(suffix))


def _datatrove() -> tuple[Rule, ...]:
    return (
        Rule("words", "<", 50, "gopher_short_doc"),
        Rule("words", ">", 100_000, "gopher_long_doc"),
        Rule("mean_word_length", "<", 3, "gopher_below_avg_threshold"),
        Rule("mean_word_length", ">", 10, "gopher_above_avg_threshold"),
        Rule("hash_ratio", ">", 0.1, "gopher_too_many_hashes"),
        Rule("ellipsis_ratio", ">", 0.1, "gopher_too_many_ellipsis"),
        Rule("bullet_lines", ">", 0.9, "gopher_too_many_bullets"),
        Rule("ellipsis_lines", ">", 0.3, "gopher_too_many_end_ellipsis"),
        Rule("alpha_words", "<", 0.8, "gopher_below_alpha_threshold"),
        Rule("stop_words", "<", 2, "gopher_enough_stop_words"),
    )


def _quality(
    suffix: str, *, length: str = "mean_word_length", lines: str | None = None, paper: str = GOPHER
) -> tuple[Rule, ...]:
    """One test of symbols in place of datatrove's two, in the order of DCLM. `lines`: suffix of the lines' shares."""
    lines = suffix if lines is None else lines
    return (
        Rule(f"words{suffix}", "<", 50, "gopher_short_doc", paper),
        Rule(f"words{suffix}", ">", 100_000, "gopher_long_doc", paper),
        Rule(f"{length}{suffix}", "<", 3, "gopher_below_avg_threshold", paper),
        Rule(f"{length}{suffix}", ">", 10, "gopher_above_avg_threshold", paper),
        Rule(f"symbol_ratio{suffix}", ">", 0.1, "gopher_too_many_symbols", paper),
        Rule(f"bullet_lines{lines}", ">", 0.9, "gopher_too_many_bullets", paper),
        Rule(f"ellipsis_lines{lines}", ">", 0.3, "gopher_too_many_end_ellipsis", paper),
        Rule(f"alpha_words{suffix}", "<", 0.8, "gopher_below_alpha_threshold", paper),
        Rule(f"stop_words{suffix}", "<", 2, "gopher_enough_stop_words", paper),
    )


def _dolma() -> tuple[Rule, ...]:
    """In the order of Dolma's mixers: no rule of paragraphs, and .30 for the characters of lines. There the top n-grams
    were never reached: the mixers name columns that the tagger does not write. Here they are asked."""
    lines = (
        Rule("dup_line_frac_dolma", ">", 0.30, "dup_line_frac", DOLMA),
        Rule("dup_line_char_frac_dolma", ">", 0.30, "dup_line_char_frac", DOLMA),
    )
    quality = _quality("_dolma", length="median_word_length", paper=DOLMA)
    late = ("gopher_too_many_bullets", "gopher_too_many_end_ellipsis")
    return (*sorted(quality, key=lambda rule: rule.reason in late), *lines, *_grams("_dolma"))


def _gopher() -> SetOf:
    return {
        "datatrove": (EMPTY, *_repetition(), *_datatrove()),
        "dclm": (*_quality("_dclm"), *_repetition("_dclm", ORDER_DCLM)),
        "dolma": _dolma(),
        "paper": (*_quality("_paper"), *_repetition("_paper", ORDER_DCLM)),
    }


ORDER_DCLM = ("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac")


def _cleaned(text: str) -> tuple[Rule, ...]:
    """C4's rules about a document: `c4` with the rule that a line ends in punctuation, `open` without it."""
    return (
        Rule(f"{text}_lorem_ipsum", ">", 0, "lorem_ipsum", C4),
        Rule(f"{text}_curly_bracket", ">", 0, "curly_bracket", C4),
        Rule(f"{text}_sentences", "<", 5, "too_few_sentences", C4),
    )


def _fineweb(char_dup: float) -> tuple[Rule, ...]:
    """FineWeb's own four, of the text that C4's rules left."""
    return (
        Rule("open_line_punct", "<", 0.12, "line_punct_ratio", FINEWEB),
        Rule("open_short_lines", ">", 0.67, "short_line_ratio", FINEWEB),
        Rule("open_char_dup", ">", char_dup, "char_dup_ratio", FINEWEB),
        Rule("open_newlines", ">", 0.3, "list_ratio", FINEWEB),
    )


def _chain(char_dup: float) -> tuple[Rule, ...]:
    return (EMPTY, *_repetition(), *_datatrove(), *_cleaned("open"), *_fineweb(char_dup))


# The thresholds of FineWeb-2 are for words of its own splitters. A rule that decides by our words otherwise than by
# those, and so more often wrongly than if it said nothing, says nothing in that language (benchmarks/fineweb2.py
# measures it, decision 0004 tells it). The mean length of a word is not measured at all where scripts have no spaces.
_LENGTHS = ("gopher_below_avg_threshold", "gopher_above_avg_threshold")
FINEWEB2_WORDS = {
    **{"ko": "Kiwi", "vi": "pyvi", "ka": "spaCy (xx)", "hu": "spaCy (hu)"},
    **{"th": "PyThaiNLP", "ja": "Sudachi", "zh": "jieba"},
}
FINEWEB2_SILENT: Mapping[str, tuple[str, ...]] = {
    "ko": (
        *("top_2_gram", "top_3_gram", "top_4_gram", "list_ratio", "gopher_short_doc"),
        *(*_LENGTHS, "gopher_below_alpha_threshold"),
    ),
    "vi": ("duplicated_10_n_grams", "gopher_below_avg_threshold"),
    "ka": ("gopher_below_alpha_threshold",),
    "hu": ("gopher_below_alpha_threshold",),
    "th": _LENGTHS,
    "ja": _LENGTHS,
    "zh": _LENGTHS,
}


def table() -> dict[str, dict[str, float]]:
    """FineWeb-2's thresholds: reason -> {ISO 639-1 code: value}, of the languages of fineweb2.tsv."""
    text = Path(__file__).with_name("fineweb2.tsv").read_text(encoding="utf-8")
    found: dict[str, dict[str, float]] = {}
    for row in csv.DictReader(text.split("\n"), delimiter="\t"):
        values = {reason: float(row[reason]) for reason in row if reason not in ("languages", "config", "commit")}
        for language in row["languages"].split():
            for reason, value in values.items():
                found.setdefault(reason, {})[language] = value
    return found


def _fineweb2() -> tuple[Rule, ...]:
    """A language without a row is asked by FineWeb's values for English; `char_dup` is .1 for all.

    A value that a recipe gives a rule (Refine.rules) is that of every language, unless it names one.
    """
    of = table()

    def tuned(rule: Rule) -> Rule:
        own = of.get(rule.reason, {})
        only = None if own else rule.only  # a value made for a language holds in it, spaces or not
        silent = tuple(code for code, reasons in FINEWEB2_SILENT.items() if rule.reason in reasons)
        return Rule(rule.signal, rule.op, rule.value, rule.reason, FINEWEB2 if own else rule.paper, only, own, silent)

    repetition = [rule for rule in _repetition() if "para" not in rule.reason and rule.reason != "dup_line_char_frac"]
    own = (
        Rule("line_punct", "<", 0.12, "line_punct_ratio", FINEWEB2),
        Rule("char_dup", ">", 0.1, "char_dup_ratio", FINEWEB2),
        Rule("newlines", ">", 0.3, "list_ratio", FINEWEB2),
    )
    return (*map(tuned, repetition), BLANK, *map(tuned, (*own, *_datatrove())))


REMOVED = Rule("refined_removed", ">", 0.05, "refined_too_much_removed", REFINEDWEB)
VETTED = (
    Rule("url_domain_listed", ">", 0, "url_domain", URLS),
    Rule("url_hard_words", ">", 0, "url_hard_word", URLS),
    Rule("url_soft_words", ">", 1, "url_soft_words", URLS),
)

ALL = "any"  # semantics of a set whose quantities are the same everywhere


def _sets() -> Mapping[str, SetOf]:
    gopher = _gopher()
    return {
        "gopher": gopher,
        "c4": {"datatrove": _cleaned("c4")},
        "fineweb": {"datatrove": _chain(0.01), "paper": _chain(0.1)},
        "fineweb2": {"datatrove": _fineweb2()},
        "dclm": {"dclm": (*gopher["dclm"], REMOVED)},
        "refinedweb": {
            "datatrove": (*gopher["datatrove"], REMOVED),
            "dclm": (*gopher["dclm"], REMOVED),
            "paper": (*_repetition("_paper", ORDER_DCLM), *_quality("_paper"), REMOVED),
        },
        "urls": {ALL: VETTED},
        "none": {ALL: ()},
    }


RULE_SETS: Mapping[str, SetOf] = {
    name: {semantics: checked(chosen) for semantics, chosen in sets.items()} for name, sets in _sets().items()
}
