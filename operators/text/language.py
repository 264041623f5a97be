"""Language identification by a fastText model (Joulin et al., arXiv 1607.01759), whole batches at a time.

The whole text decides. Line breaks are white space to the model. One thing is done to a text before it is asked: what
is all in capitals is read in small letters, which takes lid.176 on such sentences from 0.37 to 0.89 and changes nothing
else. Other preparations (signs, digits, addresses taken out) lower its accuracy: benchmarks/RESULTS.md has figures.

Codes are short ones where a model's labels are ISO 639-3 with a script, so that rules made for `de` hold with GlotLID
and OpenLID too (`codes.short`); other labels are the model's own (`lid.176`: ISO 639-1, or 639-3 where there is none,
and a few codes of Wikipedia such as `als`).

Promises: the label fastText gives for the text on one line, so read, and its likelihood to 1e-6 (and never above 1: it
adds 1e-5); the same in any batch and thread.
Costs about 20 ns a byte. Refuses a file that is no supervised fastText model.
"""

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.operators.text import fasttext_file
from tundish.operators.text.codes import short
from tundish.operators.text.predict import Found, Predictor
from tundish.operators.text.script import in_capitals, scripts

SURE, LONG = 0.5, 20  # a line is of its own language from this likelihood and so many bytes on
# What lid.176 says, so that a recipe is checked before anything is loaded.
CODES = """
af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da de
diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id ie
ilo io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr
mrj ms mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah
sc scn sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu
xal xmf yi yo yue zh
"""
LID_176 = tuple(CODES.split())
SCORED = pa.list_(pa.struct([("language", pa.string()), ("score", pa.float32())]))
SHARED = pa.list_(pa.struct([("language", pa.string()), ("share", pa.float32())]))


@lru_cache(maxsize=4)
def load(path: str, digest: str = "") -> Predictor:
    """The model in a file, read once a process and digest. Refuses a file that is no fastText model."""
    return Predictor(fasttext_file.load(path, digest))


@lru_cache(maxsize=8)
def _names(model: Predictor, own: bool) -> tuple[np.ndarray, np.ndarray]:
    """(labels + 1,) codes, the last of them None; (labels + 1,) the number of the first label with that code."""
    names = [label if own else short(label) for label in model.model.labels]
    first = {name: number for number, name in reversed([*enumerate(names)])}
    return np.array([*names, None], object), np.array([*(first[name] for name in names), -1])


def identify(
    texts: pa.LargeStringArray, model: Predictor, *, top: int = 1, lines: bool = False, own: bool = False
) -> pa.RecordBatch:
    """(n,) `language`, the most likely; `confidence`, its likelihood, float32 in [0, 1]; `margin`, by how much it is
    more likely than the next; `script` (ISO 15924).

    A null or blank text has no language, confidence 0, margin 0; one of no piece that the model knows has what the
    model guesses at nothing, as fastText says it (lid.176: `en` at 0.12).
    `top` above 1: also `candidates`, so many with their likelihoods. `lines`: also `shares`, which share of the text's
    bytes is of which language, line by line. `own`: the model's own labels.
    """
    names, _ = _names(model, own)
    texts = pc.fill_null(texts, "")
    found = _asked(texts, model, max(2, top))
    labels, scores = found.labels, np.minimum(found.scores, 1)  # fastText adds 1e-5 to each likelihood
    second = scores[:, 1] if scores.shape[1] > 1 else np.zeros(len(texts), np.float32)
    columns = {
        "language": pa.array(names[labels[:, 0]], pa.string()),
        "confidence": pa.array(scores[:, 0], pa.float32()),
        "margin": pa.array(scores[:, 0] - second, pa.float32()),
        "script": scripts(texts),
    }
    if top > 1:
        rows, at = np.nonzero(labels[:, :top] >= 0)
        columns["candidates"] = _listed(len(texts), rows, names[labels[rows, at]], scores[rows, at], SCORED)
    if lines:
        columns["shares"] = shares(texts, model, own=own)
    return pa.RecordBatch.from_pydict(columns)


def _asked(texts: pa.LargeStringArray, model: Predictor, k: int) -> Found:
    """What the model says of texts; those all in capitals are read in small letters."""
    found = model(texts, k)
    if len(rows := np.flatnonzero(in_capitals(texts))):
        quiet = model(pc.utf8_lower(texts.take(pa.array(rows))), k)
        found.labels[rows], found.scores[rows] = quiet
    return found


def _listed(n: int, rows: np.ndarray, names: np.ndarray, values: np.ndarray, kind: pa.DataType) -> pa.ListArray:
    """(n,) lists of (name, value); `rows` says of each, in order, which list it is in."""
    offsets = np.searchsorted(rows, np.arange(n + 1)).astype(np.int32)
    fields = [pa.array(names, pa.string()), pa.array(values, pa.float32())]
    inner = pa.StructArray.from_arrays(fields, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets), inner).cast(kind)


def shares(texts: pa.LargeStringArray, model: Predictor, *, own: bool = False) -> pa.ListArray:
    """(n,) lists of the languages of a text and the share of its bytes in their lines, the largest first; the shares of
    a text add up to 1. Empty where the text has no language.

    A line that is short (`LONG`) or unsure (`SURE`) goes with the one above it, or the first sure one where none is
    above: names, dates and menus tell little by themselves. A text without any sure line is of one language.
    """
    names, first = _names(model, own)
    lines, owners = _lines(texts)
    found = _asked(lines, model, 1)
    sizes = np.diff(np.frombuffer(lines.buffers()[1], np.int64, len(lines) + 1))
    known = found.labels[:, 0] >= 0
    sure = known & (found.scores[:, 0] >= SURE) & (sizes >= LONG)
    labels = first[found.labels[:, 0]]
    unclear = np.setdiff1d(owners[known], owners[sure])
    if len(unclear):
        whole = _asked(texts.take(pa.array(unclear)), model, 1).labels[:, 0]
        place = np.minimum(np.searchsorted(unclear, owners), len(unclear) - 1)
        here = known & (unclear[place] == owners)
        labels[here], sure = first[whole][place[here]], sure | here
    at = np.arange(len(labels))
    above = np.maximum.accumulate(np.where(sure, at, -1)) if len(at) else at
    below = np.minimum.accumulate(np.where(sure, at, len(at))[::-1])[::-1] if len(at) else at
    own_above = (above >= 0) & (owners[np.maximum(above, 0)] == owners)
    source = np.where(own_above, above, np.minimum(below, max(0, len(at) - 1)))
    counts = known & np.isin(owners, owners[sure])
    keys, of = np.unique(owners[counts] * len(names) + labels[source[counts]], return_inverse=True)
    bytes_ = np.bincount(of, sizes[counts], len(keys))
    rows, labels = keys // len(names), keys % len(names)
    order = np.lexsort((labels, -bytes_, rows))
    rows, labels, bytes_ = rows[order], labels[order], bytes_[order]
    whole_bytes = np.bincount(rows, bytes_, len(texts))
    return _listed(len(texts), rows, names[labels], bytes_ / whole_bytes[rows], SHARED)


def _lines(texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, np.ndarray]:
    """The lines of all texts, their line feeds with them, over the same bytes; (lines,) the text of each."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, 8 * texts.offset)
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    breaks = int(offsets[0]) + 1 + np.flatnonzero(data[offsets[0] : offsets[-1]] == 10)
    cuts = np.unique(np.concatenate([offsets, breaks]))
    made = pa.LargeStringArray.from_buffers(len(cuts) - 1, pa.py_buffer(cuts.astype(np.int64)), texts.buffers()[2])
    return made, np.searchsorted(offsets, cuts[:-1], "right") - 1
